//! A partition's rules as a pure state machine over batch headers: which offset a batch gets, whether it
//! is a duplicate, who led when.
//!
//! Refuses to know bytes, files, clocks and threads. All of it can be rebuilt from a snapshot and the
//! headers of the batches behind it, which is what recovery does.

use std::time::Duration;

use millstream_protocol::records::{BatchHeader, EndMarker, TimestampType, TransactionOutcome};

use crate::ids::{LeaderEpoch, Offset, ProducerId};
use crate::tail::Offsets;

mod epochs;
mod producers;
mod transactions;

pub(crate) use epochs::{EpochHistory, EpochRun, EpochStart, SharedEpochs, believable_runs};
pub use producers::ActiveProducer;
use producers::Begins;
pub(crate) use producers::{BatchMemo, Producer, Producers};
pub(crate) use transactions::Aborted;
use transactions::Unstable;
pub use transactions::{EpochRule, FirstSequence, InTransaction, Marker, OpenTransaction, TransactionGuard};

/// No time: what Kafka says where there is none.
pub(crate) const NO_TIMESTAMP: i64 = -1;

/// What becomes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is to be written at `base_offset`, and counts from now on.
    Accept { base_offset: Offset },
    /// It was accepted before, and its records end at `end`.
    Duplicate { base_offset: Offset, timestamp: i64, end: Offset },
    /// It must not be written. The batches that say so end at `seen`.
    Reject { why: Rejection, seen: Offset },
}

/// Why a batch must not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    OutOfOrderSequence {
        producer: ProducerId,
        expected: i32,
        found: i32,
    },
    InvalidProducerEpoch {
        producer: ProducerId,
        current: i16,
        found: i16,
    },
    /// A marker came since the guard was taken.
    TransactionMoved {
        producer: ProducerId,
    },
    /// A transaction of an older epoch has not ended.
    TransactionOpen {
        producer: ProducerId,
        current: i16,
        found: i16,
    },
    /// A batch without a transaction in the middle of one.
    NotTransactional {
        producer: ProducerId,
    },
    /// A marker of a coordinator that is none any more.
    CoordinatorFenced {
        producer: ProducerId,
        current: i32,
        found: i32,
    },
}

/// The state of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Partition {
    log_start: Offset,
    /// The next offset to be given. What lies below it may still be on its way to the disk.
    log_end: Offset,
    high_watermark: Offset,
    leader_epoch: LeaderEpoch,
    epochs: EpochHistory,
    producers: Producers,
    /// What its producers have open.
    unstable: Unstable,
}

impl Partition {
    /// An empty partition that starts at `start`.
    pub(crate) fn starting_at(start: Offset) -> Self {
        Self { log_start: start, log_end: start, high_watermark: start, ..Self::default() }
    }

    /// A partition as a snapshot taken at `log_end` describes it.
    pub(crate) fn restore(
        log_start: Offset,
        log_end: Offset,
        epochs: EpochHistory,
        producers: Producers,
    ) -> Self {
        assert!(log_start <= log_end, "a snapshot whose log starts at {log_start} and ends at {log_end}");
        let leader_epoch = epochs.latest().unwrap_or_default();
        let mut unstable = Unstable::default();
        for (id, producer) in producers.iter() {
            if let Some(first) = producer.open {
                unstable.begin(id, first);
            }
        }
        Self { log_start, log_end, high_watermark: log_end, leader_epoch, epochs, producers, unstable }
    }

    pub(crate) fn log_start(&self) -> Offset {
        self.log_start
    }

    pub(crate) fn log_end(&self) -> Offset {
        self.log_end
    }

    /// Of what lies below it is known whether it counts.
    pub(crate) fn last_stable(&self) -> Offset {
        match self.unstable.first() {
            Some(first) => first.min(self.high_watermark).max(self.log_start),
            None => self.high_watermark,
        }
    }

    /// All bounds at once.
    pub(crate) fn offsets(&self) -> Offsets {
        Offsets {
            log_start: self.log_start,
            last_stable: self.last_stable(),
            high_watermark: self.high_watermark,
            log_end: self.log_end,
        }
    }

    pub(crate) fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    pub(crate) fn epochs(&self) -> &EpochHistory {
        &self.epochs
    }

    pub(crate) fn producers(&self) -> &Producers {
        &self.producers
    }

    /// Judges a batch that wants to be appended; an accepted one counts as appended when this returns.
    pub(crate) fn on_append(
        &mut self,
        header: &BatchHeader,
        transaction: Option<InTransaction>,
        now_ms: i64,
    ) -> Verdict {
        let verdict = self.producers.judge(header, transaction, (self.log_end, now_ms));
        if let Verdict::Accept { base_offset } = verdict {
            self.count(header, base_offset, now_ms);
        }
        verdict
    }

    /// Judges a marker, whose batch has this header; an accepted one counts as appended when this returns. If it
    /// aborts a transaction that has records here, readers have to know.
    pub(crate) fn on_marker(
        &mut self,
        header: &BatchHeader,
        marker: &Marker,
        now_ms: i64,
    ) -> (Verdict, Option<Aborted>) {
        let verdict = self.producers.judge_marker(marker, (self.log_end, now_ms));
        let Verdict::Accept { base_offset } = verdict else { return (verdict, None) };
        let Marker { outcome, coordinator_epoch, .. } = *marker;
        let aborted =
            self.count_marker(header, EndMarker { outcome, coordinator_epoch }, (base_offset, now_ms));
        (verdict, aborted)
    }

