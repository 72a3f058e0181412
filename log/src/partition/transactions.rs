//! Transactions, as far as a partition knows of them: which are open, how far readers of committed records may
//! go, and whether a marker may end one.
//!
//! A transaction is open here from its first batch to its marker. What lies behind the first batch of an open
//! one is not stable: nobody can say yet whether it counts.

use std::collections::BTreeMap;

use millstream_protocol::records::TransactionOutcome;

use crate::ids::{Offset, ProducerId};

/// What a log knew of a producer's transactions when it was asked. A batch that was let in because of it is
/// refused if a marker came meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionGuard {
    /// Counts how often the log was reopened.
    pub(crate) generation: u64,
    pub(crate) mark: Mark,
    /// The producer's last epoch.
    pub(crate) epoch: Option<i16>,
    pub(crate) is_open: bool,
}

impl TransactionGuard {
    /// Whether the log holds an open transaction of this producer.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Whether the log holds an open transaction of this epoch.
    #[must_use]
    pub fn is_open_at(&self, epoch: i16) -> bool {
        self.is_open && self.epoch == Some(epoch)
    }

    /// Whether the log would have taken a batch of this epoch then, whatever its sequence: none that is older
    /// than what was written last, and none that goes on with a transaction under another epoch.
    #[must_use]
    pub fn admits(&self, epoch: i16) -> bool {
        self.epoch.is_none_or(|last| epoch == last || (epoch > last && !self.is_open))
    }
}

/// Where the sequences of a producer may begin of which a partition knows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstSequence {
    /// Anywhere: what it wrote before may be forgotten.
    Any,
    /// At zero: it has a new epoch for each transaction (KIP-890), so a gap is a batch that was lost.
    Zero,
}

/// A batch that belongs to a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InTransaction {
    /// What the log knew when the coordinator was asked whether there is such a transaction.
    pub guard: TransactionGuard,
    /// Where the producer may begin.
    pub first_sequence: FirstSequence,
}

/// Which epochs of its producer a marker must not be older than.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochRule {
    /// It may have the one that wrote last: a producer keeps its epoch from transaction to transaction.
    NotOlder,
    /// It must be newer: a producer has a new epoch after each transaction (KIP-890), and a marker that was held
    /// up cannot end the next one.
    Newer,
}

/// Ends a producer's transaction in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Whose transaction.
    pub producer: ProducerId,
    /// The epoch that the producer has from here on.
    pub epoch: i16,
    /// Epoch of the coordinator that decided.
    pub coordinator_epoch: i32,
    /// What it decided.
    pub outcome: TransactionOutcome,
    /// Which epochs it may end.
    pub rule: EpochRule,
    /// It is written only if no other marker of the producer came since.
    pub only_if: Option<TransactionGuard>,
}

/// A transaction whose end a partition does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenTransaction {
    /// Whose it is.
    pub producer: ProducerId,
    /// The epoch of its last batch.
    pub epoch: i16,
    /// Its first record.
    pub first_offset: Offset,
    /// When the producer wrote last, by the broker's clock, in milliseconds.
    pub last_ms: i64,
    /// What was known when this was asked.
    pub guard: TransactionGuard,
}

/// Counts the markers that came for a producer, those that were not written included. Only this process's:
/// what it is compared with is never older.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark(u64);

impl Mark {
    pub(crate) fn advance(&mut self) {
        self.0 += 1;
    }
}

/// A transaction that was aborted, as readers have to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aborted {
    pub(crate) producer: ProducerId,
    /// Its first record.
    pub(crate) first: Offset,
    /// Its marker.
    pub(crate) marker: Offset,
    /// How far all was stable once it had ended.
    pub(crate) last_stable: Offset,
}

/// A transaction whose marker was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ended {
    first: Offset,
    marker: Offset,
}

/// The transactions of a partition that keep it from being stable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unstable {
    /// Those that are open, by their first offset.
    open: BTreeMap<Offset, ProducerId>,
    /// Those whose marker readers cannot see yet, in the order of the markers.
    ended: Vec<Ended>,
}

impl Unstable {
    /// The first offset of which nobody can say whether it counts.
    pub(super) fn first(&self) -> Option<Offset> {
        let ended = self.ended.iter().map(|ended| ended.first).min();
        let open = self.open.first_key_value().map(|(first, _)| *first);
        [open, ended].into_iter().flatten().min()
    }

    pub(super) fn begin(&mut self, producer: ProducerId, first: Offset) {
        let before = self.open.insert(first, producer);
        assert!(before.is_none(), "two transactions begin at {first}");
    }

    /// The transaction that began at `first` ends with this marker.
    pub(super) fn end(&mut self, first: Offset, marker: Offset) {
        assert!(self.open.remove(&first).is_some(), "no open transaction begins at {first}");
        self.ended.push(Ended { first, marker });
    }

    /// Readers see what lies below `high_watermark`.
    pub(super) fn show(&mut self, high_watermark: Offset) {
        self.ended.retain(|ended| ended.marker >= high_watermark);
    }

    /// The first offset of which it could not be said whether it counts if all that ended could be seen.
    pub(super) fn first_open(&self) -> Option<Offset> {
        self.open.first_key_value().map(|(first, _)| *first)
    }

    /// The open ones, oldest first.
    pub(super) fn open(&self) -> impl Iterator<Item = (Offset, ProducerId)> + '_ {
        self.open.iter().map(|(first, producer)| (*first, *producer))
    }
}

#[cfg(test)]
mod tests;
