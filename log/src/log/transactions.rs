//! Transactions of a log: what is open, the markers that end it, and what readers have to know of those that were
//! aborted.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use millstream_protocol::records::{BatchView, EndMarker};

use super::writing::{Acks, Done, Left, Queued, What};
use super::{Log, ReadError};
use crate::disk::Patience;
use crate::ids::{Offset, ProducerId};
use crate::partition::{Aborted, Marker, OpenTransaction, Partition, TransactionGuard};
use crate::segment::{AbortedError, AbortedTransaction, PROVE_AHEAD, Piece, Segment, Slice, Wanted};
use crate::segment_list::Based;
use crate::sync::atomic::Ordering::{Acquire, Release};

/// So many entries are told though they may lie behind what is read; more are looked at more closely.
const UNSIFTED_MAX: usize = 16;

impl Log {
    /// What is known of a producer's transactions. Ask before the coordinator is asked whether there is one: a
    /// batch that is appended with this guard is refused if a marker came after it was taken.
    #[must_use]
    pub fn transaction_guard(&self, producer: ProducerId) -> TransactionGuard {
        let writer = self.writer.lock();
        writer.partition().guard(producer, self.generation.load(Acquire))
    }

    /// The transactions whose end is not known, the oldest first.
    #[must_use]
    pub fn open_transactions(&self) -> Vec<OpenTransaction> {
        let offsets = self.offsets();
        if offsets.last_stable == offsets.high_watermark {
            // Asked of every log again and again: where all is stable there is none that anybody can see.
            return Vec::new();
        }
        let writer = self.writer.lock();
        writer.partition().open_transactions(self.generation.load(Acquire))
    }

    /// Queues a marker, as `append` does a batch. `done` is called when it is durable; a marker that ends what
    /// this producer's last marker has ended already is not written again, and answered when that one is durable.
    pub fn append_marker(self: &Arc<Self>, marker: Marker, done: Done) -> Option<Left> {
        let Marker { producer, epoch, coordinator_epoch, outcome, .. } = marker;
        let says = EndMarker { outcome, coordinator_epoch };
        let batch = says.to_batch(producer.get(), epoch, self.clock.now_ms());
        let header = BatchView::parse(&batch).expect("it was just made").header();
        let what = What::Marker(Box::new(marker));
        self.enqueue(Queued { batch, header, acks: Acks::Durable, what, done })
    }

    /// Remembers that something was aborted in a segment: only then readers have to look.
    pub(super) fn note_aborted_in<'a>(&self, mut segments: impl Iterator<Item = &'a Arc<Segment>>) {
        if segments.any(|segment| !segment.aborted().is_empty()) {
            self.has_aborted.store(true, Release);
        }
    }

    /// What does not count of a slice of the first of these segments, which go on to the end of the log.
    pub(super) fn aborted_in(
        &self,
        segments: &[Arc<Segment>],
        slice: Slice,
        wanted: Wanted,
    ) -> Result<Vec<AbortedTransaction>, ReadError> {
        if !self.has_aborted.load(Acquire) || slice.bytes == 0 {
            return Ok(Vec::new());
        }
        let here = &segments[0];
        let range = wanted.from..here.extent().end.min(wanted.below);
        let mut found = self.aborted(segments, (&range, wanted.patience))?;
        if found.len() > UNSIFTED_MAX {
            let behind = here.offset_behind(slice, wanted.patience);
            found.retain(|one| one.first < behind);
        }
        let told = found.into_iter();
        Ok(told.map(|one| AbortedTransaction { producer: one.producer, first_offset: one.first }).collect())
    }

    /// Which transactions with records in `range` were aborted, as markers in these segments say.
    pub(super) fn aborted(
        &self,
        segments: &[Arc<Segment>],
        (range, patience): (&Range<Offset>, Patience),
    ) -> io::Result<Vec<Aborted>> {
        let mut found = Vec::new();
        for segment in segments {
            match segment.aborted().collect(segment, (range, patience), &mut found) {
                Ok(()) => {}
                Err(AbortedError::Io(error)) => return Err(error),
                Err(AbortedError::Lost) => {
                    self.find_aborted(segment)?;
                    let again = segment.aborted().collect(segment, (range, patience), &mut found);
                    again.map_err(|error| match error {
                        AbortedError::Io(error) => error,
                        AbortedError::Lost => io::Error::other("an index was lost while it was made anew"),
                    })?;
                }
            }
        }
        Ok(found)
    }

    /// Makes a segment's index of aborted transactions anew. Where a transaction begins only the batches from the
    /// log's start on can tell.
    fn find_aborted(&self, segment: &Segment) -> io::Result<()> {
        tracing::warn!(
            dir = %self.dir.display(), base = %segment.base(),
            "an index of aborted transactions does not fit its log; it is rebuilt"
        );
        let epochs = self.epochs.get();
        let all = self.segments.all();
        let mut partition = Partition::starting_at(all[0].base());
        let mut found = Vec::new();
        for walked in all.iter().filter(|walked| walked.base() <= segment.base()) {
            found.clear();
            let walked = if walked.base() == segment.base() { segment } else { walked };
            let mut proving = walked.proven_from(walked.base(), &epochs, PROVE_AHEAD)?;
            while let Some(piece) = proving.piece()? {
                if let Piece::Batch(batch, header) = piece
                    && batch.base_offset >= partition.log_end()
                {
                    found.extend(partition.replay(&header, proving.marker(), self.clock.latest_ms()));
                }
            }
        }
        segment.aborted().restore(segment, found)
    }
}
