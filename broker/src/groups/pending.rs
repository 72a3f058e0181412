//! Offsets that a group committed inside transactions which have not ended: they count once their transaction is
//! committed, unless somebody has committed for the same partition since.

use millstream_log::ProducerId;
use millstream_protocol::{KStr, Uuid};

use super::offsets::{Committed, Offsets, Place};

/// An offset that waits for the end of its transaction.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PendingOffset {
    pub(crate) committed: Committed,
    /// Counts commits; the one that came last holds.
    pub(crate) order: u64,
    /// A later commit counts already: this one never will.
    pub(crate) is_superseded: bool,
}

/// What one group has committed in open transactions.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Pending {
    /// Few: those who write transactions for one group. Each is there once.
    by_producer: Vec<(ProducerId, Offsets<PendingOffset>)>,
}

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_producer.is_empty()
    }

    /// Takes over what a producer commits.
    pub(crate) fn set(
        &mut self,
        producer: ProducerId,
        place: Place<'_>,
        (committed, order): (Committed, u64),
    ) {
        let at = self.by_producer.iter().position(|(id, _)| *id == producer).unwrap_or_else(|| {
            self.by_producer.push((producer, Offsets::default()));
            self.by_producer.len() - 1
        });
        self.by_producer[at].1.set(place, PendingOffset { committed, order, is_superseded: false });
    }

    /// Whether an open transaction has committed for this partition.
    pub(crate) fn holds(&self, topic: &str, partition: i32) -> bool {
        let mut of_topic = self.by_producer.iter().filter_map(|(_, offsets)| offsets.topic(topic));
        of_topic.any(|topic| topic.get(partition).is_some())
    }

    /// A commit for this partition counts now: those before it never will.
    pub(crate) fn supersede(&mut self, topic: &str, partition: i32, before: u64) {
        for (_, offsets) in &mut self.by_producer {
            if let Some(pending) = offsets.get_mut(topic, partition) {
                pending.is_superseded |= pending.order < before;
            }
        }
    }

    /// A transaction has ended: what was committed in it.
    pub(crate) fn take(&mut self, producer: ProducerId) -> Offsets<PendingOffset> {
        match self.by_producer.iter().position(|(id, _)| *id == producer) {
            Some(at) => self.by_producer.swap_remove(at).1,
            None => Offsets::default(),
        }
    }

    /// Forgets what was committed for this partition; tells whether there was anything.
    pub(crate) fn remove(&mut self, topic: &str, partition: i32) -> bool {
        let mut is_removed = false;
        for (_, offsets) in &mut self.by_producer {
            is_removed |= offsets.remove(topic, partition);
        }
        self.by_producer.retain(|(_, offsets)| !offsets.is_empty());
        is_removed
    }

    /// Takes out the topics for which `goes` holds: their partitions, some more than once.
    pub(crate) fn take_topics(&mut self, mut goes: impl FnMut(&str, Uuid) -> bool) -> Vec<(KStr, i32)> {
        let taken =
            self.by_producer.iter_mut().flat_map(|(_, offsets)| offsets.take_topics(&mut goes)).collect();
        self.by_producer.retain(|(_, offsets)| !offsets.is_empty());
        taken
    }
}
