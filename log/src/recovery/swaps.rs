//! Puts what compaction wrote in the place of what it read, whatever happens in between.
//!
//! `<base, 20 digits>.log.cleaned` holds the new segment, synced. Then `<base>.swap`, the intent, is renamed
//! into place, also synced, and from then on the swap will be done: by whoever wrote the intent or, if that
//! process died, by the next that opens the log. Before, it will not be, and the new segment is removed.
//! Big-endian:
//!
//! ```text
//!  at  bytes
//!   0      4  "MSsw"
//!   4      2  version, 2
//!   6      4  CRC-32C of what follows
//!  10     65  the new segment, as a snapshot describes it
//!  75      8  the offset behind it
//!  83      4  CRC-32C of its content
//!  87      4  count of the segments that it replaces; for each, ascending
//!               8  base; that of the first is its own
//! ```
//!
//! `<offset>.gaps`, empty, is there before the first swap of a run: everything below was durable then, and
//! batches may be missing there, which a walk without a snapshot could otherwise not tell from damage.
//!
//! An intent that is damaged is done without: what a new segment covers is put aside, and the log is walked.
//! Snapshots from before name segments that are gone. Those that know all of what was replaced are corrected,
//! the others removed; only then the intent goes.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use millstream_protocol::records::{Crc32c, crc32c};

use crate::disk::{Disk, DiskFile, IfMissing};
use crate::ids::Offset;
use crate::log::cleaned_path;
use crate::segment::{FileKind, FileName, HeaderWalk, WalkError};
use crate::snapshot::{self, Fields, Safety, SegmentRecord, Snapshot, put_count, put_offset};

const MAGIC: &[u8; 4] = b"MSsw";
const VERSION: u16 = 2;
const CRC_AT: usize = 6;
const BODY_AT: usize = 10;

const INTENT: &str = ".swap";
const UNFINISHED: &str = ".swap-unfinished";
const CLEANED: &str = ".log.cleaned";

/// No intent is larger: it is what half a million segments come to.
const INTENT_BYTES_MAX: u64 = 4 << 20;

/// How much is read at a time to check a segment's content.
const READ_BYTES: usize = 1 << 20;

/// A swap that will be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Intent {
    pub(crate) segment: SegmentRecord,
    /// The offset behind the new segment.
    pub(crate) end: Offset,
    pub(crate) crc: u32,
    /// Bases of the segments that it replaces, its own first.
    pub(crate) replaced: Vec<Offset>,
}

impl Intent {
    fn base(&self) -> Offset {
        self.segment.base
    }

    fn path(dir: &Path, base: Offset) -> PathBuf {
        dir.join(format!("{:020}{INTENT}", base.get()))
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        self.segment.put(&mut out);
        put_offset(&mut out, self.end);
        out.extend_from_slice(&self.crc.to_be_bytes());
        put_count(&mut out, self.replaced.len());
        self.replaced.iter().for_each(|base| put_offset(&mut out, *base));
        let crc = crc32c(&out[BODY_AT..]);
        out[CRC_AT..BODY_AT].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// `None` if the bytes are not an intent that we wrote.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut at = Fields(bytes);
        let known = at.take::<4>()? == *MAGIC && u16::from_be_bytes(at.take()?) == VERSION;
        let crc = at.u32()?;
        if !known || crc != crc32c(at.0) {
            return None;
        }
        let (segment, end, crc) = (at.segment()?, at.offset()?, at.u32()?);
        let replaced = (0..at.u32()?).map(|_| at.offset()).collect::<Option<Vec<_>>>()?;
        let in_order =
            replaced.is_sorted_by(|a, b| a < b) && replaced.last().is_some_and(|last| *last <= end);
        let is_whole = at.0.is_empty() && in_order && replaced.first() == Some(&segment.base);
        is_whole.then_some(Self { segment, end, crc, replaced })
    }

    fn unfinished(&self, dir: &Path) -> PathBuf {
        Self::path(dir, self.base()).with_extension(&UNFINISHED[1..])
    }

    /// Writes the intent under a name that means nothing yet.
    pub(crate) fn prepare(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let file = disk.open(&self.unfinished(dir), IfMissing::Create)?;
        file.truncate(0)?;
        file.write_at(&mut [IoSlice::new(&self.encode())], 0)?;
        file.sync_data()
    }

    /// Makes the intent hold. After an error only the next start can tell whether it does.
    pub(crate) fn publish(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        disk.rename(&self.unfinished(dir), &Self::path(dir, self.base()))?;
        disk.sync_dir(dir)
    }

    /// It was not published, and will not be.
    pub(crate) fn give_up(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let unfinished = disk.remove_file(&self.unfinished(dir));
        disk.remove_file(&cleaned_path(dir, self.base())).and(unfinished)
    }

