//! What is known of the idempotent producers of a log, for those who look at it from outside.

use super::Log;
use crate::partition::ActiveProducer;

impl Log {
    /// The producers that are remembered now, in the order of their ids.
    #[must_use]
    pub fn active_producers(&self) -> Vec<ActiveProducer> {
        let now_ms = self.clock.now_ms();
        self.writer.lock().partition().active_producers(now_ms)
    }
}
