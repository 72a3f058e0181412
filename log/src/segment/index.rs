//! The sparse indexes of a segment, in Kafka's formats. Big-endian:
//!
//! ```text
//! .index      at  bytes
//!              0      4  last offset of a batch, less the segment's base
//!              4      4  position of that batch in the .log
//! .timeindex   0      8  the largest timestamp of the segment so far
//!              8      4  last offset of the first batch that has it, less the segment's base
//! ```
//!
//! A batch gets an entry if it begins more than `index.interval.bytes` behind the last one that has an
//! entry, or behind the start. The time index gets one along with it, if time has moved on, and a last one
//! when the segment is sealed. Both are in ascending order.
//!
//! New entries stay in memory until the flusher spills them; none costs a system call of its own. The files
//! are never synced and never trusted: an answer is checked against the batch it points to, the distance
//! walked from there tells whether entries are missing, and what does not fit is rebuilt from the log.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use crate::sync::Mutex;

use super::{FileKind, PROVE_AHEAD, Piece, Placed, Segment, WalkError};
use crate::disk::{DiskFile, IfMissing, Patience};
use crate::ids::Offset;
use crate::partition::{EpochHistory, NO_TIMESTAMP};
use crate::segment_list::Based;

pub(crate) const OFFSET_ENTRY_BYTES: usize = 8;
pub(crate) const TIME_ENTRY_BYTES: usize = 12;

/// Entries that a lookup reads at once.
const PAGE_ENTRIES: u32 = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    pub(crate) offset: u32,
    pub(crate) position: u32,
}

impl OffsetEntry {
    fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.offset.to_be_bytes());
        out.extend_from_slice(&self.position.to_be_bytes());
    }

    fn decode(bytes: &[u8; OFFSET_ENTRY_BYTES]) -> Self {
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        Self { offset: number(0), position: number(4) }
    }
}

/// Where an offset lies between entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Around {
    pub(super) at_or_below: Option<OffsetEntry>,
    pub(super) next: Option<OffsetEntry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    pub(crate) timestamp: i64,
    pub(crate) offset: u32,
}

impl TimeEntry {
    fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.offset.to_be_bytes());
    }

    fn decode(bytes: &[u8; TIME_ENTRY_BYTES]) -> Self {
        let (timestamp, offset) = bytes.split_at(8);
        Self {
            timestamp: i64::from_be_bytes(timestamp.try_into().expect("eight bytes")),
            offset: u32::from_be_bytes(offset.try_into().expect("four bytes")),
        }
    }
}

/// The largest timestamp so far, and the last offset of the first batch that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeMark {
    pub(crate) timestamp: i64,
    pub(crate) offset: u32,
}

impl TimeMark {
    const NONE: Self = Self { timestamp: NO_TIMESTAMP, offset: 0 };
}

/// How far the indexes have come; enough to go on from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexMark {
    pub(crate) offset_entries: u32,
    pub(crate) time_entries: u32,
    /// Position of the last batch that has an entry; 0 if none has.
    pub(crate) last_position: u32,
    /// Timestamp of the last time entry.
    pub(crate) last_time: i64,
    pub(crate) newest: TimeMark,
}

impl IndexMark {
    pub(crate) const EMPTY: Self = Self {
        offset_entries: 0,
        time_entries: 0,
        last_position: 0,
        last_time: NO_TIMESTAMP,
        newest: TimeMark::NONE,
    };
}

/// Entries that are not in the files yet, and how many are.
#[derive(Debug)]
struct Entries {
    offsets: Vec<OffsetEntry>,
    times: Vec<TimeEntry>,
    offsets_on_disk: u32,
    times_on_disk: u32,
    last_position: u32,
    last_time: i64,
    newest: TimeMark,
}

impl Entries {
    fn at(mark: IndexMark) -> Self {
        Self {
            offsets: Vec::new(),
            times: Vec::new(),
            offsets_on_disk: mark.offset_entries,
            times_on_disk: mark.time_entries,
            last_position: mark.last_position,
            last_time: mark.last_time,
            newest: mark.newest,
        }
    }

