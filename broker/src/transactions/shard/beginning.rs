//! InitProducerId: somebody takes a transactional id, and whoever had it is fenced.

use millstream_log::ProducerId;
use millstream_protocol::KStr;

use super::{Shard, hand_out, store};
use crate::coordinator::Ticket;
use crate::coordinator::format::TEXT_BYTES_MAX;
use crate::transactions::transaction::{
    Bump, Identity, LAST_EPOCH, Outcome, Partitions, Status, Stored, Transaction, Version,
};
use crate::transactions::turn::{Note, Refused, Stopped, Turn};

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Begin {
    pub(crate) id: KStr,
    pub(crate) timeout_ms: i32,
    /// Who the client was, if it goes on after an error (KIP-360).
    pub(crate) expected: Option<Identity>,
    /// An id that nobody had before, if one was needed.
    pub(crate) fresh: Option<ProducerId>,
}

/// What becomes of a request.
enum Step {
    /// The client has the id.
    Empty { identity: Identity, last_epoch: Option<i16> },
    /// The transaction is aborted first; the client is to ask again.
    Abort,
}

impl Shard {
    /// InitProducerId of a transactional producer.
    pub(crate) fn begin(&mut self, turn: &mut Turn<'_>, ticket: Ticket, begin: &Begin) {
        let max = turn.settings.timeout_max.as_millis();
        let is_timeout_allowed =
            u128::try_from(begin.timeout_ms).is_ok_and(|asked| 0 < asked && asked <= max);
        let step = match self.transactions.get(begin.id.as_str()) {
            // No record can name what is longer.
            _ if begin.id.is_empty() || begin.id.len() > TEXT_BYTES_MAX => Err(Refused::NoId.into()),
            _ if !is_timeout_allowed => Err(Refused::Timeout.into()),
            Some(transaction) => transaction.judge_begin(begin),
            None => first(begin),
        };
        match step {
            Ok(Step::Empty { identity, last_epoch }) => {
                self.take_over(turn, begin, identity, last_epoch);
                turn.fx.reply(ticket, Ok(identity));
            }
            Ok(Step::Abort) => {
                self.fence(turn, &begin.id);
                turn.fx.reply(ticket, Err(Stopped::from(Refused::Concurrent)));
            }
            Err(stopped) => turn.fx.reply(ticket, Err(stopped)),
        }
        self.reschedule(&begin.id);
    }

    fn take_over(&mut self, turn: &mut Turn<'_>, begin: &Begin, identity: Identity, last_epoch: Option<i16>) {
        let now_ms = turn.moment.now.wall_ms;
        if !self.transactions.contains_key(begin.id.as_str()) {
            let stored = Stored {
                identity,
                previous: None,
                next: None,
                timeout_ms: begin.timeout_ms,
                status: Status::Empty,
                partitions: Partitions::default(),
                updated_ms: now_ms,
                started_ms: -1,
                version: Version::One,
            };
            self.transactions.insert(begin.id.detach(), Transaction::new(stored));
        }
        let id = begin.id.detach();
        let transaction = self.transactions.get_mut(id.as_str()).expect("it was there or was inserted");
        let before = transaction.stored.identity.producer;
        transaction.begin_empty(identity, last_epoch, now_ms);
        transaction.stored.timeout_ms = begin.timeout_ms;
        store(&id, &transaction.stored, turn);
        self.reindex(&id, before, identity.producer);
        turn.fx.notes.push(Note::Initialized { id, identity });
    }

    /// Aborts what is open, so that nothing more can come of it.
    fn fence(&mut self, turn: &mut Turn<'_>, id: &KStr) {
        if let Some(transaction) = self.transactions.get_mut(id.as_str()) {
            let identity = transaction.stored.identity;
            transaction.abort_and_fence(id, turn);
            turn.fx.notes.push(Note::Fenced { id: id.detach(), identity });
        }
    }

    /// Aborts a transaction that took too long.
    pub(super) fn time_out(&mut self, id: &KStr, turn: &mut Turn<'_>) {
        if let Some(transaction) = self.transactions.get_mut(id.as_str()) {
            let identity = transaction.stored.identity;
            transaction.abort_and_fence(id, turn);
            turn.fx.notes.push(Note::TimedOut { id: id.detach(), identity });
        }
    }
}

fn first(begin: &Begin) -> Result<Step, Stopped> {
    let producer = begin.fresh.ok_or(Stopped::NeedsProducerId)?;
    Ok(Step::Empty { identity: Identity { producer, epoch: 0 }, last_epoch: None })
}

impl Transaction {
    fn judge_begin(&self, begin: &Begin) -> Result<Step, Stopped> {
        let Stored { identity, previous, status, .. } = self.stored;
        if let Status::Prepared(_) = status {
            return Err(Refused::Concurrent.into());
        }
        if let Some(expected) = begin.expected {
            // A request after whose answer got lost the id has changed, when its epochs were used up.
            let is_before_rotation = previous == Some(expected.producer) && expected.is_exhausted();
            if expected.producer != identity.producer && !is_before_rotation {
                return Err(Refused::Fenced.into());
            }
        }
        if status == Status::Ongoing {
            // Kafka aborts also for a producer that is fenced already, which costs a live one its transaction.
            let is_fenced = begin.expected.is_some_and(|expected| expected != identity);
            return if is_fenced { Err(Refused::Fenced.into()) } else { Ok(Step::Abort) };
        }
        let is_expected = begin.expected.is_none_or(|expected| expected == identity);
        let last_epoch = begin.expected.map(|_| identity.epoch);
        if is_expected && identity.is_exhausted() {
            let producer = begin.fresh.ok_or(Stopped::NeedsProducerId)?;
            return Ok(Step::Empty { identity: Identity { producer, epoch: 0 }, last_epoch });
        }
        if is_expected {
            let identity = Identity { epoch: identity.epoch + 1, ..identity };
            return Ok(Step::Empty { identity, last_epoch });
        }
        // The answer to this very request got lost; nobody else has asked since, or there would be no last epoch.
        let is_repeated = begin.expected.is_some_and(|expected| Some(expected.epoch) == self.last_epoch);
        if is_repeated && identity.epoch <= LAST_EPOCH {
            return Ok(Step::Empty { identity, last_epoch: self.last_epoch });
        }
        Err(Refused::Fenced.into())
    }

    /// Ends the transaction under an epoch that nobody was given.
    fn abort_and_fence(&mut self, id: &KStr, turn: &mut Turn<'_>) {
        let version = turn.level.version();
        self.prepare(Outcome::Abort, version, Bump::One, turn.moment.now.wall_ms);
        store(id, &self.stored, turn);
        hand_out(id, self, turn);
    }
}
