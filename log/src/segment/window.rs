//! A sliding part of a file, of bounded size, that goes on behind what the device cannot read.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use millstream_protocol::records::{Crc32c, crc32c};

use crate::disk::DiskFile;

/// What is held at a time.
pub(super) const WINDOW_BYTES: usize = 1 << 20;

/// What is read again on its own where a larger read failed: one bad sector must not hide its neighbours.
const PAGE_BYTES: u64 = 4096;

/// A file with more pages than this that cannot be read is not worth reading on.
const HOLES_MAX: usize = 256;

/// Where bytes are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Memory, as far as it has them.
    Memory,
    /// The device, whatever memory has.
    Device,
}

#[derive(Debug)]
pub(super) struct Window {
    file: Arc<dyn DiskFile>,
    pub(super) source: Source,
    /// Nothing is read from here on.
    end: u64,
    /// What is read at least, if there is as much.
    ahead: usize,
    held: Vec<u8>,
    held_at: u64,
    /// Pages that the device refused; they are held as zeros.
    holes: Vec<Range<u64>>,
}

impl Window {
    /// Reads `file` up to `end`, or its own end if that comes before.
    pub(super) fn new(file: Arc<dyn DiskFile>, end: u64, ahead: usize) -> io::Result<Self> {
        let end = end.min(file.bytes()?);
        let ahead = ahead.min(WINDOW_BYTES);
        let source = Source::Memory;
        Ok(Self { file, source, end, ahead, held: Vec::new(), held_at: 0, holes: Vec::new() })
    }

    /// Where the bytes end.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// So many bytes from `position` on, at most a window full; `None` if there are fewer.
    pub(super) fn hold(&mut self, position: u64, bytes: usize) -> io::Result<Option<&[u8]>> {
        let held = self.held_at..self.held_at + self.held.len() as u64;
        let wanted = position..position.saturating_add(bytes as u64);
        if wanted.end > self.end {
            return Ok(None);
        }
        if wanted.start < held.start || wanted.end > held.end {
            if held.contains(&position) {
                let passed = usize::try_from(position - held.start).expect("within the window");
                self.held.drain(..passed);
            } else {
                self.held.clear();
            }
            self.held_at = position;
            let had = self.held.len();
            let left = usize::try_from(self.end - position).unwrap_or(usize::MAX);
            self.held.resize(bytes.max(self.ahead).min(left), 0);
            let read = self.fill(had)?;
            self.held.truncate(had + read);
        }
        let from = usize::try_from(position - self.held_at).expect("within the window");
        Ok(self.held.get(from..from + bytes))
    }

    /// The CRC-32C of a range; `None` if a part of it is not there or cannot be read.
    pub(super) fn crc(&mut self, range: Range<u64>) -> io::Result<Option<u32>> {
        let bytes = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let crc = if bytes <= WINDOW_BYTES {
            self.hold(range.start, bytes)?.map(crc32c)
        } else {
            self.long_crc(range.clone())?
        };
        Ok(crc.filter(|_| self.is_readable(&range)))
    }

    fn long_crc(&mut self, range: Range<u64>) -> io::Result<Option<u32>> {
        let mut crc = Crc32c::default();
        let mut at = range.start;
        while at < range.end {
            let bytes = usize::try_from(range.end - at).map_or(WINDOW_BYTES, |left| left.min(WINDOW_BYTES));
            let Some(piece) = self.hold(at, bytes)? else { return Ok(None) };
            crc.update(piece);
            at += bytes as u64;
        }
        Ok(Some(crc.finish()))
    }

    /// Whether the device gave all of a range that was read.
    pub(super) fn is_readable(&self, range: &Range<u64>) -> bool {
        !self.holes.iter().any(|hole| hole.start < range.end && range.start < hole.end)
    }

    /// Reads what is not held yet, from `held[had..]` on.
    fn fill(&mut self, had: usize) -> io::Result<usize> {
        let position = self.held_at + had as u64;
        match read_at(&*self.file, self.source, &mut self.held[had..], position) {
            Ok(read) => Ok(read),
            Err(_) => self.fill_by_page(had),
        }
    }

    fn fill_by_page(&mut self, had: usize) -> io::Result<usize> {
        let mut at = had;
        while at < self.held.len() {
            let position = self.held_at + at as u64;
            let in_page = usize::try_from(PAGE_BYTES - position % PAGE_BYTES).expect("a page is small");
            let to = (at + in_page).min(self.held.len());
            match read_at(&*self.file, self.source, &mut self.held[at..to], position) {
                Ok(read) if read < to - at => return Ok(at + read - had),
                Ok(_) => {}
                Err(error) if self.holes.len() >= HOLES_MAX => return Err(error),
                Err(_) => {
                    self.held[at..to].fill(0);
                    self.note_hole(position..self.held_at + to as u64);
                }
            }
            at = to;
        }
        Ok(at - had)
    }

    /// Whether the device gave all that was asked for.
    pub(super) fn has_read_all(&self) -> bool {
        self.holes.is_empty()
    }

    fn note_hole(&mut self, hole: Range<u64>) {
        if !self.holes.contains(&hole) {
            self.holes.push(hole);
        }
    }
}

fn read_at(file: &dyn DiskFile, source: Source, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    match source {
        Source::Memory => file.read_at(buffer, position),
        Source::Device => file.read_device_at(buffer, position),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk, IfMissing, SimDisk};

    #[test]
    fn a_range_larger_than_the_window_is_summed_up_in_pieces() {
        let path = std::path::Path::new("/f");
        let file = SimDisk::new().open(path, IfMissing::Create).unwrap();
        let bytes: Vec<u8> = (0..3 * WINDOW_BYTES).map(|at| at.to_le_bytes()[1]).collect();
        file.write_at(&mut [io::IoSlice::new(&bytes)], 0).unwrap();
        let mut window = Window::new(file, u64::MAX, 4096).unwrap();
        assert_eq!(window.end(), bytes.len() as u64);
        let whole = 7..bytes.len() as u64;
        assert_eq!(window.crc(whole).unwrap(), Some(crc32c(&bytes[7..])));
        assert!(window.held.len() <= WINDOW_BYTES);
        assert_eq!(window.hold(100, 61).unwrap(), Some(&bytes[100..161]), "back again");
        assert_eq!(window.hold(bytes.len() as u64 - 60, 61).unwrap(), None);
    }
}
