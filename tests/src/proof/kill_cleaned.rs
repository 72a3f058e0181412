//! SIGKILL while the broker removes old records: one topic is compacted, one is held to a size. Of each key the last record
//! that was acknowledged is there or a later one, at the offset that it always had; what size retention leaves is dense.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use millstream_protocol::ErrorCode;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::bed::broker::{Broker, Setup, pause};
use super::bed::payload;
use super::bed::recorder::Recorder;
use super::bed::scribe::{Scribe, read_all};
use super::bed::verdict::verdict;
use super::bed::wire::{Target, Wire};
use super::{Failure, Options, Proven};
use crate::history::{Action, Key, Op, Outcome, Polled, Value};

const COMPACTED: &str = "compacted";
const TRIMMED: &str = "trimmed";
const KEYS: u32 = 2;
const SETTINGS: &[&str] =
    &["log.segment.bytes=65536", "log.cleaner.backoff.ms=100", "log.retention.check.interval.ms=100"];
/// Longest time until background work has been done once more, and until writes go on after a start.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) fn run(options: &Options) -> Proven {
    let seed = options.seed();
    let kills = options.either(15, 1_000);
    let setup = Setup::new(&options.broker, &options.folder, SETTINGS)?;
    let mut broker = setup.start()?;
    let mut wire = Wire::connect(setup.address()).context("connecting")?;
    let compact = [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.01")];
    wire.create_topic(COMPACTED, KEYS as i32, &compact).context("creating")?;
    wire.create_topic(TRIMMED, KEYS as i32, &[("retention.bytes", "200000")]).context("creating")?;
    let (compacted, trimmed) = (Recorder::new(), Recorder::new());
    let enough = AtomicBool::new(false);
    let acknowledged = AtomicUsize::new(0);
    thread::scope(|scope| {
        let mut writers = Vec::new();
        for (topic, recorder) in [(COMPACTED, &compacted), (TRIMMED, &trimmed)] {
            let writer = Writer { address: setup.address(), topic, recorder, acknowledged: &acknowledged };
            writers.push(scope.spawn({
                let enough = &enough;
                move || writer.write(enough)
            }));
        }
        let killed = kill(&setup, &mut broker, kills, &acknowledged, &mut StdRng::seed_from_u64(seed));
        enough.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.join().map_err(|_| anyhow!("a writer panicked"))?;
        }
        killed
    })?;
    // Then what is there comes from the files alone.
    await_cleaning(&setup);
    broker.kill()?;
    let broker = setup.start()?;
    read_all(setup.address(), TRIMMED, KEYS, &trimmed)?;
    read_all(setup.address(), COMPACTED, KEYS, &compacted)?;
    broker.stop()?;
    let removed = verdict(&trimmed, &[], options)?;
    let left = judge_compacted(&compacted.history())?;
    if left.kept * 2 > left.acknowledged || removed.readings * 2 > removed.acknowledged {
        return Err(Failure::Invalid(format!("too little was removed: {left:?}, {removed:?}")));
    }
    Ok(format!(
        "0 anomalies after {kills} SIGKILLs; of {} acknowledged compaction left {}, the last of {} keys and what is not closed yet; of \
         {} retention by size left {}, without a hole; seed {seed}",
        left.acknowledged, left.kept, left.keys, removed.acknowledged, removed.readings,
    ))
}

struct Writer<'a> {
    address: SocketAddr,
    topic: &'a str,
    recorder: &'a Recorder,
    acknowledged: &'a AtomicUsize,
}

