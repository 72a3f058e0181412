"""Kills the broker with SIGKILL again and again while producers send and a reader follows, then judges what is left.

Producers: confluent-kafka with idempotence (acks=all), confluent-kafka without it (acks=1, one request in flight), and
`millstream produce`, which gets lines on its standard input and by exiting with 0 says that all of them were acknowledged.
Each kill waits until acknowledgements have come since the last start and records are in flight; a run without such kills is
invalid. What must hold is in history.py.
"""

import argparse
import os
import random
import subprocess
import sys
import threading
import time
import zlib

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import history
from broker import add_broker_option, millstream_binary, running

PARTITIONS = 4
TOPIC = "crash"
IN_FLIGHT = 2_000
FINISH_S = 300
PATIENCE_S = 180


def payload(producer, number):
    """The value of record `number`: who, which, and a filling of varying length that follows from both."""
    seed = zlib.crc32(f"{producer} {number}".encode())
    return f"{producer} {number} {f'{seed:08x}' * (1 + seed % 32)}".encode()


def parse(message):
    """What a consumed message is, as a record of the history."""
    producer, number, _filling = message.value().decode(errors="replace").split(" ", 2)
    intact = message.value() == payload(producer, int(number)) and message.key() == producer.encode()
    return history.Record(producer, int(number), message.partition(), message.offset(), intact)


class Load:
    """One confluent-kafka producer in a thread; it stops handing over records when told, then waits for all of them."""

    def __init__(self, name, address, settings):
        self.name = name
        self.sent = 0
        self.acknowledged = []
        self.failures = []
        self.fatal = None
        base = {
            "bootstrap.servers": address,
            "message.timeout.ms": 0,
            "retry.backoff.ms": 50,
            "reconnect.backoff.max.ms": 200,
            "queue.buffering.max.messages": IN_FLIGHT,
            "linger.ms": 2,
            "batch.num.messages": 200,
            "error_cb": self.note_fatal,
            "logger": QUIET,
        }
        self.producer = Producer(base | settings)
        self.enough = threading.Event()
        self.thread = threading.Thread(target=self.run, name=name)

    def note_fatal(self, error):
        """A fatal error ends an idempotent producer: the broker broke the sequence."""
        if error.fatal():
            self.fatal = error

    def delivered(self, number):
        """The callback for record `number`."""

        def report(error, message):
            if error is not None:
                self.failures.append((number, error))
            else:
                self.acknowledged.append(history.Record(self.name, number, message.partition(), message.offset()))

        return report

    def run(self):
        """Sends until told that it is enough, as fast as acknowledgements make room."""
        key = self.name.encode()
        while not self.enough.is_set() and self.fatal is None:
            number = self.sent
            try:
                self.producer.produce(
                    TOPIC, payload(self.name, number), key, partition=number % PARTITIONS, on_delivery=self.delivered(number)
                )
                self.sent += 1
                self.producer.poll(0)
            except BufferError:
                self.producer.poll(0.05)
        self.producer.flush(FINISH_S)

    def in_flight(self):
        """Records handed over and neither acknowledged nor failed."""
        return self.sent - len(self.acknowledged) - len(self.failures)


class OwnLoad:
    """`millstream produce`, fed a line at a time, paced so that lines are on their way at every kill."""

    def __init__(self, name, address, partition):
        self.name = name
        self.partition = partition
        self.sent = 0
        self.failures = []
        command = [millstream_binary(), "produce", TOPIC, "--bootstrap", address, "--key-separator", "\t", "--acks", "all"]
        self.process = subprocess.Popen(
            [*command, "--partition", str(partition)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.enough = threading.Event()
        self.thread = threading.Thread(target=self.run, name=name)

    def run(self):
        """Feeds lines until told that it is enough; then the exit code is the acknowledgement of every line."""
        try:
            while not self.enough.is_set():
                for _ in range(100):
                    line = self.name.encode() + b"\t" + payload(self.name, self.sent * PARTITIONS + self.partition) + b"\n"
                    self.process.stdin.write(line)
                    self.sent += 1
                self.process.stdin.flush()
                time.sleep(0.005)
        except BrokenPipeError:
            pass
        said, _ = self.process.communicate(timeout=FINISH_S)
        print(f"{self.name}: {said.decode(errors='replace').strip().splitlines()[-1:]}")
        if self.process.returncode != 0:
            self.failures.append((self.sent, f"exit code {self.process.returncode}"))

    def acknowledgements(self):
        """Every line; which offset it got is not told."""
        numbers = range(self.partition, self.sent * PARTITIONS, PARTITIONS)
        return [history.Record(self.name, number, self.partition, None) for number in numbers]


class Follower:
    """Reads the topic while the broker comes and goes, so that an offset given out twice is seen."""

    def __init__(self, address):
        self.seen = []
        self.error = None
        self.consumer = consumer(address)
        self.consumer.assign([TopicPartition(TOPIC, partition, 0) for partition in range(PARTITIONS)])
        self.enough = threading.Event()
        self.thread = threading.Thread(target=self.run, name="follower")

    def run(self):
        """Follows until told that it is enough."""
        while not self.enough.is_set() and self.error is None:
            for message in self.consumer.consume(1000, timeout=0.1):
                if message.error() is None:
                    self.seen.append(parse(message))
                elif not message.error().retriable() and message.error().code() in REFUSALS:
                    self.error = message.error()
        self.consumer.close()


# Codes that a reader of offsets which exist must never get; connection errors are what the test is about.
REFUSALS = {KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET, KafkaError.UNKNOWN_TOPIC_OR_PART}


class Quiet:
    """Swallows librdkafka's log: its connections are meant to break here."""

    def log(self, *_arguments, **_names):
        """Drops one line."""


QUIET = Quiet()


def consumer(address):
    """A consumer without a group that reports, not repairs, an offset out of range."""
    return Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "unused",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "reconnect.backoff.max.ms": 200,
            "logger": QUIET,
        }
    )


