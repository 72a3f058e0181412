//! ListOffsets, key 2, versions 1 to 11.
//!
//! 2: isolation level, which bounds the end. 4: leader epochs. 7: the record with
//! the greatest timestamp (-3). 8: the earliest local record (-4), which is the earliest. 9: the last record
//! on remote storage (-5), and 11: the earliest one that waits for it (-6): there is none of either.
//!
//! A search by time reads the disk, so it runs on the control plane; start and end are known at once.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use millstream_log::Isolation;
use millstream_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use millstream_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use millstream_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use millstream_protocol::{ErrorCode, KStr};

use super::wire_errors::{code_for_not_led, code_for_read};
use super::{NONE, isolation};
use crate::dispatch::{Answer, Call, Handler};
use crate::metadata::cluster_view::Led;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

pub(crate) struct ListOffsets;

impl Handler for ListOffsets {
    type Request = ListOffsetsRequest;
    const VERSIONS: RangeInclusive<i16> = 1..=11;

    fn handle(call: Call, request: ListOffsetsRequest) -> Answer<ListOffsetsResponse> {
        let mut asked = request.topics.iter().flat_map(|topic| &topic.partitions);
        let reads_disk = asked.any(|asked| asked.timestamp >= 0 || asked.timestamp == MAX_TIMESTAMP);
        match reads_disk {
            true => Answer::blocking(&call.clone(), move || answer(&call, &request)),
            false => Answer::Now(answer(&call, &request)),
        }
    }
}

fn answer(call: &Call, request: &ListOffsetsRequest) -> ListOffsetsResponse {
    let twice = asked_twice(&request.topics);
    let isolation = isolation(request.isolation_level);
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let found = match twice.contains(&(&topic.name, asked.partition_index)) {
                true => Err(ErrorCode::InvalidRequest),
                false => find(call, &topic.name, asked, isolation),
            };
            let found = found.unwrap_or_else(|code| Listed { code, ..Listed::NOTHING });
            ListOffsetsPartitionResponse {
                partition_index: asked.partition_index,
                error_code: found.code.code(),
                timestamp: found.timestamp,
                offset: found.offset,
                leader_epoch: if call.version >= 4 { found.leader_epoch } else { -1 },
            }
        });
        ListOffsetsTopicResponse { name: topic.name.clone(), partitions: partitions.collect() }
    });
    ListOffsetsResponse { topics: topics.collect(), ..Default::default() }
}

fn asked_twice(topics: &[ListOffsetsTopic]) -> HashSet<(&KStr, i32)> {
    let mut once = HashSet::new();
    let all = topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|partition| (&topic.name, partition.partition_index)));
    all.filter(|one| !once.insert(*one)).collect()
}

/// What is told about one partition.
#[derive(Debug, PartialEq)]
struct Listed {
    code: ErrorCode,
    timestamp: i64,
    offset: i64,
    leader_epoch: i32,
}

impl Listed {
    const NOTHING: Self = Self { code: ErrorCode::None, timestamp: NONE, offset: NONE, leader_epoch: -1 };
}

fn find(
    call: &Call,
    name: &KStr,
    asked: &ListOffsetsPartition,
    isolation: Isolation,
) -> Result<Listed, ErrorCode> {
    let snapshot = call.node.topics.snapshot();
    let topic = snapshot.named(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let index = asked.partition_index;
    let partition = topic.partition(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let led = call.node.view.lead(topic.id, partition, asked.current_leader_epoch);
    let Led { log, epoch } = led.map_err(|error| code_for_not_led(&error))?;
    if !is_known(asked.timestamp, call.version) {
        return Err(ErrorCode::UnsupportedVersion);
    }
    let by_time = match asked.timestamp {
        LATEST => {
            let offset = log.offsets().visible_to(isolation).get();
            return Ok(Listed { offset, leader_epoch: epoch.get(), ..Listed::NOTHING });
        }
        EARLIEST | EARLIEST_LOCAL => {
            return Ok(Listed { offset: log.offsets().log_start.get(), ..Listed::NOTHING });
        }
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => return Ok(Listed::NOTHING),
        MAX_TIMESTAMP => log.max_timestamp(),
        timestamp => log.offset_for_timestamp(timestamp),
    };
    let found = by_time.map_err(|error| {
        tracing::warn!(topic = &**name, partition = index, %error, "a search by time failed");
        code_for_read(&error)
    })?;
    let end = log.offsets().visible_to(isolation);
    let found = found.filter(|found| found.offset < end);
    Ok(found.map_or(Listed::NOTHING, |found| Listed {
        code: ErrorCode::None,
        timestamp: found.timestamp,
        offset: found.offset.get(),
        leader_epoch: found.leader_epoch.get(),
    }))
}

/// Whether a version defines this timestamp.
fn is_known(timestamp: i64, version: i16) -> bool {
    match timestamp {
        0.. | LATEST | EARLIEST => true,
        MAX_TIMESTAMP => version >= 7,
        EARLIEST_LOCAL => version >= 8,
        LATEST_TIERED => version >= 9,
        EARLIEST_PENDING_UPLOAD => version >= 11,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_special_timestamp_is_known_from_its_version_on() {
        for (timestamp, since) in [(-1, 1), (-2, 1), (-3, 7), (-4, 8), (-5, 9), (-6, 11)] {
            for version in 1..=11 {
                assert_eq!(is_known(timestamp, version), version >= since, "{timestamp} in {version}");
            }
        }
        assert!(!is_known(-7, 11));
        assert!(is_known(0, 1));
    }

    #[test]
    fn only_partitions_that_are_named_again_count_as_duplicates() {
        let topic = |name, partitions: &[i32]| ListOffsetsTopic {
            name: KStr::from_static(name),
            partitions: partitions
                .iter()
                .map(|index| ListOffsetsPartition { partition_index: *index, ..Default::default() })
                .collect(),
        };
        let topics = [topic("a", &[0, 1, 0]), topic("b", &[0]), topic("b", &[1, 0])];
        let twice = asked_twice(&topics);
        let [a, b] = ["a", "b"].map(KStr::from_static);
        assert_eq!(twice, HashSet::from([(&a, 0), (&b, 0)]));
    }
}
