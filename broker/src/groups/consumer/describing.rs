//! A consumer group as an admin sees it.

use std::collections::BTreeSet;

use millstream_protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup, Member as DescribedMember, TopicPartitions,
};
use millstream_protocol::{KStr, Uuid};

use super::ConsumerGroup;
use super::member::Member;
use crate::groups::assignor::Assignor;
use crate::groups::turn::Turn;

/// Member types as Kafka numbers them (KIP-1099).
const CLASSIC: i8 = 0;
const CONSUMER: i8 = 1;

impl ConsumerGroup {
    pub(super) fn describe(&self, turn: &Turn<'_>) -> DescribedGroup {
        let default = turn.settings.consumer.assignors.first().copied().unwrap_or(Assignor::Uniform);
        let assignor = self.preferred_assignor().unwrap_or(default);
        DescribedGroup {
            group_id: self.id.clone(),
            group_state: KStr::from_static(self.state()),
            group_epoch: self.epoch,
            assignment_epoch: self.target_epoch,
            assignor_name: KStr::from_static(assignor.name()),
            members: self.members.iter().map(|(id, member)| self.described(id, member, turn)).collect(),
            ..Default::default()
        }
    }

    fn described(&self, id: &KStr, member: &Member, turn: &Turn<'_>) -> DescribedMember {
        let wish = &member.wish;
        let held = member.standing.held.partitions();
        let target = self.target(id);
        DescribedMember {
            member_id: id.clone(),
            instance_id: wish.instance_id.clone(),
            rack_id: wish.rack_id.clone(),
            member_epoch: member.standing.epoch,
            client_id: wish.client_id.clone(),
            client_host: wish.client_host.clone(),
            subscribed_topic_names: wish.subscribed_topic_names.clone(),
            subscribed_topic_regex: member.regex().cloned(),
            assignment: named(held.topics(), turn),
            target_assignment: named(target.topics(), turn),
            member_type: if member.classic().is_some() { CLASSIC } else { CONSUMER },
        }
    }
}

/// Topics that are gone have no name, and are left out.
fn named<'a>(topics: impl Iterator<Item = (Uuid, &'a BTreeSet<i32>)>, turn: &Turn<'_>) -> Assignment {
    let named = topics.filter_map(|(topic_id, partitions)| {
        Some(TopicPartitions {
            topic_id,
            topic_name: turn.topics.identified(topic_id)?.clone(),
            partitions: partitions.iter().copied().collect(),
        })
    });
    Assignment { topic_partitions: named.collect() }
}
