//! Opens a partition's folder: finds out what of it counts, and cuts off what does not.
//!
//! Below the durable point, which is the name of the newest snapshot, everything was synced; it is not
//! looked at, whatever its size. Above it every batch is checked, CRC and offset, and the log ends before
//! the first that fails: a torn tail. What is cut is kept in a side file, the cut is durable before the log
//! opens, and doing it all again after another crash gives the same log.
//!
//! Where the log starts is the name of an empty file, beside what snapshots say: what lies below was deleted,
//! and is neither looked for nor missed.
//!
//! Damage below the durable point is never a tail. If it shows here, because a snapshot is damaged and the
//! log must be walked from its start, it is reported and left where it is, and the log goes on behind it.

use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{CleanStart, OpenOptions};
use crate::disk::{Disk, DiskFile, IfMissing};
use crate::ids::{LeaderEpoch, Offset};
use crate::log::OpenError;
use crate::partition::{NO_TIMESTAMP, Partition};
use crate::segment::{AbortedIndex, Extent, FileKind, FileName, Past, Segment, SegmentIndex, Source};
use crate::segment_list::Based;
use crate::snapshot::{self, SegmentRecord, Snapshot};

mod scan;
mod swaps;

use scan::{Bound, FoundRun};
pub(crate) use swaps::{Intent, lower_gaps, note_gaps};

/// How much is copied to a side file at a time.
const COPY_BYTES: usize = 256 * 1024;

/// What the names of files end in that are kept beside the log.
const SIDE_FILES: [&str; 1] = [".torn"];

/// Files of others that are named, of each log.
const FOREIGN_MAX: usize = 10;

/// What was found when a log was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Where the log starts.
    pub log_start: Offset,
    /// Where it ends.
    pub log_end: Offset,
    /// What lies below was known to be on disk and was not checked.
    pub durable: Offset,
    /// Bytes whose batches were checked.
    pub scanned_bytes: u64,
    /// What was cut off above the durable point.
    pub torn: Vec<TornTail>,
    /// What is missing or damaged below it.
    pub lost: Vec<LostRange>,
    /// Some of the files that are not the log's; they are left alone.
    pub foreign: Vec<OsString>,
}

/// Bytes above the durable point that are not batches of this log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The first offset that is not in the log any more.
    pub from: Offset,
    /// Bytes cut.
    pub bytes: u64,
    /// Where they are kept; `None` if they were all zero.
    pub kept: Option<PathBuf>,
}

/// Offsets below the durable point that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostRange {
    /// The first.
    pub from: Offset,
    /// The one behind the last.
    pub to: Offset,
}

/// What on disk describes a log as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Saved {
    /// Nothing was ever written, and nothing needs to be there.
    AsEmpty,
    /// The snapshot with this content.
    By { log_start: Offset, durable: Offset },
}

/// Names that may not be durable yet.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct UnsyncedNames {
    /// Folders in which this process made names.
    pub(crate) made_in: Vec<PathBuf>,
    /// So did one before it, in the log's folder and those above, and maybe it did not sync them.
    pub(crate) inherited: bool,
}

impl UnsyncedNames {
    /// They were synced.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// A folder brought into order.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) partition: Partition,
    /// Never empty; the last is the active one.
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) active_since_ms: i64,
    /// Compaction has been through what lies below.
    pub(crate) cleaned_to: Offset,
    pub(crate) durable: Offset,
    /// What on disk says all that there is to say, if something does.
    pub(crate) saved: Option<Saved>,
    pub(crate) unsynced: UnsyncedNames,
    pub(crate) report: Recovery,
}

/// A write or a sync failed since the log was opened: memory may show what the device does not have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doubt {
    /// Everything below it was synced before.
    pub(crate) synced: Offset,
}

/// There after a failed sync, until the log was recovered from the device.
const DOUBTED: &str = "doubted";

/// Tells the next recovery not to believe memory.
pub(crate) fn mark_doubted(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    disk.open(&dir.join(DOUBTED), IfMissing::Create).map(drop)
}

