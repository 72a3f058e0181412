//! Answers that say nothing but that a request is refused.

use millstream_protocol::messages::find_coordinator_response::Coordinator;
use millstream_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use millstream_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use millstream_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use millstream_protocol::messages::*;
use millstream_protocol::wire::{DecodeError, Reader};
use millstream_protocol::{ApiKey, ErrorCode, Request, encode_response};

use crate::connection::session::Incoming;
use crate::dispatch::Outcome;
use crate::handlers::produce;

/// The answer that refuses a request with this error.
pub(super) fn of(incoming: &Incoming, code: ErrorCode) -> Outcome {
    let refused = match incoming.api {
        ApiKey::Produce => refuse(incoming, |request| produce::refuse_all(request, code)),
        ApiKey::ListOffsets => refuse(incoming, |request| list_offsets(request, code)),
        ApiKey::OffsetCommit => refuse(incoming, |request| offset_commit(request, code)),
        ApiKey::TxnOffsetCommit => refuse(incoming, |request| txn_offset_commit(request, code)),
        ApiKey::FindCoordinator => refuse(incoming, |request| find_coordinator(request, code)),
        ApiKey::Fetch if incoming.version >= 7 => refuse(incoming, |_: &FetchRequest| FetchResponse {
            error_code: code.code(),
            ..Default::default()
        }),
        ApiKey::JoinGroup => refuse(incoming, |_: &JoinGroupRequest| JoinGroupResponse {
            error_code: code.code(),
            ..Default::default()
        }),
        ApiKey::SyncGroup => refuse(incoming, |_: &SyncGroupRequest| SyncGroupResponse {
            error_code: code.code(),
            ..Default::default()
        }),
        ApiKey::Heartbeat => refuse(incoming, |_: &HeartbeatRequest| HeartbeatResponse {
            error_code: code.code(),
            ..Default::default()
        }),
        ApiKey::LeaveGroup => refuse(incoming, |_: &LeaveGroupRequest| LeaveGroupResponse {
            error_code: code.code(),
            ..Default::default()
        }),
        ApiKey::ConsumerGroupHeartbeat => refuse(incoming, |_: &ConsumerGroupHeartbeatRequest| {
            ConsumerGroupHeartbeatResponse { error_code: code.code(), ..Default::default() }
        }),
        ApiKey::InitProducerId => refuse(incoming, |_: &InitProducerIdRequest| InitProducerIdResponse {
            error_code: code.code(),
            ..Default::default()
        }),
        ApiKey::AddOffsetsToTxn => refuse(incoming, |_: &AddOffsetsToTxnRequest| AddOffsetsToTxnResponse {
            error_code: code.code(),
            ..Default::default()
        }),
        ApiKey::EndTxn => refuse(incoming, |_: &EndTxnRequest| EndTxnResponse {
            error_code: code.code(),
            ..Default::default()
        }),
        other => {
            return Outcome::Close(format!(
                "a fault hook refuses {}, which knows no such answer",
                other.name()
            ));
        }
    };
    refused
        .unwrap_or_else(|error| Outcome::Close(format!("what a fault hook refuses cannot be read: {error}")))
}

fn refuse<R: Request>(
    incoming: &Incoming,
    refusal: impl FnOnce(&R) -> R::Response,
) -> Result<Outcome, DecodeError> {
    let body = incoming.body();
    let request = R::decode(&mut Reader::new(&body), incoming.version)?;
    let id = incoming.header.correlation_id;
    let encoded = encode_response(incoming.api, incoming.version, id, &refusal(&request));
    Ok(encoded
        .map_or_else(|error| Outcome::Close(format!("a refusal cannot be encoded: {error}")), Outcome::Reply))
}

fn list_offsets(request: &ListOffsetsRequest, code: ErrorCode) -> ListOffsetsResponse {
    let partition = |index| ListOffsetsPartitionResponse {
        partition_index: index,
        error_code: code.code(),
        ..Default::default()
    };
    let topics = request.topics.iter().map(|topic| ListOffsetsTopicResponse {
        name: topic.name.clone(),
        partitions: topic.partitions.iter().map(|one| partition(one.partition_index)).collect(),
    });
    ListOffsetsResponse { topics: topics.collect(), ..Default::default() }
}

fn offset_commit(request: &OffsetCommitRequest, code: ErrorCode) -> OffsetCommitResponse {
    let partition = |index| OffsetCommitResponsePartition { partition_index: index, error_code: code.code() };
    let topics = request.topics.iter().map(|topic| OffsetCommitResponseTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic.partitions.iter().map(|one| partition(one.partition_index)).collect(),
    });
    OffsetCommitResponse { topics: topics.collect(), ..Default::default() }
}

fn txn_offset_commit(request: &TxnOffsetCommitRequest, code: ErrorCode) -> TxnOffsetCommitResponse {
    let partition =
        |index| TxnOffsetCommitResponsePartition { partition_index: index, error_code: code.code() };
    let topics = request.topics.iter().map(|topic| TxnOffsetCommitResponseTopic {
        name: topic.name.clone(),
        partitions: topic.partitions.iter().map(|one| partition(one.partition_index)).collect(),
    });
    TxnOffsetCommitResponse { topics: topics.collect(), ..Default::default() }
}

/// From version 4 on it is told for each key, before that once.
fn find_coordinator(request: &FindCoordinatorRequest, code: ErrorCode) -> FindCoordinatorResponse {
    let coordinator = |key: &millstream_protocol::KStr| Coordinator {
        key: key.clone(),
        node_id: -1,
        error_code: code.code(),
        ..Default::default()
    };
    FindCoordinatorResponse {
        error_code: code.code(),
        node_id: -1,
        coordinators: request.coordinator_keys.iter().map(coordinator).collect(),
        ..Default::default()
    }
}
