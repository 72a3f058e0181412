//! SyncGroup: the leader hands in the assignment, everybody gets a part of it.

use std::collections::HashMap;

use bytes::Bytes;
use millstream_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use millstream_protocol::{ErrorCode, KStr};

use super::member::Parked;
use super::rebalancing::sync_refused;
use super::{ClassicGroup, Phase, RECORD_BYTES_MAX};
use crate::groups::cause::{Cause, Why};
use crate::groups::turn::{Ticket, Turn};

impl ClassicGroup {
    /// A SyncGroup. It is answered at once, or parked until the leader's is here.
    pub(crate) fn sync(&mut self, turn: &mut Turn<'_>, ticket: Ticket, request: &SyncGroupRequest) {
        if let Err(code) = self.admit_sync(request, turn) {
            return turn.fx.reply(ticket, sync_refused(code));
        }
        let member = &*request.member_id;
        match &mut self.phase {
            Phase::Empty => turn.fx.reply(ticket, sync_refused(ErrorCode::UnknownMemberId)),
            Phase::Preparing(_) => turn.fx.reply(ticket, sync_refused(ErrorCode::RebalanceInProgress)),
            Phase::Completing(syncing) => {
                syncing.missing.remove(member);
                self.park(member, Parked::Sync(ticket), turn);
                if self.is_leader(member) {
                    self.assign(request, turn);
                }
            }
            Phase::Stable(syncing) => {
                syncing.missing.remove(member);
                let reply = self.assigned(member);
                turn.fx.reply(ticket, reply);
                self.refresh_session(turn.now, member);
            }
        }
    }

    fn admit_sync(&self, request: &SyncGroupRequest, turn: &mut Turn<'_>) -> Result<(), ErrorCode> {
        self.know(&request.member_id, request.group_instance_id.as_deref(), turn)?;
        self.expect_generation(request.generation_id)?;
        let differs = |said: &Option<KStr>, ours: Option<&KStr>| said.is_some() && said.as_ref() != ours;
        let is_other = differs(&request.protocol_type, Some(&self.protocol_type))
            || differs(&request.protocol_name, self.protocol.as_ref());
        if is_other { Err(ErrorCode::InconsistentGroupProtocol) } else { Ok(()) }
    }

    /// The leader's decision: it is stored, and everybody who waits gets its part. A member that the leader left
    /// out gets nothing.
    fn assign(&mut self, request: &SyncGroupRequest, turn: &mut Turn<'_>) {
        let parts: HashMap<&str, &Bytes> =
            request.assignments.iter().map(|part| (&*part.member_id, &part.assignment)).collect();
        for member in self.members.iter_mut() {
            let part = parts.get(&*member.id).copied();
            member.assignment = part.map(|part| Bytes::copy_from_slice(part)).unwrap_or_default();
        }
        if self.record_bytes() > RECORD_BYTES_MAX {
            return self.refuse_assignment(&request.member_id, turn);
        }
        if let Phase::Completing(syncing) = &self.phase {
            let syncing = syncing.clone();
            self.enter(turn.now, Phase::Stable(syncing));
        }
        self.store(turn);
        for (id, ticket) in self.members.unpark_syncs() {
            let reply = self.assigned(&id);
            turn.fx.reply(ticket, reply);
            self.refresh_session(turn.now, &id);
        }
        self.finish(turn);
    }

    /// The group cannot be stored: as in Kafka, whose log refuses such a record, all have to begin anew.
    fn refuse_assignment(&mut self, leader: &str, turn: &mut Turn<'_>) {
        let cause = self.cause_of(Why::TooLarge, leader);
        self.cancel_syncs(ErrorCode::UnknownServerError, turn);
        self.begin(cause, turn);
    }

    fn assigned(&self, member: &str) -> SyncGroupResponse {
        SyncGroupResponse {
            protocol_type: Some(self.protocol_type.clone()),
            protocol_name: self.protocol.clone(),
            assignment: self.members.get(member).map(|member| member.assignment.clone()).unwrap_or_default(),
            ..SyncGroupResponse::default()
        }
    }

    /// A cause that a member is behind without having said anything.
    pub(super) fn cause_of(&self, why: Why, id: &str) -> Cause {
        let member = self.members.get(id);
        Cause {
            why,
            member: id.into(),
            instance: member.and_then(|member| member.instance_id.clone()),
            caller: member.map(|member| member.caller.clone()).unwrap_or_default(),
            said: None,
        }
    }
}
