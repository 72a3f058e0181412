//! JoinGroup: who may come in, under which id, and whether that starts a rebalance.

use std::time::Duration;

use bytes::Bytes;
use millstream_protocol::messages::join_group_response::JoinGroupResponseMember;
use millstream_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use millstream_protocol::{ErrorCode, KStr, Uuid};

use super::member::{Member, Parked, Protocol, Timeouts};
use super::{ClassicGroup, PENDING_MAX, Phase, RECORD_BYTES_MAX};
use crate::groups::cause::{Caller, Cause, Why, said};
use crate::groups::turn::{Ticket, Turn};
use crate::settings::GroupSettings;

/// How long the first JoinGroup of a member is held. A client that gave up meanwhile has asked again, and is
/// another member; this one must not keep the group waiting for ever.
const NEW_MEMBER_HELD: Duration = Duration::from_mins(5);

/// What all members of a group may tell together, as a multiple of the largest record: only what they say by the
/// protocol that is elected becomes part of it.
const TOLD_IN_RECORDS_MAX: usize = 4;

/// Bytes of a client's name that become part of a member id: an id must fit a string of the protocol.
const NAME_IN_ID_MAX: usize = 1024;

/// A JoinGroup, with what a state machine cannot make up by itself.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) ticket: Ticket,
    pub(crate) caller: Caller,
    pub(crate) version: i16,
    pub(crate) request: JoinGroupRequest,
    /// Part of a new member's id.
    pub(crate) fresh: Uuid,
}

impl Join {
    /// A dynamic member has to come back under the id that it is told (KIP-394): one that never comes back
    /// keeps nobody waiting.
    fn needs_known_id(&self) -> bool {
        self.version >= 4
    }

    /// The leader can be told that there is nothing to divide (KIP-814).
    fn can_skip_assignment(&self) -> bool {
        self.version >= 9
    }

    fn instance(&self) -> Option<&str> {
        self.request.group_instance_id.as_deref()
    }

    fn timeouts(&self) -> Timeouts {
        let session = millis(self.request.session_timeout_ms);
        // Version 0 has one timeout for both.
        let rebalance = if self.version == 0 { session } else { millis(self.request.rebalance_timeout_ms) };
        Timeouts { session, rebalance }
    }

    fn fresh_id(&self) -> KStr {
        let name = self.instance().unwrap_or(&self.caller.client_id);
        let end = name.floor_char_boundary(NAME_IN_ID_MAX);
        format!("{}-{}", &name[..end], self.fresh).into()
    }

    fn cause(&self, why: Why, member: &str) -> Cause {
        Cause {
            why,
            member: member.into(),
            instance: self.request.group_instance_id.as_ref().map(KStr::detach),
            caller: self.caller.clone(),
            said: said(self.request.reason.as_ref()),
        }
    }

    pub(in crate::groups) fn bytes(&self) -> usize {
        self.request.protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len()).sum()
    }
}

/// Negative times are sent by clients that do not care.
pub(super) fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// A refusal.
pub(super) fn refused(member: KStr, code: ErrorCode) -> JoinGroupResponse {
    JoinGroupResponse {
        error_code: code.code(),
        member_id: member,
        protocol_name: None,
        ..JoinGroupResponse::default()
    }
}

impl ClassicGroup {
    /// A JoinGroup. It is answered at once, or parked until everybody has joined.
    pub(crate) fn join(&mut self, join: &Join, turn: &mut Turn<'_>) {
        let asked = &join.request.member_id;
        if let Err(code) = self.admit(join, turn.settings) {
            let told =
                if code == ErrorCode::InconsistentGroupProtocol { asked.detach() } else { KStr::default() };
            turn.fx.reply(join.ticket, refused(told, code));
            if code == ErrorCode::GroupMaxSizeReached {
                self.drop_surplus(asked, turn);
            }
            return;
        }
        match asked.is_empty() {
            true => self.join_as_new(join, turn),
            false => self.join_again(join, turn),
        }
    }

