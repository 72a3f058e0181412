//! A partition's folder with every kind of file in it, and what is done with it once it is harmed.
//!
//! All goes through the public API, as a broker does it: the harmed file lies on a simulated disk, the log
//! is opened over it, read from its start, closed, and opened once more.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use millstream_broker::{SimBroker, SimOptions};
use millstream_log::{
    Acks, Append, CleanStart, Clock, Disk, FirstBatch, Flusher, IfMissing, Isolation, LeaderEpoch, Log,
    LogConfig, ManualClock, Offset, OpenOptions, ReadFrom, Recovery, SimDisk,
};
use millstream_protocol::Chunk;
use millstream_protocol::records::{self, BatchBuilder, BatchView, Compression, NewRecord};

/// Batches of the folder, each with one record whose value is its offset.
pub const BATCHES: i64 = 60;

/// What is below it was made durable by a checkpoint. What lies above was synced, too.
pub const DURABLE: i64 = 40;

const NOW_MS: i64 = 1_700_000_000_000;

/// What an answer is compared by: the offset of a batch and its bytes, or that there is none.
pub type Answers = Vec<(i64, Option<Bytes>)>;

/// A folder as an unclean end leaves it: sealed segments with their indexes, two snapshots, an active
/// segment beyond the newest, two leader epochs, an idempotent producer.
static FOLDER: LazyLock<SimDisk> = LazyLock::new(|| {
    let disk = SimDisk::new();
    let log = open(&disk, 1).expect("an empty disk opens").0;
    fill(&log, 0..DURABLE / 2);
    log.checkpoint().expect("the disk is well");
    drop(log);
    let log = open(&disk, 2).expect("a log opens again").0;
    fill(&log, DURABLE / 2..DURABLE);
    log.checkpoint().expect("the disk is well");
    fill(&log, DURABLE..BATCHES);
    log.flush().expect("the disk is well");
    drop(log);
    disk
});

/// What the unharmed folder answers.
pub static WHOLE: LazyLock<Answers> = LazyLock::new(|| read_all(&open(&folder(), 3).expect("it is whole").0));

/// A copy of the folder.
pub fn folder() -> SimDisk {
    FOLDER.fork()
}

/// Where it is.
pub fn dir() -> PathBuf {
    PathBuf::from("/data/topics/t/0")
}

fn fill(log: &Arc<Log>, range: std::ops::Range<i64>) {
    for number in range {
        let mut batch = BatchBuilder::new(Compression::None);
        batch.producer(7, 0, i32::try_from(number).expect("small"));
        let value = format!("value {number}");
        batch.append(&NewRecord {
            timestamp: NOW_MS + number,
            key: Some(value.as_bytes()),
            value: Some(value.as_bytes()),
            ..NewRecord::default()
        });
        let batch = batch.build();
        let header = BatchView::parse(&batch).expect("just built").header();
        let done = Box::new(|result: Result<_, _>| assert!(result.is_ok(), "{result:?}"));
        drop(log.append(Append { batch, header, acks: Acks::Written, transaction: None }, done));
    }
}

/// Opens the log on `disk` as after an unclean end. `None` if it refuses.
pub fn open(disk: &SimDisk, epoch: i32) -> Option<(Arc<Log>, Recovery)> {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(NOW_MS + 100_000));
    let config = LogConfig { segment_bytes: 800, index_interval_bytes: 200, ..LogConfig::default() };
    let options = OpenOptions {
        disk: Arc::new(disk.clone()),
        clock,
        flusher: Flusher::inline(),
        dir: dir(),
        config,
        leader_epoch: LeaderEpoch::new(epoch),
        clean: CleanStart::No,
    };
    Log::open(options).ok()
}

