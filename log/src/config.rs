//! What a log is told when it is opened.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::disk::Disk;
use crate::flusher::Flusher;
use crate::ids::LeaderEpoch;
use crate::segment::SEGMENT_BYTES_MAX;

/// How one log stores. The broker checks bounds; values outside them are brought into them when the log
/// is opened or told others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A segment that would grow beyond this is rolled (`segment.bytes`). At most 2 GiB - 1.
    pub segment_bytes: u64,
    /// A segment whose first batch is older than this is rolled by the next append (`segment.ms`).
    pub segment_age: Duration,
    /// An index entry is written when this many bytes came since the last (`index.interval.bytes`).
    pub index_interval_bytes: u64,
    /// A segment whose offset index would grow beyond this is rolled (`segment.index.bytes`).
    pub index_bytes_max: u64,
    /// A producer that was silent for longer is forgotten (`producer.id.expiration.ms`).
    pub producer_expiration: Duration,
    /// Producers that are remembered at a time; beyond it the ones that were silent longest are forgotten.
    pub producers_max: usize,
    /// How long a tombstone stays after compaction went through it first (`delete.retention.ms`).
    pub delete_retention: Duration,
    /// Compaction is due when this part of what it could clean is dirty, in millionths
    /// (`min.cleanable.dirty.ratio`).
    pub min_dirty_ppm: u32,
    /// What was appended more recently is not compacted (`min.compaction.lag.ms`).
    pub min_compaction_lag: Duration,
    /// Compaction is due when a record has waited longer than this for it (`max.compaction.lag.ms`).
    pub max_compaction_lag: Duration,
    /// The durable point moves after this many bytes at the latest. It bounds what recovery must read.
    pub checkpoint_bytes: u64,
    /// The durable point moves this long after the first unflushed append at the latest.
    pub checkpoint_interval: Duration,
    /// What becomes of old records (`cleanup.policy`).
    pub cleanup: CleanupPolicy,
    /// Records are kept this long; `None`: for ever (`retention.ms`).
    pub retention_age: Option<Duration>,
    /// Segments are deleted, the oldest first, as long as the others hold at least this many bytes; `None`:
    /// however many there are (`retention.bytes`).
    pub retention_bytes: Option<u64>,
    /// When an append is answered that asks to be durable (`durability`).
    pub durability: DurabilityMode,
    /// So many records may be unflushed before the flusher is asked, though nobody waits (`flush.messages`).
    pub flush_records: u64,
    /// A record is flushed this long after it was written at the latest, though nobody waits (`flush.ms`);
    /// `None`: with the next checkpoint.
    pub flush_interval: Option<Duration>,
    /// Whether room is set aside for a segment that grows (`preallocate`).
    pub preallocate: bool,
}

impl LogConfig {
    /// The same within what a log can do.
    pub(crate) fn bounded(self) -> Self {
        Self { segment_bytes: self.segment_bytes.min(SEGMENT_BYTES_MAX), ..self }
    }
}

/// What "durable" means to those who append.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DurabilityMode {
    /// On the disk: a power cut loses nothing that was acknowledged so.
    #[default]
    Fsync,
    /// Written: a killed process loses nothing, a power cut what was not flushed yet.
    Written,
}

/// What becomes of old records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CleanupPolicy {
    /// They are deleted by age and size.
    Delete,
    /// The last record of each key stays.
    Compact,
    /// Both.
    CompactAndDelete,
    /// They all stay, but for those that somebody asks to be deleted.
    Keep,
}

impl CleanupPolicy {
    /// Whether records are deleted by age and size.
    #[must_use]
    pub fn deletes(self) -> bool {
        matches!(self, Self::Delete | Self::CompactAndDelete)
    }

    /// Whether records are removed that a later one of the same key replaces.
    #[must_use]
    pub fn compacts(self) -> bool {
        matches!(self, Self::Compact | Self::CompactAndDelete)
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_age: Duration::from_hours(7 * 24),
            index_interval_bytes: 4096,
            index_bytes_max: 10 << 20,
            producer_expiration: Duration::from_hours(24),
            producers_max: 100_000,
            delete_retention: Duration::from_hours(24),
            min_dirty_ppm: 500_000,
            min_compaction_lag: Duration::ZERO,
            max_compaction_lag: Duration::MAX,
            checkpoint_bytes: 256 << 20,
            checkpoint_interval: Duration::from_mins(1),
            cleanup: CleanupPolicy::Delete,
            retention_age: None,
            retention_bytes: None,
            durability: DurabilityMode::Fsync,
            flush_records: u64::MAX,
            flush_interval: None,
            preallocate: false,
        }
    }
}

/// How the broker that last held this data folder ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CleanStart {
    /// It closed every log, or the folder is new.
    Yes,
    /// It was killed, or the power failed.
    No,
}

/// What is needed to open a log.
#[derive(Debug)]
pub struct OpenOptions {
    /// Where the files are.
    pub disk: Arc<dyn Disk>,
    /// Tells the age of segments and producers.
    pub clock: Arc<dyn Clock>,
    /// Makes appends durable; shared by all logs of a data folder.
    pub flusher: Arc<Flusher>,
    /// The partition's own folder; made if it is missing.
    pub dir: PathBuf,
    /// How the log stores.
    pub config: LogConfig,
    /// Written into every batch from now on.
    pub leader_epoch: LeaderEpoch,
    /// How the last holder ended.
    pub clean: CleanStart,
}
