"""Runs librdkafka's own C tests, those that librdkafka.list names, against the broker.

Each line of the list runs in a process of its own, because a failed test aborts the process. A listed test that librdkafka skips,
or in which no part ran, counts as failed: the list says what is run, not what is tried.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from broker import HERE, add_broker_option, running
from tools import LIBRDKAFKA

LIMIT_S = 180
# A line that fails is run once more, with librdkafka telling what it does, and both tries are printed: a pass at the second
# try is a finding, not a success. Seen twice (0011 test_partitioner, 0017): a client that was just made moved nothing until
# its time was up; the cause is not known, and 360 repeats of 0011 under load did not show it.
DEBUG = "broker,protocol,metadata,topic"
# What librdkafka's scenarios ask of a broker.
SCENARIOS = {
    "default": {"num.partitions": 4},
    # One of its tests asks for three replicas.
    "noautocreate": {"auto.create.topics.enable": "false", "replication.factor.policy": "virtual"},
}
# Offsets cannot be committed here, and a closing consumer would wait for that.
CONFIGURATION = "bootstrap.servers={}\nenable.auto.commit=false\n"


class Entry(NamedTuple):
    """One line of the list: a number, and either settings of its environment or the reason why it is left out."""

    number: str
    run: bool
    environment: dict
    reason: str

    def name(self):
        """How it is printed, and what its output file is called."""
        return " ".join([self.number, *(f"{key}={value}" for key, value in self.environment.items())])


def entries(path):
    """The list, checked: each left-out number with a reason, and none both run and left out."""
    found = []
    for line in path.read_text().splitlines():
        words = line.split("#")[0].split()
        if not words:
            continue
        number, verdict, rest = words[0], words[1], words[2:]
        clash = any(entry.number == number and (verdict == "out" or not entry.run) for entry in found)
        if verdict not in ("run", "out") or clash or (verdict == "out" and not rest):
            raise SystemExit(f"{path.name}: cannot take the line: {line}")
        environment = dict(word.split("=", 1) for word in rest) if verdict == "run" else {}
        found.append(Entry(number, verdict == "run", environment, " ".join(rest)))
    return found


def shipped():
    """The numbers of the tests that need a broker, read from librdkafka's table of tests."""
    source = (LIBRDKAFKA / "tests" / "test.c").read_text()
    table = source[source.index("struct test tests[] = {") :]
    table = table[: table.index("{NULL}")]
    rows = re.findall(r"_TEST\((\d{4})\w*,([^;]*?)(?=_TEST\(|\Z)", table, re.S)
    return {number for number, flags in rows if "TEST_F_LOCAL" not in flags}


def run(entry, address, output, limit):
    """Runs one line of the list; answers (verdict, seconds), and leaves in the file what was printed."""
    configuration = output.with_name("test.conf")
    configuration.write_text(CONFIGURATION.format(address))
    environment = {key: value for key, value in os.environ.items() if key != "CI"} | entry.environment
    environment |= {
        "LD_LIBRARY_PATH": f"{LIBRDKAFKA}/src:{LIBRDKAFKA}/src-cpp",
        "RDKAFKA_TEST_CONF": str(configuration),
        "TESTS": entry.number,
        "TEST_KAFKA_VERSION": "4.3.0",
    }
    quick = ["-Q"] if "QUICK" in entry.environment else []
    command = ["./test-runner", "-p1", "-L", "-s", scenario(entry), *quick]
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
    """The name of librdkafka's scenario for this line."""
    return entry.environment.get("SCENARIO", "default")


def run_all(chosen, broker, keep, options):
    """Runs these lines against one broker, several at a time, for they mostly wait; answers how many passed."""

    def once(entry, debug):
        output = keep / f"{re.sub('[^0-9A-Za-z]+', '-', entry.name())}{'-again' if debug else ''}.out"
        environment = entry.environment | ({"TEST_DEBUG": DEBUG} if debug else {})
        result, seconds = run(entry._replace(environment=environment), broker.address, output, options.limit)
        said = f"librdkafka {result:<12}{seconds:>6.1f} s  {entry.name()}{' (second try)' if debug else ''}\n"
        if result != "passed" and options.show:
            said += "\n".join(output.read_text(errors="replace").splitlines()[-options.show :]) + "\n"
        print(said, end="", flush=True)
        return result == "passed"

    def one(entry):
        return once(entry, debug=False) or once(entry, debug=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        return sum(pool.map(one, chosen))


def main():
    """Runs the list; exit code 1 unless every listed test passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_broker_option(parser)
    parser.add_argument("numbers", nargs="*", help="only these numbers, listed or left out (default: the whole list)")
    parser.add_argument("--limit", type=int, default=LIMIT_S, help="seconds for each number")
    parser.add_argument("--jobs", type=int, default=3, help="how many at a time")
    parser.add_argument("--keep", type=pathlib.Path, help="leave what each test printed in this folder")
    parser.add_argument("--show", type=int, default=25, help="lines to show of a failed test")
    options = parser.parse_args()
    listed = entries(HERE / "librdkafka.list")
    if unlisted := sorted(shipped() - {entry.number for entry in listed}):
        sys.exit(f"librdkafka.list does not say whether to run {' '.join(unlisted)}")
    chosen = [entry for entry in listed if (entry.number in options.numbers if options.numbers else entry.run)]
    passed = 0
    for name in sorted({scenario(entry) for entry in chosen}):
        with running(options.broker, SCENARIOS[name]) as broker:
            keep = options.keep or broker.folder
            keep.mkdir(parents=True, exist_ok=True)
            passed += run_all([entry for entry in chosen if scenario(entry) == name], broker, keep, options)
    out = sum(not entry.run for entry in listed)
    print(f"librdkafka: {out} of {len({entry.number for entry in listed})} numbers left out, with a reason each")
    print(f"{passed} passed, {len(chosen) - passed} failed")
    sys.exit(0 if chosen and passed == len(chosen) else 1)


if __name__ == "__main__":
    main()
