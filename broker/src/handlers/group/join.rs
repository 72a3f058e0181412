//! JoinGroup, key 11, versions 0 to 9.
//!
//! 0: one timeout for sessions and rebalances. 4: a member without an id is told one and asked to come back
//! (KIP-394). 5: static members. 7: the protocol type in the reply. 8: the client's reason. 9: a leader may be told
//! that there is nothing to divide.

use std::ops::RangeInclusive;

use millstream_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use millstream_protocol::{ErrorCode, KStr};

use crate::coordinator::format::TEXT_BYTES_MAX;
use crate::dispatch::{Answer, Call, Handler};
use crate::groups::{Caller, Join};

pub(crate) struct JoinGroup;

impl Handler for JoinGroup {
    type Request = JoinGroupRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=9;

    fn handle(call: Call, request: JoinGroupRequest) -> Answer<JoinGroupResponse> {
        let version = call.version;
        let member = request.member_id.detach();
        if let Some(code) = refusal(&call, &request) {
            return Answer::Now(for_version(refused(member, code), version));
        }
        let (caller, fresh) = (Caller::of(&call), call.node.uuids.fresh());
        let asked =
            call.node.groups.ask(&call.node, &request.group_id.clone(), move |shard, turn, ticket| {
                shard.join(turn, &Join { ticket, caller, version, request, fresh });
            });
        Answer::Later(Box::pin(async move {
            let reply = asked.await.unwrap_or_else(|not_ready| refused(member, not_ready.code()));
            for_version(reply, version)
        }))
    }
}

/// What needs no group to be refused.
fn refusal(call: &Call, request: &JoinGroupRequest) -> Option<ErrorCode> {
    if request.group_id.is_empty() {
        return Some(ErrorCode::InvalidGroupId);
    }
    // No record can name what is longer, and a group that cannot be stored cannot be served.
    let names = [Some(&request.member_id), Some(&request.protocol_type), request.group_instance_id.as_ref()];
    let offered = request.protocols.iter().map(|protocol| &protocol.name);
    if names.into_iter().flatten().chain(offered).any(|name| name.len() > TEXT_BYTES_MAX) {
        return Some(ErrorCode::InvalidRequest);
    }
    let allowed = call.node.settings().groups.session_ms.clone();
    (!allowed.contains(&request.session_timeout_ms)).then_some(ErrorCode::InvalidSessionTimeout)
}

fn refused(member: KStr, code: ErrorCode) -> JoinGroupResponse {
    JoinGroupResponse { error_code: code.code(), member_id: member, ..JoinGroupResponse::default() }
}

/// No protocol is null from version 7, and empty before.
fn for_version(reply: JoinGroupResponse, version: i16) -> JoinGroupResponse {
    let protocol_name = match reply.protocol_name {
        Some(name) if name.is_empty() && version >= 7 => None,
        None if version < 7 => Some(KStr::default()),
        name => name,
    };
    JoinGroupResponse { protocol_name, ..reply }
}
