//! Why a request got no usable answer, and whether the broker may have acted on it all the same.
//!
//! Two questions are answered here and nowhere else: [`ClientError::is_retriable`] and
//! [`ClientError::had_no_effect`]. Everything that retries relies on these alone.

use std::fmt;
use std::time::Duration;

use millstream_protocol::wire::{DecodeError, EncodeError};
use millstream_protocol::{ApiKey, ErrorCode};

use crate::metadata::BrokerId;

/// How far a request got before it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// No byte of it left this process: the broker cannot have acted on it.
    NotSent,
    /// It may have reached the broker, which may have acted on it.
    MaybeSent,
}

/// One attempt to reach a broker.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The `host:port` that was tried.
    pub address: String,
    /// What went wrong there.
    pub reason: String,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.reason)
    }
}

/// Why a request got no usable answer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The bootstrap list has an entry that is no address, or none at all.
    #[error("{address:?} is not an address: give host:port, several of them separated by commas")]
    InvalidAddress {
        /// The entry.
        address: String,
    },
    /// Nobody could be reached at any address.
    #[error("no broker can be reached ({}): is it running, and is this its address?", join(attempts))]
    Unreachable {
        /// Every address that was tried in the last round.
        attempts: Vec<Attempt>,
    },
    /// Somebody answers, but not in Kafka's protocol.
    #[error("{address} does not speak Kafka's protocol: {reason}")]
    NotKafka {
        /// The `host:port`.
        address: String,
        /// What it did instead.
        reason: String,
    },
    /// The broker does not accept who we say we are.
    #[error("{address} does not let us in: {reason}")]
    Unauthenticated {
        /// The `host:port`.
        address: String,
        /// Why not.
        reason: String,
    },
    /// The broker serves no version of this request that we know.
    #[error("{} is needed in a version from {min} to {max}, but {address} serves {}: {}", api.name(), theirs(served), older(served, *max))]
    UnsupportedVersion {
        /// The `host:port`.
        address: String,
        /// The request.
        api: ApiKey,
        /// Oldest version that would do.
        min: i16,
        /// Newest version that would do.
        max: i16,
        /// What the broker serves, if it knows the request at all.
        served: Option<(i16, i16)>,
    },
    /// The request cannot be expressed in the version that was agreed on.
    #[error("{} cannot be sent in version {version}: {source}", api.name())]
    Encode {
        /// The request.
        api: ApiKey,
        /// The version agreed on.
        version: i16,
        /// What is wrong with it.
        source: EncodeError,
    },
    /// The answer is not what the protocol says it is.
    #[error("{address} answered {} version {version} with bytes that are no answer to it: {source}", api.name())]
    Decode {
        /// The `host:port`.
        address: String,
        /// The request.
        api: ApiKey,
        /// Its version.
        version: i16,
        /// What is wrong with the answer.
        source: DecodeError,
    },
    /// The answer is larger than we are willing to hold.
    #[error("{address} announces an answer of {bytes} bytes; at most {limit} are accepted (max_reply_bytes)")]
    ReplyTooLarge {
        /// The `host:port`.
        address: String,
        /// What it announced.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The connection went away before the answer came.
    #[error("the connection to {address} was lost before the answer came: {reason}{}", effect(*progress))]
    Disconnected {
        /// The `host:port`.
        address: String,
        /// How it was lost.
        reason: String,
        /// Whether the request may have arrived.
        progress: Progress,
    },
    /// No answer within the time allowed.
    #[error("{address} did not answer {} within {after:?}{}", api.name(), effect(*progress))]
    TimedOut {
        /// The `host:port`.
        address: String,
        /// The request.
        api: ApiKey,
        /// The time it was given.
        after: Duration,
        /// Whether the request may have arrived.
        progress: Progress,
    },
    /// The broker answered a metadata request with an error.
    #[error("the broker cannot describe the cluster: {} ({})", code.message(), code.name())]
    MetadataRefused {
        /// Its reason.
        code: ErrorCode,
    },
    /// There is no such topic.
    #[error("topic {topic:?} does not exist: create it, or check the spelling")]
    UnknownTopic {
        /// Its name.
        topic: String,
    },
    /// The broker refuses to describe the topic.
    #[error("topic {topic:?} cannot be used: {} ({})", code.message(), code.name())]
    TopicRefused {
        /// Its name.
        topic: String,
        /// The broker's reason.
        code: ErrorCode,
    },
    /// The topic has no partition of this number.
    #[error(
        "topic {topic:?} has {partitions} partitions, numbered from 0; there is no partition {partition}"
    )]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The number asked for.
        partition: i32,
        /// How many there are.
        partitions: usize,
    },
    /// The partition has no leader at the moment.
    #[error("partition {partition} of topic {topic:?} has no leader at the moment")]
    NoLeader {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// No broker says that it coordinates the group.
    #[error(
        "group {group:?} has no coordinator: {} ({})",
        message.as_deref().unwrap_or(code.message()),
        code.name()
    )]
    NoCoordinator {
        /// The group.
        group: String,
        /// The broker's reason.
        code: ErrorCode,
        /// Its own words, if it sent any.
        message: Option<String>,
    },
    /// No broker says that it coordinates the transactions of the id.
    #[error(
        "transactional id {transactional_id:?} has no coordinator: {} ({})",
        message.as_deref().unwrap_or(code.message()),
        code.name()
    )]
    NoTransactionCoordinator {
        /// The id.
        transactional_id: String,
        /// The broker's reason.
        code: ErrorCode,
        /// Its own words, if it sent any.
        message: Option<String>,
    },
    /// No broker of this id is in the cluster.
    #[error("there is no broker {broker} in the cluster")]
    UnknownBroker {
        /// Its id.
        broker: BrokerId,
    },
}