impl Writer<'_> {
    fn write(&self, enough: &AtomicBool) {
        while !enough.load(Ordering::Relaxed) {
            let Ok(mut scribe) = Scribe::connect(self.address, self.recorder) else {
                pause(Duration::from_millis(2));
                continue;
            };
            for turn in 0.. {
                let acks = if turn % 3 == 0 { -1 } else { 1 };
                let to = Target { topic: self.topic, partition: turn % KEYS as i32, acks };
                match scribe.send(to, 20) {
                    Ok(answer) if answer.code == ErrorCode::None => {
                        self.acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(_) => pause(Duration::from_millis(2)),
                    Err(_) => break,
                }
                // Slower than the broker can remove.
                pause(Duration::from_millis(1));
                if enough.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
    }
}

fn kill(
    setup: &Setup,
    broker: &mut Broker,
    kills: usize,
    acknowledged: &AtomicUsize,
    chance: &mut StdRng,
) -> Result<(), Failure> {
    for _ in 0..kills {
        let (before, deadline) = (acknowledged.load(Ordering::Relaxed), Instant::now() + PATIENCE);
        pause(Duration::from_millis(chance.random_range(100..1_200)));
        while acknowledged.load(Ordering::Relaxed) == before {
            if Instant::now() > deadline {
                return Err(Failure::Invalid("nothing was acknowledged since the last kill".to_owned()));
            }
            pause(Duration::from_millis(1));
        }
        broker.kill_now()?;
        *broker = setup.start()?;
    }
    Ok(())
}

/// Waits until the size of everything stays as it is: nothing is left to remove.
fn await_cleaning(setup: &Setup) {
    let deadline = Instant::now() + PATIENCE;
    let (mut last, mut same) = (u64::MAX, 0);
    while same < 10 && Instant::now() < deadline {
        let now = bytes(&setup.data().join("topics"));
        same = if now == last { same + 1 } else { 0 };
        last = now;
        pause(Duration::from_millis(200));
    }
}

fn bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => bytes(&entry.path()),
            Ok(found) => found.len(),
            // It has just been removed.
            Err(_) => 0,
        })
        .sum()
}

/// What compaction left.
#[derive(Debug, Default)]
struct Left {
    acknowledged: usize,
    kept: usize,
    keys: usize,
}

/// A partition and the key of a record in it.
type Name = (Key, [u8; 4]);

fn judge_compacted(history: &[Op]) -> Result<Left, Failure> {
    let mut left = Left::default();
    let mut sends: HashMap<(Key, Value), (Outcome, u32, Option<i64>)> = HashMap::new();
    let mut newest: BTreeMap<Name, i64> = BTreeMap::new();
    let mut found: BTreeMap<Name, i64> = BTreeMap::new();
    for op in history {
        let Action::Send { records, .. } = &op.action else { continue };
        for sent in records {
            sends.insert((sent.key, sent.value), (op.outcome, sent.crc, sent.offset));
            if let Some(offset) = sent.offset {
                left.acknowledged += 1;
                let at = newest.entry((sent.key, payload::record(sent.value).0)).or_insert(offset);
                *at = offset.max(*at);
            }
        }
    }
    let mut reached: BTreeMap<Key, i64> = BTreeMap::new();
    let polls = history
        .iter()
        .filter_map(|op| if let Action::Poll { records, .. } = &op.action { Some(records) } else { None });
    for polled in polls.flatten() {
        let Polled { key, offset, value, crc } = *polled;
        let wrong = |what: &str| Err(Failure::Broken(format!("partition {key}, offset {offset}: {what}")));
        let Some((value, send)) = value.and_then(|value| Some((value, sends.get(&(key, value))?))) else {
            return wrong("a record that nobody sent");
        };
        if send.1 != crc {
            return wrong("other bytes than were sent");
        }
        if send.0 == Outcome::Fail || send.2.is_some_and(|told| told != offset) {
            return wrong(&format!("value {value:#x}, of which its sender was told {send:?}"));
        }
        if reached.insert(key, offset).is_some_and(|before| before >= offset) {
            return wrong("not behind the record before it");
        }
        left.kept += 1;
        found.insert((key, payload::record(value).0), offset);
    }
    left.keys = found.len();
    for (name, offset) in newest {
        if found.get(&name).is_none_or(|at| *at < offset) {
            let at = found.get(&name);
            return Err(Failure::Broken(format!(
                "the last record of key {name:?}, acknowledged at {offset}: {at:?}"
            )));
        }
    }
    Ok(left)
}
