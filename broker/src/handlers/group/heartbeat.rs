//! Heartbeat, key 12, versions 0 to 4: a member of a classic group lives, and hears whether it has to join again.

use std::ops::RangeInclusive;

use millstream_protocol::ErrorCode;
use millstream_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use crate::dispatch::{Answer, Call, Handler};
use crate::groups::NotReady;

pub(crate) struct Heartbeat;

impl Handler for Heartbeat {
    type Request = HeartbeatRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=4;

    fn handle(call: Call, request: HeartbeatRequest) -> Answer<HeartbeatResponse> {
        if request.group_id.is_empty() {
            return Answer::Now(told(ErrorCode::InvalidGroupId));
        }
        let asked =
            call.node.groups.ask(&call.node, &request.group_id.clone(), move |shard, turn, ticket| {
                shard.heartbeat(turn, ticket, &request);
            });
        Answer::Later(Box::pin(async move {
            asked.await.unwrap_or_else(|not_ready| match not_ready {
                // Its session begins when the group is read: nothing is wrong, as in Kafka.
                NotReady::Loading => told(ErrorCode::None),
                NotReady::Lost | NotReady::NoTopic | NotReady::Stopping | NotReady::GroupId => {
                    told(not_ready.code())
                }
            })
        }))
    }
}

fn told(code: ErrorCode) -> HeartbeatResponse {
    HeartbeatResponse { error_code: code.code(), ..HeartbeatResponse::default() }
}
