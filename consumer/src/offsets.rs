//! Offsets to commit.

use std::collections::BTreeMap;

use millstream_protocol::KStr;

use crate::consumer::TopicPartitionOffset;
use crate::group::TopicPartition;
use crate::record::ConsumerRecord;

/// How far one partition was consumed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Position {
    /// The next record to consume.
    pub(crate) offset: i64,
    pub(crate) leader_epoch: Option<i32>,
    pub(crate) metadata: KStr,
}

/// Offsets to commit, one for each partition: that of the *next* record to consume.
///
/// Made of a record, of records, or of positions:
///
/// ```
/// use millstream_consumer::{Offsets, TopicPartitionOffset};
///
/// let mut offsets = Offsets::new();
/// offsets.insert("orders", 0, 42);
/// offsets.note("orders", 0, "up to invoice 1042");
/// let same: Offsets = [TopicPartitionOffset { topic: "orders".into(), partition: 0, offset: 42 }].into_iter().collect();
/// assert_eq!(same.get("orders", 0), offsets.get("orders", 0));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Offsets {
    positions: BTreeMap<TopicPartition, Position>,
}

impl Offsets {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A record is consumed, and everything before it. Of several of one partition the last one counts, whichever is
    /// named first.
    pub fn record(&mut self, record: &ConsumerRecord) {
        let of = TopicPartition { topic: record.topic.clone(), partition: record.partition };
        let next = record.offset.saturating_add(1);
        let position = self.positions.entry(of).or_default();
        if next > position.offset {
            position.offset = next;
            position.leader_epoch = (record.leader_epoch >= 0).then_some(record.leader_epoch);
        }
    }

    /// The next record to consume of a partition. Replaces what was said of it before.
    pub fn insert(&mut self, topic: impl Into<KStr>, partition: i32, offset: i64) {
        let position = Position { offset, ..Default::default() };
        self.positions.insert(TopicPartition { topic: topic.into(), partition }, position);
    }

    /// The epoch of the leader that wrote the last record that was consumed, for a partition that is among these. It lets
    /// the broker tell whoever goes on from there whether the log was cut since.
    pub fn leader_epoch(&mut self, topic: impl Into<KStr>, partition: i32, epoch: i32) {
        if let Some(position) = self.positions.get_mut(&TopicPartition { topic: topic.into(), partition }) {
            position.leader_epoch = (epoch >= 0).then_some(epoch);
        }
    }

    /// A note that is kept beside the offset, for a partition that is among these. Brokers limit it, to 4096 bytes unless
    /// they are told otherwise.
    pub fn note(&mut self, topic: impl Into<KStr>, partition: i32, metadata: impl Into<KStr>) {
        if let Some(position) = self.positions.get_mut(&TopicPartition { topic: topic.into(), partition }) {
            position.metadata = metadata.into();
        }
    }

    /// The offset of a partition.
    #[must_use]
    pub fn get(&self, topic: &str, partition: i32) -> Option<i64> {
        self.positions.get(&TopicPartition::new(topic, partition)).map(|position| position.offset)
    }

    /// How many partitions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.positions.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// All of them, by topic and partition.
    pub fn offsets(&self) -> impl Iterator<Item = TopicPartitionOffset> {
        self.positions.iter().map(|(of, position)| TopicPartitionOffset {
            topic: of.topic.clone(),
            partition: of.partition,
            offset: position.offset,
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&TopicPartition, &Position)> {
        self.positions.iter()
    }

    pub(crate) fn contains(&self, partition: &TopicPartition) -> bool {
        self.positions.contains_key(partition)
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&TopicPartition) -> bool) {
        self.positions.retain(|partition, _| keep(partition));
    }

    pub(crate) fn set(&mut self, partition: TopicPartition, position: Position) {
        self.positions.insert(partition, position);
    }
}

impl From<&ConsumerRecord> for Offsets {
    fn from(record: &ConsumerRecord) -> Self {
        Self::from(std::slice::from_ref(record))
    }
}

impl From<&[ConsumerRecord]> for Offsets {
    fn from(records: &[ConsumerRecord]) -> Self {
        let mut offsets = Self::new();
        records.iter().for_each(|record| offsets.record(record));
        offsets
    }
}

impl From<&Vec<ConsumerRecord>> for Offsets {
    fn from(records: &Vec<ConsumerRecord>) -> Self {
        Self::from(&records[..])
    }
}

impl From<TopicPartitionOffset> for Offsets {
    fn from(offset: TopicPartitionOffset) -> Self {
        [offset].into_iter().collect()
    }
}

impl FromIterator<TopicPartitionOffset> for Offsets {
    fn from_iter<I: IntoIterator<Item = TopicPartitionOffset>>(offsets: I) -> Self {
        let mut all = Self::new();
        for TopicPartitionOffset { topic, partition, offset } in offsets {
            all.insert(topic, partition, offset);
        }
        all
    }
}
