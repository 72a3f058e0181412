//! AlterPartitionReassignments, key 45, versions 0 and 1: partitions are moved to other brokers. There is one broker:
//! moving a partition to where it is succeeds at once, and there is no other place. 1: whether the number of
//! replicas may change; it cannot.

use std::ops::RangeInclusive;

use millstream_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use millstream_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use millstream_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
};
use millstream_protocol::{ErrorCode, KStr};

use crate::dispatch::{Answer, Call, Handler};
use crate::handlers::admin::refused::Refused;
use crate::handlers::admin::replicas::check_assignment;

pub(crate) struct AlterPartitionReassignments;

impl Handler for AlterPartitionReassignments {
    type Request = AlterPartitionReassignmentsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    fn handle(
        call: Call,
        request: AlterPartitionReassignmentsRequest,
    ) -> Answer<AlterPartitionReassignmentsResponse> {
        let allow_replication_factor_change = request.allow_replication_factor_change;
        let may_resize = match allow_replication_factor_change {
            true => Resize::Allowed,
            false => Resize::Forbidden,
        };
        let responses = request.topics.iter().map(|topic| of_topic(&call, topic, may_resize)).collect();
        Answer::Now(AlterPartitionReassignmentsResponse {
            allow_replication_factor_change,
            responses,
            ..Default::default()
        })
    }
}

/// Whether a partition may get another number of replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resize {
    Allowed,
    Forbidden,
}

fn of_topic(call: &Call, asked: &ReassignableTopic, resize: Resize) -> ReassignableTopicResponse {
    let told = asked.partitions.iter().map(|partition| {
        let (error_code, error_message) = Refused::told(reassign(call, &asked.name, partition, resize));
        let partition_index = partition.partition_index;
        ReassignablePartitionResponse { partition_index, error_code, error_message }
    });
    ReassignableTopicResponse { name: asked.name.clone(), partitions: told.collect() }
}

fn reassign(call: &Call, topic: &KStr, asked: &ReassignablePartition, resize: Resize) -> Result<(), Refused> {
    let snapshot = call.node.topics.snapshot();
    let known = snapshot.named(topic).and_then(|topic| topic.partition(asked.partition_index));
    if known.is_none() {
        return Err(ErrorCode::UnknownTopicOrPartition.into());
    }
    let Some(replicas) = &asked.replicas else {
        return Err(ErrorCode::NoReassignmentInProgress.into());
    };
    check_assignment(call, replicas).map_err(|refused| match (resize, replicas.len()) {
        (Resize::Forbidden, 2..) => {
            let message = "the partition has one replica, and the request forbids to change that";
            Refused::new(ErrorCode::InvalidReplicationFactor, message)
        }
        _ => refused,
    })
}
