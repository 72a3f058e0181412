//! LeaveGroup, key 13, versions 0 to 5.
//!
//! Up to version 2 one member leaves, and its code stands for the whole; from 3 several may, static ones by their
//! name alone. 5: the client's reason.

use std::ops::RangeInclusive;

use millstream_protocol::ErrorCode;
use millstream_protocol::messages::leave_group_request::MemberIdentity;
use millstream_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use crate::dispatch::{Answer, Call, Handler};

pub(crate) struct LeaveGroup;

impl Handler for LeaveGroup {
    type Request = LeaveGroupRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    fn handle(call: Call, request: LeaveGroupRequest) -> Answer<LeaveGroupResponse> {
        if request.group_id.is_empty() {
            return Answer::Now(refused(ErrorCode::InvalidGroupId));
        }
        let version = call.version;
        let LeaveGroupRequest { group_id, member_id, members } = request;
        let leaving = match version {
            ..=2 => vec![MemberIdentity { member_id, ..MemberIdentity::default() }],
            3.. => members,
        };
        let asked = call.node.groups.ask(&call.node, &group_id.clone(), move |shard, turn, ticket| {
            shard.leave(turn, ticket, (&group_id, &leaving));
        });
        Answer::Later(Box::pin(async move {
            let reply = asked.await.unwrap_or_else(|not_ready| refused(not_ready.code()));
            if version <= 2 { of_one(&reply) } else { reply }
        }))
    }
}

fn refused(code: ErrorCode) -> LeaveGroupResponse {
    LeaveGroupResponse { error_code: code.code(), ..LeaveGroupResponse::default() }
}

/// The reply to a client that does not know of several members.
fn of_one(reply: &LeaveGroupResponse) -> LeaveGroupResponse {
    let of_member = reply.members.iter().map(|member| member.error_code).find(|code| *code != 0);
    let error_code = if reply.error_code == 0 { of_member.unwrap_or(0) } else { reply.error_code };
    LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() }
}
