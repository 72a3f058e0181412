//! OffsetForLeaderEpoch, key 23, versions 2 to 4: where the batches of an epoch end, so that a consumer can
//! tell whether what it read was lost (KIP-320). An epoch that no batch has is answered with -1, -1.

use std::ops::RangeInclusive;

use millstream_log::{LeaderEpoch, Log, Offset};
use millstream_protocol::ErrorCode;
use millstream_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use millstream_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use millstream_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::wire_errors::code_for_not_led;
use crate::dispatch::{Answer, Call, Handler};

pub(crate) struct OffsetForLeaderEpoch;

impl Handler for OffsetForLeaderEpoch {
    type Request = OffsetForLeaderEpochRequest;
    const VERSIONS: RangeInclusive<i16> = 2..=4;

    fn handle(call: Call, request: OffsetForLeaderEpochRequest) -> Answer<OffsetForLeaderEpochResponse> {
        let topics = request.topics.iter().map(|topic| OffsetForLeaderTopicResult {
            topic: topic.topic.clone(),
            partitions: topic.partitions.iter().map(|asked| find(&call, &topic.topic, asked)).collect(),
        });
        Answer::Now(OffsetForLeaderEpochResponse { topics: topics.collect(), ..Default::default() })
    }
}

fn find(call: &Call, name: &str, asked: &OffsetForLeaderPartition) -> EpochEndOffset {
    let unknown = EpochEndOffset { partition: asked.partition, ..Default::default() };
    match end_offset(call, name, asked) {
        Ok(Some((epoch, end_offset))) => {
            EpochEndOffset { leader_epoch: epoch.get(), end_offset: end_offset.get(), ..unknown }
        }
        Ok(None) => unknown,
        Err(code) => EpochEndOffset { error_code: code.code(), ..unknown },
    }
}

fn end_offset(
    call: &Call,
    name: &str,
    asked: &OffsetForLeaderPartition,
) -> Result<Option<(LeaderEpoch, Offset)>, ErrorCode> {
    let snapshot = call.node.topics.snapshot();
    let topic = snapshot.named(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let partition = topic.partition(asked.partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let led = call.node.view.lead(topic.id, partition, asked.current_leader_epoch);
    let led = led.map_err(|error| code_for_not_led(&error))?;
    Ok(epoch_end(led.log, LeaderEpoch::new(asked.leader_epoch), led.epoch))
}

/// Where an epoch ended. The log knows those that have batches; the leader's own has begun even if nothing
/// was written in it.
pub(super) fn epoch_end(log: &Log, epoch: LeaderEpoch, now: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
    let is_now = (epoch == now).then(|| (epoch, log.offsets().log_end));
    log.end_offset_for_epoch(epoch).or(is_now)
}
