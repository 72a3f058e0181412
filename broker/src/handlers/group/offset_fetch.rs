//! OffsetFetch, key 9, versions 1 to 10.
//!
//! 2: null topics ask for all, and errors of the whole group. 5: the leader epoch. 7: `require_stable`, which has those
//! offsets refused that an open transaction would replace (UNSTABLE_OFFSET_COMMIT): the client asks again. 8: several
//! groups. 9: members of the new protocol say who they are. 10: topics by id.
//!
//! A group that does not exist, or has not committed, is answered with offset -1 and no error.

use std::ops::RangeInclusive;

use millstream_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use millstream_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use millstream_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};
use millstream_protocol::{ErrorCode, KStr, Uuid};

use crate::dispatch::{Answer, Call, Handler};
use crate::groups::{Asked, Fetch, Stability};
use crate::handlers::{NONE, answers};

/// From here on several groups are asked for at a time.
const BATCHED: i16 = 8;

/// Before this one only partitions have errors.
const GROUP_ERRORS: i16 = 2;

pub(crate) struct OffsetFetch;

impl Handler for OffsetFetch {
    type Request = OffsetFetchRequest;
    const VERSIONS: RangeInclusive<i16> = 1..=10;

    fn handle(call: Call, request: OffsetFetchRequest) -> Answer<OffsetFetchResponse> {
        let version = call.version;
        let wanted = if request.require_stable { Stability::Stable } else { Stability::Any };
        if version >= BATCHED {
            let asked: Vec<_> = request.groups.into_iter().map(|group| ask(&call, group, wanted)).collect();
            return Answer::Later(Box::pin(async move {
                let groups = answers(asked.into_iter().map(answered)).await;
                OffsetFetchResponse { groups, ..Default::default() }
            }));
        }
        let mut pending = ask(&call, alone(request), wanted);
        let asked = pending.request.topics.take().unwrap_or_default();
        Answer::Later(Box::pin(async move { unbatched(version, answered(pending).await, asked) }))
    }
}

/// Who is asked, for when there is no answer.
struct Pending {
    asked: Asked<OffsetFetchResponseGroup>,
    request: OffsetFetchRequestGroup,
}

fn ask(call: &Call, request: OffsetFetchRequestGroup, wanted: Stability) -> Pending {
    let fetch = Fetch { version: call.version, wanted, request: request.clone() };
    let asked = call.node.groups.ask(&call.node, &request.group_id, move |shard, turn, ticket| {
        shard.fetch_offsets(turn, ticket, fetch);
    });
    Pending { asked, request }
}

async fn answered(pending: Pending) -> OffsetFetchResponseGroup {
    let Pending { asked, request } = pending;
    asked.await.unwrap_or_else(|not_ready| {
        let error_code = not_ready.code().code();
        OffsetFetchResponseGroup { group_id: request.group_id, error_code, ..Default::default() }
    })
}

/// The one group of an older version.
fn alone(request: OffsetFetchRequest) -> OffsetFetchRequestGroup {
    let topics = request.topics.map(|topics| {
        let asked = topics.into_iter().map(|topic| OffsetFetchRequestTopics {
            name: topic.name,
            topic_id: Uuid::nil(),
            partition_indexes: topic.partition_indexes,
        });
        asked.collect()
    });
    OffsetFetchRequestGroup { group_id: request.group_id, member_id: None, member_epoch: -1, topics }
}

fn unbatched(
    version: i16,
    mut group: OffsetFetchResponseGroup,
    asked: Vec<OffsetFetchRequestTopics>,
) -> OffsetFetchResponse {
    let code = group.error_code;
    if version < GROUP_ERRORS && code != ErrorCode::None.code() {
        group.topics = asked.into_iter().map(|topic| refused(topic, code)).collect();
    }
    let topics = group.topics.into_iter().map(|topic| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic
            .partitions
            .into_iter()
            .map(|partition| OffsetFetchResponsePartition {
                partition_index: partition.partition_index,
                committed_offset: partition.committed_offset,
                committed_leader_epoch: partition.committed_leader_epoch,
                metadata: partition.metadata,
                error_code: partition.error_code,
            })
            .collect(),
    });
    OffsetFetchResponse { topics: topics.collect(), error_code: code, ..Default::default() }
}

fn refused(topic: OffsetFetchRequestTopics, error_code: i16) -> OffsetFetchResponseTopics {
    let partitions =
        topic.partition_indexes.into_iter().map(|partition_index| OffsetFetchResponsePartitions {
            partition_index,
            committed_offset: NONE,
            metadata: Some(KStr::default()),
            error_code,
            ..Default::default()
        });
    OffsetFetchResponseTopics { name: topic.name, topic_id: topic.topic_id, partitions: partitions.collect() }
}
