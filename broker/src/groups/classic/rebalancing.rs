//! The rebalance itself: from the first reason for one to the members of the next generation.

use std::collections::BTreeSet;
use std::time::Duration;

use millstream_protocol::messages::{JoinGroupResponse, SyncGroupResponse};
use millstream_protocol::{ErrorCode, KStr};

use super::joining::refused;
use super::member::{Member, Parked};
use super::{ClassicGroup, Initial, Phase, Preparing, Rebalance, Syncing};
use crate::groups::cause::Cause;
use crate::groups::turn::{Note, Turn};

/// The least time between two attempts to go on with a group none of whose members came.
const RETRY: Duration = Duration::from_secs(1);

impl ClassicGroup {
    /// Something happened that calls for a new generation. One that is being prepared already may be complete
    /// by it.
    pub(super) fn rebalance_or_complete(&mut self, cause: Cause, turn: &mut Turn<'_>) {
        match &self.phase {
            Phase::Empty => self.begin_initial(cause, turn),
            Phase::Completing(_) | Phase::Stable(_) => self.begin(cause, turn),
            Phase::Preparing(_) => self.complete_if_all_joined(turn),
        }
    }

    /// The first members of a group: more will come.
    fn begin_initial(&mut self, cause: Cause, turn: &mut Turn<'_>) {
        let delay = turn.settings.initial_rebalance_delay;
        let remaining = self.members.rebalance_timeout().saturating_sub(delay);
        let initial = Initial { delay, remaining, is_growing: false };
        self.enter(
            turn.now,
            Phase::Preparing(Preparing { deadline: turn.now.steady.after(delay), initial: Some(initial) }),
        );
        self.announce(cause, turn);
    }

    /// Everybody has to join again.
    pub(super) fn begin(&mut self, cause: Cause, turn: &mut Turn<'_>) {
        self.cancel_syncs(ErrorCode::RebalanceInProgress, turn);
        let deadline = turn.now.steady.after(self.members.rebalance_timeout());
        self.enter(turn.now, Phase::Preparing(Preparing { deadline, initial: None }));
        self.announce(cause, turn);
        self.complete_if_all_joined(turn);
    }

    fn announce(&mut self, cause: Cause, turn: &mut Turn<'_>) {
        turn.fx.notes.push(Note::RebalanceBegan {
            group: self.id.clone(),
            generation: self.generation,
            cause: cause.clone(),
        });
        // Overtaken by another reason before its assignment was there, it is still one wait for the members.
        self.rebalance.get_or_insert(Rebalance { cause, began: turn.now.steady });
    }

    /// The first members of a group are waited for to the end of the delay, even if all that we know are there.
    pub(super) fn complete_if_all_joined(&mut self, turn: &mut Turn<'_>) {
        if let Phase::Preparing(Preparing { initial: None, .. }) = self.phase {
            self.complete_if_nobody_is_missing(turn);
        }
    }

    /// As above, after somebody was taken out: then nobody waits for the end of the delay, as in Kafka.
    pub(super) fn complete_if_nobody_is_missing(&mut self, turn: &mut Turn<'_>) {
        if matches!(self.phase, Phase::Preparing(_)) && self.members.all_joining() && self.pending.is_empty()
        {
            self.complete(turn);
        }
    }

    /// The wait for members is over: those who joined are the next generation. A static member that did not come
    /// stays, until its session ends.
    pub(super) fn complete(&mut self, turn: &mut Turn<'_>) {
        let late = self.members.iter().filter(|member| !member.is_joining() && !member.is_static());
        let late: Vec<KStr> = late.map(|member| member.id.clone()).collect();
        for member in &late {
            self.take_out(member, turn);
            turn.fx.notes.push(Note::DidNotRejoin { group: self.id.clone(), member: member.clone() });
        }
        if self.members.is_empty() {
            return self.become_empty(turn);
        }
        if !self.elect_leader() {
            // Only static members are left and none came: their sessions will end, or they come.
            let deadline = turn.now.steady.after(self.members.rebalance_timeout().max(RETRY));
            return self.enter(turn.now, Phase::Preparing(Preparing { deadline, initial: None }));
        }
        self.generation = self.generation.saturating_add(1);
        self.protocol = self.members.elect_protocol();
        let missing: BTreeSet<KStr> = self.members.iter().map(|member| member.id.clone()).collect();
        let deadline = turn.now.steady.after(self.members.rebalance_timeout());
        self.enter(turn.now, Phase::Completing(Syncing { missing: missing.clone(), deadline }));
        for id in missing {
            let members = if self.is_leader(&id) { self.listed() } else { Vec::new() };
            let reply = JoinGroupResponse { members, ..self.joined(&id) };
            if let Parked::Join(ticket) = self.members.park(&id, Parked::No) {
                turn.fx.reply(ticket, reply);
            }
            if let Some(member) = self.members.get_mut(&id) {
                member.is_new = false;
                member.hears(turn.now.steady);
            }
        }
    }

