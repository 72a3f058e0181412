//! What a member has: which partitions the program reads, and which of them it is to give up.
//!
//! Pure. Each time a partition is given it gets a new serial, so that what is said about an earlier time (it was
//! released, it was committed for) is not taken for the present one.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::rebalance::TopicPartition;

/// Which time it is that a partition is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Serial(u64);

/// A partition that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) serial: Serial,
    /// It is to be given up, at the latest then.
    pub(crate) revoke_by: Option<Instant>,
}

/// The partitions that are held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Holdings {
    held: BTreeMap<TopicPartition, Held>,
    last: u64,
}

impl Holdings {
    pub(crate) fn get(&self, partition: &TopicPartition) -> Option<Held> {
        self.held.get(partition).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&TopicPartition, Held)> {
        self.held.iter().map(|(partition, held)| (partition, *held))
    }

    pub(crate) fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.held.keys()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(crate) fn is_revoking(&self) -> bool {
        self.held.values().any(|held| held.revoke_by.is_some())
    }

    /// Gives what is in the target and not held; what is held and not in the target is to be given up by then. Whether
    /// anything changed.
    pub(crate) fn follow(&mut self, target: &BTreeSet<TopicPartition>, by: Instant) -> bool {
        let mut has_changed = false;
        for (partition, held) in &mut self.held {
            if held.revoke_by.is_none() && !target.contains(partition) {
                held.revoke_by = Some(by);
                has_changed = true;
            }
        }
        for partition in target {
            if !self.held.contains_key(partition) {
                self.last += 1;
                let held = Held { serial: Serial(self.last), revoke_by: None };
                self.held.insert(partition.clone(), held);
                has_changed = true;
            }
        }
        has_changed
    }

    /// The program has given these up. Which of them it still had.
    pub(crate) fn release(&mut self, released: &[(TopicPartition, Serial)]) -> Vec<TopicPartition> {
        let mut gone = Vec::new();
        for (partition, serial) in released {
            if self.get(partition).is_some_and(|held| held.serial == *serial) {
                self.held.remove(partition);
                gone.push(partition.clone());
            }
        }
        gone
    }

    /// Takes away what was not given up in time.
    pub(crate) fn lose_late(&mut self, now: Instant) -> Vec<TopicPartition> {
        let is_late = |held: &Held| held.revoke_by.is_some_and(|by| by <= now);
        let late: Vec<_> = self.iter().filter(|(_, held)| is_late(held)).map(|(p, _)| p.clone()).collect();
        for partition in &late {
            self.held.remove(partition);
        }
        late
    }

    /// Takes everything away at once.
    pub(crate) fn lose_all(&mut self) -> Vec<TopicPartition> {
        std::mem::take(&mut self.held).into_keys().collect()
    }

    /// When something is late next.
    pub(crate) fn next_late(&self) -> Option<Instant> {
        self.held.values().filter_map(|held| held.revoke_by).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn set(partitions: &[i32]) -> BTreeSet<TopicPartition> {
        partitions.iter().map(|partition| TopicPartition::new("t", *partition)).collect()
    }

    #[test]
    fn a_release_of_an_earlier_time_does_not_take_the_present_one() {
        let by = Instant::now();
        let mut holdings = Holdings::default();
        holdings.follow(&set(&[0]), by);
        let first = holdings.get(&TopicPartition::new("t", 0)).unwrap().serial;
        holdings.lose_all();
        holdings.follow(&set(&[0]), by);
        let released = [(TopicPartition::new("t", 0), first)];
        assert!(holdings.release(&released).is_empty());
        assert!(holdings.get(&TopicPartition::new("t", 0)).is_some());
    }

    #[test]
    fn what_is_not_given_up_in_time_is_taken() {
        let now = Instant::now();
        let by = now + Duration::from_secs(1);
        let mut holdings = Holdings::default();
        holdings.follow(&set(&[0, 1]), by);
        assert!(holdings.follow(&set(&[1, 2]), by));
        assert!(!holdings.follow(&set(&[1, 2]), by), "told once is enough");
        assert_eq!(holdings.lose_late(now), []);
        assert_eq!(holdings.next_late(), Some(by));
        assert_eq!(holdings.lose_late(by), [TopicPartition::new("t", 0)]);
        assert_eq!(holdings.partitions().cloned().collect::<BTreeSet<_>>(), set(&[1, 2]));
    }
}
