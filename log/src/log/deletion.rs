//! Deleting: records from the front, from the end, and the whole log.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::writing::{Writer, WriterState};
use super::{DeleteRecordsError, FlushError, Log, OpenError};
use crate::config::CleanStart;
use crate::disk::IfMissing;
use crate::ids::Offset;
use crate::recovery::{lower_gaps, recover};
use crate::segment::{FileKind, FileName, Segment};
use crate::segment_list::Based;
use crate::snapshot::{self, Safety};
use crate::tail::Offsets;

impl Log {
    /// Moves the log start to `before`, durably, and returns where it is now; `None` means the high
    /// watermark. A start that has already passed stays. Segments that are left without a record are
    /// removed; the active one stays. Blocks on the disk.
    ///
    /// # Errors
    /// When `before` lies beyond the high watermark, the disk fails, or the log is closed. Nothing is deleted
    /// then.
    pub fn delete_records(&self, before: Option<Offset>) -> Result<Offset, DeleteRecordsError> {
        let exclusive = self.exclusive();
        if self.tail.is_closed() {
            return Err(DeleteRecordsError::Closed);
        }
        let Offsets { log_start, high_watermark, .. } = self.offsets();
        let before = before.unwrap_or(high_watermark);
        if before > high_watermark || before < Offset::default() {
            return Err(DeleteRecordsError::OutOfRange { before, high_watermark });
        }
        if before <= log_start {
            return Ok(log_start);
        }
        let removed = self.trim(before)?;
        drop(exclusive);
        remove_files(&removed);
        Ok(before)
    }

    /// Moves the log start to `before`, durably, and takes the segments out of the list that are left without a
    /// record. Their files are still there. The caller is `exclusive`, and `before` is at most the high
    /// watermark.
    ///
    /// The start is remembered before anything is removed, in the name of an empty file: a crash in between
    /// leaves segments that the next open removes, never a start that points to removed ones. It costs one sync
    /// of the folder, takes no room on a full disk, and cannot be damaged as a snapshot can.
    pub(super) fn trim(&self, before: Offset) -> Result<Vec<Arc<Segment>>, FlushError> {
        // What the batches say of producers and epochs could not be read back once they are gone.
        if !self.durability.lock().is_saved_to(before) {
            self.save_now(Safety::Synced)?;
        }
        let note = self.start_note(before);
        let made = self.disk.open(&note, IfMissing::Create);
        made.map_err(|error| self.unsaved("note the log start in", &error))?;
        self.disk.sync_dir(&self.dir).map_err(|error| self.fail("sync a folder of", &error))?;
        let (old, removed) = {
            let mut writer = self.writer.lock();
            let old = writer.partition().log_start();
            writer.partition_mut().raise_log_start(before);
            self.publish(&writer);
            (old, self.drop_segments_before(before))
        };
        self.durability.lock().log_start_moved(before);
        // It may never have been there, and one that is left says nothing that the new one does not.
        let _ = self.disk.remove_file(&self.start_note(old));
        Ok(removed)
    }

    fn start_note(&self, start: Offset) -> PathBuf {
        self.dir.join(FileName { base: start, kind: FileKind::Start }.to_string())
    }

    /// Takes away every batch that ends beyond `to`, durably, and returns where the log ends now. For a replica
    /// whose leader has other batches there: a leader never takes back what it has shown. Blocks on the disk.
    ///
    /// # Errors
    /// When the disk fails or the log is closed.
    pub fn truncate(&self, to: Offset) -> Result<Offset, FlushError> {
        let _exclusive = self.exclusive();
        let mut writer = self.writer.lock();
        self.takes_writes()?;
        if to >= writer.partition().log_end() {
            return Ok(writer.partition().log_end());
        }
        let end = match self.cut(to.max(writer.partition().log_start()), &mut writer) {
            Ok(end) => end,
            Err(error) => {
                let OpenError::Io { error, .. } = error;
                self.note_failure("cut", &error);
                return Err(self.takes_writes().expect_err("it was just noted"));
            }
        };
        self.durability.lock().cut(end);
        self.publish(&writer);
        Ok(end)
    }

