"""Runs Kafka's own command line tools against the broker; kafka_tools.list names every case.

A case is a function here or in kafka_tools_transactions.py; it calls tools as an administrator would and reads what they print.
"""

import csv
import io
import json
import pathlib
import re
import sys
import tempfile

import kafka_tools_transactions
import suite
from broker import running
from kafka_shell import SETTINGS, Kafka, Wrong, eventually, has, hasnt, is_of, make_ready, tail
from tools import JARS, java


def offsets(said):
    """{partition: committed offset} of what consumer-groups --describe printed."""
    rows = re.findall(r"^\S+ +\S+ +(\d+) +(\d+|-) +(?:\d+|-) +(?:\d+|-)", said, re.M)
    return {int(partition): offset for partition, offset in rows}


def topics_from_creation_to_deletion(kafka):
    """kafka-topics."""
    name = kafka.name("topics")
    kafka.run("topics", "--create", "--topic", name, "--partitions", "3", "--replication-factor", "1", "--config", "retention.ms=1234567")
    has(kafka.run("topics", "--list"), rf"^{name}$")
    said = kafka.run("topics", "--describe", "--topic", name)
    has(said, r"PartitionCount: 3", r"ReplicationFactor: 1", r"retention\.ms=1234567", r"TopicId: \S{22}", r"Leader: \d+\s+Replicas: \d+\s+Isr: \d+")
    has(kafka.run("topics", "--create", "--topic", name, "--partitions", "1", code=1), r"already exists")
    kafka.run("topics", "--create", "--if-not-exists", "--topic", name, "--partitions", "1")
    kafka.run("topics", "--alter", "--topic", name, "--partitions", "5")
    has(kafka.run("topics", "--describe", "--topic", name), r"PartitionCount: 5")
    kafka.run("topics", "--alter", "--topic", name, "--partitions", "4", code=1)
    has(kafka.run("topics", "--describe", "--topics-with-overrides"), name)
    hasnt(kafka.run("topics", "--describe", "--under-replicated-partitions"), name)
    hasnt(kafka.run("topics", "--describe", "--unavailable-partitions"), name)
    kafka.run("topics", "--delete", "--topic", name)
    hasnt(kafka.run("topics", "--list"), rf"^{name}$")
    has(kafka.run("topics", "--describe", "--topic", name, code=1), r"does not exist")


def topics_by_manual_assignment(kafka):
    """kafka-topics --replica-assignment, and defaults where nothing is said."""
    node = re.search(r"Leader: (\d+)", kafka.run("topics", "--describe", "--topic", kafka.topic("node")))[1]
    name, plain = kafka.name("manual"), kafka.name("defaults")
    kafka.run("topics", "--create", "--topic", name, "--replica-assignment", f"{node},{node},{node}")
    has(kafka.run("topics", "--describe", "--topic", name), r"PartitionCount: 3")
    kafka.run("topics", "--create", "--topic", plain)
    has(kafka.run("topics", "--describe", "--topic", plain), r"PartitionCount: 2")


def configs_of_a_topic(kafka):
    """kafka-configs --entity-type topics."""
    topic = kafka.topic("configs")
    where = ["--entity-type", "topics", "--entity-name", topic]
    kafka.run("configs", "--alter", *where, "--add-config", "retention.ms=7200000,cleanup.policy=[compact,delete]")
    has(kafka.run("configs", "--describe", *where), r"retention\.ms=7200000", r"cleanup\.policy=compact,delete", r"DYNAMIC_TOPIC_CONFIG")
    said = kafka.run("configs", "--describe", "--all", *where)
    has(said, r"segment\.bytes=1073741824", r"DEFAULT_CONFIG:log\.segment\.bytes", r"max\.message\.bytes=", r"min\.insync\.replicas=")
    kafka.run("configs", "--alter", *where, "--delete-config", "retention.ms")
    hasnt(kafka.run("configs", "--describe", *where), r"retention\.ms")
    has(kafka.run("configs", "--alter", *where, "--add-config", "retention.ms=soon", code=1), r"InvalidConfig|[Ii]nvalid value|Not a number")
    has(kafka.run("configs", "--alter", *where, "--add-config", "no.such=1", code=1), r"no\.such")
    has(kafka.run("configs", "--describe", "--entity-type", "topics"), topic)


