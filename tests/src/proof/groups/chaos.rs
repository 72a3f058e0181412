//! Bar 17: members of a group join and die all the time. Every record is processed at least once, committed offsets never fall,
//! the group is stable soon after the last death, and another group hardly notices.

mod bystander;
mod member;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::history::Key;
use crate::proof::bed::broker::{Broker, Setup, pause};
use crate::proof::bed::group::{Joining, Offsets, is_starting};
use crate::proof::bed::wire::{Target, Wire, batch};
use crate::proof::{Failure, Options, Proven};

const TOPIC: &str = "chaos";
const GROUP: &str = "chaos";
const PARTITIONS: u32 = 16;
const MEMBERS: usize = 50;
/// Short sessions, for whoever dies without a word is waited for.
const SESSION_MS: i32 = 500;
const SETTINGS: &[&str] = &["group.initial.rebalance.delay.ms=0", "group.min.session.timeout.ms=100"];
const JOINING: Joining<'_> =
    Joining { group: GROUP, topic: TOPIC, partitions: PARTITIONS, session_ms: SESSION_MS };
/// How soon after the last death all members must be at work.
const STABLE_WITHIN: Duration = Duration::from_secs(5);
/// How long anything else may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Below this a slower neighbour is the scheduler's doing: two cores carry the broker and all these clients.
const NOISE: Duration = Duration::from_millis(10);

/// What all threads of the proof share.
#[derive(Debug)]
struct Crowd {
    address: SocketAddr,
    /// Whether members die.
    dying: AtomicBool,
    /// Whether everybody is to end.
    enough: AtomicBool,
    /// Which records were processed, by partition and offset.
    processed: Vec<Mutex<Vec<bool>>>,
    /// How many records were acknowledged, by partition.
    produced: Vec<AtomicUsize>,
    /// The highest acknowledged commits.
    committed: Mutex<Offsets>,
    joined: AtomicUsize,
    died: AtomicUsize,
    wrong: Mutex<Vec<String>>,
}

impl Crowd {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            dying: AtomicBool::new(false),
            enough: AtomicBool::new(false),
            processed: (0..PARTITIONS).map(|_| Mutex::default()).collect(),
            produced: (0..PARTITIONS).map(|_| AtomicUsize::new(0)).collect(),
            committed: Mutex::default(),
            joined: AtomicUsize::new(0),
            died: AtomicUsize::new(0),
            wrong: Mutex::default(),
        }
    }

    fn is_enough(&self) -> bool {
        self.enough.load(Ordering::Relaxed)
    }

    fn is_dying(&self) -> bool {
        self.dying.load(Ordering::Relaxed)
    }

    fn process(&self, key: Key, offset: i64) {
        let mut processed = self.processed[key as usize].lock();
        let at = offset as usize;
        if processed.len() <= at {
            processed.resize(at + 1, false);
        }
        processed[at] = true;
    }

    fn processed(&self) -> usize {
        self.processed.iter().map(|partition| partition.lock().iter().filter(|done| **done).count()).sum()
    }

    /// The ends of all partitions.
    fn ends(&self) -> Offsets {
        let end = |key: Key| self.produced[key as usize].load(Ordering::Relaxed) as i64;
        (0..PARTITIONS).map(|key| (key, end(key))).collect()
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
    let setup = Setup::new(&options.broker, &options.folder, SETTINGS)?;
    let broker = setup.start()?;
    let crowd = Arc::new(Crowd::new(setup.address()));
    prepare(&crowd)?;
    let threads = start(&crowd, seed)?;
    let figure = chaos(&crowd, options, &threads);
    crowd.enough.store(true, Ordering::Relaxed);
    let mut latencies = bystander::Latencies::default();
    for thread in threads {
        if let Some(seen) = thread.join().map_err(|_| anyhow!("a client panicked"))?? {
            latencies = seen;
        }
    }
    stop(broker)?;
    let figure = format!("{}, {}, seed {seed}", figure?, latencies.figure());
    let wrong = crowd.wrong.lock();
    if !wrong.is_empty() {
        return Err(Failure::Broken(format!("{} ({figure})", wrong.join("; "))));
    }
    if latencies.is_disturbed(options.at_most(NOISE)) {
        return Err(Failure::Broken(format!("the other group was disturbed: {figure}")));
    }
    Ok(figure)
}

fn stop(broker: Broker) -> Result<()> {
    broker.stop()
}

fn prepare(crowd: &Crowd) -> Result<()> {
    let mut wire = Wire::connect(crowd.address)?;
    wire.create_topic(TOPIC, PARTITIONS as i32, &[])?;
    wire.create_topic(bystander::TOPIC, 1, &[])?;
    Ok(())
}

type Work = Box<dyn FnOnce(&Crowd) -> Result<Option<bystander::Latencies>> + Send>;

type Client = JoinHandle<Result<Option<bystander::Latencies>>>;

fn start(crowd: &Arc<Crowd>, seed: u64) -> Result<Vec<Client>> {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut threads = Vec::new();
    let mut spawn = |name: &str, work: Work| {
        let crowd = crowd.clone();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || work(&crowd));
        threads.push(thread.context("cannot start a thread")?);
        anyhow::Ok(())
    };
    for _ in 0..MEMBERS {
        let seed = chance.random();
        spawn("member", Box::new(move |crowd| member::slot(crowd, seed).map(|()| None)))?;
    }
    spawn("producer", Box::new(|crowd| produce(crowd).map(|()| None)))?;
    spawn("monitor", Box::new(|crowd| watch(crowd).map(|()| None)))?;
    spawn("bystander", Box::new(|crowd| bystander::run(crowd).map(Some)))?;
    Ok(threads)
}

