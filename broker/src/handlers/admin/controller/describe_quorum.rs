//! DescribeQuorum, key 55, versions 0 to 2: who keeps the metadata. This node does, alone: its store is the log that
//! Kafka calls `__cluster_metadata`, and an entry's version the offset.
//!
//! 1: when replicas fetched last. 2: messages, and the nodes of the quorum.

use std::ops::RangeInclusive;

use millstream_protocol::messages::describe_quorum_request::TopicData as AskedTopic;
use millstream_protocol::messages::describe_quorum_response::{Node, PartitionData, ReplicaState, TopicData};
use millstream_protocol::messages::{DescribeQuorumRequest, DescribeQuorumResponse};
use millstream_protocol::{ErrorCode, KStr};

use crate::dispatch::{Answer, Call, Handler};

/// From this version on the reply names the nodes.
const WITH_NODES: i16 = 2;

const METADATA_TOPIC: &str = "__cluster_metadata";

pub(crate) struct DescribeQuorum;

impl Handler for DescribeQuorum {
    type Request = DescribeQuorumRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    fn handle(call: Call, request: DescribeQuorumRequest) -> Answer<DescribeQuorumResponse> {
        let topics: Vec<TopicData> = request.topics.iter().map(|asked| of_topic(&call, asked)).collect();
        let is_told = topics.iter().flat_map(|topic| &topic.partitions).any(|one| one.error_code == 0);
        // No listener is a controller's alone: administrative requests go to the brokers' port.
        let me = Node { node_id: call.node.view.me().0, listeners: Vec::new() };
        let nodes = if is_told && call.version >= WITH_NODES { vec![me] } else { Vec::new() };
        Answer::Now(DescribeQuorumResponse { topics, nodes, ..Default::default() })
    }
}

fn of_topic(call: &Call, asked: &AskedTopic) -> TopicData {
    let told =
        asked.partitions.iter().map(|partition| match (&*asked.topic_name, partition.partition_index) {
            (METADATA_TOPIC, 0) => quorum(call),
            (_, partition_index) => {
                let code = ErrorCode::UnknownTopicOrPartition;
                let error_message = Some(KStr::from_static(code.message()));
                PartitionData {
                    partition_index,
                    error_code: code.code(),
                    error_message,
                    leader_id: -1,
                    leader_epoch: -1,
                    high_watermark: -1,
                    ..Default::default()
                }
            }
        });
    TopicData { topic_name: asked.topic_name.clone(), partitions: told.collect() }
}

fn quorum(call: &Call) -> PartitionData {
    let node = &call.node;
    let end = i64::try_from(node.store.version()).unwrap_or(i64::MAX);
    let now_ms = node.clock.now_ms();
    let me = ReplicaState {
        replica_id: node.view.me().0,
        log_end_offset: end,
        last_fetch_timestamp: now_ms,
        last_caught_up_timestamp: now_ms,
        ..Default::default()
    };
    PartitionData {
        leader_id: node.view.controller().0,
        leader_epoch: node.topics.leader_epoch().get(),
        high_watermark: end,
        current_voters: vec![me],
        ..Default::default()
    }
}
