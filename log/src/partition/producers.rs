//! Idempotent producers: what each wrote last, so that a repeated batch is answered and not written twice.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_protocol::records::BatchHeader;

use super::{Rejection, Verdict, append_time};
use crate::ids::{Offset, ProducerId};

/// Batches that are remembered per producer; a client has no more than this many on their way.
pub(crate) const BATCHES_MAX: usize = 5;

/// What is remembered of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BatchMemo {
    pub(crate) base_offset: Offset,
    /// What its append was answered with.
    pub(crate) timestamp: i64,
    pub(crate) base_sequence: i32,
    pub(crate) last_offset_delta: i32,
}

impl BatchMemo {
    fn end(&self) -> Offset {
        self.base_offset.advance(i64::from(self.last_offset_delta) + 1)
    }

    fn last_sequence(&self) -> i32 {
        sequence_after(self.base_sequence, i64::from(self.last_offset_delta))
    }

    fn next_sequence(&self) -> i32 {
        sequence_after(self.base_sequence, i64::from(self.last_offset_delta) + 1)
    }
}

/// Sequences run from 0 to `i32::MAX` and start over.
fn sequence_after(sequence: i32, records: i64) -> i32 {
    const CYCLE: i64 = 1 << 31;
    let next = (i64::from(sequence) + records).rem_euclid(CYCLE);
    i32::try_from(next).expect("below 2^31")
}

/// One producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) epoch: i16,
    /// When it wrote last, by our clock.
    pub(crate) last_ms: i64,
    /// Its last batches of this epoch, oldest first.
    batches: [BatchMemo; BATCHES_MAX],
    count: usize,
}

impl Producer {
    pub(crate) fn new(epoch: i16, last_ms: i64) -> Self {
        Self { epoch, last_ms, batches: Default::default(), count: 0 }
    }

    pub(crate) fn batches(&self) -> &[BatchMemo] {
        &self.batches[..self.count]
    }

    /// Remembers a batch, and forgets the oldest if there are too many.
    pub(crate) fn push(&mut self, memo: BatchMemo) {
        if self.count == BATCHES_MAX {
            self.batches.rotate_left(1);
            self.count -= 1;
        }
        self.batches[self.count] = memo;
        self.count += 1;
    }
}

/// A producer that counts as known, as it is told to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Its id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: i16,
    /// The sequence of its last record.
    pub last_sequence: i32,
    /// When it wrote last, by the broker's clock.
    pub last_ms: i64,
}

/// All producers of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Producers {
    by_id: BTreeMap<ProducerId, Producer>,
    silence_ms_max: i64,
}

impl Default for Producers {
    fn default() -> Self {
        Self { by_id: BTreeMap::new(), silence_ms_max: i64::MAX }
    }
}

impl Producers {
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (ProducerId, &Producer)> {
        self.by_id.iter().map(|(id, producer)| (*id, producer))
    }

    pub(crate) fn insert(&mut self, id: ProducerId, producer: Producer) {
        self.by_id.insert(id, producer);
    }

    /// Those that count as known.
    pub(super) fn active(&self, now_ms: i64) -> Vec<ActiveProducer> {
        let known = self.iter().filter(|(_, producer)| !self.is_forgotten(producer, now_ms));
        let told = known.filter_map(|(id, producer)| {
            let last_sequence = producer.batches().last()?.last_sequence();
            Some(ActiveProducer { id, epoch: producer.epoch, last_sequence, last_ms: producer.last_ms })
        });
        told.collect()
    }

    pub(super) fn remember_for(&mut self, silence: Duration) {
        self.silence_ms_max = i64::try_from(silence.as_millis()).unwrap_or(i64::MAX);
    }

    fn is_forgotten(&self, producer: &Producer, now_ms: i64) -> bool {
        now_ms.saturating_sub(producer.last_ms) > self.silence_ms_max
    }

    /// Judges a batch that would get the offset `next`.
    pub(super) fn judge(&self, header: &BatchHeader, next: Offset, now_ms: i64) -> Verdict {
        let accept = Verdict::Accept { base_offset: next };
        let id = ProducerId::new(header.producer_id);
        // A producer that is not known may start anywhere: what it wrote before may be expired.
        let Some(producer) = self.by_id.get(&id).filter(|held| !self.is_forgotten(held, now_ms)) else {
            return accept;
        };
        let Some(last) = producer.batches().last() else { return accept };
        let seen = last.end();
        if header.producer_epoch < producer.epoch {
            let (current, found) = (producer.epoch, header.producer_epoch);
            return Verdict::Reject {
                why: Rejection::InvalidProducerEpoch { producer: id, current, found },
                seen,
            };
        }
        let same_epoch = header.producer_epoch == producer.epoch;
        let is_repeated = |memo: &&BatchMemo| {
            memo.base_sequence == header.base_sequence && memo.last_offset_delta == header.last_offset_delta
        };
        if let Some(memo) = producer.batches().iter().filter(|_| same_epoch).find(is_repeated) {
            let BatchMemo { base_offset, timestamp, .. } = *memo;
            return Verdict::Duplicate { base_offset, timestamp, end: memo.end() };
        }
        let expected = if same_epoch { last.next_sequence() } else { 0 };
        if header.base_sequence == expected {
            return accept;
        }
        let found = header.base_sequence;
        Verdict::Reject { why: Rejection::OutOfOrderSequence { producer: id, expected, found }, seen }
    }

    /// Remembers a batch that was accepted at `base_offset`.
    pub(super) fn note(&mut self, header: &BatchHeader, base_offset: Offset, now_ms: i64) {
        if header.producer_id < 0 {
            return;
        }
        let epoch = header.producer_epoch;
        let id = ProducerId::new(header.producer_id);
        let silence_ms_max = self.silence_ms_max;
        let producer = self.by_id.entry(id).or_insert_with(|| Producer::new(epoch, now_ms));
        if producer.epoch != epoch || now_ms.saturating_sub(producer.last_ms) > silence_ms_max {
            *producer = Producer::new(epoch, now_ms);
        }
        producer.last_ms = now_ms;
        producer.push(BatchMemo {
            base_offset,
            timestamp: append_time(header),
            base_sequence: header.base_sequence,
            last_offset_delta: header.last_offset_delta,
        });
    }

    /// Forgets those silent for too long; then, if more than `keep_max` are left, the most silent eighth of
    /// them and more if need be.
    pub(super) fn expire(&mut self, now_ms: i64, keep_max: usize) {
        let silence_ms_max = self.silence_ms_max;
        self.by_id.retain(|_, producer| now_ms.saturating_sub(producer.last_ms) <= silence_ms_max);
        if self.by_id.len() <= keep_max {
            return;
        }
        let keep = keep_max - keep_max / 8;
        let mut times: Vec<_> = self.by_id.iter().map(|(id, producer)| (producer.last_ms, *id)).collect();
        times.sort_unstable();
        for (_, id) in &times[..times.len() - keep] {
            self.by_id.remove(id);
        }
    }
}
