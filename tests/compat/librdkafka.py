"""Runs librdkafka's own C tests, those that librdkafka.list names, against the broker.

Each line of the list runs in a process of its own, because a failed test aborts the process. A listed test that librdkafka skips,
or in which no part ran, counts as failed: the list says what is run, not what is tried. `--protocol consumer` runs another list,
librdkafka.consumer.list, with the group protocol of KIP-848.
"""

import os
import pathlib
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import suite
from broker import HERE, running
from tools import LIBRDKAFKA

LIMIT_S = 600
# A line that fails is run once more, with librdkafka telling what it does, and both tries are printed: a pass at the second
# try is a finding, not a success.
DEBUG = "broker,protocol,metadata,topic"
# How the broker is set up: librdkafka's word for it, and our settings.
SCENARIOS = {
    "default": ("default", {"num.partitions": 4, "group.initial.rebalance.delay.ms": 0}),
    # One of its tests asks for three replicas.
    "noautocreate": ("noautocreate", {"auto.create.topics.enable": "false", "replication.factor.policy": "virtual"}),
    # Transactions are tested with topics of three replicas.
    "transactions": ("default", {"num.partitions": 4, "group.initial.rebalance.delay.ms": 0, "replication.factor.policy": "virtual"}),
    # Some tests start two members and expect them in one rebalance, which is what Kafka's default delay is for.
    "delayed": ("default", {"num.partitions": 4, "group.initial.rebalance.delay.ms": 3000}),
}
# What ends a wait that never ends in a good run comes three times as late, as in librdkafka's own CI.
CONFIGURATION = "bootstrap.servers={}\ntest.timeout.multiplier=3\n"


def shipped():
    """The numbers of the tests that need a broker, read from librdkafka's table of tests."""
    source = (LIBRDKAFKA / "tests" / "test.c").read_text()
    table = source[source.index("struct test tests[] = {") :]
    table = table[: table.index("{NULL}")]
    rows = re.findall(r"_TEST\((\d{4})\w*,([^;]*?)(?=_TEST\(|\Z)", table, re.S)
    return {number for number, flags in rows if "TEST_F_LOCAL" not in flags}


def run(entry, address, output, limit):
    """Runs one line of the list; answers (verdict, seconds), and leaves in the file what was printed."""
    # A file of its own: one that all share is empty for a moment whenever the next test writes it, and a client that reads it
    # then knows no broker and moves nothing until its time is up.
    configuration = output.with_suffix(".conf")
    configuration.write_text(CONFIGURATION.format(address))
    environment = {key: value for key, value in os.environ.items() if key != "CI"} | entry.environment
    environment |= {
        "LD_LIBRARY_PATH": f"{LIBRDKAFKA}/src:{LIBRDKAFKA}/src-cpp",
        "RDKAFKA_TEST_CONF": str(configuration),
        "TESTS": entry.number,
        "TEST_KAFKA_VERSION": "4.3.0",
        "KAFKA_PATH": str(HERE),
        "BROKERS": address,
    }
    quick = ["-Q"] if "QUICK" in entry.environment else []
    command = ["./test-runner", "-p1", "-L", "-s", SCENARIOS[scenario(entry)][0], *quick]
    began = time.monotonic()
    with open(output, "wb") as out:
        try:
            code = subprocess.run(
                command, cwd=LIBRDKAFKA / "tests", env=environment, stdin=subprocess.DEVNULL,
                stdout=out, stderr=out, timeout=limit, check=False,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            return "TIMED OUT", time.monotonic() - began
    return verdict(entry, code, output), time.monotonic() - began


def verdict(entry, code, output):
    """What the output says: a test in whose summary no time was spent, or none of whose chosen parts passed, ran nothing."""
    said = re.sub(r"\x1b\[[0-9;]*m", "", output.read_text(errors="replace"))
    if code != 0:
        return "FAILED"
    rows = re.findall(rf"\|\s*{entry.number}\w*\s*\|\s*PASSED\s*\|\s*([0-9.]+)s", said)
    parts = re.findall(r": PASS \(", said)
    if not any(float(seconds) > 0 for seconds in rows) or ("SUBTESTS" in entry.environment and not parts):
        return "RAN NOTHING"
    return "passed"


def scenario(entry):
    """The name of how the broker is set up for this line."""
    return entry.environment.get("SCENARIO", "default")


def run_all(entries, broker, keep, options, results):
    """Runs these lines against one broker, several at a time, for they mostly wait."""

    def once(entry, debug):
        output = keep / f"{re.sub('[^0-9A-Za-z]+', '-', entry.name())}{'-again' if debug else ''}.out"
        environment = entry.environment | ({"TEST_DEBUG": DEBUG} if debug else {})
        if options.protocol == "consumer":
            environment["TEST_CONSUMER_GROUP_PROTOCOL"] = "consumer"
        limit = int(entry.environment.get("LIMIT", options.limit))
        result, seconds = run(entry._replace(environment=environment), broker.address, output, limit)
        tail = "\n".join(output.read_text(errors="replace").splitlines()[-options.show :]) if options.show else ""
        return result, seconds, tail

    def one(entry):
        result, seconds, tail = once(entry, debug=False)
        if result == "passed":
            return results.note(entry.name(), None, seconds)
        print(f"{results.suite}: {entry.name()} {result} after {seconds:.1f} s, and is run once more\n{tail}", flush=True)
        result, seconds, tail = once(entry, debug=True)
        return results.note(entry.name(), None if result == "passed" else result, seconds, tail)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(one, entries))


def version():
    """What librdkafka calls itself."""
    number = re.search(r"#define RD_KAFKA_VERSION\s+0x(\w{2})(\w{2})(\w{2})", (LIBRDKAFKA / "src" / "rdkafka.h").read_text())
    return ".".join(str(int(part, 16)) for part in number.groups())


def main():
    """Runs the list; exit code 1 unless every listed test passed."""
    parser = suite.parser(__doc__)
    parser.add_argument("--protocol", choices=["classic", "consumer"], default="classic", help="the protocol of its groups")
    parser.add_argument("--limit", type=int, default=LIMIT_S, help="seconds for each number")
    parser.add_argument("--jobs", type=int, default=4, help="how many at a time")
    parser.add_argument("--keep", type=pathlib.Path, help="leave what each test printed in this folder")
    parser.add_argument("--show", type=int, default=25, help="lines to show of a failed test")
    options = parser.parse_args()
    name = "librdkafka" if options.protocol == "classic" else "librdkafka.consumer"
    listed = suite.entries(f"{name}.list")
    if unlisted := sorted(shipped() - {entry.number for entry in listed}):
        sys.exit(f"{name}.list does not say whether to run {' '.join(unlisted)}")
    entries = suite.chosen(listed, options.names)
    results = suite.Results(name, version())
    for setting in sorted({scenario(entry) for entry in entries}):
        with running(options.broker, SCENARIOS[setting][1]) as broker:
            keep = options.keep or broker.folder
            keep.mkdir(parents=True, exist_ok=True)
            run_all([entry for entry in entries if scenario(entry) == setting], broker, keep, options, results)
    sys.exit(results.end(options, [entry for entry in listed if not entry.run]))


if __name__ == "__main__":
    main()
