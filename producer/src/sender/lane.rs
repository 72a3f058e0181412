//! One partition's batches between the buffer and the log: their order, their sequence numbers, and what
//! becomes of them when an answer is an error or does not come. A state machine; nothing here does I/O.
//!
//! Rules:
//! - Batches are sent in order, at most [`IN_FLIGHT_MAX`] at a time: the broker recognises repetitions of the
//!   last five batches of a producer, no more.
//! - One goes alone until it is acknowledged, at the start of a sequence and after every failure. A broker that
//!   does not know the producer accepts any first number, so of two that are under way the second could be
//!   written and the first be refused for ever.
//! - Once one has to be sent again, nothing is sent until all others are answered; then those that failed go
//!   out again, in order, before anything new.
//! - A batch that may be written keeps its sequence number for ever. It is never numbered anew.
//! - A batch that is too large becomes two, which keep its sequence numbers.
//! - When the broker and we disagree about the next number (data was lost on one side, or a batch before it
//!   was refused), the partition starts over with a new epoch (KIP-360). Batches that are certainly not
//!   written are numbered anew; others fail, and say that they may be written.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use millstream_protocol::ErrorCode;
use millstream_protocol::records::{
    self, BatchBuilder, BatchHeader, BatchView, HEADER_BYTES, NewRecord, crc32c,
};
use tokio::time::Instant;

use crate::buffer::{Divided, Gathering, Held};
use crate::delivery::{Outcome, Written};
use crate::error::{Fate, ProduceError};

/// Batches of one partition that may be under way at a time.
pub(crate) const IN_FLIGHT_MAX: usize = 5;

/// The checksum covers everything behind it, from the attributes on.
const CHECKED_FROM: usize = 21;

/// What the broker knows a producer by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

/// Who sent a batch, and its place in the sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    identity: Identity,
    sequence: i32,
}

/// A batch in its final form.
pub(crate) struct Batch {
    bytes: Bytes,
    outcome: Arc<Outcome>,
    held: Held,
    born: Instant,
    /// How many records were admitted before it.
    order: u64,
    stamp: Option<Stamp>,
    fate: Fate,
    last_error: Option<String>,
}

/// What an answer says about one batch.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is written.
    Written(Written),
    /// It should be sent again; the error says what happened, and whether it may be written.
    Again(ProduceError),
    /// The broker does not accept its sequence number, or its producer.
    Broken(ErrorCode),
    /// It is not written, and never will be.
    Refused(ProduceError),
    /// It is not written because it is too large. Parts of it may be.
    TooLarge(ProduceError),
}

/// A batch whose outcome is known.
pub(crate) struct Settled {
    pub(crate) outcome: Arc<Outcome>,
    pub(crate) held: Held,
    pub(crate) result: Result<Written, ProduceError>,
}

/// What batches are numbered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Numbering {
    /// By nothing.
    #[default]
    None,
    /// By a producer of the lane's own.
    Idempotent,
    /// By the producer that owns the transactional id. Which that is, its transaction says.
    Transactional,
}

/// The batches of one partition.
#[derive(Default)]
pub(crate) struct Lane {
    /// Whether the sender looks at it in every pass.
    pub(crate) is_active: bool,
    numbering: Numbering,
    identity: Option<Identity>,
    /// A producer id that cannot be used any more.
    turned_down: Option<i64>,
    next_sequence: i32,
    next_order: u64,
    /// To be sent, in order.
    queue: VecDeque<Batch>,
    /// Sent and not answered, in order.
    in_flight: VecDeque<Batch>,
    /// The last answer was an acknowledgement, so the broker knows what comes next.
    is_established: bool,
    /// Something has to be sent again: wait for the other answers.
    is_draining: bool,
    /// The sequence has to start over once nothing is in flight.
    broken: Option<ErrorCode>,
    failures: u32,
    retry_at: Option<Instant>,
}

impl Lane {
    pub(crate) fn new(numbering: Numbering) -> Self {
        Self { numbering, ..Self::default() }
    }

