"""Kafka Streams, exactly once, under fire: java/WordCount.java counts words while it and the broker are killed.

Lines of random words are written all the time. In between the program is killed and comes back with its state, or without it as on
another machine; it is stopped and started; the broker is killed. At the end every word must have been counted 1, 2, 3 ... n in the
output, each number once and in order, n being the recount of what was written; the changelog must end with the same n.
"""

import collections
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import suite
from broker import running
from tools import CACHE, java

PARTITIONS = 3
WORDS = 150
PATIENCE_S = 240
INPUT, OUTPUT, APPLICATION = "lines", "counts", "word-count"
CHANGELOG = f"{APPLICATION}-counts-changelog"
SETTINGS = {"group.initial.rebalance.delay.ms": "0"}
# The broker is away now and then, which librdkafka would tell at length.
QUIET = {"log_level": 0, "reconnect.backoff.max.ms": 200}
# What is done to whom, in this order, with some seconds of peace between.
SHORT = ["app", "broker", "move", "both", "stop"]
LONG = SHORT * 4 + ["app", "app", "move", "broker", "broker"]


class Wrong(Exception):
    """The counts are not what they should be, or never came."""


class Counter:
    """The program of the counts, one instance of it."""

    def __init__(self, address, folder, instance):
        self.address, self.folder, self.instance = address, folder / f"state-{instance}", instance
        self.output = folder / f"app-{instance}.out"
        self.process = None

    def start(self):
        """Starts it and waits until it counts."""
        command = java("WordCount", self.address, APPLICATION, INPUT, OUTPUT, str(self.folder), self.instance, heap="-Xmx256m")
        said = self.output.read_text().count("RUNNING") if self.output.exists() else 0
        with open(self.output, "ab") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self.await_running(said)

    def await_running(self, said):
        """Waits until it has said so once more."""
        deadline = time.monotonic() + PATIENCE_S
        while self.output.read_text(errors="replace").count("RUNNING") <= said:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Wrong(f"the program does not run:\n{self.tail()}")
            time.sleep(0.05)

    def kill(self):
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        """An orderly end."""
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(timeout=PATIENCE_S) not in (0, 143):
            raise Wrong(f"the program did not end well:\n{self.tail()}")

    def forget(self):
        """Loses its state, and with it the name of its transactions."""
        shutil.rmtree(self.folder)

    def tail(self):
        """The last lines that it printed."""
        return "\n".join(self.output.read_text(errors="replace").splitlines()[-30:])


class Writer(threading.Thread):
    """Writes lines at a steady pace and counts the words of those that the broker acknowledged."""

    def __init__(self, address, seed, lines_a_second):
        super().__init__(daemon=True)
        self.producer = Producer(QUIET | {"bootstrap.servers": address, "enable.idempotence": True, "linger.ms": 5})
        self.chance, self.pause = random.Random(seed), 1 / lines_a_second
        self.words = collections.Counter()
        self.failed = []
        self.enough = threading.Event()

    def run(self):
        while not self.enough.wait(self.pause):
            words = [f"w{min(self.chance.randrange(WORDS), self.chance.randrange(WORDS))}" for _ in range(6)]
            self.producer.produce(INPUT, " ".join(words), partition=self.chance.randrange(PARTITIONS), on_delivery=self.delivered(words))
            self.producer.poll(0)
        if self.producer.flush(PATIENCE_S):
            self.failed.append("lines were not delivered")

    def delivered(self, words):
        """What is called when a line's fate is known."""

        def note(error, _message):
            if error:
                self.failed.append(str(error))
            else:
                self.words.update(words)

        return note


class Reader:
    """Reads a topic of counts from the start, committed records only: {word: [count, ...]}."""

    def __init__(self, address, topic, partitions):
        settings = {"bootstrap.servers": address, "group.id": "judge", "isolation.level": "read_committed", "enable.auto.commit": False}
        self.consumer = Consumer(QUIET | settings)
        self.consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
        self.counts = collections.defaultdict(list)

    def read(self):
        """What came within a moment; answers how many."""
        messages = [message for message in self.consumer.consume(5000, timeout=0.5) if not message.error()]
        for message in messages:
            self.counts[message.key().decode()].append(int.from_bytes(message.value(), "big"))
        return len(messages)

    def last(self):
        """The last count of each word."""
        return {word: counts[-1] for word, counts in self.counts.items()}


