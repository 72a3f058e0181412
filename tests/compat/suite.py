"""What all suites share: the list of a suite's tests, and how its results are told.

A list says for each test of a suite whether it is run, and why not:

    floor N                        so many lines are run at least; raised with the list, never lowered
    NAME run [WORD=VALUE ...]      must pass; what the pairs mean is the suite's business
    NAME out REASON                not run

A test that is neither run nor left out fails the suite: nothing is skipped in silence.
"""

import argparse
import json
import pathlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from broker import HERE, add_broker_option


class Entry(NamedTuple):
    """One line of a list."""

    number: str
    run: bool
    environment: dict
    reason: str

    def name(self):
        """How it is printed, and what its output file is called."""
        return " ".join([self.number, *(f"{key}={value}" for key, value in self.environment.items())])


def entries(name):
    """The list of this name, checked: each test left out with a reason, none both run and left out, the floor kept."""
    found, floor = [], 0
    for line in (HERE / name).read_text().splitlines():
        words = line.split("#")[0].split()
        if not words:
            continue
        if words[0] == "floor":
            floor = int(words[1])
            continue
        number, verdict, rest = words[0], words[1], words[2:]
        clash = any(entry.number == number and (verdict == "out" or not entry.run) for entry in found)
        if verdict not in ("run", "out") or clash or (verdict == "out" and not rest):
            raise SystemExit(f"{name}: cannot take the line: {line}")
        environment = dict(word.split("=", 1) for word in rest) if verdict == "run" else {}
        found.append(Entry(number, verdict == "run", environment, " ".join(rest)))
    runs = sum(entry.run for entry in found)
    if runs < floor:
        raise SystemExit(f"{name} runs {runs} tests, but {floor} once passed: a list only grows")
    return found


class Results:
    """What became of each test of one suite. Printed as it comes; written as JSON for the card."""

    def __init__(self, suite, version):
        self.suite = suite
        self.version = version
        self.passed = []
        self.failed = []
        self.lock = threading.Lock()

    def note(self, name, wrong=None, seconds=None, detail=""):
        """`wrong` is what was wrong, in a line; None is a pass. `detail` is printed under a failure."""
        with self.lock:
            took = "" if seconds is None else f"{seconds:>7.1f} s"
            print(f"{self.suite:<20}{'passed' if wrong is None else 'FAILED'}{took}  {name}{f': {wrong}' if wrong else ''}", flush=True)
            if wrong is None:
                self.passed.append(name)
            else:
                self.failed.append({"name": name, "wrong": wrong})
                if detail:
                    print(detail, flush=True)

    def end(self, options, left_out=()):
        """Prints the sum, writes the JSON where it was asked for, and answers the exit code."""
        of = len(self.passed) + len(self.failed)
        if options.json:
            left_out = [{"name": entry.number, "reason": entry.reason} for entry in left_out]
            card = {"suite": self.suite, "version": self.version, "passed": len(self.passed), "of": of}
            options.json.write_text(json.dumps(card | {"failed": self.failed, "left_out": left_out}) + "\n")
        print(f"{len(self.passed)} passed, {len(self.failed)} failed")
        return 0 if of and not self.failed else 1


def parser(description):
    """The options that every suite has."""
    made = argparse.ArgumentParser(description=description.splitlines()[0])
    add_broker_option(made)
    made.add_argument("names", nargs="*", help="only these tests, listed or left out (default: the whole list)")
    made.add_argument("--json", type=pathlib.Path, help="write the results to this file")
    return made


def chosen(listed, names):
    """The lines to run: those named, or all that are to be run."""
    unknown = set(names) - {entry.number for entry in listed}
    if unknown:
        raise SystemExit(f"not in the list: {' '.join(sorted(unknown))}")
    return [entry for entry in listed if (entry.number in names if names else entry.run)]


def compare(listed, ran, results):
    """Notes as failures what the list names and did not run, and what ran and is not in the list."""
    for name in sorted({entry.number for entry in listed if entry.run} - set(ran)):
        results.note(name, "is in the list, but did not run")
    for name in sorted(set(ran) - {entry.number for entry in listed}):
        results.note(name, "ran, but the list does not name it")


def run_cases(cases, case, listed, chosen, jobs, results):
    """Runs those of these cases that are chosen, several at a time, by calling `case` with the name; notes what became of each."""

    def one(name):
        began = time.monotonic()
        try:
            case(name)
            results.note(name, None, time.monotonic() - began)
        except Exception as wrong:  # whatever a client raises is the finding
            results.note(name, f"{type(wrong).__name__}: {wrong}", time.monotonic() - began)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, [name for name in chosen if name in cases]))
    # A case that the list does not name at all is one that somebody forgot.
    known = {entry.number for entry in listed}
    compare([entry for entry in listed if entry.number in chosen], [name for name in cases if name in chosen or name not in known], results)
