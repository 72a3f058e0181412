//! Members of the classic protocol in a consumer group, as while clients are being upgraded (KIP-848, migration).
//!
//! They join, sync and heartbeat as ever. What they are given is the broker's decision: nobody is their leader, a
//! heartbeat tells them to join again whenever there is a step to take, and what they own they say in their subscription.

use millstream_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use millstream_protocol::messages::leave_group_request::MemberIdentity;
use millstream_protocol::messages::leave_group_response::MemberResponse;
use millstream_protocol::messages::{
    ConsumerGroupMemberMetadataValue,
    consumer_group_member_metadata_value::{ClassicMemberMetadata, ClassicProtocol},
};
use millstream_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupResponse,
    SyncGroupRequest, SyncGroupResponse,
};
use millstream_protocol::{ErrorCode, KStr};

use super::ConsumerGroup;
use super::embedded::{self, Subscription};
use super::fencing::Left;
use super::heartbeat::{Comer, sorted};
use super::member::{Member, MemberState, no_wish};
use crate::groups::cause::{Cause, Why, said};
use crate::groups::classic::{Join, RECORD_BYTES_MAX};
use crate::groups::turn::{Ticket, Turn};

/// The protocol type of consumers.
pub(super) const CONSUMER: &str = "consumer";

/// From this version of JoinGroup on a dynamic member is given an id first, and joins with it (KIP-394).
const NEEDS_ID_FIRST: i16 = 4;

impl ConsumerGroup {
    /// A JoinGroup, which is answered at once: nobody is waited for.
    pub(super) fn join(&mut self, turn: &mut Turn<'_>, join: &Join) -> Left {
        let request = &join.request;
        let is_unnamed = request.member_id.is_empty();
        let id = match is_unnamed {
            true => KStr::from(join.fresh.to_string()),
            false => request.member_id.detach(),
        };
        let (comer, subscription) = match self.admit_join(turn, join, &id) {
            Ok(admitted) => admitted,
            Err(code) => {
                let member_id =
                    if code == ErrorCode::MemberIdRequired { id } else { request.member_id.clone() };
                let refused = JoinGroupResponse {
                    error_code: code.code(),
                    generation_id: -1,
                    member_id,
                    ..JoinGroupResponse::default()
                };
                turn.fx.reply(join.ticket, refused);
                return Left::Consumer;
            }
        };
        let wish = self.classic_wish(&comer, &id, join, &subscription);
        if let Comer::Replaces(old) = &comer
            && let Some(classic) = self.downgraded_by_replacing(old, &wish, turn)
        {
            return Left::Classic(Box::new(classic));
        }

        self.refresh_topics(turn);
        if let Comer::Replaces(old) = &comer {
            self.replace(old, &id, turn);
        }
        let changed = self.take_wish(turn, &comer, &id, &wish);
        self.assign_if_due(turn);
        let owned = subscription.owned_partitions(turn.topics);
        self.reconcile(&id, Some(&owned), changed, turn);
        self.extend_session(&id, turn);
        self.note_if_settled(turn);
        let now = turn.now.steady;
        let member = self.members.get_mut(id.as_str()).expect("it has just joined");
        member.deadlines.join = None;
        member.deadlines.sync = Some(now.after(member.rebalance_timeout()));
        let joined = JoinGroupResponse {
            generation_id: member.standing.epoch,
            protocol_type: Some(KStr::from_static(CONSUMER)),
            protocol_name: first_protocol(member).map(|protocol| protocol.name.clone()),
            member_id: id,
            ..JoinGroupResponse::default()
        };
        turn.fx.reply(join.ticket, joined);
        Left::Consumer
    }