    /// Whether a batch may be sent now.
    pub(crate) fn can_send(&self, now: Instant) -> bool {
        let window = if self.is_established { IN_FLIGHT_MAX } else { 1 };
        !self.is_draining
            && self.in_flight.len() < window
            && self.retry_at().is_none_or(|retry_at| retry_at <= now)
    }

    /// When it may be, if it has to wait for time to pass.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.retry_at.filter(|_| !self.queue.is_empty())
    }

    pub(crate) fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether nothing is on its way or waits here.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.in_flight.is_empty()
    }

    /// How many attempts in a row have failed.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether it lacks a producer id.
    pub(crate) fn wants_identity(&self) -> bool {
        self.numbering == Numbering::Idempotent && self.identity.is_none()
    }

    /// Whether it can use this identity: not one that the broker has turned down for this partition.
    pub(crate) fn accepts(&self, identity: Identity) -> bool {
        self.turned_down.is_none_or(|id| id != identity.id)
    }

    /// Starts a sequence of its own under this producer id.
    pub(crate) fn identify(&mut self, identity: Identity) {
        self.identity = Some(identity);
        self.next_sequence = 0;
    }

    /// Goes on as this producer, in a transaction. With another epoch than before the sequence starts anew; whether
    /// several batches may follow at once from the start, the caller knows.
    pub(crate) fn enter(&mut self, identity: Identity, is_established: bool) {
        if self.identity != Some(identity) {
            self.identify(identity);
            self.is_established = is_established;
        }
    }

    /// Brings a batch into its final form and puts it behind all others.
    pub(crate) fn admit(&mut self, gathering: Gathering) {
        let Gathering { mut builder, outcome, id, born, room } = gathering;
        let records = builder.record_count();
        let stamp = self.identity.map(|identity| Stamp { identity, sequence: self.take_sequence(records) });
        if let Some(Stamp { identity, sequence }) = stamp {
            builder.producer(identity.id, identity.epoch, sequence);
        }
        if self.numbering == Numbering::Transactional {
            builder.transactional();
        }
        let bytes = builder.build();
        let held = Held { id, records: u64::from(records.unsigned_abs()), bytes: bytes.len(), room };
        let (fate, last_error) = (Fate::NotWritten, None);
        let order = self.next_order;
        self.next_order += held.records;
        self.queue.push_back(Batch { bytes, outcome, held, born, order, stamp, fate, last_error });
    }

    /// The batch to send next, and the number by which its answer is reported.
    pub(crate) fn send_next(&mut self) -> Option<(u64, Bytes)> {
        let mut batch = self.queue.pop_front()?;
        if let (None, Some(identity)) = (batch.stamp, self.identity) {
            let sequence = self.take_sequence(batch.held.records as i32);
            batch.renumber(Stamp { identity, sequence });
        }
        self.retry_at = None;
        let sent = (batch.order, batch.bytes.clone());
        self.in_flight.push_back(batch);
        Some(sent)
    }

    /// Takes an answer in. Says whether the batch became two.
    pub(crate) fn on_answer(
        &mut self,
        order: u64,
        verdict: Verdict,
        retry_at: Instant,
        settled: &mut Vec<Settled>,
    ) -> Option<Divided> {
        let place = self.in_flight.iter().position(|batch| batch.order == order)?;
        let is_first = place == 0 && self.queue.front().is_none_or(|queued| queued.order > order);
        let mut batch = self.in_flight.remove(place)?;
        let mut divided = None;
        match verdict {
            Verdict::Written(written) => {
                self.failures = 0;
                self.is_established = !self.is_draining;
                settled.push(batch.settle(Ok(written)));
            }
            Verdict::Refused(error) => {
                self.is_established = false;
                settled.push(batch.fail(error));
            }
            Verdict::TooLarge(error) => match batch.divide() {
                Some((first, second, parts)) => {
                    divided = Some(parts);
                    self.put_back(first, retry_at);
                    self.put_back(second, retry_at);
                }
                None => {
                    self.is_established = false;
                    settled.push(batch.fail(error));
                }
            },
            Verdict::Again(error) => {
                if error.possibly_written() {
                    batch.fate = Fate::PossiblyWritten;
                }
                if batch.fate == Fate::PossiblyWritten && self.numbering == Numbering::None {
                    settled.push(batch.fail(error));
                } else {
                    batch.last_error = Some(error.to_string());
                    self.put_back(batch, retry_at);
                }
            }
            // It came before a batch that is to be sent again, or whose answer is still open.
            Verdict::Broken(_) if !is_first => self.put_back(batch, retry_at),
            // What is lost cannot be made good within the transaction: it has to be aborted.
            Verdict::Broken(code) if self.numbering == Numbering::Transactional => {
                self.is_established = false;
                let error = batch.broken(code);
                settled.push(batch.fail(error));
            }
            Verdict::Broken(code) => {
                self.broken.get_or_insert(code);
                self.put_back(batch, retry_at);
            }
        }
        if self.in_flight.is_empty() {
            self.on_drained(settled);
        }
        divided
    }

    /// Fails what has been here for longer than `timeout`. What is in flight is told so, and stays until it
    /// is answered: its memory is still in use, and its place in the sequence too.
    pub(crate) fn expire(
        &mut self,
        now: Instant,
        timeout: Duration,
        trouble: Option<&str>,
        settled: &mut Vec<Settled>,
    ) -> Vec<(Arc<Outcome>, Held, ProduceError)> {
        while self.queue.front().is_some_and(|batch| batch.born + timeout <= now) {
            let Some(batch) = self.queue.pop_front() else { break };
            let error = batch.timed_out(timeout, batch.fate, trouble);
            settled.push(batch.fail(error));
        }
        let late = self.in_flight.iter().take_while(|batch| batch.born + timeout <= now);
        let late = late.filter(|batch| !batch.outcome.is_settled());
        late.map(|batch| {
            let error = batch.timed_out(timeout, Fate::PossiblyWritten, trouble);
            (batch.outcome.clone(), batch.held, error)
        })
        .collect()
    }

    /// Fails everything that waits here.
    pub(crate) fn fail_queued(
        &mut self,
        error: impl Fn(&Outcome) -> ProduceError,
        settled: &mut Vec<Settled>,
    ) {
        for batch in self.queue.drain(..) {
            let error = error(&batch.outcome);
            settled.push(batch.fail(error));
        }
    }

    /// When the oldest batch here that is not settled was born.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        let unsettled = |batch: &&Batch| !batch.outcome.is_settled();
        let first = self.in_flight.iter().find(unsettled).map(|batch| batch.born);
        first.into_iter().chain(self.queue.front().map(|batch| batch.born)).min()
    }

    fn put_back(&mut self, batch: Batch, retry_at: Instant) {
        self.is_established = false;
        if !self.is_draining {
            self.is_draining = true;
            self.failures += 1;
        }
        self.retry_at = Some(retry_at);
        let place = self.queue.partition_point(|queued| queued.order < batch.order);
        self.queue.insert(place, batch);
    }

    fn on_drained(&mut self, settled: &mut Vec<Settled>) {
        self.is_draining = false;
        let Some(code) = self.broken.take() else { return };
        self.turned_down = self.identity.map(|identity| identity.id);
        self.identity = self.identity.and_then(|identity| next_epoch(identity, code));
        self.next_sequence = 0;
        for mut batch in std::mem::take(&mut self.queue) {
            if batch.fate == Fate::PossiblyWritten {
                let Outcome { topic, partition, .. } = &*batch.outcome;
                let (topic, partition) = (topic.to_string(), *partition);
                settled.push(batch.settle(Err(ProduceError::SequenceLost { topic, partition, code })));
            } else {
                batch.stamp = None;
                self.queue.push_back(batch);
            }
        }
    }

    /// The sequence number of the first of so many records. Behind the largest number comes 0.
    fn take_sequence(&mut self, records: i32) -> i32 {
        let first = self.next_sequence;
        self.next_sequence = first.wrapping_add(records) & i32::MAX;
        first
    }
}

