"""Runs our program of KafkaJS's groups, transactions and admin client, js/groups.js; kafkajs.list names its cases."""

import os
import subprocess
import sys

import suite
from broker import HERE, running
from tools import CACHE

SETTINGS = {"group.initial.rebalance.delay.ms": 0}
LIMIT_S = 600


def main():
    """Runs the cases; exit code 1 unless every one passed."""
    options = suite.parser(__doc__).parse_args()
    listed = suite.entries("kafkajs.list")
    chosen = [entry.number for entry in suite.chosen(listed, options.names)]
    environment = os.environ | {"NODE_PATH": str(CACHE / "js" / "node_modules")}
    with running(options.broker, SETTINGS) as broker:
        command = ["node", str(HERE / "js" / "groups.js"), broker.address, *options.names]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=LIMIT_S, check=False)
    lines = [line.split(" ", 3) for line in done.stdout.splitlines()]
    versions = [line[1] for line in lines if line[0] == "VERSION"]
    results = suite.Results("kafkajs", versions[0] if versions else "did not start")
    ran = [line for line in lines if line[0] in ("PASS", "FAIL")]
    for line in ran:
        results.note(line[1], line[3] if line[0] == "FAIL" else None, float(line[2]))
    suite.compare([entry for entry in listed if entry.number in chosen], [line[1] for line in ran], results)
    sys.exit(results.end(options, [entry for entry in listed if not entry.run]))


if __name__ == "__main__":
    main()
