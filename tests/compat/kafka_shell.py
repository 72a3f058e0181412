"""What the cases over Kafka's command line tools stand on: a tool called by its main class, for their shell scripts only name one,
and looks at what it printed."""

import base64
import os
import pathlib
import re
import shutil
import subprocess
import time
import uuid

from tools import JARS, VM, archive, java

LIMIT_S = 240
SETTINGS = {"num.partitions": 2, "group.initial.rebalance.delay.ms": 0}
MAIN = {
    "broker-api-versions": "BrokerApiVersionsCommand",
    "cluster": "ClusterTool",
    "console-consumer": "consumer.ConsoleConsumer",
    "console-producer": "ConsoleProducer",
    "consumer-groups": "consumer.group.ConsumerGroupCommand",
    "consumer-perf-test": "ConsumerPerformance",
    "delete-records": "DeleteRecordsCommand",
    "e2e-latency": "EndToEndLatency",
    "features": "FeatureCommand",
    "get-offsets": "GetOffsetShell",
    "groups": "GroupsCommand",
    "leader-election": "LeaderElectionCommand",
    "log-dirs": "LogDirsCommand",
    "metadata-quorum": "MetadataQuorumCommand",
    "producer-perf-test": "ProducerPerformance",
    "reassign-partitions": "reassign.ReassignPartitionsCommand",
    "topics": "TopicCommand",
    "transactions": "TransactionsCommand",
    "verifiable-consumer": "VerifiableConsumer",
    "verifiable-producer": "VerifiableProducer",
}


class Wrong(Exception):
    """What a tool printed is not what it should be."""


class Kafka:
    """The tools, pointed at one broker; names of topics and groups are new in each case."""

    def __init__(self, broker, folder, quick=False):
        self.broker = broker
        self.folder = pathlib.Path(folder)
        # Whether a case that repeats itself may do so less often.
        self.quick = quick
        self.unique = uuid.uuid4().hex[:8]

    def name(self, what):
        """A name that no other case has."""
        return f"{what}-{self.unique}"

    def file(self, name, content):
        """A file with this content."""
        path = self.folder / f"{self.unique}-{name}"
        path.write_text(content)
        return str(path)

    def command(self, tool, *arguments):
        """The command line of a tool; `kafka-configs` alone lives elsewhere."""
        main = "kafka.admin.ConfigCommand" if tool == "configs" else f"org.apache.kafka.tools.{MAIN[tool]}"
        return java(main, "--bootstrap-server", self.broker.address, *arguments, heap="-Xmx128m")

    def run(self, tool, *arguments, text=None, code=0):
        """Runs a tool to its end; answers what it printed."""
        return self.call(self.command(tool, *arguments), text, code)

    def call(self, command, text=None, code=0):
        """Runs a command line of Java to its end."""
        try:
            done = subprocess.run(
                command, input=text, stdin=None if text is not None else subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, timeout=LIMIT_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as late:
            raise Wrong(f"{told(command)} did not end; it said: {tail(late.stdout)}") from late
        said = "\n".join(line for line in done.stdout.splitlines() if not line.startswith("SLF4J"))
        if (done.returncode == 0) != (code == 0):
            raise Wrong(f"{told(command)} ended with {done.returncode}: {tail(said)}")
        return said

    def topic(self, what, partitions=2):
        """Makes a topic."""
        name = self.name(what)
        self.run("topics", "--create", "--topic", name, "--partitions", str(partitions), "--replication-factor", "1")
        return name

    def fill(self, topic, count):
        """Writes records 0, 1, ... keyed by their number."""
        lines = "".join(f"{number}\t{number}\n" for number in range(count))
        self.run("console-producer", "--topic", topic, "--reader-property", "parse.key=true", text=lines)

    def commit(self, topic, group, count, *more):
        """Lets a group read and commit so many records."""
        options = ["--topic", topic, "--group", group, "--from-beginning", "--max-messages", str(count), "--timeout-ms", "20000"]
        said = self.run("console-consumer", *options, *more)
        has(said, rf"Processed a total of {count} messages")

    def live(self, topic, group, *more):
        """A member that stays until it is closed."""
        return Member(self.command("console-consumer", "--topic", topic, "--group", group, *more), self, group)


class Member:
    """A console consumer in the background, waited for until the group has it."""

    def __init__(self, command, kafka, group):
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.kafka, self.group = kafka, group

    def __enter__(self):
        eventually(lambda: has(self.kafka.run("consumer-groups", "--describe", "--state", "--group", self.group), r"Stable +1"))
        return self

    def __exit__(self, *_error):
        self.process.terminate()
        self.process.wait(timeout=120)


def told(command):
    """A tool's command line without what is Java's own."""
    return command[command.index("-cp") + 2 :]


def make_ready(kafka):
    """Has Java keep the tools' classes ready, if it does not yet: a tool spends half of its time loading them, and there are hundreds.

    A few tools are asked which classes they load; without them nothing is lost but time.
    """
    if archive().exists():
        return
    topic, loaded = kafka.topic("ready", 1), set()
    kafka.fill(topic, 1)
    for number, words in enumerate(
        [
            ["topics", "--describe", "--topic", topic],
            ["consumer-groups", "--list"],
            ["console-producer", "--topic", topic],
            ["console-consumer", "--topic", topic, "--group", topic, "--from-beginning", "--max-messages", "1"],
            ["configs", "--describe", "--all", "--entity-type", "topics", "--entity-name", topic],
            ["transactions", "list"],
        ]
    ):
        path = kafka.folder / f"classes-{number}"
        command = kafka.command(*words)
        kafka.call([command[0], f"-XX:DumpLoadedClassList={path}", *command[1:]], text="")
        loaded |= {line for line in path.read_text().splitlines() if not line.startswith("#")}
    path.write_text("".join(f"{line}\n" for line in sorted(loaded)))
    made = kafka.folder / "tools.jsa"
    dump = ["java", *VM, "-Xshare:dump", f"-XX:SharedClassListFile={path}", f"-XX:SharedArchiveFile={made}", "-cp", JARS]
    subprocess.run(dump, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=LIMIT_S, check=False)
    if not made.exists():
        return
    beside = archive().with_suffix(f".{os.getpid()}")
    shutil.move(made, beside)
    beside.rename(archive())


def tail(said):
    """The end of what a tool said, on one line."""
    said = said.decode(errors="replace") if isinstance(said, bytes) else said or ""
    return " | ".join(said.splitlines()[-12:])[-1500:]


def has(said, *patterns):
    """Each pattern must be in what was printed."""
    for pattern in patterns:
        if not re.search(pattern, said, re.M):
            raise Wrong(f"no {pattern!r} in: {tail(said)}")
    return said


def hasnt(said, *patterns):
    """No pattern may be in what was printed."""
    for pattern in patterns:
        if re.search(pattern, said, re.M):
            raise Wrong(f"{pattern!r} in: {tail(said)}")
    return said


def eventually(holds):
    """Tries again until it holds."""
    deadline = time.monotonic() + 120
    while True:
        try:
            return holds()
        except Wrong:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


def is_of(path, identity, name):
    """Whether a segment lies in a folder of this topic: Kafka names folders by topic, we by the topic's id."""
    number = uuid.UUID(bytes=base64.urlsafe_b64decode(identity + "=="))
    marks = (name, identity, str(number), number.hex)
    return any(mark in part for part in path.parts for mark in marks)
