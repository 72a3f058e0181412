"""Judges what several producers and a reader saw of one topic while its broker was killed and restarted.

The value at an offset is (producer, number); a producer numbers its records 0, 1, 2, ... and sends number n to partition
n modulo the count of partitions. Nothing here talks to a broker, so test_history.py can plant each anomaly.
"""

import enum
from collections import defaultdict
from typing import NamedTuple


class Kind(enum.Enum):
    """The ways in which a history can be wrong."""

    LOST = "acknowledged, but not in the topic"
    DUPLICATE = "twice in the topic although its producer is idempotent"
    REORDERED = "before a record of its producer that was sent earlier to the partition"
    HOLE = "an offset without a record"
    TWO_VALUES = "an offset that had another record at another time"
    PHANTOM = "in the topic, but never sent"
    DAMAGED = "bytes that differ from those sent"


class Producer(NamedTuple):
    """What one producer was promised and how many records it handed over."""

    sent: int
    idempotent: bool


class Record(NamedTuple):
    """One record as somebody saw it: acknowledged, read while the load ran, or read at the end. `offset` is None where the
    acknowledgement does not tell it."""

    producer: str
    number: int
    partition: int
    offset: int | None
    intact: bool = True


class Anomaly(NamedTuple):
    """One finding."""

    kind: Kind
    record: object


def judge(producers, acknowledged, seen, final, ends):
    """Every anomaly. `final` is the whole topic after the last restart, each partition in offset order from `0`; `ends`
    has each partition's end offset."""
    found = list(contents(producers, final))
    found += holes(final, ends)
    held = {(record.partition, record.offset): (record.producer, record.number) for record in final}
    present = set(held.values())
    for record in [*acknowledged, *seen]:
        value = (record.producer, record.number)
        at = (record.partition, record.offset)
        if value not in present:
            found.append(Anomaly(Kind.LOST, record))
        elif record.offset is not None and held.get(at, value) != value:
            found.append(Anomaly(Kind.TWO_VALUES, record))
    return found


def contents(producers, final):
    """What the topic alone shows: phantoms, damage, duplicates, order."""
    times = defaultdict(int)
    newest = {}
    for record in final:
        value = (record.producer, record.number)
        times[value] += 1
        producer = producers.get(record.producer)
        if producer is None or record.number >= producer.sent:
            yield Anomaly(Kind.PHANTOM, record)
            continue
        if not record.intact:
            yield Anomaly(Kind.DAMAGED, record)
        if times[value] > 1:
            # A producer without idempotence may repeat what it sent; the repeat says nothing about order.
            if producer.idempotent:
                yield Anomaly(Kind.DUPLICATE, record)
            continue
        line = (record.producer, record.partition)
        if record.number < newest.get(line, -1):
            yield Anomaly(Kind.REORDERED, record)
        newest[line] = max(newest.get(line, -1), record.number)


def holes(final, ends):
    """Offsets that no record has, and offsets out of their place."""
    expected = dict.fromkeys(ends, 0)
    for record in final:
        if record.offset != expected[record.partition]:
            yield Anomaly(Kind.HOLE, (record.partition, expected[record.partition], record.offset))
        expected[record.partition] = record.offset + 1
    for partition, end in ends.items():
        if expected[partition] != end:
            yield Anomaly(Kind.HOLE, (partition, expected[partition], end))
