//! Partitions come to a transaction, by AddPartitionsToTxn, AddOffsetsToTxn, or with what is written to them (KIP-890).
//!
//! A partition whose log has a transaction of the producer open, and which the coordinator does not know, holds an orphan:
//! records whose registration was lost with a power cut or a failed log. Nothing is added to it, or records that are to be
//! aborted would come back with it.

use millstream_protocol::KStr;

use super::{Shard, store};
use crate::coordinator::{BatchNumber, Ticket};
use crate::transactions::transaction::{Identity, LAST_EPOCH, Status, TopicPartition, Transaction, Version};
use crate::transactions::turn::{Refused, Turn};
use crate::transactions::{Adds, EnlistPartition};

impl Shard {
    /// AddPartitionsToTxn and AddOffsetsToTxn.
    pub(crate) fn add(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        (id, by): (&KStr, Identity),
        partitions: &[EnlistPartition],
        version: Version,
    ) {
        let added = self.admit(turn, (id, by), partitions, version).map(drop);
        turn.fx.reply(ticket, added);
    }

    /// AddPartitionsToTxn that only asks, for each of the partitions.
    pub(crate) fn verify_each(
        &self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        by: (&KStr, Identity),
        partitions: &[EnlistPartition],
    ) {
        let each = |one| match self.verify(by, std::slice::from_ref(one)) {
            Err(refused @ (Refused::NotAdded | Refused::Orphan)) => Ok(Err(refused)),
            Err(refused) => Err(refused),
            Ok(_) => Ok(Ok(())),
        };
        let verified: Result<Vec<Result<(), Refused>>, Refused> = partitions.iter().map(each).collect();
        turn.fx.reply(ticket, verified);
    }

    /// Lets in a batch for each of the partitions, or none. What is said rests on the batch that is given.
    pub(crate) fn enlist(
        &mut self,
        turn: &mut Turn<'_>,
        (id, by): (&KStr, Identity),
        partitions: &[EnlistPartition],
        adds: Adds,
    ) -> (Result<(), Refused>, BatchNumber) {
        let enlisted = match adds {
            Adds::Implicitly => self.admit(turn, (id, by), partitions, Version::Two),
            Adds::Never => self.verify((id, by), partitions),
        };
        match enlisted {
            Ok(batch) => (Ok(()), batch),
            Err(refused) => (Err(refused), BatchNumber::default()),
        }
    }

    /// Whether all the partitions belong to the transaction.
    fn verify(
        &self,
        (id, by): (&KStr, Identity),
        partitions: &[EnlistPartition],
    ) -> Result<BatchNumber, Refused> {
        if id.is_empty() {
            return Err(Refused::NoId);
        }
        let transaction = self.transactions.get(id.as_str()).ok_or(Refused::Unknown)?;
        transaction.check(by)?;
        if let Status::Prepared(_) = transaction.stored.status {
            return Err(Refused::Concurrent);
        }
        transaction.check_orphans(partitions)?;
        let is_there = |one: &EnlistPartition| transaction.stored.partitions.contains(&one.partition);
        if partitions.iter().all(is_there) { Ok(transaction.enlisted_in) } else { Err(Refused::NotAdded) }
    }

    fn admit(
        &mut self,
        turn: &mut Turn<'_>,
        (id, by): (&KStr, Identity),
        partitions: &[EnlistPartition],
        version: Version,
    ) -> Result<BatchNumber, Refused> {
        if id.is_empty() {
            return Err(Refused::NoId);
        }
        let transaction = self.transactions.get_mut(id.as_str()).ok_or(Refused::Unknown)?;
        // First of all: the producer may have another id by the time that this is over.
        if let Status::Prepared(_) = transaction.stored.status {
            return Err(Refused::Concurrent);
        }
        transaction.check(by)?;
        transaction.check_orphans(partitions)?;
        let added: Vec<TopicPartition> = partitions
            .iter()
            .filter(|one| !transaction.stored.partitions.contains(&one.partition))
            .map(|one| one.partition.clone())
            .collect();
        if transaction.stored.status == Status::Ongoing && added.is_empty() {
            return Ok(transaction.enlisted_in);
        }
        if transaction.stored.status != Status::Ongoing {
            let abort_at = turn.moment.now.steady.after(transaction.stored.timeout());
            transaction.abort_at = Some(abort_at);
        }
        transaction.add(&added, version, turn.moment.now.wall_ms);
        transaction.enlisted_in = turn.moment.next_batch;
        store(id, &transaction.stored, turn);
        let enlisted_in = transaction.enlisted_in;
        self.reschedule(id);
        Ok(enlisted_in)
    }
}

impl Transaction {
    /// Whether this producer has the id.
    fn check(&self, by: Identity) -> Result<(), Refused> {
        if by.producer != self.stored.identity.producer {
            return Err(Refused::Unknown);
        }
        // The very last epoch is only there to fence with.
        if by.epoch != self.stored.identity.epoch || by.epoch > LAST_EPOCH {
            return Err(Refused::Fenced);
        }
        Ok(())
    }

    fn check_orphans(&self, partitions: &[EnlistPartition]) -> Result<(), Refused> {
        let is_orphan =
            |one: &EnlistPartition| one.is_open && !self.stored.partitions.contains(&one.partition);
        if partitions.iter().any(is_orphan) { Err(Refused::Orphan) } else { Ok(()) }
    }
}