/// Recovers the log in `dir`, making the folder if it is missing.
pub(crate) fn recover(
    options: &OpenOptions,
    dir: &Arc<Path>,
    doubt: Option<Doubt>,
) -> Result<Recovered, OpenError> {
    let mut unsynced = UnsyncedNames::default();
    make_dir(&*options.disk, dir, &mut unsynced.made_in)?;
    let mut folder = Folder::read(&*options.disk, dir)?;
    if folder.is_swapping {
        swaps::settle(&*options.disk, dir).map_err(failed("finish a compaction in", dir))?;
        folder = Folder::read(&*options.disk, dir)?;
    }
    // Without a snapshot nothing here was ever known to be durable.
    unsynced.inherited = options.clean == CleanStart::No || folder.snapshots.is_empty();
    let snapshot = folder.newest_snapshot(&*options.disk, dir)?;
    let durable = folder.snapshots.first().copied();
    let gaps_below = folder.gaps_below;
    let start = folder.logs.first().copied().unwrap_or_default();
    let partition = match &snapshot {
        Some(snapshot) => snapshot.partition.clone(),
        None => Partition::starting_at(start),
    };
    let cleaned_to = snapshot.as_ref().map_or(start, |snapshot| snapshot.cleaned_to);
    // Records are deleted or compacted only once they are durable.
    let known = doubt.map_or(start, |doubt| doubt.synced).max(folder.start).max(gaps_below);
    let report = Recovery {
        durable: durable.unwrap_or(start).max(known),
        foreign: folder.foreign.clone(),
        ..Recovery::default()
    };
    let source = match doubt.is_some() || folder.is_doubted {
        true => Source::Device,
        false => Source::Memory,
    };
    let (start, segments, ended) = (folder.start, Vec::new(), false);
    let runs = Vec::new();
    let mut walk = Walk { options, dir, source, partition, start, gaps_below, segments, runs, report, ended };
    let active_since_ms = snapshot
        .as_ref()
        .map(|snapshot| (snapshot.segments.last().map(|s| s.base), snapshot.active_since_ms));
    walk.run(&folder, snapshot.as_ref())?;
    let Walk { mut partition, mut segments, mut report, .. } = walk;
    partition.raise_log_start(folder.start);
    if segments.is_empty() {
        let base = partition.log_end();
        segments.push(Arc::new(create(options, dir, base)?));
    }
    if folder.is_doubted {
        let path = dir.join(DOUBTED);
        options.disk.remove_file(&path).map_err(failed("remove", &path))?;
    }
    partition.remember_producers_for(options.config.producer_expiration);
    partition.lead(epoch_to_lead(options, partition.epochs().latest()));
    report.log_start = partition.log_start();
    report.log_end = partition.log_end();
    let active = segments.last().expect("one was just made sure of");
    if folder.logs.binary_search(&active.base()).is_err() {
        unsynced.made_in.push(dir.to_path_buf());
    }
    let active_since_ms = match active_since_ms {
        Some((base, since)) if base == Some(active.base()) && since != NO_TIMESTAMP => since,
        _ if active.extent().bytes > 0 => options.clock.latest_ms(),
        _ => NO_TIMESTAMP,
    };
    let durable = report.durable.min(report.log_end);
    let saved = what_says_so(&report, &folder, snapshot.as_ref());
    Ok(Recovered { partition, segments, active_since_ms, cleaned_to, durable, saved, unsynced, report })
}

/// What on disk describes the log as it was found, if something does.
fn what_says_so(found: &Recovery, folder: &Folder, snapshot: Option<&Snapshot>) -> Option<Saved> {
    let Recovery { log_start, log_end, .. } = *found;
    let is_whole = found.torn.is_empty() && found.lost.is_empty();
    let is_empty = log_end == Offset::default() && folder.snapshots.is_empty();
    let described = snapshot.is_some_and(|snapshot| snapshot.durable() == log_end);
    match (is_whole, is_empty, described) {
        (true, true, _) => Some(Saved::AsEmpty),
        (true, _, true) => Some(Saved::By { log_start, durable: found.durable.min(log_end) }),
        _ => None,
    }
}

