//! Ranges: of each topic the first member gets the first partitions, the next those that follow. Members go by
//! instance id, then by member id, so that restarts of static members change nothing.

use std::cmp::Ordering;

use super::{Demand, Wanting};
use crate::groups::consumer::partitions::Partitions;

pub(super) fn assign(demand: &Demand<'_>) -> Vec<Partitions> {
    let mut assigned = vec![Partitions::default(); demand.members.len()];
    let mut order: Vec<usize> = (0..demand.members.len()).collect();
    order.sort_by(|a, b| by_instance_then_id(&demand.members[*a], &demand.members[*b]));
    for (topic, count) in demand.topics() {
        let wants = |member: &usize| demand.wishes[demand.members[*member].wish].contains(&topic);
        let subscribers: Vec<usize> = order.iter().copied().filter(wants).collect();
        let mut next = 0;
        for (at, member) in subscribers.iter().enumerate() {
            let end = end_of_range(count, subscribers.len(), at);
            for partition in next..end {
                assigned[*member].insert(topic, partition);
            }
            next = end;
        }
    }
    assigned
}

/// Where the range of subscriber `at` ends: the first ones get one more where it does not come out even.
fn end_of_range(count: i32, subscribers: usize, at: usize) -> i32 {
    let subscribers = i32::try_from(subscribers).expect("a group has far fewer members");
    let taken = i32::try_from(at + 1).expect("a group has far fewer members");
    let (each, more) = (count / subscribers, count % subscribers);
    each * taken + taken.min(more)
}

fn by_instance_then_id(a: &Wanting<'_>, b: &Wanting<'_>) -> Ordering {
    match (a.instance_id, b.instance_id) {
        (Some(a), Some(b)) => a.cmp(b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.member_id.cmp(b.member_id),
    }
}
