//! The segments of a log in order, read by everybody without a lock.
//!
//! One of the three lock-free pieces. The list is replaced as a whole when a segment is added or removed,
//! which is rare; an added segment is listed before any offset in it is published. Who replaces it holds
//! the log's writer.

use std::ops::Deref;
use std::sync::Arc;

use crate::ids::Offset;
use crate::sync::ArcSwap;

/// Something that has a place in the list.
pub(crate) trait Based {
    /// The first offset that can be in it.
    fn base(&self) -> Offset;
}

#[cfg(test)]
impl Based for Offset {
    fn base(&self) -> Offset {
        *self
    }
}

/// Never empty; the last one is the active segment.
#[derive(Debug)]
pub(crate) struct SegmentList<S> {
    sorted: ArcSwap<Vec<Arc<S>>>,
}

/// How many of them do not lie beyond `offset` as a whole.
fn behind<S: Based>(sorted: &[Arc<S>], offset: Offset) -> usize {
    sorted.partition_point(|segment| segment.base() <= offset)
}

/// Those from the one on that holds `offset`; `None` if it is not in the log.
pub(crate) fn from<S: Based>(sorted: &[Arc<S>], offset: Offset) -> Option<&[Arc<S>]> {
    Some(&sorted[behind(sorted, offset).checked_sub(1)?..])
}

impl<S: Based> SegmentList<S> {
    pub(crate) fn new(sorted: Vec<Arc<S>>) -> Self {
        assert!(!sorted.is_empty(), "a log has at least one segment");
        assert!(sorted.is_sorted_by(|a, b| a.base() < b.base()), "segments out of order");
        Self { sorted: ArcSwap::from_pointee(sorted) }
    }

    /// All of them at this moment.
    pub(crate) fn all(&self) -> Arc<Vec<Arc<S>>> {
        self.sorted.load_full()
    }

    /// All of them at this moment, for a look that is soon over.
    pub(crate) fn now(&self) -> impl Deref<Target = Arc<Vec<Arc<S>>>> + '_ {
        self.sorted.load()
    }

    /// The segment that holds `offset`, if it is in the log.
    pub(crate) fn holding(&self, offset: Offset) -> Option<Arc<S>> {
        from(&self.now(), offset)?.first().cloned()
    }

    /// The first segment whose offsets are all beyond `offset`.
    pub(crate) fn beyond(&self, offset: Offset) -> Option<Arc<S>> {
        let now = self.now();
        now[behind(&now, offset)..].first().cloned()
    }

    /// Whether the last one begins here.
    pub(crate) fn is_last(&self, base: Offset) -> bool {
        self.sorted.load().last().is_some_and(|segment| segment.base() == base)
    }

    pub(crate) fn push(&self, segment: Arc<S>) {
        let mut next = Vec::clone(&self.sorted.load());
        next.push(segment);
        self.replace(next);
    }

    /// Replaces the whole list.
    pub(crate) fn replace(&self, sorted: Vec<Arc<S>>) {
        assert!(!sorted.is_empty(), "a log has at least one segment");
        assert!(sorted.is_sorted_by(|a, b| a.base() < b.base()), "segments out of order");
        self.sorted.store(Arc::new(sorted));
    }
}
