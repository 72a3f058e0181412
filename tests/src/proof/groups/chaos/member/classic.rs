//! A member of a classic group: joins, syncs, and works until the group rebalances.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use millstream_protocol::ErrorCode;

use super::{HEARTBEAT, LOOK, Life};
use crate::proof::bed::broker::pause;
use crate::proof::bed::group::{Joined, Joining, Membership};
use crate::proof::bed::wire::Wire;
use crate::proof::groups::chaos::crowd::{GROUP, PARTITIONS, SESSION_MS, TOPIC};

const JOINING: Joining<'_> =
    Joining { group: GROUP, topic: TOPIC, partitions: PARTITIONS, session_ms: SESSION_MS };
/// As long as any rebalance takes.
const JOIN_WITHIN: Duration = Duration::from_secs(60);

/// Why a member stopped working on its partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Rebalance,
    Fenced,
    Dead,
}

impl Life<'_> {
    /// Joins and works until it dies or all end; answers its last membership.
    pub(super) fn live_classic(&self, wire: &mut Wire) -> io::Result<Option<Membership>> {
        let mut member = String::new();
        let mut last = None;
        while !self.has_ended() {
            // Some die while they wait for a rebalance: only the clock ends that wait.
            let left = self.ends.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            wire.wait_at_most(if self.crowd.is_dying() { left } else { JOIN_WITHIN })?;
            let joined = wire.join(JOINING, &member);
            wire.wait_at_most(JOIN_WITHIN)?;
            match joined? {
                Ok(joined) => {
                    self.crowd.joined.fetch_add(1, Ordering::Relaxed);
                    let ended = self.work(wire, &joined)?;
                    member = if ended == Ended::Fenced { String::new() } else { joined.me.member.clone() };
                    last = Some(joined.me);
                }
                Err(ErrorCode::RebalanceInProgress) => {}
                Err(_) => member.clear(),
            }
        }
        Ok(last)
    }

    /// Reads, processes, commits, in this order.
    fn work(&self, wire: &mut Wire, joined: &Joined) -> io::Result<Ended> {
        let Ok(mut positions) = wire.committed(GROUP, TOPIC, joined.partitions.iter().copied())? else {
            return Ok(Ended::Rebalance);
        };
        let mut next_heartbeat = Instant::now();
        while !self.has_ended() {
            let moved = self.read(wire, &mut positions)?;
            if !moved.is_empty() {
                match wire.commit(&joined.me, TOPIC, &moved)? {
                    ErrorCode::None => self.crowd.note(&moved),
                    code => return Ok(ended(code)),
                }
            }
            if Instant::now() >= next_heartbeat {
                match wire.heartbeat(&joined.me)? {
                    ErrorCode::None => {}
                    code => return Ok(ended(code)),
                }
                next_heartbeat = Instant::now() + HEARTBEAT;
            }
            pause(LOOK);
        }
        Ok(Ended::Dead)
    }
}

fn ended(code: ErrorCode) -> Ended {
    if code == ErrorCode::RebalanceInProgress { Ended::Rebalance } else { Ended::Fenced }
}
