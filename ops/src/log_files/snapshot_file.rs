//! `<durable point>.snapshot`, version 3, and `<base>.swap`, version 2: drawn in `docs/FORMAT.md`.

use std::fs;
use std::path::Path;

use anyhow::Context;

use super::fields::{Fault, Fields};

/// A file larger than this is none of ours; it is not read.
const BYTES_MAX: u64 = 256 << 20;

const COMPACTED_FLAG: u8 = 1;
const LEFT_OUT_FLAG: u8 = 2;

/// What a log remembers beside its batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SnapshotFile {
    pub(super) durable: i64,
    pub(super) log_start: i64,
    pub(super) active_since_ms: i64,
    pub(super) cleaned_to: i64,
    pub(super) segments: Vec<SegmentRecord>,
    pub(super) epochs: Vec<EpochStart>,
    pub(super) producers: Vec<ProducerRecord>,
}

/// A segment as it was then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentRecord {
    pub(super) base: i64,
    pub(super) bytes: u64,
    pub(super) flags: u8,
    pub(super) appended_ms: i64,
    pub(super) offset_entries: u32,
    pub(super) time_entries: u32,
    pub(super) last_position: u32,
    pub(super) last_time: i64,
    pub(super) newest_time: i64,
    pub(super) newest_offset: u32,
    pub(super) aborted_entries: u32,
    pub(super) aborted_sum: u32,
}

impl SegmentRecord {
    /// Compaction wrote it: its offsets may have gaps.
    pub(super) fn is_compacted(&self) -> bool {
        self.flags & COMPACTED_FLAG != 0
    }

    /// Compaction could not read it.
    pub(super) fn is_left_out(&self) -> bool {
        self.flags & LEFT_OUT_FLAG != 0
    }

    fn decode(fields: &mut Fields<'_>) -> Result<Self, Fault> {
        Ok(Self {
            base: fields.i64()?,
            bytes: fields.u64()?,
            flags: fields.u8()?,
            appended_ms: fields.i64()?,
            offset_entries: fields.u32()?,
            time_entries: fields.u32()?,
            last_position: fields.u32()?,
            last_time: fields.i64()?,
            newest_time: fields.i64()?,
            newest_offset: fields.u32()?,
            aborted_entries: fields.u32()?,
            aborted_sum: fields.u32()?,
        })
    }
}

/// Where an epoch began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EpochStart {
    pub(super) epoch: i32,
    pub(super) offset: i64,
}

/// An idempotent producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProducerRecord {
    pub(super) id: i64,
    pub(super) epoch: i16,
    pub(super) last_ms: i64,
    /// Where its open transaction begins; -1 if it has none.
    pub(super) transaction_start: i64,
    /// Its last marker, and the epoch of the coordinator that sent it; -1 for none.
    pub(super) marker: i64,
    pub(super) coordinator_epoch: i32,
    pub(super) batches: Vec<BatchMemo>,
}

/// A batch of such a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchMemo {
    pub(super) base_offset: i64,
    pub(super) timestamp: i64,
    pub(super) base_sequence: i32,
    pub(super) last_offset_delta: i32,
}

impl SnapshotFile {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let mut fields = Fields::sealed(bytes, "MSsn", 3)?;
        let fields = &mut fields;
        let (durable, log_start) = (fields.i64()?, fields.i64()?);
        let (active_since_ms, cleaned_to) = (fields.i64()?, fields.i64()?);
        let count = fields.u32()?;
        let segments = fields.list(count, SegmentRecord::decode)?;
        let count = fields.u32()?;
        let epoch = |fields: &mut Fields<'_>| Ok(EpochStart { epoch: fields.i32()?, offset: fields.i64()? });
        let epochs = fields.list(count, epoch)?;
        let count = fields.u32()?;
        let producers = fields.list(count, producer)?;
        fields.end()?;
        Ok(Self { durable, log_start, active_since_ms, cleaned_to, segments, epochs, producers })
    }

    /// The segment that begins there.
    pub(super) fn segment(&self, base: i64) -> Option<&SegmentRecord> {
        self.segments.iter().find(|segment| segment.base == base)
    }

    /// The epoch in which an offset was written.
    pub(super) fn epoch_of(&self, offset: i64) -> Option<i32> {
        let behind = self.epochs.partition_point(|start| start.offset <= offset);
        behind.checked_sub(1).map(|at| self.epochs[at].epoch)
    }
}

fn producer(fields: &mut Fields<'_>) -> Result<ProducerRecord, Fault> {
    let (id, epoch, last_ms) = (fields.i64()?, fields.i16()?, fields.i64()?);
    let (transaction_start, marker) = (fields.i64()?, fields.i64()?);
    let (coordinator_epoch, count) = (fields.i32()?, fields.u8()?);
    let memo = |fields: &mut Fields<'_>| {
        Ok(BatchMemo {
            base_offset: fields.i64()?,
            timestamp: fields.i64()?,
            base_sequence: fields.i32()?,
            last_offset_delta: fields.i32()?,
        })
    };
    let batches = fields.list(u32::from(count), memo)?;
    Ok(ProducerRecord { id, epoch, last_ms, transaction_start, marker, coordinator_epoch, batches })
}

/// An exchange of segments that will be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SwapFile {
    pub(super) segment: SegmentRecord,
    pub(super) end: i64,
    pub(super) crc: u32,
    pub(super) replaced: Vec<i64>,
}

impl SwapFile {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let mut fields = Fields::sealed(bytes, "MSsw", 2)?;
        let segment = SegmentRecord::decode(&mut fields)?;
        let (end, crc, count) = (fields.i64()?, fields.u32()?, fields.u32()?);
        let replaced = fields.list(count, |fields| fields.i64())?;
        fields.end()?;
        Ok(Self { segment, end, crc, replaced })
    }
}

/// Reads a file that is read as a whole.
///
/// # Errors
/// When the system cannot read it, or it is too large to be one of ours.
pub(super) fn read_small(path: &Path) -> anyhow::Result<Vec<u8>> {
    let unreadable = || format!("{} cannot be read", path.display());
    let bytes = fs::metadata(path).with_context(unreadable)?.len();
    anyhow::ensure!(bytes <= BYTES_MAX, "{} has {bytes} bytes, which is too much for it", path.display());
    fs::read(path).with_context(unreadable)
}
