//! Who waits for the disk, and what happens when it answers or fails.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::failure::{Failure, FailureKind};
use super::writing::Settled;
use super::{Acks, AppendError, FlushError, FlushHere, Log};
use crate::flusher::{Again, Due, Flush};
use crate::ids::Offset;
use crate::recovery::{Saved, UnsyncedNames};
use crate::segment_list::Based;
use crate::snapshot::{Safety, Snapshot};
use crate::sync::MutexGuard;
use crate::sync::atomic::Ordering::{Acquire, SeqCst};
use crate::sync::atomic::{AtomicBool, fence};
use crate::tail::Offsets;

/// How far the log is durable, and who waits for more.
pub(super) struct Durability {
    /// Everything below it was synced by this process, or was known to be.
    point: Offset,
    /// Ordered by `until`.
    waiters: VecDeque<Settled>,
    /// Below it everything is to become durable though nobody may wait.
    wanted: Offset,
    /// How many batches lie below the point, of those appended since the log was opened.
    batches: u64,
    /// How many the last flush answered that answered anybody.
    served: usize,
    /// The flusher has this log in its queue of those that are to become durable, or is at it.
    flush_scheduled: bool,
    /// The same for its other queue.
    checkpoint_scheduled: bool,
    /// What describes the log as it was then.
    saved: Option<Saved>,
}

/// The right to change the files of a log in other ways than by appending. Released in this order.
pub(super) struct Exclusive<'a> {
    _flushing: MutexGuard<'a, ()>,
    _saving: MutexGuard<'a, ()>,
}

/// `<data>/topics/<topic>/<partition>`: these folders have names that a log rests on.
pub(super) const FOLDERS_OF_A_LOG: usize = 4;

impl Durability {
    pub(super) fn at(point: Offset, saved: Option<Saved>) -> Self {
        let waiters = VecDeque::new();
        let (flush_scheduled, checkpoint_scheduled) = (false, false);
        Self {
            point,
            waiters,
            wanted: point,
            batches: 0,
            served: 0,
            flush_scheduled,
            checkpoint_scheduled,
            saved,
        }
    }

    /// Everything below it was synced.
    pub(super) fn point(&self) -> Offset {
        self.point
    }

    /// The log was reopened and is on disk up to `end`. Nobody waits.
    pub(super) fn restart(&mut self, end: Offset, batches: u64) {
        (self.point, self.wanted, self.batches, self.saved) = (end, end, batches, None);
    }

    fn needs_flush(&self) -> bool {
        !self.waiters.is_empty() || self.wanted > self.point
    }

    /// Whether one waits as it seems to be usual: nobody comes while it is flushed for.
    fn is_alone(&self) -> bool {
        self.waiters.len() == 1 && self.served <= 1
    }

    /// Whether a snapshot on disk holds what the batches below `offset` say of producers and epochs.
    pub(super) fn is_saved_to(&self, offset: Offset) -> bool {
        matches!(self.saved, Some(Saved::By { durable, .. }) if durable >= offset)
    }

    /// The log start was made durable beside the snapshot.
    pub(super) fn log_start_moved(&mut self, to: Offset) {
        if let Some(Saved::By { log_start, .. }) = &mut self.saved {
            *log_start = to;
        }
    }

    /// No snapshot describes the log.
    pub(super) fn forget_saved(&mut self) {
        self.saved = None;
    }

    /// The log was cut at `end`.
    pub(super) fn cut(&mut self, end: Offset) {
        self.point = self.point.min(end);
        self.wanted = self.wanted.min(end);
        self.saved = None;
    }
}

impl Log {
    /// Everything below it is on disk, and was before a power cut.
    #[must_use]
    pub fn durable_point(&self) -> Offset {
        self.durability.lock().point
    }

    /// `Err` once the log has failed or is closed.
    pub(super) fn takes_writes(&self) -> Result<(), FlushError> {
        self.has_not_failed()?;
        match self.tail.is_closed() {
            true => Err(FlushError::Closed),
            false => Ok(()),
        }
    }

    fn has_not_failed(&self) -> Result<(), FlushError> {
        match self.failure.get() {
            Some(Failure { reason, .. }) => Err(FlushError::StorageFailed { reason }),
            None => Ok(()),
        }
    }

    /// The log takes no more writes. Who waits is told by `settle` or `fail_waiters`, outside the locks.
    pub(super) fn note_failure(&self, action: &str, error: &io::Error) {
        let reason: Arc<str> = format!("cannot {action} {}: {error}", self.dir.display()).into();
        let kind = FailureKind::of(error);
        if self.failure.set(Failure { kind, reason: Arc::clone(&reason) }) {
            tracing::error!("{reason}; this partition takes no writes until it is reopened");
        }
    }

