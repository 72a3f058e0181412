//! One enum for each operation that can fail.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::ids::{Offset, ProducerId};

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refused something.
    #[error("cannot {action} {path}: {error}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// Why a batch was not appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// A batch of this producer before this one is missing, or was seen too long ago to be a known duplicate.
    #[error("producer {producer} sent sequence {found}; {expected} is next in this partition")]
    OutOfOrderSequence {
        /// Who wrote.
        producer: ProducerId,
        /// The sequence that would have been accepted.
        expected: i32,
        /// The sequence that came.
        found: i32,
    },
    /// A newer instance of this producer has written since.
    #[error("producer {producer} wrote with epoch {found}, but epoch {current} has written already")]
    InvalidProducerEpoch {
        /// Who wrote.
        producer: ProducerId,
        /// The epoch that holds.
        current: i16,
        /// The epoch that came.
        found: i16,
    },
    /// A marker came since the batch was let in, or the log was reopened: ask the coordinator again.
    #[error("the transaction of producer {producer} has ended in this partition, or must be looked up again")]
    TransactionMoved {
        /// Who wrote.
        producer: ProducerId,
    },
    /// A transaction of an older epoch has not ended here; its marker is on its way.
    #[error(
        "producer {producer} wrote with epoch {found}, but its transaction of epoch {current} has not ended yet"
    )]
    TransactionOpen {
        /// Who wrote.
        producer: ProducerId,
        /// The epoch that has a transaction open.
        current: i16,
        /// The epoch that came.
        found: i16,
    },
    /// The producer has a transaction open, and the batch does not belong to one.
    #[error("producer {producer} wrote outside of its transaction, which must end first")]
    NotTransactional {
        /// Who wrote.
        producer: ProducerId,
    },
    /// A newer coordinator has ended a transaction of this producer.
    #[error(
        "a coordinator of epoch {found} ended a transaction of producer {producer}, but epoch {current} has already"
    )]
    CoordinatorFenced {
        /// Whose transaction.
        producer: ProducerId,
        /// The coordinator's epoch that holds.
        current: i32,
        /// The one that came.
        found: i32,
    },
    /// No segment can hold it.
    #[error("the batch has {bytes} bytes; a segment holds {segment_bytes} (segment.bytes)")]
    LargerThanSegment {
        /// Size of the batch.
        bytes: u64,
        /// Size of a segment.
        segment_bytes: u64,
    },
    /// A write or a flush failed, now or before. The log takes no more writes until it is reopened.
    #[error(
        "the storage of this partition failed ({reason}); it takes no writes until the broker has reopened it"
    )]
    StorageFailed {
        /// What the system said.
        reason: Arc<str>,
    },
    /// The log was closed or deleted.
    #[error("this partition is closed")]
    Closed,
}

/// Why a log could not be made durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlushError {
    /// A write or a flush failed, now or before.
    #[error(
        "the storage of this partition failed ({reason}); what was not acknowledged as durable may be lost"
    )]
    StorageFailed {
        /// What the system said.
        reason: Arc<str>,
    },
    /// The log was closed or deleted.
    #[error("this partition is closed")]
    Closed,
}

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The offset is not in the log.
    #[error("offset {offset} is not in the log, which holds {} to {}", held.start, held.end)]
    OutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// What the log holds.
        held: Range<Offset>,
    },
    /// The bytes on disk are not the batches that were written there. All others can be read.
    #[error(
        "offset {offset} cannot be read: what lies at position {position} of {file} is not what was written \
         there; offsets {} to {} are damaged, all others can be read", lost.start, lost.end
    )]
    Corrupt {
        /// The offset asked for.
        offset: Offset,
        /// The segment's file.
        file: PathBuf,
        /// Where in it.
        position: u64,
        /// All offsets of the damaged range; reading goes on at its end.
        lost: Range<Offset>,
    },
    /// The system refused to read.
    #[error("the log cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The log was closed or deleted.
    #[error("this partition is closed")]
    Closed,
}

/// Why records were not deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteRecordsError {
    /// The offset lies beyond what can be deleted.
    #[error("records before {before} cannot be deleted: the log ends at {high_watermark}")]
    OutOfRange {
        /// The offset asked for.
        before: Offset,
        /// The end of what can be deleted.
        high_watermark: Offset,
    },
    /// A write or a flush failed, now or before.
    #[error("the storage of this partition failed ({reason}); nothing was deleted")]
    StorageFailed {
        /// What the system said.
        reason: Arc<str>,
    },
    /// The log was closed or deleted.
    #[error("this partition is closed")]
    Closed,
}

/// Why retention could not be enforced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetentionError {
    /// A write or a flush failed, now or before.
    #[error("the storage of this partition failed ({reason}); old records were not deleted")]
    StorageFailed {
        /// What the system said.
        reason: Arc<str>,
    },
    /// The log was closed or deleted.
    #[error("this partition is closed")]
    Closed,
}

impl From<FlushError> for RetentionError {
    fn from(error: FlushError) -> Self {
        match error {
            FlushError::StorageFailed { reason } => Self::StorageFailed { reason },
            FlushError::Closed => Self::Closed,
        }
    }
}

/// Why a log was not compacted, or not to the end. What was put in place before stays.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// A run is under way.
    #[error("this partition is being compacted already; wait for that run to end")]
    Busy,
    /// Whoever watched the run wanted it to end.
    #[error("the compaction was stopped")]
    Stopped,
    /// Segments were deleted or cut while they were read.
    #[error("the log was cut or trimmed while it was being compacted; the next run begins anew")]
    Overtaken,
    /// The system refused to read or write. The log goes on as it was.
    #[error("cannot {action} {path}: {error}; nothing was replaced")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A write or a flush failed, now or before.
    #[error("the storage of this partition failed ({reason}); it is not compacted")]
    StorageFailed {
        /// What the system said.
        reason: Arc<str>,
    },
    /// The log was closed or deleted.
    #[error("this partition is closed")]
    Closed,
}

impl From<FlushError> for CompactError {
    fn from(error: FlushError) -> Self {
        match error {
            FlushError::StorageFailed { reason } => Self::StorageFailed { reason },
            FlushError::Closed => Self::Closed,
        }
    }
}

impl From<FlushError> for DeleteRecordsError {
    fn from(error: FlushError) -> Self {
        match error {
            FlushError::StorageFailed { reason } => Self::StorageFailed { reason },
            FlushError::Closed => Self::Closed,
        }
    }
}

impl From<FlushError> for AppendError {
    fn from(error: FlushError) -> Self {
        match error {
            FlushError::StorageFailed { reason } => Self::StorageFailed { reason },
            FlushError::Closed => Self::Closed,
        }
    }
}
