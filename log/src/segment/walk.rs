//! Goes from batch to batch by their headers.

use std::io;
use std::ops::Range;

use millstream_protocol::records::{BatchHeader, HEADER_BYTES};

use super::prove::Damage;
use crate::disk::{DiskFile, Patience};

/// What is read at a time where batches are small and many headers lie in it; where they are large, the
/// header alone is read.
const WINDOW_BYTES: usize = 8 * 1024;

/// Why a walk ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WalkError {
    /// No batch begins at `position`, though one should.
    #[error("no record batch begins at position {position}")]
    Corrupt { position: u64 },
    /// Batches from here on cannot be proven.
    #[error("the batches with offsets {} to {} are damaged", .0.offsets.start, .0.offsets.end)]
    Damaged(Damage),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Walks the batches of a file; checks that headers make sense and batches are whole, not their CRC.
#[derive(Debug)]
pub(crate) struct HeaderWalk<'a> {
    file: &'a dyn DiskFile,
    rest: Range<u64>,
    window: Vec<u8>,
    window_at: u64,
    /// How much to read next.
    window_bytes: usize,
    patience: Patience,
}

impl<'a> HeaderWalk<'a> {
    pub(crate) fn new(file: &'a dyn DiskFile, range: Range<u64>) -> Self {
        let (window_at, patience) = (range.start, Patience::Waits);
        Self { file, rest: range, window: Vec::new(), window_at, window_bytes: HEADER_BYTES, patience }
    }

    /// The same, with this patience.
    pub(crate) fn with(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// The next batch and where it lies.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, BatchHeader)>, WalkError> {
        let position = self.rest.start;
        if position >= self.rest.end {
            return Ok(None);
        }
        let corrupt = WalkError::Corrupt { position };
        let Some(bytes) = self.header_bytes()? else { return Err(corrupt) };
        let Ok(header) = BatchHeader::decode(bytes) else { return Err(corrupt) };
        let next = position + header.size_in_bytes() as u64;
        if header.size_in_bytes() < HEADER_BYTES || next > self.rest.end || header.last_offset_delta < 0 {
            return Err(corrupt);
        }
        self.rest.start = next;
        let is_small = header.size_in_bytes() < WINDOW_BYTES / 2;
        self.window_bytes = if is_small { WINDOW_BYTES } else { HEADER_BYTES };
        Ok(Some((position, header)))
    }

    fn header_bytes(&mut self) -> io::Result<Option<&[u8]>> {
        let held = self.window_at..self.window_at + self.window.len() as u64;
        let wanted = self.rest.start..self.rest.start + HEADER_BYTES as u64;
        if wanted.start < held.start || wanted.end > held.end {
            let left = self.rest.end - self.rest.start;
            let bytes = usize::try_from(left).map_or(self.window_bytes, |left| left.min(self.window_bytes));
            self.window.resize(bytes, 0);
            let read = self.patience.read_at(self.file, &mut self.window, self.rest.start)?;
            self.window.truncate(read);
            self.window_at = self.rest.start;
        }
        let from = usize::try_from(self.rest.start - self.window_at).expect("within the window");
        Ok(self.window.get(from..from + HEADER_BYTES))
    }
}
