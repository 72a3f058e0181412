//! Producers: what each wrote last, so that a repeated batch is answered and not written twice, and what it has
//! open.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_protocol::records::BatchHeader;

use super::transactions::{Mark, TransactionGuard};
use super::{EpochRule, FirstSequence, InTransaction, Marker, NO_TIMESTAMP, Rejection, Verdict, append_time};
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

    fn is_of(&self, header: &BatchHeader) -> bool {
        self.base_sequence == header.base_sequence && self.last_offset_delta == header.last_offset_delta
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
    /// Where its transaction begins that was not ended yet.
    pub(crate) open: Option<Offset>,
    /// The last marker that ended one, or would have if there had been one.
    pub(crate) marker: Option<Offset>,
    /// Epoch of the coordinator that sent it; -1 if none ever did.
    pub(crate) coordinator_epoch: i32,
    mark: Mark,
    /// Its last batches of this epoch, oldest first; none of those that have no sequence.
    batches: [BatchMemo; BATCHES_MAX],
    count: usize,
}

/// No coordinator has ever sent a marker.
const NO_COORDINATOR: i32 = -1;

impl Producer {
    pub(crate) fn new(epoch: i16, last_ms: i64) -> Self {
        Self {
            epoch,
            last_ms,
            open: None,
            marker: None,
            coordinator_epoch: NO_COORDINATOR,
            mark: Mark::default(),
            batches: Default::default(),
            count: 0,
        }
    }

    /// Where what it wrote last ends; nothing says what it wrote before its epoch.
    fn seen(&self) -> Offset {
        let batch = self.batches().last().map(BatchMemo::end);
        let marker = self.marker.map(|marker| marker.advance(1));
        batch.max(marker).unwrap_or_default()
    }

    /// Whether a marker is the last thing that it wrote.
    fn is_ended(&self) -> Option<Offset> {
        let is_last = |marker: &Offset| self.batches().last().is_none_or(|batch| batch.base_offset < *marker);
        self.marker.filter(|marker| self.open.is_none() && is_last(marker))
    }

    /// The sequences of its old epoch say nothing of those to come.
    fn begin_epoch(&mut self, epoch: i16) {
        (self.epoch, self.count) = (epoch, 0);
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
    /// The sequence of its last record; -1 if it has none.
    pub last_sequence: i32,
    /// When it wrote last, by the broker's clock.
    pub last_ms: i64,
    /// Epoch of the coordinator that ended its last transaction here; -1 if none did.
    pub coordinator_epoch: i32,
    /// Where its transaction begins, if it has one open.
    pub transaction_start: Option<Offset>,
}

/// Whether a batch begins a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begins {
    Transaction,
    Nothing,
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

    pub(super) fn get(&self, id: ProducerId) -> Option<&Producer> {
        self.by_id.get(&id)
    }

    /// What is known of a producer's transactions.
    pub(super) fn guard(&self, id: ProducerId, generation: u64) -> TransactionGuard {
        let held = self.by_id.get(&id);
        TransactionGuard {
            generation,
            mark: held.map_or_else(Mark::default, |held| held.mark),
            epoch: held.map(|held| held.epoch),
            is_open: held.is_some_and(|held| held.open.is_some()),
        }
    }

    fn mark(&self, id: ProducerId) -> Mark {
        self.by_id.get(&id).map_or_else(Mark::default, |held| held.mark)
    }

    /// Those that count as known.
    pub(super) fn active(&self, now_ms: i64) -> Vec<ActiveProducer> {
        let known = self.iter().filter(|(_, producer)| !self.is_forgotten(producer, now_ms));
        let told = known.map(|(id, producer)| ActiveProducer {
            id,
            epoch: producer.epoch,
            last_sequence: producer.batches().last().map_or(NO_SEQUENCE, BatchMemo::last_sequence),
            last_ms: producer.last_ms,
            coordinator_epoch: producer.coordinator_epoch,
            transaction_start: producer.open,
        });
        told.collect()
    }

    pub(super) fn remember_for(&mut self, silence: Duration) {
        self.silence_ms_max = i64::try_from(silence.as_millis()).unwrap_or(i64::MAX);
    }

