//! SIGKILL again and again while groups commit: what was acknowledged is there after each start, nothing is there that nobody
//! asked for, and the member of a live group goes on with its heartbeats and its generation as if nothing had happened.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use millstream_protocol::ErrorCode;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::proof::bed::broker::{Setup, pause};
use crate::proof::bed::group::{Joining, Membership, Offsets, is_starting};
use crate::proof::bed::wire::Wire;
use crate::proof::{Failure, Options, Proven};

const TOPIC: &str = "kills";
const SIMPLE_GROUPS: usize = 6;
const PARTITIONS: u32 = SIMPLE_GROUPS as u32 + 1;
const SETTINGS: &[&str] = &["group.initial.rebalance.delay.ms=0"];
const LIVE: Joining<'_> = Joining { group: "live", topic: TOPIC, partitions: PARTITIONS, session_ms: 60_000 };
/// How long commits may take to come after a restart.
const PATIENCE: Duration = Duration::from_secs(120);

/// What all threads share; per group what was acknowledged and what was asked for.
#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    enough: AtomicBool,
    acknowledged: Vec<AtomicI64>,
    asked: Vec<AtomicI64>,
    commits: AtomicUsize,
    checks: AtomicUsize,
    wrong: Mutex<Vec<String>>,
}

impl Shared {
    fn is_enough(&self) -> bool {
        self.enough.load(Ordering::Relaxed)
    }

    fn wrong(&self, what: String) {
        let mut wrong = self.wrong.lock();
        if wrong.len() < 10 {
            wrong.push(what);
        }
    }
}

pub(in crate::proof) fn run(options: &Options) -> Proven {
    let seed = options.seed();
    let kills = options.either(12, 100);
    let setup = Setup::new(&options.broker, &options.folder, SETTINGS)?;
    let mut broker = setup.start()?;
    let zeros = || (0..=SIMPLE_GROUPS).map(|_| AtomicI64::new(0)).collect();
    let shared = Arc::new(Shared {
        address: setup.address(),
        enough: AtomicBool::new(false),
        acknowledged: zeros(),
        asked: zeros(),
        commits: AtomicUsize::new(0),
        checks: AtomicUsize::new(0),
        wrong: Mutex::default(),
    });
    let live = prepare(&shared)?;
    let mut threads = Vec::new();
    for index in 0..=SIMPLE_GROUPS {
        let me =
            if index == SIMPLE_GROUPS { live.clone() } else { Membership::simple(&format!("group-{index}")) };
        let shared = shared.clone();
        threads.push(thread::spawn(move || committer(&shared, index, &me)));
    }
    let mut chance = StdRng::seed_from_u64(seed);
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    for _ in 0..kills {
        await_commits(&shared)?;
        pause(Duration::from_millis(chance.random_range(5..300)));
        broker.kill()?;
        broker = setup.start()?;
        slowest = slowest.max(broker.took);
    }
    await_commits(&shared)?;
    shared.enough.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().map_err(|_| anyhow!("a client panicked"))?;
    }
    broker.stop()?;
    let figure = format!(
        "{kills} SIGKILLs in {:.0} s, {} commits acknowledged, {} readings after restarts, none lost or raised, the live member \
         never joined again, longest start {:.0} ms, seed {seed}",
        began.elapsed().as_secs_f64(),
        shared.commits.load(Ordering::Relaxed),
        shared.checks.load(Ordering::Relaxed),
        slowest.as_secs_f64() * 1e3,
    );
    let wrong = shared.wrong.lock();
    if wrong.is_empty() {
        Ok(figure)
    } else {
        Err(Failure::Broken(format!("{} ({figure})", wrong.join("; "))))
    }
}

/// The topic, and the one member of the live group.
fn prepare(shared: &Shared) -> Result<Membership> {
    let mut wire = Wire::connect(shared.address)?;
    wire.create_topic(TOPIC, PARTITIONS as i32, &[])?;
    Ok(wire.join_soon(LIVE)?.me)
}

/// Waits until every group was acknowledged a commit from now on: otherwise the next kill proves nothing.
fn await_commits(shared: &Shared) -> Result<(), Failure> {
    let read = || -> Vec<i64> { shared.acknowledged.iter().map(|at| at.load(Ordering::Relaxed)).collect() };
    let before = read();
    let deadline = Instant::now() + PATIENCE;
    while read().iter().zip(&before).any(|(now, before)| now <= before) {
        let wrong = shared.wrong.lock();
        if let Some(first) = wrong.first() {
            return Err(Failure::Broken(first.clone()));
        }
        drop(wrong);
        if Instant::now() > deadline {
            return Err(Failure::Broken(format!(
                "not every group could commit within {PATIENCE:?} of a restart"
            )));
        }
        pause(Duration::from_millis(2));
    }
    Ok(())
}

/// One connection after the other: read what is committed, then commit ever higher offsets.
fn committer(shared: &Shared, index: usize, me: &Membership) {
    while !shared.is_enough() {
        if let Ok(mut wire) = Wire::connect(shared.address) {
            // An error is the connection's end, which is what this proof is about.
            let _ = one_connection(shared, &mut wire, index, me);
        }
        pause(Duration::from_millis(2));
    }
}

fn one_connection(shared: &Shared, wire: &mut Wire, index: usize, me: &Membership) -> std::io::Result<()> {
    let key = index as u32;
    let (acknowledged, asked) = (&shared.acknowledged[index], &shared.asked[index]);
    let mut checked = false;
    while !shared.is_enough() {
        if !checked {
            match wire.committed(&me.group, TOPIC, [key])? {
                Ok(found) => {
                    let found = found.get(&key).copied().unwrap_or(0);
                    let range = acknowledged.load(Ordering::Relaxed)..=asked.load(Ordering::Relaxed);
                    if !range.contains(&found) {
                        shared.wrong(format!("{}: {found} is committed, not within {range:?}", me.group));
                    }
                    shared.checks.fetch_add(1, Ordering::Relaxed);
                    checked = true;
                }
                Err(code) => refused(shared, me, code),
            }
            continue;
        }
        if me.generation >= 0 {
            match wire.heartbeat(me)? {
                ErrorCode::None => {}
                code => refused(shared, me, code),
            }
        }
        let next = asked.fetch_add(1, Ordering::Relaxed) + 1;
        match wire.commit(me, TOPIC, &Offsets::from([(key, next)]))? {
            ErrorCode::None => {
                acknowledged.store(next, Ordering::Relaxed);
                shared.commits.fetch_add(1, Ordering::Relaxed);
            }
            code => refused(shared, me, code),
        }
    }
    Ok(())
}

/// While its log is read the coordinator may ask for patience; anything else is wrong.
fn refused(shared: &Shared, me: &Membership, code: ErrorCode) {
    if !is_starting(code) {
        shared.wrong(format!("{} was refused: {}", me.group, code.name()));
    }
    pause(Duration::from_millis(5));
}