def configs_of_the_broker(kafka):
    """kafka-configs --entity-type brokers."""
    node = re.search(r"Leader: (\d+)", kafka.run("topics", "--describe", "--topic", kafka.topic("node")))[1]
    one = ["--entity-type", "brokers", "--entity-name", node]
    said = kafka.run("configs", "--describe", "--all", *one)
    has(said, r"log\.retention\.hours=|log\.retention\.ms=", r"auto\.create\.topics\.enable=", r"num\.partitions=", r"sensitive=false")
    kafka.run("configs", "--alter", *one, "--add-config", "log.retention.ms=86400001")
    eventually(lambda: has(kafka.run("configs", "--describe", *one), r"log\.retention\.ms=86400001", r"DYNAMIC_BROKER_CONFIG"))
    kafka.run("configs", "--alter", *one, "--delete-config", "log.retention.ms")
    eventually(lambda: hasnt(kafka.run("configs", "--describe", *one), r"log\.retention\.ms=86400001"))
    default = ["--entity-type", "brokers", "--entity-default"]
    kafka.run("configs", "--alter", *default, "--add-config", "log.segment.bytes=2000000")
    eventually(lambda: has(kafka.run("configs", "--describe", *default), r"log\.segment\.bytes=2000000"))
    kafka.run("configs", "--alter", *default, "--delete-config", "log.segment.bytes")
    has(kafka.run("configs", "--alter", *one, "--add-config", "broker.id=7", code=1), r"broker\.id|[Cc]annot")


def configs_of_a_group(kafka):
    """kafka-configs --entity-type groups."""
    where = ["--entity-type", "groups", "--entity-name", kafka.name("group")]
    kafka.run("configs", "--alter", *where, "--add-config", "consumer.session.timeout.ms=50000")
    has(kafka.run("configs", "--describe", *where), r"consumer\.session\.timeout\.ms=50000")
    kafka.run("configs", "--alter", *where, "--delete-config", "consumer.session.timeout.ms")
    hasnt(kafka.run("configs", "--describe", *where), r"consumer\.session\.timeout\.ms=50000")


def offsets_of_topics(kafka):
    """kafka-get-offsets."""
    topic = kafka.topic("offsets", 1)
    kafka.fill(topic, 12)
    has(kafka.run("get-offsets", "--topic", topic), rf"^{topic}:0:12$")
    has(kafka.run("get-offsets", "--topic", topic, "--time", "earliest"), rf"^{topic}:0:0$")
    has(kafka.run("get-offsets", "--topic", topic, "--time", "1000"), rf"^{topic}:0:0$")
    has(kafka.run("get-offsets", "--topic-partitions", f"{topic}:0", "--time", "max-timestamp"), rf"^{topic}:0:\d+$")
    has(kafka.run("get-offsets", "--topic", topic, "--time", "earliest-local"), rf"^{topic}:0:0$")


def records_are_deleted(kafka):
    """kafka-delete-records."""
    topic = kafka.topic("delete-records", 1)
    kafka.fill(topic, 10)
    plan = {"version": 1, "partitions": [{"topic": topic, "partition": 0, "offset": 4}]}
    has(kafka.run("delete-records", "--offset-json-file", kafka.file("delete.json", json.dumps(plan))), r"low_watermark: 4")
    has(kafka.run("get-offsets", "--topic", topic, "--time", "earliest"), rf"^{topic}:0:4$")
    plan["partitions"][0]["offset"] = 99
    has(kafka.run("delete-records", "--offset-json-file", kafka.file("beyond.json", json.dumps(plan))), r"error: .*OffsetOutOfRange|error: .*not within the range")


def log_dirs_are_described(kafka):
    """kafka-log-dirs."""
    topic = kafka.topic("dirs", 1)
    kafka.fill(topic, 10)
    said = kafka.run("log-dirs", "--describe", "--topic-list", topic)
    (brokers,) = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    (folder,) = brokers["brokers"][0]["logDirs"]
    (partition,) = folder["partitions"]
    if folder["error"] is not None or partition["partition"] != f"{topic}-0" or not 50 < partition["size"] < 100_000:
        raise Wrong(f"log dirs: {brokers}")