    /// Answers what is as safe as it asks and lets the rest wait for the disk. All was judged in this
    /// generation of the log. `Some` if the caller may flush for them.
    pub(super) fn settle(self: &Arc<Self>, settled: Vec<Settled>, generation: u64) -> Option<FlushHere> {
        // In this order: the failure is taken back after the generation has changed.
        if self.is_failed() || self.generation.load(Acquire) != generation {
            self.refuse(settled);
            if self.is_failed() {
                self.fail_waiters();
            }
            return None;
        }
        if settled.iter().all(|one| one.acks == Acks::Written) {
            answer(settled);
            return None;
        }
        let (mut ready, mut failed) = (Vec::new(), Vec::new());
        let (must_schedule, is_alone) = {
            let mut durability = self.durability.lock();
            for one in settled {
                // Reopening changes it under this lock.
                if self.generation.load(Acquire) != generation {
                    failed.push(one);
                } else if one.acks == Acks::Written || one.until <= durability.point {
                    ready.push(one);
                } else if self.takes_writes().is_err() {
                    failed.push(one);
                } else {
                    let behind = durability.waiters.partition_point(|waiter| waiter.until <= one.until);
                    durability.waiters.insert(behind, one);
                }
            }
            let is_needed = durability.needs_flush();
            (is_needed && !std::mem::replace(&mut durability.flush_scheduled, true), durability.is_alone())
        };
        answer(ready);
        self.refuse(failed);
        match (must_schedule, is_alone) {
            (true, true) => self.flusher.offer_flush(self.as_flush()),
            (true, false) => {
                self.flusher.schedule_flush(self.as_flush());
                None
            }
            (false, _) => None,
        }
    }

    /// Tells everybody in the list that the log failed or closed.
    fn refuse(&self, settled: Vec<Settled>) {
        let error = match (self.takes_writes(), self.failure.last()) {
            (Err(error), _) => error.into(),
            // It was reopened, and what was asked of it before is gone.
            (Ok(()), Some(Failure { reason, .. })) => AppendError::StorageFailed { reason },
            (Ok(()), None) => AppendError::Closed,
        };
        for one in settled {
            (one.done)(Err(error.clone()));
        }
    }

    pub(super) fn fail_waiters(&self) {
        let waiters = std::mem::take(&mut self.durability.lock().waiters);
        self.refuse(waiters.into());
    }

    /// Has the flusher move the durable point.
    pub(super) fn request_checkpoint(self: &Arc<Self>) {
        let scheduled = std::mem::replace(&mut self.durability.lock().checkpoint_scheduled, true);
        if !scheduled {
            self.flusher.schedule_checkpoint(self.as_flush());
        }
    }

    /// Has the flusher make durable what is written, though nobody waits.
    fn request_flush(self: &Arc<Self>) {
        let must_schedule = {
            let mut durability = self.durability.lock();
            durability.wanted = durability.wanted.max(self.tail.log_end());
            durability.needs_flush() && !std::mem::replace(&mut durability.flush_scheduled, true)
        };
        if must_schedule {
            self.flusher.schedule_flush(self.as_flush());
        }
    }

    /// Something was written: makes sure that it becomes durable in time though nobody may wait for it.
    pub(super) fn bound_unflushed(self: &Arc<Self>) {
        self.set_timers();
        let config = self.config();
        if config.preallocate && self.segments.all().last().is_some_and(|active| active.is_short_of_room()) {
            self.set_timer(Due::Room, Duration::ZERO);
        }
        if config.flush_records < u64::MAX {
            let point = self.durability.lock().point;
            let unflushed = self.tail.log_end().get().saturating_sub(point.get());
            if u64::try_from(unflushed).is_ok_and(|records| records >= config.flush_records) {
                self.request_flush();
            }
        }
    }

    /// Has room set aside for the active segment if it is short of it.
    fn make_room(&self) {
        if let Some(active) = self.segments.all().last()
            && active.is_short_of_room()
            && let Err(error) = active.reserve_room(self.config().segment_bytes)
        {
            tracing::debug!(dir = %self.dir.display(), %error, "no room is set aside");
        }
    }

    /// Makes sure that a checkpoint, and a flush if there is an interval for it, come due in a while.
    pub(super) fn set_timers(self: &Arc<Self>) {
        let config = self.config();
        self.set_timer(Due::Checkpoint, config.checkpoint_interval);
        if let Some(interval) = config.flush_interval {
            self.set_timer(Due::Flush, interval);
        }
    }

    fn timer(&self, what: Due) -> &AtomicBool {
        match what {
            Due::Checkpoint => &self.checkpoint_timer,
            Due::Flush => &self.flush_timer,
            Due::Room => &self.room_timer,
        }
    }

