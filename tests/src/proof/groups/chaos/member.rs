//! A place in the group: who holds it lives about a second, dies in one way or another, and is replaced at once.

mod classic;
mod consumer;

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::crowd::{Crowd, HEARTBEAT_MS, Protocol, TOPIC};
use crate::proof::bed::group::Offsets;
use crate::proof::bed::wire::Wire;

/// How often a member says that it lives.
const HEARTBEAT: Duration = Duration::from_millis(HEARTBEAT_MS as u64);
/// How often it looks for records.
const LOOK: Duration = Duration::from_millis(25);

/// One member after the other, until it is enough.
pub(super) fn slot(crowd: &Crowd, seed: u64) -> Result<()> {
    let mut chance = StdRng::seed_from_u64(seed);
    while !crowd.is_enough() {
        let life =
            Life { crowd, ends: Instant::now() + Duration::from_millis(chance.random_range(300..1700)) };
        let mut wire = Wire::connect(crowd.address)?;
        // Silence is a death while waiting: the member's time was over before the answer came.
        let last = match crowd.protocol {
            Protocol::Classic => life.live_classic(&mut wire),
            Protocol::Consumer => life.live_consumer(&mut wire, chance.random()),
        };
        if life.is_over() || last.as_ref().is_err_and(is_silence) {
            crowd.died.fetch_add(1, Ordering::Relaxed);
            if let (Ok(Some(me)), true) = (&last, chance.random_bool(0.6)) {
                match crowd.protocol {
                    Protocol::Classic => wire.leave(me).map(drop)?,
                    Protocol::Consumer => wire.leave_consumers(me)?,
                }
            }
        } else if let Err(error) = last {
            crowd.wrong(format!("a member lost its connection: {error}"));
        }
    }
    Ok(())
}

/// One member.
struct Life<'a> {
    crowd: &'a Crowd,
    ends: Instant,
}

impl Life<'_> {
    fn is_over(&self) -> bool {
        self.crowd.is_dying() && Instant::now() >= self.ends
    }

    /// Whether there is nothing more to do.
    fn has_ended(&self) -> bool {
        self.crowd.is_enough() || self.is_over()
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
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
