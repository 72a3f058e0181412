//! Range: each topic by itself, a contiguous range for each member that wants it; the first ones get one more where it
//! does not come out even.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::KStr;

use super::Demand;
use crate::group::rebalance::TopicPartition;

pub(super) fn assign(demand: &Demand) -> BTreeMap<KStr, BTreeSet<TopicPartition>> {
    let mut assigned = demand.nothing();
    let members = demand.in_order();
    for (topic, count) in &demand.topics {
        let takers = members.iter().filter(|(_, wish)| wish.subscription.topics.contains(topic));
        let takers: Vec<&KStr> = takers.map(|(id, _)| *id).collect();
        let Some(each) = usize::try_from(*count).ok().and_then(|count| count.checked_div(takers.len()))
        else {
            continue;
        };
        let more = *count as usize % takers.len();
        let mut next = 0..*count;
        for (place, id) in takers.into_iter().enumerate() {
            let share = each + usize::from(place < more);
            let theirs = next.by_ref().take(share);
            let theirs = theirs.map(|partition| TopicPartition { topic: topic.clone(), partition });
            assigned.entry(id.clone()).or_default().extend(theirs);
        }
    }
    assigned
}
