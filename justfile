# What is run by hand; `just` alone lists it. Nothing here cannot be typed without just.

default:
    @just --list

# What CI runs, or the steps named
verify *steps:
    bash .ci/run {{ steps }}

# The short form of every proof, or of those named: harm a real broker and judge what its clients saw (3 minutes)
prove *proofs="all":
    cargo build --locked --release -p millstream-ops
    cargo build --locked -p millstream-tests --bin millstream-proof
    for proof in {{ proofs }}; do target/debug/millstream-proof $proof || exit; done

# The long form of every proof, or of those named (hours)
soak *proofs="all":
    cargo build --locked --release -p millstream-ops -p millstream-tests
    for proof in {{ proofs }}; do target/release/millstream-proof --long $proof || exit; done

# Hostile bytes for one of the targets in tests/fuzz, guided by coverage
fuzz target seconds="60":
    mkdir -p tests/fuzz/corpus/{{ target }} tests/fuzz/seeds/{{ target }}
    cargo fuzz run -s none --fuzz-dir tests/fuzz {{ target }} tests/fuzz/corpus/{{ target }} tests/fuzz/seeds/{{ target }} -- -max_total_time={{ seconds }}
