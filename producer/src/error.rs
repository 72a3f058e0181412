//! Why a record was not accepted, or not delivered, and whether it may be there all the same.

use std::time::Duration;

use millstream_client::ClientError;
use millstream_protocol::ErrorCode;

/// Why a record was not taken into the buffer. It was certainly not written.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The record is larger than the producer may send.
    #[error(
        "a record of {bytes} bytes is too large: at most {limit} are sent (max_record_bytes, buffer_bytes)"
    )]
    TooLarge {
        /// Its size in a batch.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The topic has no such partition.
    #[error(
        "topic {topic:?} has {partitions} partitions, numbered from 0; there is no partition {partition}"
    )]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition asked for.
        partition: i32,
        /// How many there are.
        partitions: usize,
    },
    /// Nothing can be learnt about the topic.
    #[error("topic {topic:?} cannot be produced to: {source}")]
    Topic {
        /// The topic.
        topic: String,
        /// Why not.
        source: ClientError,
    },
    /// The buffer is full, and [`try_send`](crate::Producer::try_send) does not wait.
    #[error("the buffer has no room for {bytes} more bytes (buffer_bytes)")]
    BufferFull {
        /// The record's size in a batch.
        bytes: usize,
    },
    /// The topic has not been used before, and [`try_send`](crate::Producer::try_send) does not ask for it.
    #[error("nothing is known of topic {topic:?} yet: send() one record to it first")]
    TopicNotLoaded {
        /// The topic.
        topic: String,
    },
    /// The producer was closed, or its runtime was shut down.
    #[error("the producer is closed")]
    Closed,
}

impl SendError {
    /// Whether the same call may succeed later without a change.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Topic { source, .. } => source.is_retriable(),
            Self::BufferFull { .. } | Self::TopicNotLoaded { .. } => true,
            Self::TooLarge { .. } | Self::UnknownPartition { .. } | Self::Closed => false,
        }
    }

    /// Always: the record was not accepted.
    #[must_use]
    pub fn had_no_effect(&self) -> bool {
        true
    }
}

/// Whether records that were not acknowledged may be in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// They are certainly not.
    NotWritten,
    /// They may be: an answer was lost, or came too late.
    PossiblyWritten,
}

/// Why a record was not acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ProduceError {
    /// The broker refuses the batch that holds the record.
    #[error(
        "partition {partition} of topic {topic:?} refuses the batch: {message} ({}){}",
        code.name(),
        fate_words(*fate)
    )]
    Refused {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The broker's reason.
        code: ErrorCode,
        /// The broker's words, or the meaning of the code.
        message: String,
        /// Whether it may be written all the same.
        fate: Fate,
    },
    /// It was not acknowledged within the delivery timeout.
    #[error(
        "no acknowledgement from partition {partition} of topic {topic:?} within {after:?}{}{}",
        fate_words(*fate),
        last.as_ref().map(|error| format!("; last error: {error}")).unwrap_or_default()
    )]
    TimedOut {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The delivery timeout.
        after: Duration,
        /// What went wrong most recently, if anything did.
        last: Option<String>,
        /// Whether it may be written all the same.
        fate: Fate,
    },
    /// The request got no usable answer, and sending it again could not help, or could write it twice.
    #[error("partition {partition} of topic {topic:?} cannot be written: {source}")]
    Request {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// What went wrong.
        source: ClientError,
        /// Whether it may be written all the same.
        fate: Fate,
    },
    /// An answer was lost, and when the batch was sent again the broker no longer knew the sequence it belongs
    /// to: nobody can tell whether it was written the first time.
    #[error(
        "the broker lost track of what it wrote to partition {partition} of topic {topic:?} ({}): \
         the record may or may not be there",
        code.name()
    )]
    SequenceLost {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// What the broker said.
        code: ErrorCode,
    },
    /// The transaction that it belongs to is aborted.
    #[error("the transaction of this record for partition {partition} of topic {topic:?} is aborted")]
    Aborted {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Whether it may be written; if so, readers of committed records do not see it.
        fate: Fate,
    },
    /// The runtime was shut down before the answer came.
    #[error("the producer's runtime was shut down before the record was acknowledged; it may be written")]
    Abandoned,
}

impl ProduceError {
    /// The same error for a batch that an earlier attempt may have written.
    pub(crate) fn but_possibly_written(mut self) -> Self {
        match &mut self {
            Self::Refused { fate, .. }
            | Self::TimedOut { fate, .. }
            | Self::Request { fate, .. }
            | Self::Aborted { fate, .. } => {
                *fate = Fate::PossiblyWritten;
            }
            Self::SequenceLost { .. } | Self::Abandoned => {}
        }
        self
    }

    /// The code with which the broker refuses the batch.
    pub(crate) fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the record may be in the log although it was not acknowledged.
    #[must_use]
    pub fn possibly_written(&self) -> bool {
        match self {
            Self::Refused { fate, .. }
            | Self::TimedOut { fate, .. }
            | Self::Request { fate, .. }
            | Self::Aborted { fate, .. } => *fate == Fate::PossiblyWritten,
            Self::SequenceLost { .. } | Self::Abandoned => true,
        }
    }

    /// Whether it is certain that the record was not written: sending it again cannot double it.
    #[must_use]
    pub fn had_no_effect(&self) -> bool {
        !self.possibly_written()
    }

    /// Whether sending the record again may succeed without a change.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Refused { code, .. } => code.is_retriable(),
            Self::Request { source, .. } => source.is_retriable(),
            Self::TimedOut { .. } | Self::SequenceLost { .. } | Self::Aborted { .. } => true,
            Self::Abandoned => false,
        }
    }
}

/// Records were lost since the last flush.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "{failed} records were not acknowledged, of which {possibly_written} may be written; the first: {first}"
)]
#[non_exhaustive]
pub struct FlushError {
    /// How many.
    pub failed: u64,
    /// How many of them may be written all the same.
    pub possibly_written: u64,
    /// Why the first of them was not.
    pub first: ProduceError,
}

impl FlushError {
    /// Whether sending the first of them again may succeed without a change.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        self.first.is_retriable()
    }

    /// Whether it is certain that none of them was written.
    #[must_use]
    pub fn had_no_effect(&self) -> bool {
        self.possibly_written == 0
    }
}

fn fate_words(fate: Fate) -> &'static str {
    match fate {
        Fate::NotWritten => "",
        Fate::PossiblyWritten => "; it may be written all the same",
    }
}
