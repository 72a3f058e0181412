//! What a program writes: a place that keeps a result and its positions together.

use std::error::Error;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::projection::positions::Positions;
use crate::record::ConsumerRecord;

/// A place that keeps a result together with the positions that it was made from.
///
/// All three methods may block the thread for as long as a local database does; a slower one is asked through
/// its asynchronous client, or the projection is run on a runtime of its own.
pub trait Sink: Send {
    /// What goes wrong.
    type Error: Into<Box<dyn Error + Send + Sync>>;

    /// Where the result stands. Empty if there is none: reading starts at the first record. Called once, before
    /// anything else.
    fn load(&mut self) -> impl Future<Output = Result<Positions, Self::Error>> + Send;

    /// Applies the records of a batch, and stores the positions that the result then has, both or neither.
    /// `positions` has every partition, also those that the batch has nothing of. The batch is empty if only
    /// positions have moved, behind the marker of a transaction for example.
    ///
    /// An error, or a panic, ends the projection, and names the record that was looked at last. When the
    /// projection is dropped while it waits here, the call ends at one of its awaits and must have stored
    /// nothing, or all.
    fn apply(
        &mut self,
        batch: &Batch,
        positions: &Positions,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Throws the result and its positions away, both or neither: everything will be read again.
    fn reset(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// The projection ends without an error: what was put off, if anything, is due. Most have nothing to do.
    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        async { Ok(()) }
    }
}

/// Records to apply, of any of the partitions, in the order of each.
#[derive(Debug, Default)]
pub struct Batch {
    records: Vec<ConsumerRecord>,
    /// How many of them have been looked at.
    seen: AtomicUsize,
}

impl Batch {
    /// For tests of a [`Sink`].
    #[must_use]
    pub fn new(records: Vec<ConsumerRecord>) -> Self {
        Self { records, seen: AtomicUsize::new(0) }
    }

    /// The records, one after the other. Whatever goes wrong is put down to the one that was handed out last.
    pub fn iter(&self) -> impl Iterator<Item = &ConsumerRecord> {
        self.records.iter().enumerate().map(|(at, record)| {
            self.seen.store(at + 1, Ordering::Relaxed);
            record
        })
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none: only positions have moved.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The record that was looked at last; the first if none was.
    pub(crate) fn suspect(&self) -> Option<&ConsumerRecord> {
        self.records.get(self.seen.load(Ordering::Relaxed).saturating_sub(1))
    }
}
