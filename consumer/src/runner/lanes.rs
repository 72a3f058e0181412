//! What has to wait for what: the records of one lane are worked on one after the other.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use crate::record::ConsumerRecord;

/// Which records wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Key,
    Partition,
    None,
}

/// Names the time during which a partition is read without a break. What returns late from an earlier one is
/// nobody's any more.
pub(crate) type Tenure = u64;

/// A lane. Two keys may share one, and then wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Lane {
    tenure: Tenure,
    key: u64,
}

/// Lanes in which something is under way, and what waits in them. A pure part.
#[derive(Debug)]
pub(crate) struct Lanes<J> {
    order: Order,
    hasher: RandomState,
    waiting: HashMap<Lane, VecDeque<J>>,
}

impl<J> Lanes<J> {
    pub(crate) fn new(order: Order) -> Self {
        Self { order, hasher: RandomState::new(), waiting: HashMap::new() }
    }

    /// The lane of a record. A record without a key waits for none.
    pub(crate) fn of(&self, tenure: Tenure, record: &ConsumerRecord) -> Option<Lane> {
        let key = match self.order {
            Order::Key => self.hasher.hash_one(record.key.as_ref()?),
            Order::Partition => 0,
            Order::None => return None,
        };
        Some(Lane { tenure, key })
    }

    /// Takes a job into its lane. Gives it back if it need not wait.
    pub(crate) fn enter(&mut self, lane: Option<Lane>, job: J) -> Option<J> {
        let Some(lane) = lane else { return Some(job) };
        match self.waiting.get_mut(&lane) {
            Some(waiting) => {
                waiting.push_back(job);
                None
            }
            None => {
                self.waiting.insert(lane, VecDeque::new());
                Some(job)
            }
        }
    }

    /// The job that was under way in a lane is done: what comes next?
    pub(crate) fn leave(&mut self, lane: Option<Lane>) -> Option<J> {
        let waiting = self.waiting.get_mut(&lane?)?;
        let next = waiting.pop_front();
        if next.is_none() {
            self.waiting.remove(&lane?);
        }
        next
    }

    /// Takes out everything that waits in the lanes of a tenure.
    pub(crate) fn close(&mut self, tenure: Tenure) -> Vec<J> {
        let closed = self.waiting.extract_if(|lane, _| lane.tenure == tenure);
        closed.flat_map(|(_, waiting)| waiting).collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use millstream_protocol::KStr;

    use super::*;

    fn record(key: Option<&'static str>, offset: i64) -> ConsumerRecord {
        ConsumerRecord {
            topic: KStr::from("t"),
            partition: 0,
            offset,
            timestamp: 0,
            key: key.map(Bytes::from),
            value: None,
            headers: Vec::new(),
            leader_epoch: 0,
        }
    }

    #[test]
    fn equal_keys_wait_for_each_other_and_others_do_not() {
        let mut lanes = Lanes::new(Order::Key);
        let a = lanes.of(1, &record(Some("a"), 0));
        let b = lanes.of(1, &record(Some("b"), 0));
        let none = lanes.of(1, &record(None, 0));
        assert_eq!((lanes.enter(a, 1), lanes.enter(a, 2), lanes.enter(a, 3)), (Some(1), None, None));
        assert_eq!(
            (lanes.enter(b, 4), lanes.enter(none, 5), lanes.enter(none, 6)),
            (Some(4), Some(5), Some(6))
        );
        assert_eq!((lanes.leave(a), lanes.leave(a), lanes.leave(a)), (Some(2), Some(3), None));
        assert_eq!((lanes.enter(a, 7), lanes.leave(none)), (Some(7), None));
    }

    #[test]
    fn a_partition_that_is_read_anew_has_lanes_of_its_own() {
        let mut lanes = Lanes::new(Order::Partition);
        let old = lanes.of(1, &record(Some("a"), 0));
        assert_eq!(old, lanes.of(1, &record(Some("b"), 1)));
        let new = lanes.of(2, &record(Some("a"), 0));
        assert_eq!((lanes.enter(old, 1), lanes.enter(old, 2), lanes.enter(new, 3)), (Some(1), None, Some(3)));
        assert_eq!(lanes.close(1), [2]);
        assert_eq!((lanes.leave(old), lanes.leave(new)), (None, None));
    }
}
