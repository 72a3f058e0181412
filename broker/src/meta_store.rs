//! Where durable metadata lives: topics, ids, epochs. A small map with compare-and-set, so that the same
//! code runs over a local file today and over a replicated store in a cluster.
//!
//! Refuses to know what the values mean.

mod local;

use std::io;
use std::path::PathBuf;

use bytes::Bytes;

pub(crate) use local::LocalMetaStore;

/// A value with the version at which it was written. Versions rise over the whole store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) value: Bytes,
    pub(crate) version: u64,
}

/// What a change expects to find; if it finds anything else nothing is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    Absent,
    Version(u64),
}

/// Why the metadata store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// Somebody else was faster.
    #[error("'{key}' was changed by somebody else in the meantime; nothing was written")]
    Conflict {
        /// The entry.
        key: String,
    },
    /// The system refused to read or write.
    #[error("the metadata in {path} cannot be read or written: {error}")]
    Storage {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A file is not what was written.
    #[error("the metadata in {path} is damaged at byte {at}: {reason}; restore the folder from a backup")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damage starts.
        at: u64,
        /// What is wrong there.
        reason: &'static str,
    },
    /// An entry's reader does not understand it.
    #[error("the metadata entry '{key}' cannot be understood: {reason}; was it written by a newer version?")]
    Corrupt {
        /// The entry.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl MetaError {
    /// An entry whose value its reader does not understand.
    pub(crate) fn corrupt(key: &str, reason: &str) -> Self {
        Self::Corrupt { key: key.to_owned(), reason: reason.to_owned() }
    }
}

/// Durable metadata. A change that returned `Ok` survives a crash. May block on the disk.
pub(crate) trait MetaStore: Send + Sync + std::fmt::Debug {
    fn get(&self, key: &str) -> Result<Option<Entry>, MetaError>;
    /// Writes a value and returns its version.
    fn put(&self, key: &str, value: Bytes, expect: Expect) -> Result<u64, MetaError>;
    fn delete(&self, key: &str, expect: Expect) -> Result<(), MetaError>;
    /// The version of the last change.
    fn version(&self) -> u64;
    /// Everything whose key starts with `prefix`, in the order of the keys.
    fn list(&self, prefix: &str) -> Result<Vec<(String, Entry)>, MetaError>;
}
