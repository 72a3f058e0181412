//! What is known of a cluster: brokers, topics, who leads which partition.
//!
//! A snapshot that never changes; a refresh puts another one in its place. Knows how an answer is merged into
//! it, not when to ask.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use millstream_protocol::messages::MetadataResponse;
use millstream_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use millstream_protocol::{ErrorCode, KStr, Uuid};
use tokio::time::Instant;

use crate::address::Address;
use crate::error::known;

/// The number of a broker within its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BrokerId(pub i32);

impl fmt::Display for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerMetadata {
    /// Its number.
    pub id: BrokerId,
    /// Where it says that it can be reached.
    pub host: KStr,
    /// Its port.
    pub port: u16,
    /// Where it stands, if it says so.
    pub rack: Option<KStr>,
}

impl BrokerMetadata {
    /// Host and port.
    #[must_use]
    pub fn address(&self) -> Address {
        Address::new(&*self.host, self.port)
    }
}

/// One topic.
#[derive(Debug, Clone)]
pub struct TopicMetadata {
    /// Its name.
    pub name: KStr,
    /// Its id; nil if the broker is too old to have ids.
    pub id: Uuid,
    /// Whether it belongs to the brokers themselves.
    pub is_internal: bool,
    /// Its partitions by number, without gaps.
    pub partitions: Vec<PartitionMetadata>,
    pub(crate) fetched_at: Instant,
}

impl TopicMetadata {
    /// The partition of this number.
    #[must_use]
    pub fn partition(&self, index: i32) -> Option<&PartitionMetadata> {
        self.partitions.get(usize::try_from(index).ok()?)
    }
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartitionMetadata {
    /// Its number.
    pub index: i32,
    /// Who leads it, if anybody does at the moment.
    pub leader: Option<BrokerId>,
    /// Rises with every change of leader; -1 if the broker is too old to tell.
    pub leader_epoch: i32,
    /// Brokers that hold a copy.
    pub replicas: Vec<BrokerId>,
    /// Those among them that are in sync.
    pub isr: Vec<BrokerId>,
    /// Those among them that are offline.
    pub offline: Vec<BrokerId>,
}

/// A cluster as it was when last asked.
#[derive(Debug, Clone, Default)]
pub struct ClusterMetadata {
    /// Its id.
    pub cluster_id: Option<KStr>,
    /// The broker to send administrative requests to.
    pub controller: Option<BrokerId>,
    /// The brokers, by number.
    pub brokers: Vec<BrokerMetadata>,
    topics: HashMap<KStr, Arc<TopicMetadata>>,
}

impl ClusterMetadata {
    /// A topic, if it has been asked for and exists.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicMetadata>> {
        self.topics.get(name)
    }

    /// The topics that have been asked for, in no particular order.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicMetadata>> {
        self.topics.values()
    }

    /// A broker of the cluster.
    #[must_use]
    pub fn broker(&self, id: BrokerId) -> Option<&BrokerMetadata> {
        self.brokers.iter().find(|broker| broker.id == id)
    }

    /// This snapshot, brought up to date by an answer. Topics that the answer does not mention stay.
    pub(crate) fn merge(&self, answer: &MetadataResponse, fetched_at: Instant) -> Self {
        let mut topics = self.topics.clone();
        for topic in &answer.topics {
            let Some(name) = &topic.name else { continue };
            if known(topic.error_code) == ErrorCode::None {
                let merged = merge_topic(topic, topics.get(name), fetched_at);
                topics.insert(merged.name.clone(), Arc::new(merged));
            } else if is_gone(known(topic.error_code)) {
                topics.remove(name);
            }
        }
        let mut brokers: Vec<_> = answer.brokers.iter().map(broker).collect();
        brokers.sort_unstable_by_key(|broker| broker.id);
        Self {
            cluster_id: answer.cluster_id.as_ref().map(KStr::detach),
            controller: broker_id(answer.controller_id),
            brokers,
            topics,
        }
    }

    /// This snapshot without what it knows of a topic.
    pub(crate) fn without(&self, topic: &str) -> Self {
        let mut changed = self.clone();
        changed.topics.remove(topic);
        changed
    }
}

