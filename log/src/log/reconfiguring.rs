//! A log is told other settings while it is open. They hold for what begins from then on: a segment that is
//! written to keeps its index as it is, a run of compaction ends as it began.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use super::Log;
use crate::config::LogConfig;

impl Log {
    /// How this log stores now.
    pub(super) fn config(&self) -> impl std::ops::Deref<Target = Arc<LogConfig>> + use<> {
        self.config.load()
    }

    /// Stores like this from now on. What was written and is not on the disk yet comes there as if it had been
    /// written under the new settings.
    pub fn reconfigure(self: &Arc<Self>, config: LogConfig) {
        let config = config.bounded();
        let before = self.config.load_full();
        if *before == config {
            return;
        }
        self.writer.lock().partition_mut().remember_producers_for(config.producer_expiration);
        let is_due_earlier = config.flush_interval.is_some_and(|now| {
            // None: with the next checkpoint.
            now < before.flush_interval.unwrap_or(before.checkpoint_interval)
        });
        self.config.store(Arc::new(config));
        if is_due_earlier {
            // The one that is set comes later than may be now; it does no harm then.
            self.flush_timer.store(false, SeqCst);
        }
        if self.durable_point() < self.tail.log_end() {
            self.bound_unflushed();
        }
    }
}
