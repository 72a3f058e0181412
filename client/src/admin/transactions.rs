//! Transactions and producers, as those see them who look after a cluster: what is open, since when, by whom, and how to
//! end what hangs.

use millstream_protocol::messages::describe_producers_request::TopicRequest;
use millstream_protocol::messages::describe_producers_response::ProducerState;
use millstream_protocol::messages::describe_transactions_response::TransactionState;
use millstream_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use millstream_protocol::messages::{
    DescribeProducersRequest, DescribeTransactionsRequest, InitProducerIdRequest, ListTransactionsRequest,
    WriteTxnMarkersRequest,
};
use millstream_protocol::{ErrorCode, KStr};

use super::{Admin, judge, refusal, unanswered};
use crate::client::To;
use crate::connection::CallOptions;
use crate::error::{ClientError, Refusal};
use crate::metadata::BrokerId;

/// From this version on transactions can be filtered by how long they have been open.
const DURATION_FROM: i16 = 1;
/// From this version on they can be filtered by a pattern of their ids.
const PATTERN_FROM: i16 = 2;
/// The longest timeout that brokers allow by default is 15 min; a fenced producer needs none.
const FENCE_TIMEOUT_MS: i32 = 1;

/// Which transactional ids are wanted; nothing named means all.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct TransactionFilter {
    /// Only those in one of these states: `Ongoing`, `PrepareAbort`, `Empty`.
    pub states: Vec<String>,
    /// Only those of these producers.
    pub producers: Vec<i64>,
    /// Only those whose transaction has been open for so many milliseconds. Needs Kafka 3.8.
    pub open_for_ms: Option<i64>,
    /// Only ids that match this pattern. Needs Kafka 4.1.
    pub pattern: Option<String>,
}

/// A transactional id, as a list tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransactionListing {
    /// The id.
    pub transactional_id: KStr,
    /// The producer that has it.
    pub producer_id: i64,
    /// What its transaction is doing, in the broker's words.
    pub state: KStr,
    /// The broker that coordinates it.
    pub coordinator: BrokerId,
}

/// A transactional id and its transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransactionDescription {
    /// The id.
    pub transactional_id: KStr,
    /// What its transaction is doing, in the broker's words.
    pub state: KStr,
    /// Its producer.
    pub producer_id: i64,
    /// The producer's epoch.
    pub producer_epoch: i16,
    /// The broker aborts it after so many milliseconds.
    pub timeout_ms: i32,
    /// Since when it is open, in milliseconds since 1970.
    pub open_since_ms: Option<i64>,
    /// What it has written to: topics and partitions.
    pub partitions: Vec<(KStr, i32)>,
}

/// A producer that writes to a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ActiveProducer {
    /// Its id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i32,
    /// The number of its last record.
    pub last_sequence: i32,
    /// When it wrote last, in milliseconds since 1970.
    pub last_timestamp_ms: Option<i64>,
    /// The epoch of its coordinator.
    pub coordinator_epoch: Option<i32>,
    /// Where its open transaction begins: readers of committed records stop there.
    pub open_from: Option<i64>,
}

/// Why transactions were not listed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ListTransactionsError {
    /// A broker refuses.
    #[error("{0}")]
    Refused(Refusal),
    /// The request got no usable answer.
    #[error(transparent)]
    Request(#[from] ClientError),
}
judge!(ListTransactionsError only reads);

/// Why a transactional id was not described.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DescribeTransactionError {
    /// There is none of this name.
    #[error("there is no transactional id {transactional_id:?}")]
    UnknownTransactionalId {
        /// The id.
        transactional_id: String,
    },
    /// The broker refuses.
    #[error("{0}")]
    Refused(Refusal),
    /// The request got no usable answer.
    #[error(transparent)]
    Request(#[from] ClientError),
}
judge!(DescribeTransactionError only reads, UnknownTransactionalId);

/// Why the producers of a partition were not told.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DescribeProducersError {
    /// The broker refuses.
    #[error("{0}")]
    Refused(Refusal),
    /// The request got no usable answer.
    #[error(transparent)]
    Request(#[from] ClientError),
}
judge!(DescribeProducersError only reads);

/// Why a transaction was not aborted.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AbortTransactionError {
    /// The broker refuses.
    #[error("{0}")]
    Refused(Refusal),
    /// The request got no usable answer.
    #[error(transparent)]
    Request(#[from] ClientError),
}
judge!(AbortTransactionError);

