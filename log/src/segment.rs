//! One segment: a run of batches in one file, and the indexes into it.
//!
//! ```text
//! 00000000000000001337.log        batches, one behind the other, exactly as they travel (protocol::records)
//! 00000000000000001337.index      offset to position, sparse   (segment::index)
//! 00000000000000001337.timeindex  time to offset, sparse       (segment::index)
//! ```
//!
//! The name is the first offset that can be in it, so that a folder sorts into the order of the log. All
//! three are Kafka's own formats. One writer appends; readers never wait for it: what they may read is
//! published in one atomic, after the bytes are written.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use millstream_protocol::records::BatchHeader;

use crate::disk::{Disk, DiskFile, IfMissing, Patience};
use crate::ids::Offset;
use crate::partition::NO_TIMESTAMP;
use crate::segment_list::Based;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicI64, AtomicU64};

mod index;
mod names;
mod recent;
mod times;
mod walk;

use index::OffsetEntry;
pub(crate) use index::{IndexMark, OFFSET_ENTRY_BYTES, SegmentIndex, TimeMark};
pub(crate) use names::{FileKind, FileName};
use recent::Recent;
pub use times::TimestampedOffset;
pub(crate) use walk::{HeaderWalk, WalkError};

/// No segment is larger: positions are 31 bits in the index.
pub(crate) const SEGMENT_BYTES_MAX: u64 = i32::MAX as u64;

/// A slice that begins so near to the end of the active segment is taken to be in memory.
const HOT_BYTES: u64 = 32 << 20;

/// Half of such a batch is more work to send for nothing than to look up where it begins.
const CUT_BYTES_MIN: u64 = 32 << 10;

/// Where a batch lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) position: u64,
    pub(crate) bytes: usize,
    pub(crate) base_offset: Offset,
    pub(crate) last_offset: Offset,
    pub(crate) max_timestamp: i64,
}

impl Placed {
    pub(crate) fn new(header: &BatchHeader, base_offset: Offset, position: u64) -> Self {
        Self {
            position,
            bytes: header.size_in_bytes(),
            base_offset,
            last_offset: base_offset.advance(i64::from(header.last_offset_delta)),
            max_timestamp: header.max_timestamp,
        }
    }
}

/// How much of a segment there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The offset behind the last batch.
    pub(crate) end: Offset,
    pub(crate) bytes: u64,
}

/// What is known of a segment beside its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Past {
    /// Compaction wrote it: its offsets may have gaps.
    pub(crate) is_compacted: bool,
    /// When a batch was appended to it last, by our clock; -1 if none was.
    pub(crate) appended_ms: i64,
}

impl Past {
    /// Of a segment to which nothing happened yet.
    pub(crate) const NONE: Self = Self { is_compacted: false, appended_ms: NO_TIMESTAMP };
}

/// What a reader wants of a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) from: Offset,
    /// Nothing at or beyond this offset is returned.
    pub(crate) below: Offset,
    pub(crate) max_bytes: usize,
    /// Whether the first batch may exceed `max_bytes`.
    pub(crate) whole_first: bool,
    /// Whether finding it may wait for the device.
    pub(crate) patience: Patience,
}

/// A range of a segment's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) position: u64,
    pub(crate) bytes: usize,
    /// It was written so recently that it is in memory.
    pub(crate) recent: bool,
}

#[derive(Debug)]
pub(crate) struct Segment {
    base: Offset,
    disk: Arc<dyn Disk>,
    dir: Arc<Path>,
    /// Opened when it is first needed: a log of a thousand segments holds few of them open.
    file: OnceLock<Arc<dyn DiskFile>>,
    /// What readers may see: (end offset - base) << 32 | bytes, so that one load gives both.
    extent: AtomicU64,
    /// The batches that were appended last.
    recent: OnceLock<Box<Recent>>,
    index: SegmentIndex,
    is_compacted: bool,
    /// When a batch was appended last, by our clock; -1 if none was.
    appended_ms: AtomicI64,
}

impl Based for Segment {
    fn base(&self) -> Offset {
        self.base
    }
}

