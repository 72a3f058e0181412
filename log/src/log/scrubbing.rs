//! Scrubbing: looks at what nobody asks for, so that damage is found while there is still a copy elsewhere.

use std::ops::Range;
use std::path::PathBuf;

use super::{Log, ReadError};
use crate::clock::Pace;
use crate::ids::Offset;
use crate::segment::{Damage, DamageCause, FileKind, PROVE_AHEAD_MIN, Piece, Segment, WalkError};
use crate::segment_list::Based;

/// What is verified at a time; `Pace` is asked before each.
const PIECE_BYTES: u64 = 1 << 20;

/// Where a scrub goes on, and how far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubFrom {
    /// The first offset to be looked at.
    pub offset: Offset,
    /// It ends after so many bytes; the caller comes again.
    pub max_bytes: u64,
}

/// What a scrub found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// Bytes that were verified.
    pub bytes: u64,
    /// Where the next one goes on; `None` if all that is durable has been looked at.
    pub next: Option<Offset>,
    /// What it found damaged.
    pub damaged: Vec<QuarantinedRange>,
}

/// A part of a log that cannot be served. Everything around it can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantinedRange {
    /// Offsets that were there.
    pub offsets: Range<Offset>,
    /// The segment's file.
    pub file: PathBuf,
    /// Where in it.
    pub positions: Range<u64>,
    /// Why it cannot be served.
    pub cause: DamageCause,
}

impl QuarantinedRange {
    fn of(segment: &Segment, damage: Damage) -> Self {
        let Damage { positions, offsets, cause } = damage;
        Self { offsets, file: segment.path(FileKind::Log), positions, cause }
    }
}

impl Log {
    /// What is known to be damaged now.
    #[must_use]
    pub fn quarantined(&self) -> Vec<QuarantinedRange> {
        let segments = self.segments.all();
        let damaged = segments.iter().flat_map(|segment| {
            segment.damaged().into_iter().map(|damage| QuarantinedRange::of(segment, damage))
        });
        damaged.collect()
    }

    /// Verifies what is durable, from `from` on, no faster than `pace` allows. What was not in memory before
    /// is not there afterwards. Blocks on the disk.
    ///
    /// # Errors
    /// When the log is closed, or nothing at all can be read.
    pub fn scrub(&self, from: ScrubFrom, pace: &Pace) -> Result<ScrubReport, ReadError> {
        let durable = self.visible()?.end.min(self.durable_point());
        let mut report = ScrubReport::default();
        let mut next = from.offset.max(self.offsets().log_start);
        for segment in self.segments.all().iter() {
            if segment.base() >= durable {
                break;
            }
            next = next.max(segment.base());
            self.use_files(segment);
            while next < durable.min(segment.extent().end) {
                if report.bytes >= from.max_bytes {
                    report.next = Some(next);
                    return Ok(report);
                }
                let piece = self.scrub_piece(segment, next..durable, pace, &mut report);
                next = piece.map_err(|error| self.explain(error, next, segment))?;
            }
        }
        Ok(report)
    }

    /// Verifies a piece of one segment and returns the offset behind it.
    fn scrub_piece(
        &self,
        segment: &Segment,
        offsets: Range<Offset>,
        pace: &Pace,
        report: &mut ScrubReport,
    ) -> Result<Offset, WalkError> {
        let epochs = self.epochs.get();
        // Before anything is read, which brings it in.
        let around = segment.probable_position(offsets.start);
        let left = segment.extent().bytes.saturating_sub(around).min(PIECE_BYTES);
        let was_resident = segment.file()?.is_resident(around, usize::try_from(left).unwrap_or(usize::MAX));
        let mut proving = segment.proven_from(offsets.start, &epochs, PROVE_AHEAD_MIN)?;
        let start = proving.at();
        let bytes = PIECE_BYTES.min(segment.extent().bytes.saturating_sub(start));
        pace.wait_for(bytes);
        let mut next = offsets.start;
        while proving.at() < start + bytes && next < offsets.end {
            match proving.piece()? {
                Some(Piece::Batch(batch, _)) => next = next.max(batch.last_offset.advance(1)),
                Some(Piece::Damage(damage)) => {
                    next = next.max(damage.offsets.end);
                    report.damaged.push(QuarantinedRange::of(segment, damage));
                }
                None => break,
            }
        }
        let end = proving.at();
        drop(proving);
        report.bytes += end - start;
        if !was_resident {
            segment.file()?.forget(around.min(start)..end + PROVE_AHEAD_MIN as u64)?;
        }
        // Compaction may have left nothing up to the end.
        Ok(if end >= segment.extent().bytes { segment.extent().end.max(next) } else { next })
    }
}
