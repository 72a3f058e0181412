//! Reads a segment batch by batch and believes nothing.

use std::io;

use millstream_protocol::records::{BatchHeader, BatchView, HEADER_BYTES};

use crate::disk::DiskFile;
use crate::partition::Partition;
use crate::segment::{Placed, Segment};

/// What is read at a time, unless a batch is larger.
const READ_BYTES: usize = 1 << 20;

/// Where a scan reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Memory, as far as it has it.
    Memory,
    /// The device, whatever memory has.
    Device,
}

/// How a scan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScanEnd {
    /// With the file.
    Clean { position: u64 },
    /// Before bytes that are not the batch that should follow.
    Bad { position: u64 },
}

/// Takes up the batches from `position` on, in the segment's index and in the partition's state, as long
/// as each is whole, has its CRC, and follows the one before: a valid batch in the wrong place is damage too.
pub(super) fn scan(
    segment: &Segment,
    (position, source): (u64, Source),
    partition: &mut Partition,
    now_ms: i64,
) -> io::Result<ScanEnd> {
    let file = segment.file()?;
    let end = file.bytes()?;
    let mut window = Window { file: &**file, source, end, at: position, held: Vec::new(), used: 0 };
    loop {
        let position = window.at;
        if position >= window.end {
            return Ok(ScanEnd::Clean { position });
        }
        let Some(header) = window.next_batch()? else { return Ok(ScanEnd::Bad { position }) };
        let base_offset = partition.log_end();
        let placed = Placed::new(&header, base_offset, position);
        let fits = header.base_offset == base_offset.get() && segment.can_index(placed.last_offset);
        if !fits || window.end > crate::segment::SEGMENT_BYTES_MAX {
            return Ok(ScanEnd::Bad { position });
        }
        partition.replay(&header, now_ms);
        segment.note(&[placed]);
        // Our clock may have jumped since: a batch's own time, where it has one, says more of when it came.
        let written_ms = if header.max_timestamp < 0 { now_ms } else { header.max_timestamp.min(now_ms) };
        segment.note_appended_by(written_ms);
        window.consume(placed.bytes);
    }
}

/// A sliding part of the file.
struct Window<'a> {
    file: &'a dyn DiskFile,
    source: Source,
    end: u64,
    /// Position in the file of the next batch; `held[used..]` are the bytes from there.
    at: u64,
    held: Vec<u8>,
    used: usize,
}

impl Window<'_> {
    /// Makes sure that `bytes` from `at` on are held. The caller has checked that the file has them.
    fn hold(&mut self, bytes: usize) -> io::Result<bool> {
        if self.held.len() - self.used >= bytes {
            return Ok(true);
        }
        self.held.drain(..self.used);
        self.used = 0;
        let had = self.held.len();
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        self.held.resize(bytes.max(READ_BYTES).min(left), 0);
        let (behind, position) = (&mut self.held[had..], self.at + had as u64);
        let read = match self.source {
            Source::Memory => self.file.read_at(behind, position)?,
            Source::Device => self.file.read_device_at(behind, position)?,
        };
        self.held.truncate(had + read);
        Ok(self.held.len() >= bytes)
    }

    /// The header of a whole batch with a valid CRC, or `None`.
    fn next_batch(&mut self) -> io::Result<Option<BatchHeader>> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        if left < HEADER_BYTES || !self.hold(HEADER_BYTES)? {
            return Ok(None);
        }
        let Ok(header) = BatchHeader::decode(&self.held[self.used..]) else { return Ok(None) };
        if header.size_in_bytes() > left || header.last_offset_delta < 0 || header.base_offset < 0 {
            return Ok(None);
        }
        if !self.hold(header.size_in_bytes())? {
            return Ok(None);
        }
        let batch = BatchView::parse(&self.held[self.used..]);
        Ok(batch.ok().filter(BatchView::crc_is_valid).map(|batch| batch.header()))
    }

    fn consume(&mut self, bytes: usize) {
        self.used += bytes;
        self.at += bytes as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_larger_than_the_window_is_held_whole() {
        let disk = crate::disk::SimDisk::new();
        let path = std::path::Path::new("/f");
        let file = crate::disk::Disk::open(&disk, path, crate::disk::IfMissing::Create).unwrap();
        let bytes: Vec<u8> = (0..3 * READ_BYTES).map(|at| at.to_le_bytes()[0]).collect();
        file.write_at(&mut [io::IoSlice::new(&bytes)], 0).unwrap();
        let source = Source::Memory;
        let mut window =
            Window { file: &*file, source, end: bytes.len() as u64, at: 7, held: Vec::new(), used: 0 };
        assert!(window.hold(2 * READ_BYTES).unwrap());
        assert_eq!(window.held[..2 * READ_BYTES], bytes[7..7 + 2 * READ_BYTES]);
        window.consume(READ_BYTES + 1);
        assert!(window.hold(READ_BYTES).unwrap());
        assert_eq!(window.held[window.used], bytes[7 + READ_BYTES + 1]);
    }
}