impl Segment {
    /// A segment whose files are there, as far as `extent` says.
    pub(crate) fn existing(
        disk: &Arc<dyn Disk>,
        dir: &Arc<Path>,
        base: Offset,
        extent: Extent,
        index: SegmentIndex,
    ) -> Self {
        let segment = Self {
            base,
            disk: Arc::clone(disk),
            dir: Arc::clone(dir),
            file: OnceLock::new(),
            extent: AtomicU64::new(0),
            recent: OnceLock::new(),
            index,
            is_compacted: Past::NONE.is_compacted,
            appended_ms: AtomicI64::new(Past::NONE.appended_ms),
        };
        segment.set_extent(extent);
        segment
    }

    /// The same, with this past.
    pub(crate) fn with(self, past: Past) -> Self {
        let Past { is_compacted, appended_ms } = past;
        Self { is_compacted, appended_ms: AtomicI64::new(appended_ms), ..self }
    }

    /// What is known of it beside its batches.
    pub(crate) fn past(&self) -> Past {
        Past { is_compacted: self.is_compacted, appended_ms: self.appended_ms.load(Relaxed) }
    }

    /// A new, empty segment. Its name is not durable yet.
    pub(crate) fn create(
        disk: &Arc<dyn Disk>,
        dir: &Arc<Path>,
        base: Offset,
        index_interval: u64,
    ) -> io::Result<Self> {
        let extent = Extent { end: base, bytes: 0 };
        let segment = Self::existing(disk, dir, base, extent, SegmentIndex::new(base, index_interval));
        let file = disk.open(&segment.path(FileKind::Log), IfMissing::Create)?;
        // Recovery takes up or sets aside every file behind the end; this one would hold what nobody knows of.
        if file.bytes()? > 0 {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a segment of this name holds batches"));
        }
        segment.index.forget_files(&segment)?;
        // The handle is not kept: most partitions are idle.
        Ok(segment)
    }

    pub(crate) fn path(&self, kind: FileKind) -> PathBuf {
        self.dir.join(FileName { base: self.base, kind }.to_string())
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    pub(crate) fn index(&self) -> &SegmentIndex {
        &self.index
    }

    pub(crate) fn file(&self) -> io::Result<&Arc<dyn DiskFile>> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let file = self.disk.open(&self.path(FileKind::Log), IfMissing::Fail)?;
        // Somebody else may have opened it meanwhile; either handle will do.
        Ok(self.file.get_or_init(|| file))
    }

    pub(crate) fn extent(&self) -> Extent {
        let packed = self.extent.load(Acquire);
        let end = i64::try_from(packed >> 32).expect("32 bits");
        Extent { end: self.base.advance(end), bytes: packed & u64::from(u32::MAX) }
    }

    fn set_extent(&self, extent: Extent) {
        assert!(extent.bytes <= SEGMENT_BYTES_MAX, "a segment of {} bytes", extent.bytes);
        // The end of a sealed segment is the base of the next one, however far off that is.
        let offsets = u32::try_from(extent.end.get() - self.base.get()).unwrap_or(u32::MAX);
        self.extent.store(u64::from(offsets) << 32 | extent.bytes, Release);
    }

    /// Whether a batch that ends at `last` still has an offset that the index can hold.
    pub(crate) fn can_index(&self, last: Offset) -> bool {
        last.get() - self.base.get() <= i64::from(i32::MAX)
    }

