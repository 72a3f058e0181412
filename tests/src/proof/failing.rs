//! A load on partitions whose files fail: what closed is not acknowledged to before it is reopened under a higher epoch, can be
//! read meanwhile, and all the others go on.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use millstream_protocol::ErrorCode;
use parking_lot::Mutex;

use super::bed::broker::{Setup, pause};
use super::bed::recorder::Recorder;
use super::bed::scribe::{Scribe, read_all};
use super::bed::tracer::Tracer;
use super::bed::verdict::verdict;
use super::bed::wire::{Target, Wire};
use super::{Failure, Options};
use crate::history::Key;
use crate::history::checker::Figures;

const TOPIC: &str = "failing";
const WRITERS: u32 = 3;
const KEYS: u32 = 24;
/// One thread syncs, so that its k-th call is the k-th of all; strace counts for each thread.
const SETTINGS: &[&str] = &["log.flusher.threads=1", "log.segment.bytes=65536"];
const PATIENCE: Duration = Duration::from_secs(120);

/// The broker's folder, the history, and what the writers met.
#[derive(Debug)]
pub(super) struct Failing {
    setup: Setup,
    recorder: Recorder,
    pub(super) seen: Seen,
}

/// What the writers met.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) injected: usize,
    pub(super) refused: AtomicUsize,
    pub(super) served: AtomicUsize,
    pub(super) reopened: AtomicUsize,
    pub(super) longest_closed: Mutex<Duration>,
}

/// Calls that fail.
#[derive(Debug, Clone)]
pub(super) struct Harm {
    /// Their name.
    pub(super) call: &'static str,
    /// As strace takes it after `inject=call:`.
    pub(super) how: String,
    /// The run goes on until so many have failed.
    pub(super) at_least: usize,
}

impl Failing {
    pub(super) fn new(options: &Options) -> Result<Self, Failure> {
        let setup = Setup::new(&options.broker, &options.folder, SETTINGS)?;
        let broker = setup.start()?;
        let mut wire = Wire::connect(setup.address()).context("connecting")?;
        wire.create_topic(TOPIC, KEYS as i32, &[]).context("creating")?;
        broker.stop()?;
        Ok(Self { setup, recorder: Recorder::new(), seen: Seen::default() })
    }

    /// Runs the broker with failing calls until enough of them have failed, a send was refused and a partition came back. False
    /// if a call failed so early that the broker refused to start, which is its right.
    pub(super) fn one_start(&mut self, harm: &Harm) -> Result<bool, Failure> {
        let Self { setup, recorder, seen } = &*self;
        let tracer = Tracer::harm(setup, harm.call, &format!("{}:{}", harm.call, harm.how))?;
        let mut broker = match setup.start_under(&tracer.words()) {
            Ok(broker) => broker,
            Err(_) if tracer.injected() > 0 => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let enough = AtomicBool::new(false);
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        let (refused, reopened) = (count(&seen.refused), count(&seen.reopened));
        let deadline = Instant::now() + PATIENCE;
        let ended: Result<Vec<()>> = thread::scope(|scope| {
            let address = setup.address();
            let writer = |number| {
                scope.spawn({
                    let enough = &enough;
                    move || write(address, recorder, number, seen, enough)
                })
            };
            let writers: Vec<_> = (0..WRITERS).map(writer).collect();
            let is_done = || {
                tracer.injected() >= harm.at_least
                    && count(&seen.refused) > refused
                    && count(&seen.reopened) > reopened
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
        if injected < harm.at_least || count(&seen.refused) == refused {
            return Err(Failure::Invalid(format!(
                "only {injected} {} failed within {PATIENCE:?}",
                harm.call
            )));
        }
        if count(&seen.reopened) == reopened {
            return Err(Failure::Broken(format!("no partition came back within {PATIENCE:?} of {harm:?}")));
        }
        self.seen.injected += injected;
        Ok(true)
    }

    /// Starts without harm, reads everything, and judges.
    pub(super) fn judge(&self, options: &Options) -> Result<Figures, Failure> {
        let broker = self.setup.start()?;
        read_all(self.setup.address(), TOPIC, KEYS, &self.recorder)?;
        broker.stop()?;
        verdict(&self.recorder, &[], options)
    }
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
    // Partitions that refused, with the epoch in which they did, and since when.
    let mut closed: BTreeMap<Key, (i32, Instant)> = BTreeMap::new();
    // Partitions of which something is on disk, by an answer that says so.
    let mut durable: BTreeSet<Key> = BTreeSet::new();
    let mut turn = 0;
    while !enough.load(Ordering::Relaxed) {
        turn += 1;
        let key = number + WRITERS * (turn % (KEYS / WRITERS));
        // Those who wait for the disk and those who do not, on one file.
        let acks = if turn % 5 == 0 { 1 } else { -1 };
        let answer = scribe.send(Target { topic: TOPIC, partition: key as i32, acks }, 2)?;
        match answer.code {
            ErrorCode::None => {
                if acks == -1 {
                    durable.insert(key);
                }
                if let Some((before, since)) = closed.remove(&key) {
                    let epoch = scribe.wire.leader_epoch(TOPIC, key)?;
                    if epoch <= before {
                        bail!("partition {key} acknowledged after a failure, still in epoch {epoch}");
                    }
                    seen.reopened.fetch_add(1, Ordering::Relaxed);
                    let mut longest = seen.longest_closed.lock();
                    *longest = longest.max(since.elapsed());
                }
                seen.served.fetch_add(usize::from(!closed.is_empty()), Ordering::Relaxed);
            }
            ErrorCode::KafkaStorageError => {
                seen.refused.fetch_add(1, Ordering::Relaxed);
                if let Entry::Vacant(open) = closed.entry(key) {
                    open.insert((scribe.wire.leader_epoch(TOPIC, key)?, Instant::now()));
                    let start = scribe.wire.log_start(TOPIC, key)?;
                    let fetched = scribe.wire.fetch(TOPIC, key, start)?;
                    // What is not on disk may be refused while it is looked for there; clients try again on this.
                    let may_be_refused =
                        fetched.code == ErrorCode::KafkaStorageError && !durable.contains(&key);
                    if fetched.code != ErrorCode::None && !may_be_refused {
                        bail!("a closed partition cannot be read: {}", fetched.code.name());
                    }
                }
                pause(Duration::from_millis(1));
            }
            // Partitions are recovered after the listener is open.
            ErrorCode::NotLeaderOrFollower => pause(Duration::from_millis(2)),
            other => bail!("a failed disk is told as {} ({:?})", other.name(), answer.message),
        }
    }
    Ok(())
}