def console_producer_and_consumer(kafka):
    """kafka-console-producer and kafka-console-consumer, without and with a group."""
    topic = kafka.topic("console")
    headers = "h:1\tk1\tone\nh:2\tk2\ttwo\n"
    kafka.run("console-producer", "--topic", topic, "--reader-property", "parse.key=true", "--reader-property", "parse.headers=true", text=headers)
    shown = ["--formatter-property", "print.key=true", "--formatter-property", "print.headers=true", "--formatter-property", "print.offset=true"]
    said = kafka.run("console-consumer", "--topic", topic, "--from-beginning", "--max-messages", "2", "--timeout-ms", "20000", *shown)
    has(said, r"h:1\s+k1\s+one", r"h:2\s+k2\s+two", r"Offset:0")
    kafka.commit(topic, kafka.name("console"), 2)
    said = kafka.run("console-consumer", "--topic", topic, "--partition", "0", "--offset", "earliest", "--timeout-ms", "3000", code=0)
    has(said, r"Processed a total of \d messages")
    has(kafka.run("console-consumer", "--include", f"console-{kafka.unique}.*", "--from-beginning", "--max-messages", "2", "--timeout-ms", "20000"), r"total of 2")


def console_consumer_with_the_new_protocol(kafka):
    """kafka-console-consumer with group.protocol=consumer."""
    topic, group = kafka.topic("modern"), kafka.name("modern")
    kafka.fill(topic, 6)
    kafka.commit(topic, group, 6, "--command-property", "group.protocol=consumer")
    has(kafka.run("consumer-groups", "--list", "--type", "consumer"), rf"^{group}")
    said = kafka.run("consumer-groups", "--describe", "--group", group)
    if sum(int(offset) for offset in offsets(said).values()) != 6:
        raise Wrong(f"committed: {tail(said)}")
    with kafka.live(topic, group, "--command-property", "group.protocol=consumer"):
        has(kafka.run("consumer-groups", "--describe", "--group", group, "--members", "--verbose"), r"CURRENT-EPOCH|CURRENT-ASSIGNMENT", topic)
        has(kafka.run("consumer-groups", "--describe", "--group", group, "--state", "--verbose"), r"uniform", r"Stable")


def the_offsets_topic_is_formatted(kafka):
    """kafka-console-consumer on __consumer_offsets with Kafka's own formatters."""
    # A broker of its own: the other cases' groups commit all the time, and the tool would never come to the end of it.
    with running(kafka.broker.kind, SETTINGS | {"offsets.topic.num.partitions": 1}) as broker:
        inner = Kafka(broker, kafka.folder)
        topic, group = inner.topic("formatted", 1), inner.name("formatted")
        inner.fill(topic, 5)
        inner.commit(topic, group, 5)
        name = "__consumer_offsets"
        end = has(inner.run("get-offsets", "--topic", name), rf"^{name}:0:\d+$").rsplit(":", 1)[1].strip()
        options = ["--topic", name, "--partition", "0", "--offset", "earliest", "--max-messages", end, "--timeout-ms", "20000", "--formatter"]
        said = inner.run("console-consumer", *options, "org.apache.kafka.tools.consumer.OffsetsMessageFormatter")
        has(said, rf'"group":"{group}","topic":"{topic}","partition":0.*"offset":5')
        said = inner.run("console-consumer", *options, "org.apache.kafka.tools.consumer.GroupMetadataMessageFormatter")
        has(said, rf'"group":"{group}".*"protocolType":"consumer"')


