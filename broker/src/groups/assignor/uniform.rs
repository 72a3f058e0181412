//! Uniform: members keep what they had and may still have; what is free goes to whoever has least; then whoever has
//! most gives to whoever has least, as long as that makes the two more alike.
//!
//! Where all want the same topics the result is balanced within one, and nothing moves that could have stayed: only
//! the fullest give, only the emptiest receive, and no receiver ever becomes a giver. Where subscriptions differ
//! nobody could give to another and both come nearer to each other.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::Uuid;

use super::Demand;
use crate::groups::consumer::partitions::Partitions;

pub(super) fn assign(demand: &Demand<'_>) -> Vec<Partitions> {
    let topics = demand.topics();
    let mut table = Table::new(demand);
    let free = table.keep(demand, &topics);
    table.hand_out(free);
    table.level();
    table.assigned
}

struct Table<'a> {
    demand: &'a Demand<'a>,
    assigned: Vec<Partitions>,
    loads: Vec<usize>,
    /// For each wish its members by load, so that the least loaded is found at once.
    queues: Vec<BTreeSet<(usize, usize)>>,
    /// The wishes that name a topic.
    wishes_of: BTreeMap<Uuid, Vec<usize>>,
}

impl<'a> Table<'a> {
    fn new(demand: &'a Demand<'a>) -> Self {
        let mut queues = vec![BTreeSet::new(); demand.wishes.len()];
        for (at, member) in demand.members.iter().enumerate() {
            queues[member.wish].insert((0, at));
        }
        let mut wishes_of: BTreeMap<Uuid, Vec<usize>> = BTreeMap::new();
        for (wish, topics) in demand.wishes.iter().enumerate() {
            for topic in topics {
                wishes_of.entry(*topic).or_default().push(wish);
            }
        }
        let count = demand.members.len();
        Self {
            demand,
            assigned: vec![Partitions::default(); count],
            loads: vec![0; count],
            queues,
            wishes_of,
        }
    }

    /// Gives back what members had, if they want it still and it is there still; what is left is free.
    fn keep(&mut self, demand: &Demand<'_>, topics: &BTreeMap<Uuid, i32>) -> Vec<(Uuid, i32)> {
        let mut taken = Partitions::default();
        for (at, member) in demand.members.iter().enumerate() {
            for (topic, partition) in member.before.iter() {
                let exists = topics.get(&topic).is_some_and(|count| (0..*count).contains(&partition));
                let is_wanted = demand.wishes[member.wish].contains(&topic);
                if exists && is_wanted && !taken.contains(topic, partition) {
                    taken.insert(topic, partition);
                    self.give(at, topic, partition);
                }
            }
        }
        let all = topics.iter().flat_map(|(topic, count)| (0..*count).map(|partition| (*topic, partition)));
        all.filter(|(topic, partition)| !taken.contains(*topic, *partition)).collect()
    }

    fn hand_out(&mut self, mut free: Vec<(Uuid, i32)>) {
        // Topics that few may have first: the others can still even it out.
        let choice = |topic: &Uuid| -> usize {
            self.wishes_of.get(topic).into_iter().flatten().map(|wish| self.queues[*wish].len()).sum()
        };
        free.sort_by_cached_key(|(topic, partition)| (choice(topic), *topic, *partition));
        for (topic, partition) in free {
            if let Some((_, member)) = self.emptiest(topic) {
                self.give(member, topic, partition);
            }
        }
    }

    fn level(&mut self) {
        loop {
            let mut moved = false;
            let fullest = |(member, load): (usize, &usize)| (Reverse(*load), member);
            let mut givers: BTreeSet<(Reverse<usize>, usize)> =
                self.loads.iter().enumerate().map(fullest).collect();
            while let Some((_, giver)) = givers.pop_first() {
                let Some(receiver) = self.give_one_away(giver) else { continue };
                moved = true;
                givers.insert((Reverse(self.loads[giver]), giver));
                if givers.remove(&(Reverse(self.loads[receiver] - 1), receiver)) {
                    givers.insert((Reverse(self.loads[receiver]), receiver));
                }
            }
            // Somebody who could not give may be able to now that another has less.
            if !moved {
                return;
            }
        }
    }

    /// Gives a partition to a member who has at least two fewer, and says to whom.
    fn give_one_away(&mut self, giver: usize) -> Option<usize> {
        let receivers = self.assigned[giver].topics().filter_map(|(topic, partitions)| {
            let (load, receiver) = self.emptiest(topic)?;
            Some((load, Reverse(partitions.len()), topic, receiver))
        });
        let (load, _, topic, receiver) = receivers.min()?;
        if load + 1 >= self.loads[giver] {
            return None;
        }
        let partition = self.assigned[giver].of_topic(topic)?.last().copied()?;
        self.assigned[giver].remove(topic, partition);
        self.set_load(giver, self.loads[giver] - 1);
        self.give(receiver, topic, partition);
        Some(receiver)
    }

    /// Load and number of the subscriber of a topic who has least.
    fn emptiest(&self, topic: Uuid) -> Option<(usize, usize)> {
        let wishes = self.wishes_of.get(&topic)?;
        wishes.iter().filter_map(|wish| self.queues[*wish].first().copied()).min()
    }

    fn give(&mut self, member: usize, topic: Uuid, partition: i32) {
        self.assigned[member].insert(topic, partition);
        self.set_load(member, self.loads[member] + 1);
    }

    fn set_load(&mut self, member: usize, load: usize) {
        let queue = &mut self.queues[self.demand.members[member].wish];
        queue.remove(&(self.loads[member], member));
        queue.insert((load, member));
        self.loads[member] = load;
    }
}
