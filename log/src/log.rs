//! One partition's log: appends in order, reads, makes durable.
//!
//! Shared by everybody who has the partition. Its locks, in the order in which they are taken:
//!
//! 1. `saving`: one at a time writes snapshots or replaces segments. Held across everything that this takes.
//! 2. `flushing`: one flush at a time. Held across `fdatasync`. Those who replace segments hold both.
//! 3. `writer`: the partition's state and the active segment. Held by the leader for its turn, across
//!    `pwritev` but never across a sync.
//! 4. `durability`, `unsynced`, and what the segments and the tail have inside: a few instructions.
//!
//! Readers take none of the first three. Appends are answered under none of them, or under the first two.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::task::Waker;

use crate::sync::atomic::Ordering::{Acquire, Relaxed};
use crate::sync::atomic::{AtomicBool, AtomicI32, AtomicU64};
use crate::sync::{ArcSwap, Mutex};

use crate::clock::Clock;
use crate::combiner::Combiner;
use crate::config::{LogConfig, OpenOptions};
use crate::disk::Disk;
use crate::flusher::{Flush, FlushHere, Flusher};
use crate::ids::{LeaderEpoch, Offset};
use crate::partition::SharedEpochs;
use crate::recovery::{Recovered, Recovery, UnsyncedNames, recover};
use crate::segment::Segment;
use crate::segment_list::SegmentList;
use crate::snapshot::Safety;
use crate::tail::{Isolation, Offsets, Parked, Tail};

mod compacting;
mod compaction;
mod deletion;
mod durability;
mod errors;
mod failure;
mod open_files;
mod producing;
mod reading;
mod reconfiguring;
mod reopening;
mod retention;
mod scrubbing;
mod transactions;
mod writing;

pub(crate) use compaction::cleaned_path;
pub use compaction::{CompactLimits, CompactProgress, Compacted, CompactionFacts, Demand, Dirtiness};
use durability::Durability;
pub use errors::{
    AppendError, CompactError, DeleteRecordsError, FlushError, OpenError, ReadError, RetentionError,
};
use failure::FailureLatch;
pub use failure::{Failure, FailureKind};
use open_files::OpenFiles;
pub use reading::{FirstBatch, ReadFrom, ReadSlice};
pub use reopening::ReopenError;
pub use retention::{NextDeletion, StorageFacts, Trimmed};
pub use scrubbing::{QuarantinedRange, ScrubFrom, ScrubReport};
pub use writing::{Acks, Append, Appended, Done, Leadership, Left};
use writing::{Queued, Writer, WriterState};

/// A tail of this size is worth to be remembered as durable as soon as it was read, so that a broker that is
/// killed again and again does not read it each time.
const RESCAN_BYTES_MAX: u64 = 1 << 20;

/// One partition's log.
pub struct Log {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    flusher: Arc<Flusher>,
    dir: Arc<Path>,
    /// Replaced as a whole; what has begun goes on under the one it began with.
    config: ArcSwap<LogConfig>,
    queue: Combiner<Queued>,
    writer: Mutex<Writer>,
    segments: SegmentList<Segment>,
    open_files: OpenFiles,
    /// Who led when: what readers hold batches against.
    epochs: Arc<SharedEpochs>,
    tail: Arc<Tail>,
    durability: Mutex<Durability>,
    saving: Mutex<()>,
    flushing: Mutex<()>,
    /// Held by a run of compaction from its beginning to its end; taken before all others.
    compacting: Mutex<()>,
    compaction_facts: Mutex<CompactionFacts>,
    unsynced: Mutex<UnsyncedNames>,
    /// Some segment says that something was aborted.
    has_aborted: AtomicBool,
    /// The first write or flush that failed. Nothing is acknowledged after it.
    failure: FailureLatch,
    /// Counts reopenings: what was judged before one says nothing of the log after it.
    generation: AtomicU64,
    /// The epoch that is written into batches.
    leader_epoch: AtomicI32,
    /// A checkpoint will come due.
    checkpoint_timer: AtomicBool,
    /// A flush will come due.
    flush_timer: AtomicBool,
    /// The flusher was asked to set room aside.
    room_timer: AtomicBool,
    /// Batches appended since the log was opened.
    batches: AtomicU64,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("dir", &self.dir)
            .field("offsets", &self.offsets())
            .finish_non_exhaustive()
    }
}

