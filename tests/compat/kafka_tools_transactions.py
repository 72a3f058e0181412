"""Cases over Kafka's command line tools for transactions; kafka_tools.py runs them with the others."""

import json
import re
import subprocess
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition

from broker import running
from kafka_shell import SETTINGS, Kafka, Wrong, eventually, has, hasnt, is_of
from tools import java

# What CI has no time for.
SLOW = {
    "hanging_transactions_are_found",
    "a_transaction_is_terminated",
    "two_copiers_share_an_input",
    "performance_of_transactions",
    "the_version_of_transactions_goes_down_and_up",
}


class Open:
    """A transaction that stays open until it is told."""

    def __init__(self, kafka, name, topic, values=("a", "b")):
        self.identity = kafka.name(name)
        settings = {"bootstrap.servers": kafka.broker.address, "transactional.id": self.identity, "linger.ms": 0, "log_level": 0}
        self.producer = Producer(settings)
        self.producer.init_transactions(60)
        self.producer.begin_transaction()
        for value in values:
            self.producer.produce(topic, value, partition=0)
        self.producer.flush(60)

    def commit(self):
        """Commits it."""
        self.producer.commit_transaction(60)


def read(kafka, topic, count, patience=120):
    """So many values of partition 0 with read_committed, and what comes within a second after them."""
    settings = {"bootstrap.servers": kafka.broker.address, "group.id": "judge", "isolation.level": "read_committed", "log_level": 0}
    consumer = Consumer(settings)
    consumer.assign([TopicPartition(topic, 0, 0)])
    values, deadline = [], time.monotonic() + patience
    while len(values) < count and time.monotonic() < deadline:
        values += [message.value().decode() for message in consumer.consume(1000, timeout=0.2) if not message.error()]
    values += [message.value().decode() for message in consumer.consume(1000, timeout=1) if not message.error()]
    consumer.close()
    return values


def copier(kafka, source, target, *more):
    """The command line of TransactionalMessageCopier over partition 0."""
    return java(
        "org.apache.kafka.tools.TransactionalMessageCopier", "--broker-list", kafka.broker.address, "--input-topic", source,
        "--input-partition", "0", "--output-topic", target, "--transactional-id", kafka.name(f"copier-{source}"),
        "--consumer-group", kafka.name(f"copier-{source}"), "--transaction-size", "50", *more, heap="-Xmx128m",
    )  # fmt: skip


def filled(kafka, what, count):
    """A topic with so many values in its only partition, written by an idempotent producer."""
    topic = kafka.topic(what, 1)
    producer = Producer({"bootstrap.servers": kafka.broker.address, "enable.idempotence": True, "log_level": 0})
    for number in range(count):
        producer.produce(topic, str(number), partition=0)
    if producer.flush(60):
        raise Wrong("records were not delivered")
    return topic


def transactions_are_listed_and_described(kafka):
    """kafka-transactions list and describe."""
    topic = kafka.topic("txn", 1)
    transaction = Open(kafka, "txn", topic)
    has(kafka.run("transactions", "list"), rf"^{transaction.identity}\s+\d+\s+\d+\s+Ongoing")
    has(kafka.run("transactions", "list", "--transactional-id-pattern", f"{transaction.identity[:5]}.*"), transaction.identity)
    hasnt(kafka.run("transactions", "list", "--duration-filter", "600000"), transaction.identity)
    said = kafka.run("transactions", "describe", "--transactional-id", transaction.identity)
    has(said, rf"^\d+\s+{transaction.identity}\s+\d+\s+\d+\s+Ongoing\s+60000\s+\d+\s+\d+\s+{topic}-0")
    has(kafka.run("transactions", "describe-producers", "--topic", topic, "--partition", "0"), r"^\d+\s+\d+\s+-?\d+\s+1\s+\d+\s+0\s*$")
    transaction.commit()
    eventually(lambda: has(kafka.run("transactions", "list"), rf"^{transaction.identity}\s+\d+\s+\d+\s+CompleteCommit"))
    has(kafka.run("transactions", "describe", "--transactional-id", kafka.name("nobody"), code=1), r"TransactionalIdNotFound|could not be found|not found")


