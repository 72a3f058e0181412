//! AddPartitionsToTxn, key 24, versions 0 to 5: partitions that a transaction is about to write to.
//!
//! 2: PRODUCER_FENCED. 4: several transactions at a time, which may only be asked about; brokers of a Kafka cluster ask each
//! other like this. 5: TRANSACTION_ABORTABLE.
//!
//! One partition that is refused refuses all of its transaction.

use std::ops::RangeInclusive;
use std::sync::Arc;

use millstream_log::ProducerId;
use millstream_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use millstream_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use millstream_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};
use millstream_protocol::{ErrorCode, KStr};

use super::{asked, told};
use crate::dispatch::{Answer, Boxed, Call, Handler};
use crate::handlers::answers;
use crate::metadata::topic_name;
use crate::node::Node;
use crate::transactions::{EnlistPartition, Identity, Refused, TopicPartition, Version};

/// From here on the client knows PRODUCER_FENCED.
const KNOWS_FENCED: i16 = 2;

/// From here on there are several transactions, and other brokers ask.
const BATCHED: i16 = 4;

pub(crate) struct AddPartitionsToTxn;

impl Handler for AddPartitionsToTxn {
    type Request = AddPartitionsToTxnRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    fn handle(call: Call, request: AddPartitionsToTxnRequest) -> Answer<AddPartitionsToTxnResponse> {
        if call.version >= BATCHED {
            let results: Vec<_> =
                request.transactions.iter().map(|transaction| add(&call, transaction)).collect();
            return Answer::Later(Box::pin(async move {
                AddPartitionsToTxnResponse {
                    results_by_transaction: answers(results).await,
                    ..Default::default()
                }
            }));
        }
        let result = add(
            &call,
            &AddPartitionsToTxnTransaction {
                transactional_id: request.v3_and_below_transactional_id,
                producer_id: request.v3_and_below_producer_id,
                producer_epoch: request.v3_and_below_producer_epoch,
                verify_only: false,
                topics: request.v3_and_below_topics,
            },
        );
        Answer::Later(Box::pin(async move {
            AddPartitionsToTxnResponse {
                results_by_topic_v3_and_below: result.await.topic_results,
                ..Default::default()
            }
        }))
    }
}

/// What is told of each partition, in the order of the request.
type Told = Vec<(TopicPartition, ErrorCode)>;

fn add(
    call: &Call,
    transaction: &AddPartitionsToTxnTransaction,
) -> impl Future<Output = AddPartitionsToTxnResult> + use<> {
    let id = transaction.transactional_id.detach();
    let told = answer(call, transaction);
    async move { AddPartitionsToTxnResult { transactional_id: id, topic_results: by_topic(told.await) } }
}

fn answer(call: &Call, transaction: &AddPartitionsToTxnTransaction) -> Boxed<Told> {
    let by =
        Identity { producer: ProducerId::new(transaction.producer_id), epoch: transaction.producer_epoch };
    let named = named(&transaction.topics);
    let judged: Vec<_> = named.iter().map(|one| judge(call, by.producer, one)).collect();
    if judged.iter().any(Result::is_err) {
        let code = |judged: Result<EnlistPartition, ErrorCode>| match judged {
            Ok(_) => ErrorCode::OperationNotAttempted,
            Err(code) => code,
        };
        let told = named.into_iter().zip(judged.into_iter().map(code)).collect();
        return Box::pin(std::future::ready(told));
    }
    let partitions: Vec<EnlistPartition> = judged.into_iter().flatten().collect();
    let (node, version) = (Arc::clone(&call.node), call.version);
    let all = move |code: ErrorCode| {
        let code = told(code, version, KNOWS_FENCED);
        named.into_iter().map(|one| (one, code)).collect::<Told>()
    };
    if transaction.verify_only {
        return verify(&node, (&transaction.transactional_id, by), partitions, all);
    }
    let counts = if version >= BATCHED { Version::Two } else { Version::One };
    let added = node.transactions.add(&node, &transaction.transactional_id, by, partitions, counts);
    Box::pin(async move { all(added.await.err().map_or(ErrorCode::None, Refused::code)) })
}

fn verify(
    node: &Arc<Node>,
    (id, by): (&KStr, Identity),
    partitions: Vec<EnlistPartition>,
    all: impl FnOnce(ErrorCode) -> Told + Send + 'static,
) -> Boxed<Told> {
    let verified = node.transactions.verify(node, id, by, partitions.clone());
    Box::pin(async move {
        match verified.await {
            Ok(each) => {
                let codes = each.into_iter().map(|one| one.err().map_or(ErrorCode::None, Refused::code));
                partitions.into_iter().map(|one| one.partition).zip(codes).collect()
            }
            Err(refused) => all(refused.code()),
        }
    })
}

fn named(topics: &[AddPartitionsToTxnTopic]) -> Vec<TopicPartition> {
    let all = topics.iter().flat_map(|topic| {
        let name = topic.name.detach();
        topic
            .partitions
            .iter()
            .map(move |partition| TopicPartition { topic: name.clone(), partition: *partition })
    });
    all.collect()
}

fn judge(call: &Call, producer: ProducerId, wanted: &TopicPartition) -> Result<EnlistPartition, ErrorCode> {
    // Only brokers may name them; a client has AddOffsetsToTxn.
    if call.version < BATCHED && topic_name::is_internal(&wanted.topic) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    asked(&call.node, producer, wanted.clone()).ok_or(ErrorCode::UnknownTopicOrPartition)
}

fn by_topic(told: Told) -> Vec<AddPartitionsToTxnTopicResult> {
    let mut results: Vec<AddPartitionsToTxnTopicResult> = Vec::new();
    for (TopicPartition { topic, partition }, code) in told {
        let result = AddPartitionsToTxnPartitionResult {
            partition_index: partition,
            partition_error_code: code.code(),
        };
        match results.last_mut().filter(|last| last.name == topic) {
            Some(last) => last.results_by_partition.push(result),
            None => results
                .push(AddPartitionsToTxnTopicResult { name: topic, results_by_partition: vec![result] }),
        }
    }
    results
}
