//! SyncGroup, key 14, versions 0 to 5.
//!
//! 3: static members. 5: both sides name the protocol; a request that does not is refused.

use std::ops::RangeInclusive;

use millstream_protocol::ErrorCode;
use millstream_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use crate::dispatch::{Answer, Call, Handler};

pub(crate) struct SyncGroup;

impl Handler for SyncGroup {
    type Request = SyncGroupRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    fn handle(call: Call, request: SyncGroupRequest) -> Answer<SyncGroupResponse> {
        if call.version >= 5 && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
            return Answer::Now(refused(ErrorCode::InconsistentGroupProtocol));
        }
        if request.group_id.is_empty() {
            return Answer::Now(refused(ErrorCode::InvalidGroupId));
        }
        let asked =
            call.node.groups.ask(&call.node, &request.group_id.clone(), move |shard, turn, ticket| {
                shard.sync(turn, ticket, &request);
            });
        Answer::Later(Box::pin(
            async move { asked.await.unwrap_or_else(|not_ready| refused(not_ready.code())) },
        ))
    }
}

fn refused(code: ErrorCode) -> SyncGroupResponse {
    SyncGroupResponse { error_code: code.code(), ..SyncGroupResponse::default() }
}
