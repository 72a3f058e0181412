//! Which leader epoch began where.

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