/// Why a producer was not fenced.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum FenceProducerError {
    /// The broker refuses.
    #[error("{0}")]
    Refused(Refusal),
    /// The request got no usable answer.
    #[error(transparent)]
    Request(#[from] ClientError),
}
judge!(FenceProducerError);

impl Admin {
    /// The transactional ids of all brokers, by id.
    ///
    /// ```no_run
    /// # async fn example(client: millstream_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut filter = millstream_client::TransactionFilter::default();
    /// filter.open_for_ms = Some(60_000);
    /// for hanging in client.admin().list_transactions(&filter).await? {
    ///     println!("{} is {}", hanging.transactional_id, hanging.state);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// That a broker refuses, is too old for the filter, or cannot be asked.
    pub async fn list_transactions(
        &self,
        filter: &TransactionFilter,
    ) -> Result<Vec<TransactionListing>, ListTransactionsError> {
        let request = &ListTransactionsRequest {
            state_filters: filter.states.iter().map(|state| KStr::from(state.as_str())).collect(),
            producer_id_filters: filter.producers.clone(),
            duration_filter: filter.open_for_ms.unwrap_or(-1),
            transactional_id_pattern: filter.pattern.as_deref().map(KStr::from),
        };
        let needs = match filter {
            TransactionFilter { pattern: Some(_), .. } => PATTERN_FROM,
            TransactionFilter { open_for_ms: Some(_), .. } => DURATION_FROM,
            _ => 0,
        };
        self.retry(async || {
            let mut listed = Vec::new();
            for broker in self.all_brokers().await? {
                let connection = self.client.connection(To::Broker(broker)).await?;
                let subject = || format!("transactions of broker {broker}");
                if connection.version_of::<ListTransactionsRequest>(CallOptions::default())? < needs {
                    let message = Some("the broker is too old for this filter".to_owned());
                    let code = ErrorCode::UnsupportedVersion;
                    return Err(ListTransactionsError::Refused(Refusal {
                        subject: subject(),
                        code,
                        message,
                    }));
                }
                let answer = connection.send(request, CallOptions::default()).await?.await?;
                refusal(answer.error_code, None, subject).map_err(ListTransactionsError::Refused)?;
                listed.extend(answer.transaction_states.iter().map(|state| TransactionListing {
                    transactional_id: state.transactional_id.detach(),
                    producer_id: state.producer_id,
                    state: state.transaction_state.detach(),
                    coordinator: broker,
                }));
            }
            listed.sort_unstable_by(|a, b| a.transactional_id.cmp(&b.transactional_id));
            Ok(listed)
        })
        .await
    }

    /// What the transaction of an id is doing.
    ///
    /// # Errors
    /// [`DescribeTransactionError::UnknownTransactionalId`]; or that the broker refuses, or cannot be asked.
    pub async fn describe_transaction(
        &self,
        transactional_id: &str,
    ) -> Result<TransactionDescription, DescribeTransactionError> {
        let request = &DescribeTransactionsRequest { transactional_ids: vec![KStr::from(transactional_id)] };
        self.retry(async || {
            let connection = self.client.connection(To::TransactionCoordinator(transactional_id)).await?;
            let answer = connection.send(request, CallOptions::default()).await?.await?;
            let subject = || format!("transactional id {transactional_id:?}");
            let found = answer.transaction_states.first();
            let found = found.ok_or_else(|| DescribeTransactionError::Refused(unanswered(subject())))?;
            refusal(found.error_code, None, subject).map_err(|refusal| match refusal.code {
                ErrorCode::TransactionalIdNotFound => DescribeTransactionError::UnknownTransactionalId {
                    transactional_id: transactional_id.to_owned(),
                },
                _ => {
                    self.client.forget_transaction_coordinator(transactional_id);
                    DescribeTransactionError::Refused(refusal)
                }
            })?;
            Ok(described(found))
        })
        .await
    }

