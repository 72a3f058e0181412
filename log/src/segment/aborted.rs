//! Which transactions were aborted by markers in a segment: what a reader of committed records has to skip.
//!
//! `<base>.txnindex`, Kafka's format: an entry of 34 bytes for each, in the order of the markers. There is no file
//! for a segment in which nothing was aborted. Big-endian:
//!
//! ```text
//!  at  bytes
//!   0      2  version, 0
//!   2      8  producer id
//!  10      8  first offset of the transaction, which may lie in an earlier segment
//!  18      8  offset of its marker
//!  26      8  last stable offset once it had ended
//! ```
//!
//! New entries stay in memory until the flusher spills them. The file is never synced and never trusted: snapshots
//! say how many entries it has and what they sum up to, and what does not fit is made anew from the log.

use std::io::{self, IoSlice};
use std::ops::Range;

use millstream_protocol::records::crc32c;

use super::{FileKind, Segment};
use crate::disk::{IfMissing, Patience};
use crate::ids::{Offset, ProducerId};
use crate::partition::Aborted;
use crate::sync::Mutex;
use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering::{Acquire, Release};

const ENTRY_BYTES: usize = 34;
const VERSION: i16 = 0;

/// A transaction whose records do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose it was. What this producer wrote from `first_offset` up to its next marker does not count.
    pub producer: ProducerId,
    /// Its first record.
    pub first_offset: Offset,
}

/// How many entries there are, and what they sum up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AbortedMark {
    pub(crate) entries: u32,
    /// Of each entry and the sum before it; 0 without entries.
    pub(crate) sum: u32,
}

impl AbortedMark {
    fn add(&mut self, entry: &[u8; ENTRY_BYTES]) {
        let mut summed = [0; 4 + ENTRY_BYTES];
        summed[..4].copy_from_slice(&self.sum.to_be_bytes());
        summed[4..].copy_from_slice(entry);
        self.entries += 1;
        self.sum = crc32c(&summed);
    }

    fn of(entries: &[Aborted]) -> Self {
        let mut mark = Self::default();
        entries.iter().for_each(|entry| mark.add(&encode(entry)));
        mark
    }

    fn bytes(self) -> u64 {
        u64::from(self.entries) * ENTRY_BYTES as u64
    }
}

fn encode(entry: &Aborted) -> [u8; ENTRY_BYTES] {
    let mut bytes = [0; ENTRY_BYTES];
    bytes[..2].copy_from_slice(&VERSION.to_be_bytes());
    let numbers = [entry.producer.get(), entry.first.get(), entry.marker.get(), entry.last_stable.get()];
    for (at, number) in numbers.into_iter().enumerate() {
        bytes[2 + 8 * at..][..8].copy_from_slice(&number.to_be_bytes());
    }
    bytes
}

/// `None` if it is not an entry that we wrote.
fn decode(bytes: &[u8; ENTRY_BYTES]) -> Option<Aborted> {
    let number = |at: usize| i64::from_be_bytes(bytes[2 + 8 * at..][..8].try_into().expect("eight bytes"));
    let entry = Aborted {
        producer: ProducerId::new(number(0)),
        first: Offset::new(number(1)),
        marker: Offset::new(number(2)),
        last_stable: Offset::new(number(3)),
    };
    (bytes[..2] == VERSION.to_be_bytes() && entry.first < entry.marker).then_some(entry)
}

/// Why it cannot be said what was aborted.
#[derive(Debug)]
pub(crate) enum AbortedError {
    /// The file is not what was written: it has to be made anew.
    Lost,
    Io(io::Error),
}

impl From<io::Error> for AbortedError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

#[derive(Debug, Default)]
struct Entries {
    /// What is in the file.
    on_file: AbortedMark,
    /// The same in memory, if somebody needed it.
    loaded: Option<Vec<Aborted>>,
    /// What is not in the file yet.
    tail: Vec<Aborted>,
    /// All of them.
    mark: AbortedMark,
}

/// Those of one segment, in the order of their markers.
#[derive(Debug, Default)]
pub(crate) struct AbortedIndex {
    /// Read without the lock to find out that there are none.
    count: AtomicUsize,
    entries: Mutex<Entries>,
}

impl AbortedIndex {
    /// Goes on where `mark` was taken.
    pub(crate) fn resume(mark: AbortedMark) -> Self {
        let entries = Entries { on_file: mark, mark, ..Entries::default() };
        Self { count: AtomicUsize::new(mark.entries as usize), entries: Mutex::new(entries) }
    }

