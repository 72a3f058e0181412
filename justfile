# What is run by hand; `just` alone lists it. Nothing here cannot be typed without just.

default:
    @just --list

# What CI runs, or the steps named
verify *steps:
    bash .ci/run {{ steps }}

# The short form of every proof, or of those named: harm a real broker and judge what its clients saw (3 minutes)
prove *proofs="all": _proof
    for proof in {{ proofs }}; do target/release/millstream-proof $proof || exit; done

# The long form of every proof, or of those named (hours)
soak *proofs="all": _proof
    for proof in {{ proofs }}; do target/release/millstream-proof --long $proof || exit; done

# One after the other: together they would share features, and the binary under test would not be the one that users get.
_proof:
    cargo build --locked --release -p millstream-ops
    cargo build --locked --release -p millstream-tests --bin millstream-proof

# The card of the foreign clients, or of the suites named (20 minutes)
compat *suites:
    bash tests/compat/setup.sh
    cargo build --locked --release -p millstream-ops
    cargo run --locked -p millstream-tests --bin compat -- {{ suites }}

# Every producer, codec and reader over the whole corpus (3 minutes; CI takes its beginning)
matrix *options:
    bash tests/compat/setup.sh
    cargo build --locked --release -p millstream-ops
    ~/.cache/millstream/foreign/venv/bin/python tests/compat/matrix.py {{ options }}

# Feed a target of tests/fuzz whatever finds new paths: just fuzz aborted -max_total_time=300
fuzz target *options:
    mkdir -p target/fuzz/corpus/{{ target }}
    RUSTFLAGS="{{ coverage }}" cargo build --locked --release --manifest-path tests/fuzz/Cargo.toml --target-dir target/fuzz \
        --target {{ host }} --bin {{ target }}
    target/fuzz/{{ host }}/release/{{ target }} target/fuzz/corpus/{{ target }} $(ls -d tests/fuzz/seeds/{{ target }} 2>/dev/null) {{ options }}

host := arch() + "-unknown-linux-gnu"
# What cargo-fuzz passes without a sanitizer: works with the stable compiler, and needs no cargo-fuzz.
coverage := "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=4 --cfg fuzzing"
