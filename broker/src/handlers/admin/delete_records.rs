//! DeleteRecords, key 21, versions 0 to 2. Moves the start of a partition for everybody; -1 deletes up to
//! the high watermark. A topic that is only compacted refuses. Waits for the disk, so it runs on the control plane.

use std::ops::RangeInclusive;

use millstream_log::Offset;
use millstream_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use millstream_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use millstream_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use millstream_protocol::{ErrorCode, KStr};

use crate::dispatch::{Answer, Call, Handler};
use crate::handlers::NONE;
use crate::handlers::wire_errors::{code_for_delete_records, code_for_not_led};
use crate::metadata::topic_name;

pub(crate) struct DeleteRecords;

impl Handler for DeleteRecords {
    type Request = DeleteRecordsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    fn handle(call: Call, request: DeleteRecordsRequest) -> Answer<DeleteRecordsResponse> {
        Answer::blocking(&call.clone(), move || DeleteRecordsResponse {
            topics: request.topics.iter().map(|topic| delete_in_topic(&call, topic)).collect(),
            ..Default::default()
        })
    }
}

fn delete_in_topic(call: &Call, topic: &DeleteRecordsTopic) -> DeleteRecordsTopicResult {
    let results = topic.partitions.iter().map(|asked| {
        let (low_watermark, code) = match delete(call, &topic.name, asked) {
            Ok(log_start) => (log_start.get(), ErrorCode::None),
            Err(code) => (NONE, code),
        };
        DeleteRecordsPartitionResult {
            partition_index: asked.partition_index,
            low_watermark,
            error_code: code.code(),
        }
    });
    DeleteRecordsTopicResult { name: topic.name.clone(), partitions: results.collect() }
}

fn delete(call: &Call, name: &KStr, asked: &DeleteRecordsPartition) -> Result<Offset, ErrorCode> {
    let snapshot = call.node.topics.snapshot();
    let topic = snapshot.named(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if topic_name::is_internal(name) {
        return Err(ErrorCode::InvalidTopicException);
    }
    let index = asked.partition_index;
    let partition = topic.partition(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let led = call.node.view.lead(topic.id, partition, -1).map_err(|error| code_for_not_led(&error))?;
    // The last record of each key is what such a topic promises to keep.
    let cleanup = topic.settings.cleanup();
    if cleanup.compacts() && !cleanup.deletes() {
        return Err(ErrorCode::PolicyViolation);
    }
    let before = match asked.offset {
        -1 => None,
        offset if offset < 0 => return Err(ErrorCode::OffsetOutOfRange),
        offset => Some(Offset::new(offset)),
    };
    let deleted = led.log.delete_records(before);
    deleted.map_err(|error| {
        tracing::warn!(topic = &**name, partition = index, %error, "records were not deleted");
        code_for_delete_records(&error)
    })
}
