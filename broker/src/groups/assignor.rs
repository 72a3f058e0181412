//! Who is to read what: the assignors that run in the broker (KIP-848). Pure functions of a group's subscriptions,
//! the partitions of their topics, and what the members were to have before.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::{KStr, Uuid};

use super::consumer::partitions::Partitions;

mod range;
mod uniform;

#[cfg(test)]
mod tests;

/// An assignor by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Assignor {
    /// As many partitions for each member, whatever the topic; a member keeps what it has.
    Uniform,
    /// Of each topic one range for each member, so that equal partitions of topics come together.
    Range,
}

impl Assignor {
    /// All there are.
    pub(crate) const ALL: [Self; 2] = [Self::Uniform, Self::Range];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// What each member is to have, in the order of `demand.members`. Each partition of a topic that has a
    /// subscriber goes to exactly one.
    pub(crate) fn assign(self, demand: &Demand<'_>) -> Vec<Partitions> {
        match self {
            Self::Uniform => uniform::assign(demand),
            Self::Range => range::assign(demand),
        }
    }
}

/// Who wants what.
#[derive(Debug, Default)]
pub(crate) struct Demand<'a> {
    /// The different sets of topics that members want. Members who want the same share one.
    pub(crate) wishes: Vec<BTreeSet<Uuid>>,
    pub(crate) members: Vec<Wanting<'a>>,
    /// How many partitions each topic has; what is not here has none.
    pub(crate) partition_counts: BTreeMap<Uuid, i32>,
}

/// A member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanting<'a> {
    pub(crate) member_id: &'a KStr,
    pub(crate) instance_id: Option<&'a KStr>,
    /// Its set of topics in `wishes`.
    pub(crate) wish: usize,
    /// What it was to have before.
    pub(crate) before: &'a Partitions,
}

impl Demand<'_> {
    /// Wanted topics that have partitions, with their number.
    fn topics(&self) -> BTreeMap<Uuid, i32> {
        let wanted = self.wishes.iter().flatten();
        wanted.filter_map(|topic| Some((*topic, *self.partition_counts.get(topic)?))).collect()
    }
}
