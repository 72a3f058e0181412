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

use parking_lot::Mutex;

use millstream_protocol::records::BatchHeader;

use crate::disk::{Disk, DiskFile, IfMissing};
use crate::ids::Offset;
use crate::partition::NO_TIMESTAMP;
use crate::segment_list::Based;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};

mod aborted;
mod index;
mod names;
mod prove;
mod recent;
mod room;
mod serving;
mod times;
mod trust;
mod walk;
mod watched;
mod window;

pub use aborted::AbortedTransaction;
pub(crate) use aborted::{AbortedError, AbortedIndex, AbortedMark};
pub(crate) use index::{IndexMark, OFFSET_ENTRY_BYTES, SegmentIndex, TimeMark};
pub(crate) use names::{FileKind, FileName};
pub use prove::DamageCause;
pub(crate) use prove::{Damage, Density, Piece, Prover, Rules, Step};
use recent::Recent;
use room::Room;
pub(crate) use serving::{PROVE_AHEAD, PROVE_AHEAD_MIN, Slice, Wanted};
pub use times::TimestampedOffset;
use trust::Trust;
pub(crate) use walk::{HeaderWalk, WalkError};
use watched::Watched;
pub(crate) use window::Source;

/// No segment is larger: positions are 31 bits in the index.
pub(crate) const SEGMENT_BYTES_MAX: u64 = i32::MAX as u64;

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
            // What compaction left without records has a time, but no record that has it.
            max_timestamp: if header.record_count == 0 { NO_TIMESTAMP } else { header.max_timestamp },
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
    /// Compaction could not read it: what later records replaced in it is still there.
    pub(crate) is_left_out: bool,
    /// When a batch was appended to it last, by our clock; -1 if none was.
    pub(crate) appended_ms: i64,
}

/// Whether compaction could not read a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeftOut {
    Yes,
    No,
}

impl Past {
    /// Of a segment to which nothing happened yet.
    pub(crate) const NONE: Self = Self { is_compacted: false, is_left_out: false, appended_ms: NO_TIMESTAMP };
}

