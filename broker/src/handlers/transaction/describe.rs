//! DescribeTransactions, key 65, version 0: how transactions stand, by transactional id.

use std::ops::RangeInclusive;

use millstream_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use millstream_protocol::messages::{DescribeTransactionsRequest, DescribeTransactionsResponse};
use millstream_protocol::{ErrorCode, KStr};

use crate::dispatch::{Answer, Call, Handler};
use crate::handlers::answers;
use crate::transactions::Described;

pub(crate) struct DescribeTransactions;

impl Handler for DescribeTransactions {
    type Request = DescribeTransactionsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn handle(call: Call, request: DescribeTransactionsRequest) -> Answer<DescribeTransactionsResponse> {
        let described: Vec<_> = request.transactional_ids.into_iter().map(|id| describe(&call, id)).collect();
        Answer::Later(Box::pin(async move {
            DescribeTransactionsResponse {
                transaction_states: answers(described).await,
                ..Default::default()
            }
        }))
    }
}

fn describe(call: &Call, id: KStr) -> impl Future<Output = TransactionState> + use<> {
    let described = (!id.is_empty()).then(|| call.node.transactions.describe(&call.node, &id));
    async move {
        let Some(described) = described else { return refused(id, ErrorCode::InvalidRequest) };
        match described.await {
            Ok(Some(found)) => told(id, &found),
            Ok(None) => refused(id, ErrorCode::TransactionalIdNotFound),
            Err(not_ready) => refused(id, not_ready.code()),
        }
    }
}

fn told(id: KStr, Described(stored): &Described) -> TransactionState {
    let topics = stored.partitions.by_topic().map(|(topic, partitions)| TopicData {
        topic: topic.clone(),
        partitions: partitions.iter().copied().collect(),
    });
    TransactionState {
        transactional_id: id,
        transaction_state: KStr::from_static(stored.status.name()),
        transaction_timeout_ms: stored.timeout_ms,
        transaction_start_time_ms: stored.started_ms,
        producer_id: stored.identity.producer.get(),
        producer_epoch: stored.identity.epoch,
        topics: topics.collect(),
        ..Default::default()
    }
}

fn refused(id: KStr, code: ErrorCode) -> TransactionState {
    TransactionState { transactional_id: id, error_code: code.code(), ..Default::default() }
}
