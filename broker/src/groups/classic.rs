//! The classic group protocol: clients join, one of them divides the work, all sync on what it decided.
//!
//! A group as a state machine. Requests and the passing of time come in; replies, records and notes go out
//! through its [`Turn`]. It knows no log, no clock and no connection: that records are durable before a reply
//! leaves is the shard's business, and so is the table of groups.
//!
//! ```text
//!           join                    all joined, or time is up              the leader's sync
//!  Empty ----------> Preparing ------------------------------> Completing --------------------> Stable
//!    ^                |  ^  ^                                      |                               |
//!    +----------------+  |  +--------------------------------------+                               |
//!       nobody is left   +-------------------------------------------------------------------------+
//!                                 a member joins, leaves, expires, or has new metadata
//! ```
//!
//! As Kafka's coordinator decides, except that every request is answered: where Kafka forgets one (a member
//! that asks again while its first request is parked, or is removed while it waits for its assignment), the
//! forgotten one is told to join again here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_protocol::{ErrorCode, KStr};

use self::members::Members;
use super::cause::Cause;
use super::group::Committer;
use super::turn::{Millis, Note, Now, Turn};

mod converting;
mod describing;
mod expiring;
mod joining;
mod leaving;
mod member;
mod members;
mod rebalancing;
mod replaying;
mod serving;
mod subscription;
mod syncing;

pub(crate) use self::converting::Seat;
pub(crate) use self::joining::Join;
pub(crate) use self::member::{Member, Protocol, Timeouts};

/// Ids that were handed out and not used yet. Each costs memory until it expires; Kafka has no limit.
const PENDING_MAX: usize = 10_000;

/// The protocol type of consumers: their metadata names topics.
const CONSUMER: &str = "consumer";

/// A group whose record would be larger is not stored: Kafka's limit for `__consumer_offsets`, less what a batch has
/// around its records.
pub(super) const RECORD_BYTES_MAX: usize = (1 << 20) - 1024;

/// A classic group.
#[derive(Debug)]
pub(crate) struct ClassicGroup {
    id: KStr,
    phase: Phase,
    /// When it came into this phase, by the wall clock.
    since_ms: i64,
    /// Never falls.
    generation: i32,
    /// Empty until somebody joins.
    protocol_type: KStr,
    /// What the members of this generation agreed on.
    protocol: Option<KStr>,
    leader: Option<KStr>,
    members: Members,
    /// Ids that were handed out (MEMBER_ID_REQUIRED), with the time until which they can be used.
    pending: BTreeMap<KStr, Millis>,
    /// The rebalance under way, until its assignment is there.
    rebalance: Option<Rebalance>,
    /// Whether the log has a record of it.
    is_stored: bool,
}

#[derive(Debug, Clone)]
enum Phase {
    /// No members. Offsets may be committed from outside.
    Empty,
    /// Members are waited for.
    Preparing(Preparing),
    /// The members are known; the leader's assignment is waited for.
    Completing(Syncing),
    /// Every member may fetch its assignment.
    Stable(Syncing),
}

#[derive(Debug, Clone)]
struct Preparing {
    /// When it goes on without those that are missing.
    deadline: Millis,
    /// Set if the group was empty: nobody knows how many will come.
    initial: Option<Initial>,
}

/// The wait for the first members of a group, by one delay at a time while there are new ones.
#[derive(Debug, Clone, Copy)]
struct Initial {
    /// The delay that runs.
    delay: Duration,
    /// What is left for further ones.
    remaining: Duration,
    /// Somebody came since the delay began.
    is_growing: bool,
}

/// Members of the generation that did not sync yet, and until when they may.
#[derive(Debug, Clone)]
struct Syncing {
    missing: BTreeSet<KStr>,
    deadline: Millis,
}

/// What is told about a rebalance once it is over.
#[derive(Debug, Clone)]
struct Rebalance {
    cause: Cause,
    began: Millis,
}

impl ClassicGroup {
    pub(crate) fn new(id: &KStr, now: Now) -> Self {
        Self {
            id: id.detach(),
            phase: Phase::Empty,
            since_ms: now.wall_ms,
            generation: 0,
            protocol_type: KStr::default(),
            protocol: None,
            leader: None,
            members: Members::default(),
            pending: BTreeMap::new(),
            rebalance: None,
            is_stored: false,
        }
    }

