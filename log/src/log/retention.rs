//! Retention: carries out what `rule` decides, and tells what it will do next.

use std::sync::Arc;

use millstream_protocol::records::TimestampType;

use super::deletion::remove_files;
use super::{Log, RetentionError};
use crate::ids::Offset;
use crate::partition::NO_TIMESTAMP;
use crate::segment::{HeaderWalk, Segment};
use crate::segment_list::Based;

mod rule;

pub use rule::NextDeletion;
use rule::{Active, Aged, Retention};

/// What retention deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trimmed {
    /// Segments.
    pub segments: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Where the log starts now.
    pub log_start: Offset,
}

/// What a log occupies, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageFacts {
    /// Bytes of all segments.
    pub bytes: u64,
    /// How many segments there are, the active one included.
    pub segments: usize,
    /// Where the log starts.
    pub log_start: Offset,
    /// The time of the first record; `None` if there is no record, or it has no time or cannot be read.
    pub oldest_record_ms: Option<i64>,
    /// When and why the oldest segment goes.
    pub next_deletion: NextDeletion,
}

impl Log {
    /// Deletes the segments that are too old or too many, and closes the active one when it is time, though
    /// nothing is appended. To be called again and again; costs next to nothing when nothing is due. Blocks
    /// on the disk.
    ///
    /// # Errors
    /// When the disk fails or the log is closed. Nothing is deleted then.
    pub fn enforce_retention(self: &Arc<Self>) -> Result<Trimmed, RetentionError> {
        if self.tail.is_closed() {
            return Err(RetentionError::Closed);
        }
        let retention = Retention::of(&self.config());
        let now_ms = self.clock.now_ms();
        let has_rolled = self.roll_in_time(&retention, now_ms);
        let trimmed = self.trim_expired(&retention, now_ms);
        // The indexes of what was closed have to be finished, and recovery need not read it again.
        if has_rolled && self.takes_writes().is_ok() {
            self.request_checkpoint();
        }
        trimmed
    }

    /// Closes the active segment if it is time; a log that has failed stays as it is.
    fn roll_in_time(&self, retention: &Retention, now_ms: i64) -> bool {
        let is_empty = self.segments.all().last().is_none_or(|active| active.extent().bytes == 0);
        if is_empty || self.takes_writes().is_err() {
            return false;
        }
        {
            let mut writer = self.writer.lock();
            let active = Active { segment: aged(writer.active()), begun_ms: writer.active_since_ms() };
            if self.takes_writes().is_err() || !retention.must_roll(&active, now_ms) {
                return false;
            }
            let end = writer.partition().log_end();
            self.roll(&mut writer, end);
        }
        if self.is_failed() {
            self.fail_waiters();
            return false;
        }
        true
    }

    fn trim_expired(&self, retention: &Retention, now_ms: i64) -> Result<Trimmed, RetentionError> {
        let nothing = |log_start| Trimmed { segments: 0, bytes: 0, log_start };
        // Most often nothing is due, and then nobody who flushes has to be waited for.
        let due = self.expired(retention, now_ms);
        if due == 0 {
            return Ok(nothing(self.offsets().log_start));
        }
        // What has to be durable before anything goes becomes so while others flush.
        let first = self.segments.all().get(due).map(|first| first.base());
        let is_saved = first.is_none_or(|first| self.durability.lock().is_saved_to(first));
        if !is_saved {
            self.checkpoint()?;
        }
        let exclusive = self.exclusive();
        if self.tail.is_closed() {
            return Err(RetentionError::Closed);
        }
        let due = self.expired(retention, now_ms);
        if due == 0 {
            return Ok(nothing(self.offsets().log_start));
        }
        let before = self.segments.all()[due].base();
        let removed = self.trim(before)?;
        drop(exclusive);
        let bytes = removed.iter().map(|segment| segment.extent().bytes).sum();
        remove_files(&removed);
        let trimmed = Trimmed { segments: removed.len(), bytes, log_start: before };
        tracing::debug!(dir = %self.dir.display(), ?trimmed, "old records were deleted");
        Ok(trimmed)
    }

    /// How many of the oldest segments may go now. The active one never does, nor one that reaches beyond the
    /// high watermark.
    fn expired(&self, retention: &Retention, now_ms: i64) -> usize {
        if retention.is_for_ever() {
            return 0;
        }
        let segments = self.segments.all();
        let high_watermark = self.tail.high_watermark();
        let readable = segments.windows(2).take_while(|pair| pair[1].base() <= high_watermark);
        let closed: Vec<Aged> = readable.map(|pair| aged(&pair[0])).collect();
        let behind = segments[closed.len()..].iter().map(|segment| segment.extent().bytes).sum();
        retention.expired(&closed, behind, now_ms)
    }

    /// What the log occupies and what becomes of it. Reads one batch header, so it may wait for the disk.
    #[must_use]
    pub fn storage_facts(&self) -> StorageFacts {
        let segments = self.segments.all();
        let bytes = segments.iter().map(|segment| segment.extent().bytes).sum();
        let log_start = self.offsets().log_start;
        let oldest = aged(&segments[0]);
        StorageFacts {
            bytes,
            segments: segments.len(),
            log_start,
            oldest_record_ms: self.time_at(log_start),
            next_deletion: Retention::of(&self.config()).next_deletion(&oldest, bytes, self.clock.now_ms()),
        }
    }

    /// The time of the first record that is there from `offset` on and may be seen. A batch tells it of its first
    /// record, so behind a place inside of one it is a little early. `None` if there is no such record, it has no
    /// time, or it cannot be read. Reads one batch header, so it may wait for the disk.
    #[must_use]
    pub fn time_at(&self, offset: Offset) -> Option<i64> {
        let offsets = self.offsets();
        let offset = offset.max(offsets.log_start);
        if offset >= offsets.high_watermark {
            return None;
        }
        let mut here = self.segments.holding(offset)?;
        loop {
            self.use_files(&here);
            let end = here.extent().bytes;
            // A batch that cannot be read is reported to whoever reads it.
            let position = here.position_of(offset, &self.epochs.get()).ok()?;
            let file = here.file().ok()?;
            if let Some((_, header)) = HeaderWalk::new(&*file, position..end).next().ok()? {
                let stamped = match header.timestamp_type() {
                    TimestampType::LogAppendTime => header.max_timestamp,
                    TimestampType::CreateTime => header.base_timestamp,
                };
                return Some(stamped).filter(|ms| *ms > NO_TIMESTAMP);
            }
            // Compaction left nothing from here to the end of the segment.
            here = self.segments.beyond(here.base())?;
        }
    }
}

fn aged(segment: &Segment) -> Aged {
    Aged {
        bytes: segment.extent().bytes,
        newest_ms: segment.index().mark().newest.timestamp,
        appended_ms: segment.past().appended_ms,
    }
}
