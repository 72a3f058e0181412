"""Groups of Python's clients: confluent-kafka with either group protocol, aiokafka, kafka-python, each through the same cases.

python_groups.list names every case.
"""

import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from kafka.admin import KafkaAdminClient

import suite
from broker import running
from python_adapters import CLIENTS

PATIENCE_S = 120
# Not 0: kafka-python 3.0.12 joins at once, learns of its topics and joins again. If a poll's time is up while that goes on, it never
# looks at what it was given: as leader it has assigned by then, so it believes that it need not join. The slower a first join,
# the rarer that is.
SETTINGS = {"group.initial.rebalance.delay.ms": 500}


class Wrong(Exception):
    """What came is not what should have come."""


class Bed:
    """One case's client, topics and groups; closes every consumer at the end."""

    def __init__(self, address, client):
        self.address = address
        self.client = client
        self.unique = uuid.uuid4().hex[:8]
        self.open = []
        self.admin = AdminClient({"bootstrap.servers": address})

    def name(self, what):
        """A name that no other case has."""
        return f"{what}-{self.unique}"

    def topic(self, what, partitions):
        """Makes a topic."""
        name = self.name(what)
        self.admin.create_topics([NewTopic(name, partitions, 1)])[name].result(PATIENCE_S)
        deadline = time.monotonic() + PATIENCE_S
        while self.admin.list_topics(timeout=PATIENCE_S).topics.get(name) is None:
            if time.monotonic() > deadline:
                raise Wrong(f"{name} never came")
        return name

    def fill(self, topic, partitions, count, first=0):
        """Writes the numbers in turn to the partitions."""
        producer = Producer({"bootstrap.servers": self.address, "linger.ms": 2})
        for number in range(first, first + count):
            producer.produce(topic, str(number).encode(), partition=number % partitions)
        if producer.flush(PATIENCE_S):
            raise Wrong("records were not delivered")

    def member(self, group, topic, **more):
        """A consumer that subscribes."""
        consumer = self.client(self.address, group, topic, **more)
        self.open.append(consumer)
        return consumer

    def close(self, consumer=None):
        """Closes one consumer, or all that are open."""
        for each in [consumer] if consumer else list(self.open):
            self.open.remove(each)
            each.close()


def poll_until(members, holds, what):
    """Polls all members, each in a thread, for some join while they poll, until it holds; answers [(member number, partition, offset, value)] of what came meanwhile."""
    seen = []
    deadline = time.monotonic() + PATIENCE_S
    with ThreadPoolExecutor(max(1, len(members))) as pool:
        while not holds(seen):
            if time.monotonic() > deadline:
                raise Wrong(f"never came: {what}; {len(seen)} records, assigned {[sorted(member.assigned()) for member in members]}")
            for number, records in enumerate(pool.map(lambda member: member.poll(), members)):
                seen += [(number, *record) for record in records]
    return seen


def numbers(seen):
    """The values, sorted."""
    return sorted(int(record[3]) for record in seen)


def same(expected, actual, what):
    """Both must be equal."""
    if expected != actual:
        raise Wrong(f"{what}: expected {expected}, got {actual}")


def a_group_goes_on_where_it_committed(bed):
    """Commit, leave, come back."""
    topic, group = bed.topic("resume", 2), bed.name("resume")
    bed.fill(topic, 2, 20)
    first = bed.member(group, topic)
    seen = poll_until([first], lambda seen: len(seen) >= 20, "20 records")
    same(list(range(20)), numbers(seen), "the records")
    first.commit()
    same(10, first.committed(0), "the committed offset")
    bed.close(first)
    bed.fill(topic, 2, 6, first=20)
    second = bed.member(group, topic)
    seen = poll_until([second], lambda seen: len(seen) >= 6, "6 records")
    same(list(range(20, 26)), numbers(seen), "only what came since")


