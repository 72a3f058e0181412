//! WriteTxnMarkers, key 27, versions 1 and 2: ends transactions in partitions, whatever their coordinator says. Brokers of
//! a Kafka cluster send it to each other; here only `Admin.abortTransaction` and its like do, to end what hangs.
//!
//! 2: the level of `transaction.version` under which the marker was decided: from 2 on its epoch must be newer than the
//! producer's.

use std::ops::RangeInclusive;

use millstream_log::{EpochRule, Marker, ProducerId, TransactionOutcome};
use millstream_protocol::ErrorCode;
use millstream_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use millstream_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use millstream_protocol::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};

use crate::dispatch::{Answer, Call, Handler};
use crate::handlers::answers;
use crate::handlers::wire_errors::code_for_mark;
use crate::transactions::TopicPartition;
use crate::transactions::marking::mark;

/// From this level of `transaction.version` on each transaction has an epoch of its own.
const EPOCH_FOR_EACH: i8 = 2;

pub(crate) struct WriteTxnMarkers;

impl Handler for WriteTxnMarkers {
    type Request = WriteTxnMarkersRequest;
    const VERSIONS: RangeInclusive<i16> = 1..=2;

    fn handle(call: Call, request: WriteTxnMarkersRequest) -> Answer<WriteTxnMarkersResponse> {
        let written: Vec<_> = request.markers.into_iter().map(|marker| write(&call, marker)).collect();
        Answer::Later(Box::pin(async move { WriteTxnMarkersResponse { markers: answers(written).await } }))
    }
}

fn write(call: &Call, marker: WritableTxnMarker) -> impl Future<Output = WritableTxnMarkerResult> + use<> {
    let asked = Marker {
        producer: ProducerId::new(marker.producer_id),
        epoch: marker.producer_epoch,
        coordinator_epoch: marker.coordinator_epoch,
        outcome: match marker.transaction_result {
            true => TransactionOutcome::Commit,
            false => TransactionOutcome::Abort,
        },
        rule: match marker.transaction_version {
            EPOCH_FOR_EACH.. => EpochRule::Newer,
            _ => EpochRule::NotOlder,
        },
        only_if: None,
    };
    let topics: Vec<_> = marker.topics.into_iter().map(|topic| write_topic(call, topic, asked)).collect();
    let producer_id = marker.producer_id;
    async move { WritableTxnMarkerResult { producer_id, topics: answers(topics).await } }
}

fn write_topic(
    call: &Call,
    topic: WritableTxnMarkerTopic,
    asked: Marker,
) -> impl Future<Output = WritableTxnMarkerTopicResult> + use<> {
    let WritableTxnMarkerTopic { name, partition_indexes } = topic;
    let name = name.detach();
    let written: Vec<_> = partition_indexes
        .into_iter()
        .map(|partition_index| {
            let partition = TopicPartition { topic: name.clone(), partition: partition_index };
            let marked = mark(&call.node, &partition, asked);
            async move {
                let code = marked.await.map_or_else(|error| code_for_mark(&error), |()| ErrorCode::None);
                WritableTxnMarkerPartitionResult { partition_index, error_code: code.code() }
            }
        })
        .collect();
    async move { WritableTxnMarkerTopicResult { name, partitions: answers(written).await } }
}
