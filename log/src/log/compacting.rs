//! Compacting: runs through the log while it is appended to, read and trimmed, and puts new segments in the
//! place of old ones. The parts that know no `Log` are in `compaction`.
//!
//! A run holds `compacting` from beginning to end, `saving` only to put one segment in place, and the writer
//! only to change the list. Segments are replaced from the start of the log on: what a tombstone deletes is
//! gone before the tombstone goes.

use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::compaction::{
    Cleaned, CompactLimits, CompactProgress, Compacted, CompactionFacts, Demand, Dirtiness, Member, Meter,
    Run, RunStart, Stop, group,
};
use super::{CompactError, FlushError, Log};
use crate::clock::Pace;
use crate::disk::Patience;
use crate::ids::{Offset, ProducerId};
use crate::partition::{Aborted, EpochHistory};
use crate::recovery::{Intent, note_gaps};
use crate::segment::{Extent, HeaderWalk, Past, Segment};
use crate::segment_list::Based;
use crate::snapshot::{self, Safety, SegmentRecord};

/// What can be cleaned now.
struct Cleanable {
    /// Sealed segments from the log's start on.
    segments: Vec<Arc<Segment>>,
    /// No run has been through what lies here.
    dirty: std::ops::Range<Offset>,
    /// When the first record that is dirty came; also one that cannot be cleaned yet.
    oldest_dirty_ms: Option<i64>,
}

impl Log {
    /// How much there is to clean, and whether a run is due. Reads a header at most.
    #[must_use]
    pub fn dirtiness(&self) -> Dirtiness {
        let now_ms = self.clock.now_ms();
        let Cleanable { segments, dirty, oldest_dirty_ms } = self.cleanable(now_ms);
        let (mut clean_bytes, mut dirty_bytes) = (0, 0);
        for segment in &segments {
            let Extent { end, bytes } = segment.extent();
            let whole = u128::try_from(end.get() - segment.base().get()).unwrap_or(0).max(1);
            let clean = u128::try_from(dirty.start.get() - segment.base().get()).unwrap_or(0).min(whole);
            // A run that ran out of memory ends within a segment; its batches are taken to be alike.
            let clean = u64::try_from(u128::from(bytes) * clean / whole).unwrap_or(bytes);
            clean_bytes += clean;
            dirty_bytes += bytes - clean;
        }
        let lag_ms = i64::try_from(self.config().max_compaction_lag.as_millis()).unwrap_or(i64::MAX);
        let is_overdue = oldest_dirty_ms.is_some_and(|since| now_ms.saturating_sub(since) > lag_ms);
        let mut dirtiness = Dirtiness { clean_bytes, dirty_bytes, is_overdue, is_due: false };
        let is_dirty = dirty_bytes > 0 && dirtiness.ratio_ppm() >= self.config().min_dirty_ppm;
        dirtiness.is_due = is_dirty || is_overdue;
        dirtiness
    }

    /// What is known of the runs since the log was opened.
    #[must_use]
    pub fn compaction_facts(&self) -> CompactionFacts {
        self.compaction_facts.lock().clone()
    }

    /// How far runs have been through the log.
    #[must_use]
    pub fn cleaned_to(&self) -> Offset {
        self.writer.lock().cleaned_to()
    }

    /// Nothing at or beyond it is compacted: a record that may not count, or that a power cut could take away,
    /// must not replace one that readers have.
    fn compaction_bound(&self) -> Offset {
        self.tail.last_stable().min(self.durable_point())
    }

    fn cleanable(&self, now_ms: i64) -> Cleanable {
        let bound = self.compaction_bound();
        let (all, cleaned_to, active_since_ms) = {
            let writer = self.writer.lock();
            (self.segments.all(), writer.cleaned_to(), writer.active_since_ms())
        };
        let lag_ms = i64::try_from(self.config().min_compaction_lag.as_millis()).unwrap_or(i64::MAX);
        let is_old_enough = |past: Past| lag_ms == 0 || now_ms.saturating_sub(past.appended_ms) >= lag_ms;
        let (active, sealed) = all.split_last().expect("a log has at least one segment");
        let count = sealed
            .iter()
            .take_while(|segment| segment.extent().end <= bound && is_old_enough(segment.past()))
            .count();
        let segments = sealed[..count].to_vec();
        let first = cleaned_to.max(self.tail.offsets().log_start).max(all[0].base());
        let end = segments.last().map_or(first, |last| last.extent().end);
        let oldest_dirty_ms = match self.config().max_compaction_lag {
            Duration::MAX => None,
            _ => match sealed.iter().find(|segment| segment.extent().end > first) {
                Some(segment) => oldest_from(segment, first, &self.epochs.get()),
                None => (active.extent().bytes > 0).then_some(active_since_ms),
            },
        };
        Cleanable { segments, dirty: first..end.max(first), oldest_dirty_ms }
    }