def hanging_transactions_are_found(kafka):
    """kafka-transactions find-hanging: one that its coordinator knows does not hang, however old."""
    topic = kafka.topic("hanging", 1)
    node = re.search(r"Leader: (\d+)", kafka.run("topics", "--describe", "--topic", topic))[1]
    transaction = Open(kafka, "hanging", topic)
    for where in (["--topic", topic, "--partition", "0"], ["--broker-id", node]):
        said = kafka.run("transactions", "find-hanging", *where, "--max-transaction-timeout", "0")
        has(said, r"Topic\s+Partition\s+ProducerId")
        hasnt(said, rf"^{topic}")
    transaction.commit()


def a_transaction_is_aborted_on_a_partition(kafka):
    """kafka-transactions abort."""
    topic = kafka.topic("abort", 1)
    transaction = Open(kafka, "abort", topic)
    kafka.fill(topic, 2)
    kafka.run("transactions", "abort", "--topic", topic, "--partition", "0", "--start-offset", "0")
    values = read(kafka, topic, 2)
    if values != ["0", "1"]:
        raise Wrong(f"what came after the aborted transaction: {values}")
    has(kafka.run("transactions", "describe-producers", "--topic", topic, "--partition", "0"), r"None")


def a_transaction_is_terminated(kafka):
    """kafka-transactions forceTerminateTransaction."""
    topic = kafka.topic("terminate", 1)
    transaction = Open(kafka, "terminate", topic)
    kafka.fill(topic, 2)
    kafka.run("transactions", "forceTerminateTransaction", "--transactionalId", transaction.identity)
    values = read(kafka, topic, 2)
    if values != ["0", "1"]:
        raise Wrong(f"what came after the terminated transaction: {values}")


def the_copier_copies_each_record_once(kafka):
    """TransactionalMessageCopier with random aborts, killed three times in the middle (once if it must be quick)."""
    # Each time the next one waits 10 s for the session of the dead one, which the tool has set.
    kills, count = (1, 2000) if kafka.quick else (3, 4000)
    source, target = filled(kafka, "copy-in", count), kafka.topic("copy-out", 1)
    command = copier(kafka, source, target, "--enable-random-aborts", "--use-group-metadata", "--group-mode")
    for _ in range(kills):
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            done = 0
            for line in process.stdout:
                done = json.loads(line).get("totalProcessed", 0) if line.startswith("{") else done
                if done >= 300:
                    break
            process.kill()
    said = kafka.call(command)
    has(said, r'"remaining":0')
    values = read(kafka, target, count)
    if values != [str(number) for number in range(count)]:
        at = next((i for i, value in enumerate(values) if value != str(i)), len(values))
        raise Wrong(f"{len(values)} of {count} copied, the first that is wrong at {at}: {values[max(0, at - 2):at + 3]}")


def two_copiers_share_an_input(kafka):
    """Two of them at once with one transactional id: the second fences the first, and nothing is copied twice."""
    count = 3000
    source, target = filled(kafka, "twins-in", count), kafka.topic("twins-out", 1)
    command = copier(kafka, source, target, "--use-group-metadata", "--group-mode")
    first = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    for line in first.stdout:
        if line.startswith("{") and json.loads(line).get("totalProcessed", 0) >= 200:
            break
    threading.Thread(target=first.stdout.read, daemon=True).start()
    try:
        kafka.call(command)
    except Wrong:
        # Fenced in turn, when the first one began again: whoever is left ends it.
        pass
    finally:
        first.kill()
        first.wait()
    kafka.call(command)
    values = read(kafka, target, count)
    if sorted(values, key=int) != [str(number) for number in range(count)]:
        raise Wrong(f"{len(values)} values, {len(set(values))} different, of {count}")


def performance_of_transactions(kafka):
    """kafka-producer-perf-test with transactions, read back by the console consumer with read_committed."""
    topic = kafka.topic("txn-perf", 1)
    wanted = ["--topic", topic, "--num-records", "5000", "--record-size", "100", "--throughput", "5000", "--transaction-duration-ms", "100"]
    has(kafka.run("producer-perf-test", *wanted), r"5000 records sent")
    options = ["--topic", topic, "--from-beginning", "--isolation-level", "read_committed", "--max-messages", "5000", "--timeout-ms", "20000"]
    has(kafka.run("console-consumer", *options), r"Processed a total of 5000 messages")


