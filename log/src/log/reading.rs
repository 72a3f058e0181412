//! Reading: finds the bytes to send, and records by their time. Takes none of the log's locks.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::{Chunk, FileSlice};

use super::{Log, ReadError};
use crate::disk::{DiskFile, Patience};
use crate::ids::Offset;
use crate::partition::SharedEpochs;
use crate::segment::{
    AbortedTransaction, Damage, DamageCause, FileKind, FileName, Segment, Slice, TimestampedOffset,
    WalkError, Wanted,
};
use crate::segment_list::{self, Based};
use crate::tail::Isolation;

/// Whether the first batch may exceed the size asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstBatch {
    /// It is returned whole, whatever its size: a consumer must get on.
    Whole,
    /// Nothing is returned if it does not fit.
    IfItFits,
}

/// What to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadFrom {
    /// The first offset wanted; the slice starts with the batch that holds it.
    pub offset: Offset,
    /// Bytes at most.
    pub max_bytes: usize,
    /// Whether the first batch may exceed that.
    pub first_batch: FirstBatch,
    /// How far it may go, and whether it has to be known what was aborted.
    pub isolation: Isolation,
}

/// Batches as they lie on disk; the last may be cut short.
#[derive(Debug)]
pub struct ReadSlice {
    /// The batches; `None` if there is nothing to read yet, or nothing that fits.
    pub records: Option<Chunk>,
    /// Their length.
    pub bytes: usize,
    /// What does not count of them; only where that was asked for.
    aborted: Vec<AbortedTransaction>,
    /// Where they come from, if they may have left memory.
    cold: Option<Cold>,
}

/// Where a slice lies, so that it can be looked at again.
#[derive(Debug)]
struct Cold {
    segment: Arc<Segment>,
    file: Arc<dyn DiskFile>,
    epochs: Arc<SharedEpochs>,
    slice: Slice,
    /// What it was found by.
    from: Offset,
}

impl ReadSlice {
    const EMPTY: Self = Self { records: None, bytes: 0, aborted: Vec::new(), cold: None };

    /// The transactions that have records in here, or may have, and were aborted, in the order in which they
    /// ended. Empty for [`Isolation::ReadUncommitted`].
    #[must_use]
    pub fn aborted(&self) -> &[AbortedTransaction] {
        &self.aborted
    }

    /// Whether sending it will, as far as can be told, not wait for the device.
    #[must_use]
    pub fn is_resident(&self) -> bool {
        self.cold.as_ref().is_none_or(|cold| cold.file.is_resident(cold.slice.position, self.bytes))
    }

    /// Brings it into memory, and verifies it again: what comes from the device now need not be what came
    /// from there before. Blocks on the disk.
    ///
    /// # Errors
    /// When the device cannot read it, or it is damaged.
    pub fn bring_in(&self) -> io::Result<()> {
        let Some(Cold { segment, file, epochs, slice, from }) = &self.cold else { return Ok(()) };
        file.bring_in(slice.position, self.bytes)?;
        segment.prove_again(*slice, *from, &epochs.get()).map_err(|error| match error {
            WalkError::Io(error) => error,
            damaged @ (WalkError::Corrupt { .. } | WalkError::Damaged(_)) => io::Error::other(damaged),
        })
    }
}

impl Log {
    /// Finds batches to send, from one segment and never beyond what the isolation lets see. The slice holds its
    /// file: it stays readable when the segment is deleted.
    ///
    /// # Errors
    /// When the offset is not in the log, or its bytes cannot be read.
    pub fn read(&self, from: ReadFrom) -> Result<ReadSlice, ReadError> {
        self.find(from, Patience::Waits)
    }