impl ClientError {
    /// Whether the same call may succeed later without a change.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Disconnected { .. }
            | Self::TimedOut { .. }
            | Self::NoLeader { .. }
            | Self::UnknownBroker { .. } => true,
            Self::MetadataRefused { code }
            | Self::TopicRefused { code, .. }
            | Self::NoCoordinator { code, .. }
            | Self::NoTransactionCoordinator { code, .. } => code.is_retriable(),
            Self::InvalidAddress { .. }
            | Self::NotKafka { .. }
            | Self::Unauthenticated { .. }
            | Self::UnsupportedVersion { .. }
            | Self::Encode { .. }
            | Self::Decode { .. }
            | Self::ReplyTooLarge { .. }
            | Self::UnknownTopic { .. }
            | Self::UnknownPartition { .. } => false,
        }
    }

    /// Whether it is certain that no broker acted on the request.
    #[must_use]
    pub fn had_no_effect(&self) -> bool {
        match self {
            Self::Disconnected { progress, .. } | Self::TimedOut { progress, .. } => {
                *progress == Progress::NotSent
            }
            Self::Decode { .. } | Self::ReplyTooLarge { .. } => false,
            Self::InvalidAddress { .. }
            | Self::Unreachable { .. }
            | Self::NotKafka { .. }
            | Self::Unauthenticated { .. }
            | Self::UnsupportedVersion { .. }
            | Self::Encode { .. }
            | Self::MetadataRefused { .. }
            | Self::UnknownTopic { .. }
            | Self::TopicRefused { .. }
            | Self::UnknownPartition { .. }
            | Self::NoLeader { .. }
            | Self::NoCoordinator { .. }
            | Self::NoTransactionCoordinator { .. }
            | Self::UnknownBroker { .. } => true,
        }
    }
}

/// What a broker said when it refused to do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What was refused: `topic "orders"`.
    pub subject: String,
    /// The reason, as a code.
    pub code: ErrorCode,
    /// The broker's own words, if it sent any.
    pub message: Option<String>,
}

impl Refusal {
    /// Whether the same call may succeed later without a change.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        self.code.is_retriable()
    }

    /// Whether the code says for certain that nothing was changed.
    #[must_use]
    pub fn had_no_effect(&self) -> bool {
        !matches!(
            self.code,
            ErrorCode::UnknownServerError
                | ErrorCode::RequestTimedOut
                | ErrorCode::NetworkException
                | ErrorCode::NotEnoughReplicasAfterAppend
                | ErrorCode::KafkaStorageError
        )
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.message.as_deref().unwrap_or(self.code.message());
        write!(f, "{}: {words} ({})", self.subject, self.code.name())
    }
}

/// A code we do not know means that something failed, and no more.
pub(crate) fn known(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError)
}

fn join(attempts: &[Attempt]) -> String {
    attempts.iter().map(Attempt::to_string).collect::<Vec<_>>().join("; ")
}

fn effect(progress: Progress) -> &'static str {
    match progress {
        Progress::NotSent => "; it was not sent",
        Progress::MaybeSent => "; it may have been carried out",
    }
}

fn theirs(served: &Option<(i16, i16)>) -> String {
    match served {
        Some((min, max)) => format!("versions {min} to {max} of it"),
        None => "no version of it".to_owned(),
    }
}

fn older(served: &Option<(i16, i16)>, ours: i16) -> &'static str {
    match served {
        Some((min, _)) if *min > ours => "use a newer client",
        _ => "use a newer broker",
    }
}
