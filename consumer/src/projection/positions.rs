//! Where a result stands in the partitions that it was made from.

use std::collections::BTreeMap;

use millstream_protocol::KStr;
use millstream_protocol::records::Crc32c;

use crate::record::ConsumerRecord;

/// The last record that went into a result, to recognise the log by: one that was cut or made anew has another
/// record there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// Its offset.
    pub offset: i64,
    /// Over its timestamp, key and value.
    pub checksum: u32,
}

impl Anchor {
    /// Remembers a record.
    #[must_use]
    pub fn of(record: &ConsumerRecord) -> Self {
        let mut checksum = Crc32c::default();
        checksum.update(&record.timestamp.to_be_bytes());
        for part in [&record.key, &record.value] {
            // The length keeps apart what stands in the key and what in the value; null is not empty.
            let length = part.as_ref().map_or(-1, |part| part.len() as i64);
            checksum.update(&length.to_be_bytes());
            checksum.update(part.as_deref().unwrap_or_default());
        }
        Self { offset: record.offset, checksum: checksum.finish() }
    }
}

/// Where a result stands in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The offset of the next record that it needs.
    pub next: i64,
    /// The last record that it has, if that is remembered.
    pub anchor: Option<Anchor>,
}

/// Where a result stands in each of its partitions.
///
/// ```
/// use millstream_consumer::projection::Positions;
///
/// let mut positions = Positions::default();
/// positions.set("orders", 0, 42);
/// assert_eq!(positions.next("orders", 0), Some(42));
/// assert_eq!(positions.next("orders", 1), None);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Positions {
    topics: BTreeMap<KStr, BTreeMap<i32, Position>>,
}

impl Positions {
    /// The next record that is needed has this offset. Forgets the anchor.
    pub fn set(&mut self, topic: &str, partition: i32, next: i64) {
        self.put(topic, partition, Position { next, anchor: None });
    }

    /// As [`set`](Self::set), with the anchor.
    pub fn put(&mut self, topic: &str, partition: i32, position: Position) {
        match self.topics.get_mut(topic) {
            Some(partitions) => partitions.insert(partition, position),
            None => self.topics.entry(KStr::from(topic)).or_default().insert(partition, position),
        };
    }

    /// Where it stands in a partition; none before the first record.
    #[must_use]
    pub fn get(&self, topic: &str, partition: i32) -> Option<Position> {
        self.topics.get(topic)?.get(&partition).copied()
    }

    /// The offset of the next record that is needed; none before the first.
    #[must_use]
    pub fn next(&self, topic: &str, partition: i32) -> Option<i64> {
        self.get(topic, partition).map(|position| position.next)
    }

    /// All of them, by topic and partition.
    pub fn iter(&self) -> impl Iterator<Item = (&KStr, i32, Position)> {
        self.topics.iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(move |(partition, position)| (topic, *partition, *position))
        })
    }

    /// How many partitions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.topics.values().map(BTreeMap::len).sum()
    }

    /// Whether there is none: nothing was read yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A record became part of the result.
    pub(crate) fn applied(&mut self, record: &ConsumerRecord) {
        let position = Position { next: record.offset.saturating_add(1), anchor: Some(Anchor::of(record)) };
        self.put(&record.topic, record.partition, position);
    }

    /// Up to here there is nothing more to apply. The anchor stays.
    pub(crate) fn advance(&mut self, topic: &str, partition: i32, next: i64) {
        match self.topics.get_mut(topic).and_then(|partitions| partitions.get_mut(&partition)) {
            Some(position) => position.next = position.next.max(next),
            None => self.set(topic, partition, next),
        }
    }

    /// Whether everything before `ends` is part of the result.
    pub(crate) fn reach(&self, ends: &[crate::TopicPartitionOffset]) -> bool {
        ends.iter().all(|end| {
            // Of an empty partition there is nothing to have.
            let next = self.next(&end.topic, end.partition);
            end.offset == 0 || next.is_some_and(|next| next >= end.offset)
        })
    }
}
