//! Producer ids: each is handed out once in the life of a cluster. They are taken from the store in
//! blocks, so that a new producer costs no disk write; ids of a block that a crash cut short are skipped.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use millstream_log::ProducerId;
use parking_lot::Mutex;

use crate::meta_store::{Expect, MetaError, MetaStore};

const KEY: &str = "producer-ids/next";

/// Ids per block: as in Kafka.
const BLOCK: i64 = 1000;

/// Hands out producer ids.
#[derive(Debug)]
pub(crate) struct ProducerIds {
    store: Arc<dyn MetaStore>,
    block: Mutex<Range<i64>>,
}

impl ProducerIds {
    pub(crate) fn new(store: Arc<dyn MetaStore>) -> Self {
        Self { store, block: Mutex::new(0..0) }
    }

    /// The next id. Blocks on the disk once in a block.
    pub(crate) fn next(&self) -> Result<ProducerId, MetaError> {
        let mut block = self.block.lock();
        if block.is_empty() {
            *block = self.reserve()?;
        }
        let id = block.start;
        block.start += 1;
        Ok(ProducerId::new(id))
    }

    fn reserve(&self) -> Result<Range<i64>, MetaError> {
        loop {
            let entry = self.store.get(KEY)?;
            let expect = entry.as_ref().map_or(Expect::Absent, |entry| Expect::Version(entry.version));
            let start = entry.map_or(Some(0), |entry| {
                std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse::<i64>().ok())
            });
            let start = start.ok_or_else(|| MetaError::corrupt(KEY, "not a number"))?;
            let end = start + BLOCK;
            match self.store.put(KEY, Bytes::from(end.to_string()), expect) {
                Ok(_) => return Ok(start..end),
                Err(MetaError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta_store::LocalMetaStore;
    use millstream_log::RealDisk;

    #[test]
    fn ids_are_never_handed_out_twice_even_across_a_crash() {
        let folder = tempfile::tempdir().unwrap();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..3 {
            let store = Arc::new(LocalMetaStore::open(Arc::new(RealDisk), folder.path()).unwrap());
            let ids = ProducerIds::new(store);
            for _ in 0..1500 {
                assert!(seen.insert(ids.next().unwrap()));
            }
        }
    }
}
