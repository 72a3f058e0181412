//! TxnOffsetCommit, key 28, versions 0 to 5: offsets that count once a transaction is committed.
//!
//! 2: the leader epoch; before it, a coordinator that is still loading is told as one that is not available, since clients
//! of that time fail on the other. 3: the member, its generation and its static name, which are then checked. 4: a client
//! knows TRANSACTION_ABORTABLE. 5: the partition of `__consumer_offsets` is added to the transaction by this request
//! (KIP-890); before, AddOffsetsToTxn has done so.
//!
//! The transaction is asked first, the group second, as in Kafka, and all of it under the lock of the group's coordinator:
//! no marker comes between the answer and the append. The reply leaves when the offsets, and what the transaction wrote for
//! them, are on the disk.

use std::ops::RangeInclusive;
use std::sync::Arc;

use millstream_log::ProducerId;
use millstream_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use millstream_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use millstream_protocol::{ErrorCode, KStr};
use tokio::sync::oneshot;

use crate::dispatch::{Answer, Call, Handler};
use crate::node::Node;
use crate::transactions::{Adds, Enlist, EnlistPartition, Enlisted, Refused, TopicPartition, orphans};

/// From here on a client can be told that the coordinator is still loading.
const KNOWS_LOADING: i16 = 2;

/// From here on a client knows TRANSACTION_ABORTABLE.
const KNOWS_ABORTABLE: i16 = 4;

/// From here on the request adds the partition to the transaction.
const ADDS: i16 = 5;

pub(crate) struct TxnOffsetCommit;

impl Handler for TxnOffsetCommit {
    type Request = TxnOffsetCommitRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    fn handle(call: Call, request: TxnOffsetCommitRequest) -> Answer<TxnOffsetCommitResponse> {
        let refusal = refusal(&request);
        let version = call.version;
        let group = request.group_id.clone();
        let admission = Admission {
            node: Arc::clone(&call.node),
            version,
            transactional_id: request.transactional_id.detach(),
            group: group.detach(),
            producer: ProducerId::new(request.producer_id),
            epoch: request.producer_epoch,
        };
        let (tell, enlisted) = oneshot::channel();
        let asked = call.node.groups.ask(&call.node, &group, move |shard, turn, ticket| {
            shard.commit_in_transaction(turn, ticket, request, || {
                let enlisted = admission.enlist().map_err(|code| told(code, version))?;
                // Nobody listens when the connection is gone.
                let _ = tell.send(enlisted);
                Ok(())
            });
        });
        Answer::Later(Box::pin(async move {
            let answered = asked.await.map_err(|not_ready| not_ready.code());
            // Nothing was enlisted if nobody tells.
            let is_safe = match enlisted.await {
                Ok(enlisted) => enlisted.durable().await.map_err(|_| ErrorCode::NotCoordinator),
                Err(_) => Ok(()),
            };
            let answer = answered.and_then(|answer| is_safe.map(|()| answer));
            answer.unwrap_or_else(|code| refused(refusal, told(code, version)))
        }))
    }
}

/// What is asked of the transaction.
struct Admission {
    node: Arc<Node>,
    version: i16,
    transactional_id: KStr,
    group: KStr,
    producer: ProducerId,
    epoch: i16,
}

impl Admission {
    /// Asks the log and the transaction; called under the lock of the group's coordinator.
    fn enlist(&self) -> Result<Enlisted, ErrorCode> {
        let Self { node, transactional_id, producer, epoch, .. } = self;
        let partition =
            node.groups.offsets_partition(node, &self.group).ok_or(ErrorCode::CoordinatorNotAvailable)?;
        let snapshot = node.topics.snapshot();
        let found = snapshot.named(&partition.topic).and_then(|topic| topic.partition(partition.partition));
        let log = found.and_then(|found| found.log().ok()).ok_or(ErrorCode::CoordinatorNotAvailable)?;
        let guard = log.transaction_guard(*producer);
        if !guard.admits(*epoch) {
            // A newer instance has written, or there is an orphan of an older one. Either way the client has to abort.
            if guard.is_open() {
                orphans::look_at(node, &partition);
            }
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        let adds = if self.version >= ADDS { Adds::Implicitly } else { Adds::Never };
        let partitions = [EnlistPartition { partition, is_open: guard.is_open() }];
        let (producer, epoch) = (*producer, *epoch);
        let wanted = Enlist { transactional_id, producer, epoch, partitions: &partitions, adds };
        node.transactions.enlist(node, wanted).map_err(|refused| self.code(refused, &partitions[0].partition))
    }

    fn code(&self, refused: Refused, partition: &TopicPartition) -> ErrorCode {
        if refused == Refused::Orphan {
            orphans::look_at(&self.node, partition);
            return ErrorCode::InvalidProducerEpoch;
        }
        match refused.code() {
            ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
            ErrorCode::TransactionAbortable if self.version < KNOWS_ABORTABLE => ErrorCode::InvalidTxnState,
            other => other,
        }
    }
}

/// What a client of this version is told in the place of a code that it does not understand.
fn told(code: ErrorCode, version: i16) -> ErrorCode {
    match code {
        ErrorCode::CoordinatorLoadInProgress if version < KNOWS_LOADING => ErrorCode::CoordinatorNotAvailable,
        other => other,
    }
}

/// The answer for when there is none: it names the same partitions.
fn refusal(request: &TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
    let topics = request.topics.iter().map(|topic| TxnOffsetCommitResponseTopic {
        name: topic.name.detach(),
        partitions: topic
            .partitions
            .iter()
            .map(|partition| TxnOffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: ErrorCode::None.code(),
            })
            .collect(),
    });
    TxnOffsetCommitResponse { topics: topics.collect(), ..Default::default() }
}

fn refused(mut refusal: TxnOffsetCommitResponse, code: ErrorCode) -> TxnOffsetCommitResponse {
    for partition in refusal.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        partition.error_code = code.code();
    }
    refusal
}
