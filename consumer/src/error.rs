//! Why no record could be handed out.

use std::time::Duration;

use millstream_client::{ClientError, CommittedOffsetsError, ListOffsetsError};
use millstream_protocol::ErrorCode;
use millstream_protocol::records::BatchError;

use crate::group::{CommitError, GroupError, LossReason, TopicPartition};

/// Why no record could be handed out.
///
/// None of them moves a position or ends the consumer: the next call goes on from where it stands. What is
/// wrong with one partition is reported each time it is found, and does not keep others from being read.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumeError {
    /// Nothing is assigned, so nothing would ever come.
    #[error("no partition is assigned to this consumer: assign one, or subscribe to a topic")]
    NothingAssigned,
    /// Something was asked for that only a group has.
    #[error("this consumer has no group: give it one with client.consumer(group)")]
    NoGroup,
    /// What the builder was told does not go together.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The group has committed nothing for the partition, and nobody said where to start then.
    #[error(
        "the group has committed nothing for partition {partition} of topic {topic:?}: say where to start with \
         start_at(), or seek"
    )]
    NoCommittedOffset {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// Something is wrong between the consumer and its group. Unless it is retriable, the consumer is out of it for good,
    /// and every call says so.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// Partitions were taken away without asking. Others may read them already: what was handed out of them and not
    /// committed will be seen again, and commits for them fail. Goes on with the others, and joins again if need be.
    #[error("partitions {} were taken from this member of group {group:?}: {reason}", shown(partitions))]
    PartitionsLost {
        /// The group.
        group: String,
        /// Which.
        partitions: Vec<TopicPartition>,
        /// Why.
        reason: LossReason,
    },
    /// What was to be committed from time to time was not. It is tried again.
    #[error("auto_commit: {0}")]
    AutoCommit(CommitError),
    /// What the group has committed could not be read.
    #[error(transparent)]
    Committed(CommittedOffsetsError),
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
            Self::NothingAssigned
            | Self::NoGroup
            | Self::Settings(_)
            | Self::NoCommittedOffset { .. }
            | Self::OutOfRange { .. }
            | Self::Malformed { .. } => false,
            Self::Group(error) => error.is_retriable(),
            Self::PartitionsLost { reason, .. } => *reason != LossReason::Failed,
            Self::AutoCommit(error) => error.is_retriable(),
            Self::Committed(error) => error.is_retriable(),
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

/// What a builder was told does not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// Only members of a group share topics.
    #[error("subscribe() needs a group: start with client.consumer(group)")]
    SubscribesWithoutGroup,
    /// A group decides what a member reads, or the program does.
    #[error("assign() and subscribe() exclude each other: build two consumers")]
    AssignsAndSubscribes,
    /// What a group gives and takes has no end.
    #[error("stop() goes with assign(), not with subscribe()")]
    StopsAndSubscribes,
    /// Whoever is told by the program what to read is no member of a group.
    #[error("on_rebalance(), auto_commit(), instance_id() and max_poll_interval() go with subscribe() only")]
    MemberWithoutSubscription,
    /// The pattern is no regular expression.
    #[error("{pattern:?} is no regular expression: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no way left to share out partitions.
    #[error("assignors() needs one at least")]
    NoAssignor,
    /// Nobody would hear of the member in time.
    #[error(
        "the heartbeat interval ({heartbeat:?}) has to be shorter than the session timeout ({session:?})"
    )]
    Heartbeat {
        /// The interval.
        heartbeat: Duration,
        /// The timeout.
        session: Duration,
    },
}

fn shown(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(TopicPartition::to_string).collect::<Vec<_>>().join(", ")
}
