//! The only member of another group: how long its heartbeats and commits take, in calm and in chaos.
//!
//! What a coordinator costs is told from what the machine costs by a request that no coordinator sees.

use std::time::{Duration, Instant};

use anyhow::Result;
use millstream_protocol::ErrorCode;
use millstream_protocol::messages::ApiVersionsRequest;

use super::crowd::{Crowd, GROUP, SHARDS, Window};
use crate::proof::bed::broker::pause;
use crate::proof::bed::group::{Joining, Offsets};
use crate::proof::bed::wire::Wire;

pub(super) const TOPIC: &str = "apart";
pub(super) const PARTITIONS: u32 = PLACES.len() as u32;
/// How often the member asks.
const EACH: Duration = Duration::from_millis(2);

/// Where a group is, as seen from the one whose members die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the same partition of `__consumer_offsets`.
    Near,
    /// In another one.
    Far,
}

pub(super) const PLACES: [Place; 2] = [Place::Near, Place::Far];

impl Place {
    /// A group that lies there.
    fn group(self) -> String {
        let is_near = |group: &str| shard(group) == shard(GROUP);
        let mut ids = (0..).map(|number| format!("apart-{number}"));
        ids.find(|id| is_near(id) == (self == Self::Near)).expect("the ids do not end")
    }
}

/// The partition of a group: Java's hash of its id.
fn shard(group: &str) -> u32 {
    let hash = group.bytes().fold(0_i32, |hash, byte| hash.wrapping_mul(31).wrapping_add(i32::from(byte)));
    (hash & i32::MAX) as u32 % SHARDS
}

/// How long one kind of request took, by window.
#[derive(Debug, Default)]
struct Times {
    calm: Vec<Vec<Duration>>,
    chaos: Vec<Vec<Duration>>,
}

impl Times {
    /// Counts what began and ended in the same window.
    fn note(&mut self, (before, after): (Window, Window), took: Duration) {
        let (windows, number) = match before {
            _ if before != after => return,
            Window::None => return,
            Window::Calm(number) => (&mut self.calm, number),
            Window::Chaos(number) => (&mut self.chaos, number),
        };
        if windows.len() <= number {
            windows.resize(number + 1, Vec::new());
        }
        windows[number].push(took);
    }

    /// The medians over all windows of their p99, in calm and in chaos.
    fn p99(&self) -> [Duration; 2] {
        [&self.calm, &self.chaos].map(|windows| {
            let of_each = windows.iter().filter(|window| !window.is_empty()).map(|window| part(window, 99));
            part(&of_each.collect::<Vec<_>>(), 50)
        })
    }

    fn figure(&self) -> String {
        let [calm, chaos] = self.p99().map(|time| time.as_secs_f64() * 1e3);
        format!("{calm:.2} -> {chaos:.2} ms")
    }
}

/// So many percent of these are below.
fn part(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() * percent / 100).copied().unwrap_or_default()
}

/// What a member saw.
#[derive(Debug)]
pub(super) struct Seen {
    place: Place,
    heartbeats: Times,
    commits: Times,
    /// Requests that no coordinator sees.
    others: Times,
}

impl Seen {
    /// Whether its heartbeats were more than twice as slow in chaos, and slower than what can be told from noise.
    pub(super) fn is_disturbed(&self, noise: Duration) -> bool {
        let [calm, chaos] = self.heartbeats.p99();
        chaos > 2 * calm && chaos > noise
    }

    pub(super) fn figure(&self) -> String {
        let Self { place, heartbeats, commits, others } = self;
        let place = match place {
            Place::Near => "in the same shard",
            Place::Far => "in another shard",
        };
        let (heartbeats, commits, others) = (heartbeats.figure(), commits.figure(), others.figure());
        format!(
            "a group {place}: p99 of heartbeats {heartbeats} (ApiVersions {others}), of commits {commits}"
        )
    }
}

/// Says that it lives and commits, until it is enough.
pub(super) fn run(crowd: &Crowd, place: Place) -> Result<Seen> {
    let mut wire = Wire::connect(crowd.address)?;
    let group = place.group();
    let joining = Joining { group: &group, topic: TOPIC, partitions: PARTITIONS, session_ms: 10_000 };
    let me = wire.join_soon(joining)?.me;
    let (heartbeats, commits, others) = Default::default();
    let mut seen = Seen { place, heartbeats, commits, others };
    let mut number = 0;
    while !crowd.is_enough() {
        let code = timed(crowd, &mut seen.heartbeats, || wire.heartbeat(&me))?;
        if code != ErrorCode::None {
            crowd.wrong(format!("the heartbeat of {group}: {}", code.name()));
        }
        pause(EACH);
        timed(crowd, &mut seen.others, || wire.call(0, &ApiVersionsRequest::default()))?;
        pause(EACH);
        if number % 20 == 0 {
            let code =
                timed(crowd, &mut seen.commits, || wire.commit(&me, TOPIC, &Offsets::from([(0, number)])))?;
            if code != ErrorCode::None {
                crowd.wrong(format!("the commit of {group}: {}", code.name()));
            }
        }
        number += 1;
    }
    Ok(seen)
}

fn timed<T>(
    crowd: &Crowd,
    times: &mut Times,
    ask: impl FnOnce() -> std::io::Result<T>,
) -> std::io::Result<T> {
    let (window, began) = (crowd.window(), Instant::now());
    let answer = ask()?;
    let took = began.elapsed();
    times.note((window, crowd.window()), took);
    Ok(answer)
}