    /// Removes records that later ones of the same key replace. Appends, reads and deletions go on meanwhile;
    /// a second run does not. `watch` is told how far the run is, about once a megabyte, and can end it. Blocks
    /// on the disk, and for as long as `pace` says.
    ///
    /// `None` if no run is due.
    ///
    /// # Errors
    /// When the run cannot go on. What was put in place before stays; the rest is as it was.
    pub fn compact(
        &self,
        limits: CompactLimits,
        pace: &Pace,
        watch: &mut dyn FnMut(CompactProgress) -> ControlFlow<()>,
    ) -> Result<Option<Compacted>, CompactError> {
        let Some(_compacting) = self.compacting.try_lock() else { return Err(CompactError::Busy) };
        self.takes_writes()?;
        let dirtiness = self.dirtiness();
        if limits.demand == Demand::IfDue && !dirtiness.is_due {
            return Ok(None);
        }
        if limits.demand == Demand::Now || dirtiness.is_overdue {
            self.roll_active();
        }
        self.compaction_facts.lock().is_running = true;
        let outcome = self.run(limits, pace, watch);
        self.note_run(&outcome);
        outcome.map(Some)
    }

    fn note_run(&self, outcome: &Result<Compacted, CompactError>) {
        let mut facts = self.compaction_facts.lock();
        facts.is_running = false;
        match outcome {
            Ok(done) => {
                facts.runs += 1;
                facts.last_success_ms = Some(self.clock.now_ms());
                facts.read_bytes += done.read_bytes;
                facts.written_bytes += done.written_bytes;
                facts.records_removed += done.records_removed;
                facts.last = Some(done.clone());
                facts.last_error = None;
            }
            Err(error) => facts.last_error = Some(error.to_string()),
        }
    }

    fn run(
        &self,
        limits: CompactLimits,
        pace: &Pace,
        watch: &mut dyn FnMut(CompactProgress) -> ControlFlow<()>,
    ) -> Result<Compacted, CompactError> {
        let began = Instant::now();
        // What replaces a record must be as safe as it, and recovery has to know all that will be replaced.
        {
            let _saving = self.saving.lock();
            let snapshot = self.synced_snapshot()?;
            self.save(&snapshot, Safety::Synced)?;
        }
        let now_ms = self.clock.now_ms();
        let Cleanable { mut segments, dirty, .. } = self.cleanable(now_ms);
        let dirty_at = segments.partition_point(|segment| segment.extent().end <= dirty.start);
        let bytes = |segments: &[Arc<Segment>]| segments.iter().map(|one| one.extent().bytes).sum::<u64>();
        let mut watch_while_open = |progress| match self.tail.is_closed() {
            true => ControlFlow::Break(()),
            false => watch(progress),
        };
        let meter = Meter::new(pace, &mut watch_while_open, bytes(&segments) + bytes(&segments[dirty_at..]));
        let config = self.config.load_full();
        let start = RunStart {
            disk: &self.disk,
            dir: &self.dir,
            config: &config,
            limits,
            dirty: dirty.clone(),
            now_ms,
            latest_ms: self.clock.latest_ms().max(now_ms),
            last_batches: self.last_batches(now_ms),
            aborted: self.aborted_below(dirty.end)?,
        };
        let mut run = Run::new(start, meter);
        note_gaps(&*self.disk, &self.dir, dirty.end)
            .map_err(|error| self.compaction_io("note how far to compact", error))?;
        let end = run.learn(&segments[dirty_at..]).map_err(|stop| self.explain_stop(stop))?;
        segments.truncate(segments.partition_point(|segment| segment.base() < end));
        let members: Vec<Member> = segments.iter().map(|segment| member(segment)).collect();
        for range in group(&members, &config) {
            // What was replaced takes room for as long as somebody holds it.
            let group: Vec<_> = segments.drain(..range.len()).collect();
            self.compact_group(&mut run, &group)?;
        }
        let cleaned_to = run.mended.map_or(end, |mended| mended.min(end));
        let is_news = cleaned_to != dirty.start || !run.done.damaged.is_empty();
        if is_news {
            let _saving = self.saving.lock();
            self.takes_writes()?;
            self.writer.lock().set_cleaned_to(cleaned_to);
            let snapshot = self.synced_snapshot()?;
            self.save(&snapshot, Safety::Synced)?;
        }
        let mut done = run.done;
        done.cleaned_to = cleaned_to;
        done.read_bytes = run.meter.progress.read_bytes;
        done.took = began.elapsed();
        for base in &done.damaged {
            tracing::error!(
                dir = %self.dir.display(), %base,
                "a segment is damaged: it was left as it is, and tombstones behind it stay"
            );
        }
        Ok(done)
    }

