"""Runs franz-go's own tests, those of pkg/kgo that franz_go.list names, against the broker.

`--chaos N` runs instead the tests of consumer chains, with and without transactions, N times with KGO_TEST_CHAOS, which cuts each
connection after about a second.
A listed test that skips itself or a part of itself counts as failed.
"""

import os
import re
import subprocess
import sys
import time

import suite
from broker import HERE, running
from tools import CACHE

LIMIT_S = 600
SETTINGS = {"group.initial.rebalance.delay.ms": "0"}
# The tests that dial through the chaos.
CHAOS = ["TestGroupETL", "TestTxnEtl"]
SHOW_LINES = 60


def environment(address, records, chaos):
    """What kgo's tests read."""
    made = {"KGO_SEEDS": address, "KGO_TEST_RF": "1", "KGO_TEST_RECORDS": str(records), "KGO_LOG_LEVEL": "none"}
    return os.environ | made | ({"KGO_TEST_CHAOS": "1"} if chaos else {})


def run(tests, address, options):
    """Runs these tests in one process; answers what it printed and whether it ended in time."""
    command = [str(CACHE / "kgo.test"), "-test.v", "-test.count=1", f"-test.timeout={options.limit}s", f"-test.run=^({'|'.join(tests)})$"]
    made = environment(address, options.records, options.chaos > 0)
    done = subprocess.run(
        command, env=made, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return done.stdout.decode(errors="replace")


def verdicts(said):
    """{test: (what was wrong or None, seconds)} of each test at the top; a part that was skipped is wrong too."""
    found = {}
    for word, name, seconds in re.findall(r"^\s*--- (PASS|FAIL|SKIP): (\S+) \(([0-9.]+)s\)", said, re.M):
        top = name.split("/")[0]
        wrong = None if word == "PASS" else "skipped itself" if word == "SKIP" else "failed"
        if "/" in name:
            wrong = wrong and f"{name.split('/', 1)[1]} {wrong}"
        before = found.get(top, (None, 0.0))
        found[top] = (before[0] or wrong, max(before[1], float(seconds)))
    return found


def lines_about(said, name):
    """What was printed of one test, its last lines; of all where it never ended."""
    about = [line for line in said.splitlines() if name in line or re.match(r"\s+\w+_test\.go:\d+:", line)]
    return "\n".join((about or said.splitlines())[-SHOW_LINES:])


def version():
    """The module's version in our go.mod."""
    return re.search(r"twmb/franz-go (v\S+)", (HERE / "go" / "go.mod").read_text())[1]


def all_tests(broker, options, results, tests):
    """Each test of the list, all in one process: they run side by side as their authors let them."""
    said = run(tests, broker.address, options)
    found = verdicts(said)
    for name in tests:
        wrong, seconds = found.get(name, ("did not end", None))
        results.note(name, wrong, seconds, lines_about(said, name))


def chaos(broker, options, results):
    """The same tests again and again."""
    chosen = options.names or CHAOS
    for number in range(1, options.chaos + 1):
        for name in chosen:
            began = time.monotonic()
            said = run([name], broker.address, options)
            wrong, _ = verdicts(said).get(name, ("did not end", None))
            results.note(f"{name} {number}", wrong, time.monotonic() - began, lines_about(said, name))


def main():
    """Runs the list, or the chaos; exit code 1 unless everything passed."""
    parser = suite.parser(__doc__)
    parser.add_argument("--chaos", type=int, default=0, metavar="N", help=f"run {' and '.join(CHAOS)} N times with KGO_TEST_CHAOS instead")
    parser.add_argument("--records", type=int, default=10_000, help="how many records the chains of consumers carry")
    parser.add_argument("--limit", type=int, default=LIMIT_S, help="seconds for a process of tests")
    options = parser.parse_args()
    if not (CACHE / "kgo.test").exists():
        sys.exit("franz-go's tests are not built here: is Go missing? See setup.sh")
    listed = suite.entries("franz_go.list")
    results = suite.Results("franz-go-chaos" if options.chaos else "franz-go", version())
    settings = SETTINGS if options.broker == "millstream" else {}
    with running(options.broker, settings) as broker:
        if options.chaos:
            chaos(broker, options, results)
        else:
            all_tests(broker, options, results, [entry.number for entry in suite.chosen(listed, options.names)])
    sys.exit(results.end(options, [] if options.chaos else [entry for entry in listed if not entry.run]))


if __name__ == "__main__":
    main()
