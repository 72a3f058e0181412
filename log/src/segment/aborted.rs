//! Which transactions were aborted by markers in a segment: what a reader of committed records has to skip.

use std::ops::Range;

use crate::ids::{Offset, ProducerId};
use crate::partition::Aborted;
use crate::sync::Mutex;
use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering::{Acquire, Release};

/// A transaction whose records do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose it was. What this producer wrote from `first_offset` up to its next marker does not count.
    pub producer: ProducerId,
    /// Its first record.
    pub first_offset: Offset,
}

/// Those of one segment, in the order of their markers.
#[derive(Debug, Default)]
pub(crate) struct AbortedIndex {
    /// Read without the lock to find out that there are none.
    count: AtomicUsize,
    held: Mutex<Vec<Aborted>>,
}

impl AbortedIndex {
    /// Takes up what a marker in this segment aborted, before readers can see the marker.
    pub(crate) fn note(&self, aborted: &[Aborted]) {
        if aborted.is_empty() {
            return;
        }
        let mut held = self.held.lock();
        held.extend_from_slice(aborted);
        self.count.store(held.len(), Release);
    }

    /// Finds those that have records in `range`, as far as their markers lie in this segment.
    pub(crate) fn collect(&self, range: &Range<Offset>, found: &mut Vec<AbortedTransaction>) {
        if self.count.load(Acquire) == 0 {
            return;
        }
        let held = self.held.lock();
        let from = held.partition_point(|one| one.marker < range.start);
        let concerned = held[from..].iter().filter(|one| one.first < range.end);
        let told =
            concerned.map(|one| AbortedTransaction { producer: one.producer, first_offset: one.first });
        found.extend(told);
    }
}
