//! How the leader of a classic group shares out partitions.
//!
//! Pure: what members want and have goes in, with the sizes of topics; what each gets comes out. Names and results of
//! range and round-robin are those of Kafka's, so that a group may have members and leaders of other kinds; of the
//! sticky one the name and the promises are.

mod range;
mod round_robin;
mod sticky;

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::KStr;

use super::rebalance::TopicPartition;
use super::wire::MemberSubscription;

/// How the partitions of a classic group are shared out among its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Assignor {
    /// Balanced over all topics, and nothing moves that can stay. A rebalance takes from members only what they are to
    /// give up; everything else is read on meanwhile (cooperative rebalancing, KIP-429). Kafka's name for it is
    /// `cooperative-sticky`.
    CooperativeSticky,
    /// The partitions of each topic in contiguous ranges. A rebalance takes everything from everybody. Kafka: `range`.
    Range,
    /// All partitions of all topics in turn. A rebalance takes everything from everybody. Kafka: `roundrobin`.
    RoundRobin,
}

impl Assignor {
    /// The name by which members agree on it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CooperativeSticky => "cooperative-sticky",
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
        }
    }

    /// Whether members keep what they have through a rebalance.
    pub(crate) fn is_cooperative(self) -> bool {
        match self {
            Self::CooperativeSticky => true,
            Self::Range | Self::RoundRobin => false,
        }
    }

    /// Shares out all partitions of the topics that anybody wants.
    pub(crate) fn assign(self, demand: &Demand) -> BTreeMap<KStr, BTreeSet<TopicPartition>> {
        match self {
            Self::CooperativeSticky => sticky::assign(demand),
            Self::Range => range::assign(demand),
            Self::RoundRobin => round_robin::assign(demand),
        }
    }
}

/// A member, as the leader knows it.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) instance_id: Option<KStr>,
    pub(crate) subscription: MemberSubscription,
}

/// What there is to share out, and among whom.
#[derive(Debug, Clone, Default)]
pub(crate) struct Demand {
    /// By member id.
    pub(crate) members: BTreeMap<KStr, Wish>,
    /// How many partitions there are of each topic that exists.
    pub(crate) topics: BTreeMap<KStr, i32>,
}

impl Demand {
    /// The topics that anybody wants.
    pub(crate) fn wanted(&self) -> BTreeSet<KStr> {
        self.members.values().flat_map(|wish| wish.subscription.topics.iter().cloned()).collect()
    }

    /// The members in the order in which Kafka's assignors take them: those with a name of their own first.
    fn in_order(&self) -> Vec<(&KStr, &Wish)> {
        let mut members: Vec<_> = self.members.iter().collect();
        members.sort_by_key(|(id, wish)| match &wish.instance_id {
            Some(instance) => (0, instance.clone()),
            None => (1, (*id).clone()),
        });
        members
    }

    /// Nobody has anything yet.
    fn nothing(&self) -> BTreeMap<KStr, BTreeSet<TopicPartition>> {
        self.members.keys().map(|id| (id.clone(), BTreeSet::new())).collect()
    }

    /// All partitions that anybody wants, by topic and number.
    fn partitions(&self) -> Vec<TopicPartition> {
        let wanted = self.wanted();
        let of_topic = |(topic, count): (&KStr, &i32)| {
            let topic = topic.clone();
            (0..*count).map(move |partition| TopicPartition { topic: topic.clone(), partition })
        };
        self.topics.iter().filter(|(topic, _)| wanted.contains(*topic)).flat_map(of_topic).collect()
    }
}

#[cfg(test)]
mod tests;