    fn note(&mut self, base: Offset, interval: u64, batch: &Placed) {
        let offset = u32::try_from(batch.last_offset.get() - base.get()).expect("the writer rolls before");
        let position = u32::try_from(batch.position).expect("a segment is smaller than 2 GiB");
        if batch.max_timestamp > self.newest.timestamp {
            self.newest = TimeMark { timestamp: batch.max_timestamp, offset };
        }
        if u64::from(position.saturating_sub(self.last_position)) > interval {
            self.offsets.push(OffsetEntry { offset, position });
            self.last_position = position;
            self.note_time();
        }
    }

    fn note_time(&mut self) {
        let TimeMark { timestamp, offset } = self.newest;
        if timestamp > self.last_time {
            self.times.push(TimeEntry { timestamp, offset });
            self.last_time = timestamp;
        }
    }

    fn mark(&self) -> IndexMark {
        let count =
            |on_disk: u32, pending: usize| on_disk + u32::try_from(pending).expect("bounded by the segment");
        IndexMark {
            offset_entries: count(self.offsets_on_disk, self.offsets.len()),
            time_entries: count(self.times_on_disk, self.times.len()),
            last_position: self.last_position,
            last_time: self.last_time,
            newest: self.newest,
        }
    }
}

/// Handles of the two files, opened when they are first needed. Whoever writes them holds this lock; it is
/// taken before the one on the entries.
#[derive(Debug, Default)]
struct Files {
    offsets: Option<Arc<dyn DiskFile>>,
    times: Option<Arc<dyn DiskFile>>,
    /// Nothing will be written to them any more.
    finished: bool,
}

impl Files {
    fn get(&mut self, segment: &Segment, kind: FileKind) -> io::Result<Arc<dyn DiskFile>> {
        let handle = match kind {
            FileKind::TimeIndex => &mut self.times,
            FileKind::Index
            | FileKind::TxnIndex
            | FileKind::Log
            | FileKind::Snapshot
            | FileKind::Start
            | FileKind::Gaps => &mut self.offsets,
        };
        if let Some(file) = handle {
            return Ok(Arc::clone(file));
        }
        let file = segment.disk().open(&segment.path(kind), IfMissing::Create)?;
        *handle = Some(Arc::clone(&file));
        Ok(file)
    }
}

/// Both indexes of one segment.
#[derive(Debug)]
pub(crate) struct SegmentIndex {
    base: Offset,
    interval: u64,
    /// Held for a few instructions at a time, by the writer once a turn and by readers off the tail.
    entries: Mutex<Entries>,
    files: Mutex<Files>,
    /// Rebuilding once is repair; twice would be a loop.
    rebuilt: AtomicBool,
}

impl SegmentIndex {
    pub(crate) fn new(base: Offset, interval: u64) -> Self {
        Self::resume(base, interval, IndexMark::EMPTY)
    }

    /// Goes on where `mark` was taken.
    pub(crate) fn resume(base: Offset, interval: u64, mark: IndexMark) -> Self {
        let entries = Mutex::new(Entries::at(mark));
        Self { base, interval, entries, files: Mutex::default(), rebuilt: AtomicBool::new(false) }
    }

    pub(crate) fn interval(&self) -> u64 {
        self.interval
    }

    pub(crate) fn may_be_rebuilt(&self) -> bool {
        !self.rebuilt.load(Relaxed)
    }

    /// Takes up batches that follow each other.
    pub(crate) fn note(&self, batches: &[Placed]) {
        let mut entries = self.entries.lock();
        for batch in batches {
            entries.note(self.base, self.interval, batch);
        }
    }

    /// The segment takes no more batches: the time index gets its last entry.
    pub(crate) fn seal(&self) {
        self.entries.lock().note_time();
    }

    pub(crate) fn mark(&self) -> IndexMark {
        self.entries.lock().mark()
    }

