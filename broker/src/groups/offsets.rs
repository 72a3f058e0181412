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

/// All offsets of a group.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Offsets {
    topics: Vec<TopicOffsets>,
}

/// The offsets of a group in one topic.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TopicOffsets {
    pub(crate) name: KStr,
    /// Nil if the record did not say.
    id: Uuid,
    partitions: Vec<(i32, Committed)>,
}

impl TopicOffsets {
    pub(crate) fn get(&self, partition: i32) -> Option<&Committed> {
        let at = self.partitions.binary_search_by_key(&partition, |(index, _)| *index).ok()?;
        Some(&self.partitions[at].1)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (i32, &Committed)> {
        self.partitions.iter().map(|(index, committed)| (*index, committed))
    }

    /// Whether these are offsets of a topic that is there, not of one that had its name before.
    pub(crate) fn is_current(&self, topics: &TopicView) -> bool {
        topics.named(&self.name).is_some_and(|facts| self.id.is_nil() || facts.id == self.id)
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

impl Offsets {
    pub(crate) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    pub(crate) fn topics(&self) -> &[TopicOffsets] {
        &self.topics
    }

    pub(crate) fn topic(&self, name: &str) -> Option<&TopicOffsets> {
        Some(&self.topics[self.find(name).ok()?])
    }

    /// Takes over an offset. Those of an earlier topic of the same name go.
    pub(crate) fn set(&mut self, place: Place<'_>, committed: Committed) {
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
            Ok(at) => topic.partitions[at].1 = committed,
            Err(at) => topic.partitions.insert(at, (partition, committed)),
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
    pub(crate) fn take(&mut self, mut goes: impl FnMut(&str, &Committed) -> bool) -> Vec<(KStr, i32)> {
        let mut taken = Vec::new();
        for topic in &mut self.topics {
            let name = &topic.name;
            let gone = topic.partitions.extract_if(.., |(_, committed)| goes(name, committed));
            taken.extend(gone.map(|(partition, _)| (name.clone(), partition)));
        }
        self.topics.retain(|topic| !topic.partitions.is_empty());
        taken
    }

    /// Takes out the topics for which `goes` holds.
    pub(crate) fn take_topics(&mut self, mut goes: impl FnMut(&TopicOffsets) -> bool) -> Vec<TopicOffsets> {
        self.topics.extract_if(.., |topic| goes(topic)).collect()
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