    /// Nobody is in it and nothing of it was stored: it may be forgotten without a trace.
    pub(crate) fn is_vacant(&self) -> bool {
        !self.is_stored && self.is_empty() && self.pending.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.phase, Phase::Empty)
    }

    /// Since when it has no members, by the wall clock.
    pub(crate) fn emptied_at(&self) -> Option<i64> {
        self.is_empty().then_some(self.since_ms)
    }

    /// Kafka's name of the state, for DescribeGroups and ListGroups.
    pub(crate) fn state(&self) -> &'static str {
        match self.phase {
            Phase::Empty => "Empty",
            Phase::Preparing(_) => "PreparingRebalance",
            Phase::Completing(_) => "CompletingRebalance",
            Phase::Stable(_) => "Stable",
        }
    }

    pub(crate) fn protocol_type(&self) -> &KStr {
        &self.protocol_type
    }

    /// Whether its members are consumers.
    pub(crate) fn is_of_consumers(&self) -> bool {
        &*self.protocol_type == CONSUMER
    }

    /// A Heartbeat: the member lives.
    ///
    /// # Errors
    /// Kafka's code: what the client has to do now.
    pub(crate) fn heartbeat(
        &mut self,
        (member, instance): (&str, Option<&str>),
        generation: i32,
        turn: &mut Turn<'_>,
    ) -> Result<(), ErrorCode> {
        self.know(member, instance, turn)?;
        self.expect_generation(generation)?;
        self.refresh_session(turn.now, member);
        match self.phase {
            Phase::Empty => Err(ErrorCode::UnknownMemberId),
            Phase::Preparing(_) => Err(ErrorCode::RebalanceInProgress),
            Phase::Completing(_) | Phase::Stable(_) => Ok(()),
        }
    }

    /// May these offsets be committed? Generation -1 and no member: from outside the group. A member that commits
    /// lives.
    ///
    /// # Errors
    /// Kafka's code.
    pub(crate) fn check_commit(&mut self, turn: &mut Turn<'_>, by: &Committer) -> Result<(), ErrorCode> {
        let generation = by.generation_or_epoch;
        if generation < 0 && self.is_empty() {
            return Ok(());
        }
        if !by.is_member() {
            return Err(ErrorCode::UnknownMemberId);
        }
        self.know(&by.member_id, by.instance_id.as_deref(), turn)?;
        self.expect_generation(generation)?;
        self.refresh_session(turn.now, &by.member_id);
        match self.phase {
            // It has the generation from its JoinGroup and hence knows that it has to sync first.
            Phase::Completing(_) => Err(ErrorCode::RebalanceInProgress),
            Phase::Empty | Phase::Preparing(_) | Phase::Stable(_) => Ok(()),
        }
    }

    /// Whether `by` may commit inside a transaction. Whoever does not say who it is may: clients of before KIP-447 cannot.
    /// The state of the group does not matter, and it is no sign of life.
    ///
    /// # Errors
    /// Kafka's code.
    pub(crate) fn check_transactional_commit(
        &self,
        turn: &mut Turn<'_>,
        by: &Committer,
    ) -> Result<(), ErrorCode> {
        let is_simple = by.generation_or_epoch < 0 && self.is_empty();
        if is_simple || !by.is_member() {
            return Ok(());
        }
        self.know(&by.member_id, by.instance_id.as_deref(), turn)?;
        self.expect_generation(by.generation_or_epoch)
    }

    /// May offsets be deleted? Those of topics that its members do not read: we know which only from consumers.
    ///
    /// # Errors
    /// Kafka's code.
    pub(crate) fn check_offset_delete(&self) -> Result<(), ErrorCode> {
        match self.is_empty() || self.is_of_consumers() {
            true => Ok(()),
            false => Err(ErrorCode::NonEmptyGroup),
        }
    }

    fn refresh_session(&mut self, now: Now, member: &str) {
        if let Some(member) = self.members.get_mut(member) {
            member.hears(now.steady);
        }
    }

    /// Whether the member is one of ours, and still the one that holds its static name.
    fn know(&self, member: &str, instance: Option<&str>, turn: &mut Turn<'_>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            let holder = self.members.holder(instance).ok_or(ErrorCode::UnknownMemberId)?;
            if &**holder != member {
                turn.fx.notes.push(Note::Fenced {
                    group: self.id.clone(),
                    instance: instance.into(),
                    member: member.into(),
                });
                return Err(ErrorCode::FencedInstanceId);
            }
        }
        self.members.get(member).map(|_| ()).ok_or(ErrorCode::UnknownMemberId)
    }

    fn expect_generation(&self, generation: i32) -> Result<(), ErrorCode> {
        match generation == self.generation {
            true => Ok(()),
            false => Err(ErrorCode::IllegalGeneration),
        }
    }

    fn is_leader(&self, member: &str) -> bool {
        self.leader.as_deref() == Some(member)
    }

    fn enter(&mut self, now: Now, phase: Phase) {
        self.phase = phase;
        self.since_ms = now.wall_ms;
    }
}

#[cfg(test)]
mod tests;
