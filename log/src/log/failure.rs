//! Why a log takes no writes, remembered until it is reopened.

use std::io;
use std::sync::Arc;

use crate::sync::Mutex;
use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::Ordering::{Acquire, Release};

/// The write or flush that failed first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What may help.
    pub kind: FailureKind,
    /// What was tried, and what the system said.
    pub reason: Arc<str>,
}

/// What may help against a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Room on the disk. What was written before is as safe as it was.
    NoSpace,
    /// Nobody knows: the device may recover, or may not.
    Other,
}

impl FailureKind {
    pub(super) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Other,
        }
    }
}

/// Set by the first failure, cleared by reopening.
#[derive(Debug, Default)]
pub(super) struct FailureLatch {
    is_set: AtomicBool,
    /// Kept when the latch is cleared: who comes too late is told what it was.
    last: Mutex<Option<Failure>>,
}

impl FailureLatch {
    pub(super) fn is_set(&self) -> bool {
        self.is_set.load(Acquire)
    }

    pub(super) fn get(&self) -> Option<Failure> {
        self.is_set().then(|| self.last.lock().clone()).flatten()
    }

    /// What failed last, even if it is mended.
    pub(super) fn last(&self) -> Option<Failure> {
        self.last.lock().clone()
    }

    /// Whether it was not set before; what failed first stays.
    pub(super) fn set(&self, failure: Failure) -> bool {
        let mut last = self.last.lock();
        let is_first = !self.is_set();
        if is_first {
            *last = Some(failure);
            self.is_set.store(true, Release);
        }
        is_first
    }

    /// What stands in the way now.
    pub(super) fn replace(&self, failure: Failure) {
        *self.last.lock() = Some(failure);
    }

    pub(super) fn clear(&self) {
        self.is_set.store(false, Release);
    }
}
