//! How fast a log is compacted, and what a key costs: one thread, the real disk, the log in the page cache.
//!
//! The log is all dirty and has small keyed records. The memory for keys is exactly what the bar allows, so that a run which
//! reaches the end in one go has kept it. Bytes of the log count once, though they are read twice.

use std::collections::HashMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use millstream_log::{
    Acks, Append, CleanStart, CleanupPolicy, CompactLimits, Compacted, Demand, FirstBatch, Flusher,
    Isolation, LeaderEpoch, Log, LogConfig, Offset, OpenOptions, Pace, ReadFrom, RealDisk, SystemClock,
};
use millstream_protocol::Chunk;
use millstream_protocol::records::{self, BatchBuilder, BatchView, Compression, NewRecord};
use rand::rngs::SmallRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

use super::{Failure, Options, Proven, say};

/// The bars.
const MEGABYTES_PER_SECOND_LEAST: f64 = 300.0;
const BYTES_PER_KEY_MOST: usize = 24;

const RECORDS_PER_BATCH: usize = 100;
/// How often a key is written.
const WRITES_PER_KEY: usize = 10;
/// Runs of which the best one counts: the machine has other work.
const RUNS: usize = 3;

pub(super) fn run(options: &Options) -> Proven {
    let seed = options.seed();
    let mebibytes = options.either(256, 2048);
    let folder = tempfile::tempdir_in(&options.folder).context("making a folder")?;
    say(&format!("  {mebibytes} MiB of records of 100 to 200 bytes, each key {WRITES_PER_KEY} times"));
    let model = Model::write(&folder.path().join("original"), mebibytes << 20, seed)?;
    let mut best: Option<(f64, Compacted)> = None;
    for _ in 0..RUNS {
        let (speed, cpu_speed, done) = measure(folder.path(), &model)?;
        say(&format!(
            "  {speed:.0} MB/s ({cpu_speed:.0} MB/s of its thread's time), {} of {} records removed, {:.0?}",
            done.records_removed, done.records_before, done.took
        ));
        if best.as_ref().is_none_or(|(before, _)| speed > *before) {
            best = Some((speed, done));
        }
    }
    let (speed, done) = best.ok_or_else(|| anyhow!("nothing was measured"))?;
    let bytes_per_key = done.key_map_bytes as f64 / done.keys as f64;
    let figure = format!(
        "{speed:.0} MB/s on one thread (at least {MEGABYTES_PER_SECOND_LEAST}); {bytes_per_key:.1} bytes for each of {} keys (at most \
         {BYTES_PER_KEY_MOST}); every key's last record is there, and no other; the best of {RUNS}",
        done.keys
    );
    // Without optimisation the speed says nothing.
    let is_fast = speed >= MEGABYTES_PER_SECOND_LEAST / options.slack || cfg!(debug_assertions);
    match is_fast && bytes_per_key <= BYTES_PER_KEY_MOST as f64 + 0.01 {
        true => Ok(figure),
        false => Err(Failure::Broken(figure)),
    }
}

/// A log, and what it must be compacted to.
struct Model {
    folder: PathBuf,
    /// Where each key was written last.
    last: HashMap<u64, i64>,
}

impl Model {
    fn write(folder: &Path, bytes: usize, seed: u64) -> Result<Self> {
        let mut random = SmallRng::seed_from_u64(seed);
        let log = open(folder)?;
        let keys = (bytes / 175 / WRITES_PER_KEY).max(1) as u64;
        let mut noise = [0; 4096];
        random.fill_bytes(&mut noise);
        let (mut last, mut offset) = (HashMap::new(), 0);
        while log.size_bytes() < bytes as u64 {
            let mut builder = BatchBuilder::with_capacity(Compression::None, RECORDS_PER_BATCH * 220);
            for _ in 0..RECORDS_PER_BATCH {
                let key = random.random_range(0..keys);
                let from = random.random_range(0..3900);
                let value = &noise[from..from + random.random_range(84..=184)];
                builder.append(&NewRecord {
                    timestamp: 1_700_000_000_000 + offset,
                    key: Some(named(key).as_bytes()),
                    value: Some(value),
                    headers: &[],
                });
                last.insert(key, offset);
                offset += 1;
            }
            append(&log, builder.build())?;
        }
        log.close()?;
        Ok(Self { folder: folder.to_owned(), last })
    }
}

