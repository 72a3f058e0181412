//! The topics as groups see them: names, ids and counts of partitions at one moment.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;
use millstream_protocol::{KStr, Uuid};

/// One topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TopicFacts {
    pub(crate) id: Uuid,
    pub(crate) partitions: i32,
}

impl TopicFacts {
    /// Whether there is a partition of this number.
    pub(crate) fn has(&self, partition: i32) -> bool {
        (0..self.partitions).contains(&partition)
    }
}

/// All topics.
#[derive(Clone, Debug, Default)]
pub(crate) struct TopicView {
    by_name: BTreeMap<KStr, TopicFacts>,
    by_id: HashMap<Uuid, KStr, RandomState>,
}

impl TopicView {
    pub(crate) fn of(topics: impl IntoIterator<Item = (KStr, TopicFacts)>) -> Self {
        let by_name: BTreeMap<KStr, TopicFacts> = topics.into_iter().collect();
        let by_id = by_name.iter().map(|(name, facts)| (facts.id, name.clone())).collect();
        Self { by_name, by_id }
    }

    pub(crate) fn named(&self, name: &str) -> Option<TopicFacts> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn identified(&self, id: Uuid) -> Option<&KStr> {
        self.by_id.get(&id)
    }

    /// Whether `other` lacks a topic that is here.
    pub(crate) fn has_more_than(&self, other: &Self) -> bool {
        self.by_id.keys().any(|id| !other.by_id.contains_key(id))
    }
}
