//! The only member of another group: how long its heartbeats and commits take, in calm and in chaos.

use std::time::{Duration, Instant};

use anyhow::Result;
use millstream_protocol::ErrorCode;

use super::Crowd;
use crate::proof::bed::broker::pause;
use crate::proof::bed::group::{Joining, Offsets};
use crate::proof::bed::wire::Wire;

pub(super) const TOPIC: &str = "apart";
const JOINING: Joining<'_> = Joining { group: "apart", topic: TOPIC, partitions: 1, session_ms: 10_000 };

/// What the member saw; of each the time in calm and the time in chaos.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    heartbeats: [Vec<Duration>; 2],
    commits: [Vec<Duration>; 2],
}

impl Latencies {
    /// More than twice as slow in chaos, and by more than noise.
    pub(super) fn is_disturbed(&self, noise: Duration) -> bool {
        let [calm, chaos] = [p99(&self.heartbeats[0]), p99(&self.heartbeats[1])];
        chaos > 2 * calm && chaos > noise
    }

    pub(super) fn figure(&self) -> String {
        let both = |all: &[Vec<Duration>; 2]| {
            let [calm, chaos] = [p99(&all[0]), p99(&all[1])].map(|time| time.as_secs_f64() * 1e3);
            format!("{calm:.2} -> {chaos:.2} ms")
        };
        let (heartbeats, commits) = (both(&self.heartbeats), both(&self.commits));
        format!("another group's p99 heartbeat {heartbeats}, commit {commits}")
    }
}

fn p99(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() * 99 / 100).copied().unwrap_or_default()
}

/// Says that it lives and commits, until it is enough.
pub(super) fn run(crowd: &Crowd) -> Result<Latencies> {
    let mut wire = Wire::connect(crowd.address)?;
    let joined = wire.join_soon(JOINING)?;
    let mut seen = Latencies::default();
    let mut number = 0;
    while !crowd.is_enough() {
        let phase = usize::from(crowd.is_dying());
        let began = Instant::now();
        let code = wire.heartbeat(&joined.me)?;
        seen.heartbeats[phase].push(began.elapsed());
        if code != ErrorCode::None {
            crowd.wrong(format!("the other group's heartbeat: {}", code.name()));
        }
        if number % 5 == 0 {
            let began = Instant::now();
            let code = wire.commit(&joined.me, TOPIC, &Offsets::from([(0, number)]))?;
            seen.commits[phase].push(began.elapsed());
            if code != ErrorCode::None {
                crowd.wrong(format!("the other group's commit: {}", code.name()));
            }
        }
        number += 1;
        pause(Duration::from_millis(10));
    }
    Ok(seen)
}