    /// Takes up a batch that lies in the log and was proven to follow the last; `marker` is what it says if it
    /// ends a transaction. It was judged when it was written. What it says of its epoch is for `begin_epoch`: the
    /// CRC does not cover that.
    pub(crate) fn replay(
        &mut self,
        header: &BatchHeader,
        marker: Option<EndMarker>,
        now_ms: i64,
    ) -> Option<Aborted> {
        let base_offset = Offset::new(header.base_offset);
        assert!(base_offset >= self.log_end, "replayed {base_offset} behind {}", self.log_end);
        let aborted = match marker {
            Some(marker) => self.count_marker(header, marker, (base_offset, now_ms)),
            None => {
                self.count(header, base_offset, now_ms);
                None
            }
        };
        self.raise_high_watermark(self.log_end);
        aborted
    }

    /// Batches from `at` on were written under this epoch. Epochs come in order.
    pub(crate) fn begin_epoch(&mut self, epoch: LeaderEpoch, at: Offset) {
        self.epochs.begin(epoch, at);
        self.leader_epoch = self.leader_epoch.max(epoch);
    }

    fn count(&mut self, header: &BatchHeader, base_offset: Offset, now_ms: i64) {
        assert!(header.last_offset_delta >= 0, "a batch without records reached the log");
        self.log_end = base_offset.advance(i64::from(header.last_offset_delta) + 1);
        if header.producer_id < 0 {
            return;
        }
        if let Begins::Transaction = self.producers.note(header, base_offset, now_ms) {
            self.unstable.begin(ProducerId::new(header.producer_id), base_offset);
        }
    }

    fn count_marker(
        &mut self,
        header: &BatchHeader,
        marker: EndMarker,
        (offset, now_ms): (Offset, i64),
    ) -> Option<Aborted> {
        self.log_end = offset.advance(i64::from(header.last_offset_delta) + 1);
        if header.producer_id < 0 {
            return None;
        }
        let first = self.producers.note_marker(header, marker.coordinator_epoch, (offset, now_ms))?;
        self.unstable.end(first, offset);
        let producer = ProducerId::new(header.producer_id);
        let last_stable = self.unstable.first_open().unwrap_or(self.log_end);
        (marker.outcome == TransactionOutcome::Abort).then_some(Aborted {
            producer,
            first,
            marker: offset,
            last_stable,
        })
    }

    /// Batches are written under this epoch from now on. An epoch that is not newer changes nothing.
    pub(crate) fn lead(&mut self, epoch: LeaderEpoch) {
        self.epochs.begin(epoch, self.log_end);
        self.leader_epoch = self.leader_epoch.max(epoch);
    }

    /// Readers may see what lies below `to`.
    pub(crate) fn raise_high_watermark(&mut self, to: Offset) {
        assert!(to <= self.log_end, "high watermark {to} beyond the log end {}", self.log_end);
        self.high_watermark = self.high_watermark.max(to);
        self.unstable.show(self.high_watermark);
    }

    /// Forgets what lies below `to`; a start that is not later changes nothing.
    pub(crate) fn raise_log_start(&mut self, to: Offset) {
        assert!(to <= self.high_watermark, "log start {to} beyond the high watermark");
        self.log_start = self.log_start.max(to);
        self.epochs.cut_before(self.log_start);
    }

    /// Leaves a hole: what lay between the end and `to` is lost, and its offsets are not given again.
    pub(crate) fn skip_to(&mut self, to: Offset) {
        assert!(to >= self.log_end, "the log cannot skip back from {} to {to}", self.log_end);
        self.log_end = to;
        self.raise_high_watermark(to);
    }

    /// A producer that was silent for longer counts as unknown.
    pub(crate) fn remember_producers_for(&mut self, silence: Duration) {
        self.producers.remember_for(silence);
    }

    /// The producers that count as known.
    pub(crate) fn active_producers(&self, now_ms: i64) -> Vec<ActiveProducer> {
        self.producers.active(now_ms)
    }

    /// What is known of a producer's transactions, in this generation of the log.
    pub(crate) fn guard(&self, producer: ProducerId, generation: u64) -> TransactionGuard {
        self.producers.guard(producer, generation)
    }

    /// The transactions whose end is not known, the oldest first.
    pub(crate) fn open_transactions(&self, generation: u64) -> Vec<OpenTransaction> {
        let told = self.unstable.open().filter_map(|(first_offset, id)| {
            let producer = self.producers.get(id)?;
            Some(OpenTransaction {
                producer: id,
                epoch: producer.epoch,
                first_offset,
                last_ms: producer.last_ms,
                guard: self.guard(id, generation),
            })
        });
        told.collect()
    }

    /// Forgets producers that were silent for too long, and the most silent if there are too many.
    pub(crate) fn expire_producers(&mut self, now_ms: i64, keep_max: usize) {
        self.producers.expire(now_ms, keep_max);
    }

    /// The largest epoch at most `epoch`, and where it ended.
    pub(crate) fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<EpochStart> {
        self.epochs.end_offset_for(epoch, self.log_end)
    }
}

/// The time that an append is answered with.
pub(crate) fn append_time(header: &BatchHeader) -> i64 {
    match header.timestamp_type() {
        TimestampType::LogAppendTime => header.max_timestamp,
        TimestampType::CreateTime => NO_TIMESTAMP,
    }
}

#[cfg(test)]
mod tests;