    pub(crate) fn mark(&self) -> AbortedMark {
        self.entries.lock().mark
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Acquire) == 0
    }

    /// Takes up what a marker in this segment aborted, before readers can see the marker.
    pub(crate) fn note(&self, aborted: &[Aborted]) {
        if aborted.is_empty() {
            return;
        }
        let mut entries = self.entries.lock();
        for entry in aborted {
            entries.mark.add(&encode(entry));
            entries.tail.push(*entry);
        }
        self.count.store(entries.mark.entries as usize, Release);
    }

    /// Finds those that have records in `range`, as far as their markers lie in this segment.
    pub(crate) fn collect(
        &self,
        segment: &Segment,
        (range, patience): (&Range<Offset>, Patience),
        found: &mut Vec<Aborted>,
    ) -> Result<(), AbortedError> {
        if self.is_empty() {
            return Ok(());
        }
        let would_block = || AbortedError::Io(io::ErrorKind::WouldBlock.into());
        let mut entries = match patience {
            Patience::Waits => self.entries.lock(),
            // Somebody may be at the file.
            Patience::Never => self.entries.try_lock().ok_or_else(would_block)?,
        };
        if entries.loaded.is_none() && entries.on_file.entries > 0 {
            if let Patience::Never = patience {
                return Err(would_block());
            }
            entries.loaded = Some(load(segment, entries.on_file)?);
        }
        for part in [entries.loaded.as_deref().unwrap_or_default(), &entries.tail] {
            let from = part.partition_point(|one| one.marker < range.start);
            found.extend(part[from..].iter().filter(|one| one.first < range.end));
        }
        Ok(())
    }

    /// The file was lost: takes what the log says of the markers that were in it, and writes it anew.
    pub(crate) fn restore(&self, segment: &Segment, mut found: Vec<Aborted>) -> io::Result<()> {
        let mut entries = self.entries.lock();
        if let Some(first) = entries.tail.first() {
            found.retain(|entry| entry.marker < first.marker);
        }
        write(segment, 0, &found)?;
        entries.on_file = AbortedMark::of(&found);
        let mut mark = entries.on_file;
        entries.tail.iter().for_each(|entry| mark.add(&encode(entry)));
        entries.mark = mark;
        entries.loaded = Some(found);
        self.count.store(mark.entries as usize, Release);
        Ok(())
    }

    /// Whether something is not in the file yet.
    pub(crate) fn is_pending(&self) -> bool {
        !self.is_empty() && !self.entries.lock().tail.is_empty()
    }

    /// Writes what is in memory behind what is in the file.
    pub(crate) fn spill(&self, segment: &Segment) -> io::Result<()> {
        let mut entries = self.entries.lock();
        let tail = std::mem::take(&mut entries.tail);
        if let Err(error) = write(segment, entries.on_file.bytes(), &tail) {
            entries.tail = tail;
            return Err(error);
        }
        let was_empty = entries.on_file.entries == 0;
        entries.on_file = entries.mark;
        match &mut entries.loaded {
            Some(loaded) => loaded.extend(tail),
            None if was_empty => entries.loaded = Some(tail),
            None => {}
        }
        Ok(())
    }

    /// Forgets what can be read from the file again.
    pub(super) fn let_go(&self) {
        if !self.is_empty() {
            self.entries.lock().loaded = None;
        }
    }

    /// Forgets everything, and empties the file if there is one.
    pub(crate) fn forget_file(&self, segment: &Segment) -> io::Result<()> {
        *self.entries.lock() = Entries::default();
        self.count.store(0, Release);
        self.cut_file(segment)
    }

    /// Cuts a file that is longer than what is known of it.
    pub(crate) fn cut_file(&self, segment: &Segment) -> io::Result<()> {
        let known = self.entries.lock().on_file.bytes();
        let path = segment.path(FileKind::TxnIndex);
        match segment.disk().file_bytes(&path) {
            Ok(_) if known == 0 => segment.disk().remove_file(&path),
            Ok(held) if held > known => segment.disk().open(&path, IfMissing::Fail)?.truncate(known),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn write(segment: &Segment, position: u64, entries: &[Aborted]) -> io::Result<()> {
    let bytes: Vec<u8> = entries.iter().flat_map(encode).collect();
    let file = segment.disk().open(&segment.path(FileKind::TxnIndex), IfMissing::Create)?;
    file.truncate(position.min(file.bytes()?))?;
    file.write_at(&mut [IoSlice::new(&bytes)], position).map(drop)
}

fn load(segment: &Segment, mark: AbortedMark) -> Result<Vec<Aborted>, AbortedError> {
    let file = match segment.disk().open(&segment.path(FileKind::TxnIndex), IfMissing::Fail) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(AbortedError::Lost),
        Err(error) => return Err(error.into()),
    };
    // Not by its mark: that is believed only once it was found right.
    if file.bytes()? < mark.bytes() {
        return Err(AbortedError::Lost);
    }
    let mut bytes = vec![0; usize::try_from(mark.bytes()).map_err(|_| AbortedError::Lost)?];
    let Ok(read) = file.read_at(&mut bytes, 0) else { return Err(AbortedError::Lost) };
    let (whole, rest) = bytes[..read].as_chunks::<ENTRY_BYTES>();
    let entries: Option<Vec<Aborted>> = whole.iter().map(decode).collect();
    let right = entries.filter(|entries| rest.is_empty() && AbortedMark::of(entries) == mark);
    right.ok_or(AbortedError::Lost)
}

#[cfg(test)]
mod tests;
