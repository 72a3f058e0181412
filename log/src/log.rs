//! One partition's log.
#![allow(unused_variables, clippy::unimplemented, clippy::needless_pass_by_value, dead_code)]

use std::path::PathBuf;
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use millstream_protocol::Chunk;
use millstream_protocol::records::BatchHeader;

use crate::config::OpenOptions;
use crate::ids::{LeaderEpoch, Offset};

mod errors;

pub use errors::{AppendError, DeleteRecordsError, FlushError, OpenError, ReadError};

/// When an append is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// After `write`: a killed process loses nothing, a power cut may.
    Written,
    /// After `fdatasync`.
    Durable,
}

/// One batch to append.
#[derive(Debug)]
pub struct Append {
    /// Exactly one batch, checked; its offset and leader epoch are replaced.
    pub batch: Bytes,
    /// Its header.
    pub header: BatchHeader,
    /// When it is answered.
    pub acks: Acks,
}

/// Where a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record; of the original's, if it was a duplicate.
    pub base_offset: Offset,
    /// The log append time in milliseconds, or -1 if the records keep their producer's.
    pub timestamp: i64,
    /// Where the log starts.
    pub log_start: Offset,
}

/// Called once when an append is settled, on whatever thread settled it.
pub type Done = Box<dyn FnOnce(Result<Appended, AppendError>) + Send>;

/// The right, and the duty, to append what others have queued.
#[derive(Debug)]
pub struct Leadership {
    log: Arc<Log>,
}

impl Leadership {
    /// Takes one bounded turn. `Some` if there is more to do.
    #[must_use]
    pub fn lead(self) -> Option<Self> {
        unimplemented!()
    }
}

/// The bounds of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// First offset that can be read.
    pub log_start: Offset,
    /// Readers see what lies below it.
    pub high_watermark: Offset,
    /// The next offset to be given.
    pub log_end: Offset,
}

/// Whether the first batch may exceed the size asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstBatch {
    /// It is returned whole, whatever its size.
    Whole,
    /// Nothing is returned if it does not fit.
    IfItFits,
}

/// What to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadFrom {
    /// The first offset wanted; the slice starts with the batch that holds it.
    pub offset: Offset,
    /// Bytes at most.
    pub max_bytes: usize,
    /// Whether the first batch may exceed that.
    pub first_batch: FirstBatch,
}

/// Whole batches as they lie on disk; the last may be cut short.
#[derive(Debug)]
pub struct ReadSlice {
    /// The batches; `None` if there is nothing to read yet.
    pub records: Option<Chunk>,
    /// Their length.
    pub bytes: usize,
}

impl ReadSlice {
    /// Whether sending it will not wait for the device.
    #[must_use]
    pub fn is_resident(&self) -> bool {
        unimplemented!()
    }

    /// Brings it into memory. Blocks.
    ///
    /// # Errors
    /// When the device cannot read it.
    pub fn bring_in(&self) -> std::io::Result<()> {
        unimplemented!()
    }
}

/// A record found by its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampedOffset {
    /// The record.
    pub offset: Offset,
    /// Its timestamp in milliseconds.
    pub timestamp: i64,
    /// The leader epoch of its batch.
    pub leader_epoch: LeaderEpoch,
}

/// What was found when a log was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Where the log ends.
    pub log_end: Offset,
    /// Bytes whose batches were checked.
    pub scanned_bytes: u64,
    /// What was cut.
    pub torn: Vec<TornTail>,
}

/// Bytes above the durable point that are not batches of this log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The first offset that was not found.
    pub from: Offset,
    /// Bytes cut.
    pub bytes: u64,
    /// Where they are kept; `None` if they were all zero.
    pub kept: Option<PathBuf>,
}

/// Whoever waits for a log to grow; waits no more when dropped.
#[derive(Debug)]
pub struct Parked {}

/// One partition's log.
#[derive(Debug)]
pub struct Log {}

impl Log {
    /// Opens or creates a log and repairs what an unclean end left.
    ///
    /// # Errors
    /// When the system refuses to make, read or cut a file.
    pub fn open(options: OpenOptions) -> Result<(Arc<Self>, Recovery), OpenError> {
        unimplemented!()
    }

    /// Queues a batch; if nobody leads, appends it and whatever else is queued. `done` is called when the
    /// batch is as safe as it asks, maybe before this returns. `Some` if a turn ended with work left.
    pub fn append(self: &Arc<Self>, append: Append, done: Done) -> Option<Leadership> {
        unimplemented!()
    }

    /// The bounds of the log now.
    #[must_use]
    pub fn offsets(&self) -> Offsets {
        unimplemented!()
    }

    /// Finds batches to send; never beyond the high watermark.
    ///
    /// # Errors
    /// When the offset is not in the log, or its bytes cannot be read.
    pub fn read(&self, from: ReadFrom) -> Result<ReadSlice, ReadError> {
        unimplemented!()
    }

    /// The first record at or after a time.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<TimestampedOffset>, ReadError> {
        unimplemented!()
    }

    /// The first record that has the largest timestamp of all.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub fn max_timestamp(&self) -> Result<Option<TimestampedOffset>, ReadError> {
        unimplemented!()
    }

    /// The largest epoch at most `epoch`, and where it ended.
    #[must_use]
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        unimplemented!()
    }

    /// Moves the log start, durably, and returns it. `None` means the high watermark. Blocks on the disk.
    ///
    /// # Errors
    /// When `before` lies beyond the high watermark, or the disk fails.
    pub fn delete_records(&self, before: Option<Offset>) -> Result<Offset, DeleteRecordsError> {
        unimplemented!()
    }

    /// Wakes `waker` once when the high watermark is beyond `beyond`, or the log closes; at once if it is so
    /// already.
    #[must_use]
    pub fn park(&self, waker: &Waker, beyond: Offset) -> Parked {
        unimplemented!()
    }

    /// Makes everything written so far durable. Blocks on the disk.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn flush(&self) -> Result<(), FlushError> {
        unimplemented!()
    }

    /// Flushes and closes: the next open needs no scan. Blocks on the disk.
    ///
    /// # Errors
    /// When the disk fails; the next open scans then.
    pub fn close(&self) -> Result<(), FlushError> {
        unimplemented!()
    }

    /// Closes and removes everything; waiters are woken. Blocks on the disk.
    pub fn delete(&self) {
        unimplemented!()
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        unimplemented!()
    }

    /// Segments, the active one included.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        unimplemented!()
    }

    /// Whether a write or flush failed: the log takes no writes until it is reopened.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        unimplemented!()
    }
}