    /// Writes batches at the end and shows them to readers that may see their offsets. Only the writer
    /// calls this. After an error the end of the file is unknown.
    pub(crate) fn append(
        &self,
        parts: &mut [IoSlice<'_>],
        batches: &[Placed],
        now_ms: i64,
    ) -> io::Result<()> {
        let Some(first) = batches.first() else { return Ok(()) };
        self.file()?.write_at(parts, first.position)?;
        self.appended_ms.store(now_ms, Relaxed);
        self.note(batches);
        Ok(())
    }

    /// Takes up batches that lie in the file.
    pub(crate) fn note(&self, batches: &[Placed]) {
        let (Some(first), Some(last)) = (batches.first(), batches.last()) else { return };
        self.index.note(batches);
        let recent = self.recent.get_or_init(|| Box::new(Recent::new(first.position)));
        for batch in batches {
            recent.push(self.relative(batch.base_offset), batch.position);
        }
        let bytes = last.position + last.bytes as u64;
        self.set_extent(Extent { end: last.last_offset.advance(1), bytes });
    }

    /// Batches that lie in the file were appended at this time at the latest, as far as can be told.
    pub(crate) fn note_appended_by(&self, ms: i64) {
        self.appended_ms.fetch_max(ms, Relaxed);
    }

    fn relative(&self, offset: Offset) -> u32 {
        u32::try_from(offset.get() - self.base.get())
            .expect("within 31 bits of the base: the writer rolls before")
    }

    /// Finds what a reader may have. `None` if the segment holds nothing from `wanted.from` on.
    pub(crate) fn slice(&self, wanted: Wanted) -> Result<Option<Slice>, WalkError> {
        let extent = self.extent();
        let limit = match wanted.below >= extent.end {
            true => extent.bytes,
            false => {
                let behind = self.locate(wanted.below, extent.bytes, wanted.patience)?;
                behind.map_or(extent.bytes, |found| found.position)
            }
        };
        let Some(first) = self.locate(wanted.from, extent.bytes, wanted.patience)? else { return Ok(None) };
        if first.position >= limit {
            return Ok(None);
        }
        let whole = limit - first.position;
        let max = wanted.max_bytes as u64;
        let first_bytes = first.bytes.min(whole);
        let bytes = if whole <= max {
            whole
        } else if first_bytes <= max {
            // A cut batch at the end is legal, but it is sent for nothing.
            let end = first.position + max;
            self.boundary(&first, end, wanted.patience).unwrap_or(end) - first.position
        } else if wanted.whole_first {
            first_bytes
        } else {
            0
        };
        let bytes = usize::try_from(bytes).expect("a segment fits in memory");
        Ok(Some(Slice { position: first.position, bytes, recent: first.recent }))
    }

    /// The last beginning of a batch at or below `end` and behind `first`, where that costs less than to send
    /// a part of a batch.
    fn boundary(&self, first: &Found, end: u64, patience: Patience) -> Option<u64> {
        let behind_first = first.position + first.bytes;
        let recent = self.recent.get().and_then(|recent| recent.boundary_at_or_below(end));
        if let Some(at) = recent.filter(|at| *at >= behind_first) {
            return Some(at);
        }
        let patience = (first.bytes >= CUT_BYTES_MIN).then_some(patience);
        // Whatever is wrong with the index, a slice without it is right.
        let at = self.index.boundary(self, end, patience).ok().flatten();
        at.filter(|at| *at >= behind_first)
    }

    /// The first batch that ends at or behind `offset`.
    fn locate(&self, offset: Offset, end: u64, patience: Patience) -> Result<Option<Found>, WalkError> {
        let target = u32::try_from((offset.get() - self.base.get()).max(0)).unwrap_or(u32::MAX);
        if let Some(found) = self.recent.get().and_then(|recent| recent.holding(target)) {
            // The newest batch has no successor: it ends where the segment does.
            if found.position >= end {
                return Ok(None);
            }
            let bytes = found.next.unwrap_or(end).min(end) - found.position;
            if found.next.is_some() || offset < self.extent().end {
                return Ok(Some(Found { position: found.position, bytes, recent: true }));
            }
            return Ok(None);
        }
        match self.search(offset, end, patience) {
            Err(SearchError::IndexIsWrong) if patience == Patience::Never => {
                Err(WalkError::Io(io::ErrorKind::WouldBlock.into()))
            }
            Err(SearchError::IndexIsWrong) => {
                self.index.rebuild(self)?;
                self.search(offset, end, patience).or_else(|error| match error {
                    SearchError::Walk(error) => Err(error),
                    SearchError::IndexIsWrong => self.walk_to(offset, 0, end),
                })
            }
            Err(SearchError::Walk(error)) => Err(error),
            Ok(found) => Ok(found),
        }
    }

    /// Looks up the index and walks from there, and notices when the index does not fit the log.
    fn search(&self, offset: Offset, end: u64, patience: Patience) -> Result<Option<Found>, SearchError> {
        let around = self.index.around(self, offset, patience)?;
        let entry = around.at_or_below;
        let start = entry.map_or(0, |entry| u64::from(entry.position));
        if let Some(next) = around.next
            && u64::from(next.position).saturating_sub(start) >= 2 * self.index.interval()
            && let Some(found) = self.at_entry(next, offset, end, patience)?
        {
            return Ok(Some(found));
        }
        let mut walk = HeaderWalk::new(&**self.file()?, start..end).with(patience);
        let mut at_entry = entry;
        loop {
            let (position, header) = match walk.next() {
                Ok(Some(batch)) => batch,
                // An entry that points behind the last batch.
                Ok(None) if at_entry.is_some() => return Err(SearchError::IndexIsWrong),
                Ok(None) => return Ok(None),
                // An entry that points between batches looks like damage of the log.
                Err(WalkError::Corrupt { position }) if entry.is_some() && position == start => {
                    return Err(SearchError::IndexIsWrong);
                }
                Err(error) => return Err(error.into()),
            };
            let last = Offset::new(header.last_offset());
            if at_entry.take().is_some_and(|entry| self.relative_or_max(last) != entry.offset) {
                return Err(SearchError::IndexIsWrong);
            }
            if last >= offset {
                let bytes = header.size_in_bytes() as u64;
                return Ok(Some(Found { position, bytes, recent: self.is_hot(position, end) }));
            }
            if position - start > self.index.interval() && self.index.may_be_rebuilt() {
                return Err(SearchError::IndexIsWrong);
            }
        }
    }

    /// Where batches are large each has an entry, and the one behind `offset` is its own.
    fn at_entry(
        &self,
        entry: OffsetEntry,
        offset: Offset,
        end: u64,
        patience: Patience,
    ) -> Result<Option<Found>, WalkError> {
        let file = &**self.file()?;
        let batch = match HeaderWalk::new(file, u64::from(entry.position)..end).with(patience).next() {
            Ok(batch) => batch,
            // The walk from the entry before will tell what is wrong.
            Err(WalkError::Corrupt { .. }) => None,
            Err(error) => return Err(error),
        };
        let holds = |header: &BatchHeader| {
            (header.base_offset..=header.last_offset()).contains(&offset.get())
                && self.relative_or_max(Offset::new(header.last_offset())) == entry.offset
        };
        Ok(batch.filter(|(_, header)| holds(header)).map(|(position, header)| Found {
            position,
            bytes: header.size_in_bytes() as u64,
            recent: self.is_hot(position, end),
        }))
    }

    /// Whether what lies at `position` was in memory a moment ago.
    fn is_hot(&self, position: u64, end: u64) -> bool {
        let since = self.recent.get().map(|recent| recent.since);
        since.is_some_and(|since| position >= since && end - position <= HOT_BYTES)
    }

    fn relative_or_max(&self, offset: Offset) -> u32 {
        u32::try_from(offset.get() - self.base.get()).unwrap_or(u32::MAX)
    }

    fn walk_to(&self, offset: Offset, start: u64, end: u64) -> Result<Option<Found>, WalkError> {
        let mut walk = HeaderWalk::new(&**self.file()?, start..end);
        while let Some((position, header)) = walk.next()? {
            if header.last_offset() >= offset.get() {
                return Ok(Some(Found { position, bytes: header.size_in_bytes() as u64, recent: false }));
            }
        }
        Ok(None)
    }

    /// Where the first batch that ends at or behind `offset` lies; the end of the segment if there is none.
    pub(crate) fn position_of(&self, offset: Offset) -> Result<u64, WalkError> {
        let extent = self.extent();
        Ok(self.locate(offset, extent.bytes, Patience::Waits)?.map_or(extent.bytes, |found| found.position))
    }

    /// Makes the batches durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file()?.sync_data()
    }

    /// Cuts the file and makes the cut durable. What is known of the segment is wrong from here on.
    pub(crate) fn cut(&self, bytes: u64) -> io::Result<()> {
        let file = self.file()?;
        file.truncate(bytes)?;
        file.sync_data()
    }

    /// Removes the files. Who reads them still can.
    pub(crate) fn remove(&self) -> io::Result<()> {
        for kind in [FileKind::Index, FileKind::TimeIndex, FileKind::Log] {
            match self.disk.remove_file(&self.path(kind)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
struct Found {
    position: u64,
    bytes: u64,
    recent: bool,
}

#[derive(Debug)]
enum SearchError {
    IndexIsWrong,
    Walk(WalkError),
}

impl From<WalkError> for SearchError {
    fn from(error: WalkError) -> Self {
        Self::Walk(error)
    }
}

impl From<io::Error> for SearchError {
    fn from(error: io::Error) -> Self {
        Self::Walk(error.into())
    }
}