    fn admit_join(
        &self,
        turn: &Turn<'_>,
        join: &Join,
        id: &KStr,
    ) -> Result<(Comer, Subscription), ErrorCode> {
        let request = &join.request;
        let is_unnamed = request.member_id.is_empty();
        let comer = match &request.group_instance_id {
            None if self.members.contains_key(id.as_str()) => Comer::Known,
            None => Comer::New,
            Some(instance) => match self.instances.get(instance.as_str()) {
                None if is_unnamed => Comer::New,
                None => return Err(ErrorCode::UnknownMemberId),
                Some(old) if is_unnamed => Comer::Replaces(old.clone()),
                Some(old) if old != id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => Comer::Known,
            },
        };
        if matches!(comer, Comer::New) && self.members.len() >= turn.settings.consumer.members_max {
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        if !self.speaks_with(request) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        if is_unnamed && request.group_instance_id.is_none() && join.version >= NEEDS_ID_FIRST {
            return Err(ErrorCode::MemberIdRequired);
        }
        if join.bytes() > RECORD_BYTES_MAX {
            return Err(ErrorCode::InvalidRequest);
        }
        let first = request.protocols.first().ok_or(ErrorCode::InconsistentGroupProtocol)?;
        let subscription =
            Subscription::read(&first.metadata).map_err(|_| ErrorCode::InconsistentGroupProtocol)?;
        Ok((comer, subscription))
    }

    /// Whether somebody who speaks these can be in one group with the classic members that there are: it may become a
    /// classic group again.
    fn speaks_with(&self, request: &JoinGroupRequest) -> bool {
        let spoken_by_all = |asked: &JoinGroupRequestProtocol| {
            let mut classic = self.members.values().filter_map(Member::classic);
            classic
                .all(|member| member.supported_protocols.iter().any(|protocol| protocol.name == asked.name))
        };
        request.protocol_type == *CONSUMER && request.protocols.iter().any(spoken_by_all)
    }

    fn classic_wish(
        &self,
        comer: &Comer,
        id: &KStr,
        join: &Join,
        subscription: &Subscription,
    ) -> ConsumerGroupMemberMetadataValue {
        let request = &join.request;
        let before = match comer {
            Comer::New => None,
            Comer::Known => self.members.get(id.as_str()),
            Comer::Replaces(old) => self.members.get(old.as_str()),
        };
        let before = before.map_or_else(no_wish, |member| member.wish.clone());
        let protocols = request.protocols.iter().map(|protocol| ClassicProtocol {
            name: protocol.name.detach(),
            metadata: bytes::Bytes::copy_from_slice(&protocol.metadata),
        });
        // Before version 1 the session is all that it has to join again.
        let timeout =
            if join.version >= 1 { request.rebalance_timeout_ms } else { request.session_timeout_ms };
        ConsumerGroupMemberMetadataValue {
            instance_id: request.group_instance_id.as_ref().map(KStr::detach).or(before.instance_id),
            rack_id: subscription.rack.as_ref().map(KStr::detach).or(before.rack_id),
            client_id: join.caller.client_id.detach(),
            client_host: join.caller.host.detach(),
            subscribed_topic_names: sorted(&subscription.topics),
            subscribed_topic_regex: None,
            rebalance_timeout_ms: timeout,
            server_assignor: before.server_assignor,
            classic_member_metadata: Some(ClassicMemberMetadata {
                session_timeout_ms: request.session_timeout_ms,
                supported_protocols: protocols.collect(),
            }),
        }
    }

    /// A SyncGroup: the member learns what it holds.
    pub(super) fn sync(&mut self, turn: &mut Turn<'_>, ticket: Ticket, request: &SyncGroupRequest) {
        let reply = match self.admit_sync(turn, request) {
            Err(code) => SyncGroupResponse { error_code: code.code(), ..SyncGroupResponse::default() },
            Ok(()) => {
                self.extend_session(&request.member_id, turn);
                let member = self.members.get_mut(request.member_id.as_str()).expect("it was just found");
                member.deadlines.sync = None;
                let metadata = first_protocol(member).map(|protocol| &protocol.metadata);
                let version = metadata.and_then(|metadata| Subscription::read(metadata).ok());
                let version = version.map_or(0, |subscription| subscription.version);
                SyncGroupResponse {
                    protocol_type: request.protocol_type.clone(),
                    protocol_name: request.protocol_name.clone(),
                    assignment: embedded::assignment_of(&member.standing.held, version, turn.topics),
                    ..SyncGroupResponse::default()
                }
            }
        };
        turn.fx.reply(ticket, reply);
    }

    fn admit_sync(&mut self, turn: &Turn<'_>, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
        let member = self.classic_member(&request.member_id, request.group_instance_id.as_ref())?;
        if member.standing.epoch != request.generation_id {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs =
            |said: &Option<KStr>, ours: Option<&str>| said.as_deref().is_some_and(|said| Some(said) != ours);
        let name = first_protocol(member).map(|protocol| &*protocol.name);
        if differs(&request.protocol_type, Some(CONSUMER)) || differs(&request.protocol_name, name) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        // One that has still to give something back finishes that first.
        if self.epoch > member.standing.epoch && member.standing.state != MemberState::Unrevoked {
            self.expect_join(&request.member_id, turn);
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// A Heartbeat: whether the member has a reason to join again.
    pub(super) fn classic_heartbeat(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        request: &HeartbeatRequest,
    ) {
        let code = match self.hear_classic(turn, request) {
            Ok(()) => ErrorCode::None,
            Err(code) => code,
        };
        turn.fx.reply(ticket, HeartbeatResponse { error_code: code.code(), ..HeartbeatResponse::default() });
    }

    fn hear_classic(&mut self, turn: &mut Turn<'_>, request: &HeartbeatRequest) -> Result<(), ErrorCode> {
        let member = self.classic_member(&request.member_id, request.group_instance_id.as_ref())?;
        if member.standing.epoch != request.generation_id {
            return Err(ErrorCode::IllegalGeneration);
        }
        self.extend_session(&request.member_id, turn);
        self.refresh_topics(turn);
        let member = &self.members[request.member_id.as_str()];
        let must_join = member.standing.epoch < self.epoch
            || match member.standing.state {
                MemberState::Unrevoked => true,
                MemberState::Unreleased => !self.waits_for_others(&request.member_id),
                MemberState::Stable | MemberState::Unknown => false,
            };
        if must_join {
            self.expect_join(&request.member_id, turn);
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// Whether others hold something still that this member is to have.
    fn waits_for_others(&self, id: &KStr) -> bool {
        let held = &self.members[id.as_str()].standing.held;
        let is_missing = |(topic, partition): &(_, _)| !held.contains(*topic, *partition);
        self.target(id).iter().filter(is_missing).any(|place| self.owners.contains_key(&place))
    }

    fn expect_join(&mut self, id: &KStr, turn: &Turn<'_>) {
        if let Some(member) = self.members.get_mut(id.as_str()) {
            let timeout = member.rebalance_timeout();
            member.deadlines.join.get_or_insert(turn.now.steady.after(timeout));
        }
    }

    fn classic_member(&self, id: &KStr, instance: Option<&KStr>) -> Result<&Member, ErrorCode> {
        if let Some(instance) = instance {
            match self.instances.get(instance.as_str()) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(holder) if holder != id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        let member = self.members.get(id.as_str());
        member.filter(|member| member.classic().is_some()).ok_or(ErrorCode::UnknownMemberId)
    }

    /// A LeaveGroup, by which an admin may also take out members of the new protocol.
    pub(super) fn classic_leave(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        leaving: &[MemberIdentity],
    ) -> Left {
        let (mut gone, mut first): (Vec<KStr>, Option<Cause>) = (Vec::new(), None);
        let mut members = Vec::with_capacity(leaving.len());
        for member in leaving {
            let code = match self.leaving_member(member) {
                Ok(id) => {
                    let said = said(member.reason.as_ref());
                    first.get_or_insert_with(|| Cause { said, ..self.cause_of(Why::MemberLeft, &id) });
                    if !gone.contains(&id) {
                        gone.push(id);
                    }
                    ErrorCode::None
                }
                Err(code) => code,
            };
            members.push(MemberResponse {
                member_id: member.member_id.clone(),
                group_instance_id: member.group_instance_id.clone(),
                error_code: code.code(),
            });
        }
        turn.fx.reply(ticket, LeaveGroupResponse { members, ..LeaveGroupResponse::default() });
        match first {
            Some(cause) => self.fence(&gone, cause, turn),
            None => Left::Consumer,
        }
    }

    fn leaving_member(&self, leaving: &MemberIdentity) -> Result<KStr, ErrorCode> {
        let Some(instance) = &leaving.group_instance_id else {
            let known = self.members.get_key_value(leaving.member_id.as_str());
            return known.map(|(id, _)| id.clone()).ok_or(ErrorCode::UnknownMemberId);
        };
        match self.instances.get(instance.as_str()) {
            None => Err(ErrorCode::UnknownMemberId),
            // An admin knows the name of a static member, not its id.
            Some(holder) if leaving.member_id.is_empty() || *holder == leaving.member_id => {
                Ok(holder.clone())
            }
            Some(_) => Err(ErrorCode::FencedInstanceId),
        }
    }
}

/// A classic member's first choice.
pub(super) fn first_protocol(member: &Member) -> Option<&ClassicProtocol> {
    member.classic()?.supported_protocols.first()
}