/// Files of the folder with this extension, in the order of their offsets.
pub fn files(disk: &SimDisk, extension: &str) -> Vec<PathBuf> {
    disk.files().into_iter().filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

/// Puts a file there, durably, whether there was one or not.
pub fn put(disk: &SimDisk, path: &Path, content: &[u8]) {
    disk.open(path, IfMissing::Create).expect("the disk is well");
    disk.sync_dir(path.parent().expect("a file lies in a folder")).expect("the disk is well");
    disk.overwrite(path, content);
}

/// Makes the checksum of each batch right, as far as lengths lead from one to the next: no fuzzer guesses it.
pub fn mend(bytes: &mut [u8]) {
    const LENGTH_AT: usize = 8;
    const PREFIX_BYTES: usize = 12;
    const CRC_AT: usize = 17;
    const CRC_COVERS: usize = 21;
    let mut rest = bytes;
    while rest.len() >= records::HEADER_BYTES {
        let length = rest[LENGTH_AT..PREFIX_BYTES].try_into().map(i32::from_be_bytes).expect("four bytes");
        let Ok(length) = usize::try_from(length) else { return };
        let bytes = PREFIX_BYTES.saturating_add(length);
        if bytes < records::HEADER_BYTES || bytes > rest.len() {
            return;
        }
        let (batch, behind) = rest.split_at_mut(bytes);
        let crc = records::crc32c(&batch[CRC_COVERS..]);
        batch[CRC_AT..CRC_COVERS].copy_from_slice(&crc.to_be_bytes());
        rest = behind;
    }
}

/// Reads from the start of the log to its end, and past what cannot be read.
pub fn read_all(log: &Log) -> Answers {
    let offsets = log.offsets();
    let mut found = Vec::new();
    let mut next = offsets.log_start.get();
    // A lie about offsets may make the log as long as it likes; there is nothing in it but holes then.
    while next < offsets.log_end.get() && found.len() < 1000 {
        let batch = read(log, next);
        let end = batch.as_ref().and_then(|batch| BatchView::parse(batch).ok().map(|view| view.header()));
        found.push((next, batch));
        next = end.map_or(next + 1, |header| (header.last_offset() + 1).max(next + 1));
    }
    found
}

/// The batch that holds `offset`.
pub fn read(log: &Log, offset: i64) -> Option<Bytes> {
    let from = ReadFrom {
        offset: Offset::new(offset),
        max_bytes: 1,
        first_batch: FirstBatch::Whole,
        isolation: Isolation::ReadUncommitted,
    };
    match log.read(from).ok()?.records {
        Some(Chunk::Bytes(bytes)) => records::batches(bytes).next()?.ok(),
        Some(Chunk::File(_)) => unreachable!("a simulated disk has no files of the system"),
        None => None,
    }
}

/// Opens what `disk` holds, twice: that must be the same log both times, and no byte may be gone. Returns what
/// it answers, and `None` if it does not open.
pub fn survives(disk: &SimDisk) -> Option<(Arc<Log>, Answers)> {
    let before = contents(disk, "log");
    let opened = survives_a_lie(disk);
    nothing_is_gone(disk, &before);
    opened
}

/// The same, but for bytes that are gone: a file with the right checksum may say that they are to go.
pub fn survives_a_lie(disk: &SimDisk) -> Option<(Arc<Log>, Answers)> {
    let (log, _) = open(disk, 3)?;
    let first = read_all(&log);
    let offsets = log.offsets();
    let _ = log.offset_for_timestamp(NOW_MS + DURABLE);
    let _ = log.max_timestamp();
    drop(log);
    let (log, again) = open(disk, 3).expect("it opened a moment ago");
    assert!(again.torn.is_empty(), "what was cut is cut again: {again:?}");
    assert_eq!(log.offsets(), offsets, "opened again, it is another log");
    assert_eq!(read_all(&log), first, "opened again, it reads otherwise");
    Some((log, first))
}

fn contents(disk: &SimDisk, extension: &str) -> Vec<Vec<u8>> {
    files(disk, extension).iter().filter_map(|path| disk.content(path)).collect()
}

/// Every byte that lay in a segment lies in one or in a side file, unless it is one of a tail of zeros.
fn nothing_is_gone(disk: &SimDisk, before: &[Vec<u8>]) {
    let (logs, sides) = (contents(disk, "log"), contents(disk, "torn"));
    for held in before {
        let kept = |cut: usize| {
            let (front, back) = held.split_at(cut);
            let back_is_kept = back.iter().all(|byte| *byte == 0) || sides.iter().any(|side| side == back);
            back_is_kept && (front.is_empty() || logs.iter().any(|log| log == front))
        };
        assert!((0..=held.len()).any(kept), "bytes of a segment are in no file any more");
    }
}

/// What the unharmed log answered below the durable point, it answers still.
pub fn durable_is_kept(found: &Answers, unless: impl Fn(i64) -> bool) {
    for (offset, batch) in WHOLE.iter().filter(|(offset, _)| *offset < DURABLE && !unless(*offset)) {
        let now = found.iter().find(|(at, _)| at == offset);
        assert_eq!(now.map(|(_, batch)| batch), Some(batch), "offset {offset} was durable");
    }
}

/// Starts a broker over a disk, and kills it. Tells whether it started.
pub fn broker_starts(disk: &SimDisk) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime of one thread").block_on(async {
        let options = SimOptions {
            disk: disk.clone(),
            clock: Arc::new(ManualClock::at(1_700_000_000_000)),
            settings: Vec::new(),
            seed: 1,
        };
        match SimBroker::start(options) {
            Ok(broker) => {
                broker.kill().await;
                true
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                false
            }
        }
    })
}
