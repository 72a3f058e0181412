//! One partition on this node: a place for its log, which may not be there yet.
//!
//! The ports open before the logs do. Until a partition's log is recovered whoever asks for it is told to
//! ask again; if it cannot be opened at all, that is a failure of its storage, and the rest of the node
//! serves on.
//!
//! Locks, in the order in which they are taken: `opening` while the log is opened or deleted, across the
//! disk; `missing` for a few instructions. Requests take the second one only, and only if there is no log.

use std::sync::{Arc, OnceLock};

use millstream_log::{Log, OpenError, Recovery};
use parking_lot::Mutex;

use crate::storage::directory::{Directory, Home};

/// One partition on this node.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) index: i32,
    /// The data folder that it lies in.
    pub(crate) home: Home,
    log: OnceLock<Arc<Log>>,
    opening: Mutex<()>,
    /// Why there is no log, while there is none.
    missing: Mutex<Unavailable>,
}

/// Why a partition's log cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unavailable {
    #[error("this partition is being recovered; it will be served in a moment")]
    Recovering,
    #[error("this partition cannot be opened: {reason}")]
    Failed { reason: Arc<str> },
    #[error("this partition was deleted")]
    Deleted,
}

impl Partition {
    /// A partition whose log is not open yet.
    pub(crate) fn unopened(index: usize, home: Home) -> Arc<Self> {
        let index = i32::try_from(index).expect("bounded by PARTITIONS_MAX");
        let missing = match &home {
            Home::On(_) => Unavailable::Recovering,
            Home::Missing(missing) => {
                let (folder, reason) = (missing.path.display(), &missing.reason);
                let reason = format!("its data folder {folder} is not used: {reason}").into();
                Unavailable::Failed { reason }
            }
        };
        Arc::new(Self {
            index,
            home,
            log: OnceLock::new(),
            opening: Mutex::default(),
            missing: Mutex::new(missing),
        })
    }

    /// Whether it lies in this data folder.
    pub(crate) fn is_on(&self, directory: &Directory) -> bool {
        matches!(&self.home, Home::On(home) if home.id == directory.id)
    }

    /// The log, or why there is none.
    pub(crate) fn log(&self) -> Result<&Arc<Log>, Unavailable> {
        self.log.get().ok_or_else(|| self.missing.lock().clone())
    }

    /// Opens the log with `open`, unless it is open or the partition was deleted: then `None`. Blocks on the
    /// disk.
    pub(super) fn open_with(
        &self,
        open: impl FnOnce() -> Result<(Arc<Log>, Recovery), OpenError>,
    ) -> Result<Option<Recovery>, OpenError> {
        let _opening = self.opening.lock();
        if self.log.get().is_some() || *self.missing.lock() == Unavailable::Deleted {
            return Ok(None);
        }
        match open() {
            Ok((log, recovery)) => {
                self.log.set(log).expect("whoever sets it holds the lock");
                Ok(Some(recovery))
            }
            Err(error) => self.fail(error),
        }
    }

    /// Notes why the log cannot be opened.
    pub(super) fn fail(&self, error: OpenError) -> Result<Option<Recovery>, OpenError> {
        *self.missing.lock() = Unavailable::Failed { reason: error.to_string().into() };
        Err(error)
    }

    /// Closes the log for good, if there is one, and removes its folder; keeps it from being opened if not.
    /// Waits for an opening that has begun. Blocks on the disk.
    pub(super) fn delete(&self) {
        let _opening = self.opening.lock();
        *self.missing.lock() = Unavailable::Deleted;
        if let Some(log) = self.log.get() {
            log.delete();
        }
    }
}
