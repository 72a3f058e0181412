//! A member of a group of the new protocol (KIP-848) on a bare connection: the broker says which partitions it has.

use std::io;

use millstream_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use millstream_protocol::messages::metadata_request::MetadataRequestTopic;
use millstream_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, MetadataRequest,
};
use millstream_protocol::{KStr, Uuid};

use super::group::{Membership, Told};
use super::wire::{Wire, known};
use crate::history::Key;

/// The epoch of who is not in the group yet.
pub(in crate::proof) const JOINS: i32 = 0;
/// The epoch of who goes.
const LEAVES: i32 = -1;

/// What a member of the new protocol reads, and how long the group waits for it when it is to give something back.
#[derive(Debug, Clone, Copy)]
pub(in crate::proof) struct Subscription<'a> {
    pub(in crate::proof) topic: &'a str,
    pub(in crate::proof) topic_id: Uuid,
    pub(in crate::proof) rebalance_ms: i32,
}

/// What a heartbeat was answered.
#[derive(Debug, Clone)]
pub(in crate::proof) struct Beat {
    pub(in crate::proof) epoch: i32,
    /// What the member has from now on, if that is news.
    pub(in crate::proof) assignment: Option<Vec<Key>>,
}

impl Wire {
    /// Says that a member lives, or joins, and what it has.
    pub(in crate::proof) fn beat(
        &mut self,
        subscription: Subscription<'_>,
        me: &Membership,
        owned: &[Key],
    ) -> Told<Beat> {
        let owned = TopicPartitions {
            topic_id: subscription.topic_id,
            partitions: owned.iter().map(|key| *key as i32).collect(),
        };
        let has_any = !owned.partitions.is_empty();
        let request = ConsumerGroupHeartbeatRequest {
            group_id: KStr::from(&*me.group),
            member_id: KStr::from(&*me.member),
            member_epoch: me.generation,
            rebalance_timeout_ms: if me.generation == JOINS { subscription.rebalance_ms } else { -1 },
            subscribed_topic_names: (me.generation == JOINS).then(|| vec![KStr::from(subscription.topic)]),
            topic_partitions: Some(if has_any { vec![owned] } else { Vec::new() }),
            ..Default::default()
        };
        let answer = self.call(1, &request)?;
        if answer.error_code != 0 {
            return Ok(Err(known(answer.error_code)));
        }
        let keys = answer.assignment.map(|assignment| {
            let partitions = assignment.topic_partitions.into_iter().flat_map(|topic| topic.partitions);
            partitions.map(|partition| partition as Key).collect()
        });
        Ok(Ok(Beat { epoch: answer.member_epoch, assignment: keys }))
    }

    /// Leaves; whoever is not in the group any more has left it.
    pub(in crate::proof) fn leave_consumers(&mut self, me: &Membership) -> io::Result<()> {
        let request = ConsumerGroupHeartbeatRequest {
            group_id: KStr::from(&*me.group),
            member_id: KStr::from(&*me.member),
            member_epoch: LEAVES,
            ..Default::default()
        };
        self.call(1, &request).map(drop)
    }

    /// A group's state and how many members it has.
    pub(in crate::proof) fn consumer_group_state(&mut self, group: &str) -> io::Result<(String, usize)> {
        let request =
            ConsumerGroupDescribeRequest { group_ids: vec![KStr::from(group)], ..Default::default() };
        let group = self.call(1, &request)?.groups.into_iter().next();
        let group = group.ok_or_else(|| io::Error::other("an answer without the group"))?;
        Ok((group.group_state.to_string(), group.members.len()))
    }

    pub(in crate::proof) fn topic_id(&mut self, topic: &str) -> io::Result<Uuid> {
        let topic = MetadataRequestTopic { name: Some(KStr::from(topic)), ..Default::default() };
        let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
        let topic = self.call(12, &request)?.topics.into_iter().next();
        Ok(topic.ok_or_else(|| io::Error::other("metadata without the topic"))?.topic_id)
    }
}