    fn set_timer(self: &Arc<Self>, what: Due, after: Duration) {
        let is_set = self.timer(what);
        if !is_set.load(SeqCst) && !is_set.swap(true, SeqCst) {
            self.flusher.schedule_after(&self.as_flush(), after, what);
        }
    }

    /// Makes everything written so far durable. Blocks on the disk.
    ///
    /// # Errors
    /// When the disk fails, now or before, or the log is closed.
    pub fn flush(&self) -> Result<(), FlushError> {
        let _flushing = self.flushing.lock();
        self.takes_writes()?;
        self.sync()
    }

    /// Makes everything written so far durable and remembers it: recovery starts there. Blocks on the disk.
    ///
    /// # Errors
    /// When the disk fails, now or before, or the log is closed.
    pub fn checkpoint(&self) -> Result<(), FlushError> {
        let _saving = self.saving.lock();
        {
            let _flushing = self.flushing.lock();
            self.takes_writes()?;
            // It comes within a minute of an append, which is as long as memory is taken for granted.
            if let Some(active) = self.segments.all().last() {
                active.cool();
            }
            match self.saved() {
                Some(Saved::AsEmpty) => return Ok(()),
                // Its names may not be durable all the same.
                Some(Saved::By { .. }) => return self.sync(),
                None => {}
            }
        }
        let snapshot = self.synced_snapshot()?;
        self.save(&snapshot, Safety::Synced)
    }

    /// What describes the log, durably. The caller holds `saving` and writes it down; whoever waits for a flush
    /// need not wait for that.
    pub(super) fn synced_snapshot(&self) -> Result<Snapshot, FlushError> {
        self.write_out();
        let _flushing = self.flushing.lock();
        let snapshot = self.take_snapshot();
        self.sync()?;
        Ok(snapshot)
    }

    /// Has the device write what the next sync would have to write at once: for as long as a large sync takes, nobody
    /// else gets one, of whatever file. The caller holds `saving`, so that no segment goes meanwhile.
    fn write_out(&self) {
        let from = self.durable_point();
        let segments = self.segments.all();
        segments
            .iter()
            .rev()
            .take_while(|segment| segment.extent().end > from)
            .for_each(|one| one.write_out());
    }