/// 16 bytes.
fn named(key: u64) -> String {
    format!("key-{key:012}")
}

fn open(folder: &Path) -> Result<Arc<Log>> {
    let options = OpenOptions {
        disk: Arc::new(RealDisk),
        clock: Arc::new(SystemClock),
        flusher: Flusher::start(1),
        dir: folder.to_owned(),
        config: LogConfig { cleanup: CleanupPolicy::Compact, ..LogConfig::default() },
        leader_epoch: LeaderEpoch::new(1),
        clean: CleanStart::Yes,
    };
    Ok(Log::open(options).context("opening the log")?.0)
}

fn append(log: &Arc<Log>, batch: Bytes) -> Result<()> {
    let header = BatchView::parse(&batch)?.header();
    let (told, answer) = std::sync::mpsc::channel();
    let done = Box::new(move |result| {
        let _ = told.send(result);
    });
    drop(log.append(Append { batch, header, acks: Acks::Written, transaction: None }, done));
    answer.recv()?.context("appending")?;
    Ok(())
}

/// Megabytes of the log per second and per second of the thread's own time.
fn measure(folder: &Path, model: &Model) -> Result<(f64, f64, Compacted), Failure> {
    let copy = folder.join("copy");
    fs::create_dir_all(&copy).context("copying")?;
    for entry in fs::read_dir(&model.folder).context("copying")? {
        let entry = entry.context("copying")?;
        fs::copy(entry.path(), copy.join(entry.file_name())).context("copying")?;
    }
    rustix::fs::sync();
    let log = open(&copy)?;
    let bytes = log.size_bytes() as f64;
    let limits =
        CompactLimits { demand: Demand::Now, dedupe_buffer_bytes: BYTES_PER_KEY_MOST * model.last.len() };
    let began = thread_time();
    let done = log.compact(limits, &Pace::unlimited(), &mut |_| ControlFlow::Continue(()));
    let cpu = thread_time().saturating_sub(began);
    let done = done.context("compacting")?.ok_or_else(|| anyhow!("nothing was compacted"))?;
    if done.more || done.keys != model.last.len() as u64 {
        let found = format!("a run with room for {} keys ended after {}", model.last.len(), done.keys);
        return Err(Failure::Broken(found));
    }
    check(&log, model)?;
    drop(log);
    fs::remove_dir_all(&copy).context("removing the copy")?;
    Ok((bytes / 1e6 / done.took.as_secs_f64(), bytes / 1e6 / cpu.as_secs_f64(), done))
}

/// What is left is the last record of each key.
fn check(log: &Log, model: &Model) -> Result<(), Failure> {
    let (mut next, mut found) = (0, 0);
    loop {
        let from = ReadFrom {
            offset: Offset::new(next),
            max_bytes: 8 << 20,
            first_batch: FirstBatch::Whole,
            isolation: Isolation::ReadUncommitted,
        };
        let slice = log.read(from).context("reading")?;
        let bytes = match slice.records {
            None => break,
            Some(Chunk::Bytes(bytes)) => bytes,
            Some(Chunk::File(slice)) => {
                let mut bytes = vec![0; slice.length];
                std::os::unix::fs::FileExt::read_exact_at(&*slice.file, &mut bytes, slice.offset)
                    .context("reading")?;
                Bytes::from(bytes)
            }
        };
        for batch in records::batches(bytes) {
            let batch = batch.context("reading")?;
            next = BatchView::parse(&batch).context("reading")?.last_offset() + 1;
            for record in records::records(&batch, usize::MAX).context("reading")? {
                let record = record.context("reading")?;
                let key =
                    record.key.as_deref().and_then(|key| std::str::from_utf8(&key[4..]).ok()?.parse().ok());
                let last = key.and_then(|key: u64| model.last.get(&key));
                if last != Some(&record.offset) {
                    return Err(Failure::Broken(format!(
                        "offset {} is there and should have gone",
                        record.offset
                    )));
                }
                found += 1;
            }
        }
    }
    match found == model.last.len() {
        true => Ok(()),
        false => Err(Failure::Broken(format!("{found} of {} keys are left", model.last.len()))),
    }
}

fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