def create_topic(address):
    """The topic, with its partitions."""
    admin = AdminClient({"bootstrap.servers": address, "logger": QUIET})
    for future in admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)]).values():
        future.result(timeout=120)


def await_load(loads, before):
    """Waits until each load got acknowledgements since the last start and has records on their way; answers how many."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        in_flight = [load.in_flight() for load in loads]
        if all(len(load.acknowledged) > count for load, count in zip(loads, before)) and min(in_flight) > 0:
            return sum(in_flight)
        for load in loads:
            if load.fatal is not None:
                raise SystemExit(f"{load.name} got a fatal error: {load.fatal}")
        time.sleep(0.005)
    raise SystemExit(f"INVALID: no acknowledgement came within {PATIENCE_S} s of a restart, so no kill would prove anything")


def kill_loop(broker, loads, kills, chance):
    """Kills and restarts the broker; prints a row for each kill."""
    print(f"{'kill':>4}{'acknowledged since start':>26}{'in flight':>11}{'down s':>8}")
    for kill in range(1, kills + 1):
        before = [len(load.acknowledged) for load in loads]
        time.sleep(chance.uniform(0.2, 1.5))
        in_flight = await_load(loads, before)
        broker.kill()
        acknowledged = sum(len(load.acknowledged) for load in loads) - sum(before)
        print(f"{kill:>4}{acknowledged:>26}{in_flight:>11}{broker.start():>8.2f}", flush=True)


def watermarks(reader, partition):
    """First offset and end of a partition; a broker that is still taking up its partitions is asked again."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return reader.get_watermark_offsets(TopicPartition(TOPIC, partition), timeout=30)
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def read_all(address):
    """The whole topic, each partition in the order in which it came, and the end offsets."""
    reader = consumer(address)
    ends = {}
    for partition in range(PARTITIONS):
        low, high = watermarks(reader, partition)
        if low != 0:
            raise SystemExit(f"partition {partition} starts at {low}, though nothing was deleted")
        ends[partition] = high
    reader.assign([TopicPartition(TOPIC, partition, 0) for partition in range(PARTITIONS)])
    final = []
    deadline = time.monotonic() + FINISH_S
    while len(final) < sum(ends.values()) and time.monotonic() < deadline:
        for message in reader.consume(5000, timeout=0.1):
            if message.error() is not None:
                raise KafkaException(message.error())
            final.append(parse(message))
    reader.close()
    return sorted(final, key=lambda record: record.partition), ends


def run(broker, options, chance):
    """Load, kills, end of the load; answers the loads and the follower."""
    create_topic(broker.address)
    loads = [
        Load("idempotent-0", broker.address, {"enable.idempotence": True, "acks": "all"}),
        Load("idempotent-1", broker.address, {"enable.idempotence": True, "acks": "all", "compression.type": "lz4"}),
        Load("plain", broker.address, {"acks": 1, "max.in.flight.requests.per.connection": 1}),
    ]
    own = [OwnLoad("own", broker.address, 1)] if os.path.exists(millstream_binary()) else []
    follower = Follower(broker.address)
    for part in [*loads, *own, follower]:
        part.thread.start()
    try:
        kill_loop(broker, loads, options.kills, chance)
    finally:
        for load in [*loads, *own]:
            load.enough.set()
        for load in [*loads, *own]:
            load.thread.join()
        follower.enough.set()
        follower.thread.join()
    return loads, own, follower


def main():
    """Runs the load and the kills, judges, prints; exit code 1 on any anomaly."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_broker_option(parser)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    print(f"crash: {options.kills} kills, seed {options.seed}, broker {options.broker}")
    with running(options.broker, {"num.partitions": PARTITIONS}) as broker:
        loads, own, follower = run(broker, options, random.Random(options.seed))
        # Once more, with the logs closed and no load: what is read now comes from the files alone.
        broker.kill()
        broker.start()
        final, ends = read_all(broker.address)
        wrong = [f"{load.name}: {load.failures[0]}" for load in [*loads, *own] if load.failures]
        if follower.error is not None:
            wrong.append(f"the follower was refused: {follower.error}")
        producers = {load.name: history.Producer(load.sent, load.name != "plain") for load in loads}
        producers |= {load.name: history.Producer(load.sent * PARTITIONS + load.partition, True) for load in own}
        acknowledged = [record for load in loads for record in load.acknowledged]
        acknowledged += [record for load in own for record in load.acknowledgements()]
        anomalies = history.judge(producers, acknowledged, follower.seen, final, ends)
    repeats = len(final) - len({(record.producer, record.number) for record in final})
    print(f"sent {({load.name: load.sent for load in [*loads, *own]})}")
    print(f"acknowledged {len(acknowledged)}, read while it ran {len(follower.seen)}, in the topic {len(final)}, repeats {repeats}")
    for kind in history.Kind:
        these = [anomaly for anomaly in anomalies if anomaly.kind is kind]
        print(f"{kind.name.lower():<12}{len(these):>6}" + "".join(f"\n    {anomaly.record}" for anomaly in these[:5]))
    for sentence in wrong:
        print(f"WRONG {sentence}")
    print(f"crash: {options.kills} kills with load in flight, {len(anomalies)} anomalies, {len(wrong)} other failures")
    sys.exit(1 if anomalies or wrong else 0)


if __name__ == "__main__":
    main()