    fn become_empty(&mut self, turn: &mut Turn<'_>) {
        self.generation = self.generation.saturating_add(1);
        self.protocol = None;
        self.leader = None;
        self.enter(turn.now, Phase::Empty);
        self.store(turn);
        self.finish(turn);
    }

    /// The rebalance is over, one way or the other.
    pub(super) fn finish(&mut self, turn: &mut Turn<'_>) {
        if let Some(Rebalance { cause, began }) = self.rebalance.take() {
            turn.fx.notes.push(Note::RebalanceEnded {
                group: self.id.clone(),
                generation: self.generation,
                members: self.members.len(),
                cause,
                took: turn.now.steady.since(began),
            });
        }
    }

    /// A leader that did not come back is succeeded by somebody who did. `false`: nobody did.
    fn elect_leader(&mut self) -> bool {
        let leads = self.leader.as_ref().and_then(|leader| self.members.get(leader));
        if leads.is_some_and(Member::is_joining) {
            return true;
        }
        let heir = self.members.iter().find(|member| member.is_joining()).map(|member| member.id.clone());
        match heir {
            Some(heir) => {
                self.leader = Some(heir);
                true
            }
            None => false,
        }
    }

    /// Who waits for an assignment is told to join again, and starts with a whole session.
    pub(super) fn cancel_syncs(&mut self, code: ErrorCode, turn: &mut Turn<'_>) {
        if !matches!(self.phase, Phase::Completing(_)) {
            return;
        }
        for member in self.members.iter_mut() {
            member.assignment = bytes::Bytes::new();
        }
        for (id, ticket) in self.members.unpark_syncs() {
            turn.fx.reply(ticket, sync_refused(code));
            self.refresh_session(turn.now, &id);
        }
    }

    /// Holds a request until its answer is known. One that the same member asked before is told to join again:
    /// a client has one at a time, so this one was given up.
    pub(super) fn park(&mut self, id: &str, parked: Parked, turn: &mut Turn<'_>) {
        match self.members.park(id, parked) {
            Parked::Join(ticket) => {
                turn.fx.reply(ticket, refused(id.into(), ErrorCode::RebalanceInProgress));
            }
            Parked::Sync(ticket) => {
                turn.fx.reply(ticket, sync_refused(ErrorCode::RebalanceInProgress));
            }
            Parked::No => {}
        }
    }

    /// Answers what a member that is out had parked.
    pub(super) fn answer_parked(&self, member: &Member, code: ErrorCode, turn: &mut Turn<'_>) {
        match member.parked {
            Parked::Join(ticket) => {
                // Whoever is not known any more has to come without an id.
                let id = if code == ErrorCode::UnknownMemberId { KStr::default() } else { member.id.clone() };
                turn.fx.reply(ticket, refused(id, code));
            }
            Parked::Sync(ticket) => turn.fx.reply(ticket, sync_refused(code)),
            Parked::No => {}
        }
    }

    /// The member, or the id that was handed out, is gone. What follows from that is the caller's.
    pub(super) fn take_out(&mut self, id: &str, turn: &mut Turn<'_>) -> Option<Member> {
        self.pending.remove(id);
        let member = self.members.remove(id)?;
        self.answer_parked(&member, ErrorCode::UnknownMemberId, turn);
        if self.is_leader(id) {
            self.leader = self.members.iter().next().map(|heir| heir.id.clone());
        }
        if let Phase::Completing(syncing) | Phase::Stable(syncing) = &mut self.phase {
            syncing.missing.remove(id);
        }
        Some(member)
    }
}

pub(super) fn sync_refused(code: ErrorCode) -> SyncGroupResponse {
    SyncGroupResponse { error_code: code.code(), ..SyncGroupResponse::default() }
}
