//! Bar 9: there is no more room. Writers get an error that they may repeat, readers are served, nothing ends, and writes go on by
//! themselves once there is room again.

mod room;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use millstream_protocol::ErrorCode;
use parking_lot::Mutex;

use super::bed::broker::{Broker, Setup, pause};
use super::bed::recorder::Recorder;
use super::bed::scribe::{Scribe, read_all};
use super::bed::verdict::verdict;
use super::bed::wire::{Target, Wire};
use super::{Failure, Options, Proven, say};
use room::{Room, Scarcity};

const TOPIC: &str = "full";
/// A topic whose deletion makes room.
const BALLAST: &str = "ballast";
const WRITERS: u32 = 2;
const KEYS: u32 = 4;
/// The bars.
const REFUSED_WITHIN: Duration = Duration::from_secs(1);
const RESUMED_WITHIN: Duration = Duration::from_secs(5);
/// How long anything else may take.
const PATIENCE: Duration = Duration::from_secs(180);

pub(super) fn run(options: &Options) -> Proven {
    let mut figures = Vec::new();
    for scarcity in Scarcity::ALL {
        let figure = once(scarcity, options)?;
        say(&format!("  {}: {figure}", scarcity.name()));
        figures.push(scarcity.name());
    }
    Ok(format!("refused, served, resumed and nothing lost with {}", figures.join(", ")))
}

/// What the clients met.
#[derive(Debug, Default)]
struct Seen {
    refused: AtomicUsize,
    slowest_refusal: Mutex<Duration>,
    fetched: AtomicUsize,
    /// Whether each partition was refused last.
    is_closed: [AtomicBool; KEYS as usize],
    enough: AtomicBool,
}

impl Seen {
    fn closed(&self) -> usize {
        self.is_closed.iter().filter(|closed| closed.load(Ordering::Relaxed)).count()
    }
}

fn once(scarcity: Scarcity, options: &Options) -> Proven {
    let room = Room::new(scarcity, options)?;
    let setup = Setup::new(&options.broker, &options.folder, room.settings())?.with_data(room.data());
    let mut broker = setup.start_under(room.command())?;
    let mut wire = Wire::connect(setup.address()).context("connecting")?;
    wire.create_topic(TOPIC, KEYS as i32, &[]).context("creating")?;
    room.fill(&mut wire, BALLAST)?;
    let recorder = Recorder::new();
    let seen = Seen::default();
    let resumed = thread::scope(|scope| {
        let mut clients = Vec::new();
        for number in 0..WRITERS {
            let (seen, recorder, address) = (&seen, &recorder, setup.address());
            clients.push(scope.spawn(move || write(address, recorder, number, seen)));
        }
        clients.push(scope.spawn(|| read(setup.address(), &seen)));
        let resumed = harm(&room, &mut broker, &mut wire, &seen);
        seen.enough.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().map_err(|_| anyhow!("a client panicked"))??;
        }
        resumed
    })?;
    // The disk is full again: that must not keep a broker from starting.
    broker.kill()?;
    let broker = setup.start_under(room.command())?;
    read_all(setup.address(), TOPIC, KEYS, &recorder)?;
    broker.kill()?;
    let figures = verdict(&recorder, &[], options)?;
    let refused = seen.refused.load(Ordering::Relaxed);
    let (slowest, fetched) = (*seen.slowest_refusal.lock(), seen.fetched.load(Ordering::Relaxed));
    let figure = format!(
        "{refused} sends refused, the slowest after {:.0} ms, {fetched} fetches served meanwhile, resumed {:.1} s after there was \
         room, 0 lost of {} acknowledged",
        slowest.as_secs_f64() * 1e3,
        resumed.as_secs_f64(),
        figures.acknowledged,
    );
    if slowest > options.at_most(REFUSED_WITHIN) || resumed > options.at_most(RESUMED_WITHIN) {
        return Err(Failure::Broken(figure));
    }
    Ok(figure)
}

/// Waits until nothing can be written, makes room, waits until everything can be written, and until it is full again.
fn harm(room: &Room, broker: &mut Broker, wire: &mut Wire, seen: &Seen) -> Result<Duration, Failure> {
    await_that(seen, broker, "every partition is refused", |seen| seen.closed() == KEYS as usize)?;
    room.is_full()?;
    let before = seen.fetched.load(Ordering::Relaxed);
    await_that(seen, broker, "readers are served", |seen| {
        seen.fetched.load(Ordering::Relaxed) > before + 50
    })?;
    room.make(wire, BALLAST, broker.pid())?;
    let began = Instant::now();
    await_that(seen, broker, "every partition takes writes again", |seen| seen.closed() == 0)?;
    let resumed = began.elapsed();
    if room.fills_again() {
        await_that(seen, broker, "it is full again", |seen| seen.closed() == KEYS as usize)?;
    }
    Ok(resumed)
}

fn await_that(
    seen: &Seen,
    broker: &mut Broker,
    what: &str,
    is_so: impl Fn(&Seen) -> bool,
) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so(seen) {
        if !broker.is_alive() {
            return Err(Failure::Broken(format!("the broker ended before {what}")));
        }
        if Instant::now() > deadline {
            return Err(Failure::Broken(format!("not within {PATIENCE:?}: {what}; {seen:?}")));
        }
        pause(Duration::from_millis(2));
    }
    Ok(())
}

/// Writes to its partitions in turn, whatever it is told.
fn write(address: SocketAddr, recorder: &Recorder, number: u32, seen: &Seen) -> Result<()> {
    let mut scribe = Scribe::connect(address, recorder)?;
    let mut turn = 0;
    while !seen.enough.load(Ordering::Relaxed) {
        turn += 1;
        let key = number + WRITERS * (turn % (KEYS / WRITERS));
        let began = Instant::now();
        let to = Target { topic: TOPIC, partition: key as i32, acks: if turn % 8 < 2 { 1 } else { -1 } };
        let answer = scribe.send(to, 100)?;
        match answer.code {
            ErrorCode::None => seen.is_closed[key as usize].store(false, Ordering::Relaxed),
            ErrorCode::KafkaStorageError => {
                seen.is_closed[key as usize].store(true, Ordering::Relaxed);
                seen.refused.fetch_add(1, Ordering::Relaxed);
                let mut slowest = seen.slowest_refusal.lock();
                *slowest = slowest.max(began.elapsed());
                drop(slowest);
                pause(Duration::from_millis(20));
            }
            code => bail!("a full disk is told as {} ({:?})", code.name(), answer.message),
        }
    }
    Ok(())
}

/// Reads from the beginning again and again; every fetch must be served.
fn read(address: SocketAddr, seen: &Seen) -> Result<()> {
    let mut wire = Wire::connect(address)?;
    let mut offsets = [0; KEYS as usize];
    while !seen.enough.load(Ordering::Relaxed) {
        for (key, offset) in (0..).zip(&mut offsets) {
            let fetched = wire.fetch(TOPIC, key, *offset)?;
            if fetched.code != ErrorCode::None {
                bail!("a reader was refused while the disk was full: {}", fetched.code.name());
            }
            seen.fetched.fetch_add(1, Ordering::Relaxed);
            *offset = fetched.records.last().map_or(0, |last| last.offset + 1);
        }
    }
    Ok(())
}
