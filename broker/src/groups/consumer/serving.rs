//! What the shard does with requests that may concern a consumer group: finds or makes the group, and lets it become
//! another kind.

use millstream_protocol::messages::consumer_group_describe_response::DescribedGroup;
use millstream_protocol::messages::leave_group_request::MemberIdentity;
use millstream_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, HeartbeatRequest, SyncGroupRequest,
};
use millstream_protocol::{ErrorCode, KStr};

use super::change::Change;
use super::fencing::Left;
use super::member::{AWAY, LEAVES};
use super::{ConsumerGroup, Heartbeat, Refusal};
use crate::groups::classic::{ClassicGroup, Join};
use crate::groups::group::Group;
use crate::groups::shard::Shard;
use crate::groups::turn::{Ticket, Turn};

impl Shard {
    /// A ConsumerGroupHeartbeat that makes sense, see [`check_request`](super::check_request).
    pub(crate) fn consumer_heartbeat(&mut self, turn: &mut Turn<'_>, heartbeat: &Heartbeat) {
        let request = &heartbeat.request;
        self.rest_on(&request.group_id, turn);
        let answer = match request.member_epoch {
            LEAVES | AWAY => self.consumer_leave(turn, request),
            _ => self.consumer_beat(turn, heartbeat),
        };
        let response = answer.unwrap_or_else(|Refusal { code, message }| ConsumerGroupHeartbeatResponse {
            error_code: code.code(),
            error_message: Some(message.into()),
            ..Default::default()
        });
        turn.fx.reply(heartbeat.ticket, response);
    }

    fn consumer_leave(
        &mut self,
        turn: &mut Turn<'_>,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        let id = &request.group_id;
        let Some(Group::Consumer(group)) = self.group_mut(id) else { return Err(no_consumer_group(id)) };
        let (response, left) = group.leave(turn, request)?;
        self.settle(id, left);
        Ok(response)
    }

    fn consumer_beat(
        &mut self,
        turn: &mut Turn<'_>,
        heartbeat: &Heartbeat,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        let (id, request) = (&heartbeat.request.group_id, &heartbeat.request);
        let crowd = self.crowd(turn.now.steady);
        if let Some(Group::Consumer(group)) = self.group_mut(id) {
            return group.beat(turn, &heartbeat.caller, request, crowd);
        }
        if request.member_epoch != 0 {
            return Err(no_consumer_group(id));
        }
        // The group comes to be only if the member is let in.
        let records = turn.fx.records.len();
        let mut group = match self.group(id) {
            Some(Group::Classic(classic)) if !classic.is_empty() => {
                ConsumerGroup::upgraded(id, classic, turn)?
            }
            Some(Group::Classic(classic)) => {
                classic.tombstones(&mut turn.fx.records);
                ConsumerGroup::new(id)
            }
            Some(Group::Consumer(_)) | None => ConsumerGroup::new(id),
        };
        match group.beat(turn, &heartbeat.caller, request, crowd) {
            Ok(response) => {
                if let Some(Group::Classic(classic)) = self.group_mut(id) {
                    classic.release_all(turn);
                }
                self.set_group(id, Group::Consumer(group));
                Ok(response)
            }
            Err(refusal) => {
                turn.fx.records.truncate(records);
                Err(refusal)
            }
        }
    }

    fn settle(&mut self, id: &KStr, left: Left) {
        match left {
            Left::Consumer => {}
            Left::Classic(classic) => self.set_group(id, Group::Classic(*classic)),
        }
    }

    /// A JoinGroup to a consumer group. One without members becomes a classic one.
    pub(crate) fn join_consumer(&mut self, turn: &mut Turn<'_>, join: &Join) {
        let id = &join.request.group_id;
        let Some(Group::Consumer(group)) = self.group_mut(id) else { return };
        if !group.is_empty() {
            match group.join(turn, join) {
                Left::Consumer => return,
                left @ Left::Classic(_) => self.settle(id, left),
            }
        } else {
            group.tombstones(&mut turn.fx.records);
            self.set_group(id, Group::Classic(ClassicGroup::new(id, turn.now)));
        }
        if let Some(Group::Classic(classic)) = self.group_mut(id) {
            classic.join(join, turn);
        }
    }

    /// A SyncGroup to a consumer group.
    pub(crate) fn sync_consumer(&mut self, turn: &mut Turn<'_>, ticket: Ticket, request: &SyncGroupRequest) {
        if let Some(Group::Consumer(group)) = self.group_mut(&request.group_id) {
            group.sync(turn, ticket, request);
        }
    }

    /// A Heartbeat to a consumer group.
    pub(crate) fn heartbeat_consumer(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        request: &HeartbeatRequest,
    ) {
        if let Some(Group::Consumer(group)) = self.group_mut(&request.group_id) {
            group.classic_heartbeat(turn, ticket, request);
        }
    }

    /// A LeaveGroup to a consumer group.
    pub(crate) fn leave_consumer(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        (id, leaving): (&KStr, &[MemberIdentity]),
    ) {
        if let Some(Group::Consumer(group)) = self.group_mut(id) {
            let left = group.classic_leave(turn, ticket, leaving);
            self.settle(id, left);
        }
    }

    /// A ConsumerGroupDescribe of one group.
    pub(crate) fn consumer_describe(&mut self, turn: &mut Turn<'_>, ticket: Ticket, id: &KStr) {
        let described = match self.group(id) {
            Some(Group::Consumer(group)) => group.describe(turn),
            Some(Group::Classic(_)) => not_described(id, format!("Group {id} is not a consumer group.")),
            None => not_described(id, format!("Group {id} not found.")),
        };
        turn.fx.reply(ticket, described);
    }

    /// Takes over one record of a consumer group.
    pub(in crate::groups) fn replay_consumer(&mut self, id: &KStr, change: &Change) {
        if matches!(change, Change::Group(None)) {
            if matches!(self.group(id), Some(Group::Consumer(_))) {
                self.remove_group(id);
            }
            return;
        }
        if !matches!(self.group(id), Some(Group::Consumer(_))) {
            // What removes something of a group that is not there says nothing; so it is after the group itself went.
            if change.is_removal() {
                return;
            }
            self.set_group(id, Group::Consumer(ConsumerGroup::new(id)));
        }
        if let Some(Group::Consumer(group)) = self.group_mut(id) {
            group.replay(change);
        }
    }
}

fn no_consumer_group(id: &KStr) -> Refusal {
    Refusal::new(ErrorCode::GroupIdNotFound, format!("Consumer group {id} not found."))
}

fn not_described(id: &KStr, message: String) -> DescribedGroup {
    DescribedGroup {
        error_code: ErrorCode::GroupIdNotFound.code(),
        error_message: Some(message.into()),
        group_id: id.clone(),
        ..Default::default()
    }
}
