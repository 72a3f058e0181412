//! Why no record could be handed out.

use std::time::Duration;

use millstream_client::{ClientError, ListOffsetsError};
use millstream_protocol::ErrorCode;
use millstream_protocol::records::BatchError;

/// Why no record could be handed out.
///
/// None of them moves a position or ends the consumer: the next call goes on from where it stands. What is
/// wrong with one partition is reported each time it is found, and does not keep others from being read.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumeError {
    /// The partition does not hold the offset: it was deleted, or is not written yet.
    #[error(
        "partition {partition} of topic {topic:?} does not hold offset {offset}: seek to one that it does, \
         or set out_of_range()"
    )]
    OutOfRange {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset.
        offset: i64,
    },
    /// A batch does not match its checksum.
    #[error(
        "the batch at offset {offset} of partition {partition} of topic {topic:?} does not match its \
         checksum; seek to {next_offset} to go on behind it"
    )]
    Checksum {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Its first offset.
        offset: i64,
        /// The offset behind it.
        next_offset: i64,
    },
    /// A batch cannot be read.
    #[error(
        "the batch at offset {offset} of partition {partition} of topic {topic:?} cannot be read: {source}"
    )]
    Malformed {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset from which it was read.
        offset: i64,
        /// What is wrong with it.
        source: BatchError,
    },
    /// The broker refuses to serve the partition.
    #[error("partition {partition} of topic {topic:?} cannot be read: {} ({})", code.message(), code.name())]
    Refused {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Its reason.
        code: ErrorCode,
    },
    /// The partition has not been served for some time, for reasons that usually pass. Goes on trying.
    #[error("partition {partition} of topic {topic:?} has not been served for {after:?}: {reason}")]
    Unavailable {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// For how long.
        after: Duration,
        /// What went wrong most recently.
        reason: String,
    },
    /// Nothing can be learnt about a topic.
    #[error(transparent)]
    Topic(#[from] ClientError),
    /// An offset could not be looked up.
    #[error(transparent)]
    Offsets(#[from] ListOffsetsError),
}

impl ConsumeError {
    /// Whether calling again may succeed without a change.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::OutOfRange { .. } | Self::Malformed { .. } => false,
            // The bytes may have been damaged on the way.
            Self::Checksum { .. } | Self::Unavailable { .. } => true,
            Self::Refused { code, .. } => code.is_retriable(),
            Self::Topic(error) => error.is_retriable(),
            Self::Offsets(error) => error.is_retriable(),
        }
    }
}

/// The partition is not assigned to this consumer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("partition {partition} of topic {topic:?} is not assigned to this consumer")]
pub struct NotAssigned {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
}
