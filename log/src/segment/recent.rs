//! Where the newest batches of the active segment begin.
//!
//! A consumer at the tail asks for the batch that was appended a moment ago; this answers without a system
//! call. One writer, any number of readers, no lock: each slot is one atomic that holds a whole fact.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, AtomicUsize};

/// Batches that are remembered; a turn of the writer appends no more than this many.
const SLOTS: usize = 64;

const EMPTY: u64 = u64::MAX;

/// A ring of (offset relative to the segment's base) << 32 | position.
#[derive(Debug)]
pub(crate) struct Recent {
    slots: [AtomicU64; SLOTS],
    pushed: AtomicUsize,
    /// What lies from here on was written, or read whole, by this process.
    pub(super) since: u64,
}

/// A batch, and where the next one begins if there was one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecentBatch {
    pub(super) position: u64,
    pub(super) next: Option<u64>,
}

impl Recent {
    /// Nothing yet; the first batch will lie at `since`.
    pub(super) fn new(since: u64) -> Self {
        Self { slots: [const { AtomicU64::new(EMPTY) }; SLOTS], pushed: AtomicUsize::new(0), since }
    }

    /// Remembers a batch behind all others. Only the writer calls this.
    pub(super) fn push(&self, offset: u32, position: u64) {
        let at = self.pushed.load(Relaxed);
        self.slots[at % SLOTS].store(u64::from(offset) << 32 | position, Release);
        self.pushed.store(at + 1, Release);
    }

    /// Batches from the newest to the oldest. Slots that are overwritten meanwhile show newer batches;
    /// because the oldest goes first, all that follow such a slot are newer too.
    fn newest_first(&self) -> impl Iterator<Item = (u32, u64)> {
        let pushed = self.pushed.load(Acquire);
        let held = pushed.min(SLOTS);
        let slots = (1..=held).map(move |back| self.slots[(pushed - back) % SLOTS].load(Acquire));
        slots.take_while(|slot| *slot != EMPTY).map(|slot| {
            let offset = u32::try_from(slot >> 32).expect("32 bits");
            (offset, slot & u64::from(u32::MAX))
        })
    }

    /// The batch that holds `offset`, or a later one if the batches are not contiguous.
    pub(super) fn holding(&self, offset: u32) -> Option<RecentBatch> {
        let mut next = None;
        for (base, position) in self.newest_first() {
            if base <= offset {
                return Some(RecentBatch { position, next });
            }
            next = Some(position);
        }
        None
    }

    /// The last beginning of a batch at or below `position`.
    pub(super) fn boundary_at_or_below(&self, position: u64) -> Option<u64> {
        self.newest_first().map(|(_, begins)| begins).find(|begins| *begins <= position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_batches_are_found_and_older_ones_are_not() {
        let recent = Recent::new(0);
        assert_eq!(recent.holding(0), None);
        for batch in 0..100u32 {
            recent.push(batch * 10, u64::from(batch) * 1000);
        }
        assert_eq!(recent.holding(995), Some(RecentBatch { position: 99_000, next: None }));
        assert_eq!(recent.holding(989), Some(RecentBatch { position: 98_000, next: Some(99_000) }));
        assert_eq!(recent.holding(360), Some(RecentBatch { position: 36_000, next: Some(37_000) }));
        assert_eq!(recent.holding(359), None, "the oldest is forgotten");
        assert_eq!(recent.boundary_at_or_below(98_999), Some(98_000));
        assert_eq!(recent.boundary_at_or_below(10_000), None);
    }
}
