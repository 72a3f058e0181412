//! The one place where our errors become Kafka's. No catch-all arms: a new variant must choose its code.

use millstream_log::{AppendError, DeleteRecordsError, ReadError};
use millstream_protocol::ErrorCode;
use millstream_protocol::records::BatchError;

use crate::coordinator::MarkerError;
use crate::meta_store::MetaError;
use crate::metadata::cluster_view::NotLed;
use crate::metadata::topics::{TopicError, Unavailable};
use crate::transactions::marking::MarkError;

pub(super) fn code_for_append(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        AppendError::TransactionMoved { .. } | AppendError::NotTransactional { .. } => {
            ErrorCode::InvalidTxnState
        }
        AppendError::TransactionOpen { .. } => ErrorCode::ConcurrentTransactions,
        AppendError::CoordinatorFenced { .. } => ErrorCode::TransactionCoordinatorFenced,
        AppendError::LargerThanSegment { .. } => ErrorCode::RecordListTooLarge,
        AppendError::StorageFailed { .. } => ErrorCode::KafkaStorageError,
        AppendError::Closed => ErrorCode::NotLeaderOrFollower,
    }
}

/// Whoever is to write a marker looks for the partition again on NOT_LEADER_OR_FOLLOWER, as between Kafka's brokers.
pub(super) fn code_for_mark(error: &MarkError) -> ErrorCode {
    match error {
        MarkError::NoPartition => ErrorCode::UnknownTopicOrPartition,
        MarkError::NotOpen(_) | MarkError::Refused(MarkerError::NotReady(_)) => {
            ErrorCode::NotLeaderOrFollower
        }
        MarkError::Refused(MarkerError::Log(error)) => code_for_append(error),
    }
}

pub(super) fn code_for_read(error: &ReadError) -> ErrorCode {
    match error {
        ReadError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        ReadError::Corrupt { .. } => ErrorCode::CorruptMessage,
        ReadError::Io(_) => ErrorCode::KafkaStorageError,
        ReadError::Closed => ErrorCode::NotLeaderOrFollower,
    }
}

pub(super) fn code_for_delete_records(error: &DeleteRecordsError) -> ErrorCode {
    match error {
        DeleteRecordsError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        DeleteRecordsError::StorageFailed { .. } => ErrorCode::KafkaStorageError,
        DeleteRecordsError::Closed => ErrorCode::NotLeaderOrFollower,
    }
}

pub(super) fn code_for_topic(error: &TopicError) -> ErrorCode {
    match error {
        TopicError::Name(_) | TopicError::Collides(..) | TopicError::Internal(_) => {
            ErrorCode::InvalidTopicException
        }
        TopicError::Exists(_) => ErrorCode::TopicAlreadyExists,
        TopicError::Unknown(_) => ErrorCode::UnknownTopicOrPartition,
        TopicError::PartitionCount { .. } | TopicError::NotMore { .. } => ErrorCode::InvalidPartitions,
        TopicError::Setting(_) => ErrorCode::InvalidConfig,
        TopicError::Store(error) => code_for_store(error),
        TopicError::Log(_) | TopicError::Leftover(_) => ErrorCode::KafkaStorageError,
    }
}

pub(super) fn code_for_not_led(error: &NotLed) -> ErrorCode {
    match error {
        NotLed::FencedEpoch { .. } => ErrorCode::FencedLeaderEpoch,
        NotLed::UnknownEpoch { .. } => ErrorCode::UnknownLeaderEpoch,
        NotLed::Elsewhere => ErrorCode::NotLeaderOrFollower,
        NotLed::Unavailable(error) => code_for_unavailable(error),
    }
}

/// All clients take the first as a sign to look for the leader again, and to come back.
pub(super) fn code_for_unavailable(error: &Unavailable) -> ErrorCode {
    match error {
        Unavailable::Recovering | Unavailable::Deleted => ErrorCode::NotLeaderOrFollower,
        Unavailable::Failed { .. } => ErrorCode::KafkaStorageError,
    }
}

pub(super) fn code_for_store(error: &MetaError) -> ErrorCode {
    match error {
        // Somebody else changed the same thing first: trying again sees their change.
        MetaError::Conflict { .. } => ErrorCode::ConcurrentTransactions,
        MetaError::Storage { .. } | MetaError::Damaged { .. } | MetaError::Corrupt { .. } => {
            ErrorCode::KafkaStorageError
        }
    }
}

pub(super) fn code_for_batch(error: &BatchError) -> ErrorCode {
    match error {
        // A producer splits a batch that is too large, and this one may fit in halves.
        BatchError::TooLarge { .. } => ErrorCode::MessageTooLarge,
        BatchError::UnknownCompression(_) => ErrorCode::UnsupportedCompressionType,
        BatchError::Incomplete { .. }
        | BatchError::BatchLength(_)
        | BatchError::Magic(_)
        | BatchError::RecordCount(_)
        | BatchError::LastOffsetDelta { .. }
        | BatchError::Decompression { .. }
        | BatchError::Record { .. }
        | BatchError::Surplus { .. } => ErrorCode::InvalidRecord,
    }
}