def members_share_and_hand_over(bed):
    """A second member comes, both read, the first leaves."""
    topic, group = bed.topic("share", 4), bed.name("share")
    one = bed.member(group, topic)
    poll_until([one], lambda _: len(one.assigned()) == 4, "all partitions")
    two = bed.member(group, topic)
    poll_until([one, two], lambda _: len(one.assigned()) == len(two.assigned()) == 2, "two each")
    same({0, 1, 2, 3}, one.assigned() | two.assigned(), "all partitions")
    bed.fill(topic, 4, 40)
    seen = poll_until([one, two], lambda seen: len(seen) >= 40, "40 records")
    same(list(range(40)), numbers(seen), "each record once")
    one.commit()
    two.commit()
    bed.close(one)
    poll_until([two], lambda _: len(two.assigned()) == 4, "the rest")
    bed.fill(topic, 4, 8, first=40)
    seen = poll_until([two], lambda seen: len(seen) >= 8, "8 records")
    same(list(range(40, 48)), numbers(seen), "what came since")


def without_a_commit_all_comes_again(bed):
    """A member that leaves without a commit leaves no trace."""
    topic, group = bed.topic("again", 1), bed.name("again")
    bed.fill(topic, 1, 5)
    for _ in range(2):
        member = bed.member(group, topic)
        seen = poll_until([member], lambda seen: len(seen) >= 5, "5 records")
        same([0, 1, 2, 3, 4], numbers(seen), "all records")
        same(None, member.committed(0), "nothing is committed")
        bed.close(member)


def a_static_member_comes_back_to_its_partitions(bed):
    """The same instance gets the same partitions, and the other keeps its own."""
    topic, group = bed.topic("static", 4), bed.name("static")
    other = bed.member(group, topic, instance="other")
    first = bed.member(group, topic, instance="restarts")
    poll_until([other, first], lambda _: len(other.assigned()) == len(first.assigned()) == 2, "two each")
    kept, owned = other.assigned(), first.assigned()
    bed.close(first)
    again = bed.member(group, topic, instance="restarts")
    poll_until([other, again], lambda _: len(again.assigned()) == 2, "its partitions")
    same((owned, kept), (again.assigned(), other.assigned()), "who has what")


def seek_pause_and_resume_work(bed):
    """Positions are the client's."""
    topic, group = bed.topic("seek", 2), bed.name("seek")
    member = bed.member(group, topic)
    poll_until([member], lambda _: len(member.assigned()) == 2, "both")
    bed.fill(topic, 2, 20)
    poll_until([member], lambda seen: len(seen) >= 20, "20 records")
    member.seek(0, 7)
    seen = poll_until([member], lambda seen: len(seen) >= 3, "3 records")
    same([14, 16, 18], numbers(seen), "from offset 7 of partition 0")
    member.pause(0)
    bed.fill(topic, 2, 10, first=20)
    seen = poll_until([member], lambda seen: len(seen) >= 5, "5 records")
    same([21, 23, 25, 27, 29], numbers(seen), "only the other partition")
    member.resume(0)
    seen = poll_until([member], lambda seen: len(seen) >= 5, "5 records")
    same([20, 22, 24, 26, 28], numbers(seen), "the rest")


def five_members_come_at_once(bed):
    """All start together, and each record is read."""
    topic, group = bed.topic("five", 10), bed.name("five")
    with ThreadPoolExecutor(5) as pool:
        members = list(pool.map(lambda _: bed.member(group, topic), range(5)))
    poll_until(members, lambda _: all(len(member.assigned()) == 2 for member in members), "two each")
    bed.fill(topic, 10, 50)
    seen = poll_until(members, lambda seen: len(seen) >= 50, "50 records")
    same(list(range(50)), numbers(seen), "each once")


SHARED = [
    a_group_goes_on_where_it_committed,
    members_share_and_hand_over,
    without_a_commit_all_comes_again,
    a_static_member_comes_back_to_its_partitions,
    seek_pause_and_resume_work,
    five_members_come_at_once,
]


