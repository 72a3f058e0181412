//! DescribeTopicPartitions, key 75, version 0.
//!
//! Metadata in pages: topics in the order of their names, partitions up to a limit, and a cursor at which
//! the next request goes on. An empty list of topics means all.

use std::ops::RangeInclusive;

use millstream_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use millstream_protocol::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};
use millstream_protocol::{ErrorCode, KStr};

use super::authorized::topic_operations;
use super::leader_told::LeaderTold;
use crate::dispatch::{Answer, Call, Handler};
use crate::metadata::topic_name;
use crate::metadata::topics::{Snapshot, Topic};

/// Partitions of one reply, whatever the client asks for.
const PARTITIONS_MAX: usize = 2000;

pub(crate) struct DescribeTopicPartitions;

impl Handler for DescribeTopicPartitions {
    type Request = DescribeTopicPartitionsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn handle(
        call: Call,
        request: DescribeTopicPartitionsRequest,
    ) -> Answer<DescribeTopicPartitionsResponse> {
        let snapshot = call.node.topics.snapshot();
        let (from_topic, from_partition) = match &request.cursor {
            None => (KStr::default(), 0),
            Some(cursor) => match usize::try_from(cursor.partition_index) {
                Ok(partition) => (cursor.topic_name.clone(), partition),
                Err(_) => return Answer::Now(refuse(&request)),
            },
        };
        let limit = usize::try_from(request.response_partition_limit).unwrap_or(0);
        let mut page = Page { room: limit.clamp(1, PARTITIONS_MAX), response: Default::default() };
        for name in names(&snapshot, &request).into_iter().filter(|name| *name >= from_topic) {
            let from = if name == from_topic { from_partition } else { 0 };
            if !page.add(&call, &snapshot, &name, from) {
                break;
            }
        }
        Answer::Now(page.response)
    }
}

fn names(snapshot: &Snapshot, request: &DescribeTopicPartitionsRequest) -> Vec<KStr> {
    if request.topics.is_empty() {
        return snapshot.sorted().into_iter().map(|topic| topic.name.clone()).collect();
    }
    let mut names: Vec<KStr> = request.topics.iter().map(|topic| topic.name.clone()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

struct Page {
    /// Partitions that still fit.
    room: usize,
    response: DescribeTopicPartitionsResponse,
}

impl Page {
    /// Adds a topic from one of its partitions on; false once the page is full.
    fn add(&mut self, call: &Call, snapshot: &Snapshot, name: &KStr, from: usize) -> bool {
        if self.room == 0 {
            self.end_before(name, from);
            return false;
        }
        let Some(topic) = snapshot.named(name) else {
            let code = match topic_name::check(name) {
                Ok(()) => ErrorCode::UnknownTopicOrPartition,
                Err(_) => ErrorCode::InvalidTopicException,
            };
            self.response.topics.push(refused(name, code));
            return true;
        };
        let all = topic.partitions.len();
        let end = all.min(from.saturating_add(self.room));
        let partitions = (from..end).map(|at| describe(call, topic, at)).collect();
        self.response.topics.push(DescribeTopicPartitionsResponseTopic {
            name: Some(topic.name.clone()),
            topic_id: topic.id,
            is_internal: topic_name::is_internal(&topic.name),
            partitions,
            // The request has no field to ask for them; Kafka tells them always.
            topic_authorized_operations: topic_operations(true),
            ..Default::default()
        });
        self.room -= end.saturating_sub(from);
        if end < all {
            self.end_before(name, end);
        }
        end >= all
    }

    fn end_before(&mut self, name: &KStr, partition: usize) {
        let partition_index = i32::try_from(partition).expect("topics have far fewer partitions");
        self.response.next_cursor = Some(Cursor { topic_name: name.clone(), partition_index });
    }
}

fn describe(call: &Call, topic: &Topic, at: usize) -> DescribeTopicPartitionsResponsePartition {
    let partition = &topic.partitions[at];
    let told = LeaderTold::of(call, topic, partition);
    DescribeTopicPartitionsResponsePartition {
        error_code: told.code.code(),
        partition_index: partition.index,
        leader_id: told.leader_id,
        leader_epoch: told.leader_epoch,
        replica_nodes: told.replicas.clone(),
        isr_nodes: told.replicas,
        offline_replicas: told.offline,
        // Kafka's Java client falls over a null here.
        eligible_leader_replicas: Some(Vec::new()),
        last_known_elr: Some(Vec::new()),
    }
}

fn refused(name: &KStr, code: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: code.code(),
        name: Some(name.clone()),
        ..Default::default()
    }
}

/// A cursor before partition 0 belongs to no reply of ours.
fn refuse(request: &DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let topics = request.topics.iter().map(|topic| refused(&topic.name, ErrorCode::InvalidRequest));
    DescribeTopicPartitionsResponse { topics: topics.collect(), ..Default::default() }
}
