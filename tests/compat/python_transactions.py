"""Transactions of Python's clients: confluent-kafka, aiokafka, kafka-python, each through the same cases.

python_transactions.list names every case.
"""

import time

from python_groups import Bed, Wrong, poll_until, run, same
from python_writers import WRITERS


class Transactions(Bed):
    """One case's producers beside what a case of groups has."""

    def __init__(self, address, writer):
        super().__init__(address, writer.reader)
        self.kind = writer

    def writer(self, identity, **more):
        """A transactional producer, ready."""
        made = self.kind(self.address, identity, **more)
        self.open.append(made)
        return made

    def reader(self, topic, group=None, **more):
        """A consumer that gets what is committed."""
        return self.member(group or self.name("reader"), topic, settings=self.kind.committed_only, **more)

    def committed(self, topic, count):
        """So many values with read_committed, and what comes within a second after them."""
        reader = self.reader(topic, self.name(f"reader-{len(self.open)}"))
        seen = poll_until([reader], lambda seen: len(seen) >= count, f"{count} committed records")
        until = time.monotonic() + 1
        seen += poll_until([reader], lambda _: time.monotonic() > until, "a second")
        self.close(reader)
        return [record[3].decode() for record in seen]


def transaction(writer, topic, values, commit=True):
    """One from begin to end."""
    writer.begin()
    writer.write(topic, 0, values)
    if commit:
        writer.commit()
    else:
        writer.abort()


def must_fail(action, what):
    """Whatever a client raises is right, as long as it raises."""
    try:
        action()
    except Exception:
        return
    raise Wrong(f"{what} did not fail")


def what_is_committed_is_read(bed):
    """Commit, abort, commit."""
    topic, writer = bed.topic("txn", 1), bed.writer(bed.name("txn"))
    transaction(writer, topic, ["a1", "a2"])
    transaction(writer, topic, ["b1", "b2"], commit=False)
    transaction(writer, topic, ["c1"])
    same(["a1", "a2", "c1"], bed.committed(topic, 3), "read_committed")


def an_open_transaction_holds_back(bed):
    """What comes after it waits for its end."""
    topic, slow, quick = bed.topic("open", 1), bed.writer(bed.name("slow")), bed.writer(bed.name("quick"))
    transaction(quick, topic, ["first"])
    slow.begin()
    slow.write(topic, 0, ["slow"])
    transaction(quick, topic, ["quick"])
    same(["first"], bed.committed(topic, 1), "while it is open")
    slow.commit()
    same(["first", "slow", "quick"], bed.committed(topic, 3), "when it is committed")


def offsets_come_with_the_transaction(bed):
    """Consume, transform, produce; aborted once."""
    source, target, group = bed.topic("in", 1), bed.topic("out", 1), bed.name("etl")
    bed.fill(source, 1, 10)
    writer, reader = bed.writer(bed.name("etl")), bed.reader(source, group)
    seen = poll_until([reader], lambda seen: len(seen) >= 10, "10 records")
    for commit in (False, True):
        writer.begin()
        writer.write(target, 0, [record[3].decode() for record in seen])
        writer.offsets(reader, group, source, 0, 7)
        if commit:
            writer.commit()
        else:
            writer.abort()
            same(None, reader.committed(0), "the offset after the abort")
    same(7, reader.committed(0), "the committed offset")
    same([str(number) for number in range(10)], bed.committed(target, 10), "the output")
    bed.close(reader)
    again = bed.reader(source, group)
    seen = poll_until([again], lambda seen: len(seen) >= 3, "the rest")
    same([b"7", b"8", b"9"], [record[3] for record in seen], "the rest")


def a_second_instance_fences_the_first(bed):
    """The first one's open transaction is aborted, and it writes nothing more."""
    topic, identity = bed.topic("fence", 1), bed.name("fence")
    first = bed.writer(identity)
    transaction(first, topic, ["a"])
    first.begin()
    first.write(topic, 0, ["zombie"])
    second = bed.writer(identity)
    must_fail(first.commit, "the commit of the first")
    transaction(second, topic, ["b"])
    same(["a", "b"], bed.committed(topic, 2), "read_committed")


def a_transaction_that_takes_too_long_is_aborted(bed):
    """By the broker, while its producer sleeps."""
    topic, identity = bed.topic("late", 1), bed.name("late")
    slow, quick = bed.writer(identity, timeout_ms=4000), bed.writer(bed.name("in-time"))
    slow.begin()
    slow.write(topic, 0, ["late"])
    transaction(quick, topic, ["in time"])
    same(["in time"], bed.committed(topic, 1), "after the abort")
    must_fail(slow.commit, "the commit of the one that was aborted")
    transaction(bed.writer(identity), topic, ["again"])
    same(["in time", "again"], bed.committed(topic, 2), "the next instance")


def fifty_transactions_follow_one_another(bed):
    """Each at once after the one before."""
    topic, writer = bed.topic("fifty", 2), bed.writer(bed.name("fifty"))
    for number in range(50):
        writer.begin()
        writer.write(topic, 0, [f"{number}-0"])
        writer.write(topic, 1, [f"{number}-1"])
        writer.commit()
    values = bed.committed(topic, 100)
    for partition in range(2):
        same([f"{number}-{partition}" for number in range(50)], [value for value in values if value.endswith(f"-{partition}")], "each once, in order")


CASES = [
    what_is_committed_is_read,
    an_open_transaction_holds_back,
    offsets_come_with_the_transaction,
    a_second_instance_fences_the_first,
    a_transaction_that_takes_too_long_is_aborted,
    fifty_transactions_follow_one_another,
]


def cases():
    """{name: (writer, case)}."""
    return {f"{name}.{case.__name__}": (writer, case) for name, writer in WRITERS.items() for case in CASES}


if __name__ == "__main__":
    run(__doc__, "python_transactions", cases(), Transactions)
