//! Why a projection cannot go on.

use std::error::Error;
use std::fmt;

use millstream_client::{ClientError, ListOffsetsError};

use crate::error::ConsumeError;

/// Why a projection cannot go on. The result and its positions are as they were stored last; opening it again
/// goes on from there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectionError {
    /// The log begins behind the position: records were deleted that the result does not have.
    #[error(
        "partition {partition} of topic {topic:?} begins at offset {log_start}, and the result needs the records \
         from offset {position} on: they are gone, and it would have a gap. Rebuild it, and from what is left \
         only if that is meant (History::Remaining)"
    )]
    HistoryGone {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The first record that is needed.
        position: i64,
        /// The first record that is there.
        log_start: i64,
    },
    /// The log ends before the position: it was cut, or is another of the same name.
    #[error(
        "partition {partition} of topic {topic:?} ends at offset {end}, but the result has records up to \
         {position}: the log was cut or made anew. Rebuild the result"
    )]
    LogShorter {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The first record that is needed.
        position: i64,
        /// The end of the log; 0 for a partition that does not exist.
        end: i64,
    },
    /// The last record of the result is another in the log: it was cut and written again, or made anew.
    #[error(
        "the record at offset {offset} of partition {partition} of topic {topic:?} is not the one that the \
         result has from there: the log was cut or made anew. Rebuild the result"
    )]
    LogReplaced {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset.
        offset: i64,
    },
    /// The sink refuses a record. Nothing of the batch that holds it was stored.
    #[error(
        "the record at offset {offset} of partition {partition} of topic {topic:?} cannot be applied: {error}"
    )]
    Apply {
        /// The record's topic.
        topic: String,
        /// Its partition.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// What the sink says, or what it panicked with.
        #[source]
        error: Box<dyn Error + Send + Sync>,
    },
    /// The sink cannot be read or written, whatever the record.
    #[error("the result cannot be {operation}: {error}")]
    Sink {
        /// What was tried.
        operation: SinkOperation,
        /// What the sink says, or what it panicked with.
        #[source]
        error: Box<dyn Error + Send + Sync>,
    },
    /// No records can be had.
    #[error(transparent)]
    Consume(#[from] ConsumeError),
}

/// What is done with a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SinkOperation {
    /// [`Sink::load`](super::Sink::load).
    Load,
    /// [`Sink::reset`](super::Sink::reset).
    Reset,
    /// [`Sink::apply`](super::Sink::apply) without records.
    Store,
    /// [`Sink::close`](super::Sink::close).
    Close,
}

impl fmt::Display for SinkOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Load => "loaded",
            Self::Reset => "reset",
            Self::Store => "stored",
            Self::Close => "closed",
        })
    }
}

impl From<ClientError> for ProjectionError {
    fn from(error: ClientError) -> Self {
        Self::Consume(error.into())
    }
}

impl From<ListOffsetsError> for ProjectionError {
    fn from(error: ListOffsetsError) -> Self {
        Self::Consume(error.into())
    }
}

impl ProjectionError {
    /// Whether opening the projection again may succeed without a change.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::HistoryGone { .. } | Self::LogShorter { .. } | Self::LogReplaced { .. } => false,
            // Only the program knows what its sink means.
            Self::Apply { .. } | Self::Sink { .. } => false,
            Self::Consume(error) => error.is_retriable(),
        }
    }
}

/// Why nobody can say whether a projection has caught up.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CatchUpError {
    /// It has stopped.
    #[error("the projection has stopped{}", reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
    Stopped {
        /// Why, if it was not asked to.
        reason: Option<String>,
    },
    /// The ends of the partitions cannot be looked up.
    #[error(transparent)]
    Consume(#[from] ConsumeError),
}
