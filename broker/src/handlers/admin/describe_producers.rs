//! DescribeProducers, key 61, version 0: the producers that a partition remembers, and what they have open.

use std::ops::RangeInclusive;

use millstream_log::Offset;
use millstream_protocol::ErrorCode;
use millstream_protocol::messages::describe_producers_request::TopicRequest;
use millstream_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use millstream_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse};

use super::refused::Refused;
use crate::dispatch::{Answer, Call, Handler};
use crate::handlers::NONE;
use crate::handlers::wire_errors::code_for_not_led;
use crate::metadata::topics::Topic;

pub(crate) struct DescribeProducers;

impl Handler for DescribeProducers {
    type Request = DescribeProducersRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn handle(call: Call, request: DescribeProducersRequest) -> Answer<DescribeProducersResponse> {
        let topics = request.topics.iter().map(|asked| of_topic(&call, asked)).collect();
        Answer::Now(DescribeProducersResponse { topics, ..Default::default() })
    }
}

fn of_topic(call: &Call, asked: &TopicRequest) -> TopicResponse {
    let snapshot = call.node.topics.snapshot();
    let topic = snapshot.named(&asked.name);
    let told =
        asked.partition_indexes.iter().map(|index| match producers(call, topic.map(|it| &**it), *index) {
            Ok(active_producers) => {
                PartitionResponse { partition_index: *index, active_producers, ..Default::default() }
            }
            Err(refused) => PartitionResponse {
                partition_index: *index,
                error_code: refused.code.code(),
                error_message: refused.message(),
                ..Default::default()
            },
        });
    TopicResponse { name: asked.name.clone(), partitions: told.collect() }
}

fn producers(call: &Call, topic: Option<&Topic>, index: i32) -> Result<Vec<ProducerState>, Refused> {
    let topic = topic.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let partition = topic.partition(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let led = call.node.view.lead(topic.id, partition, -1);
    let led = led.map_err(|error| Refused::new(code_for_not_led(&error), error.to_string()))?;
    let told = led.log.active_producers().into_iter().map(|producer| ProducerState {
        producer_id: producer.id.get(),
        producer_epoch: i32::from(producer.epoch),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_ms,
        coordinator_epoch: producer.coordinator_epoch,
        current_txn_start_offset: producer.transaction_start.map_or(NONE, Offset::get),
    });
    Ok(told.collect())
}