def groups_are_listed_and_described(kafka):
    """kafka-consumer-groups --list and --describe, and kafka-groups."""
    topic, group = kafka.topic("groups"), kafka.name("groups")
    kafka.fill(topic, 8)
    kafka.commit(topic, group, 8)
    has(kafka.run("consumer-groups", "--list"), rf"^{group}$")
    has(kafka.run("consumer-groups", "--list", "--state"), rf"^{group} .*Empty")
    hasnt(kafka.run("consumer-groups", "--list", "--state", "Stable"), group)
    has(kafka.run("consumer-groups", "--list", "--type", "classic"), rf"^{group}")
    said = has(kafka.run("consumer-groups", "--describe", "--group", group), r"CURRENT-OFFSET", r"LAG")
    if sum(int(offset) for offset in offsets(said).values()) != 8:
        raise Wrong(f"committed: {tail(said)}")
    has(kafka.run("groups", "--list"), rf"^{group} +Classic +consumer")
    with kafka.live(topic, group):
        has(kafka.run("consumer-groups", "--list", "--state", "Stable"), group)
        has(kafka.run("consumer-groups", "--describe", "--group", group), rf"{topic} +0 +\d+ +\d+ +0 +console-consumer\S+ +/127\.0\.0\.1")
        has(kafka.run("consumer-groups", "--describe", "--group", group, "--members", "--verbose"), rf"{topic}\(0,1\)|{topic}:0,1")
        has(kafka.run("consumer-groups", "--describe", "--group", group, "--state"), r"range +Stable +1")
        has(kafka.run("consumer-groups", "--describe", "--all-groups"), group)
        has(kafka.run("consumer-groups", "--delete", "--group", group, code=0), r"not empty|GroupNotEmpty|could not be deleted|failed")
    has(kafka.run("consumer-groups", "--describe", "--group", kafka.name("nobody")), r"does not exist|not found")


def groups_offsets_are_reset(kafka):
    """kafka-consumer-groups --reset-offsets in every form."""
    topic, group = kafka.topic("reset", 1), kafka.name("reset")
    kafka.fill(topic, 10)
    kafka.commit(topic, group, 10)
    where = ["--reset-offsets", "--group", group, "--topic", topic]

    def reset(expected, *how):
        said = kafka.run("consumer-groups", *where, *how, "--execute")
        has(said, rf"{group} +{topic} +0 +{expected}")
        now = kafka.run("consumer-groups", "--describe", "--group", group)
        if offsets(now) != {0: str(expected)}:
            raise Wrong(f"after {how}: {tail(now)}")

    has(kafka.run("consumer-groups", *where, "--to-earliest", "--dry-run"), rf"{topic} +0 +0")
    if offsets(now := kafka.run("consumer-groups", "--describe", "--group", group)) != {0: "10"}:
        raise Wrong(f"a dry run moved it: {tail(now)}")
    reset(0, "--to-earliest")
    reset(10, "--to-latest")
    reset(4, "--to-offset", "4")
    reset(6, "--shift-by", "2")
    reset(1, "--shift-by", "-5")
    reset(0, "--to-datetime", "2001-01-01T00:00:00.000")
    reset(0, "--by-duration", "P1D")
    reset(0, "--to-current")
    reset(10, "--to-offset", "99999")
    plan = io.StringIO()
    csv.writer(plan).writerow([group, topic, 0, 7])
    said = kafka.run("consumer-groups", "--reset-offsets", "--group", group, "--from-file", kafka.file("plan.csv", plan.getvalue()), "--execute")
    has(said, rf"{topic} +0 +7")
    has(kafka.run("consumer-groups", *where, "--to-current", "--export"), rf"{topic}\"?,0,7")
    kafka.commit(topic, group, 3)
    with kafka.live(topic, group):
        has(kafka.run("consumer-groups", *where, "--to-earliest", "--execute"), r"inactive|is Stable|current state")


def groups_are_deleted(kafka):
    """kafka-consumer-groups --delete-offsets and --delete."""
    topic, group = kafka.topic("deleted", 1), kafka.name("deleted")
    kafka.fill(topic, 5)
    kafka.commit(topic, group, 5)
    has(kafka.run("consumer-groups", "--delete-offsets", "--group", group, "--topic", f"{topic}:0"), r"Successful|Status")
    hasnt(kafka.run("consumer-groups", "--describe", "--group", group), rf"{topic} +0 +5")
    has(kafka.run("consumer-groups", "--delete", "--group", group), r"was successful")
    hasnt(kafka.run("consumer-groups", "--list"), rf"^{group}$")
    has(kafka.run("consumer-groups", "--delete", "--group", group), r"does not exist|not found|failed")