def do(fault, broker, app):
    """One harm, and what makes it good again."""
    if fault == "broker":
        broker.kill()
        broker.start()
    elif fault == "both":
        app.kill()
        broker.kill()
        broker.start()
        app.start()
    elif fault == "stop":
        app.stop()
        app.start()
    else:
        app.kill()
        if fault == "move":
            app.forget()
        app.start()


def judge(reader, words):
    """Waits for the last count, then looks at every one."""
    deadline = time.monotonic() + PATIENCE_S
    while sum(map(len, reader.counts.values())) < sum(words.values()):
        if time.monotonic() > deadline:
            raise Wrong(f"only {sum(map(len, reader.counts.values()))} of {sum(words.values())} counts came")
        reader.read()
    while reader.read():
        pass
    for word in sorted(words.keys() | reader.counts.keys()):
        if reader.counts[word] != list(range(1, words[word] + 1)):
            at = next((i for i, count in enumerate(reader.counts[word]) if count != i + 1), words[word])
            raise Wrong(f"{word} was written {words[word]} times, but counted {reader.counts[word][max(0, at - 3):at + 4]} around the {at + 1}th")


def check_changelog(address, words):
    """Its last count of each word must be the recount."""
    changelog = Reader(address, CHANGELOG, PARTITIONS)
    deadline = time.monotonic() + PATIENCE_S
    while changelog.last() != dict(words):
        if time.monotonic() > deadline:
            wrong = {word: (changelog.last().get(word), count) for word, count in words.items() if changelog.last().get(word) != count}
            raise Wrong(f"the changelog ends with other counts than the recount: {dict(list(wrong.items())[:5])}")
        changelog.read()


def run(broker, options, results):
    """The whole of it; notes each harm, for it tells how long one takes, and the judgement."""
    admin = AdminClient(QUIET | {"bootstrap.servers": broker.address})
    for made in admin.create_topics([NewTopic(INPUT, PARTITIONS, 1), NewTopic(OUTPUT, 2, 1)]).values():
        made.result(PATIENCE_S)
    app = Counter(broker.address, broker.folder, "one")
    writer, reader = Writer(broker.address, options.seed, options.rate), Reader(broker.address, OUTPUT, 2)
    began = time.monotonic()
    try:
        app.start()
        writer.start()
        for number, fault in enumerate(options.names or (LONG if options.long else SHORT)):
            seen, until = sum(map(len, reader.counts.values())), time.monotonic() + options.peace
            # It must go on counting before the next harm is done.
            while time.monotonic() < until or sum(map(len, reader.counts.values())) == seen:
                reader.read()
                if time.monotonic() > until + PATIENCE_S:
                    raise Wrong(f"nothing was counted for {PATIENCE_S} s before {fault}:\n{app.tail()}")
            struck = time.monotonic()
            do(fault, broker, app)
            results.note(f"{number}-{fault}", None, time.monotonic() - struck)
        time.sleep(options.peace)
        writer.enough.set()
        writer.join()
        if writer.failed:
            raise Wrong(f"{len(writer.failed)} lines were not written: {writer.failed[0]}")
        judge(reader, writer.words)
        check_changelog(broker.address, writer.words)
        results.note(f"counts of {sum(writer.words.values())} words", None, time.monotonic() - began)
    except Wrong as wrong:
        results.note("counts", str(wrong), time.monotonic() - began, app.tail())
    finally:
        writer.enough.set()
        if app.process is not None and app.process.poll() is None:
            app.kill()


def version():
    """Of the jar of Kafka Streams."""
    (jar,) = (CACHE / "jars").glob("kafka-streams-[0-9]*.jar")
    return jar.stem.removeprefix("kafka-streams-")


def main():
    """Runs it; exit code 1 unless all counts are right."""
    parser = suite.parser(__doc__)
    parser.add_argument("--long", action="store_true", help=f"{len(LONG)} times harm instead of {len(SHORT)}")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="of the words")
    parser.add_argument("--rate", type=float, default=200, help="lines a second")
    parser.add_argument("--peace", type=float, default=1.5, help="seconds between two harms")
    options = parser.parse_args()
    print(f"streams: --seed {options.seed}", flush=True)
    results = suite.Results("streams", version())
    with running(options.broker, SETTINGS) as broker:
        run(broker, options, results)
    sys.exit(results.end(options))


if __name__ == "__main__":
    main()