    fn read(disk: &dyn Disk, dir: &Path, base: Offset) -> io::Result<Option<Self>> {
        let file = disk.open(&Self::path(dir, base), IfMissing::Fail)?;
        let bytes = file.bytes()?;
        if bytes > INTENT_BYTES_MAX {
            return Ok(None);
        }
        let mut held = vec![0; usize::try_from(bytes).expect("bounded just above")];
        let read = file.read_at(&mut held, 0)?;
        Ok(Self::decode(&held[..read]).filter(|intent| intent.base() == base))
    }

    /// Gives the new segment its name, durably; what it replaces is still there, so that there is always a whole
    /// copy. The indexes under that name are none of it.
    pub(crate) fn take_name(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let target = dir.join(FileName { base: self.base(), kind: FileKind::Log }.to_string());
        disk.rename(&cleaned_path(dir, self.base()), &target)?;
        remove_files(disk, dir, self.base(), FileKind::INDEXES)?;
        disk.sync_dir(dir)
    }

    /// Removes what the new segment replaces. Doing it again does no harm.
    pub(crate) fn remove_replaced(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        for base in self.replaced.iter().filter(|base| **base != self.base()) {
            remove_files(disk, dir, *base, FileKind::INDEXES.into_iter().chain([FileKind::Log]))?;
        }
        disk.sync_dir(dir)
    }

    /// Nothing on disk needs the intent any more.
    pub(crate) fn remove(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        match disk.remove_file(&Self::path(dir, self.base())) {
            // A reopening of the log may have come to it.
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => disk.sync_dir(dir),
        }
    }

    /// Whether this file is the new segment.
    fn is_content_of(&self, disk: &dyn Disk, path: &Path) -> io::Result<bool> {
        let file = match disk.open(path, IfMissing::Fail) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        // A part that the device cannot read is one for the readers: the length says that it is this file.
        Ok(file.bytes()? == self.segment.bytes && checksum(&*file).map_or(true, |sum| sum == self.crc))
    }

    /// Whether the snapshot knows the new segment now; it must go if not.
    fn correct(&self, snapshot: &mut Snapshot) -> bool {
        if snapshot.durable() < self.end {
            return false;
        }
        let is_replaced = |record: &SegmentRecord| self.replaced.binary_search(&record.base).is_ok();
        let Some(first) = snapshot.segments.iter().position(is_replaced) else { return true };
        if snapshot.segments[first].base != self.base() {
            return false;
        }
        snapshot.segments[first] = self.segment;
        let mut at = 0;
        snapshot.segments.retain(|record| {
            at += 1;
            at == first + 1 || !is_replaced(record)
        });
        true
    }
}

/// Notes that batches may be missing below an offset, and that everything there is durable. Made durable at
/// once; one that was there for a lower offset goes.
pub(crate) fn note_gaps(disk: &dyn Disk, dir: &Path, below: Offset) -> io::Result<()> {
    let known = gaps_notes(disk, dir)?;
    if known.iter().all(|known| *known < below) && below > Offset::default() {
        disk.open(&gaps_note(dir, below), IfMissing::Create)?;
        disk.sync_dir(dir)?;
        for old in known {
            disk.remove_file(&gaps_note(dir, old))?;
        }
    }
    Ok(())
}

/// The log is about to end here.
pub(crate) fn lower_gaps(disk: &dyn Disk, dir: &Path, to: Offset) -> io::Result<()> {
    let known = gaps_notes(disk, dir)?;
    if known.iter().any(|known| *known > to) {
        disk.open(&gaps_note(dir, to), IfMissing::Create)?;
        disk.sync_dir(dir)?;
        for old in known.iter().filter(|known| **known != to) {
            disk.remove_file(&gaps_note(dir, *old))?;
        }
        disk.sync_dir(dir)?;
    }
    Ok(())
}

fn gaps_note(dir: &Path, below: Offset) -> PathBuf {
    dir.join(FileName { base: below, kind: FileKind::Gaps }.to_string())
}

