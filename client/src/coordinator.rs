//! Which broker coordinates a group, or the transactions of an id: asked once, remembered until somebody doubts it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use millstream_protocol::messages::FindCoordinatorRequest;
use millstream_protocol::{ErrorCode, KStr};

use crate::client::Client;
use crate::connection::CallOptions;
use crate::error::{ClientError, known};
use crate::metadata::BrokerId;

/// From this version on several keys are asked about at once.
const KEYS_FROM: i16 = 4;
/// Keys remembered of each kind; with more, all are forgotten and asked about again.
const REMEMBERED_MAX: usize = 10_000;

/// What is coordinated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Group,
    Transactions,
}

impl Kind {
    fn key_type(self) -> i8 {
        match self {
            Self::Group => 0,
            Self::Transactions => 1,
        }
    }
}

/// Brokers by what they coordinate. Locked for a look-up, never across an await.
type Known = Mutex<HashMap<String, BrokerId>>;

/// The coordinators that are known.
#[derive(Debug, Default)]
pub(crate) struct Coordinators {
    of_groups: Known,
    of_transactions: Known,
}

impl Coordinators {
    fn of(&self, kind: Kind) -> MutexGuard<'_, HashMap<String, BrokerId>> {
        let known = match kind {
            Kind::Group => &self.of_groups,
            Kind::Transactions => &self.of_transactions,
        };
        known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, kind: Kind, key: &str) -> Option<BrokerId> {
        self.of(kind).get(key).copied()
    }

    fn remember(&self, kind: Kind, key: &str, coordinator: BrokerId) {
        let mut known = self.of(kind);
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(key.to_owned(), coordinator);
    }

    fn forget(&self, kind: Kind, key: &str) {
        self.of(kind).remove(key);
    }
}

impl Client {
    /// The broker that coordinates a group, looked up if it is not known. One attempt.
    pub(crate) async fn coordinator(&self, group: &str) -> Result<BrokerId, ClientError> {
        self.find_coordinator(Kind::Group, group).await
    }

    /// The same for a transactional id.
    pub(crate) async fn transaction_coordinator(&self, id: &str) -> Result<BrokerId, ClientError> {
        self.find_coordinator(Kind::Transactions, id).await
    }

    async fn find_coordinator(&self, kind: Kind, key: &str) -> Result<BrokerId, ClientError> {
        if let Some(known) = self.coordinators().get(kind, key) {
            return Ok(known);
        }
        let connection = self.any_connection().await?;
        let version = connection.version_of::<FindCoordinatorRequest>(CallOptions::default())?;
        let mut request = FindCoordinatorRequest { key_type: kind.key_type(), ..Default::default() };
        match version >= KEYS_FROM {
            true => request.coordinator_keys = vec![KStr::from(key)],
            false => request.key = KStr::from(key),
        }
        let answer = connection.send(&request, CallOptions::default()).await?.await?;
        let (code, node, message) = match answer.coordinators.first() {
            Some(found) if version >= KEYS_FROM => (found.error_code, found.node_id, &found.error_message),
            _ => (answer.error_code, answer.node_id, &answer.error_message),
        };
        let no_coordinator = |code, message: Option<&KStr>| {
            let (key, message) = (key.to_owned(), message.map(KStr::to_string));
            match kind {
                Kind::Group => ClientError::NoCoordinator { group: key, code, message },
                Kind::Transactions => {
                    ClientError::NoTransactionCoordinator { transactional_id: key, code, message }
                }
            }
        };
        match known(code) {
            ErrorCode::None if node >= 0 => {}
            ErrorCode::None => return Err(no_coordinator(ErrorCode::CoordinatorNotAvailable, None)),
            code => return Err(no_coordinator(code, message.as_ref())),
        }
        self.coordinators().remember(kind, key, BrokerId(node));
        Ok(BrokerId(node))
    }

    /// Forgets who coordinates a group: a broker said that it does not, or cannot be reached. Asked again on next
    /// use.
    pub fn forget_coordinator(&self, group: &str) {
        self.coordinators().forget(Kind::Group, group);
    }

    /// Forgets who coordinates the transactions of an id, likewise.
    pub fn forget_transaction_coordinator(&self, id: &str) {
        self.coordinators().forget(Kind::Transactions, id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded() {
        let coordinators = Coordinators::default();
        for group in 0..REMEMBERED_MAX {
            coordinators.remember(Kind::Group, &group.to_string(), BrokerId(1));
        }
        coordinators.remember(Kind::Transactions, "0", BrokerId(3));
        let of = |key| coordinators.get(Kind::Group, key);
        assert_eq!(of("0"), Some(BrokerId(1)));
        coordinators.remember(Kind::Group, "another", BrokerId(2));
        assert_eq!((of("0"), of("another")), (None, Some(BrokerId(2))));
        assert_eq!(coordinators.get(Kind::Transactions, "0"), Some(BrokerId(3)), "a kind of its own");
    }
}
