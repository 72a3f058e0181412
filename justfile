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