    /// The producers that the leader of a partition remembers, by id.
    ///
    /// # Errors
    /// That there is no such partition, or that its leader refuses or cannot be asked.
    pub async fn describe_producers(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<Vec<ActiveProducer>, DescribeProducersError> {
        let wanted = TopicRequest { name: KStr::from(topic), partition_indexes: vec![partition] };
        let request = &DescribeProducersRequest { topics: vec![wanted] };
        self.retry(async || {
            let connection = self.client.connection(To::Leader(topic, partition)).await?;
            let answer = connection.send(request, CallOptions::default()).await?.await?;
            let subject = || format!("producers of partition {partition} of topic {topic:?}");
            let found = answer.topics.iter().flat_map(|topic| &topic.partitions).next();
            let found = found.ok_or_else(|| DescribeProducersError::Refused(unanswered(subject())))?;
            refusal(found.error_code, found.error_message.as_ref(), subject).map_err(|refusal| {
                self.client.invalidate(topic);
                DescribeProducersError::Refused(refusal)
            })?;
            let mut active: Vec<_> = found.active_producers.iter().map(active).collect();
            active.sort_unstable_by_key(|producer| producer.producer_id);
            Ok(active)
        })
        .await
    }

    /// Ends the open transaction of a producer in one partition, whatever its coordinator says of it. For transactions
    /// that hang: nobody who is asked in the ordinary way knows them. `producer` is what
    /// [`describe_producers`](Self::describe_producers) tells.
    ///
    /// # Errors
    /// That the partition's leader refuses or cannot be asked.
    pub async fn abort_transaction(
        &self,
        topic: &str,
        partition: i32,
        producer: &ActiveProducer,
    ) -> Result<(), AbortTransactionError> {
        let topics =
            vec![WritableTxnMarkerTopic { name: KStr::from(topic), partition_indexes: vec![partition] }];
        let marker = WritableTxnMarker {
            producer_id: producer.producer_id,
            producer_epoch: i16::try_from(producer.producer_epoch).unwrap_or(i16::MAX),
            transaction_result: false,
            topics,
            coordinator_epoch: producer.coordinator_epoch.unwrap_or(0),
            ..Default::default()
        };
        let request = &WriteTxnMarkersRequest { markers: vec![marker] };
        self.retry(async || {
            let connection = self.client.connection(To::Leader(topic, partition)).await?;
            let answer = connection.send(request, CallOptions::default()).await?.await?;
            let subject = || format!("aborting in partition {partition} of topic {topic:?}");
            let found = answer.markers.iter().flat_map(|marker| &marker.topics);
            let found = found.flat_map(|topic| &topic.partitions).next();
            let found = found.ok_or_else(|| AbortTransactionError::Refused(unanswered(subject())))?;
            refusal(found.error_code, None, subject).map_err(|refusal| {
                self.client.invalidate(topic);
                AbortTransactionError::Refused(refusal)
            })
        })
        .await
    }

    /// Fences the producer that has this transactional id, and aborts what it has open: it can write no more.
    ///
    /// # Errors
    /// That the coordinator refuses or cannot be asked.
    pub async fn fence_producer(&self, transactional_id: &str) -> Result<(), FenceProducerError> {
        let request = &InitProducerIdRequest {
            transactional_id: Some(KStr::from(transactional_id)),
            transaction_timeout_ms: FENCE_TIMEOUT_MS,
            ..Default::default()
        };
        self.retry(async || {
            let connection = self.client.connection(To::TransactionCoordinator(transactional_id)).await?;
            let answer = connection.send(request, CallOptions::default()).await?.await?;
            let subject = || format!("fencing transactional id {transactional_id:?}");
            refusal(answer.error_code, None, subject).map_err(|refusal| {
                self.client.forget_transaction_coordinator(transactional_id);
                FenceProducerError::Refused(refusal)
            })
        })
        .await
    }
}

fn described(found: &TransactionState) -> TransactionDescription {
    let partitions = found.topics.iter().flat_map(|topic| {
        let name = topic.topic.detach();
        topic.partitions.iter().map(move |partition| (name.clone(), *partition))
    });
    TransactionDescription {
        transactional_id: found.transactional_id.detach(),
        state: found.transaction_state.detach(),
        producer_id: found.producer_id,
        producer_epoch: found.producer_epoch,
        timeout_ms: found.transaction_timeout_ms,
        open_since_ms: (found.transaction_start_time_ms >= 0).then_some(found.transaction_start_time_ms),
        partitions: partitions.collect(),
    }
}

fn active(found: &ProducerState) -> ActiveProducer {
    ActiveProducer {
        producer_id: found.producer_id,
        producer_epoch: found.producer_epoch,
        last_sequence: found.last_sequence,
        last_timestamp_ms: (found.last_timestamp >= 0).then_some(found.last_timestamp),
        coordinator_epoch: (found.coordinator_epoch >= 0).then_some(found.coordinator_epoch),
        open_from: (found.current_txn_start_offset >= 0).then_some(found.current_txn_start_offset),
    }
}
