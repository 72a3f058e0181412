//! What a broker is given once: its cluster's id, and a leader epoch that rises whenever the end of a log
//! may have been lost.

use bytes::Bytes;
use millstream_log::{CleanStart, LeaderEpoch};
use serde::{Deserialize, Serialize};

use crate::machine::Uuids;
use crate::meta_store::{Expect, MetaError, MetaStore};

const KEY: &str = "cluster/identity";

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster_id: String,
    pub(crate) leader_epoch: LeaderEpoch,
    /// How the last broker ended; a new folder counts as clean.
    pub(crate) clean: CleanStart,
}

/// The identity as the store keeps it. One entry, so that a new folder costs one wait for the disk.
#[derive(Debug, Serialize, Deserialize)]
struct StoredIdentity {
    cluster_id: String,
    leader_epoch: i32,
}

/// Reads the identity, making it in a new folder. The epoch of an unclean start is durable when this
/// returns, so that no two leaders ever write under one epoch.
pub(crate) fn claim(store: &dyn MetaStore, uuids: &Uuids, clean: CleanStart) -> Result<Identity, MetaError> {
    let entry = store.get(KEY)?;
    let expect = entry.as_ref().map_or(Expect::Absent, |entry| Expect::Version(entry.version));
    let (stored, clean, is_new_epoch) = match entry {
        None => {
            let cluster_id = uuids.fresh().simple().to_string();
            (StoredIdentity { cluster_id, leader_epoch: 0 }, CleanStart::Yes, true)
        }
        Some(entry) => {
            let mut stored: StoredIdentity = serde_json::from_slice(&entry.value)
                .map_err(|error| MetaError::corrupt(KEY, &error.to_string()))?;
            let unclean = clean == CleanStart::No;
            stored.leader_epoch += i32::from(unclean);
            (stored, clean, unclean)
        }
    };
    if is_new_epoch {
        let value = serde_json::to_vec(&stored).expect("text and a number always serialise");
        store.put(KEY, Bytes::from(value), expect)?;
    }
    let StoredIdentity { cluster_id, leader_epoch } = stored;
    Ok(Identity { cluster_id, leader_epoch: LeaderEpoch::new(leader_epoch), clean })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::meta_store::LocalMetaStore;
    use millstream_log::RealDisk;

    #[test]
    fn the_epoch_rises_at_unclean_starts_only_and_the_cluster_id_stays() {
        let folder = tempfile::tempdir().unwrap();
        let claim = |clean| {
            claim(&LocalMetaStore::open(Arc::new(RealDisk), folder.path()).unwrap(), &Uuids::Random, clean)
                .unwrap()
        };
        let first = claim(CleanStart::No);
        assert_eq!((first.leader_epoch.get(), first.clean), (0, CleanStart::Yes), "a new folder");
        assert_eq!(claim(CleanStart::Yes).leader_epoch.get(), 0);
        assert_eq!(claim(CleanStart::No).leader_epoch.get(), 1);
        let last = claim(CleanStart::No);
        assert_eq!((last.leader_epoch.get(), last.clean), (2, CleanStart::No));
        assert_eq!(last.cluster_id, first.cluster_id);
    }
}