    /// What holds for everybody who wants to be in the group.
    fn admit(&self, join: &Join, settings: &GroupSettings) -> Result<(), ErrorCode> {
        if !self.has_room_for(&join.request.member_id, settings.members_max) {
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        if !self.fits(&join.request) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        // Kafka finds out when it stores the group, fails the leader's SyncGroup with this code, and begins anew.
        if join.bytes() > RECORD_BYTES_MAX {
            return Err(ErrorCode::UnknownServerError);
        }
        let told_max = RECORD_BYTES_MAX.saturating_mul(TOLD_IN_RECORDS_MAX);
        if self.members.told_by_others(&join.request.member_id) + join.bytes() > told_max {
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        Ok(())
    }

    /// While members are waited for, those count that came: in a group that is too large, as after a change of
    /// the limit, the last ones to come are turned away.
    fn has_room_for(&self, member: &str, members_max: usize) -> bool {
        match &self.phase {
            Phase::Empty => true,
            Phase::Preparing(_) => {
                self.members.get(member).is_some_and(Member::is_joining)
                    || self.members.joining() < members_max
            }
            Phase::Completing(_) | Phase::Stable(_) => {
                self.members.get(member).is_some() || self.members.len() < members_max
            }
        }
    }

    fn fits(&self, request: &JoinGroupRequest) -> bool {
        let mut names = request.protocols.iter().map(|protocol| &protocol.name);
        match self.phase {
            Phase::Empty => !request.protocol_type.is_empty() && !request.protocols.is_empty(),
            Phase::Preparing(_) | Phase::Completing(_) | Phase::Stable(_) => {
                self.protocol_type == request.protocol_type && self.members.share_one_of(&mut names)
            }
        }
    }

    /// A member that was turned away while members are waited for is out, so that nobody waits for it.
    fn drop_surplus(&mut self, member: &str, turn: &mut Turn<'_>) {
        if matches!(self.phase, Phase::Preparing(_)) && self.take_out(member, turn).is_some() {
            self.complete_if_all_joined(turn);
        }
    }

    fn join_as_new(&mut self, join: &Join, turn: &mut Turn<'_>) {
        let id = join.fresh_id();
        if let Some(instance) = join.instance() {
            match self.members.holder(instance).cloned() {
                Some(holder) => self.replace_static(join, (&holder, id), turn),
                None => self.add(join, &id, turn),
            }
        } else if !join.needs_known_id() {
            self.add(join, &id, turn);
        } else if self.pending.len() >= PENDING_MAX {
            turn.fx.reply(join.ticket, refused(KStr::default(), ErrorCode::GroupMaxSizeReached));
        } else {
            self.pending.insert(id.clone(), turn.now.steady.after(join.timeouts().session));
            turn.fx.reply(join.ticket, refused(id, ErrorCode::MemberIdRequired));
        }
    }

    fn join_again(&mut self, join: &Join, turn: &mut Turn<'_>) {
        let id = join.request.member_id.detach();
        if join.instance().is_none() && self.pending.contains_key(&id) {
            return self.add(join, &id, turn);
        }
        if let Err(code) = self.know(&id, join.instance(), turn) {
            return turn.fx.reply(join.ticket, refused(id, code));
        }
        let protocols = Protocol::offered(&join.request.protocols);
        let is_same = self.members.get(&id).is_some_and(|member| member.protocols == protocols);
        let why = match &self.phase {
            Phase::Preparing(_) => Why::MetadataChanged,
            // It may have missed the reply: it gets the same again.
            Phase::Completing(_) if is_same => return self.tell_generation(join.ticket, &id, turn),
            // The leader knows why it wants a new division, as when partitions were added.
            Phase::Stable(_) if self.is_leader(&id) => Why::LeaderRejoined,
            Phase::Stable(_) if is_same => return self.tell_generation(join.ticket, &id, turn),
            Phase::Completing(_) | Phase::Stable(_) => Why::MetadataChanged,
            Phase::Empty => return turn.fx.reply(join.ticket, refused(id, ErrorCode::UnknownMemberId)),
        };
        self.members.update(&id, &protocols, join.timeouts(), join.caller.clone());
        self.park(&id, Parked::Join(join.ticket), turn);
        self.rebalance_or_complete(join.cause(why, &id), turn);
    }

    /// The generation as it is, to a member that is in it already.
    fn tell_generation(&mut self, ticket: Ticket, member: &KStr, turn: &mut Turn<'_>) {
        let knows_all = self.is_leader(member) && matches!(self.phase, Phase::Completing(_));
        let members = if knows_all { self.listed() } else { Vec::new() };
        turn.fx.reply(ticket, JoinGroupResponse { members, ..self.joined(member) });
        self.refresh_session(turn.now, member);
    }

    fn add(&mut self, join: &Join, id: &KStr, turn: &mut Turn<'_>) {
        if self.members.is_empty() {
            self.protocol_type = join.request.protocol_type.detach();
        }
        if self.leader.is_none() {
            self.leader = Some(id.clone());
        }
        self.pending.remove(id);
        self.members.insert(Member {
            id: id.clone(),
            instance_id: join.request.group_instance_id.as_ref().map(KStr::detach),
            caller: join.caller.clone(),
            timeouts: join.timeouts(),
            protocols: Protocol::offered(&join.request.protocols),
            assignment: Bytes::new(),
            parked: Parked::Join(join.ticket),
            is_new: true,
            deadline: turn.now.steady.after(NEW_MEMBER_HELD),
        });
        if let Phase::Preparing(super::Preparing { initial: Some(initial), .. }) = &mut self.phase {
            initial.is_growing = true;
        }
        self.rebalance_or_complete(join.cause(Why::MemberJoined, id), turn);
    }

    /// A static member came back without its id: it takes the place of the one that it was.
    fn replace_static(&mut self, join: &Join, (before, id): (&KStr, KStr), turn: &mut Turn<'_>) {
        let Some(mut member) = self.members.remove(before) else { return };
        self.answer_parked(&member, ErrorCode::FencedInstanceId, turn);
        let led_by = self.leader.clone();
        if self.is_leader(before) {
            self.leader = Some(id.clone());
        }
        member.id = id.clone();
        member.caller = join.caller.clone();
        member.timeouts = join.timeouts();
        member.protocols = Protocol::offered(&join.request.protocols);
        member.parked = Parked::Join(join.ticket);
        member.hears(turn.now.steady);
        self.members.insert(member);
        match &self.phase {
            Phase::Stable(_) if self.members.elect_protocol() == self.protocol => {
                self.rename_missing(before, &id);
                self.store(turn);
                self.members.park(&id, Parked::No);
                let reply = self.readmitted(join, &id, led_by);
                turn.fx.reply(join.ticket, reply);
            }
            Phase::Stable(_) | Phase::Completing(_) | Phase::Preparing(_) => {
                self.rebalance_or_complete(join.cause(Why::StaticReplaced, &id), turn);
            }
            Phase::Empty => unreachable!("an empty group has no static member"),
        }
    }

    /// To a static member that took its old place. A leader must not divide anew: others would never hear of it.
    /// One that cannot be told to skip it (before version 9) is told that the leader is who it was, and takes
    /// itself for a follower.
    fn readmitted(&self, join: &Join, id: &KStr, led_by: Option<KStr>) -> JoinGroupResponse {
        if !join.can_skip_assignment() {
            return JoinGroupResponse { leader: led_by.unwrap_or_default(), ..self.joined(id) };
        }
        match self.is_leader(id) {
            true => JoinGroupResponse { members: self.listed(), skip_assignment: true, ..self.joined(id) },
            false => self.joined(id),
        }
    }

    fn rename_missing(&mut self, before: &KStr, id: &KStr) {
        if let Phase::Stable(syncing) = &mut self.phase
            && syncing.missing.remove(before)
        {
            syncing.missing.insert(id.clone());
        }
    }

    /// What a follower of this generation is told.
    pub(super) fn joined(&self, member: &KStr) -> JoinGroupResponse {
        JoinGroupResponse {
            generation_id: self.generation,
            protocol_type: Some(self.protocol_type.clone()),
            protocol_name: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: member.clone(),
            ..JoinGroupResponse::default()
        }
    }

    /// What the leader is told of everybody.
    pub(super) fn listed(&self) -> Vec<JoinGroupResponseMember> {
        let protocol = self.protocol.clone().unwrap_or_default();
        let list = self.members.iter().map(|member| JoinGroupResponseMember {
            member_id: member.id.clone(),
            group_instance_id: member.instance_id.clone(),
            metadata: member.metadata(&protocol),
        });
        list.collect()
    }
}
