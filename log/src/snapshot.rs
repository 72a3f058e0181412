//! What a log remembers beside its batches: how far it is durable, and the partition's state there.
//!
//! `<durable point, 20 digits>.snapshot`, written when a segment is rolled, at intervals, when records are
//! deleted and at a clean close, always after the batches below its name are on disk. The newest two that
//! were synced are kept, at least. A log whose snapshots are all gone is walked from its start instead. Big-endian:
//!
//! ```text
//!  at  bytes
//!   0      4  "MSsn"
//!   4      2  version, 3; a reader refuses any other and walks the log
//!   6      4  CRC-32C of what follows
//!  10      8  durable point
//!  18      8  log start
//!  26      8  when the active segment got its first batch, milliseconds; -1 if it has none
//!  34      8  cleaned to: compaction has been through what lies below; the log start if it never was here
//!  42      4  count of segments, oldest first, the last of them holds the durable point; for each
//!               8  base
//!               8  bytes; of the last, the position of the durable point
//!               1  flags: bit 0, it was compacted and its offsets may have gaps; bit 1, compaction could not
//!                  read it; the others are 0
//!               8  when a batch was appended to it last, by our clock, milliseconds; -1 if none was
//!               4  entries of the offset index     4  entries of the time index
//!               4  position of the last entry      8  time of the last time entry
//!               8  largest timestamp               4  last offset of its batch, less the base
//!               4  entries of the index of aborted transactions
//!               4  what they sum up to: CRC-32C (u) of each entry behind the sum before it, 0 at first
//!          4  count of leader epochs, oldest first; for each
//!               4  epoch                           8  first offset
//!          4  count of producers by id; for each
//!               8  id       2  epoch               8  when it wrote last, milliseconds
//!               8  where its open transaction begins, -1 if it has none
//!               8  its last marker, -1 for none    4  epoch of the coordinator of that marker, -1 for none
//!               1  count of batches, 0 to 5, oldest first; for each
//!                    8  base offset                8  timestamp of the answer
//!                    4  base sequence              4  last offset delta
//! ```
//!
//! The segments come first because retention will want them without the rest.

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::path::Path;

use millstream_protocol::records::crc32c;

use crate::disk::{Disk, IfMissing};
use crate::ids::{LeaderEpoch, Offset, ProducerId};
use crate::partition::{BatchMemo, EpochHistory, EpochStart, Partition, Producer, Producers};
use crate::segment::{AbortedMark, FileKind, FileName, IndexMark, Past, SEGMENT_BYTES_MAX, TimeMark};

const MAGIC: &[u8; 4] = b"MSsn";
const VERSION: u16 = 3;
const CRC_AT: usize = 6;
const BODY_AT: usize = 10;

/// Where there is none.
const NO_OFFSET: Offset = Offset::new(-1);

const COMPACTED_FLAG: u8 = 1;
const LEFT_OUT_FLAG: u8 = 2;

/// Snapshots that are kept; should the newest be damaged, the one before it bounds the walk.
const GENERATIONS: usize = 2;

/// Whether a snapshot is on disk when it counts as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Safety {
    Synced,
    /// It will be. If the power fails before, the one before it is used, and more of the log is walked.
    Written,
}

/// A segment as a snapshot knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentRecord {
    pub(crate) base: Offset,
    pub(crate) bytes: u64,
    pub(crate) past: Past,
    pub(crate) index: IndexMark,
    pub(crate) aborted: AbortedMark,
}

impl SegmentRecord {
    /// Appends what a snapshot says of it.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_offset(out, self.base);
        out.extend_from_slice(&self.bytes.to_be_bytes());
        let compacted = if self.past.is_compacted { COMPACTED_FLAG } else { 0 };
        out.push(compacted | if self.past.is_left_out { LEFT_OUT_FLAG } else { 0 });
        out.extend_from_slice(&self.past.appended_ms.to_be_bytes());
        let IndexMark { offset_entries, time_entries, last_position, last_time, newest } = self.index;
        for number in [offset_entries, time_entries, last_position] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&last_time.to_be_bytes());
        out.extend_from_slice(&newest.timestamp.to_be_bytes());
        out.extend_from_slice(&newest.offset.to_be_bytes());
        let AbortedMark { entries, sum } = self.aborted;
        out.extend_from_slice(&entries.to_be_bytes());
        out.extend_from_slice(&sum.to_be_bytes());
    }
}

/// A partition's state at its durable point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) segments: Vec<SegmentRecord>,
    pub(crate) active_since_ms: i64,
    /// Compaction has been through what lies below.
    pub(crate) cleaned_to: Offset,
    /// Its log end is the durable point.
    pub(crate) partition: Partition,
}

