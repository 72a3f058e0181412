//! DescribeGroupLag, our own key 16386, version 0: how far groups are behind, in records and in time, when they
//! committed and rebalanced last, and which are stuck.
//!
//! A null list of groups means all. What it tells of time is read off the logs, on the control plane.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use millstream_protocol::messages::describe_group_lag_response::{
    DescribedGroupLag, GroupLagPartition, GroupLagTopic,
};
use millstream_protocol::messages::{DescribeGroupLagRequest, DescribeGroupLagResponse};
use millstream_protocol::{ErrorCode, KStr};

use crate::dispatch::{Answer, Call, Handler};
use crate::groups::seen::{self, GroupSeen, PartitionSeen};
use crate::handlers::NONE;
use crate::node::Node;

pub(crate) struct DescribeGroupLag;

impl Handler for DescribeGroupLag {
    type Request = DescribeGroupLagRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn handle(call: Call, request: DescribeGroupLagRequest) -> Answer<DescribeGroupLagResponse> {
        Answer::Later(Box::pin(async move { answer(&call.node, request).await }))
    }
}

async fn answer(node: &Arc<Node>, request: DescribeGroupLagRequest) -> DescribeGroupLagResponse {
    let Some(asked) = request.groups else {
        return match seen::survey(node).await {
            Ok(groups) => DescribeGroupLagResponse {
                error_code: ErrorCode::None.code(),
                groups: groups.iter().map(describe).collect(),
            },
            Err(not_ready) => {
                DescribeGroupLagResponse { error_code: not_ready.code().code(), ..Default::default() }
            }
        };
    };
    let mut groups = Vec::with_capacity(asked.len());
    for id in asked {
        let refused = |code: ErrorCode, message| DescribedGroupLag {
            group_id: id.clone(),
            error_code: code.code(),
            error_message: message,
            ..Default::default()
        };
        groups.push(match seen::survey_one(node, &id).await {
            Ok(Some(group)) => describe(&group),
            Ok(None) => {
                let message = format!("there is no group {:?}", id.as_str());
                refused(ErrorCode::GroupIdNotFound, Some(message.into()))
            }
            Err(not_ready) => refused(not_ready.code(), None),
        });
    }
    DescribeGroupLagResponse { error_code: ErrorCode::None.code(), groups }
}

fn describe(group: &GroupSeen) -> DescribedGroupLag {
    let mut topics: BTreeMap<&str, Vec<GroupLagPartition>> = BTreeMap::new();
    for partition in &group.partitions {
        topics.entry(&partition.offset.topic).or_default().push(describe_partition(partition));
    }
    let topics = topics
        .into_iter()
        .map(|(name, partitions)| GroupLagTopic { name: KStr::from(name), partitions })
        .collect();
    let last = group.last_rebalance.as_ref();
    DescribedGroupLag {
        group_id: group.id.clone(),
        error_code: ErrorCode::None.code(),
        error_message: None,
        group_type: KStr::from_static(group.kind),
        group_state: KStr::from_static(group.state),
        members: i32::try_from(group.members).unwrap_or(i32::MAX),
        last_rebalance_ms: last.map_or(NONE, |last| last.at_ms),
        last_rebalance_cause: last.map(|last| KStr::from(last.cause.as_str())),
        topics,
    }
}

fn describe_partition(seen: &PartitionSeen) -> GroupLagPartition {
    let told = GroupLagPartition {
        partition_index: seen.offset.partition,
        committed_offset: seen.offset.committed,
        last_commit_ms: seen.offset.committed_ms,
        ..Default::default()
    };
    let ms = |time: std::time::Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    match &seen.found {
        Err(code) => GroupLagPartition { error_code: code.code(), ..told },
        Ok(found) => GroupLagPartition {
            log_start: found.log_start,
            high_watermark: found.high_watermark,
            lag: i64::try_from(found.lag.records).unwrap_or(i64::MAX),
            lag_ms: found.lag.time.map_or(NONE, ms),
            stuck_ms: found.stuck_for.map_or(NONE, ms),
            ..told
        },
    }
}