    pub(crate) fn offset_index_bytes(&self) -> u64 {
        u64::from(self.mark().offset_entries) * OFFSET_ENTRY_BYTES as u64
    }

    pub(crate) fn pending(&self) -> usize {
        let entries = self.entries.lock();
        entries.offsets.len() + entries.times.len()
    }

    /// The last entry at or below `offset`, and the one behind it.
    pub(super) fn around(&self, segment: &Segment, offset: Offset, patience: Patience) -> io::Result<Around> {
        let target = u32::try_from((offset.get() - self.base.get()).max(0)).unwrap_or(u32::MAX);
        self.split(segment, patience, |entry| entry.offset <= target)
    }

    /// The last beginning of a batch that has an entry, at or below `position`. Looks at the disk only if
    /// `patience` is given.
    pub(super) fn boundary(
        &self,
        segment: &Segment,
        position: u64,
        patience: Option<Patience>,
    ) -> io::Result<Option<u64>> {
        let is_before = |entry: &OffsetEntry| u64::from(entry.position) <= position;
        let entry = match patience {
            Some(patience) => self.split(segment, patience, is_before)?.at_or_below,
            None => {
                let entries = self.entries.lock();
                let behind = entries.offsets.partition_point(is_before);
                behind.checked_sub(1).map(|at| entries.offsets[at])
            }
        };
        Ok(entry.map(|entry| u64::from(entry.position)))
    }

    /// The offset behind what lies before `position`, or behind a little more; `None` if no entry tells.
    pub(super) fn offset_at(
        &self,
        segment: &Segment,
        position: u64,
        patience: Patience,
    ) -> io::Result<Option<Offset>> {
        let around = self.split(segment, patience, |entry| u64::from(entry.position) < position)?;
        Ok(around.next.map(|entry| self.base.advance(i64::from(entry.offset))))
    }

    fn split(
        &self,
        segment: &Segment,
        patience: Patience,
        is_before: impl Fn(&OffsetEntry) -> bool,
    ) -> io::Result<Around> {
        let (on_disk, first_in_memory) = {
            let entries = self.entries.lock();
            let behind = entries.offsets.partition_point(&is_before);
            let next = entries.offsets.get(behind).copied();
            if behind > 0 {
                return Ok(Around { at_or_below: Some(entries.offsets[behind - 1]), next });
            }
            (entries.offsets_on_disk, next)
        };
        if on_disk == 0 {
            return Ok(Around { at_or_below: None, next: first_in_memory });
        }
        // Who makes the index anew holds the lock for as long as that takes.
        let mut files = match patience {
            Patience::Waits => self.files.lock(),
            Patience::Never => self.files.try_lock().ok_or(io::ErrorKind::WouldBlock)?,
        };
        let file = files.get(segment, FileKind::Index)?;
        drop(files);
        let (at_or_below, next) =
            split_on_disk(&*file, on_disk, patience, |bytes| is_before(&OffsetEntry::decode(bytes)))?;
        Ok(Around {
            at_or_below: at_or_below.map(|bytes| OffsetEntry::decode(&bytes)),
            next: next.map(|bytes| OffsetEntry::decode(&bytes)).or(first_in_memory),
        })
    }

    /// The last entry whose time is at most `timestamp`.
    pub(super) fn time_floor(&self, segment: &Segment, timestamp: i64) -> io::Result<Option<TimeEntry>> {
        let on_disk = {
            let entries = self.entries.lock();
            let behind = entries.times.partition_point(|entry| entry.timestamp <= timestamp);
            if behind > 0 {
                return Ok(Some(entries.times[behind - 1]));
            }
            entries.times_on_disk
        };
        if on_disk == 0 {
            return Ok(None);
        }
        let file = self.files.lock().get(segment, FileKind::TimeIndex)?;
        let is_before = |bytes: &_| TimeEntry::decode(bytes).timestamp <= timestamp;
        let (floor, _) = split_on_disk(&*file, on_disk, Patience::Waits, is_before)?;
        Ok(floor.map(|bytes| TimeEntry::decode(&bytes)))
    }