    /// One that has a transaction open is remembered until that has ended.
    fn is_forgotten(&self, producer: &Producer, now_ms: i64) -> bool {
        producer.open.is_none() && now_ms.saturating_sub(producer.last_ms) > self.silence_ms_max
    }

    /// Judges a batch that would get the offset `next`.
    pub(super) fn judge(
        &self,
        header: &BatchHeader,
        transaction: Option<InTransaction>,
        (next, now_ms): (Offset, i64),
    ) -> Verdict {
        let accept = Verdict::Accept { base_offset: next };
        if header.producer_id < 0 {
            return accept;
        }
        let id = ProducerId::new(header.producer_id);
        let Some(producer) = self.by_id.get(&id).filter(|held| !self.is_forgotten(held, now_ms)) else {
            return match self.judge_unknown(header, transaction) {
                Ok(()) => accept,
                Err(why) => Verdict::Reject { why, seen: Offset::default() },
            };
        };
        match judge_known((id, producer), header, transaction) {
            Ok(None) => accept,
            Ok(Some(BatchMemo { base_offset, timestamp, last_offset_delta, .. })) => {
                let end = base_offset.advance(i64::from(last_offset_delta) + 1);
                Verdict::Duplicate { base_offset, timestamp, end }
            }
            Err(why) => Verdict::Reject { why, seen: producer.seen() },
        }
    }

    /// A producer that is not known may start anywhere: what it wrote before may be expired. One that has a new
    /// epoch for each transaction starts at zero.
    fn judge_unknown(
        &self,
        header: &BatchHeader,
        transaction: Option<InTransaction>,
    ) -> Result<(), Rejection> {
        let producer = ProducerId::new(header.producer_id);
        let Some(InTransaction { guard, first_sequence }) = transaction else { return Ok(()) };
        if guard.mark != self.mark(producer) {
            return Err(Rejection::TransactionMoved { producer });
        }
        let found = header.base_sequence;
        match first_sequence {
            FirstSequence::Zero if found > 0 => {
                Err(Rejection::OutOfOrderSequence { producer, expected: 0, found })
            }
            FirstSequence::Zero | FirstSequence::Any => Ok(()),
        }
    }

    /// Judges a marker that would get the offset `next`, and makes every guard void that was taken before it.
    pub(super) fn judge_marker(&mut self, marker: &Marker, (next, now_ms): (Offset, i64)) -> Verdict {
        let accept = Verdict::Accept { base_offset: next };
        let (id, found) = (marker.producer, marker.epoch);
        let is_moved = marker.only_if.is_some_and(|guard| guard.mark != self.mark(id));
        let silence_ms_max = self.silence_ms_max;
        let Some(producer) = self.by_id.get_mut(&id) else { return accept };
        let seen = producer.seen();
        let reject = |why| Verdict::Reject { why, seen };
        if producer.open.is_none() && now_ms.saturating_sub(producer.last_ms) > silence_ms_max {
            return accept;
        }
        let current = producer.epoch;
        if found < current {
            return reject(Rejection::InvalidProducerEpoch { producer: id, current, found });
        }
        if marker.coordinator_epoch < producer.coordinator_epoch {
            let (current, found) = (producer.coordinator_epoch, marker.coordinator_epoch);
            return reject(Rejection::CoordinatorFenced { producer: id, current, found });
        }
        if let Some(base_offset) = producer.is_ended().filter(|_| found == current) {
            producer.mark.advance();
            return Verdict::Duplicate { base_offset, timestamp: NO_TIMESTAMP, end: base_offset.advance(1) };
        }
        if is_moved {
            return reject(Rejection::TransactionMoved { producer: id });
        }
        if marker.rule == EpochRule::Newer && found == current && producer.open.is_some() {
            return reject(Rejection::InvalidProducerEpoch { producer: id, current, found });
        }
        accept
    }