def the_version_of_transactions_goes_down_and_up(kafka):
    """kafka-features: transactions are copied with version 1 and with version 2."""
    with running(kafka.broker.kind, SETTINGS) as broker:
        inner = Kafka(broker, kafka.folder)
        for number in (1, 2):
            way = ["downgrade", "upgrade"][number - 1]
            inner.run("features", way, "--feature", f"transaction.version={number}")
            has(inner.run("features", "describe"), rf"transaction\.version\s.*FinalizedVersionLevel: {number}")
            source, target = filled(inner, f"version-{number}", 300), inner.topic(f"version-{number}-out", 1)
            has(inner.call(copier(inner, source, target, "--use-group-metadata")), r'"remaining":0')
            if (values := read(inner, target, 300)) != [str(each) for each in range(300)]:
                raise Wrong(f"{len(values)} values with version {number}")


def dump_of_transactions(kafka):
    """DumpLogSegments: markers in a partition, its index of aborted transactions, and the coordinator's topic."""
    with running(kafka.broker.kind, SETTINGS | {"transaction.state.log.num.partitions": 1}) as broker:
        inner = Kafka(broker, kafka.folder)
        topic = inner.topic("dumped", 1)
        transaction = Open(inner, "dumped", topic)
        transaction.producer.abort_transaction(60)
        transaction.producer.begin_transaction()
        transaction.producer.produce(topic, "c", partition=0)
        transaction.commit()
        inner.fill(topic, 1)
        # A client that gets a new epoch at each end: what version 1 of a record has beyond version 0.
        source, target = filled(inner, "dumped-in", 60), inner.topic("dumped-out", 1)
        has(inner.call(copier(inner, source, target, "--use-group-metadata")), r'"remaining":0')
        state = has(
            inner.run(
                "console-consumer", "--topic", "__transaction_state", "--from-beginning", "--timeout-ms", "4000",
                "--formatter", "org.apache.kafka.tools.consumer.TransactionLogMessageFormatter",
            ),
            rf'"transactionalId":"{transaction.identity}"', r'"transactionStatus":', r'"producerEpoch":',
        )  # fmt: skip
        identities = {name: re.search(r"TopicId: (\S+)", inner.run("topics", "--describe", "--topic", name))[1] for name in (topic, "__transaction_state")}
        broker.stop()
        of = {name: [path for path in broker.segments() if is_of(path, identity, name)] for name, identity in identities.items()}
        log = dump(inner, "--deep-iteration", "--files", of[topic])
        index = dump(inner, "--files", [path.with_suffix(".txnindex") for path in of[topic]])
        decoded = dump(inner, "--transaction-log-decoder", "--files", of["__transaction_state"])
    hasnt(log + index + decoded, r"(?i)exception|could not|unknown key|unknown record|corrupt|isvalid: false|mismatch")
    has(log, r"isControl: true.*", r"endTxnMarker: ABORT coordinatorEpoch: \d+", r"endTxnMarker: COMMIT coordinatorEpoch: \d+")
    has(index, r"version: 0 producerId: \d+ firstOffset: 0 lastOffset: 2 lastStableOffset: 3")
    has(decoded, rf'"transactionalId":"{transaction.identity}"')
    # With the tagged fields: that they are told means that Kafka's decoder has read them where Kafka writes them.
    has(state, rf'"transactionalId":"{transaction.identity}"\}}\}},"value":\{{"version":1,')
    has(state, rf'"transactionalId":"{inner.name("copier-" + source)}".*"version":1,.*"clientTransactionVersion":2\b')
    # Empty, ongoing, to be aborted, aborted, to be committed, committed.
    has(state + decoded, *(rf'"transactionStatus":{number}\b' for number in (0, 1, 3, 5, 2, 4)))


def dump(kafka, *words):
    """What DumpLogSegments says of these files."""
    files = ",".join(str(path) for path in words[-1])
    return kafka.call(java("org.apache.kafka.tools.DumpLogSegments", *words[:-1], files))
