//! What a broker is given once: its cluster's id, and a leader epoch that rises whenever the end of a log
//! may have been lost.

use bytes::Bytes;
use millstream_log::{CleanStart, LeaderEpoch};
use millstream_protocol::Uuid;

use crate::meta_store::{Expect, MetaError, MetaStore};

const CLUSTER_ID: &str = "cluster/id";
const LEADER_EPOCH: &str = "cluster/leader-epoch";

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster_id: String,
    pub(crate) leader_epoch: LeaderEpoch,
    /// How the last broker ended; a new folder counts as clean.
    pub(crate) clean: CleanStart,
}

/// Reads the identity, making it in a new folder. The epoch of an unclean start is durable when this
/// returns, so that no two leaders ever write under one epoch.
pub(crate) fn claim(store: &dyn MetaStore, clean: CleanStart) -> Result<Identity, MetaError> {
    let cluster_id = match store.get(CLUSTER_ID)? {
        Some(entry) => text(CLUSTER_ID, &entry.value)?,
        None => {
            let id = Uuid::new_v4().simple().to_string();
            store.put(CLUSTER_ID, Bytes::from(id.clone()), Expect::Absent)?;
            id
        }
    };
    let (epoch, clean) = match store.get(LEADER_EPOCH)? {
        None => {
            store.put(LEADER_EPOCH, Bytes::from_static(b"0"), Expect::Absent)?;
            (0, CleanStart::Yes)
        }
        Some(entry) => {
            let last: i32 = text(LEADER_EPOCH, &entry.value)?
                .parse()
                .map_err(|_| MetaError::corrupt(LEADER_EPOCH, "not a number"))?;
            match clean {
                CleanStart::Yes => (last, clean),
                CleanStart::No => {
                    let next = last + 1;
                    store.put(LEADER_EPOCH, Bytes::from(next.to_string()), Expect::Version(entry.version))?;
                    (next, clean)
                }
            }
        }
    };
    Ok(Identity { cluster_id, leader_epoch: LeaderEpoch::new(epoch), clean })
}

fn text(key: &str, value: &[u8]) -> Result<String, MetaError> {
    let text = std::str::from_utf8(value).map_err(|_| MetaError::corrupt(key, "not text"))?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta_store::LocalMetaStore;

    #[test]
    fn the_epoch_rises_at_unclean_starts_only_and_the_cluster_id_stays() {
        let folder = tempfile::tempdir().unwrap();
        let claim = |clean| claim(&LocalMetaStore::open(folder.path()).unwrap(), clean).unwrap();
        let first = claim(CleanStart::No);
        assert_eq!((first.leader_epoch.get(), first.clean), (0, CleanStart::Yes), "a new folder");
        assert_eq!(claim(CleanStart::Yes).leader_epoch.get(), 0);
        assert_eq!(claim(CleanStart::No).leader_epoch.get(), 1);
        let last = claim(CleanStart::No);
        assert_eq!((last.leader_epoch.get(), last.clean), (2, CleanStart::No));
        assert_eq!(last.cluster_id, first.cluster_id);
    }
}
