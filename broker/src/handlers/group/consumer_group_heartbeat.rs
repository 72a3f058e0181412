//! ConsumerGroupHeartbeat, key 68, versions 0 and 1: all that a member of the new protocol says (KIP-848).
//!
//! Version 1 has regular expressions, and member ids that the member makes itself (KIP-1082).

use std::ops::RangeInclusive;

use millstream_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use millstream_protocol::{ErrorCode, KStr};

use crate::dispatch::{Answer, Call, Handler};
use crate::groups::{Caller, ConsumerHeartbeat, Refusal, check_request};
use crate::metadata::features::Feature;

pub(crate) struct ConsumerGroupHeartbeat;

impl Handler for ConsumerGroupHeartbeat {
    type Request = ConsumerGroupHeartbeatRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    fn handle(
        call: Call,
        mut request: ConsumerGroupHeartbeatRequest,
    ) -> Answer<ConsumerGroupHeartbeatResponse> {
        if call.node.features.level(Feature::GroupVersion) == 0 {
            let error_code = ErrorCode::UnsupportedVersion.code();
            return Answer::Now(ConsumerGroupHeartbeatResponse {
                error_code,
                error_message: None,
                ..Default::default()
            });
        }
        let checked = check_request(&request, call.version, &call.node.settings().groups.consumer.assignors);
        if let Err(Refusal { code, message }) = checked {
            return Answer::Now(refused(code, message.into()));
        }
        if request.member_id.is_empty() {
            request.member_id = call.node.uuids.fresh().to_string().into();
        }
        let (group, caller) = (request.group_id.clone(), Caller::of(&call));
        let asked = call.node.groups.ask(&call.node, &group, move |shard, turn, ticket| {
            shard.consumer_heartbeat(turn, &ConsumerHeartbeat { ticket, caller, request });
        });
        Answer::Later(Box::pin(async move {
            asked.await.unwrap_or_else(|not_ready| {
                refused(not_ready.code(), KStr::from_static(not_ready.code().message()))
            })
        }))
    }
}

fn refused(code: ErrorCode, message: KStr) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse {
        error_code: code.code(),
        error_message: Some(message),
        ..Default::default()
    }
}
