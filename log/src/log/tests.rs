//! What a log promises, on a disk that can lose its power. Everything runs on the test's own thread, so that
//! a seed repeats exactly.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_protocol::Chunk;
use millstream_protocol::records::{
    self, BatchBuilder, BatchView, Compression, NewRecord, TransactionOutcome,
};
use parking_lot::Mutex;

use super::*;
use crate::clock::ManualClock;
use crate::config::CleanStart;
use crate::disk::{PowerCut, SimDisk};
use crate::ids::ProducerId;
use crate::partition::{EpochRule, FirstSequence, InTransaction, Marker};

mod appending;
mod compacting;
mod concurrent;
mod crashes;
mod failing;
mod format;
mod indexes;
mod model;
mod producing;
mod relaxed;
mod reopening;
mod retention;
mod rot;
#[cfg(shuttle)]
mod schedules;
mod times;

const NOW_MS: i64 = 1_700_000_000_000;

/// A disk, a clock, and the one log on it.
struct Rig {
    disk: SimDisk,
    clock: Arc<ManualClock>,
    config: LogConfig,
    epoch: i32,
    /// Whether intervals come due, when the flusher is told to look.
    has_intervals: bool,
}

impl Rig {
    fn new(config: LogConfig) -> Self {
        let clock = Arc::new(ManualClock::at(NOW_MS));
        Self { disk: SimDisk::new(), clock, config, epoch: 1, has_intervals: false }
    }

    /// Segments of 1,000 bytes with an index entry every 200.
    fn small() -> Self {
        Self::new(LogConfig { segment_bytes: 1000, index_interval_bytes: 200, ..LogConfig::default() })
    }

    fn dir() -> PathBuf {
        PathBuf::from("/topics/t/0")
    }

    fn try_open(&self, clean: CleanStart) -> Result<(Arc<Log>, Recovery), OpenError> {
        Log::open(OpenOptions {
            disk: Arc::new(self.disk.clone()),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            flusher: match self.has_intervals {
                true => Flusher::on_clock(Arc::clone(&self.clock) as Arc<dyn Clock>),
                false => Flusher::inline(),
            },
            dir: Self::dir(),
            config: self.config.clone(),
            leader_epoch: LeaderEpoch::new(self.epoch),
            clean,
        })
    }

    fn open(&self) -> Arc<Log> {
        self.try_open(CleanStart::No).unwrap().0
    }

    fn file(name: &str) -> PathBuf {
        Self::dir().join(name)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self
            .disk
            .list(&Self::dir())
            .unwrap()
            .into_iter()
            .map(|name| name.into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// A batch with one record for each value.
fn batch_at(timestamp: i64, values: &[&[u8]]) -> BatchBuilder {
    let mut builder = BatchBuilder::new(Compression::None);
    for value in values {
        builder.append(&NewRecord { timestamp, value: Some(value), ..NewRecord::default() });
    }
    builder
}

fn append_of(batch: Bytes, acks: Acks) -> Append {
    let header = BatchView::parse(&batch).unwrap().header();
    Append { batch, header, acks, transaction: None }
}

/// A batch of a transaction, as the coordinator lets it in.
fn in_transaction(log: &Log, mut builder: BatchBuilder, acks: Acks) -> Append {
    builder.transactional();
    let append = append_of(builder.build(), acks);
    let guard = log.transaction_guard(ProducerId::new(append.header.producer_id));
    Append { transaction: Some(InTransaction { guard, first_sequence: FirstSequence::Any }), ..append }
}

fn marker_of(producer: i64, epoch: i16, outcome: TransactionOutcome) -> Marker {
    let (producer, rule) = (ProducerId::new(producer), EpochRule::NotOlder);
    Marker { producer, epoch, coordinator_epoch: 0, outcome, rule, only_if: None }
}

fn abort_of(producer: i64, epoch: i16) -> Marker {
    marker_of(producer, epoch, TransactionOutcome::Abort)
}

fn commit_of(producer: i64, epoch: i16) -> Marker {
    marker_of(producer, epoch, TransactionOutcome::Commit)
}

/// Ends a transaction.
fn ended(log: &Arc<Log>, marker: Marker) -> Result<Appended, AppendError> {
    let outcome = Outcome::default();
    let answer = Arc::clone(&outcome);
    drop(log.append_marker(marker, Box::new(move |result| *answer.lock() = Some(result))));
    let result = outcome.lock().take();
    result.expect("an inline flusher answers at once")
}

type Outcome = Arc<Mutex<Option<Result<Appended, AppendError>>>>;

/// Appends and returns the place where the answer will be.
fn submit(log: &Arc<Log>, append: Append) -> Outcome {
    let outcome = Outcome::default();
    let answer = Arc::clone(&outcome);
    let done = Box::new(move |result| assert!(answer.lock().replace(result).is_none(), "answered twice"));
    drop(log.append(append, done));
    outcome
}

fn append(log: &Arc<Log>, values: &[&[u8]], acks: Acks) -> Result<Appended, AppendError> {
    append_at(log, NOW_MS, values, acks)
}

fn append_at(log: &Arc<Log>, timestamp: i64, values: &[&[u8]], acks: Acks) -> Result<Appended, AppendError> {
    let outcome = submit(log, append_of(batch_at(timestamp, values).build(), acks));
    let result = outcome.lock().take();
    result.expect("an inline flusher answers at once")
}

fn written(log: &Arc<Log>, values: &[&[u8]]) -> i64 {
    append(log, values, Acks::Written).unwrap().base_offset.get()
}

fn from(offset: i64) -> ReadFrom {
    ReadFrom {
        offset: Offset::new(offset),
        max_bytes: usize::MAX,
        first_batch: FirstBatch::Whole,
        isolation: Isolation::ReadUncommitted,
    }
}

fn read_bytes(log: &Log, from: ReadFrom) -> Bytes {
    match log.read(from).unwrap().records {
        None => Bytes::new(),
        Some(Chunk::Bytes(bytes)) => bytes,
        Some(Chunk::File(slice)) => {
            let mut bytes = vec![0; slice.length];
            std::os::unix::fs::FileExt::read_exact_at(&*slice.file, &mut bytes, slice.offset).unwrap();
            Bytes::from(bytes)
        }
    }
}

/// Every record from `offset` on, read as a consumer does: (offset, value).
fn consume(log: &Log, offset: i64) -> Vec<(i64, Vec<u8>)> {
    let mut found = Vec::new();
    let mut next = offset;
    loop {
        let bytes = read_bytes(log, from(next));
        if bytes.is_empty() {
            return found;
        }
        let before = next;
        for batch in records::batches(bytes) {
            let batch = batch.unwrap();
            assert!(BatchView::parse(&batch).unwrap().crc_is_valid());
            for record in records::records(&batch, usize::MAX).unwrap() {
                let record = record.unwrap();
                if record.offset >= next {
                    next = record.offset + 1;
                    found.push((record.offset, record.value.unwrap().to_vec()));
                }
            }
        }
        assert!(next > before, "a consumer at {before} does not get on");
    }
}

fn values(found: &[(i64, Vec<u8>)]) -> Vec<String> {
    found.iter().map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
}

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("value-{number:03}")).collect()
}

/// Appends `value-000` and so on, a batch each.
fn fill(log: &Arc<Log>, range: std::ops::Range<usize>) {
    for value in numbered(range) {
        written(log, &[value.as_bytes()]);
    }
}

fn end(log: &Log) -> i64 {
    log.offsets().log_end.get()
}
