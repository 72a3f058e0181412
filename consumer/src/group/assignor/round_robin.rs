//! Round-robin: all partitions of all topics in turn, each to the next member that wants its topic.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::KStr;

use super::Demand;
use crate::group::rebalance::TopicPartition;

pub(super) fn assign(demand: &Demand) -> BTreeMap<KStr, BTreeSet<TopicPartition>> {
    let mut assigned = demand.nothing();
    let members = demand.in_order();
    let mut turn = 0;
    for partition in demand.partitions() {
        // Somebody wants it, or it would not be among these.
        while !members[turn % members.len()].1.subscription.topics.contains(&partition.topic) {
            turn += 1;
        }
        let id = members[turn % members.len()].0;
        assigned.entry(id.clone()).or_default().insert(partition);
        turn += 1;
    }
    assigned
}
