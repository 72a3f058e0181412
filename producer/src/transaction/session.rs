//! Consume, process and produce, in one call: each batch of input, what is made of it and its offsets are one transaction.

use std::error::Error;
use std::fmt;

use millstream_client::Source;
use millstream_protocol::ErrorCode;

use super::{Ending, Transaction, TransactionError, TransactionalProducer};

/// Why a session ended before its input did.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError<S: Error + 'static, P: fmt::Display + fmt::Debug> {
    /// The input gives nothing more.
    #[error("the input of the transactions failed: {0}")]
    Source(#[source] S),
    /// What was to be done with a batch failed. Nothing of it holds; the next session begins with the same batch.
    #[error("processing failed: {0}")]
    Process(P),
    /// A transaction failed in a way that repeating it cannot mend.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
}

impl TransactionalProducer {
    /// Hands each batch of `source` to `process`, together with a transaction to send to. The offsets of the batch are
    /// committed with what was sent: each record of the input takes effect exactly once, for readers of committed records.
    ///
    /// A transaction that fails in a way that may pass is aborted, the batch handed out again, and processed again: so
    /// `process` should have no effects but what it sends. It must not keep the transaction. Ends at the end of `source`.
    ///
    /// Dropping the call aborts the transaction that is open; what is handed out is open in `source` then, and should be
    /// rewound before it is used again.
    ///
    /// ```no_run
    /// # use millstream_client::Source;
    /// # use millstream_producer::{Record, TransactionError, TransactionalProducer};
    /// # async fn example<S: Source<Batch = Vec<String>>>(
    /// #     producer: TransactionalProducer,
    /// #     mut source: S,
    /// # ) -> Result<(), Box<dyn std::error::Error>> {
    /// // `source`: a consumer of a group.
    /// producer
    ///     .run(&mut source, async |transaction, lines| {
    ///         for line in lines {
    ///             drop(transaction.send(Record::to("shouts").value(&line.to_uppercase())).await?);
    ///         }
    ///         Ok::<_, TransactionError>(())
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn run<S, P>(
        &self,
        source: &mut S,
        mut process: impl AsyncFnMut(&Transaction, S::Batch) -> Result<(), P>,
    ) -> Result<(), SessionError<S::Error, P>>
    where
        S: Source,
        P: fmt::Display + fmt::Debug,
    {
        let mut failures = 0;
        while let Some(batch) = source.next_batch().await.map_err(SessionError::Source)? {
            let transaction = match self.begin().await {
                Ok(transaction) => transaction,
                Err(error) => {
                    source.rewind();
                    return Err(error.into());
                }
            };
            let number = transaction.number;
            let processed = process(&transaction, batch).await;
            let committed = match (self.desk.check(number), processed) {
                // Whatever became of the processing, this is why.
                (Err(broken), _) => Err(broken),
                (Ok(()), Ok(())) => self.commit_with(transaction, source).await,
                (Ok(()), Err(error)) => {
                    drop(transaction);
                    source.rewind();
                    return Err(SessionError::Process(error));
                }
            };
            match self.settle(committed).await {
                Ok(()) => {
                    source.done();
                    failures = 0;
                }
                Err(error) => {
                    source.rewind();
                    if !may_pass(&error) {
                        return Err(error.into());
                    }
                    failures += 1;
                    tracing::debug!(%error, failures, "the batch is processed again");
                    tokio::time::sleep(self.producer.backoff(failures)).await;
                }
            }
        }
        Ok(())
    }

    async fn commit_with<S: Source>(
        &self,
        transaction: Transaction,
        source: &S,
    ) -> Result<(), TransactionError> {
        if let Some(group) = source.group() {
            transaction.send_offsets(&group, source.offsets()).await?;
        }
        transaction.commit().await
    }

    /// Waits until it is known what became of a commit.
    async fn settle(&self, committed: Result<(), TransactionError>) -> Result<(), TransactionError> {
        match committed {
            Err(error) if error.possibly_committed() && !error.is_fatal() => {
                match self.last_ending().await? {
                    Some(Ending::Commit) => Ok(()),
                    Some(Ending::Abort) | None => Err(error),
                }
            }
            committed => committed,
        }
    }
}

/// Whether the same batch may go through if it is processed again.
fn may_pass(error: &TransactionError) -> bool {
    let is_rebalanced = |code| {
        matches!(
            code,
            ErrorCode::IllegalGeneration
                | ErrorCode::UnknownMemberId
                | ErrorCode::RebalanceInProgress
                | ErrorCode::StaleMemberEpoch
        )
    };
    match error {
        TransactionError::Refused { code, is_fatal: false, .. } if is_rebalanced(*code) => true,
        // It was found out that it is not committed.
        TransactionError::TimedOut { .. } => true,
        error => error.is_retriable(),
    }
}