impl Snapshot {
    pub(crate) fn durable(&self) -> Offset {
        self.partition.log_end()
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        put_offset(&mut out, self.durable());
        put_offset(&mut out, self.partition.log_start());
        out.extend_from_slice(&self.active_since_ms.to_be_bytes());
        put_offset(&mut out, self.cleaned_to);
        put_count(&mut out, self.segments.len());
        for segment in &self.segments {
            segment.put(&mut out);
        }
        put_count(&mut out, self.partition.epochs().entries().len());
        for start in self.partition.epochs().entries() {
            out.extend_from_slice(&start.epoch.get().to_be_bytes());
            put_offset(&mut out, start.offset);
        }
        let producers = self.partition.producers().iter();
        put_count(&mut out, producers.len());
        for (id, producer) in producers {
            out.extend_from_slice(&id.get().to_be_bytes());
            out.extend_from_slice(&producer.epoch.to_be_bytes());
            out.extend_from_slice(&producer.last_ms.to_be_bytes());
            for offset in [producer.open, producer.marker] {
                put_offset(&mut out, offset.unwrap_or(NO_OFFSET));
            }
            out.extend_from_slice(&producer.coordinator_epoch.to_be_bytes());
            out.push(u8::try_from(producer.batches().len()).expect("at most five"));
            for memo in producer.batches() {
                put_offset(&mut out, memo.base_offset);
                out.extend_from_slice(&memo.timestamp.to_be_bytes());
                out.extend_from_slice(&memo.base_sequence.to_be_bytes());
                out.extend_from_slice(&memo.last_offset_delta.to_be_bytes());
            }
        }
        let crc = crc32c(&out[BODY_AT..]);
        out[CRC_AT..BODY_AT].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// `None` if the bytes are not a snapshot that we wrote.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut at = Fields(bytes);
        let known = at.take::<4>()? == *MAGIC && u16::from_be_bytes(at.take()?) == VERSION;
        let crc = u32::from_be_bytes(at.take()?);
        if !known || crc != crc32c(at.0) {
            return None;
        }
        let (durable, log_start) = (at.offset()?, at.offset()?);
        let (active_since_ms, cleaned_to) = (at.i64()?, at.offset()?);
        let segments = (0..at.u32()?).map(|_| at.segment()).collect::<Option<Vec<_>>>()?;
        let epochs = (0..at.u32()?)
            .map(|_| {
                Some(EpochStart {
                    epoch: LeaderEpoch::new(i32::from_be_bytes(at.take()?)),
                    offset: at.offset()?,
                })
            })
            .collect::<Option<Vec<_>>>()?;
        let mut producers = Producers::default();
        let mut open = BTreeSet::new();
        for _ in 0..at.u32()? {
            let (id, producer) = at.producer()?;
            if producer.open.is_some_and(|first| first >= durable || !open.insert(first)) {
                return None;
            }
            producers.insert(id, producer);
        }
        let last = segments.last()?;
        let in_order = segments.is_sorted_by(|a, b| a.base < b.base);
        if !at.0.is_empty() || !in_order || last.base > durable || log_start.max(cleaned_to) > durable {
            return None;
        }
        let partition =
            Partition::restore(log_start, durable, EpochHistory::from_entries(epochs)?, producers);
        Some(Self { segments, active_since_ms, cleaned_to, partition })
    }

    /// Writes the snapshot and removes those that are no longer needed. The batches below it are durable.
    pub(crate) fn write(&self, disk: &dyn Disk, dir: &Path, safety: Safety) -> io::Result<()> {
        let name = FileName { base: self.durable(), kind: FileKind::Snapshot };
        let target = dir.join(name.to_string());
        let unfinished = target.with_extension(UNFINISHED);
        let bytes = self.encode();
        let file = disk.open(&unfinished, IfMissing::Create)?;
        file.truncate(0)?;
        file.write_at(&mut [IoSlice::new(&bytes)], 0)?;
        // One that is not synced must not take the place of one that is, nor must that one be removed.
        if safety == Safety::Written && disk.file_bytes(&target).is_err() {
            return disk.rename(&unfinished, &target);
        }
        file.sync_data()?;
        disk.rename(&unfinished, &target)?;
        disk.sync_dir(dir)?;
        let mut offsets = offsets_of(disk, dir)?;
        // A snapshot beyond this one describes batches that were cut off.
        offsets.sort_unstable_by_key(|offset| (*offset <= self.durable(), *offset));
        for base in &offsets[..offsets.len().saturating_sub(GENERATIONS)] {
            disk.remove_file(&dir.join(FileName { base: *base, kind: FileKind::Snapshot }.to_string()))?;
        }
        Ok(())
    }