    /// Writes what is in memory behind what is in the files.
    pub(crate) fn spill(&self, segment: &Segment) -> io::Result<()> {
        let mut files = self.files.lock();
        let (offsets, times, offsets_on_disk, times_on_disk) = {
            let entries = self.entries.lock();
            let (mut offsets, mut times) = (Vec::new(), Vec::new());
            entries.offsets.iter().for_each(|entry| entry.encode(&mut offsets));
            entries.times.iter().for_each(|entry| entry.encode(&mut times));
            (offsets, times, entries.offsets_on_disk, entries.times_on_disk)
        };
        for (kind, bytes, position) in [
            (FileKind::Index, &offsets, u64::from(offsets_on_disk) * OFFSET_ENTRY_BYTES as u64),
            (FileKind::TimeIndex, &times, u64::from(times_on_disk) * TIME_ENTRY_BYTES as u64),
        ] {
            if !bytes.is_empty() {
                files.get(segment, kind)?.write_at(&mut [IoSlice::new(bytes)], position)?;
            }
        }
        let mut entries = self.entries.lock();
        let written = offsets.len() / OFFSET_ENTRY_BYTES;
        entries.offsets.drain(..written);
        entries.offsets_on_disk += u32::try_from(written).expect("bounded by the segment");
        let written = times.len() / TIME_ENTRY_BYTES;
        entries.times.drain(..written);
        entries.times_on_disk += u32::try_from(written).expect("bounded by the segment");
        if entries.offsets.is_empty() && entries.times.is_empty() {
            entries.offsets = Vec::new();
            entries.times = Vec::new();
        }
        Ok(())
    }

    /// Closes the files of a sealed segment and makes sure that both exist: Kafka's tools expect them.
    pub(crate) fn finish(&self, segment: &Segment) -> io::Result<()> {
        let mut files = self.files.lock();
        if !files.finished {
            files.get(segment, FileKind::Index)?;
            files.get(segment, FileKind::TimeIndex)?;
            *files = Files { finished: true, ..Files::default() };
        }
        Ok(())
    }

    /// Closes the files, unless somebody is at them.
    pub(super) fn close_files(&self) {
        if let Some(mut files) = self.files.try_lock() {
            (files.offsets, files.times) = (None, None);
        }
    }

    /// Opens both files and keeps them open.
    pub(crate) fn hold_files(&self, segment: &Segment) -> io::Result<()> {
        let mut files = self.files.lock();
        files.get(segment, FileKind::Index)?;
        files.get(segment, FileKind::TimeIndex).map(drop)
    }