/// The identity with which to start over; none if a new producer id is needed.
fn next_epoch(identity: Identity, code: ErrorCode) -> Option<Identity> {
    match code {
        ErrorCode::OutOfOrderSequenceNumber | ErrorCode::UnknownProducerId => {
            Some(Identity { epoch: identity.epoch.checked_add(1)?, ..identity })
        }
        // Somebody else uses a newer epoch of this id, or the id is not known: no epoch of ours will do.
        _ => None,
    }
}

impl Batch {
    /// Writes producer and sequence into the header of a batch that was built with others.
    fn renumber(&mut self, stamp: Stamp) {
        let mut bytes = BytesMut::from(&self.bytes[..]);
        let mut header = BatchHeader::decode(&bytes).expect("we built this batch ourselves");
        header.producer_id = stamp.identity.id;
        header.producer_epoch = stamp.identity.epoch;
        header.base_sequence = stamp.sequence;
        bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
        header.crc = crc32c(&bytes[CHECKED_FROM..]);
        bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
        self.bytes = bytes.freeze();
        self.stamp = Some(stamp);
    }

    /// Makes two of it, with the numbers that it has. `None` if it cannot be divided.
    fn divide(&self) -> Option<(Self, Self, Divided)> {
        let count = self.held.records as i32;
        if count < 2 || self.fate == Fate::PossiblyWritten {
            return None;
        }
        let parts = self.outcome.divide(count / 2)?;
        let view = BatchView::parse(&self.bytes).expect("we built this batch ourselves");
        let compression = view.compression().expect("we built this batch ourselves");
        let mut records =
            records::records(&self.bytes, self.held.room).expect("we built this batch ourselves");
        let mut gather = |count| {
            let mut builder = BatchBuilder::new(compression);
            for record in records.by_ref().take(count) {
                let record = record.expect("we built this batch ourselves");
                builder.append(&NewRecord {
                    timestamp: record.timestamp,
                    key: record.key.as_deref(),
                    value: record.value.as_deref(),
                    headers: &record.headers,
                });
            }
            if view.is_transactional() {
                builder.transactional();
            }
            builder
        };
        let builders = (gather(count as usize / 2), gather(usize::MAX));
        let part_bytes = builders.0.size_in_bytes().max(builders.1.size_in_bytes());
        let first = self.part(parts.first, builders.0, 0);
        let mut second = self.part(parts.second, builders.1, count / 2);
        second.held.room = self.held.room - first.held.room;
        Some((first, second, Divided { id: self.held.id, part_bytes }))
    }

