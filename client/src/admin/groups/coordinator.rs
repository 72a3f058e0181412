//! Which broker coordinates a group: asked once, remembered until somebody doubts it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use millstream_protocol::messages::FindCoordinatorRequest;
use millstream_protocol::{ErrorCode, KStr};

use crate::client::Client;
use crate::connection::CallOptions;
use crate::error::{ClientError, known};
use crate::metadata::BrokerId;

/// From this version on several keys are asked about at once.
const KEYS_FROM: i16 = 4;
/// The kind of key that a group id is.
const GROUP: i8 = 0;
/// Groups remembered; with more, all are forgotten and asked about again.
const REMEMBERED_MAX: usize = 10_000;

/// The coordinators that are known. Locked for a look-up, never across an await.
#[derive(Debug, Default)]
pub(crate) struct Coordinators {
    of_groups: Mutex<HashMap<String, BrokerId>>,
}

impl Coordinators {
    fn get(&self, group: &str) -> Option<BrokerId> {
        self.of_groups.lock().unwrap_or_else(PoisonError::into_inner).get(group).copied()
    }

    fn remember(&self, group: &str, coordinator: BrokerId) {
        let mut of_groups = self.of_groups.lock().unwrap_or_else(PoisonError::into_inner);
        if of_groups.len() >= REMEMBERED_MAX {
            of_groups.clear();
        }
        of_groups.insert(group.to_owned(), coordinator);
    }

    fn forget(&self, group: &str) {
        self.of_groups.lock().unwrap_or_else(PoisonError::into_inner).remove(group);
    }
}

impl Client {
    /// The broker that coordinates a group, looked up if it is not known. One attempt.
    pub(crate) async fn coordinator(&self, group: &str) -> Result<BrokerId, ClientError> {
        if let Some(known) = self.coordinators().get(group) {
            return Ok(known);
        }
        let connection = self.any_connection().await?;
        let version = connection.version_of::<FindCoordinatorRequest>(CallOptions::default())?;
        let mut request = FindCoordinatorRequest { key_type: GROUP, ..Default::default() };
        match version >= KEYS_FROM {
            true => request.coordinator_keys = vec![KStr::from(group)],
            false => request.key = KStr::from(group),
        }
        let answer = connection.send(&request, CallOptions::default()).await?.await?;
        let (code, node, message) = match answer.coordinators.first() {
            Some(found) if version >= KEYS_FROM => (found.error_code, found.node_id, &found.error_message),
            _ => (answer.error_code, answer.node_id, &answer.error_message),
        };
        let no_coordinator = |code, message: Option<&KStr>| ClientError::NoCoordinator {
            group: group.to_owned(),
            code,
            message: message.map(KStr::to_string),
        };
        match known(code) {
            ErrorCode::None if node >= 0 => {}
            ErrorCode::None => return Err(no_coordinator(ErrorCode::CoordinatorNotAvailable, None)),
            code => return Err(no_coordinator(code, message.as_ref())),
        }
        self.coordinators().remember(group, BrokerId(node));
        Ok(BrokerId(node))
    }

    /// Forgets who coordinates a group: a broker said that it does not, or cannot be reached. Asked again on next
    /// use.
    pub fn forget_coordinator(&self, group: &str) {
        self.coordinators().forget(group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded() {
        let coordinators = Coordinators::default();
        for group in 0..REMEMBERED_MAX {
            coordinators.remember(&group.to_string(), BrokerId(1));
        }
        assert_eq!(coordinators.get("0"), Some(BrokerId(1)));
        coordinators.remember("another", BrokerId(2));
        assert_eq!((coordinators.get("0"), coordinators.get("another")), (None, Some(BrokerId(2))));
    }
}