def confluent_cooperative_members_share(bed):
    """The incremental protocol of librdkafka."""
    topic, group = bed.topic("cooperative", 4), bed.name("cooperative")
    settings = {"partition.assignment.strategy": "cooperative-sticky"}
    one = bed.member(group, topic, settings=settings)
    poll_until([one], lambda _: len(one.assigned()) == 4, "all")
    two = bed.member(group, topic, settings=settings)
    poll_until([one, two], lambda _: len(one.assigned()) == len(two.assigned()) == 2, "two each")


def confluent_admin_sees_and_moves_groups(bed):
    """List, describe, list offsets, alter offsets, delete."""
    topic, group = bed.topic("admin", 1), bed.name("admin")
    bed.fill(topic, 1, 5)
    member = bed.member(group, topic)
    poll_until([member], lambda seen: len(seen) >= 5, "5 records")
    member.commit()
    listed = bed.admin.list_consumer_groups().result(PATIENCE_S)
    same(True, group in {found.group_id for found in listed.valid}, "it is listed")
    described = bed.admin.describe_consumer_groups([group])[group].result(PATIENCE_S)
    same(("STABLE", 1), (described.state.name, len(described.members)), "state and members")
    bed.close(member)
    poll_until([], lambda _: bed.admin.describe_consumer_groups([group])[group].result(PATIENCE_S).state.name == "EMPTY", "empty")
    moved = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 2)])
    bed.admin.alter_consumer_group_offsets([moved])[group].result(PATIENCE_S)
    found = bed.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(PATIENCE_S)
    same([(0, 2)], [(each.partition, each.offset) for each in found.topic_partitions], "the offsets")
    bed.admin.delete_consumer_groups([group])[group].result(PATIENCE_S)
    listed = bed.admin.list_consumer_groups().result(PATIENCE_S)
    same(False, group in {found.group_id for found in listed.valid}, "it is gone")


def kafka_python_admin_sees_groups(bed):
    """List, describe, offsets, delete."""
    topic, group = bed.topic("pyadmin", 1), bed.name("pyadmin")
    bed.fill(topic, 1, 5)
    member = bed.member(group, topic)
    poll_until([member], lambda seen: len(seen) >= 5, "5 records")
    member.commit()
    admin = KafkaAdminClient(bootstrap_servers=bed.address)
    same(True, group in str(admin.list_groups()), "it is listed")
    same(True, "Stable" in str(admin.describe_groups([group])), "it is described")
    same(True, "5" in str(admin.list_group_offsets([group])), "its offsets")
    bed.close(member)
    admin.close()


OWN = {
    "confluent": [confluent_cooperative_members_share, confluent_admin_sees_and_moves_groups],
    "confluent-consumer": [confluent_admin_sees_and_moves_groups],
    "kafka-python": [kafka_python_admin_sees_groups],
}


def cases():
    """{name: (client, case)}."""
    return {f"{name}.{case.__name__}": (client, case) for name, client in CLIENTS.items() for case in SHARED + OWN.get(name, [])}


def run(description, name, cases, bed_of):
    """Runs the cases of NAME.list, each in a bed of its own; ends with exit code 1 unless every one passed."""
    parser = suite.parser(description)
    parser.add_argument("--jobs", type=int, default=4, help="how many at a time: they mostly wait")
    options = parser.parse_args()
    listed = suite.entries(f"{name}.list")
    chosen = [entry.number for entry in suite.chosen(listed, options.names)]
    versions = sorted({client.version for client in CLIENTS.values()})
    results = suite.Results(name.removesuffix("_groups").replace("_", "-"), ", ".join(versions))
    with running(options.broker, SETTINGS) as broker:

        def one(name):
            client, case = cases[name]
            bed = bed_of(broker.address, client)
            try:
                case(bed)
            finally:
                bed.close()

        suite.run_cases(cases, one, listed, chosen, options.jobs, results)
    sys.exit(results.end(options, [entry for entry in listed if not entry.run]))


if __name__ == "__main__":
    run(__doc__, "python_groups", cases(), Bed)
