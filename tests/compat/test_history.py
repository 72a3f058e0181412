"""The history judge names each anomaly that is planted into a clean history, and none in a clean one."""

import random
import unittest

from history import Kind, Producer, Record, judge

PARTITIONS = 2


def clean(seed):
    """A history as a correct broker leaves it: two producers interleaved, some records sent but never acknowledged."""
    chance = random.Random(seed)
    producers = {"once": Producer(60, True), "again": Producer(60, False)}
    waiting = {name: list(range(60)) for name in producers}
    final, next_offset = [], [0] * PARTITIONS
    while any(waiting.values()):
        name = chance.choice([name for name in waiting if waiting[name]])
        number = waiting[name].pop(0)
        for _ in range(2 if name == "again" and chance.random() < 0.1 else 1):
            partition = number % PARTITIONS
            final.append(Record(name, number, partition, next_offset[partition]))
            next_offset[partition] += 1
    final.sort(key=lambda record: (record.partition, record.offset))
    acknowledged = [record for record in final if chance.random() < 0.9]
    seen = [record for record in final if chance.random() < 0.5]
    return producers, acknowledged, seen, final, dict(enumerate(next_offset))


def kinds(history):
    """The kinds of anomaly found."""
    return {anomaly.kind for anomaly in judge(*history)}


class Judge(unittest.TestCase):
    """Each test runs over many seeds, so that the anomaly is planted at many places."""

    def planted(self, plant, expected):
        """`plant` alters a clean history; `expected` must be among the kinds found."""
        for seed in range(50):
            history = clean(seed)
            plant(random.Random(seed), *history)
            with self.subTest(seed=seed):
                self.assertIn(expected, kinds(history))

    def test_a_clean_history_has_no_anomaly(self):
        for seed in range(200):
            self.assertEqual(kinds(clean(seed)), set(), f"seed {seed}")

    def test_an_acknowledged_record_that_is_gone_is_lost(self):
        def plant(chance, _producers, acknowledged, _seen, final, ends):
            victim = chance.choice([record for record in acknowledged if record.producer == "once"])
            rest = [record for record in final if record != victim]
            final[:] = [
                record._replace(offset=record.offset - (record.partition == victim.partition and record.offset > victim.offset))
                for record in rest
            ]
            ends[victim.partition] -= 1

        self.planted(plant, Kind.LOST)

    def test_a_lost_suffix_is_lost_without_a_hole(self):
        def plant(_chance, _producers, acknowledged, _seen, final, ends):
            cut = max((r for r in final if r.producer == "once" and r.partition == 0), key=lambda record: record.offset)
            acknowledged.append(cut)
            final[:] = [record for record in final if record.partition != 0 or record.offset < cut.offset]
            ends[0] = cut.offset

        self.planted(plant, Kind.LOST)

    def test_a_repeat_of_an_idempotent_producer_is_a_duplicate(self):
        def plant(chance, _producers, _acknowledged, _seen, final, ends):
            twin = chance.choice([record for record in final if record.producer == "once"])
            at = max(index for index, record in enumerate(final) if record.partition == twin.partition)
            final.insert(at + 1, twin._replace(offset=ends[twin.partition]))
            ends[twin.partition] += 1

        self.planted(plant, Kind.DUPLICATE)

    def test_two_swapped_records_are_reordered(self):
        def plant(chance, _producers, acknowledged, seen, final, _ends):
            acknowledged.clear()
            seen.clear()
            places = [index for index, record in enumerate(final) if record.producer == "once" and record.partition == 0]
            first, second = sorted(chance.sample(places, 2))
            one, other = final[first], final[second]
            final[first], final[second] = one._replace(number=other.number), other._replace(number=one.number)

        self.planted(plant, Kind.REORDERED)

    def test_an_offset_without_a_record_is_a_hole(self):
        def plant(chance, _producers, acknowledged, seen, final, _ends):
            acknowledged.clear()
            seen.clear()
            final.remove(chance.choice(final))

        self.planted(plant, Kind.HOLE)

    def test_an_offset_acknowledged_for_another_record_has_two_values(self):
        def plant(chance, _producers, acknowledged, _seen, final, _ends):
            one, other = chance.sample([record for record in final if record.producer == "once"], 2)
            acknowledged.append(one._replace(partition=other.partition, offset=other.offset))

        self.planted(plant, Kind.TWO_VALUES)

    def test_an_offset_read_with_another_record_has_two_values(self):
        def plant(chance, _producers, _acknowledged, seen, final, _ends):
            one, other = chance.sample([record for record in final if record.producer == "once"], 2)
            seen.append(one._replace(partition=other.partition, offset=other.offset))

        self.planted(plant, Kind.TWO_VALUES)

    def test_a_record_that_nobody_sent_is_a_phantom(self):
        def plant(chance, _producers, _acknowledged, _seen, final, _ends):
            at = chance.randrange(len(final))
            final[at] = final[at]._replace(number=final[at].number + 1000)

        self.planted(plant, Kind.PHANTOM)

    def test_bytes_that_differ_are_damage(self):
        def plant(chance, _producers, _acknowledged, _seen, final, _ends):
            at = chance.randrange(len(final))
            final[at] = final[at]._replace(intact=False)

        self.planted(plant, Kind.DAMAGED)


if __name__ == "__main__":
    unittest.main()