impl Log {
    /// Opens or creates a log and repairs what an unclean end left. Blocks on the disk.
    ///
    /// # Errors
    /// When the system refuses to make, read or cut a file.
    pub fn open(options: OpenOptions) -> Result<(Arc<Self>, Recovery), OpenError> {
        let dir: Arc<Path> = Arc::from(options.dir.as_path());
        let Recovered { partition, segments, active_since_ms, cleaned_to, durable, saved, unsynced, report } =
            recover(&options, &dir, None)?;
        let leader_epoch = partition.leader_epoch();
        let offsets = partition.offsets();
        let active = Arc::clone(segments.last().expect("recovery leaves at least one segment"));
        let epochs = Arc::<SharedEpochs>::default();
        let state = WriterState { partition, active, active_since_ms, cleaned_to };
        let writer = Writer::new(state, Arc::clone(&epochs));
        let OpenOptions { disk, clock, flusher, config, leader_epoch: asked, .. } = options;
        unsynced.made_in.iter().for_each(|dir| flusher.forget(dir));
        let log = Arc::new(Self {
            disk,
            clock,
            flusher,
            dir,
            config: ArcSwap::from_pointee(config.bounded()),
            queue: Combiner::new(),
            writer: Mutex::new(writer),
            segments: SegmentList::new(segments),
            open_files: OpenFiles::default(),
            epochs,
            tail: Arc::new(Tail::new(offsets)),
            durability: Mutex::new(Durability::at(durable, saved)),
            saving: Mutex::new(()),
            flushing: Mutex::new(()),
            compacting: Mutex::new(()),
            compaction_facts: Mutex::default(),
            unsynced: Mutex::new(unsynced),
            has_aborted: AtomicBool::new(false),
            failure: FailureLatch::default(),
            generation: AtomicU64::new(0),
            leader_epoch: AtomicI32::new(leader_epoch.get()),
            checkpoint_timer: AtomicBool::new(false),
            flush_timer: AtomicBool::new(false),
            room_timer: AtomicBool::new(false),
            batches: AtomicU64::new(0),
        });
        log.note_aborted_in(log.segments.all().iter());
        if leader_epoch > asked {
            log.keep_epoch();
        }
        if report.scanned_bytes >= RESCAN_BYTES_MAX {
            // Off this thread, and after what somebody waits for: the next start should not read it again.
            log.request_checkpoint();
        }
        if durable < offsets.log_end {
            log.set_timers();
        }
        Ok((log, report))
    }

    /// Makes durable an epoch that nobody but this log knows, before anything is written under it: a crash could
    /// have it given again. Where that cannot be done the log can be read, and is reopened like one that failed.
    fn keep_epoch(&self) {
        let _saving = self.saving.lock();
        let _flushing = self.flushing.lock();
        if let Err(error) = self.save_now(Safety::Synced)
            && !self.is_failed()
        {
            self.note_failure("keep the leader epoch of", &io::Error::other(error));
        }
    }

    /// The bounds of the log now.
    #[must_use]
    pub fn offsets(&self) -> Offsets {
        self.tail.offsets()
    }

    /// Wakes `waker` once when a reader of this isolation may see something at `beyond`, or the log closes or is
    /// deleted; at once if it is so already.
    pub fn park(&self, waker: &Waker, beyond: Offset, isolation: Isolation) -> Parked {
        self.tail.park(waker, beyond, isolation)
    }

    /// The largest epoch at most `epoch` that wrote here, and the offset where it ended. An epoch older than
    /// all that are known ended where the first of those began; one that is newer has no end.
    #[must_use]
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let ended = self.writer.lock().partition().end_offset_for_epoch(epoch)?;
        Some((ended.epoch, ended.offset))
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.segments.all().iter().map(|segment| segment.extent().bytes).sum()
    }

    /// How many segments there are, the active one included.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.segments.all().len()
    }

    /// Whether a write or flush failed: the log takes no writes until it is reopened.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.failure.is_set()
    }

    /// What failed, if the log takes no writes.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        self.failure.get()
    }

    /// The epoch under which batches are written. It rises when the log is opened after an unclean end, and
    /// when it is reopened. What is read after it was asked for is not from before it rose; and a read that
    /// finds records gone is either told to come again, or finds a higher epoch when it asks again.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch::new(self.leader_epoch.load(Acquire))
    }

    /// Batches appended since the log was opened.
    fn batches(&self) -> u64 {
        self.batches.load(Relaxed)
    }

    fn as_flush(self: &Arc<Self>) -> Arc<dyn Flush> {
        Arc::clone(self) as Arc<dyn Flush>
    }
}

#[cfg(test)]
mod tests;