    /// A part of this batch that starts behind so many of its records.
    fn part(&self, outcome: Arc<Outcome>, mut builder: BatchBuilder, skipped: i32) -> Self {
        let stamp = self.stamp.map(|Stamp { identity, sequence }| {
            let sequence = sequence.wrapping_add(skipped) & i32::MAX;
            builder.producer(identity.id, identity.epoch, sequence);
            Stamp { identity, sequence }
        });
        let records = u64::from(builder.record_count().unsigned_abs());
        let room = self.held.room / 2;
        let bytes = builder.build();
        let held = Held { records, bytes: bytes.len(), room, ..self.held };
        let order = self.order + u64::from(skipped.unsigned_abs());
        Self { bytes, outcome, held, order, stamp, last_error: None, ..*self }
    }

    fn broken(&self, code: ErrorCode) -> ProduceError {
        ProduceError::Refused {
            topic: self.outcome.topic.to_string(),
            partition: self.outcome.partition,
            code,
            message: code.message().to_owned(),
            fate: self.fate,
        }
    }

    fn settle(self, result: Result<Written, ProduceError>) -> Settled {
        Settled { outcome: self.outcome, held: self.held, result }
    }

    /// An earlier attempt may have succeeded, whatever the last one says.
    fn fail(self, error: ProduceError) -> Settled {
        let error = match self.fate {
            Fate::PossiblyWritten => error.but_possibly_written(),
            Fate::NotWritten => error,
        };
        self.settle(Err(error))
    }

    fn timed_out(&self, after: Duration, fate: Fate, trouble: Option<&str>) -> ProduceError {
        ProduceError::TimedOut {
            topic: self.outcome.topic.to_string(),
            partition: self.outcome.partition,
            after,
            last: self.last_error.clone().or_else(|| trouble.map(str::to_owned)),
            fate,
        }
    }
}

#[cfg(test)]
mod tests;