    /// Makes one segment of a group, but for those that cannot be read.
    fn compact_group(&self, run: &mut Run<'_>, group: &[Arc<Segment>]) -> Result<(), CompactError> {
        let mut rest = group;
        while !rest.is_empty() {
            if let Some(at) = rest.iter().position(|segment| segment.past().is_left_out) {
                let (readable, left_out) = rest.split_at(at);
                self.compact_group(run, readable)?;
                run.look_again(&left_out[0]).map_err(|stop| self.explain_stop(stop))?;
                rest = &left_out[1..];
                continue;
            }
            match run.rewrite(rest) {
                Ok(Some(cleaned)) => return self.swap(cleaned, rest),
                Ok(None) => return Ok(()),
                Err(Stop::Damaged { at }) => {
                    let (readable, damaged) = rest.split_at(at);
                    // A file that was deleted cannot be read either.
                    if position_of(&self.segments.all(), &damaged[..1]).is_none() {
                        return Err(CompactError::Overtaken);
                    }
                    self.compact_group(run, readable)?;
                    run.leave_unread(&damaged[0]);
                    rest = &damaged[1..];
                }
                Err(stop) => return Err(self.explain_stop(stop)),
            }
        }
        Ok(())
    }

    fn explain_stop(&self, stop: Stop) -> CompactError {
        match stop {
            Stop::Asked if self.tail.is_closed() => CompactError::Closed,
            Stop::Asked => CompactError::Stopped,
            Stop::Io(error) => self.compaction_io("write a compacted segment in", error),
            Stop::Damaged { at } => unreachable!("segment {at} of a group was to be left out"),
        }
    }

    fn compaction_io(&self, action: &'static str, error: io::Error) -> CompactError {
        CompactError::Io { action, path: self.dir.to_path_buf(), error }
    }

    /// Where the last batch of each producer begins that is not forgotten.
    fn last_batches(&self, now_ms: i64) -> HashMap<ProducerId, Offset> {
        let silence_ms = i64::try_from(self.config().producer_expiration.as_millis()).unwrap_or(i64::MAX);
        let writer = self.writer.lock();
        let known = writer.partition().producers().iter();
        let alive = known.filter(|(_, producer)| now_ms.saturating_sub(producer.last_ms) <= silence_ms);
        // The epoch of one that has no batch is known by its marker.
        let last = alive.filter_map(|(id, producer)| {
            let batch = producer.batches().last().map(|batch| batch.base_offset);
            Some((id, batch.or(producer.marker)?))
        });
        last.collect()
    }

    /// The aborted transactions that have records below `end`.
    fn aborted_below(&self, end: Offset) -> Result<Vec<Aborted>, CompactError> {
        let everything = Offset::default()..end;
        let aborted = self.aborted(&self.segments.all(), (&everything, Patience::Waits));
        aborted.map_err(|error| self.compaction_io("read what was aborted in", error))
    }

    /// Puts a new segment in the place of a group.
    fn swap(&self, cleaned: Cleaned, group: &[Arc<Segment>]) -> Result<(), CompactError> {
        let intent = intent_to_put(&cleaned, group);
        let prepared = intent.prepare(&*self.disk, &self.dir);
        // Who flushes looks at what is not durable yet, and nothing of that is replaced.
        let saving = self.saving.lock();
        let begun = match prepared {
            Ok(()) => self.begin_swap(&intent, group),
            Err(error) => Err(self.compaction_io("write an intent in", error)),
        };
        if let Err(error) = begun {
            if self.takes_writes().is_ok() {
                group.iter().for_each(|segment| segment.let_go_of_files());
                // Without an intent it is nothing, and the next start removes it if this does not.
                let _ = intent.give_up(&*self.disk, &self.dir);
            }
            return Err(error);
        }
        if let Err(error) = intent.take_name(&*self.disk, &self.dir) {
            return Err(self.swap_failed(&error));
        }
        self.list_in_place_of(group, cleaned, intent.segment.past);
        let snapshot = self.synced_snapshot()?;
        let saved = self.save(&snapshot, Safety::Synced);
        // On a full disk the log does without a snapshot, which could only be wrong, until there is room for one.
        let (keep, saving) = match &saved {
            Ok(()) => (Some(snapshot.durable()), None),
            Err(_) => {
                self.durability.lock().forget_saved();
                (None, Some(saving))
            }
        };
        let tidied = intent.remove_replaced(&*self.disk, &self.dir).and_then(|()| {
            snapshot::remove_until(&*self.disk, &self.dir, snapshot.durable(), keep)?;
            intent.remove(&*self.disk, &self.dir)
        });
        drop(saving);
        tidied.map_err(|error| self.swap_failed(&error))
    }

