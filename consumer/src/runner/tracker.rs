//! Which offset of a partition may be committed while its records finish in any order.

use std::collections::VecDeque;

/// One partition's records from the first that is not finished on. A pure part: offsets go in, an offset comes out.
///
/// Everything before what may be committed is finished, whatever came after it: after a crash nothing is left
/// out, and what was finished beyond it comes again.
#[derive(Debug, Default)]
pub(crate) struct OffsetTracker {
    /// Records that were received, in order, from the first that is not finished on; and whether they are.
    open: VecDeque<(i64, bool)>,
    /// Behind the last record that was received.
    end: Option<i64>,
    /// What was committed last.
    committed: Option<i64>,
}

impl OffsetTracker {
    /// Whether a record of this offset can be received: the reading went on, not back.
    pub(crate) fn is_ahead(&self, offset: i64) -> bool {
        self.end.is_none_or(|end| offset >= end)
    }

    /// A record was received. Offsets rise; there may be holes.
    pub(crate) fn received(&mut self, offset: i64) {
        assert!(self.is_ahead(offset), "offset {offset} was received behind {:?}", self.end);
        if self.end.is_none() {
            // Nothing before the first record is ours to commit.
            self.committed = Some(offset);
        }
        self.open.push_back((offset, false));
        self.end = Some(offset.saturating_add(1));
    }

    /// A record is finished.
    pub(crate) fn finished(&mut self, offset: i64) {
        let at = self.open.binary_search_by_key(&offset, |(offset, _)| *offset);
        let at = at.unwrap_or_else(|_| panic!("offset {offset} is finished and was not open"));
        self.open[at].1 = true;
        while self.open.pop_front_if(|(_, is_finished)| *is_finished).is_some() {}
    }

    /// The offset to commit: of the first record that is not finished, or behind the last. None if that is
    /// committed already.
    pub(crate) fn due(&self) -> Option<i64> {
        self.position().filter(|due| self.committed != Some(*due))
    }

    /// Everything before it is finished; none before the first record.
    pub(crate) fn position(&self) -> Option<i64> {
        self.open.front().map(|(offset, _)| *offset).or(self.end)
    }

    /// An offset was committed.
    pub(crate) fn on_committed(&mut self, offset: i64) {
        self.committed = Some(offset);
    }

    /// Records that a commit does not cover yet, finished or not.
    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_finished_out_of_order_is_committed_once_nothing_before_it_is_open() {
        let mut tracker = OffsetTracker::default();
        assert_eq!(tracker.due(), None);
        for offset in [5, 6, 9] {
            tracker.received(offset);
        }
        assert_eq!(tracker.due(), None, "nothing is finished");
        tracker.finished(6);
        tracker.finished(9);
        assert_eq!((tracker.due(), tracker.open()), (None, 3));
        tracker.finished(5);
        assert_eq!((tracker.due(), tracker.open()), (Some(10), 0));
        tracker.on_committed(10);
        assert_eq!(tracker.due(), None);
        assert!(tracker.is_ahead(10) && !tracker.is_ahead(9));
    }

    proptest! {
        #[test]
        fn a_commit_is_the_lowest_offset_that_is_not_finished(
            first in 0..1000_i64,
            steps in prop::collection::vec((1..4_i64, any::<prop::sample::Index>(), 0..4_u8), 1..200),
        ) {
            let mut tracker = OffsetTracker::default();
            let (mut next, mut end) = (first, None);
            let mut open = BTreeSet::new();
            let mut committed = first;
            for (gap, which, what) in steps {
                match what {
                    0 | 1 => {
                        tracker.received(next);
                        open.insert(next);
                        end = Some(next + 1);
                        next += gap;
                    }
                    2 if !open.is_empty() => {
                        let offset = *open.iter().nth(which.index(open.len())).unwrap();
                        open.remove(&offset);
                        tracker.finished(offset);
                    }
                    _ => if let Some(due) = tracker.due() {
                        prop_assert!(due > committed, "{due} after {committed}");
                        committed = due;
                        tracker.on_committed(due);
                    },
                }
                let lowest = open.first().copied().or(end);
                prop_assert_eq!(tracker.position(), lowest);
                prop_assert!(tracker.due().is_none_or(|due| Some(due) == lowest));
                prop_assert!(tracker.open() >= open.len());
            }
            for offset in open {
                tracker.finished(offset);
            }
            prop_assert_eq!((tracker.open(), tracker.position()), (0, end));
        }
    }
}
