//! The classic requests, where a shard takes them: which group they are for, and what if there is none.

use millstream_protocol::messages::describe_groups_response::DescribedGroup;
use millstream_protocol::messages::leave_group_request::MemberIdentity;
use millstream_protocol::messages::leave_group_response::MemberResponse;
use millstream_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, LeaveGroupResponse, SyncGroupRequest,
};
use millstream_protocol::{ErrorCode, KStr};

use super::joining::refused;
use super::rebalancing::sync_refused;
use super::{ClassicGroup, Join};
use crate::groups::group::Group;
use crate::groups::shard::Shard;
use crate::groups::turn::{Ticket, Turn};

impl Shard {
    /// JoinGroup. A member that has no id yet makes the group.
    pub(crate) fn join(&mut self, turn: &mut Turn<'_>, join: &Join) {
        let id = join.request.group_id.clone();
        if self.group(&id).is_none() && join.request.member_id.is_empty() {
            self.set_group(&id, Group::Classic(ClassicGroup::new(&id, turn.now)));
        }
        match self.group_mut(&id) {
            Some(Group::Classic(group)) => {
                group.join(join, turn);
                // One that was refused leaves no group behind.
                if group.is_vacant() {
                    self.remove_group(&id);
                }
            }
            Some(Group::Consumer(_)) => self.join_consumer(turn, join),
            None => turn
                .fx
                .reply(join.ticket, refused(join.request.member_id.detach(), ErrorCode::UnknownMemberId)),
        }
    }

    /// SyncGroup.
    pub(crate) fn sync(&mut self, turn: &mut Turn<'_>, ticket: Ticket, request: &SyncGroupRequest) {
        match self.group_mut(&request.group_id) {
            Some(Group::Classic(group)) => group.sync(turn, ticket, request),
            Some(Group::Consumer(_)) => self.sync_consumer(turn, ticket, request),
            None => turn.fx.reply(ticket, sync_refused(ErrorCode::UnknownMemberId)),
        }
    }

    /// Heartbeat of a classic member.
    pub(crate) fn heartbeat(&mut self, turn: &mut Turn<'_>, ticket: Ticket, request: &HeartbeatRequest) {
        let member = (&*request.member_id, request.group_instance_id.as_deref());
        self.rest_on(&request.group_id, turn);
        let heard = match self.group_mut(&request.group_id) {
            Some(Group::Classic(group)) => group.heartbeat(member, request.generation_id, turn),
            Some(Group::Consumer(_)) => return self.heartbeat_consumer(turn, ticket, request),
            None => Err(ErrorCode::UnknownMemberId),
        };
        let code = heard.err().unwrap_or(ErrorCode::None).code();
        turn.fx.reply(ticket, HeartbeatResponse { error_code: code, ..HeartbeatResponse::default() });
    }

    /// LeaveGroup; versions below 3 name one member.
    pub(crate) fn leave(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        (id, leaving): (&KStr, &[MemberIdentity]),
    ) {
        match self.group_mut(id) {
            Some(Group::Classic(group)) => {
                group.leave(turn, ticket, leaving);
                if group.is_vacant() {
                    self.remove_group(id);
                }
            }
            Some(Group::Consumer(_)) => self.leave_consumer(turn, ticket, (id, leaving)),
            None => {
                let members = leaving.iter().map(|member| MemberResponse {
                    member_id: member.member_id.clone(),
                    group_instance_id: member.group_instance_id.clone(),
                    error_code: ErrorCode::UnknownMemberId.code(),
                });
                let members = members.collect();
                turn.fx.reply(ticket, LeaveGroupResponse { members, ..LeaveGroupResponse::default() });
            }
        }
    }

    /// One of DescribeGroups. Up to version 5 an unknown group is a dead one.
    pub(crate) fn describe(&self, turn: &mut Turn<'_>, ticket: Ticket, (id, version): (&KStr, i16)) {
        let described = match self.group(id) {
            Some(Group::Classic(group)) => group.describe(),
            None if self.has_offsets(id) => DescribedGroup {
                group_id: id.clone(),
                group_state: KStr::from_static("Empty"),
                ..DescribedGroup::default()
            },
            Some(Group::Consumer(_)) => absent(id, "is not a classic group", version),
            None => absent(id, "not found", version),
        };
        turn.fx.reply(ticket, described);
    }
}

fn absent(id: &KStr, why: &str, version: i16) -> DescribedGroup {
    let dead = DescribedGroup {
        group_id: id.clone(),
        group_state: KStr::from_static("Dead"),
        ..DescribedGroup::default()
    };
    if version < 6 {
        return dead;
    }
    DescribedGroup {
        error_code: ErrorCode::GroupIdNotFound.code(),
        error_message: Some(format!("Group {id} {why}.").into()),
        ..dead
    }
}
