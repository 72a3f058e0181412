//! What an event of a transaction is given, and what it leaves.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use millstream_protocol::{ErrorCode, KStr};

use super::record::Form;
use super::shard::{Described, Listed, Shard};
use super::transaction::{Identity, JobNumber, Outcome, TopicPartition, Version};
use crate::coordinator::{Moment, NotReady, replies};
use crate::settings::TransactionSettings;

/// What an event is given.
pub(crate) struct Turn<'a> {
    pub(crate) moment: Moment,
    pub(crate) settings: &'a TransactionSettings,
    pub(crate) level: Level,
    pub(crate) jobs: &'a JobNumbers,
    pub(crate) fx: &'a mut Effects,
}

/// What an event leaves.
pub(crate) type Effects = crate::coordinator::Effects<Shard>;

/// What `transaction.version` says, as far as the coordinator does things by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Level(pub(crate) i16);

impl Level {
    /// How values are written.
    pub(super) fn form(self) -> Form {
        if self.0 >= 1 { Form::Tagged } else { Form::Plain }
    }

    /// How epochs are counted when nobody asked for it: a client that is fenced, or too slow.
    pub(super) fn version(self) -> Version {
        if self.0 >= 2 { Version::Two } else { Version::One }
    }
}

/// Numbers for jobs: no two of a process are the same.
#[derive(Debug, Default)]
pub(crate) struct JobNumbers(AtomicU64);

impl JobNumbers {
    pub(super) fn next(&self) -> JobNumber {
        JobNumber(self.0.fetch_add(1, Relaxed))
    }
}

/// Markers that have to be written, once the decision is durable: in each of the partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finish {
    pub(crate) id: KStr,
    pub(crate) job: JobNumber,
    /// The epoch that the producer has from here on.
    pub(crate) identity: Identity,
    pub(crate) outcome: Outcome,
    pub(crate) version: Version,
    pub(crate) partitions: Vec<TopicPartition>,
}

/// Why a request of a transactional producer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error(transparent)]
    NotReady(#[from] NotReady),
    #[error("a transactional id has 1 to 32767 bytes")]
    NoId,
    #[error("transaction.max.timeout.ms does not allow this timeout")]
    Timeout,
    #[error("this producer id does not belong to this transactional id (any more)")]
    Unknown,
    #[error("a newer producer has this transactional id, or its transaction was aborted: it took too long")]
    Fenced,
    #[error("the last transaction of this id is still being ended")]
    Concurrent,
    #[error("there is no transaction that could end like this")]
    State,
    #[error("the partition was not added to the transaction")]
    NotAdded,
    #[error(
        "the partition holds records of a transaction that its coordinator does not know; they are aborted first"
    )]
    Orphan,
    #[error("no producer id could be reserved")]
    NoProducerId,
}

impl Refused {
    /// As the newest clients are told.
    pub(crate) fn code(self) -> ErrorCode {
        match self {
            Self::NotReady(not_ready) => not_ready.code(),
            Self::NoId => ErrorCode::InvalidRequest,
            Self::Timeout => ErrorCode::InvalidTransactionTimeout,
            Self::Unknown => ErrorCode::InvalidProducerIdMapping,
            Self::Fenced => ErrorCode::ProducerFenced,
            Self::Concurrent | Self::Orphan => ErrorCode::ConcurrentTransactions,
            Self::State => ErrorCode::InvalidTxnState,
            Self::NotAdded => ErrorCode::TransactionAbortable,
            Self::NoProducerId => ErrorCode::CoordinatorNotAvailable,
        }
    }
}

/// What is worth a line in the log, or a count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// Somebody has a transactional id now.
    Initialized { id: KStr, identity: Identity },
    /// A transaction took longer than its client allowed, and is aborted.
    TimedOut { id: KStr, identity: Identity },
    /// The transaction of a producer is aborted because another one has its id now.
    Fenced { id: KStr, identity: Identity },
    /// Ids that nobody used for `transactional.id.expiration.ms` are forgotten.
    Expired { count: usize },
    /// A transaction has ended.
    Ended { id: KStr, identity: Identity, outcome: Outcome },
}

impl Note {
    /// Tells people.
    pub(super) fn tell(&self) {
        match self {
            Self::Initialized { id, identity: Identity { producer, epoch } } => {
                tracing::debug!(%id, %producer, epoch, "a transactional producer begins");
            }
            Self::TimedOut { id, identity: Identity { producer, epoch } } => {
                tracing::info!(%id, %producer, epoch, "a transaction is aborted: it took longer than its producer's transaction.timeout.ms");
            }
            Self::Fenced { id, identity: Identity { producer, epoch } } => {
                tracing::info!(%id, %producer, epoch, "a transaction is aborted: another producer has its transactional id now");
            }
            Self::Expired { count } => {
                tracing::info!(
                    count,
                    "transactional ids are forgotten: nobody has used them for transactional.id.expiration.ms"
                );
            }
            Self::Ended { id, identity: Identity { producer, epoch }, outcome } => {
                tracing::trace!(%id, %producer, epoch, ?outcome, "a transaction has ended");
            }
        }
    }
}

/// Why an event came to no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    Refused(Refused),
    /// It is to come again, with a producer id that nobody had before.
    NeedsProducerId,
}

impl From<Refused> for Stopped {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

replies! {
    /// To InitProducerId and EndTxn: who the producer is from here on.
    Producer(Result<Identity, Stopped>),
    /// To AddPartitionsToTxn and AddOffsetsToTxn.
    Added(Result<(), Refused>),
    /// To AddPartitionsToTxn that only asks: for each of the partitions.
    Verified(Result<Vec<Result<(), Refused>>, Refused>),
    Described(Option<Described>),
    Listed(Vec<Listed>),
}
