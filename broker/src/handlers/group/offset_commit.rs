//! OffsetCommit, key 8, versions 2 to 10.
//!
//! 2 to 4: the client may say how long the offset is kept, which is not heeded: offsets stay, unless
//! `offsets.retention.minutes` is set. 6: the leader epoch. 7: static members. 9: an epoch of the
//! new protocol in the place of the generation; a group that does not exist has a code of its own. 10: topics by id.
//!
//! The reply leaves when the offsets are on the disk. Commits are taken however little room there is: a consumer that
//! cannot say how far it came would read everything again.

use std::ops::RangeInclusive;

use millstream_protocol::ErrorCode;
use millstream_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use millstream_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use crate::dispatch::{Answer, Call, Handler};
use crate::groups::Commit;

pub(crate) struct OffsetCommit;

impl Handler for OffsetCommit {
    type Request = OffsetCommitRequest;
    const VERSIONS: RangeInclusive<i16> = 2..=10;

    fn handle(call: Call, request: OffsetCommitRequest) -> Answer<OffsetCommitResponse> {
        let refusal = refusal(&request);
        let group = request.group_id.clone();
        let commit = Commit { version: call.version, request };
        let asked = call.node.groups.ask(&call.node, &group, move |shard, turn, ticket| {
            shard.commit_offsets(turn, ticket, commit);
        });
        Answer::Later(Box::pin(async move {
            asked.await.unwrap_or_else(|not_ready| refused(refusal, not_ready.code()))
        }))
    }
}

/// The answer for when there is none: it names the same partitions.
fn refusal(request: &OffsetCommitRequest) -> OffsetCommitResponse {
    let topics = request.topics.iter().map(|topic| OffsetCommitResponseTopic {
        name: topic.name.detach(),
        topic_id: topic.topic_id,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: ErrorCode::None.code(),
            })
            .collect(),
    });
    OffsetCommitResponse { topics: topics.collect(), ..Default::default() }
}

fn refused(mut refusal: OffsetCommitResponse, code: ErrorCode) -> OffsetCommitResponse {
    for partition in refusal.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        partition.error_code = code.code();
    }
    refusal
}
