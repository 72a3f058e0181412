//! All transactional ids of one partition of `__transaction_state`: a pure state machine.
//!
//! An event changes the state at once and leaves records, replies, deeds and notes in its [`Turn`]. Replaying the
//! records gives the same state; who waits, and who writes markers, is only in memory. Markers are a deed: they are
//! written by others once the decision is durable, and `on_finished` tells that they are.

mod adding;
mod beginning;
mod ending;
mod expiring;
mod telling;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use foldhash::fast::RandomState;
use millstream_log::ProducerId;
use millstream_protocol::KStr;

pub(crate) use beginning::Begin;
pub(crate) use ending::End;
pub(crate) use telling::{Described, Listed, Standing};

use super::record::TransactionRecord;
use super::transaction::{JobNumber, Status, Stored, TopicPartition, Transaction};
use super::turn::{Finish, Turn};
use crate::coordinator::Millis;

/// One partition's transactional ids.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    transactions: HashMap<KStr, Transaction, RandomState>,
    /// Who has which id now.
    producers: HashMap<ProducerId, KStr, RandomState>,
    timers: BTreeSet<(Millis, KStr)>,
}

impl Shard {
    /// Takes over one record of the log.
    pub(crate) fn replay(&mut self, record: &TransactionRecord) {
        self.forget(&record.id);
        if let Some(stored) = &record.value {
            let id = record.id.detach();
            self.producers.insert(stored.identity.producer, id.clone());
            self.transactions.insert(id, Transaction::new(stored.clone()));
        }
    }

    /// To be called once after the replay: what was decided is carried out, and the time of what is open runs on.
    pub(crate) fn on_loaded(&mut self, turn: &mut Turn<'_>) {
        let mut ids: Vec<KStr> = self.transactions.keys().cloned().collect();
        // The same order in each run: a simulation repeats.
        ids.sort_unstable();
        for id in ids {
            let Some(transaction) = self.transactions.get_mut(id.as_str()) else { continue };
            match transaction.stored.status {
                Status::Prepared(_) => hand_out(&id, transaction, turn),
                Status::Ongoing => {
                    let timeout = transaction.stored.timeout();
                    let ran = turn.moment.now.wall_ms.saturating_sub(transaction.stored.started_ms);
                    let ran = Duration::from_millis(u64::try_from(ran).unwrap_or(0));
                    let left = timeout.saturating_sub(ran);
                    transaction.abort_at = Some(turn.moment.now.steady.after(left));
                }
                Status::Empty | Status::Complete(_) => {}
            }
            self.reschedule(&id);
        }
    }

    /// Whether these markers are still to be written by this job.
    pub(crate) fn is_due(&self, id: &str, job: JobNumber) -> bool {
        self.transactions.get(id).is_some_and(|transaction| transaction.job == Some(job))
    }

    /// Whether a transaction of this producer, open or not yet ended everywhere, has the partition.
    pub(crate) fn has_open(&self, producer: ProducerId, partition: &TopicPartition) -> bool {
        let transaction = self.producers.get(&producer).and_then(|id| self.transactions.get(id.as_str()));
        transaction.is_some_and(|transaction| transaction.stored.partitions.contains(partition))
    }

    /// When `tick` is to be called next.
    pub(crate) fn next_due(&self) -> Option<Millis> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, turn: &mut Turn<'_>) {
        let now = turn.moment.now.steady;
        while let Some((due, id)) = self.timers.first().cloned()
            && due <= now
        {
            let Some(transaction) = self.transactions.get_mut(id.as_str()) else {
                self.timers.remove(&(due, id));
                continue;
            };
            if transaction.reply_by.is_some_and(|by| by <= now) {
                transaction.answer_early(turn);
            }
            if transaction.abort_at.is_some_and(|at| at <= now) {
                self.time_out(&id, turn);
            }
            self.reschedule(&id);
        }
    }

    fn forget(&mut self, id: &str) {
        let Some((id, transaction)) = self.transactions.remove_entry(id) else { return };
        if self.producers.get(&transaction.stored.identity.producer) == Some(&id) {
            self.producers.remove(&transaction.stored.identity.producer);
        }
        if let Some(due) = transaction.due {
            self.timers.remove(&(due, id));
        }
    }

    /// To be called after each event of an id.
    fn reschedule(&mut self, id: &str) {
        let Some((id, transaction)) = self.transactions.get_key_value(id) else { return };
        let wanted = [transaction.reply_by, transaction.abort_at].into_iter().flatten().min();
        if wanted == transaction.due {
            return;
        }
        let (id, old) = (id.clone(), transaction.due);
        if let Some(old) = old {
            self.timers.remove(&(old, id.clone()));
        }
        if let Some(due) = wanted {
            self.timers.insert((due, id.clone()));
        }
        if let Some(transaction) = self.transactions.get_mut(id.as_str()) {
            transaction.due = wanted;
        }
    }

    /// The producer of an id may be another now.
    fn reindex(&mut self, id: &KStr, before: ProducerId, now: ProducerId) {
        if before != now {
            self.producers.remove(&before);
        }
        self.producers.insert(now, id.clone());
    }
}

/// Leaves the record of a transaction as it is now.
fn store(id: &KStr, stored: &Stored, turn: &mut Turn<'_>) {
    let form = turn.level.form();
    turn.fx.records.push(TransactionRecord { id: id.detach(), value: Some(stored.clone()), form });
}

/// Has the markers written of a transaction that is decided.
fn hand_out(id: &KStr, transaction: &mut Transaction, turn: &mut Turn<'_>) {
    let Status::Prepared(outcome) = transaction.stored.status else {
        unreachable!("markers are written of what is decided")
    };
    let job = turn.jobs.next();
    transaction.job = Some(job);
    turn.fx.deeds.push(Finish {
        id: id.detach(),
        job,
        identity: transaction.stored.identity,
        outcome,
        version: transaction.stored.version,
        partitions: transaction.stored.partitions.to_vec(),
    });
}

#[cfg(test)]
mod tests;
