//! What the transaction coordinator needs of the broker's settings.

use std::time::Duration;

use super::broker::millis;
use super::{Written, number};

/// How often it is looked for ids that have expired, at the least.
const CLEAN_UP: Duration = Duration::from_secs(3600);

/// Settings of transactions.
#[derive(Debug, Clone)]
pub(crate) struct TransactionSettings {
    /// Of `__transaction_state`, when it is made.
    pub(crate) partitions: i64,
    /// Of `__transaction_state`, when it is made.
    pub(crate) segment_bytes: i64,
    /// The longest timeout that a client may ask for.
    pub(crate) timeout_max: Duration,
    /// How long a transactional id is kept that nobody uses.
    pub(crate) id_expiration: Duration,
}

impl TransactionSettings {
    pub(super) fn new(written: &Written) -> Self {
        Self {
            partitions: number(written, "transaction.state.log.num.partitions"),
            segment_bytes: number(written, "transaction.state.log.segment.bytes"),
            timeout_max: millis(written, "transaction.max.timeout.ms"),
            id_expiration: millis(written, "transactional.id.expiration.ms"),
        }
    }

    /// The defaults.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self::new(&Written::new())
    }

    /// How often it is looked for ids that have expired.
    pub(crate) fn clean_up_each(&self) -> Duration {
        self.id_expiration.min(CLEAN_UP)
    }
}
