//! A group that comes from the new protocol or goes to it.

use std::collections::BTreeSet;

use bytes::Bytes;
use millstream_protocol::{ErrorCode, KStr};

use super::joining::refused;
use super::member::{Member, Parked, Protocol, Timeouts};
use super::rebalancing::sync_refused;
use super::{CONSUMER, ClassicGroup, Phase, Syncing};
use crate::groups::cause::{Caller, Why};
use crate::groups::turn::Turn;

/// A member as the other protocol knew it.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    pub(crate) id: KStr,
    pub(crate) instance_id: Option<KStr>,
    pub(crate) caller: Caller,
    pub(crate) timeouts: Timeouts,
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) assignment: Bytes,
}

impl ClassicGroup {
    /// What is left when the last member of the new protocol is gone: stable, its epoch is the generation, everybody
    /// keeps what it had. It is stored; a rebalance follows with `begin_converted`, if somebody's part is free now.
    pub(crate) fn converted(id: &KStr, epoch: i32, seats: Vec<Seat>, turn: &mut Turn<'_>) -> Self {
        let mut group = Self::new(id, turn.now);
        group.generation = epoch;
        group.protocol_type = KStr::from_static(CONSUMER);
        for seat in seats {
            group.members.insert(Member {
                id: seat.id,
                instance_id: seat.instance_id,
                caller: seat.caller,
                timeouts: seat.timeouts,
                protocols: seat.protocols,
                assignment: seat.assignment,
                parked: Parked::No,
                is_new: false,
                deadline: turn.now.steady.after(seat.timeouts.session),
            });
        }
        group.leader = group.members.iter().next().map(|member| member.id.clone());
        group.protocol = group.members.elect_protocol();
        group.phase = Phase::Stable(Syncing { missing: BTreeSet::new(), deadline: turn.now.steady });
        group.store(turn);
        group
    }

    pub(crate) fn generation(&self) -> i32 {
        self.generation
    }

    pub(crate) fn member_count(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }

    /// What the members of this generation agreed on.
    pub(crate) fn protocol(&self) -> Option<&KStr> {
        self.protocol.as_ref()
    }

    /// Everybody has to join again: `member` went, or came with another subscription.
    pub(crate) fn begin_converted(&mut self, member: &str, turn: &mut Turn<'_>) {
        let cause = self.cause_of(Why::Converted, member);
        self.begin(cause, turn);
    }

    /// Before it becomes a group of the new protocol: whoever waits asks again, there.
    pub(crate) fn release_all(&mut self, turn: &mut Turn<'_>) {
        let ids: Vec<KStr> = self.members.iter().map(|member| member.id.clone()).collect();
        for id in ids {
            match self.members.park(&id, Parked::No) {
                Parked::Join(ticket) => turn.fx.reply(ticket, refused(id, ErrorCode::RebalanceInProgress)),
                Parked::Sync(ticket) => turn.fx.reply(ticket, sync_refused(ErrorCode::RebalanceInProgress)),
                Parked::No => {}
            }
        }
    }
}