    fn begin_swap(&self, intent: &Intent, group: &[Arc<Segment>]) -> Result<(), CompactError> {
        self.takes_writes()?;
        if position_of(&self.segments.all(), group).is_none() {
            return Err(CompactError::Overtaken);
        }
        for segment in group {
            // Readers may still hold it, and its names will be those of another.
            segment.hold_files().map_err(|error| self.compaction_io("open a segment in", error))?;
        }
        let everything = Offset::default()..Offset::new(i64::MAX);
        let held = self.aborted(group, (&everything, Patience::Waits));
        held.map_err(|error| self.compaction_io("read what was aborted in", error))?;
        intent.publish(&*self.disk, &self.dir).map_err(|error| self.swap_failed(&error))
    }

    /// Readers find the new segment from here on.
    fn list_in_place_of(&self, group: &[Arc<Segment>], cleaned: Cleaned, past: Past) {
        let extent = Extent { end: last_of(group).extent().end, bytes: cleaned.bytes };
        let new = Segment::existing(&self.disk, &self.dir, cleaned.base, extent, cleaned.index);
        let new = Arc::new(new.with(past).with_aborted(cleaned.aborted));
        {
            let _writer = self.writer.lock();
            let all = self.segments.all();
            let at = position_of(&all, group).expect("nobody replaces segments without `saving`");
            let mut next = all[..at].to_vec();
            next.push(new);
            next.extend_from_slice(&all[at + group.len()..]);
            self.segments.replace(next);
        }
        self.open_files.forget(group);
    }

    /// Only the next open can tell which segments there are.
    fn swap_failed(&self, error: &io::Error) -> CompactError {
        self.note_failure("replace segments of", error);
        self.fail_waiters();
        match self.takes_writes() {
            Err(error) => error.into(),
            Ok(()) => FlushError::Closed.into(),
        }
    }
}

/// What is going to be done with a new segment.
fn intent_to_put(cleaned: &Cleaned, group: &[Arc<Segment>]) -> Intent {
    let appended_ms = group.iter().map(|segment| segment.past().appended_ms).max();
    let appended_ms = appended_ms.unwrap_or(Past::NONE.appended_ms);
    let past = Past { is_compacted: true, is_left_out: false, appended_ms };
    let (index, aborted) = (cleaned.index.mark(), cleaned.aborted.mark());
    Intent {
        segment: SegmentRecord { base: cleaned.base, bytes: cleaned.bytes, past, index, aborted },
        end: last_of(group).extent().end,
        crc: cleaned.crc,
        replaced: group.iter().map(|segment| segment.base()).collect(),
    }
}

fn last_of(group: &[Arc<Segment>]) -> &Arc<Segment> {
    group.last().expect("a group has a segment")
}

/// Where the group lies in the list, if all of it is there as it was.
fn position_of(all: &[Arc<Segment>], group: &[Arc<Segment>]) -> Option<usize> {
    let at = all.iter().position(|segment| Arc::ptr_eq(segment, &group[0]))?;
    let same = all[at..].len() >= group.len() && all[at..].iter().zip(group).all(|(a, b)| Arc::ptr_eq(a, b));
    same.then_some(at)
}

fn member(segment: &Segment) -> Member {
    let Extent { end, bytes } = segment.extent();
    Member { base: segment.base(), end, bytes, index_bytes: segment.index().offset_index_bytes() }
}

/// When the first batch came that lies at or behind `from`: its own time, which can lie ahead of ours.
fn oldest_from(segment: &Segment, from: Offset, epochs: &EpochHistory) -> Option<i64> {
    let appended_ms = segment.past().appended_ms;
    let position = segment.position_of(from, epochs).ok()?;
    let file = segment.file().ok()?;
    let (_, header) = HeaderWalk::new(&*file, position..segment.extent().bytes).next().ok()??;
    Some(if header.max_timestamp < 0 { appended_ms } else { header.max_timestamp.min(appended_ms) })
}
