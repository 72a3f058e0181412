//! Goes through a segment that is not known yet, takes up what can be proven, and decides about the rest.
//!
//! Above the durable point the log ends before the first batch that fails. Below it every batch was synced
//! once: what fails is rot, and the log goes on behind it. What the device cannot read is no torn write; if
//! batches come behind it, the log goes on there too. A batch whose leader epoch is not the one that the others
//! say is damaged as well, but which of them is wrong is known only once all of them were seen.

use std::ops::Range;
use std::sync::Arc;

use millstream_protocol::records::{BatchHeader, EndMarker};

use super::Walk;
use crate::ids::{LeaderEpoch, Offset};
use crate::log::OpenError;
use crate::partition::{EpochRun, believable_runs};
use crate::segment::{
    Damage, DamageCause, Density, Extent, PROVE_AHEAD, Past, Placed, Prover, Rules, SEGMENT_BYTES_MAX,
    Segment, Source, Step,
};
use crate::segment_list::Based;

/// A log's epoch may be ahead of the node's by so much: it rises with each unclean start and each reopening.
const EPOCHS_AHEAD_MAX: i32 = 1 << 20;

/// Batches of one segment that follow each other and have the same leader epoch.
#[derive(Debug)]
pub(super) struct FoundRun {
    run: EpochRun,
    segment: Offset,
    positions: Range<u64>,
    offsets: Range<Offset>,
}

/// Where a segment has to end because the next one begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bound {
    /// The next segment begins with this offset.
    Next(Offset),
    /// It is the last one.
    Open,
}