    /// Keeps everybody else from flushing, saving and replacing segments.
    pub(super) fn exclusive(&self) -> Exclusive<'_> {
        let saving = self.saving.lock();
        Exclusive { _flushing: self.flushing.lock(), _saving: saving }
    }

    pub(super) fn save_now(&self, safety: Safety) -> Result<(), FlushError> {
        let snapshot = self.take_snapshot();
        self.sync()?;
        self.save(&snapshot, safety)
    }

    /// What describes the log as it is now, if something does.
    fn saved(&self) -> Option<Saved> {
        let Offsets { log_start, log_end, .. } = self.offsets();
        self.durability.lock().saved.filter(|saved| match saved {
            Saved::AsEmpty => log_end == Offset::default(),
            by @ Saved::By { .. } => *by == Saved::By { log_start, durable: log_end },
        })
    }

    /// Flushes and closes: the next open needs no scan. Whoever is parked is woken. Blocks on the disk.
    ///
    /// # Errors
    /// When the disk fails, now or before: the next open scans then. When the log was closed before.
    pub fn close(&self) -> Result<(), FlushError> {
        let _exclusive = self.exclusive();
        {
            let writer = self.writer.lock();
            if self.tail.is_closed() {
                return Err(FlushError::Closed);
            }
            writer.seal();
            self.tail.close();
        }
        // Thousands of logs are closed at once. One in which nothing was written has nothing to save, and of
        // the others only the batches have to be on disk before the process ends.
        let closed = self.has_not_failed().and_then(|()| match self.saved() {
            Some(Saved::AsEmpty) => Ok(()),
            Some(Saved::By { .. }) => self.sync(),
            None => self.save_now(Safety::Written).and_then(|()| self.finish_indexes(1)),
        });
        self.fail_waiters();
        closed
    }

    pub(super) fn take_snapshot(&self) -> Snapshot {
        let now_ms = self.clock.now_ms();
        let mut writer = self.writer.lock();
        writer.partition_mut().expire_producers(now_ms, self.config().producers_max);
        writer.snapshot(&self.segments)
    }

    /// Syncs what is written and answers who waits for it. The caller holds `flushing`.
    pub(super) fn sync(&self) -> Result<(), FlushError> {
        self.has_not_failed()?;
        // Read before the segments and folders: what ends here lies in those that are found below.
        let target = self.tail.log_end();
        let from = self.durability.lock().point;
        let batches = self.batches();
        let names = std::mem::take(&mut *self.unsynced.lock());
        for segment in self.segments.all().iter().rev() {
            if segment.extent().end <= from {
                break;
            }
            if segment.base() < target
                && let Err(error) = self.flusher.timed(|| segment.sync())
            {
                return Err(self.fail("sync a segment in", &error));
            }
        }
        self.sync_names(&names).map_err(|error| self.fail("sync a folder of", &error))?;
        let ready = {
            let mut durability = self.durability.lock();
            durability.point = durability.point.max(target);
            self.flusher.note_flushed(batches - std::mem::replace(&mut durability.batches, batches));
            let ready = durability.waiters.partition_point(|waiter| waiter.until <= target);
            if ready > 0 {
                durability.served = ready;
            }
            durability.waiters.drain(..ready).collect()
        };
        answer(ready);
        Ok(())
    }

    pub(super) fn sync_names(&self, names: &UnsyncedNames) -> io::Result<()> {
        for (at, dir) in names.made_in.iter().enumerate() {
            if !names.made_in[..at].contains(dir) {
                self.disk.sync_dir(dir)?;
            }
        }
        if names.inherited {
            if !names.made_in.iter().any(|dir| **dir == *self.dir) {
                self.disk.sync_dir(&self.dir)?;
            }
            // A thousand logs lie in the same folders: what one of them inherited is synced once.
            for dir in self.dir.ancestors().take(FOLDERS_OF_A_LOG).skip(1) {
                self.flusher.once_for(dir, || self.disk.sync_dir(dir))?;
            }
        }
        Ok(())
    }

    /// A failed sync is final: what the system has dropped it will not report a second time.
    pub(super) fn fail(&self, action: &str, error: &io::Error) -> FlushError {
        self.note_failure(action, error);
        self.mark_doubted();
        self.fail_waiters();
        self.has_not_failed().expect_err("it was just noted")
    }

    /// Writes a snapshot whose batches are durable. The log goes on without it: recovery reads more then.
    pub(super) fn save(&self, snapshot: &Snapshot, safety: Safety) -> Result<(), FlushError> {
        let saved = self.finish_indexes(0).and_then(|()| {
            let written = snapshot.write(&*self.disk, &self.dir, safety);
            written.map_err(|error| self.unsaved("write a snapshot in", &error))
        });
        if let Err(error) = &saved {
            tracing::warn!(dir = %self.dir.display(), %error, "no checkpoint");
        } else {
            let (log_start, durable) = (snapshot.partition.log_start(), snapshot.durable());
            self.durability.lock().saved = Some(Saved::By { log_start, durable });
        }
        saved
    }

    /// Spills the indexes, and finishes those of sealed segments and of the last `active`.
    fn finish_indexes(&self, active: usize) -> Result<(), FlushError> {
        let segments = self.segments.all();
        let sealed = segments.len() - 1 + active;
        for (at, segment) in segments.iter().enumerate() {
            if segment.index().pending() > 0 {
                segment.index().spill(segment).map_err(|error| self.unsaved("write an index in", &error))?;
            }
            if segment.aborted().is_pending() {
                let spilled = segment.aborted().spill(segment);
                spilled.map_err(|error| self.unsaved("write an index in", &error))?;
            }
            if at < sealed {
                segment.give_back_room().map_err(|error| self.unsaved("cut a segment in", &error))?;
                segment.index().finish(segment).map_err(|error| self.unsaved("write an index in", &error))?;
                self.close_files(segment);
            }
        }
        Ok(())
    }

    pub(super) fn unsaved(&self, action: &str, error: &io::Error) -> FlushError {
        FlushError::StorageFailed {
            reason: format!("cannot {action} {}: {error}", self.dir.display()).into(),
        }
    }
}

impl Flush for Log {
    fn start_writing(&self) {
        if let Some(active) = self.segments.all().last() {
            active.start_writing();
        }
    }

    fn flush_turn(&self) -> Again {
        let flushed = self.flush();
        if flushed.is_err() {
            self.fail_waiters();
        }
        let mut durability = self.durability.lock();
        if flushed.is_err() {
            durability.wanted = durability.point;
        }
        durability.flush_scheduled = durability.needs_flush();
        match durability.flush_scheduled {
            true => Again::Yes,
            false => Again::No,
        }
    }

    fn checkpoint_turn(&self) {
        // Whoever asks from here on needs another one.
        self.durability.lock().checkpoint_scheduled = false;
        // A failure was noted, or logged, where it happened.
        let _ = self.checkpoint();
    }

    fn on_due(self: Arc<Self>, what: Due) {
        self.timer(what).store(false, SeqCst);
        // Pairs with the fence in `Tail::publish`: whoever wrote and found it set is seen below.
        fence(SeqCst);
        if self.takes_writes().is_ok() {
            match what {
                Due::Checkpoint => self.request_checkpoint(),
                Due::Flush => self.request_flush(),
                Due::Room => self.make_room(),
            }
        }
    }
}

fn answer(settled: Vec<Settled>) {
    for one in settled {
        (one.done)(one.result);
    }
}
