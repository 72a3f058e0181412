//! Reading: finds the bytes to send, and records by their time. Takes none of the log's locks.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::{Chunk, FileSlice};

use super::{Log, ReadError};
use crate::disk::{DiskFile, Patience};
use crate::ids::Offset;
use crate::segment::{FileKind, Segment, Slice, TimestampedOffset, WalkError, Wanted};
use crate::segment_list::Based;

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
}

/// Batches as they lie on disk; the last may be cut short.
#[derive(Debug)]
pub struct ReadSlice {
    /// The batches; `None` if there is nothing to read yet, or nothing that fits.
    pub records: Option<Chunk>,
    /// Their length.
    pub bytes: usize,
    /// Where they come from, if they may have left memory.
    cold: Option<(Arc<dyn DiskFile>, u64)>,
}

impl ReadSlice {
    const EMPTY: Self = Self { records: None, bytes: 0, cold: None };

    /// Whether sending it will, as far as can be told, not wait for the device.
    #[must_use]
    pub fn is_resident(&self) -> bool {
        self.cold.as_ref().is_none_or(|(file, position)| file.is_resident(*position, self.bytes))
    }

    /// Brings it into memory. Blocks on the disk.
    ///
    /// # Errors
    /// When the device cannot read it.
    pub fn bring_in(&self) -> io::Result<()> {
        self.cold.as_ref().map_or(Ok(()), |(file, position)| file.bring_in(*position, self.bytes))
    }
}

impl Log {
    /// Finds batches to send, from one segment and never beyond the high watermark. The slice holds its
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
        if from.offset < held.start || from.offset > held.end {
            return Err(ReadError::OutOfRange { offset: from.offset, held });
        }
        if from.offset >= offsets.high_watermark {
            return Ok(ReadSlice::EMPTY);
        }
        let wanted = Wanted {
            from: from.offset,
            below: offsets.high_watermark,
            max_bytes: from.max_bytes,
            whole_first: from.first_batch == FirstBatch::Whole,
            patience,
        };
        let mut segment = self.segments.holding(from.offset);
        while let Some(here) = segment {
            match here.slice(wanted) {
                Ok(Some(slice)) => {
                    return read_slice(&here, slice).map_err(|error| self.explain(error, from.offset, &here));
                }
                // A hole, or the end of the segment.
                Ok(None) => segment = self.segments.beyond(here.base()),
                Err(error) => return Err(self.explain(error, from.offset, &here)),
            }
        }
        // Its segment may have been deleted since the offsets were looked at.
        let held = self.offsets().log_start..offsets.log_end;
        if from.offset < held.start {
            return Err(ReadError::OutOfRange { offset: from.offset, held });
        }
        Ok(ReadSlice::EMPTY)
    }

    /// The first record whose time is at least `timestamp`. May read and decompress a batch.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<TimestampedOffset>, ReadError> {
        let visible = self.visible()?;
        for segment in self.segments.all().iter() {
            let found = segment.find_time(timestamp, &visible);
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
        let visible = self.visible()?;
        let mut newest: Option<TimestampedOffset> = None;
        for segment in self.segments.all().iter() {
            let best = newest.map_or(-1, |newest| newest.timestamp);
            if segment.index().mark().newest.timestamp > best {
                let found = segment.find_newest(&visible);
                let found = found.map_err(|error| self.explain(error, visible.start, segment))?;
                newest = found.filter(|found| found.timestamp > best).or(newest);
            }
        }
        Ok(newest)
    }

    fn visible(&self) -> Result<Range<Offset>, ReadError> {
        match self.tail.is_closed() {
            true => Err(ReadError::Closed),
            false => {
                let offsets = self.tail.offsets();
                Ok(offsets.log_start..offsets.high_watermark)
            }
        }
    }

    /// Segments are deleted and cut under the eyes of readers; what that looks like is no damage.
    fn explain(&self, error: WalkError, offset: Offset, segment: &Segment) -> ReadError {
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
            WalkError::Corrupt { position } => {
                ReadError::Corrupt { offset, file: segment.path(FileKind::Log), position }
            }
            WalkError::Io(error) => ReadError::Io(error),
        }
    }
}

fn read_slice(segment: &Segment, slice: Slice) -> Result<ReadSlice, WalkError> {
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
            let read = file.read_at(&mut bytes, slice.position)?;
            bytes.truncate(read);
            Chunk::Bytes(Bytes::from(bytes))
        }
    };
    let cold = (!slice.recent).then(|| (Arc::clone(file), slice.position));
    Ok(ReadSlice { bytes: records.len(), records: Some(records), cold })
}