impl Walk<'_> {
    /// Checks a segment from `position` on and takes it into the log; cuts it where the log ends.
    pub(super) fn check(&mut self, segment: Segment, position: u64, bound: Bound) -> Result<(), OpenError> {
        let bytes = self.bytes_of(&segment)?.min(SEGMENT_BYTES_MAX);
        if self.options.config.preallocate && segment.is_worth_room(bytes) {
            // What was set aside for it is not known any more.
            let given_back = segment.file().and_then(|file| file.truncate(file.bytes()?));
            given_back.map_err(self.failed("cut a segment in"))?;
        }
        if bytes == position {
            // Nothing to check: its file is not even opened.
            self.segments.push(Arc::new(segment));
            return Ok(());
        }
        let file = segment.file().map_err(self.failed("open a segment in"))?;
        // Compaction has left gaps where it was, and it was not in the last segment.
        let (density, end) = match bound {
            Bound::Next(base) => (Density::Gaps, base.min(segment.index_end())),
            Bound::Open => (Density::Dense, segment.index_end()),
        };
        let rules = Rules { density, end, epochs: None };
        let prover =
            Prover::new(Arc::clone(&file), position..bytes, self.partition.log_end(), rules, PROVE_AHEAD);
        let mut prover = prover.map_err(self.failed("read a segment in"))?.reading(self.source);
        let mut has_gaps = segment.past().is_compacted;
        loop {
            let end = self.partition.log_end();
            match prover.step().map_err(self.failed("read a segment in"))? {
                Step::End => break,
                Step::Batch(placed, header) => {
                    has_gaps |= placed.base_offset > end;
                    self.take(&segment, (&placed, &header), prover.marker());
                }
                Step::Bad => {
                    let torn_at = prover.at();
                    let is_rot = end < self.report.durable;
                    if !is_rot && prover.has_read_all() {
                        self.cut(&segment, torn_at)?;
                        break;
                    }
                    let damage = prover.resync().map_err(self.failed("read a segment in"))?;
                    let goes_on = prover.at() < bytes;
                    if !is_rot && !goes_on {
                        self.cut(&segment, torn_at)?;
                        break;
                    }
                    self.leave(&segment, damage, bound, goes_on);
                }
            }
        }
        self.report.scanned_bytes += prover.at() - position;
        if self.source == Source::Device {
            // What stays in memory all the same is what the device has, by its CRC.
            file.forget(position..prover.at()).map_err(self.failed("read a segment in"))?;
        }
        let segment = match bound {
            Bound::Next(base) => self.join(segment, base, has_gaps),
            Bound::Open => segment,
        };
        self.segments.push(Arc::new(segment));
        Ok(())
    }

    /// Takes up a batch that was proven.
    fn take(
        &mut self,
        segment: &Segment,
        (placed, header): (&Placed, &BatchHeader),
        marker: Option<EndMarker>,
    ) {
        let now_ms = self.options.clock.latest_ms();
        let aborted = self.partition.replay(header, marker, now_ms);
        segment.aborted().note(aborted.as_slice());
        segment.note(&[*placed]);
        // Our clock may have jumped since: a batch's own time, where it has one, says more of when it came.
        let written_ms = if header.max_timestamp < 0 { now_ms } else { header.max_timestamp.min(now_ms) };
        segment.note_appended_by(written_ms);
        let epoch = LeaderEpoch::new(header.partition_leader_epoch);
        let positions = placed.position..placed.position + placed.bytes as u64;
        let offsets = placed.base_offset..placed.last_offset.advance(1);
        match self.runs.last_mut() {
            Some(last)
                if last.run.epoch == epoch
                    && last.segment == segment.base()
                    && last.positions.end == positions.start =>
            {
                last.run.batches += 1;
                (last.positions.end, last.offsets.end) = (positions.end, offsets.end);
            }
            _ => {
                let run = EpochRun { epoch, batches: 1 };
                self.runs.push(FoundRun { run, segment: segment.base(), positions, offsets });
            }
        }
    }

    /// Leaves damage where it is; the log goes on behind it.
    fn leave(&mut self, segment: &Segment, damage: Damage, bound: Bound, goes_on: bool) {
        let Damage { positions, offsets, cause } = damage;
        // Nobody knows how many offsets were in what nothing follows; those up to the durable point were.
        let end = match (goes_on, bound) {
            (false, Bound::Open) => self.report.durable,
            _ => offsets.end,
        };
        let offsets = offsets.start..end.max(offsets.start);
        self.lose(offsets.start, offsets.end);
        self.partition.skip_to(offsets.end);
        if !goes_on {
            segment.cover(Extent { end: offsets.end, bytes: positions.end });
        }
        segment.note_damage(&Damage { positions, offsets, cause });
    }

    /// The segment up to the next one, if that is a sound place for the log to go on.
    fn join(&mut self, segment: Segment, next: Offset, has_gaps: bool) -> Segment {
        let end = self.partition.log_end();
        if end >= next || end >= self.report.durable {
            return segment;
        }
        // Whether compaction took the last batches or the disk lost them cannot be told without a snapshot. To
        // answer for offsets that are gone for good as damaged would stop every consumer of a compacted log.
        let is_compacted = has_gaps || self.options.config.cleanup.compacts();
        if !has_gaps {
            self.lose(end, next);
        }
        let bytes = segment.extent().bytes;
        segment.cover(Extent { end: next, bytes });
        self.partition.skip_to(next);
        if !is_compacted {
            let (positions, offsets) = (bytes..bytes, end..next);
            segment.note_damage(&Damage { positions, offsets, cause: DamageCause::Rotten });
        }
        let past = segment.past();
        segment.with(Past { is_compacted, ..past })
    }

    /// Finds out from all batches that were taken up who led when, and quarantines those that say otherwise.
    pub(super) fn judge_epochs(&mut self) {
        let runs: Vec<EpochRun> = self.runs.iter().map(|found| found.run).collect();
        let latest = self.partition.epochs().latest().unwrap_or_default();
        let newest = self.options.leader_epoch.get().max(latest.get()).saturating_add(EPOCHS_AHEAD_MAX);
        let believable = believable_runs(&runs, latest..=LeaderEpoch::new(newest));
        for (found, is_believable) in std::mem::take(&mut self.runs).into_iter().zip(believable) {
            if is_believable {
                self.partition.begin_epoch(found.run.epoch, found.offsets.start);
                continue;
            }
            let FoundRun { segment, positions, offsets, .. } = found;
            self.lose(offsets.start, offsets.end);
            if let Some(segment) = self.segments.iter().find(|held| held.base() == segment) {
                segment.note_damage(&Damage { positions, offsets, cause: DamageCause::Rotten });
            }
        }
        self.report.lost.sort_by_key(|lost| lost.from);
    }
}
