//! Transactions as programs hold them: a producer that can begin one, and a guard that is one.
//!
//! What is asked here is put on the desk; the sender takes it from there and sees it through, whether anybody
//! still waits or not. So nothing here blocks when it is dropped.

mod desk;
mod error;
mod session;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use millstream_client::{GroupMetadata, NewOffset};
use tokio::sync::oneshot;

use crate::delivery::Delivery;
use crate::producer::{Producer, ProducerStats};
use crate::record::Record;

pub(crate) use desk::{Command, Desk, Reply};
pub(crate) use error::Harm;
pub use error::TransactionError;
pub use session::SessionError;

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All of it holds.
    Commit,
    /// None of it does.
    Abort,
}

/// A producer all of whose records belong to transactions.
///
/// It owns its transactional id: when it is built, an earlier instance with the same id is fenced, and what that had
/// open is aborted. One transaction is open at a time. Needs brokers from Kafka 2.5 on; with those that have
/// `transaction.version` 2, partitions join by being written to (KIP-890).
///
/// Dropping it, or an open transaction, never blocks: what is open is aborted in the background, as long as the
/// runtime lives.
///
/// ```no_run
/// # async fn example(client: millstream_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use millstream_producer::{Producer, Record};
///
/// let producer = Producer::builder(client).transactional_id("transfers-1").build().await?;
/// let transaction = producer.begin().await?;
/// drop(transaction.send(Record::to("accounts").key("a").value("-10")).await?);
/// drop(transaction.send(Record::to("accounts").key("b").value("+10")).await?);
/// // Both or none; before that, no reader of committed records sees either.
/// transaction.commit().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TransactionalProducer {
    producer: Producer,
    desk: Arc<Desk>,
    patience: Patience,
}

/// How long callers wait for the sender.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For an answer of the coordinator, however often it has to be asked.
    pub(crate) coordinator: Duration,
    /// For records to be acknowledged; they fail after that.
    pub(crate) delivery: Duration,
}

impl TransactionalProducer {
    pub(crate) fn new(producer: Producer, desk: Arc<Desk>, patience: Patience) -> Self {
        Self { producer, desk, patience }
    }

    /// Begins a transaction, once the one before it has ended: one that was dropped is aborted first.
    ///
    /// Cancel safe: a call that is dropped has begun nothing.
    ///
    /// # Errors
    /// [`TransactionError::AlreadyOpen`]; that the producer cannot be used any more
    /// ([`is_fatal`](TransactionError::is_fatal)), or that the transaction before it could not be ended within the
    /// client's total timeout.
    pub async fn begin(&self) -> Result<Transaction, TransactionError> {
        let number = self.desk.open()?;
        let transaction = Transaction {
            number,
            producer: self.producer.clone(),
            desk: self.desk.clone(),
            patience: self.patience,
        };
        let begun = |reply| Command::Begin { number, reply };
        self.desk.ask("begin", self.patience.coordinator, begun).await?;
        Ok(transaction)
    }

    /// Waits until no transaction is open or ending, and tells how the last one ended; `None` if there was none.
    ///
    /// This is how to learn what became of a commit that was not answered in time
    /// ([`possibly_committed`](TransactionError::possibly_committed)): it is pursued in the background.
    ///
    /// # Errors
    /// That the producer cannot be used any more, or that it is not known within the client's total timeout.
    pub async fn last_ending(&self) -> Result<Option<Ending>, TransactionError> {
        let rest = |reply| Command::Rest { reply };
        self.desk.ask("learning how the last transaction ended", self.patience.coordinator, rest).await?;
        Ok(self.desk.last_ending())
    }

    /// How much was sent so far.
    #[must_use]
    pub fn stats(&self) -> ProducerStats {
        self.producer.stats()
    }

    /// Claims the transactional id.
    pub(crate) async fn claim(&self) -> Result<(), TransactionError> {
        let rest = |reply| Command::Rest { reply };
        self.desk.ask("claiming the transactional id", self.patience.coordinator, rest).await
    }
}

