//! Bar 8: every k-th fdatasync fails, for each k. Nothing is acknowledged on a file after its failure, everything else is
//! served, the partition comes back by itself under a higher epoch, and nothing acknowledged is lost.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use millstream_protocol::ErrorCode;

use super::broker::{Setup, pause};
use super::recorder::Recorder;
use super::scribe::{Scribe, read_all};
use super::tracer::Tracer;
use super::verdict::verdict;
use super::wire::{Target, Wire};
use super::{Failure, Options, Proven, say};
use crate::history::Key;

const TOPIC: &str = "fsync";
const WRITERS: u32 = 3;
const KEYS: u32 = 24;
/// One thread syncs, so that its k-th call is the k-th of all; strace counts for each thread.
const SETTINGS: &[&str] = &["log.flusher.threads=1", "log.segment.bytes=65536"];
/// Every k up to this one fails in some start.
const UP_TO: usize = 50;
/// Of the syncs of one start every so-manieth fails: so many starts are needed.
const STEP: usize = 4;
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn run(options: &Options) -> Proven {
    let setup = Setup::new(&options.broker, &options.folder, SETTINGS)?;
    let recorder = Recorder::new();
    let broker = setup.start()?;
    Wire::connect(setup.address())
        .and_then(|mut wire| wire.create_topic(TOPIC, KEYS as i32, &[]))
        .context("topic")?;
    broker.stop()?;
    let mut seen = Seen::default();
    for round in 0..options.either(1, 10) {
        for first in 1..=STEP {
            one_start(&setup, &recorder, first, &seen)?;
            if options.long {
                say(&format!("  round {round}, from {first}: {seen:?}"));
            }
        }
    }
    let broker = setup.start()?;
    read_all(setup.address(), TOPIC, KEYS, &recorder)?;
    broker.stop()?;
    let figures = verdict(&recorder, &[], options)?;
    let Seen { injected, refused, served, reopened } = &mut seen;
    Ok(format!(
        "0 acknowledged lost of {}, 0 acknowledged after a failure before a higher epoch; {} fdatasync failed (each k up to \
         {UP_TO}), {} sends refused, {} acknowledged elsewhere while a partition was closed, {} reopened without a restart",
        figures.acknowledged,
        injected.get_mut(),
        refused.get_mut(),
        served.get_mut(),
        reopened.get_mut(),
    ))
}

/// What the writers met.
#[derive(Debug, Default)]
struct Seen {
    injected: AtomicUsize,
    refused: AtomicUsize,
    served: AtomicUsize,
    reopened: AtomicUsize,
}

/// Runs the broker so that the syncs number `first`, `first + STEP`, ... fail, until enough of them have.
fn one_start(setup: &Setup, recorder: &Recorder, first: usize, seen: &Seen) -> Result<(), Failure> {
    let harm = format!("fdatasync:error=EIO:when={first}+{STEP}");
    let tracer = Tracer::harm(setup, "fdatasync", &harm)?;
    let mut broker = setup.start_under(&tracer.words())?;
    let enough = AtomicBool::new(false);
    let (refused, reopened) = (seen.refused.load(Ordering::Relaxed), seen.reopened.load(Ordering::Relaxed));
    let deadline = Instant::now() + PATIENCE;
    let ended: Result<Vec<()>> = thread::scope(|scope| {
        let writer = |number| {
            let enough = &enough;
            scope.spawn(move || write(setup.address(), recorder, number, seen, enough))
        };
        let writers: Vec<_> = (0..WRITERS).map(writer).collect();
        let is_done = || {
            tracer.injected() * STEP >= UP_TO + STEP
                && seen.refused.load(Ordering::Relaxed) > refused
                && seen.reopened.load(Ordering::Relaxed) > reopened
        };
        let goes_on = || !writers.iter().any(thread::ScopedJoinHandle::is_finished);
        while !is_done() && Instant::now() < deadline && broker.is_alive() && goes_on() {
            pause(Duration::from_millis(50));
        }
        enough.store(true, Ordering::Relaxed);
        let join = |writer: thread::ScopedJoinHandle<'_, Result<()>>| {
            writer.join().map_err(|_| anyhow!("a writer panicked"))?
        };
        writers.into_iter().map(join).collect()
    });
    if !broker.is_alive() {
        return Err(Failure::Broken(format!("the broker ended:\n{}", setup.logged())));
    }
    broker.kill()?;
    ended?;
    let injected = tracer.injected();
    seen.injected.fetch_add(injected, Ordering::Relaxed);
    if injected * STEP < UP_TO {
        return Err(Failure::Invalid(format!("only {injected} fdatasync failed within {PATIENCE:?}")));
    }
    if seen.reopened.load(Ordering::Relaxed) == reopened {
        return Err(Failure::Broken(format!("no partition came back within {PATIENCE:?}")));
    }
    Ok(())
}

/// Writes to every `WRITERS`-th partition in turn and judges what it is told.
fn write(
    address: SocketAddr,
    recorder: &Recorder,
    number: u32,
    seen: &Seen,
    enough: &AtomicBool,
) -> Result<()> {
    let mut scribe = Scribe::connect(address, recorder)?;
    // Partitions that refused, with the epoch in which they did.
    let mut closed: BTreeMap<Key, i32> = BTreeMap::new();
    let mut turn = 0;
    while !enough.load(Ordering::Relaxed) {
        turn += 1;
        let key = number + WRITERS * (turn % (KEYS / WRITERS));
        // Those who wait for the disk and those who do not, on one file.
        let acks = if turn % 5 == 0 { 1 } else { -1 };
        let answer = scribe.send(Target { topic: TOPIC, partition: key as i32, acks }, 2)?;
        match answer.code {
            ErrorCode::None => {
                if let Some(before) = closed.remove(&key) {
                    let epoch = scribe.wire.leader_epoch(TOPIC, key)?;
                    if epoch <= before {
                        anyhow::bail!("partition {key} acknowledged after a failure, still in epoch {epoch}");
                    }
                    seen.reopened.fetch_add(1, Ordering::Relaxed);
                }
                let is_elsewhere = usize::from(!closed.is_empty());
                seen.served.fetch_add(is_elsewhere, Ordering::Relaxed);
            }
            ErrorCode::KafkaStorageError => {
                seen.refused.fetch_add(1, Ordering::Relaxed);
                if !closed.contains_key(&key) {
                    closed.insert(key, scribe.wire.leader_epoch(TOPIC, key)?);
                    let start = scribe.wire.log_start(TOPIC, key)?;
                    let fetched = scribe.wire.fetch(TOPIC, key, start)?;
                    if fetched.code != ErrorCode::None {
                        anyhow::bail!("a closed partition cannot be read: {}", fetched.code.name());
                    }
                }
            }
            // Partitions are recovered after the listener is open.
            ErrorCode::NotLeaderOrFollower => pause(Duration::from_millis(2)),
            other => anyhow::bail!("a failed disk is told as {} ({:?})", other.name(), answer.message),
        }
    }
    Ok(())
}