    /// Cuts files that are longer than what is known of them: an unclean end left entries of batches that
    /// are gone, or of batches that are walked again.
    pub(crate) fn cut_files(&self, segment: &Segment) -> io::Result<()> {
        let mark = self.mark();
        let mut files = self.files.lock();
        for (kind, bytes) in [
            (FileKind::Index, u64::from(mark.offset_entries) * OFFSET_ENTRY_BYTES as u64),
            (FileKind::TimeIndex, u64::from(mark.time_entries) * TIME_ENTRY_BYTES as u64),
        ] {
            match segment.disk().file_bytes(&segment.path(kind)) {
                Ok(held) if held > bytes => files.get(segment, kind)?.truncate(bytes)?,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether the files hold as many entries as is known of them.
    pub(crate) fn files_are_whole(&self, segment: &Segment) -> io::Result<bool> {
        let mark = self.mark();
        let holds = |kind, bytes: u64| match segment.disk().file_bytes(&segment.path(kind)) {
            Ok(held) => Ok(held >= bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(bytes == 0),
            Err(error) => Err(error),
        };
        Ok(holds(FileKind::Index, u64::from(mark.offset_entries) * OFFSET_ENTRY_BYTES as u64)?
            && holds(FileKind::TimeIndex, u64::from(mark.time_entries) * TIME_ENTRY_BYTES as u64)?)
    }

    /// Forgets everything and empties the files, if there are any.
    pub(crate) fn forget_files(&self, segment: &Segment) -> io::Result<()> {
        *self.entries.lock() = Entries::at(IndexMark::EMPTY);
        self.cut_files(segment)
    }

    /// Forgets everything and goes through the segment as it is now. Nobody may append meanwhile.
    pub(crate) fn start_over(&self, segment: &Segment, epochs: &EpochHistory) -> Result<(), WalkError> {
        self.forget_files(segment)?;
        let mut proving = segment.proven_from(segment.base(), epochs, PROVE_AHEAD)?;
        while let Some(piece) = proving.piece()? {
            if let Piece::Batch(batch, _) = piece {
                self.note(&[batch]);
            }
        }
        Ok(())
    }

    /// Makes the files anew from the log. Entries that are still in memory are right, so only what lies
    /// before them is walked; batches may be appended meanwhile. What is damaged gets no entry.
    pub(super) fn rebuild(&self, segment: &Segment, epochs: &EpochHistory) -> Result<(), WalkError> {
        let mut files = self.files.lock();
        if self.rebuilt.swap(true, Relaxed) {
            return Ok(());
        }
        let bytes = segment.extent().bytes;
        let (end, has_no_times) = {
            let entries = self.entries.lock();
            let first = entries.offsets.first().map(|entry| u64::from(entry.position));
            (first.unwrap_or(bytes), entries.times.is_empty())
        };
        tracing::warn!(segment = %segment.path(FileKind::Log).display(), "an index does not fit its log; it is rebuilt");
        let mut anew = Entries::at(IndexMark::EMPTY);
        let mut proving = segment.proven_from(segment.base(), epochs, PROVE_AHEAD)?;
        while let Some(piece) = proving.piece()? {
            match piece {
                Piece::Batch(batch, _) if batch.position >= end => break,
                Piece::Batch(batch, _) => anew.note(self.base, self.interval, &batch),
                Piece::Damage(_) => {}
            }
        }
        if has_no_times {
            anew.note_time();
        }
        let (mut offsets, mut times) = (Vec::new(), Vec::new());
        anew.offsets.iter().for_each(|entry| entry.encode(&mut offsets));
        anew.times.iter().for_each(|entry| entry.encode(&mut times));
        for (kind, bytes) in [(FileKind::Index, &offsets), (FileKind::TimeIndex, &times)] {
            let file = files.get(segment, kind)?;
            file.truncate(0)?;
            file.write_at(&mut [IoSlice::new(bytes)], 0)?;
        }
        let mark = anew.mark();
        let mut entries = self.entries.lock();
        entries.offsets_on_disk = mark.offset_entries;
        entries.times_on_disk = mark.time_entries;
        entries.last_time = entries.last_time.max(mark.last_time);
        Ok(())
    }
}

/// The last of `count` entries that is before something, and the first that is not, if it lies near. Those
/// that are before are a prefix. Entries that are not there, because the file is too short, are not before.
fn split_on_disk<const BYTES: usize>(
    file: &dyn DiskFile,
    count: u32,
    patience: Patience,
    is_before: impl Fn(&[u8; BYTES]) -> bool,
) -> io::Result<(Option<[u8; BYTES]>, Option<[u8; BYTES]>)> {
    let (mut low, mut high) = (0, count);
    while high - low > PAGE_ENTRIES {
        let middle = low + (high - low) / 2;
        let mut bytes = [0; BYTES];
        let whole = patience.read_at(file, &mut bytes, u64::from(middle) * BYTES as u64)? == BYTES;
        match whole && is_before(&bytes) {
            true => low = middle,
            false => high = middle,
        }
    }
    let mut page = vec![0; (high - low) as usize * BYTES];
    let read = patience.read_at(file, &mut page, u64::from(low) * BYTES as u64)?;
    let (entries, _) = page[..read].as_chunks::<BYTES>();
    let behind = entries.partition_point(is_before);
    Ok((behind.checked_sub(1).map(|at| entries[at]), entries.get(behind).copied()))
}
