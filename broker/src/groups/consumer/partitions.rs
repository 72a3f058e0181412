//! Sets of partitions: what a member should have, and what it has.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::Uuid;

/// Partitions by topic; no topic is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Partitions(BTreeMap<Uuid, BTreeSet<i32>>);

impl Partitions {
    pub(crate) fn insert(&mut self, topic: Uuid, partition: i32) {
        self.0.entry(topic).or_default().insert(partition);
    }

    pub(crate) fn remove(&mut self, topic: Uuid, partition: i32) {
        if let Some(partitions) = self.0.get_mut(&topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                self.0.remove(&topic);
            }
        }
    }

    pub(crate) fn contains(&self, topic: Uuid, partition: i32) -> bool {
        self.0.get(&topic).is_some_and(|partitions| partitions.contains(&partition))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }

    /// By topic.
    pub(crate) fn topics(&self) -> impl Iterator<Item = (Uuid, &BTreeSet<i32>)> {
        self.0.iter().map(|(topic, partitions)| (*topic, partitions))
    }

    pub(crate) fn of_topic(&self, topic: Uuid) -> Option<&BTreeSet<i32>> {
        self.0.get(&topic)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Uuid, i32)> {
        self.topics()
            .flat_map(|(topic, partitions)| partitions.iter().map(move |partition| (topic, *partition)))
    }
}

impl FromIterator<(Uuid, i32)> for Partitions {
    fn from_iter<I: IntoIterator<Item = (Uuid, i32)>>(all: I) -> Self {
        let mut partitions = Self::default();
        for (topic, partition) in all {
            partitions.insert(topic, partition);
        }
        partitions
    }
}

/// Partitions that a member holds, each with the epoch at which it was given to it: a commit that was sent under
/// an epoch between that one and the member's own is no zombie's (KIP-1251).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held(BTreeMap<Uuid, BTreeMap<i32, i32>>);

impl Held {
    pub(crate) fn insert(&mut self, topic: Uuid, partition: i32, epoch: i32) {
        self.0.entry(topic).or_default().insert(partition, epoch);
    }

    /// The epoch at which the partition was given, if it is held.
    pub(crate) fn epoch(&self, topic: Uuid, partition: i32) -> Option<i32> {
        self.0.get(&topic)?.get(&partition).copied()
    }

    pub(crate) fn contains(&self, topic: Uuid, partition: i32) -> bool {
        self.epoch(topic, partition).is_some()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// By topic, with epochs.
    pub(crate) fn topics(&self) -> impl Iterator<Item = (Uuid, &BTreeMap<i32, i32>)> {
        self.0.iter().map(|(topic, partitions)| (*topic, partitions))
    }

    /// Topic, partition and epoch.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Uuid, i32, i32)> {
        self.topics().flat_map(|(topic, partitions)| {
            partitions.iter().map(move |(partition, epoch)| (topic, *partition, *epoch))
        })
    }

    /// All of `partitions`, given at `epoch`.
    pub(crate) fn given(partitions: &Partitions, epoch: i32) -> Self {
        partitions.iter().map(|(topic, partition)| (topic, partition, epoch)).collect()
    }

    /// Whether both hold the same partitions, whatever the epochs.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        let keys =
            |held: &Self| held.iter().map(|(topic, partition, _)| (topic, partition)).collect::<Vec<_>>();
        keys(self) == keys(other)
    }

    pub(crate) fn partitions(&self) -> Partitions {
        self.iter().map(|(topic, partition, _)| (topic, partition)).collect()
    }
}

impl FromIterator<(Uuid, i32, i32)> for Held {
    fn from_iter<I: IntoIterator<Item = (Uuid, i32, i32)>>(all: I) -> Self {
        let mut held = Self::default();
        for (topic, partition, epoch) in all {
            held.insert(topic, partition, epoch);
        }
        held
    }
}
