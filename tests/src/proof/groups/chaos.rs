//! Bar 17: members of a group join and die all the time, with either protocol. Every record is processed at least once,
//! committed offsets never fall, the group is stable soon after the last death, and other groups hardly notice.
//!
//! Chaos and calm take turns, and the medians of their windows are compared: what else the machine does then falls on both.

mod bystander;
mod crowd;
mod member;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use millstream_protocol::Uuid;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use bystander::Seen;
use crowd::{Crowd, GROUP, MEMBERS, PARTITIONS, Protocol, TOPIC, Window};

use crate::history::Key;
use crate::proof::bed::broker::{Setup, pause};
use crate::proof::bed::group::{Offsets, is_starting};
use crate::proof::bed::wire::{Target, Wire, batch};
use crate::proof::{Failure, Options, Proven, say};

/// How soon after the last death all members must be at work.
const STABLE_WITHIN: Duration = Duration::from_secs(5);
/// How long anything else may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// A short run has two seconds at a time on two cores that carry the broker and all these clients: below this it cannot tell
/// the group's doing from the scheduler's.
const NOISE: Duration = Duration::from_millis(10);

/// How often, and for how long, there is calm and chaos.
#[derive(Debug, Clone, Copy)]
struct Turns {
    count: usize,
    calm: Duration,
    chaos: Duration,
}

const SHORT: Turns = Turns { count: 4, calm: Duration::from_secs(1), chaos: Duration::from_secs(2) };
const LONG: Turns = Turns { count: 8, calm: Duration::from_secs(5), chaos: Duration::from_secs(5) };

pub(in crate::proof) fn run(options: &Options) -> Proven {
    let seed = options.seed();
    for protocol in [Protocol::Classic, Protocol::Consumer] {
        say(&format!("group-chaos: {protocol}: {}", with(protocol, options, seed)?));
    }
    Ok(format!("classic and consumer protocol, seed {seed}"))
}

fn with(protocol: Protocol, options: &Options, seed: u64) -> Proven {
    let mut setup = Setup::new(&options.broker, &options.folder, &[])?;
    protocol.settings().into_iter().for_each(|setting| setup.set(setting));
    let broker = setup.start()?;
    let mut wire = Wire::connect(setup.address()).context("the judge's connection")?;
    let topic_id = prepare(&mut wire).context("the topics")?;
    let crowd = Arc::new(Crowd::new(setup.address(), protocol, topic_id));
    let threads = start(&crowd, seed)?;
    let figure = chaos(&crowd, options, &mut wire, &threads);
    crowd.enough.store(true, Ordering::Relaxed);
    let mut seen = Vec::new();
    for thread in threads {
        seen.extend(thread.join().map_err(|_| anyhow!("a client panicked"))??);
    }
    broker.stop()?;
    let figure = figure?;
    let figures: Vec<String> = std::iter::once(figure).chain(seen.iter().map(Seen::figure)).collect();
    let figure = format!("{}, seed {seed}", figures.join(", "));
    let wrong = crowd.wrong.lock();
    if !wrong.is_empty() {
        return Err(Failure::Broken(format!("{protocol}: {} ({figure})", wrong.join("; "))));
    }
    let noise = options.either(options.at_most(NOISE), Duration::ZERO);
    if seen.iter().any(|seen| seen.is_disturbed(noise)) {
        return Err(Failure::Broken(format!("{protocol}: another group was disturbed: {figure}")));
    }
    Ok(figure)
}

fn prepare(wire: &mut Wire) -> io::Result<Uuid> {
    wire.create_topic(TOPIC, PARTITIONS as i32, &[])?;
    wire.create_topic(bystander::TOPIC, bystander::PARTITIONS as i32, &[])?;
    wire.topic_id(TOPIC)
}

type Work = Box<dyn FnOnce(&Crowd) -> Result<Option<Seen>> + Send>;

type Client = JoinHandle<Result<Option<Seen>>>;

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
    for place in bystander::PLACES {
        spawn("bystander", Box::new(move |crowd| bystander::run(crowd, place).map(Some)))?;
    }
    Ok(threads)
}

/// Calm and chaos by turns; answers what was seen.
fn chaos(crowd: &Crowd, options: &Options, wire: &mut Wire, threads: &[Client]) -> Result<String, Failure> {
    let turns = options.either(SHORT, LONG);
    await_stable(crowd, wire, PATIENCE)?;
    let mut stable = Duration::ZERO;
    let before = crowd.joined.load(Ordering::Relaxed);
    for number in 0..turns.count {
        crowd.open(Window::Calm(number));
        pause(turns.calm);
        crowd.dying.store(true, Ordering::Relaxed);
        crowd.open(Window::Chaos(number));
        pause(turns.chaos);
        crowd.open(Window::None);
        crowd.dying.store(false, Ordering::Relaxed);
        stable = stable.max(await_stable(crowd, wire, options.at_most(STABLE_WITHIN))?);
    }
    let seconds = (turns.chaos * turns.count as u32).as_secs();
    let meanwhile = crowd.processed();
    let (joined, died) = (crowd.joined.load(Ordering::Relaxed) - before, crowd.died.load(Ordering::Relaxed));
    if died < seconds as usize * MEMBERS / 2 || joined == 0 {
        return Err(Failure::Invalid(format!(
            "only {died} members died in {seconds} s, {joined} assignments"
        )));
    }
    crowd.finishing.store(true, Ordering::Relaxed);
    let caught_up = await_all_processed(crowd, wire, threads)?;
    Ok(format!(
        "{died} members died in {} x {:.0} s, {joined} assignments, {meanwhile} of {} records processed at the end, stable \
         after {:.1} s at most, all processed and committed after {:.1} s, no committed offset fell",
        turns.count,
        turns.chaos.as_secs_f64(),
        crowd.ends().values().sum::<i64>(),
        stable.as_secs_f64(),
        caught_up.as_secs_f64(),
    ))
}

/// Waits until the group has all its members and is stable.
fn await_stable(crowd: &Crowd, wire: &mut Wire, within: Duration) -> Result<Duration, Failure> {
    let began = Instant::now();
    loop {
        let (state, members) = match crowd.protocol {
            Protocol::Classic => wire.group_state(GROUP),
            Protocol::Consumer => wire.consumer_group_state(GROUP),
        }
        .context("the group's description")?;
        if state == "Stable" && members == MEMBERS {
            return Ok(began.elapsed());
        }
        if began.elapsed() > within {
            return Err(Failure::Broken(format!(
                "{}: {:.1} s after the last death the group is {state} with {members} members of {MEMBERS}",
                crowd.protocol,
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
                "{}: {behind} partitions are not committed to their ends {PATIENCE:?} after the chaos, {} of {} records \
                 processed",
                crowd.protocol,
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
    while !crowd.is_enough() {
        // In the end nothing more comes, so that there is an end to reach; the thread itself stays until all end.
        if !crowd.finishing.load(Ordering::Relaxed) {
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
