//! The committed offsets of one group, by topic and partition.
//!
//! Sorted vectors: most groups have a topic or two, and a million offsets have to fit in memory.

use millstream_protocol::messages::OffsetCommitValue;
use millstream_protocol::{KStr, Uuid};

use super::topic_view::TopicView;

/// How far a group has come in one partition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: KStr,
    /// By the wall clock.
    pub(crate) committed_ms: i64,
}

/// All offsets of a group, or what else there is of each.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Offsets<V = Committed> {
    topics: Vec<TopicOffsets<V>>,
}

/// The offsets of a group in one topic.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TopicOffsets<V = Committed> {
    pub(crate) name: KStr,
    /// Nil if the record did not say.
    id: Uuid,
    partitions: Vec<(i32, V)>,
}

impl<V> Default for Offsets<V> {
    fn default() -> Self {
        Self { topics: Vec::new() }
    }
}

impl<V> TopicOffsets<V> {
    pub(crate) fn get(&self, partition: i32) -> Option<&V> {
        let at = self.partitions.binary_search_by_key(&partition, |(index, _)| *index).ok()?;
        Some(&self.partitions[at].1)
    }

    /// Nil if it is not known.
    pub(crate) fn id(&self) -> Uuid {
        self.id
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (i32, &V)> {
        self.partitions.iter().map(|(index, held)| (*index, held))
    }

    /// Whether these are offsets of a topic that is there, not of one that had its name before.
    pub(crate) fn is_current(&self, topics: &TopicView) -> bool {
        topics.has(&self.name, self.id)
    }
}

/// Which partition an offset is of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) topic: &'a KStr,
    /// Nil if it is not known.
    pub(crate) topic_id: Uuid,
    pub(crate) partition: i32,
}

impl<V> Offsets<V> {
    pub(crate) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    pub(crate) fn topics(&self) -> &[TopicOffsets<V>] {
        &self.topics
    }

    pub(crate) fn topic(&self, name: &str) -> Option<&TopicOffsets<V>> {
        Some(&self.topics[self.find(name).ok()?])
    }

    pub(crate) fn get_mut(&mut self, topic: &str, partition: i32) -> Option<&mut V> {
        let topic = self.find(topic).ok()?;
        let partitions = &mut self.topics[topic].partitions;
        let at = partitions.binary_search_by_key(&partition, |(index, _)| *index).ok()?;
        Some(&mut partitions[at].1)
    }

    /// Takes over an offset. Those of an earlier topic of the same name go.
    pub(crate) fn set(&mut self, place: Place<'_>, held: V) {
        let Place { topic, topic_id, partition } = place;
        let at = self.find(topic).unwrap_or_else(|at| {
            let name = topic.detach();
            self.topics.insert(at, TopicOffsets { name, id: topic_id, partitions: Vec::new() });
            at
        });
        let topic = &mut self.topics[at];
        if !topic_id.is_nil() && topic.id != topic_id {
            if !topic.id.is_nil() {
                topic.partitions.clear();
            }
            topic.id = topic_id;
        }
        match topic.partitions.binary_search_by_key(&partition, |(index, _)| *index) {
            Ok(at) => topic.partitions[at].1 = held,
            Err(at) => topic.partitions.insert(at, (partition, held)),
        }
    }

    /// Forgets an offset; tells whether there was one.
    pub(crate) fn remove(&mut self, topic: &str, partition: i32) -> bool {
        let Ok(at) = self.find(topic) else { return false };
        let partitions = &mut self.topics[at].partitions;
        let Ok(place) = partitions.binary_search_by_key(&partition, |(index, _)| *index) else {
            return false;
        };
        partitions.remove(place);
        if partitions.is_empty() {
            self.topics.remove(at);
        }
        true
    }

    /// Takes out the offsets for which `goes` holds.
    pub(crate) fn take(&mut self, mut goes: impl FnMut(&str, i32, &V) -> bool) -> Vec<(KStr, i32)> {
        let mut taken = Vec::new();
        for topic in &mut self.topics {
            let name = &topic.name;
            let gone = topic.partitions.extract_if(.., |(partition, held)| goes(name, *partition, held));
            taken.extend(gone.map(|(partition, _)| (name.clone(), partition)));
        }
        self.topics.retain(|topic| !topic.partitions.is_empty());
        taken
    }

    /// Takes out the topics for which `goes` holds: their partitions.
    pub(crate) fn take_topics(&mut self, mut goes: impl FnMut(&str, Uuid) -> bool) -> Vec<(KStr, i32)> {
        let gone = self.topics.extract_if(.., |topic| goes(&topic.name, topic.id));
        let places = |topic: TopicOffsets<V>| {
            topic.partitions.into_iter().map(move |(partition, _)| (topic.name.clone(), partition))
        };
        gone.flat_map(places).collect()
    }

    fn find(&self, topic: &str) -> Result<usize, usize> {
        self.topics.binary_search_by(|held| held.name.as_str().cmp(topic))
    }
}

impl Committed {
    /// What is stored of it.
    pub(crate) fn value(&self, topic_id: Uuid) -> OffsetCommitValue {
        OffsetCommitValue {
            offset: self.offset,
            leader_epoch: self.leader_epoch,
            metadata: self.metadata.clone(),
            commit_timestamp: self.committed_ms,
            topic_id,
            ..OffsetCommitValue::default()
        }
    }

    /// What was stored of it.
    pub(crate) fn of(value: &OffsetCommitValue) -> Self {
        Self {
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: if value.metadata.is_empty() { KStr::default() } else { value.metadata.detach() },
            committed_ms: value.commit_timestamp,
        }
    }
}
