"""Runs our Java program of cases with one version of Kafka's Java client: `--client new` or `--client old`.

Its groups use both protocols with the new client, and the classic one with the old. java.list names every case. With `--client tv1`
the new client goes through its transactions once more, with the feature transaction.version turned down to 1.
"""

import re
import subprocess
import sys

import suite
from broker import running
from tools import CACHE, java

# Short, so that cases need not wait for what is rare.
SETTINGS = {
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.heartbeat.interval.ms": "500",
    "group.consumer.min.heartbeat.interval.ms": "500",
}
CLASSES = {
    "new": ["GroupCases:classic", "GroupCases:consumer", "ClassicCases", "AdminCases", "TransactionCases", "NewCases", "TransactionAdminCases"],
    "old": ["GroupCases:classic", "ClassicCases", "AdminCases", "TransactionCases", "OldCases"],
    "tv1": ["TransactionCases"],
}
LIST = {"new": "java.list", "old": "java.old.list", "tv1": "java.tv1.list"}
NAME = {"new": "java", "old": "java-old", "tv1": "java-tv1"}
HOME = {client: CACHE / f"java-{'old' if client == 'old' else 'new'}" for client in CLASSES}


def version(client):
    """The version in the name of the client's jar."""
    (jar,) = (HOME[client] / "jars").glob("kafka-clients-*.jar")
    return re.fullmatch(r"kafka-clients-(.*)\.jar", jar.name)[1]


def command(client, address, threads, names):
    """The command line of the program."""
    home = HOME[client]
    vm = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{home}/classes:{home}/jars/*", "Suite"]
    return [*vm, address, str(threads), ",".join(names) or "all", *CLASSES[client]]


def run(options, address, listed, results):
    """Runs the program and notes what it says of each case."""
    names = [entry.number for entry in suite.chosen(listed, options.names)]
    with subprocess.Popen(
        command(options.client, address, options.threads, names), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace",
    ) as program:  # fmt: skip
        ran = []
        for line in program.stdout:
            words = line.rstrip("\n").split(" ", 3)
            if words[0] in ("PASS", "FAIL"):
                ran.append(words[1])
                results.note(words[1], words[3] if words[0] == "FAIL" else None, float(words[2]))
        program.wait()
    suite.compare(listed if not options.names else [entry for entry in listed if entry.number in names], ran, results)


def turn_transactions_down(address):
    """Sets the feature, so that a new client does what an old one does."""
    wanted = ["--bootstrap-server", address, "downgrade", "--feature", "transaction.version=1"]
    subprocess.run(java("org.apache.kafka.tools.FeatureCommand", *wanted), stdin=subprocess.DEVNULL, timeout=180, check=True)


def main():
    """Runs the cases; exit code 1 unless every one passed."""
    parser = suite.parser(__doc__)
    parser.add_argument("--client", choices=sorted(CLASSES), default="new", help="which version of the client")
    parser.add_argument("--threads", type=int, default=6, help="how many cases at a time: they mostly wait")
    options = parser.parse_args()
    listed = suite.entries(LIST[options.client])
    results = suite.Results(NAME[options.client], version(options.client))
    with running(options.broker, SETTINGS) as broker:
        if options.client == "tv1":
            turn_transactions_down(broker.address)
        run(options, broker.address, listed, results)
    sys.exit(results.end(options, [entry for entry in listed if not entry.run]))


if __name__ == "__main__":
    main()