/// After an unclean end batches may be gone that somebody has read: an epoch that may have written them is
/// not used again.
fn epoch_to_lead(options: &OpenOptions, latest: Option<LeaderEpoch>) -> LeaderEpoch {
    match (options.clean, latest) {
        (CleanStart::No, Some(latest)) => options.leader_epoch.max(latest.next()),
        (CleanStart::No, None) | (CleanStart::Yes, _) => options.leader_epoch,
    }
}

fn create(options: &OpenOptions, dir: &Arc<Path>, base: Offset) -> Result<Segment, OpenError> {
    Segment::create(&options.disk, dir, base, options.config.index_interval_bytes)
        .map_err(failed("create a segment in", dir))
}

/// Makes a folder and those above it that are missing; notes whose names have to be synced.
fn make_dir(disk: &dyn Disk, dir: &Path, unsynced: &mut Vec<PathBuf>) -> Result<(), OpenError> {
    match disk.create_dir(dir) {
        Ok(()) => {
            unsynced.extend([dir.to_owned()].into_iter().chain(dir.parent().map(Path::to_owned)));
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match dir.parent() {
            Some(parent) if parent != Path::new("") => {
                make_dir(disk, parent, unsynced)?;
                make_dir(disk, dir, unsynced)
            }
            _ => Err(failed("make the folder", dir)(error)),
        },
        Err(error) => Err(failed("make the folder", dir)(error)),
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError + use<> {
    let path = path.to_owned();
    move |error| OpenError::Io { action, path, error }
}

/// What lies in a partition's folder.
#[derive(Debug, Default)]
struct Folder {
    /// Bases of segments, ascending.
    logs: Vec<Offset>,
    /// Durable points of snapshots, the newest first.
    snapshots: Vec<Offset>,
    /// Where the log starts at least: records below were deleted.
    start: Offset,
    /// Names that are none of ours.
    foreign: Vec<OsString>,
    /// Memory may show what the device does not have.
    is_doubted: bool,
    /// Compaction may have left gaps below.
    gaps_below: Offset,
    /// A compaction was interrupted.
    is_swapping: bool,
}

impl Folder {
    fn read(disk: &dyn Disk, dir: &Path) -> Result<Self, OpenError> {
        let mut folder = Self::default();
        for name in disk.list(dir).map_err(failed("list", dir))? {
            let Some(name) = name.to_str() else {
                folder.foreign.push(name);
                continue;
            };
            match FileName::parse(name) {
                Some(FileName { base, kind: FileKind::Log }) => folder.logs.push(base),
                Some(FileName { base, kind: FileKind::Snapshot }) => folder.snapshots.push(base),
                Some(FileName { base, kind: FileKind::Start }) => folder.start = folder.start.max(base),
                Some(FileName { base, kind: FileKind::Gaps }) => {
                    folder.gaps_below = folder.gaps_below.max(base);
                }
                Some(FileName {
                    kind: FileKind::Index | FileKind::TimeIndex | FileKind::TxnIndex, ..
                }) => {}
                None if name == DOUBTED => folder.is_doubted = true,
                None if name.ends_with(snapshot::UNFINISHED) => {
                    let path = dir.join(name);
                    disk.remove_file(&path).map_err(failed("remove", &path))?;
                }
                None if swaps::is_left_of_one(name) => folder.is_swapping = true,
                None if SIDE_FILES.iter().any(|ending| name.ends_with(ending)) => {}
                None => folder.foreign.push(name.into()),
            }
        }
        folder.foreign.sort_unstable();
        folder.foreign.truncate(FOREIGN_MAX);
        folder.logs.sort_unstable();
        // One that was removed along with its segments can come back when the power fails.
        let first = folder.logs.first().copied().unwrap_or_default();
        folder.snapshots.retain(|durable| *durable >= first);
        folder.snapshots.sort_unstable_by(|a, b| b.cmp(a));
        Ok(folder)
    }

    fn newest_snapshot(&self, disk: &dyn Disk, dir: &Path) -> Result<Option<Snapshot>, OpenError> {
        for durable in &self.snapshots {
            match Snapshot::read(disk, dir, *durable) {
                Ok(Some(snapshot)) => return Ok(Some(snapshot)),
                Ok(None) => {
                    tracing::warn!(dir = %dir.display(), %durable, "a snapshot is damaged; an older one or the log itself is used");
                }
                Err(error) => {
                    tracing::warn!(dir = %dir.display(), %durable, %error, "a snapshot cannot be read; an older one or the log itself is used");
                }
            }
        }
        Ok(None)
    }
}

/// Goes through the segments in order and decides what each of them contributes.
struct Walk<'a> {
    options: &'a OpenOptions,
    dir: &'a Arc<Path>,
    /// What is checked is read from here.
    source: Source,
    partition: Partition,
    /// Nothing below is in the log, whatever else says so.
    start: Offset,
    /// Compaction may have left gaps below.
    gaps_below: Offset,
    segments: Vec<Arc<Segment>>,
    /// Who led when, as the batches say that were taken up.
    runs: Vec<FoundRun>,
    report: Recovery,
    /// The log ended before; the segments that follow are set aside.
    ended: bool,
}

impl Walk<'_> {
    fn run(&mut self, folder: &Folder, snapshot: Option<&Snapshot>) -> Result<(), OpenError> {
        let known = snapshot.map_or(&[][..], |snapshot| &snapshot.segments);
        // What was deleted was noted, or left out of a snapshot, before its files were removed.
        let start = self.start;
        let is_deleted = |end: &Offset| *end <= start;
        let first = known.first().map_or(Offset::default(), |first| first.base);
        let ends = folder.logs.iter().skip(1).map(Some).chain([None]);
        let goes = |(base, end): &(&Offset, Option<&Offset>)| **base < first || end.is_some_and(is_deleted);
        let deleted = folder.logs.iter().zip(ends).take_while(goes).count();
        let (deleted, logs) = folder.logs.split_at(deleted);
        for base in deleted {
            let segment = self.existing(*base, 0, SegmentIndex::new(*base, 0));
            segment.remove().map_err(failed("remove from", self.dir))?;
        }
        let mut behind = None;
        if let Some((last, sealed)) = known.split_last() {
            let ends = known[1..].iter().map(|next| next.base);
            for (record, end) in sealed.iter().zip(ends).filter(|(_, end)| !is_deleted(end)) {
                match logs.binary_search(&record.base) {
                    Ok(_) => self.trust(record, end),
                    Err(_) => self.lose(record.base, end),
                }
            }
            let next = logs.iter().find(|base| **base > last.base);
            if !next.is_some_and(is_deleted) {
                self.resume(last, folder, next.map_or(Bound::Open, |next| Bound::Next(*next)))?;
            }
            behind = Some(last.base);
        }
        let first = logs.partition_point(|base| behind.is_some_and(|behind| *base <= behind));
        let bounds = logs[first..].iter().skip(1).map(|next| Bound::Next(*next)).chain([Bound::Open]);
        for (base, bound) in logs[first..].iter().zip(bounds) {
            self.take_up(*base, bound)?;
        }
        self.close_gap()?;
        self.judge_epochs();
        Ok(())
    }

    /// Notes that records are missing that were not deleted.
    fn lose(&mut self, from: Offset, to: Offset) {
        let from = from.max(self.start);
        if from < to {
            self.report.lost.push(LostRange { from, to });
        }
    }

    fn existing(&self, base: Offset, bytes: u64, index: SegmentIndex) -> Segment {
        Segment::existing(&self.options.disk, self.dir, base, Extent { end: base, bytes }, index)
    }

    /// A sealed segment below the durable point: taken as it was left.
    fn trust(&mut self, record: &SegmentRecord, end: Offset) {
        let index = SegmentIndex::resume(record.base, self.options.config.index_interval_bytes, record.index);
        let extent = Extent { end, bytes: record.bytes };
        let segment = Segment::existing(&self.options.disk, self.dir, record.base, extent, index)
            .with(record.past)
            .with_aborted(AbortedIndex::resume(record.aborted));
        self.segments.push(Arc::new(segment));
    }

    /// The segment that holds the durable point: trusted up to there, checked from there.
    fn resume(&mut self, record: &SegmentRecord, folder: &Folder, bound: Bound) -> Result<(), OpenError> {
        let durable = self.partition.log_end();
        let index = SegmentIndex::resume(record.base, self.options.config.index_interval_bytes, record.index);
        let extent = Extent { end: durable, bytes: record.bytes };
        let segment = Segment::existing(&self.options.disk, self.dir, record.base, extent, index)
            .with(record.past)
            .with_aborted(AbortedIndex::resume(record.aborted));
        let found = folder.logs.binary_search(&record.base).is_ok();
        let held = match found {
            true => self.bytes_of(&segment)?,
            false => 0,
        };
        if held < record.bytes {
            // Synced bytes are gone. Their offsets are not given again: whoever read them knows better.
            match found {
                true => self.find_what_is_left(&segment)?,
                false => self.lose(record.base, durable),
            }
            if found {
                self.segments.push(Arc::new(segment));
            }
            return Ok(());
        }
        if record.bytes == 0 && !found {
            return Ok(());
        }
        if !segment.index().files_are_whole(&segment).map_err(self.failed("look at the indexes in"))? {
            let started_over = segment.index().start_over(&segment, self.partition.epochs());
            if let Err(error) = started_over {
                tracing::warn!(dir = %self.dir.display(), ?error, "an index could not be rebuilt");
            }
        }
        segment.index().cut_files(&segment).map_err(self.failed("cut the indexes in"))?;
        segment.aborted().cut_file(&segment).map_err(self.failed("cut the indexes in"))?;
        self.check(segment, record.bytes, bound)
    }

    /// A segment above the durable point, or of a log whose durable point is not known.
    fn take_up(&mut self, base: Offset, bound: Bound) -> Result<(), OpenError> {
        let index = SegmentIndex::new(base, self.options.config.index_interval_bytes);
        let past = Past { is_compacted: base < self.gaps_below, ..Past::NONE };
        let segment = self.existing(base, 0, index).with(past);
        let end = self.partition.log_end();
        if self.ended || base < end || (base > end && end >= self.report.durable) {
            self.ended = true;
            return self.set_aside(&segment);
        }
        if base > end {
            match self.segments.last() {
                Some(before) if base <= self.gaps_below => {
                    before.cover(Extent { end: base, bytes: before.extent().bytes });
                }
                _ => self.lose(end, base),
            }
            self.partition.skip_to(base);
        }
        segment.index().forget_files(&segment).map_err(self.failed("cut the indexes in"))?;
        segment.aborted().forget_file(&segment).map_err(self.failed("cut the indexes in"))?;
        self.check(segment, 0, bound)
    }

    /// Reports what a segment that is too short has lost; what is left of it is served.
    fn find_what_is_left(&mut self, segment: &Segment) -> Result<(), OpenError> {
        let epochs = self.partition.epochs().clone();
        let end = segment.extent().end;
        let damaged = segment.damage_from(end.advance(-1), &epochs);
        for damage in damaged.map_err(self.failed("read a segment in"))? {
            self.lose(damage.offsets.start, damage.offsets.end);
        }
        Ok(())
    }

    fn bytes_of(&self, segment: &Segment) -> Result<u64, OpenError> {
        let path = segment.path(FileKind::Log);
        self.options.disk.file_bytes(&path).map_err(failed("look at", &path))
    }

    /// If the log ends below its durable point, it goes on behind it, in a new segment.
    fn close_gap(&mut self) -> Result<(), OpenError> {
        let (end, durable) = (self.partition.log_end(), self.report.durable);
        let has_gap = end < durable;
        if has_gap {
            self.lose(end, durable);
            self.partition.skip_to(durable);
        }
        let end = self.partition.log_end();
        let lost_tail = has_gap || self.report.lost.last().is_some_and(|lost| lost.to == end);
        if lost_tail && self.segments.last().is_some_and(|active| active.base() < end) {
            self.segments.push(Arc::new(create(self.options, self.dir, end)?));
        }
        Ok(())
    }

    /// Cuts the tail off a segment, durably, after keeping it elsewhere.
    fn cut(&mut self, segment: &Segment, position: u64) -> Result<(), OpenError> {
        let file = segment.file().map_err(self.failed("open a segment in"))?;
        let bytes = file.bytes().map_err(self.failed("open a segment in"))? - position;
        let kept =
            self.keep_aside(&*file, segment.base(), position).map_err(self.failed("keep a torn tail in"))?;
        file.truncate(position).and_then(|()| file.sync_data()).map_err(self.failed("cut a torn tail in"))?;
        self.note_torn(bytes, kept);
        self.ended = true;
        Ok(())
    }

    /// Takes a whole segment out of the log that lies behind its end.
    fn set_aside(&mut self, segment: &Segment) -> Result<(), OpenError> {
        let disk = &*self.options.disk;
        let path = segment.path(FileKind::Log);
        let file = segment.file().map_err(self.failed("open a segment in"))?;
        let bytes = file.bytes().map_err(self.failed("open a segment in"))?;
        let kept = self.keep_aside(&*file, segment.base(), 0).map_err(self.failed("keep a torn tail in"))?;
        segment.remove().and_then(|()| disk.sync_dir(self.dir)).map_err(failed("remove", &path))?;
        if bytes > 0 {
            self.note_torn(bytes, kept);
        }
        Ok(())
    }

    fn note_torn(&mut self, bytes: u64, kept: Option<PathBuf>) {
        let from = self.partition.log_end();
        tracing::warn!(
            dir = %self.dir.display(), offset = %from, bytes, kept = ?kept,
            "bytes behind the durable point are not batches of this log and were cut off"
        );
        self.report.torn.push(TornTail { from, bytes, kept });
    }

    /// Copies what lies from `position` on to a side file, durably. Zeros are what a file that grew without
    /// its data looks like; nobody misses them.
    fn keep_aside(&self, file: &dyn DiskFile, base: Offset, position: u64) -> io::Result<Option<PathBuf>> {
        let disk = &*self.options.disk;
        let end = file.bytes()?;
        let mut buffer = vec![0; COPY_BYTES];
        let mut side: Option<(Arc<dyn DiskFile>, PathBuf)> = None;
        let mut at = position;
        while at < end {
            let read = file.read_at(&mut buffer, at)?;
            if read == 0 {
                break;
            }
            if side.is_none() && buffer[..read].iter().any(|byte| *byte != 0) {
                let path = self.free_side_name(base, position);
                side = Some((disk.open(&path, IfMissing::Create)?, path));
            }
            if let Some((side, _)) = &side {
                side.write_at(&mut [IoSlice::new(&buffer[..read])], at - position)?;
            }
            at += read as u64;
        }
        let Some((side, path)) = side else { return Ok(None) };
        side.sync_data()?;
        disk.sync_dir(self.dir)?;
        Ok(Some(path))
    }

    fn free_side_name(&self, base: Offset, position: u64) -> PathBuf {
        let name = |turn: usize| {
            let log = FileName { base, kind: FileKind::Log };
            self.dir.join(match turn {
                0 => format!("{log}.{position}.torn"),
                _ => format!("{log}.{position}.{turn}.torn"),
            })
        };
        let is_free = |path: &PathBuf| self.options.disk.file_bytes(path).is_err();
        (0..).map(name).find(is_free).expect("there are not that many files")
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(io::Error) -> OpenError + use<> {
        failed(action, self.dir)
    }
}
