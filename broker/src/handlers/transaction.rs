//! APIs of transactional producers.

pub(crate) mod add_offsets;
pub(crate) mod add_partitions;
pub(crate) mod describe;
pub(crate) mod end_txn;
pub(crate) mod list;
pub(crate) mod txn_offset_commit;
pub(crate) mod write_txn_markers;

use std::sync::Arc;

use millstream_log::ProducerId;
use millstream_protocol::ErrorCode;

use crate::node::Node;
use crate::transactions::{EnlistPartition, TopicPartition};

/// As a client is told that knows PRODUCER_FENCED from this version of its API on.
pub(super) fn told(code: ErrorCode, version: i16, knows_fenced: i16) -> ErrorCode {
    match code {
        ErrorCode::ProducerFenced if version < knows_fenced => ErrorCode::InvalidProducerEpoch,
        other => other,
    }
}

/// A partition for a transaction, with what its log has of this producer. `None` if there is no such partition.
fn asked(node: &Arc<Node>, producer: ProducerId, partition: TopicPartition) -> Option<EnlistPartition> {
    let snapshot = node.topics.snapshot();
    let found = snapshot.named(&partition.topic)?.partition(partition.partition)?;
    // A log that is not open takes no batch either; what it holds is asked once more by then.
    let is_open = found.log().is_ok_and(|log| log.transaction_guard(producer).is_open());
    Some(EnlistPartition { partition, is_open })
}