/// Errors after which what we knew of the topic is wrong, as opposed to not known for the moment.
fn is_gone(code: ErrorCode) -> bool {
    !code.is_retriable() || code == ErrorCode::UnknownTopicOrPartition || code == ErrorCode::UnknownTopicId
}

fn merge_topic(
    topic: &MetadataResponseTopic,
    before: Option<&Arc<TopicMetadata>>,
    fetched_at: Instant,
) -> TopicMetadata {
    let before = before.filter(|before| before.id == topic.topic_id);
    let mut partitions: Vec<_> = topic.partitions.iter().map(partition).collect();
    partitions.sort_unstable_by_key(|partition| partition.index);
    // Numbers are positions from here on; a gap would shift them.
    partitions.dedup_by_key(|partition| partition.index);
    let dense = partitions.iter().zip(0..).take_while(|(partition, index)| partition.index == *index).count();
    partitions.truncate(dense);
    for partition in &mut partitions {
        // A broker that lags behind must not lead us back to a leader that has been replaced (KIP-320).
        if let Some(before) = before.and_then(|before| before.partition(partition.index))
            && partition.leader_epoch >= 0
            && before.leader_epoch > partition.leader_epoch
        {
            partition.clone_from(before);
        }
    }
    TopicMetadata {
        name: topic.name.as_ref().map(KStr::detach).unwrap_or_default(),
        id: topic.topic_id,
        is_internal: topic.is_internal,
        partitions,
        fetched_at,
    }
}

fn partition(partition: &MetadataResponsePartition) -> PartitionMetadata {
    let brokers = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
    PartitionMetadata {
        index: partition.partition_index,
        leader: broker_id(partition.leader_id),
        leader_epoch: partition.leader_epoch,
        replicas: brokers(&partition.replica_nodes),
        isr: brokers(&partition.isr_nodes),
        offline: brokers(&partition.offline_replicas),
    }
}

fn broker(broker: &MetadataResponseBroker) -> BrokerMetadata {
    BrokerMetadata {
        id: BrokerId(broker.node_id),
        host: broker.host.detach(),
        port: u16::try_from(broker.port).unwrap_or_default(),
        rack: broker.rack.as_ref().map(KStr::detach),
    }
}

pub(crate) fn broker_id(id: i32) -> Option<BrokerId> {
    (id >= 0).then_some(BrokerId(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(name: &str, code: i16, epochs: &[i32]) -> MetadataResponse {
        let partitions = epochs.iter().zip(0..).map(|(epoch, index)| MetadataResponsePartition {
            partition_index: index,
            leader_id: *epoch,
            leader_epoch: *epoch,
            ..Default::default()
        });
        let topic = MetadataResponseTopic {
            error_code: code,
            name: Some(KStr::from(name)),
            partitions: partitions.collect(),
            ..Default::default()
        };
        MetadataResponse { topics: vec![topic], ..Default::default() }
    }

    #[test]
    fn an_answer_that_lags_behind_does_not_bring_an_old_leader_back() {
        let now = Instant::now();
        let first = ClusterMetadata::default().merge(&answer("t", 0, &[5, 5]), now);
        let second = first.merge(&answer("t", 0, &[4, 6]), now);
        let leaders: Vec<_> = second.topic("t").unwrap().partitions.iter().map(|p| p.leader).collect();
        assert_eq!(leaders, [Some(BrokerId(5)), Some(BrokerId(6))]);
    }

    #[test]
    fn a_deleted_topic_is_forgotten_and_a_busy_one_is_not() {
        let now = Instant::now();
        let first = ClusterMetadata::default().merge(&answer("t", 0, &[1]), now);
        let busy = ErrorCode::LeaderNotAvailable.code();
        assert!(first.merge(&answer("t", busy, &[]), now).topic("t").is_some());
        let gone = ErrorCode::UnknownTopicOrPartition.code();
        assert!(first.merge(&answer("t", gone, &[]), now).topic("t").is_none());
    }
}
