//! From a change to a new target: the epoch rises, an assignor runs, and what differs is stored.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::messages::{
    ConsumerGroupMemberMetadataValue, ConsumerGroupMetadataValue, ConsumerGroupTargetAssignmentMetadataValue,
};
use millstream_protocol::{KStr, Uuid};

use super::change::Change;
use super::partitions::Partitions;
use super::subscription::{self, Resolved};
use super::{ConsumerGroup, target_value};
use crate::groups::assignor::{Assignor, Demand, Wanting};
use crate::groups::cause::{Caller, Cause, Why};
use crate::groups::turn::{Millis, Note, Turn};

/// A change that not all members have followed yet.
#[derive(Clone, Debug)]
pub(super) struct Rebalance {
    began: Millis,
    cause: Cause,
}

impl ConsumerGroup {
    /// Looks at the topics again if they changed since the last look: expressions may stand for others now.
    pub(super) fn refresh_topics(&mut self, turn: &mut Turn<'_>) {
        if self.topics_seen == Some(turn.topics.fingerprint()) {
            return;
        }
        self.topics_seen = Some(turn.topics.fingerprint());
        let regexes: Vec<KStr> = self.regexes.keys().cloned().collect();
        for regex in regexes {
            let resolved = Resolved::resolve(&regex, turn.topics, turn.now.wall_ms);
            if resolved.topics != self.regexes[regex.as_str()].topics {
                self.change(Change::Regex { regex, value: Some(resolved.value()) }, turn.fx);
            }
        }
        if self.fingerprint_now(turn) != self.fingerprint && !self.members.is_empty() {
            self.raise_epoch(turn, self.cause_of(Why::TopicsChanged, &KStr::default()));
        }
    }

    fn fingerprint_now(&self, turn: &Turn<'_>) -> i64 {
        let wishes = self.members.values().map(|member| &member.wish);
        subscription::fingerprint(
            wishes.flat_map(|wish| subscription::names(wish, &self.regexes)),
            turn.topics,
        )
    }

    /// Whose doing a change is; nobody's if there is no such member.
    pub(super) fn cause_of(&self, why: Why, id: &KStr) -> Cause {
        let member = self.members.get(id.as_str());
        let caller = member.map(|member| Caller {
            client_id: member.wish.client_id.clone(),
            host: member.wish.client_host.clone(),
        });
        Cause {
            why,
            member: id.detach(),
            instance: member.and_then(|member| member.instance_id().cloned()),
            caller: caller.unwrap_or_default(),
            said: None,
        }
    }

    /// Members are to get a new target.
    pub(super) fn raise_epoch(&mut self, turn: &mut Turn<'_>, cause: Cause) {
        let value = ConsumerGroupMetadataValue {
            // 2^31 changes are four thousand years at one a minute.
            epoch: self.epoch.saturating_add(1),
            metadata_hash: self.fingerprint_now(turn),
        };
        self.change(Change::Group(Some(value)), turn.fx);
        self.changed_at = Some(turn.now.steady);
        turn.fx.notes.push(Note::RebalanceBegan {
            group: self.id.clone(),
            generation: self.epoch,
            cause: cause.clone(),
        });
        // A change while another is under way prolongs it; the first cause is the one to know.
        self.rebalance.get_or_insert(Rebalance { began: turn.now.steady, cause });
    }

    /// Makes a new target if one is due. Changes that follow each other within the interval share one, or a hundred
    /// members that come together would each move everybody's partitions.
    pub(super) fn assign_if_due(&mut self, turn: &mut Turn<'_>) {
        let interval = turn.settings.pace(&self.id).assignment_interval;
        let is_soon = self.assigned_at.is_some_and(|last| turn.now.steady < last.after(interval));
        // The first target is made at once, as a member needs an epoch above zero, and so is that of a lone member.
        let must = self.target_epoch == 0 || self.members.len() == 1;
        if self.epoch > self.target_epoch && (must || !is_soon) {
            self.assign(turn);
        }
    }

    fn assign(&mut self, turn: &mut Turn<'_>) {
        let default = turn.settings.consumer.assignors.first().copied().unwrap_or(Assignor::Uniform);
        let assignor = self.preferred_assignor().unwrap_or(default);
        let (ids, targets) = self.new_targets(assignor, turn);
        for (member, target) in ids.into_iter().zip(targets) {
            let differs = self.targets.get(member.as_str()).is_none_or(|old| *old != target);
            if differs {
                self.change(Change::Target { member, value: Some(target_value(&target)) }, turn.fx);
            }
        }
        let value = ConsumerGroupTargetAssignmentMetadataValue {
            assignment_epoch: self.epoch,
            assignment_timestamp: turn.now.wall_ms,
        };
        self.change(Change::TargetEpoch(Some(value)), turn.fx);
        self.assigned_at = Some(turn.now.steady);
    }

    fn new_targets(&self, assignor: Assignor, turn: &Turn<'_>) -> (Vec<KStr>, Vec<Partitions>) {
        let nothing = Partitions::default();
        let mut demand = Demand::default();
        // Members with equal wishes share one set of topics; it is looked up once.
        let mut known: BTreeMap<(&[KStr], Option<&KStr>), usize> = BTreeMap::new();
        for (member_id, member) in &self.members {
            let key = (member.wish.subscribed_topic_names.as_slice(), member.regex());
            let wish = *known.entry(key).or_insert_with(|| {
                demand.wishes.push(self.wanted(&member.wish, turn));
                demand.wishes.len() - 1
            });
            let before = self.targets.get(member_id.as_str()).unwrap_or(&nothing);
            demand.members.push(Wanting { member_id, instance_id: member.instance_id(), wish, before });
        }
        let topics = demand.wishes.iter().flatten().copied().collect::<BTreeSet<Uuid>>();
        let count = |id: &Uuid| Some((*id, turn.topics.named(turn.topics.identified(*id)?)?.partitions));
        demand.partition_counts = topics.iter().filter_map(count).collect();
        (self.members.keys().cloned().collect(), assignor.assign(&demand))
    }

    /// The topics that a wish stands for.
    pub(super) fn wanted(&self, wish: &ConsumerGroupMemberMetadataValue, turn: &Turn<'_>) -> BTreeSet<Uuid> {
        subscription::topic_ids(wish, &self.regexes, turn.topics)
    }

    /// The one that most members ask for.
    pub(super) fn preferred_assignor(&self) -> Option<Assignor> {
        let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
        let asked = self.members.values().filter_map(|member| member.wish.server_assignor.as_ref());
        for assignor in asked.filter_map(|name| Assignor::named(name.as_str())) {
            *votes.entry(assignor).or_default() += 1;
        }
        votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(assignor, _)| assignor)
    }

    /// To be called when a member made a step: the last one ends the rebalance.
    pub(super) fn note_if_settled(&mut self, turn: &mut Turn<'_>) {
        if self.rebalance.is_some() && self.is_settled() {
            self.end_rebalance(turn);
        }
    }

    pub(super) fn end_rebalance(&mut self, turn: &mut Turn<'_>) {
        let Some(Rebalance { began, cause }) = self.rebalance.take() else { return };
        turn.fx.notes.push(Note::RebalanceEnded {
            group: self.id.clone(),
            generation: self.epoch,
            members: self.members.len(),
            cause,
            took: turn.now.steady.since(began),
        });
    }

    pub(super) fn target(&self, member: &KStr) -> Partitions {
        self.targets.get(member.as_str()).cloned().unwrap_or_default()
    }
}