    /// Remembers a batch of a producer that was accepted at `base_offset`.
    pub(super) fn note(&mut self, header: &BatchHeader, base_offset: Offset, now_ms: i64) -> Begins {
        let producer = self.writes(header, now_ms);
        if header.base_sequence >= 0 {
            producer.push(BatchMemo {
                base_offset,
                timestamp: append_time(header),
                base_sequence: header.base_sequence,
                last_offset_delta: header.last_offset_delta,
            });
        }
        if header.is_transactional() && !header.is_control() && producer.open.is_none() {
            producer.open = Some(base_offset);
            return Begins::Transaction;
        }
        Begins::Nothing
    }

    /// Remembers a marker that was accepted at `offset`. Returns where the transaction began that it ends.
    pub(super) fn note_marker(
        &mut self,
        header: &BatchHeader,
        coordinator_epoch: i32,
        (offset, now_ms): (Offset, i64),
    ) -> Option<Offset> {
        let producer = self.writes(header, now_ms);
        producer.marker = Some(offset);
        producer.coordinator_epoch = coordinator_epoch;
        producer.mark.advance();
        producer.open.take()
    }

    /// The producer that wrote a batch, in the epoch of that batch.
    fn writes(&mut self, header: &BatchHeader, now_ms: i64) -> &mut Producer {
        let (id, epoch) = (ProducerId::new(header.producer_id), header.producer_epoch);
        let silence_ms_max = self.silence_ms_max;
        let producer = self.by_id.entry(id).or_insert_with(|| Producer::new(epoch, now_ms));
        let silent = producer.open.is_none() && now_ms.saturating_sub(producer.last_ms) > silence_ms_max;
        if producer.epoch != epoch || silent {
            producer.begin_epoch(epoch);
        }
        producer.last_ms = now_ms;
        producer
    }

    /// Forgets those silent for too long; then, if more than `keep_max` are left, the most silent eighth of
    /// them and more if need be. None that has a transaction open.
    pub(super) fn expire(&mut self, now_ms: i64, keep_max: usize) {
        let silence_ms_max = self.silence_ms_max;
        self.by_id.retain(|_, producer| {
            producer.open.is_some() || now_ms.saturating_sub(producer.last_ms) <= silence_ms_max
        });
        if self.by_id.len() <= keep_max {
            return;
        }
        let keep = keep_max - keep_max / 8;
        let idle = self.by_id.iter().filter(|(_, producer)| producer.open.is_none());
        let mut times: Vec<_> = idle.map(|(id, producer)| (producer.last_ms, *id)).collect();
        times.sort_unstable();
        for (_, id) in times.iter().take(self.by_id.len() - keep) {
            self.by_id.remove(id);
        }
    }
}

/// Judges a batch of a producer that is known; one that was written before is returned as it was.
fn judge_known(
    (producer, held): (ProducerId, &Producer),
    header: &BatchHeader,
    transaction: Option<InTransaction>,
) -> Result<Option<BatchMemo>, Rejection> {
    let (current, found) = (held.epoch, header.producer_epoch);
    if found < current {
        return Err(Rejection::InvalidProducerEpoch { producer, current, found });
    }
    if transaction.is_some_and(|transaction| transaction.guard.mark != held.mark) {
        return Err(Rejection::TransactionMoved { producer });
    }
    let batches = if found == current { held.batches() } else { &[] };
    if let Some(memo) = batches.iter().find(|memo| memo.is_of(header)) {
        // Nobody sends a batch again once its transaction has ended: to call it written would take it into the
        // next one.
        return match transaction.is_some() && held.marker > Some(memo.base_offset) {
            true => Err(Rejection::TransactionMoved { producer }),
            false => Ok(Some(*memo)),
        };
    }
    match (held.open, transaction) {
        (Some(_), None) => return Err(Rejection::NotTransactional { producer }),
        (Some(_), Some(_)) if found > current => {
            return Err(Rejection::TransactionOpen { producer, current, found });
        }
        (Some(_), Some(_)) | (None, _) => {}
    }
    // What the broker itself writes has no sequence: it is not sent twice.
    if header.base_sequence < 0 {
        return Ok(None);
    }
    let expected = batches.last().map_or(0, BatchMemo::next_sequence);
    match header.base_sequence {
        found if found == expected => Ok(None),
        found => Err(Rejection::OutOfOrderSequence { producer, expected, found }),
    }
}

/// The sequence of a batch that has none.
const NO_SEQUENCE: i32 = -1;
