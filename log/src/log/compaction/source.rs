//! Reads a sealed segment from end to end, a batch at a time, and believes no byte without its checksum.

use std::io;
use std::sync::Arc;

use millstream_protocol::records::{BatchView, HEADER_BYTES};

use crate::disk::DiskFile;
use crate::ids::Offset;
use crate::segment::Segment;
use crate::segment_list::Based;

/// What is read at a time, unless a batch is larger.
const READ_BYTES: usize = if cfg!(test) { 1 << 10 } else { 1 << 20 };

/// What comes next in a segment.
#[derive(Debug)]
pub(super) enum Next<'a> {
    Batch {
        position: u64,
        batch: BatchView<'a>,
    },
    End,
    /// No batch that can be trusted begins here.
    Damaged,
}

/// Where a segment is read, and how far.
pub(super) struct BatchSource<'a> {
    file: Arc<dyn DiskFile>,
    /// Position in the file of what `buffer[used..filled]` holds.
    at: u64,
    end: u64,
    /// The least offset that the next batch may have; the only one, if there can be no gaps.
    next_offset: Offset,
    end_offset: Offset,
    has_gaps: bool,
    buffer: &'a mut Vec<u8>,
    used: usize,
    filled: usize,
}

impl<'a> BatchSource<'a> {
    /// Reads a segment, through memory that is used again.
    pub(super) fn new(segment: &Segment, buffer: &'a mut Vec<u8>) -> io::Result<Self> {
        let extent = segment.extent();
        Ok(Self {
            file: segment.file()?,
            at: 0,
            end: extent.bytes,
            next_offset: segment.base(),
            end_offset: extent.end,
            has_gaps: segment.past().is_compacted,
            buffer,
            used: 0,
            filled: 0,
        })
    }

    /// The next batch. After damage nothing more is read.
    pub(super) fn next(&mut self) -> io::Result<Next<'_>> {
        let position = self.at;
        if position >= self.end {
            return Ok(Next::End);
        }
        let Some(bytes) = self.whole_batch()? else {
            self.at = self.end;
            return Ok(Next::Damaged);
        };
        let start = self.used;
        self.used += bytes;
        self.at += bytes as u64;
        let held = &self.buffer[start..start + bytes];
        // The checksum does not cover the offset.
        let (next, end, has_gaps) = (self.next_offset.get(), self.end_offset.get(), self.has_gaps);
        let follows = |batch: &BatchView<'_>| {
            let base = batch.base_offset();
            (base == next || (has_gaps && base > next))
                && batch.last_offset_delta() >= 0
                && batch.last_offset() < end
        };
        match BatchView::parse(held).ok().filter(BatchView::crc_is_valid).filter(follows) {
            Some(batch) => {
                self.next_offset = Offset::new(batch.last_offset().saturating_add(1));
                Ok(Next::Batch { position, batch })
            }
            None => {
                self.at = self.end;
                Ok(Next::Damaged)
            }
        }
    }

    /// Makes sure that a whole batch is held, and says how long it is; `None` if none can be there.
    fn whole_batch(&mut self) -> io::Result<Option<usize>> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        if left < HEADER_BYTES || !self.hold(HEADER_BYTES)? {
            return Ok(None);
        }
        let header = &self.buffer[self.used..self.used + HEADER_BYTES];
        let Ok(header) = millstream_protocol::records::BatchHeader::decode(header) else { return Ok(None) };
        let bytes = header.size_in_bytes();
        Ok((bytes <= left && self.hold(bytes)?).then_some(bytes))
    }

    /// Makes sure that so many bytes are held, if the file has them.
    fn hold(&mut self, bytes: usize) -> io::Result<bool> {
        if self.filled - self.used >= bytes {
            return Ok(true);
        }
        self.buffer.copy_within(self.used..self.filled, 0);
        self.filled -= self.used;
        self.used = 0;
        let wanted = bytes.max(READ_BYTES);
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let until = self.buffer.len().min(left);
        let from = self.at + self.filled as u64;
        self.filled += self.file.read_at(&mut self.buffer[self.filled..until], from)?;
        Ok(self.filled >= bytes)
    }
}