impl fmt::Debug for TransactionalProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionalProducer").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// An open transaction. When it is dropped without [`commit`](Self::commit), it is aborted in the background.
///
/// Can be shared by reference or in an `Arc`: records of one partition are written in the order in which their
/// `send` calls complete.
#[must_use = "a transaction that is dropped is aborted"]
pub struct Transaction {
    number: u64,
    producer: Producer,
    desk: Arc<Desk>,
    patience: Patience,
}

impl Transaction {
    /// Accepts a record, as [`Producer::send`] does. The handle it returns may be dropped: a record that is not
    /// acknowledged fails the commit.
    ///
    /// Acknowledged means written, not committed.
    ///
    /// Cancel safe: a call that is dropped before it returns has accepted nothing.
    ///
    /// # Errors
    /// [`TransactionError::Send`]: the record was not accepted, and the transaction is as it was before. Any other: the
    /// transaction cannot be committed any more, because of this error.
    pub async fn send(&self, record: Record<'_>) -> Result<Delivery, TransactionError> {
        self.desk.check(self.number)?;
        self.producer.send(record).await.map_err(|error| match self.desk.check(self.number) {
            Ok(()) => TransactionError::Send(error),
            Err(broken) => broken,
        })
    }

    /// Has offsets of a group committed with the transaction: they hold if and only if its records do. Each is that of
    /// the first record which the group shall consume next.
    ///
    /// `group` comes from the consumer that read the records; if it has been replaced as a member of the group, its
    /// offsets are refused, and with them the transaction.
    ///
    /// Not cancel safe: a call that is dropped may or may not have added the offsets. Drop the transaction, too.
    ///
    /// # Errors
    /// That the transaction cannot be committed any more, and why.
    pub async fn send_offsets(
        &self,
        group: &GroupMetadata,
        offsets: impl IntoIterator<Item = NewOffset>,
    ) -> Result<(), TransactionError> {
        self.desk.check(self.number)?;
        let (number, group) = (self.number, group.clone());
        let offsets: Vec<_> = offsets.into_iter().collect();
        if offsets.is_empty() {
            return Ok(());
        }
        let add = |reply| Command::Offsets { number, group, offsets, reply };
        self.desk.ask("adding offsets", self.patience.coordinator, add).await
    }

    /// Waits until all records are acknowledged, and commits. When it returns, readers of committed records see them.
    ///
    /// A lost answer is asked for again. When a call that has asked for the commit is dropped, the commit is pursued in
    /// the background; a call that is dropped before that aborts.
    ///
    /// # Errors
    /// The transaction is not committed, and is being aborted in the background, unless
    /// [`possibly_committed`](TransactionError::possibly_committed) says that this is not known;
    /// [`last_ending`](TransactionalProducer::last_ending) tells then.
    pub async fn commit(self) -> Result<(), TransactionError> {
        self.desk.check(self.number)?;
        let _pressing = self.producer.press();
        let patience = self.patience.delivery + self.patience.coordinator;
        let number = self.number;
        let committed = self.desk.ask("commit", patience, |reply| Command::Commit { number, reply }).await;
        committed.map_err(|error| match error {
            TransactionError::TimedOut { request, after, last, .. } => {
                // Decided before or not at all: from here on nobody can decide to commit any more.
                let possibly_committed = self.desk.withdraw(number);
                TransactionError::TimedOut { request, after, last, possibly_committed }
            }
            error => error,
        })
    }

    /// Aborts, and waits until that is done. Dropping the transaction does the same without waiting.
    ///
    /// # Errors
    /// That the producer cannot be used any more, or that the abort was not answered within the client's total timeout; it
    /// goes on in the background.
    pub async fn abort(self) -> Result<(), TransactionError> {
        let (desk, patience, number) = (self.desk.clone(), self.patience, self.number);
        drop(self);
        desk.ask("abort", patience.coordinator, |reply| Command::Abort { number, reply }).await
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.desk.close(self.number);
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transaction({})", self.number)
    }
}

/// The sender was dropped with its runtime.
pub(crate) fn gone(_: oneshot::error::RecvError) -> TransactionError {
    TransactionError::Closed
}