fn gaps_notes(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<Offset>> {
    let names = disk.list(dir)?;
    let ours = names.iter().filter_map(|name| FileName::parse(name.to_str()?));
    Ok(ours.filter(|name| name.kind == FileKind::Gaps).map(|name| name.base).collect())
}

fn remove_files(
    disk: &dyn Disk,
    dir: &Path,
    base: Offset,
    kinds: impl IntoIterator<Item = FileKind>,
) -> io::Result<()> {
    for kind in kinds {
        match disk.remove_file(&dir.join(FileName { base, kind }.to_string())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Whether a name in a folder is left of a swap.
pub(super) fn is_left_of_one(name: &str) -> bool {
    name.ends_with(INTENT) || name.ends_with(UNFINISHED) || name.ends_with(CLEANED)
}

/// Finishes the swaps that have an intent, and removes what is left of the others.
pub(super) fn settle(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let (mut intents, mut leftovers) = (Vec::new(), Vec::new());
    for name in disk.list(dir)? {
        let Some(name) = name.to_str() else { continue };
        let (digits, rest) = name.split_at(name.find('.').unwrap_or(name.len()));
        let is_ours = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
        match (digits.parse::<i64>(), rest) {
            (Ok(base), INTENT) if is_ours => intents.push(Offset::new(base)),
            (Ok(_), UNFINISHED | CLEANED) if is_ours => leftovers.push(dir.join(name)),
            _ => {}
        }
    }
    intents.sort_unstable();
    for base in intents {
        match Intent::read(disk, dir, base)? {
            Some(intent) => finish(&intent, disk, dir)?,
            None => {
                tracing::error!(
                    dir = %dir.display(), %base,
                    "a compaction was interrupted and its intent is damaged; the log is walked from its start"
                );
                do_without(base, disk, dir)?;
                leftovers.push(Intent::path(dir, base));
            }
        }
    }
    for path in &leftovers {
        match disk.remove_file(path) {
            // The swap that it belonged to was finished just now.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn finish(intent: &Intent, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let target = dir.join(FileName { base: intent.base(), kind: FileKind::Log }.to_string());
    let has_its_name = intent.is_content_of(disk, &target)?;
    if !has_its_name && intent.is_content_of(disk, &cleaned_path(dir, intent.base()))? {
        intent.take_name(disk, dir)?;
    } else if !has_its_name {
        // What it replaces is removed only after the new segment has its name for good: all of it is there.
        tracing::warn!(dir = %dir.display(), base = %intent.base(), "an interrupted compaction is undone");
        return intent.remove(disk, dir);
    }
    // Unsynced names of before: the indexes may be those of what was replaced.
    remove_files(disk, dir, intent.base(), FileKind::INDEXES)?;
    intent.remove_replaced(disk, dir)?;
    for durable in snapshot::offsets_of(disk, dir)? {
        // One that is damaged says nothing wrong; its name still tells the durable point.
        let Ok(Some(mut known)) = Snapshot::read(disk, dir, durable) else { continue };
        // On a full disk there is no room for a corrected one: without any the log is walked.
        if !intent.correct(&mut known) || known.write(disk, dir, Safety::Synced).is_err() {
            snapshot::remove(disk, dir, durable)?;
        }
    }
    disk.sync_dir(dir)?;
    intent.remove(disk, dir)
}

/// An intent that cannot be read. If the new segment still has a name of its own nothing was begun. Otherwise
/// it may have replaced others that are not removed yet, and what snapshots say is not to be believed; the
/// note on gaps was there first, so that the log can be walked.
fn do_without(base: Offset, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    if disk.file_bytes(&cleaned_path(dir, base)).is_ok() {
        return Ok(());
    }
    let path = |base| dir.join(FileName { base, kind: FileKind::Log }.to_string());
    let end = match disk.open(&path(base), IfMissing::Fail) {
        Ok(file) => end_of(&*file)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Offset::default(),
        Err(error) => return Err(error),
    };
    let names = disk.list(dir)?;
    let logs = names.iter().filter_map(|name| FileName::parse(name.to_str()?));
    for covered in logs.filter(|name| name.kind == FileKind::Log && name.base > base && name.base < end) {
        let kept = dir.join(format!("{covered}.torn"));
        tracing::warn!(kept = %kept.display(), "a segment that a compacted one covers was put aside");
        disk.rename(&path(covered.base), &kept)?;
    }
    for durable in snapshot::offsets_of(disk, dir)? {
        snapshot::remove(disk, dir, durable)?;
    }
    disk.sync_dir(dir)
}

/// The offset behind the last batch of a segment, as far as its headers can be followed.
fn end_of(file: &dyn DiskFile) -> io::Result<Offset> {
    let mut walk = HeaderWalk::new(file, 0..file.bytes()?);
    let mut end = Offset::default();
    loop {
        match walk.next() {
            Ok(Some((_, header))) => end = Offset::new(header.last_offset().saturating_add(1)),
            Ok(None) | Err(WalkError::Corrupt { .. } | WalkError::Damaged(_)) => return Ok(end),
            Err(WalkError::Io(error)) => return Err(error),
        }
    }
}

fn checksum(file: &dyn DiskFile) -> io::Result<u32> {
    let mut sum = Crc32c::default();
    let mut piece = vec![0; READ_BYTES];
    let mut at = 0;
    loop {
        match file.read_at(&mut piece, at)? {
            0 => return Ok(sum.finish()),
            read => {
                sum.update(&piece[..read]);
                at += read as u64;
            }
        }
    }
}
