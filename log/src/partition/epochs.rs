//! Which leader epoch began where.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::{Bound, RangeInclusive};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::ids::{LeaderEpoch, Offset};

/// An epoch and an offset: where it starts, or where it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EpochStart {
    pub(crate) epoch: LeaderEpoch,
    pub(crate) offset: Offset,
}

/// Epochs in rising order, each with its first offset, which rises too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EpochHistory {
    starts: Vec<EpochStart>,
}

impl EpochHistory {
    /// Takes entries from a snapshot; `None` if they are not in order.
    pub(crate) fn from_entries(starts: Vec<EpochStart>) -> Option<Self> {
        let rising = starts.is_sorted_by(|a, b| a.epoch < b.epoch && a.offset < b.offset);
        rising.then_some(Self { starts })
    }

    pub(crate) fn entries(&self) -> &[EpochStart] {
        &self.starts
    }

    pub(crate) fn latest(&self) -> Option<LeaderEpoch> {
        self.starts.last().map(|start| start.epoch)
    }

    /// Notes that `epoch` begins at `offset`, unless it or a later one has begun already. An epoch in
    /// which nothing was written is forgotten.
    pub(crate) fn begin(&mut self, epoch: LeaderEpoch, offset: Offset) {
        if self.latest().is_some_and(|latest| latest >= epoch) {
            return;
        }
        self.starts.retain(|start| start.offset < offset);
        self.starts.push(EpochStart { epoch, offset });
    }

    /// Forgets epochs that ended at or before `offset`.
    pub(crate) fn cut_before(&mut self, offset: Offset) {
        let later = self.starts.partition_point(|start| start.offset <= offset);
        if later > 0 {
            self.starts.drain(..later - 1);
            self.starts[0].offset = offset;
        }
    }

    /// Whether a batch that ends with `last` may have been written under `epoch`. What was written before all
    /// epochs that are known may have any older one.
    pub(crate) fn allows(&self, epoch: LeaderEpoch, last: Offset) -> bool {
        let later = self.starts.partition_point(|start| start.offset <= last);
        match later.checked_sub(1) {
            Some(at) => self.starts[at].epoch == epoch,
            None => self.starts.first().is_none_or(|first| epoch <= first.epoch),
        }
    }

    /// The largest epoch at most `epoch`, and where it ended. An epoch older than all that are known ended
    /// where they begin; one that has not begun has no end.
    pub(crate) fn end_offset_for(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<EpochStart> {
        if epoch.get() < 0 {
            return None;
        }
        let later = self.starts.partition_point(|start| start.epoch <= epoch);
        let Some(next) = self.starts.get(later) else {
            return (self.latest() == Some(epoch)).then_some(EpochStart { epoch, offset: log_end });
        };
        let epoch = later.checked_sub(1).map_or(epoch, |at| self.starts[at].epoch);
        Some(EpochStart { epoch, offset: next.offset })
    }
}

/// So many batches behind each other have this epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EpochRun {
    pub(crate) epoch: LeaderEpoch,
    pub(crate) batches: u64,
}

/// How well a chain of runs explains what was found: by the most batches, then by the fewest changes of epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Weight {
    batches: u64,
    changes: Reverse<u64>,
}

impl Weight {
    fn with_a_change(self) -> Self {
        Self { changes: Reverse(self.changes.0 + 1), ..self }
    }
}

/// Which runs to believe, when nothing else says who led when: epochs never fall and lie within `possible`, so
/// it is those with the most batches that are in order, and of several such those with the fewest changes.
pub(crate) fn believable_runs(runs: &[EpochRun], possible: RangeInclusive<LeaderEpoch>) -> Vec<bool> {
    // For an epoch: the weightiest chain that ends with a run of it, and which run that is. A later epoch is
    // kept only if going on to it from an earlier one weighs less.
    let mut best: BTreeMap<LeaderEpoch, (Weight, usize)> = BTreeMap::new();
    let mut before = vec![None; runs.len()];
    for (at, run) in runs.iter().enumerate().filter(|(_, run)| possible.contains(&run.epoch)) {
        let same = best.get(&run.epoch).copied();
        let earlier =
            best.range(..run.epoch).next_back().map(|(_, (weight, at))| (weight.with_a_change(), *at));
        let last = same.max(earlier);
        before[at] = last.map(|(_, run)| run);
        let mut weight = last.map_or(Weight { batches: 0, changes: Reverse(0) }, |(weight, _)| weight);
        weight.batches += run.batches;
        best.insert(run.epoch, (weight, at));
        let later = (Bound::Excluded(run.epoch), Bound::Unbounded);
        while let Some((epoch, _)) =
            best.range(later).next().filter(|(_, (held, _))| *held <= weight.with_a_change())
        {
            let epoch = *epoch;
            best.remove(&epoch);
        }
    }
    let mut believable = vec![false; runs.len()];
    let mut next = best.values().max_by_key(|(weight, _)| *weight).map(|(_, run)| *run);
    while let Some(run) = next {
        believable[run] = true;
        next = before[run];
    }
    believable
}

/// The history as readers see it, who must not wait for the writer. It changes when a log is opened or cut.
#[derive(Debug, Default)]
pub(crate) struct SharedEpochs(Mutex<Arc<EpochHistory>>);

impl SharedEpochs {
    pub(crate) fn get(&self) -> Arc<EpochHistory> {
        Arc::clone(&self.0.lock())
    }

    pub(crate) fn set(&self, history: EpochHistory) {
        *self.0.lock() = Arc::new(history);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs as (epoch, batches), and those that are believed.
    fn believed(runs: &[(i32, u64)]) -> Vec<i32> {
        let runs: Vec<_> = runs
            .iter()
            .map(|(epoch, batches)| EpochRun { epoch: LeaderEpoch::new(*epoch), batches: *batches })
            .collect();
        let possible = LeaderEpoch::new(1)..=LeaderEpoch::new(1000);
        let believable = believable_runs(&runs, possible);
        runs.iter().zip(believable).filter(|(_, held)| *held).map(|(run, _)| run.epoch.get()).collect()
    }

    #[test]
    fn one_batch_with_another_epoch_is_not_believed_whichever_way_it_is_wrong() {
        assert_eq!(believed(&[]), []);
        assert_eq!(believed(&[(1, 5), (3, 2), (4, 7)]), [1, 3, 4]);
        assert_eq!(believed(&[(1, 5), (9, 1), (1, 2), (4, 7)]), [1, 1, 4], "too high");
        assert_eq!(believed(&[(4, 5), (2, 1), (4, 2), (6, 1)]), [4, 4, 6], "too low");
        assert_eq!(believed(&[(4, 5), (0, 1), (4, 2), (5000, 1), (7, 1)]), [4, 4, 7], "impossible");
        assert_eq!(believed(&[(9, 1), (1, 3), (2, 1)]), [1, 2], "the first");
        assert_eq!(believed(&[(1, 3), (2, 1), (1, 1)]), [1, 1]);
    }

    #[test]
    fn of_two_batches_that_contradict_each_other_the_one_that_changes_nothing_is_believed() {
        assert_eq!(believed(&[(2, 1), (1, 1), (2, 5)]), [2, 2], "the second batch of a log, too low");
        assert_eq!(believed(&[(2, 5), (4, 1), (2, 1), (4, 7)]), [2, 2, 4], "the last but one of an epoch");
        assert_eq!(believed(&[(2, 5), (4, 1), (3, 1), (4, 7)]), [2, 4, 4], "the second of an epoch");
    }
}
