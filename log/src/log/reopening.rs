//! Bringing a log back whose disk failed it.
//!
//! After a failed sync memory shows what was written, and the device may not have it: Linux marks the pages
//! clean, and the next sync succeeds. So nothing above the durable point is believed before it was read from
//! the device. What is not there is cut, as after a power cut, what is there is synced, and a new leader epoch
//! begins, so that a client that read what is gone is told.

use std::io;
use std::sync::Arc;

use super::durability::FOLDERS_OF_A_LOG;
use super::failure::{Failure, FailureKind};
use super::writing::WriterState;
use super::{FlushError, Log, OpenError};
use crate::config::{CleanStart, LogConfig, OpenOptions};
use crate::ids::{LeaderEpoch, Offset};
use crate::recovery::{Doubt, Recovered, Recovery, recover};
use crate::segment::Segment;
use crate::segment_list::Based;
use crate::snapshot::Safety;
use crate::sync::atomic::Ordering::Release;
use crate::tail::Offsets;

/// Why a log could not be reopened. It takes no writes then; what is left of it can be read.
#[derive(Debug, thiserror::Error)]
pub enum ReopenError {
    /// The system refused to read, cut or sync a file.
    #[error(transparent)]
    Io(#[from] OpenError),
    /// What the log is now could not be saved.
    #[error(transparent)]
    Unsaved(FlushError),
    /// The log was closed or deleted.
    #[error("this partition is closed")]
    Closed,
}

impl Log {
    /// Takes up a log that failed from what is on the device, under a leader epoch that is new to it and at
    /// least `epoch`; then it takes writes again. The end of the log, and with it the high watermark, falls
    /// if something is gone. A log that has not failed is left as it is. Blocks on the disk.
    ///
    /// # Errors
    /// When the disk fails again, or the log is closed.
    pub fn reopen(&self, epoch: LeaderEpoch) -> Result<Recovery, ReopenError> {
        let _exclusive = self.exclusive();
        if self.tail.is_closed() {
            return Err(ReopenError::Closed);
        }
        if !self.is_failed() {
            let Offsets { log_start, log_end, .. } = self.offsets();
            return Ok(Recovery { log_start, log_end, durable: log_end, ..Recovery::default() });
        }
        self.fail_waiters();
        let report = self.recover_anew(epoch).inspect_err(|error| {
            self.mark_doubted();
            if let ReopenError::Io(OpenError::Io { error: io, .. }) = error {
                let reason = format!("cannot reopen {}: {error}", self.dir.display()).into();
                self.failure.replace(Failure { kind: FailureKind::of(io), reason });
            }
        })?;
        self.failure.clear();
        tracing::debug!(dir = %self.dir.display(), epoch = %self.leader_epoch(), ?report, "a partition takes writes again");
        Ok(report)
    }

    fn recover_anew(&self, epoch: LeaderEpoch) -> Result<Recovery, ReopenError> {
        // Whoever writes has noticed the failure once the writer is free, and nobody begins to write.
        let led = self.writer.lock().partition().leader_epoch();
        let options = self.options(epoch.max(led.next()), CleanStart::No);
        let synced = self.durability.lock().point();
        let recovered = recover(&options, &self.dir, Some(Doubt { synced }))?;
        self.sync_recovered(&recovered, synced)?;
        let report = recovered.report.clone();
        self.take_over(recovered);
        // The new epoch is on disk before anything is written under it, or a crash could give it again.
        let snapshot = self.take_snapshot();
        self.save(&snapshot, Safety::Synced).map_err(ReopenError::Unsaved)?;
        Ok(report)
    }

    /// What was read from the device is there; that it belongs to the files may not be yet.
    fn sync_recovered(&self, recovered: &Recovered, synced: Offset) -> Result<(), OpenError> {
        let failed = |error| OpenError::Io { action: "sync", path: self.dir.to_path_buf(), error };
        for segment in recovered.segments.iter().rev() {
            segment.sync().map_err(failed)?;
            if segment.base() <= synced {
                break;
            }
        }
        self.dir.ancestors().take(FOLDERS_OF_A_LOG).for_each(|dir| self.flusher.forget(dir));
        self.sync_names(&recovered.unsynced).map_err(failed)
    }

    /// Shows what was recovered. Who waited for what was is told, and who comes later with it too.
    fn take_over(&self, recovered: Recovered) {
        let mut writer = self.writer.lock();
        let Recovered { partition, segments, active_since_ms, cleaned_to, .. } = recovered;
        let segments = self.keep_known(segments);
        let active = Arc::clone(segments.last().expect("recovery leaves at least one segment"));
        let (end, epoch) = (partition.log_end(), partition.leader_epoch());
        writer.replace(WriterState { partition, active, active_since_ms, cleaned_to });
        self.unsynced.lock().clear();
        {
            let mut durability = self.durability.lock();
            self.generation.fetch_add(1, Release);
            durability.restart(end, self.batches());
        }
        self.note_aborted_in(segments.iter());
        self.segments.replace(segments);
        self.publish(&writer);
        // What is read under the new epoch is what is left. Until the failure is taken back, who finds that the
        // end has fallen is told to come again; after it the epoch tells.
        self.leader_epoch.store(epoch.get(), Release);
        self.tail.wake_all();
    }

    /// Sealed segments that recovery left alone stay as they are, with what is known of them.
    fn keep_known(&self, found: Vec<Arc<Segment>>) -> Vec<Arc<Segment>> {
        let known = self.segments.all();
        let active = found.last().map(|segment| segment.base());
        let keep = |segment: Arc<Segment>| {
            let at = known.binary_search_by_key(&segment.base(), |known| known.base());
            let same = at.ok().map(|at| &known[at]).filter(|known| {
                Some(segment.base()) != active
                    && known.extent() == segment.extent()
                    && known.past().is_compacted == segment.past().is_compacted
                    && known.index().mark() == segment.index().mark()
                    && segment.index().pending() == 0
                    && known.aborted().mark() == segment.aborted().mark()
            });
            same.map_or(segment, Arc::clone)
        };
        found.into_iter().map(keep).collect()
    }

    /// How this log would be opened now.
    pub(super) fn options(&self, leader_epoch: LeaderEpoch, clean: CleanStart) -> OpenOptions {
        OpenOptions {
            disk: Arc::clone(&self.disk),
            clock: Arc::clone(&self.clock),
            flusher: Arc::clone(&self.flusher),
            dir: self.dir.to_path_buf(),
            config: LogConfig::clone(&self.config()),
            leader_epoch,
            clean,
        }
    }

    /// A sync failed: memory may show what the device does not have, and does so to the process that comes
    /// after this one too. A name in the folder tells it; that it may be lost with the power does no harm,
    /// for then memory is lost as well.
    pub(super) fn mark_doubted(&self) {
        if let Err(error) = crate::recovery::mark_doubted(&*self.disk, &self.dir) {
            tracing::error!(
                dir = %self.dir.display(), %error,
                "cannot note that a sync failed; if the broker is killed now, start it after the machine only"
            );
        }
    }

    /// An error that says why reading stopped, where the log was cut meanwhile.
    pub(super) fn was_cut() -> io::Error {
        io::Error::other("the end of the log was cut meanwhile; what was there is not on the disk")
    }
}