#[derive(Debug)]
pub(crate) struct Segment {
    base: Offset,
    disk: Arc<dyn Disk>,
    dir: Arc<Path>,
    /// Opened when it is first needed: a log of a thousand segments holds few of them open.
    file: Mutex<Option<Arc<dyn DiskFile>>>,
    /// What readers may see: (end offset - base) << 32 | bytes, so that one load gives both.
    extent: AtomicU64,
    /// The batches that were appended last.
    recent: OnceLock<Box<Recent>>,
    index: SegmentIndex,
    /// What markers in it have aborted.
    aborted: AbortedIndex,
    /// Which bytes were verified and which are damaged.
    trust: Arc<Trust>,
    /// No batch will follow.
    is_sealed: AtomicBool,
    /// Position from which on batches were appended a moment ago.
    hot_from: AtomicU64,
    is_compacted: bool,
    is_left_out: AtomicBool,
    /// Another segment has its names: its files are never opened again by name.
    is_replaced: AtomicBool,
    /// When a batch was appended last, by our clock; -1 if none was.
    appended_ms: AtomicI64,
    /// Set aside behind its end.
    room: Room,
    /// The device has what lies below, or was told to write it.
    written_out: AtomicU64,
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
            file: Mutex::default(),
            room: Room::default(),
            written_out: AtomicU64::new(0),
            extent: AtomicU64::new(0),
            recent: OnceLock::new(),
            index,
            aborted: AbortedIndex::default(),
            trust: Arc::default(),
            is_sealed: AtomicBool::new(false),
            hot_from: AtomicU64::new(0),
            is_compacted: Past::NONE.is_compacted,
            is_left_out: AtomicBool::new(Past::NONE.is_left_out),
            is_replaced: AtomicBool::new(false),
            appended_ms: AtomicI64::new(Past::NONE.appended_ms),
        };
        segment.set_extent(extent);
        segment
    }

    /// The same, with this past.
    pub(crate) fn with(self, past: Past) -> Self {
        let Past { is_compacted, is_left_out, appended_ms } = past;
        let (is_left_out, appended_ms) = (AtomicBool::new(is_left_out), AtomicI64::new(appended_ms));
        Self { is_compacted, is_left_out, appended_ms, ..self }
    }

    /// The same, with what is known to have been aborted in it.
    pub(crate) fn with_aborted(self, aborted: AbortedIndex) -> Self {
        Self { aborted, ..self }
    }

    /// What is known of it beside its batches.
    pub(crate) fn past(&self) -> Past {
        Past {
            is_compacted: self.is_compacted,
            is_left_out: self.is_left_out.load(Relaxed),
            appended_ms: self.appended_ms.load(Relaxed),
        }
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
        segment.aborted.forget_file(&segment)?;
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

    pub(crate) fn aborted(&self) -> &AbortedIndex {
        &self.aborted
    }

    pub(crate) fn file(&self) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(file) = &*self.file.lock() {
            return Ok(Arc::clone(file));
        }
        let file = self.disk.open(&self.path(FileKind::Log), IfMissing::Fail)?;
        let file: Arc<dyn DiskFile> = Arc::new(Watched { file, trust: Arc::clone(&self.trust) });
        // Somebody else may have opened it meanwhile; theirs may have been written to already.
        Ok(Arc::clone(self.file.lock().get_or_insert(file)))
    }

    /// Closes the files; they are opened again when they are needed.
    pub(crate) fn close_files(&self) {
        if !self.is_replaced.load(Acquire) {
            drop(self.file.lock().take());
            self.index.close_files();
            self.aborted.let_go();
        }
    }

    pub(crate) fn extent(&self) -> Extent {
        let packed = self.extent.load(Acquire);
        let end = i64::try_from(packed >> 32).expect("32 bits");
        Extent { end: self.base.advance(end), bytes: packed & u64::from(u32::MAX) }
    }

    /// Sets how much of the segment there is where that does not follow from its batches.
    pub(crate) fn cover(&self, extent: Extent) {
        self.set_extent(extent);
    }

    fn set_extent(&self, extent: Extent) {
        assert!(extent.bytes <= SEGMENT_BYTES_MAX, "a segment of {} bytes", extent.bytes);
        // The end of a sealed segment is the base of the next one, however far off that is.
        let offsets = u32::try_from(extent.end.get() - self.base.get()).unwrap_or(u32::MAX);
        self.extent.store(u64::from(offsets) << 32 | extent.bytes, Release);
    }

    /// Whether a batch that ends at `last` still has an offset that the index can hold.
    pub(crate) fn can_index(&self, last: Offset) -> bool {
        last < self.index_end()
    }

    /// The first offset that the index cannot hold.
    pub(crate) fn index_end(&self) -> Offset {
        self.base.advance(i64::from(i32::MAX) + 1)
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
        let file = self.file()?;
        if let Err(error) = file.write_at(parts, first.position) {
            // What was written of it is nobody's. If it stayed, the next recovery would keep it aside, and a full disk
            // has no room for that. Should this fail too, recovery finds it.
            let _ = file.truncate(first.position);
            return Err(error);
        }
        self.note_appended_by(now_ms);
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

    /// Compaction could not read it, or can again.
    pub(crate) fn set_left_out(&self, is_left_out: LeftOut) {
        self.is_left_out.store(is_left_out == LeftOut::Yes, Relaxed);
    }

    /// Batches that lie in the file were appended at this time at the latest, as far as can be told.
    pub(crate) fn note_appended_by(&self, ms: i64) {
        self.appended_ms.fetch_max(ms, Relaxed);
    }

    fn relative(&self, offset: Offset) -> u32 {
        u32::try_from(offset.get() - self.base.get())
            .expect("within 31 bits of the base: the writer rolls before")
    }

    /// Whether it has grown so far that room should be set aside for more.
    pub(crate) fn is_short_of_room(&self) -> bool {
        self.room.is_short(self.extent().bytes)
    }

    /// Whether a segment of so many bytes may have had room set aside.
    pub(crate) fn is_worth_room(&self, bytes: u64) -> bool {
        bytes >= room::GROWN_BYTES
    }

    /// Has room set aside for what will be written to it, up to `most` bytes.
    pub(crate) fn reserve_room(&self, most: u64) -> io::Result<()> {
        self.room.reserve(&*self.file()?, self.extent().bytes, most);
        Ok(())
    }

    /// Gives back the room that it will not need. Nothing will be written to it.
    pub(crate) fn give_back_room(&self) -> io::Result<()> {
        match self.room.take() {
            true => self.file()?.truncate(self.extent().bytes),
            false => Ok(()),
        }
    }

    /// No batch will follow.
    pub(crate) fn seal(&self) {
        self.index.seal();
        self.is_sealed.store(true, Relaxed);
    }

    /// Has the device begin with the batches that came last: there is something to do before `sync`.
    pub(crate) fn start_writing(&self) {
        // Who syncs opens the file too, and tells if that fails.
        if let Ok(file) = self.file() {
            file.start_writing(self.extent().bytes);
        }
    }

    /// Has the device write the batches a little at a time, so that a `sync` finds little to do.
    pub(crate) fn write_out(&self) {
        let range = self.written_out.load(Relaxed)..self.extent().bytes;
        // Who syncs opens the file too, and tells if that fails.
        if !range.is_empty()
            && let Ok(file) = self.file()
        {
            file.write_out(range.clone());
            self.written_out.fetch_max(range.end, Relaxed);
        }
    }

    /// Makes the batches durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let bytes = self.extent().bytes;
        self.file()?.sync_data()?;
        self.written_out.fetch_max(bytes, Relaxed);
        Ok(())
    }

    /// Cuts the file and makes the cut durable. What is known of the segment is wrong from here on.
    pub(crate) fn cut(&self, bytes: u64) -> io::Result<()> {
        let file = self.file()?;
        file.truncate(bytes)?;
        file.sync_data()
    }

    /// Opens all files for as long as somebody reads them: their names are about to be given to others.
    pub(crate) fn hold_files(&self) -> io::Result<()> {
        self.is_replaced.store(true, Release);
        self.file()?;
        self.index.hold_files(self)
    }

    /// Its names are its own after all.
    pub(crate) fn let_go_of_files(&self) {
        self.is_replaced.store(false, Release);
    }

    /// Removes the files. Who reads them still can.
    pub(crate) fn remove(&self) -> io::Result<()> {
        // A file without a name takes room for as long as it is open.
        self.close_files();
        // Most segments have no such file, and to look costs less than to try.
        let aborted = self.path(FileKind::TxnIndex);
        if self.disk.file_bytes(&aborted).is_ok() {
            self.disk.remove_file(&aborted)?;
        }
        for kind in [FileKind::Index, FileKind::TimeIndex, FileKind::Log] {
            match self.disk.remove_file(&self.path(kind)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}
