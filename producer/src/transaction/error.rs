//! Why a transaction cannot be committed, and what that means for the producer.

use std::time::Duration;

use millstream_client::ClientError;
use millstream_protocol::ErrorCode;

use crate::error::{ProduceError, SendError};

/// Why a transaction did not begin, cannot be committed, or is not known to have ended.
///
/// Three questions are answered by methods: whether the same transaction may succeed if it is begun anew
/// ([`is_retriable`](Self::is_retriable)), whether the producer is of no more use ([`is_fatal`](Self::is_fatal)), and whether
/// the transaction may be committed all the same ([`possibly_committed`](Self::possibly_committed)).
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TransactionError {
    /// Another producer with the same id has taken over, or the transaction took longer than its timeout, and the
    /// broker has ended it. Fatal.
    #[error(
        "transactional id {transactional_id:?} has been fenced: another instance has taken it over, or the transaction \
         exceeded its timeout (transaction_timeout); stop this instance, or build the producer anew{}",
        committed_words(*possibly_committed)
    )]
    Fenced {
        /// The id.
        transactional_id: String,
        /// The commit was asked for before, and that was not answered.
        possibly_committed: bool,
    },
    /// A record of the transaction is not known to be written.
    #[error("the transaction is aborted because a record of it was not acknowledged: {0}")]
    Failed(ProduceError),
    /// A coordinator refuses.
    #[error(
        "{request} was refused: {} ({}){}",
        code.message(),
        code.name(),
        committed_words(*possibly_committed)
    )]
    Refused {
        /// The request.
        request: &'static str,
        /// The broker's reason.
        code: ErrorCode,
        /// Whether the producer is of no more use.
        is_fatal: bool,
        /// The commit was asked for before, and that was not answered.
        possibly_committed: bool,
    },
    /// A request got no usable answer, and none is to be expected. Fatal.
    #[error("{request} failed: {source}{}", committed_words(*possibly_committed))]
    Request {
        /// The request.
        request: &'static str,
        /// What went wrong.
        source: ClientError,
        /// The commit was asked for, and may have been carried out.
        possibly_committed: bool,
    },
    /// It took too long. It goes on in the background.
    #[error(
        "{request} took more than {after:?}{}{}",
        last.as_ref().map(|error| format!("; last error: {error}")).unwrap_or_default(),
        committed_words(*possibly_committed)
    )]
    TimedOut {
        /// What was waited for.
        request: &'static str,
        /// For how long.
        after: Duration,
        /// What went wrong most recently, if anything did.
        last: Option<String>,
        /// The commit was asked for, and will be carried out as soon as a broker can be asked.
        possibly_committed: bool,
    },
    /// A record was not accepted. The transaction is as it was before.
    #[error(transparent)]
    Send(SendError),
    /// A transaction of this producer is open: commit, abort or drop it first.
    #[error("a transaction of this producer is open: commit, abort or drop it first")]
    AlreadyOpen,
    /// Settings that contradict each other.
    #[error("{0}")]
    Settings(&'static str),
    /// The producer's runtime was shut down.
    #[error("the producer is closed")]
    Closed,
}

/// What a refusal costs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Harm {
    pub(crate) is_fatal: bool,
    pub(crate) possibly_committed: bool,
}

impl Harm {
    pub(crate) const NONE: Self = Self { is_fatal: false, possibly_committed: false };
    pub(crate) const FATAL: Self = Self { is_fatal: true, possibly_committed: false };
}

impl TransactionError {
    pub(crate) fn refused(request: &'static str, code: ErrorCode, harm: Harm) -> Self {
        let Harm { is_fatal, possibly_committed } = harm;
        Self::Refused { request, code, is_fatal, possibly_committed }
    }

    /// Whether the producer is of no more use. Build another one, if it is not that another instance does the work.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Fenced { .. } | Self::Request { .. } | Self::Settings(_) | Self::Closed => true,
            Self::Refused { is_fatal, .. } => *is_fatal,
            Self::Failed(_) | Self::TimedOut { .. } | Self::Send(_) | Self::AlreadyOpen => false,
        }
    }

    /// Whether another instance with the same transactional id has taken over.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Fenced { .. })
    }

    /// Whether the same transaction, begun anew, may succeed without a change. Never if it may be committed.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Failed(error) => error.is_retriable(),
            Self::Send(error) => error.is_retriable(),
            Self::TimedOut { possibly_committed, .. } => !possibly_committed,
            Self::Refused { code, is_fatal: false, possibly_committed: false, .. } => {
                code.is_retriable()
                    || matches!(
                        code,
                        ErrorCode::TransactionAbortable
                            | ErrorCode::InvalidProducerIdMapping
                            | ErrorCode::UnknownProducerId
                            | ErrorCode::OperationNotAttempted
                    )
            }
            Self::Refused { .. }
            | Self::Fenced { .. }
            | Self::Request { .. }
            | Self::AlreadyOpen
            | Self::Settings(_)
            | Self::Closed => false,
        }
    }

    /// Whether the transaction may be committed although the commit failed.
    #[must_use]
    pub fn possibly_committed(&self) -> bool {
        match self {
            Self::Fenced { possibly_committed, .. }
            | Self::Refused { possibly_committed, .. }
            | Self::Request { possibly_committed, .. }
            | Self::TimedOut { possibly_committed, .. } => *possibly_committed,
            Self::Closed => true,
            Self::Failed(_) | Self::Send(_) | Self::AlreadyOpen | Self::Settings(_) => false,
        }
    }

    /// Whether it is certain that nothing of the transaction holds, or will.
    #[must_use]
    pub fn had_no_effect(&self) -> bool {
        !self.possibly_committed()
    }
}

fn committed_words(possibly_committed: bool) -> &'static str {
    if possibly_committed { "; the transaction may be committed all the same" } else { "" }
}
