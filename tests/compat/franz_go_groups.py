"""Bar 17 with franz-go: fifty members of a group join and die each second; see go/chaos. `--seconds N` says for how long."""

import subprocess
import sys
import time

import franz_go
import suite
from broker import running
from tools import CACHE

SETTINGS = {"group.initial.rebalance.delay.ms": "0", "group.min.session.timeout.ms": "500"}
PROGRAM = CACHE / "franz-go-chaos"


def main():
    """Runs the program once; exit code 1 unless it found nothing wrong."""
    parser = suite.parser(__doc__)
    parser.add_argument("--seconds", type=int, default=40, help="how long members die")
    options = parser.parse_args()
    if not PROGRAM.exists():
        sys.exit("the program is not built here: is Go missing? See setup.sh")
    results = suite.Results("franz-go-groups", franz_go.version())
    with running(options.broker, SETTINGS) as broker:
        began = time.monotonic()
        done = subprocess.run(
            [PROGRAM, broker.address, str(options.seconds)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=options.seconds + 200, check=False,
        )  # fmt: skip
        print(done.stdout.strip(), flush=True)
        wrong = None if done.returncode == 0 else done.stdout.strip()[-1500:]
        results.note("members join and die", wrong, time.monotonic() - began)
    sys.exit(results.end(options, []))


if __name__ == "__main__":
    main()