def verifiable_producer_and_consumer(kafka):
    """kafka-verifiable-producer and kafka-verifiable-consumer, with either group protocol."""
    topic = kafka.topic("verifiable")
    said = kafka.run("verifiable-producer", "--topic", topic, "--max-messages", "200", "--acks", "-1")
    events = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    if sum(event["name"] == "producer_send_success" for event in events) != 200:
        raise Wrong(f"the producer said {tail(said)}")
    for protocol in ("classic", "consumer"):
        more = ["--topic", topic, "--group-id", kafka.name(protocol), "--group-protocol", protocol, "--max-messages", "200"]
        said = kafka.run("verifiable-consumer", *more, "--reset-policy", "earliest", "--enable-autocommit")
        events = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        names = [event["name"] for event in events]
        read = sum(event["count"] for event in events if event["name"] == "records_consumed")
        if read != 200 or "partitions_assigned" not in names or "shutdown_complete" not in names:
            raise Wrong(f"the {protocol} consumer said {tail(said)}")


def performance_tests(kafka):
    """kafka-producer-perf-test, kafka-consumer-perf-test and kafka-e2e-latency."""
    topic = kafka.topic("perf")
    wanted = ["--topic", topic, "--num-records", "5000", "--record-size", "100", "--throughput", "-1"]
    has(kafka.run("producer-perf-test", *wanted), r"5000 records sent")
    said = kafka.run("consumer-perf-test", "--topic", topic, "--num-records", "5000", "--timeout", "20000", "--hide-header")
    has(said, r", 5\d\d\d, ")
    latency = ["--topic", topic, "--num-records", "20", "--producer-acks", "all", "--record-size", "50"]
    has(kafka.run("e2e-latency", *latency), r"Percentiles|50th")


def api_versions_are_told(kafka):
    """kafka-broker-api-versions."""
    said = kafka.run("broker-api-versions")
    has(said, r"Produce\(0\): 0 to \d+ \[usable: \d+\]", r"JoinGroup\(11\): 0 to 9", r"ConsumerGroupHeartbeat\(68\): 0 to 1", r"OffsetFetch\(9\): 1 to \d+")


def the_cluster_is_told(kafka):
    """kafka-cluster."""
    said = kafka.call(java("org.apache.kafka.tools.ClusterTool", "cluster-id", "--bootstrap-server", kafka.broker.address))
    has(said, r"Cluster ID: \S+")
    said = kafka.call(java("org.apache.kafka.tools.ClusterTool", "list-endpoints", "--bootstrap-server", kafka.broker.address))
    has(said, rf"127\.0\.0\.1 +{kafka.broker.port}")


def the_quorum_is_described(kafka):
    """kafka-metadata-quorum."""
    has(kafka.run("metadata-quorum", "describe", "--status"), r"LeaderId: +\d+", r"CurrentVoters: ")
    has(kafka.run("metadata-quorum", "describe", "--replication"), r"Leader")


def features_are_described(kafka):
    """kafka-features."""
    has(kafka.run("features", "describe"), r"Feature: group\.version")


def leaders_are_elected(kafka):
    """kafka-leader-election."""
    topic = kafka.topic("leaders", 1)
    said = kafka.run("leader-election", "--election-type", "preferred", "--topic", topic, "--partition", "0")
    has(said, r"Valid replica already elected|Successfully completed")
    kafka.run("leader-election", "--election-type", "preferred", "--all-topic-partitions")


def partitions_are_not_reassigned(kafka):
    """kafka-reassign-partitions."""
    topic = kafka.topic("reassign", 1)
    node = re.search(r"Leader: (\d+)", kafka.run("topics", "--describe", "--topic", topic))[1]
    has(kafka.run("reassign-partitions", "--list"), r"No partition reassignments found")
    topics = kafka.file("topics.json", json.dumps({"version": 1, "topics": [{"topic": topic}]}))
    said = kafka.run("reassign-partitions", "--generate", "--topics-to-move-json-file", topics, "--broker-list", node)
    has(said, rf'"topic":"{topic}","partition":0,"replicas":\[{node}\]')
    plan = {"version": 1, "partitions": [{"topic": topic, "partition": 0, "replicas": [int(node)]}]}
    plan = kafka.file("plan.json", json.dumps(plan))
    has(kafka.run("reassign-partitions", "--execute", "--reassignment-json-file", plan), r"Successfully started")
    has(kafka.run("reassign-partitions", "--verify", "--reassignment-json-file", plan), r"is completed")