/// Calm, chaos, calm; answers what was seen.
fn chaos(crowd: &Crowd, options: &Options, threads: &[Client]) -> Result<String, Failure> {
    let mut wire = Wire::connect(crowd.address).context("the judge's connection")?;
    await_stable(&mut wire, PATIENCE)?;
    pause(options.either(Duration::from_secs(5), Duration::from_secs(10)));
    let before = crowd.joined.load(Ordering::Relaxed);
    let chaos = options.either(Duration::from_secs(12), Duration::from_secs(40));
    crowd.dying.store(true, Ordering::Relaxed);
    pause(chaos);
    crowd.dying.store(false, Ordering::Relaxed);
    let meanwhile = crowd.processed();
    let (joined, died) = (crowd.joined.load(Ordering::Relaxed) - before, crowd.died.load(Ordering::Relaxed));
    if died < chaos.as_secs() as usize * MEMBERS / 2 || joined == 0 {
        return Err(Failure::Invalid(format!("only {died} members died in {chaos:?}, {joined} assignments")));
    }
    let stable = await_stable(&mut wire, options.at_most(STABLE_WITHIN))?;
    let caught_up = await_all_processed(crowd, &mut wire, threads)?;
    Ok(format!(
        "{died} members died in {:.0} s, {joined} assignments meanwhile, {meanwhile} of {} records processed at its end, stable \
         after {:.1} s, all processed and committed after {:.1} s, no committed offset fell",
        chaos.as_secs_f64(),
        crowd.ends().values().sum::<i64>(),
        stable.as_secs_f64(),
        caught_up.as_secs_f64(),
    ))
}

/// Waits until the group has all its members and is stable.
fn await_stable(wire: &mut Wire, within: Duration) -> Result<Duration, Failure> {
    let began = Instant::now();
    loop {
        let (state, members) = wire.group_state(GROUP).context("the group's description")?;
        if state == "Stable" && members == MEMBERS {
            return Ok(began.elapsed());
        }
        if began.elapsed() > within {
            return Err(Failure::Broken(format!(
                "{:.1} s after the last death the group is {state} with {members} members of {MEMBERS}",
                began.elapsed().as_secs_f64()
            )));
        }
        pause(Duration::from_millis(20));
    }
}

/// Waits until every record is processed and every offset committed.
fn await_all_processed(crowd: &Crowd, wire: &mut Wire, threads: &[Client]) -> Result<Duration, Failure> {
    let began = Instant::now();
    loop {
        let ends = crowd.ends();
        let committed = wire.committed(GROUP, TOPIC, 0..PARTITIONS).context("the committed offsets")?;
        let behind = match &committed {
            Ok(committed) => ends.iter().filter(|(key, end)| committed.get(key) < Some(end)).count(),
            Err(_) => ends.len(),
        };
        if behind == 0 && crowd.processed() >= ends.values().sum::<i64>() as usize {
            return Ok(began.elapsed());
        }
        if threads.iter().any(JoinHandle::is_finished) {
            return Err(Failure::Invalid("a client ended before the others".to_owned()));
        }
        if began.elapsed() > PATIENCE {
            return Err(Failure::Broken(format!(
                "{behind} partitions are not committed to their ends {PATIENCE:?} after the chaos, {} of {} records processed",
                crowd.processed(),
                ends.values().sum::<i64>()
            )));
        }
        pause(Duration::from_millis(50));
    }
}

/// Some hundred records a second, until the group is to catch up.
fn produce(crowd: &Crowd) -> Result<()> {
    let mut wire = Wire::connect(crowd.address)?;
    let mut number = 0;
    let mut was_dying = false;
    while !crowd.is_enough() {
        was_dying |= crowd.is_dying();
        // After the chaos nothing more comes, so that there is an end to reach; the thread itself stays until all end.
        if !was_dying || crowd.is_dying() {
            let key = number as Key % PARTITIONS;
            let values: Vec<_> = (0..5).map(|n| number * 5 + n).collect();
            let answer =
                wire.produce(Target { topic: TOPIC, partition: key as i32, acks: -1 }, batch(&values))?;
            if answer.code != millstream_protocol::ErrorCode::None {
                crowd.wrong(format!("a record was refused: {}", answer.code.name()));
            }
            crowd.produced[key as usize].fetch_add(values.len(), Ordering::Relaxed);
            number += 1;
        }
        pause(Duration::from_millis(10));
    }
    Ok(())
}

/// Reads all committed offsets again and again: none may be below what was seen, or acknowledged, before.
fn watch(crowd: &Crowd) -> Result<()> {
    let mut wire = Wire::connect(crowd.address)?;
    let mut floor = Offsets::new();
    while !crowd.is_enough() {
        for (key, offset) in crowd.committed.lock().iter() {
            let known = floor.entry(*key).or_default();
            *known = (*known).max(*offset);
        }
        match wire.committed(GROUP, TOPIC, 0..PARTITIONS)? {
            Ok(now) => {
                for (key, offset) in now {
                    let before = floor.insert(key, offset).unwrap_or(0);
                    if offset < before {
                        crowd.wrong(format!("partition {key}: committed {offset} after {before}"));
                    }
                }
            }
            // Nobody has joined yet.
            Err(code) if is_starting(code) && floor.is_empty() => {}
            Err(code) => crowd.wrong(format!("committed offsets were refused: {}", code.name())),
        }
        pause(Duration::from_millis(20));
    }
    Ok(())
}
