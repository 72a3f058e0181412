//! Cooperative sticky: balanced, and nothing moves that can stay.
//!
//! Members keep what they have and may have; what is free goes to whoever has least; then whoever has most gives to
//! whoever has least, as long as that makes the two more alike. What another member still has is not given in this
//! round: its owner gives it up first, and the rebalance that follows hands it on.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::KStr;

use super::Demand;
use crate::group::rebalance::TopicPartition;

pub(super) fn assign(demand: &Demand) -> BTreeMap<KStr, BTreeSet<TopicPartition>> {
    let claims = Claims::of(demand);
    let mut table = Table::new(demand);
    let mut free = Vec::new();
    for partition in demand.partitions() {
        match claims.owner(&partition).filter(|owner| demand.wants(owner, &partition)) {
            Some(owner) => table.give(owner, partition),
            None => free.push(partition),
        }
    }
    // Those that fewest can have come first, while whoever can has room.
    free.sort_by_cached_key(|partition| (table.takers(&partition.topic).len(), partition.clone()));
    for partition in free {
        if let Some(least) = table.least_loaded(&partition.topic) {
            table.give(&least, partition);
        }
    }
    table.level(&claims);
    let mut assigned = table.assigned;
    for (id, partitions) in &mut assigned {
        partitions.retain(|partition| !claims.is_held_by_another(id, partition));
    }
    assigned
}

impl Demand {
    fn wants(&self, id: &KStr, partition: &TopicPartition) -> bool {
        self.members.get(id).is_some_and(|wish| wish.subscription.topics.contains(&partition.topic))
    }
}

/// Who says that it has what. Of several the latest generation is believed.
struct Claims {
    of: BTreeMap<TopicPartition, (i32, Vec<KStr>)>,
}

impl Claims {
    fn of(demand: &Demand) -> Self {
        let mut of: BTreeMap<TopicPartition, (i32, Vec<KStr>)> = BTreeMap::new();
        for (id, wish) in &demand.members {
            let generation = wish.subscription.generation;
            for partition in &wish.subscription.owned {
                let (latest, claimants) = of.entry(partition.clone()).or_insert((generation, Vec::new()));
                if generation > *latest {
                    *latest = generation;
                    claimants.clear();
                }
                if generation == *latest {
                    claimants.push(id.clone());
                }
            }
        }
        Self { of }
    }

    /// The one that has it; nobody if two say so.
    fn owner(&self, partition: &TopicPartition) -> Option<&KStr> {
        match self.of.get(partition) {
            Some((_, claimants)) if claimants.len() == 1 => claimants.first(),
            Some(_) | None => None,
        }
    }

    fn is_held_by_another(&self, id: &KStr, partition: &TopicPartition) -> bool {
        self.of.get(partition).is_some_and(|(_, claimants)| claimants.iter().any(|claimant| claimant != id))
    }
}

/// Who gets what.
struct Table<'a> {
    demand: &'a Demand,
    assigned: BTreeMap<KStr, BTreeSet<TopicPartition>>,
    /// For each topic the members that want it, the least loaded first.
    queues: BTreeMap<KStr, BTreeSet<(usize, KStr)>>,
}

impl<'a> Table<'a> {
    fn new(demand: &'a Demand) -> Self {
        let mut queues: BTreeMap<KStr, BTreeSet<(usize, KStr)>> = BTreeMap::new();
        for (id, wish) in &demand.members {
            for topic in &wish.subscription.topics {
                queues.entry(topic.clone()).or_default().insert((0, id.clone()));
            }
        }
        Self { demand, assigned: demand.nothing(), queues }
    }

    fn takers(&self, topic: &KStr) -> &BTreeSet<(usize, KStr)> {
        &self.queues[topic]
    }

    fn load(&self, id: &KStr) -> usize {
        self.assigned[id].len()
    }

    fn least_loaded(&self, topic: &KStr) -> Option<KStr> {
        self.takers(topic).first().map(|(_, id)| id.clone())
    }

    fn give(&mut self, id: &KStr, partition: TopicPartition) {
        self.change(id, |theirs| theirs.insert(partition));
    }

    fn take(&mut self, id: &KStr, partition: &TopicPartition) {
        self.change(id, |theirs| theirs.remove(partition));
    }

    fn change(&mut self, id: &KStr, change: impl FnOnce(&mut BTreeSet<TopicPartition>) -> bool) {
        let before = self.load(id);
        if let Some(theirs) = self.assigned.get_mut(id) {
            change(theirs);
        }
        let after = self.load(id);
        for topic in &self.demand.members[id].subscription.topics {
            if let Some(queue) = self.queues.get_mut(topic) {
                queue.remove(&(before, id.clone()));
                queue.insert((after, id.clone()));
            }
        }
    }

    /// Moves partitions from the fuller to the emptier until no move makes two members more alike. Each move brings the
    /// loads nearer to each other, so it ends.
    fn level(&mut self, claims: &Claims) {
        let ids: Vec<KStr> = self.assigned.keys().cloned().collect();
        loop {
            let mut givers: Vec<&KStr> = ids.iter().collect();
            givers.sort_by_key(|id| std::cmp::Reverse(self.load(id)));
            let Some((giver, taker, partition)) =
                givers.into_iter().find_map(|id| self.best_move(id, claims))
            else {
                return;
            };
            self.take(&giver, &partition);
            self.give(&taker, partition);
        }
    }

    /// What a member should give to whom: rather what it did not have before, which nobody has to give up.
    fn best_move(&self, giver: &KStr, claims: &Claims) -> Option<(KStr, KStr, TopicPartition)> {
        let load = self.load(giver);
        let to = |partition: &TopicPartition| {
            let (least, taker) = self.takers(&partition.topic).first()?;
            (load > least + 1).then(|| (*least, taker.clone()))
        };
        let moves = self.assigned[giver].iter().filter_map(|partition| Some((to(partition)?, partition)));
        let best = moves.min_by_key(|((least, _), partition)| {
            (*least, claims.owner(partition) == Some(giver), std::cmp::Reverse((*partition).clone()))
        });
        best.map(|((_, taker), partition)| (giver.clone(), taker, partition.clone()))
    }
}
