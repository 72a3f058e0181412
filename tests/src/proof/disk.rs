//! Proofs about the files of a log, on a simulated disk: no process and no device, so that thousands of harms
//! and their judgement fit in a second.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;

use anyhow::Context as _;
use bytes::Bytes;
use millstream_log::{
    Acks, Append, CleanStart, Clock, Disk, FirstBatch, Flusher, Isolation, LeaderEpoch, Log, LogConfig,
    ManualClock, Offset, OpenOptions, ReadError, ReadFrom, Recovery, SimDisk,
};
use millstream_protocol::Chunk;
use millstream_protocol::records::{self, BatchBuilder, BatchView, Compression, NewRecord};
use rand::rngs::SmallRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

pub(super) mod indexes;
pub(super) mod rot;
pub(super) mod torn;

const NOW_MS: i64 = 1_700_000_000_000;

/// A disk with one log on it.
struct Rig {
    disk: SimDisk,
    clock: Arc<ManualClock>,
    config: LogConfig,
    epoch: i32,
}

/// A batch as it was written.
struct Batch {
    file: String,
    positions: Range<usize>,
    offsets: Range<i64>,
    bytes: Bytes,
}

impl Rig {
    fn new(config: LogConfig) -> Self {
        Self { disk: SimDisk::new(), clock: Arc::new(ManualClock::at(NOW_MS)), config, epoch: 1 }
    }

    /// The same on a disk of its own.
    fn fork(&self) -> Self {
        let (clock, config) = (Arc::clone(&self.clock), self.config.clone());
        Self { disk: self.disk.fork(), clock, config, epoch: self.epoch }
    }

    fn folder() -> PathBuf {
        PathBuf::from("/topics/t/0")
    }

    fn path(name: &str) -> PathBuf {
        Self::folder().join(name)
    }

    fn open(&self, clean: CleanStart) -> anyhow::Result<(Arc<Log>, Recovery)> {
        let options = OpenOptions {
            disk: Arc::new(self.disk.clone()),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            flusher: Flusher::inline(),
            dir: Self::folder(),
            config: self.config.clone(),
            leader_epoch: LeaderEpoch::new(self.epoch),
            clean,
        };
        Log::open(options).context("the log does not open")
    }

    /// Names with this extension, in order.
    fn names(&self, extension: &str) -> anyhow::Result<Vec<String>> {
        let names = self.disk.list(&Self::folder())?.into_iter().filter_map(|name| name.into_string().ok());
        let mut names: Vec<_> = names.filter(|name| name.rsplit('.').next() == Some(extension)).collect();
        names.sort();
        Ok(names)
    }

    fn content(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        self.disk.content(&Self::path(name)).with_context(|| format!("{name} is gone"))
    }

    fn batches(&self) -> anyhow::Result<Vec<Batch>> {
        let mut batches = Vec::new();
        for file in self.names("log")? {
            let content = Bytes::from(self.content(&file)?);
            let mut at = 0;
            while at < content.len() {
                let view = BatchView::parse(&content[at..])?;
                let positions = at..at + view.size_in_bytes();
                let offsets = view.base_offset()..view.last_offset() + 1;
                let bytes = content.slice(positions.clone());
                at = positions.end;
                batches.push(Batch { file: file.clone(), positions, offsets, bytes });
            }
        }
        Ok(batches)
    }
}

/// A batch of records whose values have random bytes and these lengths.
fn batch(dice: &mut SmallRng, timestamp: i64, lengths: &[usize]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for length in lengths {
        let mut value = vec![0; *length];
        dice.fill_bytes(&mut value);
        builder.append(&NewRecord { timestamp, value: Some(&value), ..NewRecord::default() });
    }
    builder.build()
}

/// Appends and returns the base offset. The flusher has no thread, so that the answer is there at once.
fn append(log: &Arc<Log>, batch: Bytes, acks: Acks) -> anyhow::Result<i64> {
    let header = BatchView::parse(&batch)?.header();
    let (answer, answered) = mpsc::channel();
    let done = Box::new(move |result| {
        // Nobody listens only after a failure elsewhere.
        let _ = answer.send(result);
    });
    drop(log.append(Append { batch, header, acks, transaction: None }, done));
    Ok(answered.recv().context("an append was not answered")??.base_offset.get())
}

/// Several sealed segments under three leader epochs, batches of one to four records of all sizes; closed.
fn sealed_segments(seed: u64) -> anyhow::Result<Rig> {
    let config = LogConfig { segment_bytes: 3_000, index_interval_bytes: 500, ..LogConfig::default() };
    let mut rig = Rig::new(config);
    let mut dice = SmallRng::seed_from_u64(seed);
    for epoch in 1..=3 {
        rig.epoch = epoch;
        let (log, _) = rig.open(CleanStart::Yes)?;
        for _ in 0..20 {
            let lengths: Vec<usize> =
                (0..dice.random_range(1..5)).map(|_| dice.random_range(0..120)).collect();
            let batch = batch(&mut dice, NOW_MS, &lengths);
            append(&log, batch, Acks::Written)?;
        }
        log.close()?;
    }
    Ok(rig)
}

/// Reads as the broker does: where it may not wait it is sent elsewhere.
fn fetch(log: &Log, from: i64, max_bytes: usize) -> Result<Bytes, ReadError> {
    let from = ReadFrom {
        offset: Offset::new(from),
        max_bytes,
        first_batch: FirstBatch::Whole,
        isolation: Isolation::ReadUncommitted,
    };
    let slice = match log.try_read(from)? {
        Some(slice) if slice.is_resident() => slice,
        _ => log.read(from)?,
    };
    if !slice.is_resident() {
        slice.bring_in()?;
    }
    Ok(match slice.records {
        Some(Chunk::Bytes(bytes)) => bytes,
        // A simulated disk has no file to send from.
        Some(Chunk::File(_)) | None => Bytes::new(),
    })
}

/// What a consumer gets that goes on behind what is damaged: batches, and the offsets that it was told are lost.
fn consume_around(log: &Log) -> anyhow::Result<(Vec<Bytes>, Vec<Range<i64>>)> {
    let (mut served, mut lost) = (Vec::new(), Vec::new());
    let mut next = log.offsets().log_start.get();
    while next < log.offsets().high_watermark.get() {
        let before = next;
        match fetch(log, next, 1_500) {
            // A slice may end within a batch.
            Ok(bytes) => {
                for batch in records::batches(bytes).map_while(Result::ok) {
                    next = BatchView::parse(&batch)?.last_offset() + 1;
                    served.push(batch);
                }
            }
            Err(ReadError::Corrupt { lost: range, .. }) => {
                lost.push(next..range.end.get());
                next = range.end.get();
            }
            Err(other) => return Err(other).context(format!("at {next}")),
        }
        anyhow::ensure!(next > before, "a consumer at {before} does not get on");
    }
    Ok((served, lost))
}
