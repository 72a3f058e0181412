//! Transactions of a log: what is open, and the markers that end it.

use std::sync::Arc;

use millstream_protocol::records::{BatchView, EndMarker};

use super::Log;
use super::writing::{Acks, Done, Leadership, Queued, What};
use crate::ids::ProducerId;
use crate::partition::{Marker, OpenTransaction, TransactionGuard};
use crate::sync::atomic::Ordering::Acquire;

impl Log {
    /// What is known of a producer's transactions. Ask before the coordinator is asked whether there is one: a
    /// batch that is appended with this guard is refused if a marker came after it was taken.
    #[must_use]
    pub fn transaction_guard(&self, producer: ProducerId) -> TransactionGuard {
        let writer = self.writer.lock();
        writer.partition().guard(producer, self.generation.load(Acquire))
    }

    /// The transactions whose end is not known, the oldest first.
    #[must_use]
    pub fn open_transactions(&self) -> Vec<OpenTransaction> {
        let offsets = self.offsets();
        if offsets.last_stable == offsets.high_watermark {
            // Asked of every log again and again: where all is stable there is none that anybody can see.
            return Vec::new();
        }
        let writer = self.writer.lock();
        writer.partition().open_transactions(self.generation.load(Acquire))
    }

    /// Queues a marker, as `append` does a batch. `done` is called when it is durable; a marker that ends what
    /// this producer's last marker has ended already is not written again, and answered when that one is durable.
    pub fn append_marker(self: &Arc<Self>, marker: Marker, done: Done) -> Option<Leadership> {
        let Marker { producer, epoch, coordinator_epoch, outcome, .. } = marker;
        let says = EndMarker { outcome, coordinator_epoch };
        let batch = says.to_batch(producer.get(), epoch, self.clock.now_ms());
        let header = BatchView::parse(&batch).expect("it was just made").header();
        let what = What::Marker(Box::new(marker));
        self.enqueue(Queued { batch, header, acks: Acks::Durable, what, done })
    }
}