def producers_are_described(kafka):
    """kafka-transactions describe-producers."""
    topic = kafka.topic("producers", 1)
    kafka.fill(topic, 5)
    said = kafka.run("transactions", "describe-producers", "--topic", topic, "--partition", "0")
    has(said, r"ProducerId", r"^\d+\s+0\s+")


def dump_of_the_offsets_topic(kafka):
    """DumpLogSegments --offsets-decoder over the files of __consumer_offsets, after commits, members of both protocols, deletion."""
    with running(kafka.broker.kind, SETTINGS | {"offsets.topic.num.partitions": 1}) as broker:
        inner = Kafka(broker, kafka.folder)
        topic, group, gone = inner.topic("dumped"), inner.name("dumped"), inner.name("gone")
        inner.fill(topic, 9)
        inner.commit(topic, group, 9)
        inner.commit(topic, inner.name("modern"), 9, "--command-property", "group.protocol=consumer")
        inner.commit(topic, gone, 9)
        inner.run("consumer-groups", "--delete", "--group", gone)
        identity = re.search(r"TopicId: (\S+)", inner.run("topics", "--describe", "--topic", "__consumer_offsets"))[1]
        broker.stop()
        files = [str(path) for path in broker.segments() if is_of(path, identity, "__consumer_offsets")]
        said = inner.call(java("org.apache.kafka.tools.DumpLogSegments", "--offsets-decoder", "--files", ",".join(files)))
    hasnt(said, r"(?i)exception|could not|unknown key|unknown record|corrupt|isvalid: false")
    has(
        said,
        rf'"group":"{group}","topic":"{topic}","partition":0',
        rf'"group":"{group}"}}.*"protocolType":"consumer"',
        *(rf'"type":"{number}"' for number in (1, 2, 3, 5, 6, 7, 8)),
        rf'"group":"{gone}".*payload: (?:<DELETE>|null|$)',
    )  # fmt: skip


HELPERS = {"offsets", "read", "copier", "filled", "dump", "cases", "version", "main"}


def cases():
    """Every case by its name."""
    found = {}
    for module in (sys.modules[__name__], kafka_tools_transactions):
        functions = {name: each for name, each in vars(module).items() if callable(each) and name.islower()}
        found |= {name: each for name, each in functions.items() if name not in HELPERS and each.__module__ == module.__name__}
    return found


def version():
    """Of the jar that has the tools."""
    (jar,) = pathlib.Path(JARS).parent.glob("kafka-tools-[0-9]*.jar")
    return jar.stem.removeprefix("kafka-tools-")


def main():
    """Runs the cases; exit code 1 unless every one passed."""
    parser = suite.parser(__doc__)
    parser.add_argument("--jobs", type=int, default=3, help="how many at a time")
    parser.add_argument("--quick", action="store_true", help=f"without {', '.join(sorted(kafka_tools_transactions.SLOW))}")
    options = parser.parse_args()
    listed = suite.entries("kafka_tools.list")
    slow = kafka_tools_transactions.SLOW if options.quick else set()
    chosen = [entry.number for entry in suite.chosen(listed, options.names) if entry.number not in slow]
    results = suite.Results("kafka-tools", version())
    with tempfile.TemporaryDirectory() as folder, running(options.broker, SETTINGS) as broker:
        make_ready(Kafka(broker, folder))

        def one(name):
            cases()[name](Kafka(broker, folder, options.quick))

        suite.run_cases(cases(), one, listed, chosen, options.jobs, results)
    sys.exit(results.end(options, [entry for entry in listed if not entry.run]))


if __name__ == "__main__":
    main()
