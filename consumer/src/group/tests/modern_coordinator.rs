//! A model of a coordinator that shares out partitions itself: what KIP-848 promises to members, and no more. Its
//! assignor moves as much as it can.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::messages::consumer_group_heartbeat_request as request;
use millstream_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use millstream_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use millstream_protocol::{ErrorCode, KStr, Uuid};
use tokio::time::Instant;

use super::broker::Answers;
use super::{Answer, SESSION};
use crate::group::subscription::TopicView;

type Set = BTreeSet<(Uuid, i32)>;

struct Known {
    epoch: i32,
    previous: i32,
    heard: Instant,
    target: Set,
    assigned: Set,
    revoking: Set,
}

#[derive(Default)]
pub(super) struct ModernCoordinator {
    members: BTreeMap<KStr, Known>,
    epoch: i32,
}

impl ModernCoordinator {
    pub(super) fn share_out(&mut self, topics: &TopicView) {
        self.epoch += 1;
        let shift = self.epoch as usize;
        let count = self.members.len().max(1);
        let all: Vec<_> = topics
            .0
            .values()
            .flat_map(|seen| (0..seen.partitions).map(|partition| (seen.id, partition)))
            .collect();
        for (place, known) in self.members.values_mut().enumerate() {
            let theirs = all.iter().enumerate().filter(|(at, _)| (at + shift) % count == place);
            known.target = theirs.map(|(_, partition)| *partition).collect();
        }
    }

    pub(super) fn remove(&mut self, id: &KStr, topics: &TopicView) {
        if self.members.remove(id).is_some() {
            self.share_out(topics);
        }
    }

    pub(super) fn on_time(&mut self, now: Instant, topics: &TopicView) {
        let silent = self.members.iter().filter(|(_, known)| known.heard + SESSION <= now);
        let silent: Vec<KStr> = silent.map(|(id, _)| id.clone()).collect();
        silent.iter().for_each(|id| self.remove(id, topics));
    }

    pub(super) fn on_heartbeat(
        &mut self,
        now: Instant,
        from: usize,
        request: &ConsumerGroupHeartbeatRequest,
        topics: &TopicView,
    ) -> Answers {
        let answer = |response| vec![(from, Answer::Consume(response))];
        let refused = |code: ErrorCode| {
            answer(ConsumerGroupHeartbeatResponse { error_code: code.code(), ..Default::default() })
        };
        let owned = request.topic_partitions.as_ref().map(|owned| set(owned));
        if request.member_epoch == 0 {
            assert!(owned.as_ref().is_some_and(BTreeSet::is_empty), "who joins has nothing");
            assert!(request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some());
            let fresh = Known {
                epoch: 0,
                previous: -1,
                heard: now,
                target: Set::new(),
                assigned: Set::new(),
                revoking: Set::new(),
            };
            self.members.insert(request.member_id.clone(), fresh);
            self.share_out(topics);
        }
        let Some(known) = self.members.get_mut(&request.member_id) else {
            return refused(ErrorCode::UnknownMemberId);
        };
        let is_current = request.member_epoch == known.epoch || request.member_epoch == 0;
        // An answer may have been lost: who says what it has, and has no more than it may, is told again.
        let is_repeated = request.member_epoch == known.previous
            && owned.as_ref().is_some_and(|owned| owned.is_subset(&known.assigned));
        if !is_current && !is_repeated {
            return refused(ErrorCode::FencedMemberEpoch);
        }
        known.heard = now;
        let before = known.assigned.clone();
        self.reconcile(&request.member_id, owned.as_ref());
        let known = &self.members[&request.member_id];
        let tells = before != known.assigned || owned.is_some() || request.member_epoch == 0;
        answer(ConsumerGroupHeartbeatResponse {
            member_id: Some(request.member_id.clone()),
            member_epoch: known.epoch,
            heartbeat_interval_ms: 500,
            assignment: tells.then(|| Assignment { topic_partitions: listed(&known.assigned) }),
            ..Default::default()
        })
    }

    fn reconcile(&mut self, id: &KStr, owned: Option<&Set>) {
        let of_others: Set = (self.members.iter().filter(|(other, _)| *other != id))
            .flat_map(|(_, known)| known.assigned.iter().chain(&known.revoking))
            .copied()
            .collect();
        let epoch = self.epoch;
        let Some(known) = self.members.get_mut(id) else { return };
        if owned.is_some_and(|owned| owned.is_disjoint(&known.revoking)) {
            known.revoking.clear();
        }
        if !known.revoking.is_empty() {
            return;
        }
        let (kept, gone): (Set, Set) =
            known.assigned.iter().partition(|partition| known.target.contains(*partition));
        known.assigned = kept;
        known.revoking = gone;
        if !known.revoking.is_empty() {
            return;
        }
        known.assigned.extend(known.target.difference(&of_others));
        if known.epoch != epoch {
            known.previous = known.epoch;
            known.epoch = epoch;
        }
    }
}

fn set(owned: &[request::TopicPartitions]) -> Set {
    let of_topic = |topic: &request::TopicPartitions| {
        let id = topic.topic_id;
        topic.partitions.clone().into_iter().map(move |partition| (id, partition))
    };
    owned.iter().flat_map(of_topic).collect()
}

fn listed(assigned: &Set) -> Vec<TopicPartitions> {
    let mut by_id: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
    for (id, partition) in assigned {
        by_id.entry(*id).or_default().push(*partition);
    }
    by_id.into_iter().map(|(topic_id, partitions)| TopicPartitions { topic_id, partitions }).collect()
}
