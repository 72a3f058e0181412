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
    fingerprint: u64,
}

impl TopicView {
    pub(crate) fn of(topics: impl IntoIterator<Item = (KStr, TopicFacts)>) -> Self {
        let by_name: BTreeMap<KStr, TopicFacts> = topics.into_iter().collect();
        let by_id = by_name.iter().map(|(name, facts)| (facts.id, name.clone())).collect();
        let fingerprint = fingerprint(by_name.iter().map(|(name, facts)| (name, *facts)));
        Self { by_name, by_id, fingerprint }
    }

    /// Another number if there are other topics, or a topic has other partitions.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// All names, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &KStr> {
        self.by_name.keys()
    }

    pub(crate) fn named(&self, name: &str) -> Option<TopicFacts> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn identified(&self, id: Uuid) -> Option<&KStr> {
        self.by_id.get(&id)
    }

    /// Whether there is a topic of this name, and it is the one with this id: not one that had the name before. Nil stands
    /// for an id that is not known.
    pub(crate) fn has(&self, name: &str, id: Uuid) -> bool {
        self.named(name).is_some_and(|facts| id.is_nil() || facts.id == id)
    }

    /// Whether `other` lacks a topic that is here.
    pub(crate) fn has_more_than(&self, other: &Self) -> bool {
        self.by_id.keys().any(|id| !other.by_id.contains_key(id))
    }
}

/// A number for a choice of topics: FNV-1a over names, ids and counts of partitions. It is stored with groups, hence it is
/// the same in every process.
pub(crate) fn fingerprint<'a>(topics: impl Iterator<Item = (&'a KStr, TopicFacts)>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for (name, facts) in topics {
        add(name.as_bytes());
        add(facts.id.as_bytes());
        add(&facts.partitions.to_be_bytes());
    }
    hash
}