    /// The same without waiting: `None` if finding the batches would have to wait for the device, or for an
    /// index to be rebuilt; then `read` has to be called where blocking is allowed. Says nothing of the
    /// batches themselves, see [`ReadSlice::is_resident`].
    ///
    /// # Errors
    /// As for `read`.
    pub fn try_read(&self, from: ReadFrom) -> Result<Option<ReadSlice>, ReadError> {
        match self.find(from, Patience::Never) {
            Ok(slice) => Ok(Some(slice)),
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn find(&self, from: ReadFrom, patience: Patience) -> Result<ReadSlice, ReadError> {
        if self.tail.is_closed() {
            return Err(ReadError::Closed);
        }
        // The offsets before the segments: what is published lies in a segment that is listed.
        let offsets = self.tail.offsets();
        let held = offsets.log_start..offsets.log_end;
        if from.offset > held.end && self.is_failed() {
            // It is being reopened: the epoch will tell.
            return Err(ReadError::Io(Self::was_cut()));
        }
        if from.offset < held.start || from.offset > held.end {
            return Err(ReadError::OutOfRange { offset: from.offset, held });
        }
        let below = offsets.visible_to(from.isolation);
        if from.offset >= below {
            return Ok(ReadSlice::EMPTY);
        }
        let wanted = Wanted {
            from: from.offset,
            below,
            max_bytes: from.max_bytes,
            whole_first: from.first_batch == FirstBatch::Whole,
            patience,
        };
        // What lies before the first segment, or between two, is lost.
        // One list from here on: compaction replaces batches and what is known of them together.
        let segments = self.segments.now();
        let Some(mut rest) = segment_list::from(&segments, from.offset) else {
            return Err(self.missing(from.offset, offsets.log_start));
        };
        while let Some((here, beyond)) = rest.split_first() {
            self.use_files(here);
            match here.slice(wanted, &self.epochs) {
                Ok(Some(slice)) => {
                    let found = self.read_slice(here, slice, wanted);
                    let mut found = found.map_err(|error| self.explain(error.into(), from.offset, here))?;
                    if from.isolation == Isolation::ReadCommitted {
                        found.aborted = self.aborted_in(rest, slice, wanted)?;
                    }
                    return Ok(found);
                }
                Ok(None) => {}
                Err(error) => return Err(self.explain(error, from.offset, here)),
            }
            let end = here.extent().end;
            if beyond.first().is_some_and(|next| from.offset >= end && from.offset < next.base()) {
                return Err(self.missing(from.offset, end));
            }
            // Compaction left nothing from here to the end of the segment.
            rest = beyond;
        }
        // The end of the log, or of what may be seen. Its segment may have been deleted since the offsets were
        // looked at.
        match from.offset < self.offsets().log_start {
            true => Err(self.missing(from.offset, offsets.log_end)),
            false => Ok(ReadSlice::EMPTY),
        }
    }

    fn read_slice(&self, segment: &Arc<Segment>, slice: Slice, wanted: Wanted) -> io::Result<ReadSlice> {
        if slice.bytes == 0 {
            return Ok(ReadSlice::EMPTY);
        }
        let file = segment.file()?;
        let records = match file.as_file() {
            Some(file) => {
                Chunk::File(FileSlice { file: Arc::clone(file), offset: slice.position, length: slice.bytes })
            }
            None => {
                let mut bytes = vec![0; slice.bytes];
                let patience = if slice.recent { Patience::Waits } else { wanted.patience };
                let read = patience.read_at(&*file, &mut bytes, slice.position)?;
                bytes.truncate(read);
                Chunk::Bytes(Bytes::from(bytes))
            }
        };
        let cold = (!slice.recent).then(|| Cold {
            segment: Arc::clone(segment),
            file: Arc::clone(&file),
            epochs: Arc::clone(&self.epochs),
            slice,
            from: wanted.from,
        });
        Ok(ReadSlice { bytes: records.len(), records: Some(records), aborted: Vec::new(), cold })
    }

    /// The segment that should hold `offset` is gone; its name would begin with `base`.
    fn missing(&self, offset: Offset, base: Offset) -> ReadError {
        let offsets = self.tail.offsets();
        if offset < offsets.log_start {
            return ReadError::OutOfRange { offset, held: offsets.log_start..offsets.log_end };
        }
        if offset >= offsets.high_watermark {
            return ReadError::Io(Self::was_cut());
        }
        let next = self.segments.beyond(offset).map_or(offsets.log_end, |next| next.base());
        let file = self.dir.join(FileName { base, kind: FileKind::Log }.to_string());
        ReadError::Corrupt { offset, file, position: 0, lost: base..next }
    }

    /// The first record whose time is at least `timestamp`. May read and decompress a batch.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<TimestampedOffset>, ReadError> {
        let (visible, epochs) = (self.visible()?, self.epochs.get());
        for segment in self.segments.all().iter() {
            self.use_files(segment);
            let found = segment.find_time(timestamp, &visible, &epochs);
            if let Some(found) = found.map_err(|error| self.explain(error, visible.start, segment))? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The first of the records that have the largest time. May read and decompress a batch.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub fn max_timestamp(&self) -> Result<Option<TimestampedOffset>, ReadError> {
        let (visible, epochs) = (self.visible()?, self.epochs.get());
        let mut newest: Option<TimestampedOffset> = None;
        for segment in self.segments.all().iter() {
            let best = newest.map_or(-1, |newest| newest.timestamp);
            if segment.index().mark().newest.timestamp > best {
                self.use_files(segment);
                let found = segment.find_newest(&visible, &epochs);
                let found = found.map_err(|error| self.explain(error, visible.start, segment))?;
                newest = found.filter(|found| found.timestamp > best).or(newest);
            }
        }
        Ok(newest)
    }

    pub(super) fn visible(&self) -> Result<Range<Offset>, ReadError> {
        match self.tail.is_closed() {
            true => Err(ReadError::Closed),
            false => {
                let offsets = self.tail.offsets();
                Ok(offsets.log_start..offsets.high_watermark)
            }
        }
    }

    /// Segments are deleted and cut under the eyes of readers; what that looks like is no damage.
    pub(super) fn explain(&self, error: WalkError, offset: Offset, segment: &Segment) -> ReadError {
        let offsets = self.tail.offsets();
        if self.tail.is_closed() {
            return ReadError::Closed;
        }
        if offset < offsets.log_start {
            return ReadError::OutOfRange { offset, held: offsets.log_start..offsets.log_end };
        }
        let is_doubtful = || self.is_failed() && offset >= self.durability.lock().point();
        if offset >= offsets.high_watermark || is_doubtful() {
            return ReadError::Io(Self::was_cut());
        }
        match error {
            WalkError::Damaged(Damage { positions, offsets, cause: DamageCause::Rotten }) => {
                let file = segment.path(FileKind::Log);
                ReadError::Corrupt { offset, file, position: positions.start, lost: offsets }
            }
            WalkError::Damaged(Damage { positions, offsets, cause: DamageCause::Unreadable }) => {
                let file = segment.path(FileKind::Log);
                ReadError::Io(io::Error::other(format!(
                    "the device cannot read {} from position {} on; offsets {} to {} are not available, all \
                     others are",
                    file.display(),
                    positions.start,
                    offsets.start,
                    offsets.end
                )))
            }
            WalkError::Corrupt { position } => {
                let lost = offset..offset.advance(1);
                ReadError::Corrupt { offset, file: segment.path(FileKind::Log), position, lost }
            }
            WalkError::Io(error) => ReadError::Io(error),
        }
    }
}
