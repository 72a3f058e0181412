//! A place in the group: who holds it lives about a second, dies in one way or another, and is replaced at once.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Result;
use millstream_protocol::ErrorCode;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Crowd, JOINING, SESSION_MS, TOPIC};
use crate::proof::bed::broker::pause;
use crate::proof::bed::group::{Joined, Offsets};
use crate::proof::bed::wire::Wire;

/// How often a member says that it lives.
const HEARTBEAT: Duration = Duration::from_millis(SESSION_MS as u64 / 5);
/// As long as any rebalance takes.
const JOIN_WITHIN: Duration = Duration::from_secs(60);

/// Why a member stopped working on its partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Rebalance,
    Fenced,
    Dead,
}

/// One member after the other, until it is enough.
pub(super) fn slot(crowd: &Crowd, seed: u64) -> Result<()> {
    let mut chance = StdRng::seed_from_u64(seed);
    while !crowd.is_enough() {
        let life =
            Life { crowd, ends: Instant::now() + Duration::from_millis(chance.random_range(300..1700)) };
        let mut wire = Wire::connect(crowd.address)?;
        // Silence is a death while waiting: the member's time was over before the answer came.
        let last = life.live(&mut wire);
        if life.is_over() || last.as_ref().is_err_and(is_silence) {
            crowd.died.fetch_add(1, Ordering::Relaxed);
            if let (Ok(Some(joined)), true) = (&last, chance.random_bool(0.6)) {
                wire.leave(&joined.me)?;
            }
        } else if let Err(error) = last {
            crowd.wrong(format!("a member lost its connection: {error}"));
        }
    }
    Ok(())
}

struct Life<'a> {
    crowd: &'a Crowd,
    ends: Instant,
}

impl Life<'_> {
    fn is_over(&self) -> bool {
        self.crowd.is_dying() && Instant::now() >= self.ends
    }

    /// Joins and works until it dies or all end; answers its last membership.
    fn live(&self, wire: &mut Wire) -> io::Result<Option<Joined>> {
        let mut member = String::new();
        let mut last = None;
        while !self.crowd.is_enough() && !self.is_over() {
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
                    last = Some(joined);
                }
                Err(ErrorCode::RebalanceInProgress) => {}
                Err(_) => member.clear(),
            }
        }
        Ok(last)
    }

    /// Reads, processes, commits, in this order.
    fn work(&self, wire: &mut Wire, joined: &Joined) -> io::Result<Ended> {
        let Ok(mut positions) = wire.committed(&joined.me.group, TOPIC, joined.partitions.iter().copied())?
        else {
            return Ok(Ended::Rebalance);
        };
        let mut next_heartbeat = Instant::now();
        while !self.crowd.is_enough() && !self.is_over() {
            let moved = self.read(wire, &mut positions)?;
            if !moved.is_empty() {
                match wire.commit(&joined.me, TOPIC, &moved)? {
                    ErrorCode::None => self.note(&moved),
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
            pause(Duration::from_millis(25));
        }
        Ok(Ended::Dead)
    }

    /// Processes what there is; answers the offsets to commit.
    fn read(&self, wire: &mut Wire, positions: &mut Offsets) -> io::Result<Offsets> {
        let mut moved = Offsets::new();
        for (key, position) in positions {
            let fetched = wire.fetch(TOPIC, *key, *position)?;
            for record in &fetched.records {
                self.crowd.process(*key, record.offset);
                *position = record.offset + 1;
                moved.insert(*key, *position);
            }
        }
        Ok(moved)
    }

    fn note(&self, moved: &Offsets) {
        let mut committed = self.crowd.committed.lock();
        for (key, offset) in moved {
            let known = committed.entry(*key).or_default();
            *known = (*known).max(*offset);
        }
    }
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn ended(code: ErrorCode) -> Ended {
    if code == ErrorCode::RebalanceInProgress { Ended::Rebalance } else { Ended::Fenced }
}