    /// Cuts the files, the newest first, so that a crash leaves a longer log and never a hole; then takes
    /// up what is left as if the log were opened.
    fn cut(&self, to: Offset, writer: &mut Writer) -> Result<Offset, OpenError> {
        let failed = |error| OpenError::Io { action: "cut", path: self.dir.to_path_buf(), error };
        // Should this fail half way, the log may end here: nothing behind it counts as promised.
        self.durability.lock().cut(to);
        lower_gaps(&*self.disk, &self.dir, to).map_err(failed)?;
        snapshot::remove_beyond(&*self.disk, &self.dir, to).map_err(failed)?;
        for segment in self.segments.all().iter().rev() {
            let is_first = segment.base() == self.segments.all()[0].base();
            if segment.base() >= to && !is_first {
                segment.remove().and_then(|()| self.disk.sync_dir(&self.dir)).map_err(failed)?;
                continue;
            }
            let position = segment.position_of(to, &self.epochs.get());
            let position = position.map_err(|error| failed(io::Error::other(error)))?;
            segment.cut(position).map_err(failed)?;
            break;
        }
        let options = self.options(writer.partition().leader_epoch(), CleanStart::Yes);
        let log_start = writer.partition().log_start();
        let mut recovered = recover(&options, &self.dir, None)?;
        if recovered.partition.log_end() < log_start {
            // The batch in which the log starts is gone: nothing is left, and the log starts anew there.
            snapshot::remove_beyond(&*self.disk, &self.dir, Offset::new(-1)).map_err(failed)?;
            for segment in recovered.segments.iter().rev() {
                segment.remove().map_err(failed)?;
            }
            self.new_segment(log_start).and_then(|_| self.disk.sync_dir(&self.dir)).map_err(failed)?;
            recovered = recover(&options, &self.dir, None)?;
        }
        // Snapshots that knew the log start may be gone.
        recovered.partition.raise_log_start(log_start);
        let end = recovered.partition.log_end();
        writer.replace(WriterState {
            partition: recovered.partition,
            active: Arc::clone(recovered.segments.last().expect("recovery leaves at least one segment")),
            active_since_ms: recovered.active_since_ms,
            cleaned_to: writer.cleaned_to().min(end),
        });
        self.segments.replace(recovered.segments);
        writer.snapshot(&self.segments).write(&*self.disk, &self.dir, Safety::Synced).map_err(failed)?;
        Ok(end)
    }

    pub(super) fn publish(&self, writer: &Writer) {
        self.tail.publish(writer.partition().offsets());
    }

    /// Takes segments out of the list that end at or before `offset`. The caller holds the writer.
    fn drop_segments_before(&self, offset: Offset) -> Vec<Arc<Segment>> {
        let all = self.segments.all();
        let keep_from = all.partition_point(|segment| segment.base() <= offset).saturating_sub(1);
        if keep_from > 0 {
            self.segments.replace(all[keep_from..].to_vec());
        }
        all[..keep_from].to_vec()
    }

    /// Closes the log and removes its folder. Whoever is parked or waits for an append is told. Readers that
    /// hold a slice can finish. Blocks on the disk.
    pub fn delete(&self) {
        let _exclusive = self.exclusive();
        {
            let _writer = self.writer.lock();
            self.tail.close();
        }
        self.fail_waiters();
        if let Err(error) = self.disk.remove_dir(&self.dir) {
            tracing::warn!(dir = %self.dir.display(), %error, "a deleted partition's folder is left behind");
        }
    }
}

/// Removes the files of segments that are out of the list. Readers that hold a slice can finish.
pub(super) fn remove_files(segments: &[Arc<Segment>]) {
    for segment in segments {
        if let Err(error) = segment.remove() {
            tracing::warn!(?segment, %error, "a deleted segment is left behind until the next start");
        }
    }
}
