//! What the passing of time does to a group.

use millstream_protocol::KStr;

use super::member::Member;
use super::{ClassicGroup, Initial, Phase, Preparing};
use crate::groups::cause::Why;
use crate::groups::turn::{Millis, Note, Turn};

impl ClassicGroup {
    /// When [`expire`](Self::expire) has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        let phase = match &self.phase {
            Phase::Preparing(preparing) => Some(preparing.deadline),
            Phase::Completing(syncing) | Phase::Stable(syncing) if !syncing.missing.is_empty() => {
                Some(syncing.deadline)
            }
            Phase::Empty | Phase::Completing(_) | Phase::Stable(_) => None,
        };
        let sessions = self.members.iter().filter_map(Member::expires_at);
        sessions.chain(self.pending.values().copied()).chain(phase).min()
    }

    /// Does what is due: ends sessions, and the waits for members and for their SyncGroups.
    pub(crate) fn expire(&mut self, turn: &mut Turn<'_>) {
        self.expire_pending(turn);
        self.expire_sessions(turn);
        match &self.phase {
            Phase::Preparing(preparing) if preparing.deadline <= turn.now.steady => self.expire_joins(turn),
            Phase::Completing(syncing) | Phase::Stable(syncing)
                if syncing.deadline <= turn.now.steady && !syncing.missing.is_empty() =>
            {
                let missing: Vec<KStr> = syncing.missing.iter().cloned().collect();
                self.expire_syncs(&missing, turn);
            }
            Phase::Empty | Phase::Preparing(_) | Phase::Completing(_) | Phase::Stable(_) => {}
        }
    }

    fn expire_pending(&mut self, turn: &mut Turn<'_>) {
        let before = self.pending.len();
        self.pending.retain(|_, until| *until > turn.now.steady);
        if self.pending.len() < before {
            self.complete_if_nobody_is_missing(turn);
        }
    }

    fn expire_sessions(&mut self, turn: &mut Turn<'_>) {
        let is_due = |member: &&Member| member.expires_at().is_some_and(|at| at <= turn.now.steady);
        let due: Vec<KStr> = self.members.iter().filter(is_due).map(|member| member.id.clone()).collect();
        let Some(first) = due.first() else { return };
        let cause = self.cause_of(Why::SessionExpired, first);
        for id in &due {
            self.take_out(id, turn);
            turn.fx.notes.push(Note::SessionExpired { group: self.id.clone(), member: id.clone() });
        }
        match &self.phase {
            Phase::Preparing(_) => self.complete_if_nobody_is_missing(turn),
            Phase::Empty | Phase::Completing(_) | Phase::Stable(_) => {
                self.rebalance_or_complete(cause, turn);
            }
        }
    }

    /// The wait for members is over, unless it is the first of an empty group and somebody came meanwhile.
    fn expire_joins(&mut self, turn: &mut Turn<'_>) {
        if let Phase::Preparing(Preparing { deadline, initial: Some(initial) }) = &mut self.phase
            && initial.is_growing
            && !initial.remaining.is_zero()
        {
            let delay = initial.delay.min(initial.remaining);
            let remaining = initial.remaining.saturating_sub(initial.delay);
            *initial = Initial { delay, remaining, is_growing: false };
            *deadline = turn.now.steady.after(delay);
            return;
        }
        self.complete(turn);
    }

    /// Who has joined and does not fetch its assignment is not there.
    fn expire_syncs(&mut self, missing: &[KStr], turn: &mut Turn<'_>) {
        let Some(first) = missing.first() else { return };
        let cause = self.cause_of(Why::SyncExpired, first);
        for id in missing {
            self.take_out(id, turn);
        }
        self.begin(cause, turn);
    }
}
