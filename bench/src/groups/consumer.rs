//! Members of groups of the new protocol, many on one connection: they come when the broker tells them to, as real ones do.

use std::time::Duration;

use anyhow::Result;
use millstream_protocol::messages::ConsumerGroupHeartbeatRequest;
use millstream_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use millstream_protocol::{KStr, Uuid};

use super::ok;
use crate::wire::Connection;

const HEARTBEAT_VERSION: i16 = 1;

/// One member.
#[derive(Clone, Debug)]
pub(super) struct ConsumerMember {
    /// What it says next.
    request: ConsumerGroupHeartbeatRequest,
    /// When it is to say it.
    pub(super) interval: Duration,
}

impl ConsumerMember {
    /// Somebody who will join; two numbers tell it from all others.
    pub(super) fn new(group: &str, topic: &KStr, (crowd, number): (usize, usize)) -> Self {
        let id = Uuid::from_u128(((crowd as u128) << 64) + number as u128 + 1);
        let request = ConsumerGroupHeartbeatRequest {
            group_id: KStr::from(group),
            member_id: KStr::from(id.to_string()),
            member_epoch: 0,
            rebalance_timeout_ms: 60_000,
            subscribed_topic_names: Some(vec![topic.clone()]),
            topic_partitions: Some(Vec::new()),
            ..Default::default()
        };
        Self { request, interval: Duration::ZERO }
    }

    pub(super) fn group(&self) -> &KStr {
        &self.request.group_id
    }

    pub(super) fn id(&self) -> &KStr {
        &self.request.member_id
    }

    pub(super) fn epoch(&self) -> i32 {
        self.request.member_epoch
    }

    /// How many partitions it has.
    pub(super) fn partitions(&self) -> usize {
        self.request.topic_partitions.iter().flatten().map(|topic| topic.partitions.len()).sum()
    }
}

/// A heartbeat of each; whether one of them has got or lost partitions, which it is to tell at once.
pub(super) fn beat(connection: &mut Connection, members: &mut [ConsumerMember]) -> Result<bool> {
    let requests: Vec<_> = members.iter().map(|member| member.request.clone()).collect();
    let mut has_news = false;
    for (member, answer) in members.iter_mut().zip(connection.call_many(HEARTBEAT_VERSION, &requests)?) {
        ok(answer.error_code, "a heartbeat")?;
        member.interval = Duration::from_millis(u64::try_from(answer.heartbeat_interval_ms)?);
        let request = &member.request;
        member.request = ConsumerGroupHeartbeatRequest {
            group_id: request.group_id.clone(),
            member_id: request.member_id.clone(),
            member_epoch: answer.member_epoch,
            topic_partitions: request.topic_partitions.clone(),
            ..Default::default()
        };
        if let Some(assignment) = answer.assignment {
            has_news = true;
            let owned = assignment.topic_partitions.into_iter();
            let owned =
                owned.map(|topic| TopicPartitions { topic_id: topic.topic_id, partitions: topic.partitions });
            member.request.topic_partitions = Some(owned.collect());
        }
    }
    Ok(has_news)
}