    /// Reads the snapshot of this durable point; `None` if it is damaged.
    pub(crate) fn read(disk: &dyn Disk, dir: &Path, durable: Offset) -> io::Result<Option<Self>> {
        let path = dir.join(FileName { base: durable, kind: FileKind::Snapshot }.to_string());
        let file = disk.open(&path, IfMissing::Fail)?;
        let bytes = usize::try_from(file.bytes()?).ok().filter(|bytes| *bytes <= SNAPSHOT_BYTES_MAX);
        let Some(bytes) = bytes else { return Ok(None) };
        let mut held = vec![0; bytes];
        let read = file.read_at(&mut held, 0)?;
        Ok(Self::decode(&held[..read]).filter(|snapshot| snapshot.durable() == durable))
    }
}

/// The extension of a snapshot that is being written.
pub(crate) const UNFINISHED: &str = "snapshot-unfinished";

/// Larger files are not ours: it is what the most producers and segments come to, and some.
const SNAPSHOT_BYTES_MAX: usize = 1 << 30;

/// Removes snapshots up to `durable`, durably, but for `keep`: they describe segments that are no more.
pub(crate) fn remove_until(
    disk: &dyn Disk,
    dir: &Path,
    durable: Offset,
    keep: Option<Offset>,
) -> io::Result<()> {
    let wrong =
        offsets_of(disk, dir)?.into_iter().filter(|offset| *offset <= durable && Some(*offset) != keep);
    for base in wrong {
        match remove(disk, dir, base) {
            // Whoever writes the next one removes old ones, too.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    disk.sync_dir(dir)
}

/// Removes one.
pub(crate) fn remove(disk: &dyn Disk, dir: &Path, durable: Offset) -> io::Result<()> {
    disk.remove_file(&dir.join(FileName { base: durable, kind: FileKind::Snapshot }.to_string()))
}

/// Removes snapshots beyond `end`, durably: the batches that they rest on are about to go.
pub(crate) fn remove_beyond(disk: &dyn Disk, dir: &Path, end: Offset) -> io::Result<()> {
    for base in offsets_of(disk, dir)?.into_iter().filter(|offset| *offset > end) {
        disk.remove_file(&dir.join(FileName { base, kind: FileKind::Snapshot }.to_string()))?;
    }
    disk.sync_dir(dir)
}

/// Durable points of the snapshots in a folder, in no order.
pub(crate) fn offsets_of(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<Offset>> {
    let names = disk.list(dir)?;
    let ours = names.iter().filter_map(|name| FileName::parse(name.to_str()?));
    Ok(ours.filter(|name| name.kind == FileKind::Snapshot).map(|name| name.base).collect())
}

pub(crate) fn put_offset(out: &mut Vec<u8>, offset: Offset) {
    out.extend_from_slice(&offset.get().to_be_bytes());
}

pub(crate) fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).expect("bounded far below 2^32").to_be_bytes());
}

/// Takes fields off the front. Nothing is allocated by a count before as many entries are there.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    pub(crate) fn take<const BYTES: usize>(&mut self) -> Option<[u8; BYTES]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_be_bytes)
    }

    pub(crate) fn offset(&mut self) -> Option<Offset> {
        self.i64().filter(|offset| *offset >= 0).map(Offset::new)
    }

    pub(crate) fn segment(&mut self) -> Option<SegmentRecord> {
        let base = self.offset()?;
        let bytes = self.take().map(u64::from_be_bytes).filter(|bytes| *bytes <= SEGMENT_BYTES_MAX)?;
        let [flags] = self.take()?;
        if flags & !(COMPACTED_FLAG | LEFT_OUT_FLAG) != 0 {
            return None;
        }
        let past = Past {
            is_compacted: flags & COMPACTED_FLAG != 0,
            is_left_out: flags & LEFT_OUT_FLAG != 0,
            appended_ms: self.i64()?,
        };
        let (offset_entries, time_entries, last_position) = (self.u32()?, self.u32()?, self.u32()?);
        let last_time = self.i64()?;
        let newest = TimeMark { timestamp: self.i64()?, offset: self.u32()? };
        let index = IndexMark { offset_entries, time_entries, last_position, last_time, newest };
        let aborted = AbortedMark { entries: self.u32()?, sum: self.u32()? };
        Some(SegmentRecord { base, bytes, past, index, aborted })
    }

    fn producer(&mut self) -> Option<(ProducerId, Producer)> {
        let id = ProducerId::new(self.i64()?);
        let mut producer = Producer::new(i16::from_be_bytes(self.take()?), self.i64()?);
        let optional = |offset: i64| (offset >= 0).then_some(Offset::new(offset));
        (producer.open, producer.marker) = (optional(self.i64()?), optional(self.i64()?));
        producer.coordinator_epoch = self.take().map(i32::from_be_bytes)?;
        let [batches] = self.take()?;
        for _ in 0..batches {
            producer.push(BatchMemo {
                base_offset: self.offset()?,
                timestamp: self.i64()?,
                base_sequence: self.take().map(i32::from_be_bytes)?,
                last_offset_delta: self.take().map(i32::from_be_bytes)?,
            });
        }
        Some((id, producer))
    }
}
