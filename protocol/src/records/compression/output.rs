//! Where decompressed bytes go: one growing buffer with a limit.

use std::fmt::Display;
use std::io::Read;

use super::Compression;
use crate::records::BatchError;

/// Below this, growing by doubling costs more than it saves.
const ROOM_MIN: usize = 64 * 1024;

/// A thread keeps a buffer of up to this size; what a larger batch took is given back.
const KEPT_MAX: usize = 1024 * 1024;

/// Why decompression stopped.
#[derive(Debug)]
pub(super) enum Failure {
    TooLarge,
    Damaged(String),
}

impl Failure {
    pub(super) fn damaged(detail: impl Display) -> Self {
        Self::Damaged(detail.to_string())
    }

    pub(super) fn into_error(self, compression: Compression, limit: usize) -> BatchError {
        match self {
            Self::TooLarge => BatchError::TooLarge { limit },
            Self::Damaged(detail) => BatchError::Decompression { compression, detail },
        }
    }
}

/// Decompressed bytes so far. The buffer behind them is always initialised, so that a thread which reuses it
/// does not clear it again for each batch.
#[derive(Debug)]
pub(super) struct Output {
    buffer: Vec<u8>,
    filled: usize,
    limit: usize,
}

impl Output {
    pub(super) fn new(buffer: Vec<u8>, limit: usize) -> Self {
        Self { buffer, filled: 0, limit }
    }

    pub(super) fn filled(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    pub(super) fn into_buffer(mut self) -> Vec<u8> {
        if self.buffer.len() > KEPT_MAX {
            self.buffer = Vec::new();
        }
        self.buffer
    }

    /// Room for at least `wanted` bytes more, but never beyond the limit: it may be shorter, or empty.
    pub(super) fn room(&mut self, wanted: usize) -> &mut [u8] {
        let end = self.filled.saturating_add(wanted.max(ROOM_MIN)).min(self.limit);
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        // The kept buffer may be longer than this batch's limit.
        let end = self.buffer.len().min(self.limit);
        &mut self.buffer[self.filled..end]
    }

    /// Counts bytes that were written to the room.
    pub(super) fn advance(&mut self, count: usize) {
        self.filled += count;
        debug_assert!(self.filled <= self.limit, "the room ends at the limit");
    }

    /// After `capacity` bytes of room were not enough: whether more would be within the limit.
    pub(super) fn check_room_after(&self, capacity: usize) -> Result<(), Failure> {
        if self.filled.saturating_add(capacity) >= self.limit {
            return Err(Failure::TooLarge);
        }
        Ok(())
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let room = self.room(bytes.len());
        let Some(room) = room.get_mut(..bytes.len()) else { return Err(Failure::TooLarge) };
        room.copy_from_slice(bytes);
        self.advance(bytes.len());
        Ok(())
    }

    /// Reads to the end, or to one byte beyond the limit.
    pub(super) fn read_all(&mut self, reader: &mut impl Read) -> Result<(), Failure> {
        loop {
            let grown = self.filled;
            let room = self.room(grown);
            if room.is_empty() {
                return match reader.read(&mut [0]).map_err(Failure::damaged)? {
                    0 => Ok(()),
                    _ => Err(Failure::TooLarge),
                };
            }
            match reader.read(room).map_err(Failure::damaged)? {
                0 => return Ok(()),
                count => self.advance(count),
            }
        }
    }
}
