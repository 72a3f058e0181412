//! OffsetDelete, key 47, version 0. Topics that a member of the group reads are refused.

use std::ops::RangeInclusive;

use millstream_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use crate::dispatch::{Answer, Call, Handler};

pub(crate) struct OffsetDelete;

impl Handler for OffsetDelete {
    type Request = OffsetDeleteRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn handle(call: Call, request: OffsetDeleteRequest) -> Answer<OffsetDeleteResponse> {
        let group = request.group_id.clone();
        let asked = call.node.groups.ask(&call.node, &group, move |shard, turn, ticket| {
            shard.delete_offsets(turn, ticket, request);
        });
        Answer::Later(Box::pin(async move {
            asked.await.unwrap_or_else(|not_ready| OffsetDeleteResponse {
                error_code: not_ready.code().code(),
                ..Default::default()
            })
        }))
    }
}
