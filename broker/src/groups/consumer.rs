//! Groups of the new protocol (KIP-848): the broker decides who reads what, and takes each member there one step at
//! a time. Pure: an event and the time in, records and replies out.
//!
//! ```text
//! a wish changes, a member comes or goes,     the group's epoch rises            rebalancing.rs
//!   a topic that is wanted changes
//! the epoch is above the target's             an assignor makes a new target     rebalancing.rs
//! a member's heartbeat comes                  it is taken a step towards it      reconcile.rs
//! ```
//! A partition is a member's from the heartbeat that gives it until the one that says it is given back, or until
//! the member leaves or is fenced; nobody else is given it meanwhile.
//!
//! Every change of what is stored goes through [`ConsumerGroup::replay`], live as well as when the log is read, so both
//! give the same group. Sessions and other deadlines are not stored and start anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use foldhash::fast::RandomState;
use millstream_protocol::messages::consumer_group_target_assignment_member_value::TopicPartition;
use millstream_protocol::messages::{
    ConsumerGroupMemberMetadataValue, ConsumerGroupTargetAssignmentMemberValue,
};
use millstream_protocol::{ErrorCode, KStr, Uuid};

use self::change::Change;
use self::member::{Member, Standing};
use self::partitions::Partitions;
use self::rebalancing::Rebalance;
use self::subscription::{Regexes, Resolved};
use super::record::GroupRecord;
use super::turn::{Effects, Millis, Turn};

mod change;
mod classic_members;
mod commits;
mod describing;
mod embedded;
mod fencing;
mod heartbeat;
mod member;
mod migration;
mod pace;
pub(super) mod partitions;
mod rebalancing;
mod reconcile;
mod serving;
mod subscription;

pub(crate) use self::change::Change as ConsumerChange;
pub(crate) use self::fencing::Left;
pub(crate) use self::heartbeat::{Heartbeat, check_request};
pub(crate) use self::migration::MigrationPolicy;
pub(crate) use self::pace::Crowd;
pub(crate) use self::subscription::compile;

/// An answer that is no, with the reason for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

impl Refusal {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// A consumer group.
#[derive(Debug)]
pub(crate) struct ConsumerGroup {
    id: KStr,
    epoch: i32,
    /// Of the topics that are wanted, as of the last change of the epoch.
    fingerprint: i64,
    /// The epoch that the targets were made for.
    target_epoch: i32,
    members: BTreeMap<KStr, Member>,
    targets: BTreeMap<KStr, Partitions>,
    regexes: Regexes,
    /// Kafka 4.0 wrote a record that is of no use any more.
    has_stored_topics: bool,

    /// Derived: who holds a partition, or has yet to give it back.
    owners: HashMap<(Uuid, i32), KStr, RandomState>,
    /// Derived: member ids by instance id.
    instances: HashMap<KStr, KStr, RandomState>,

    /// Not stored: the topics as they were looked at last.
    topics_seen: Option<u64>,
    /// Not stored: when the last target was made.
    assigned_at: Option<Millis>,
    /// Not stored: when the epoch rose last.
    changed_at: Option<Millis>,
    /// Not stored: the change that is under way.
    rebalance: Option<Rebalance>,
}

impl ConsumerGroup {
    pub(crate) fn new(id: &KStr) -> Self {
        Self {
            id: id.detach(),
            epoch: 0,
            fingerprint: 0,
            target_epoch: 0,
            members: BTreeMap::new(),
            targets: BTreeMap::new(),
            regexes: Regexes::new(),
            has_stored_topics: false,
            owners: HashMap::default(),
            instances: HashMap::default(),
            topics_seen: None,
            assigned_at: None,
            changed_at: None,
            rebalance: None,
        }
    }

    /// Takes over one record of the log. One that removes something unknown says nothing.
    pub(crate) fn replay(&mut self, change: &Change) {
        match change {
            Change::Group(Some(value)) => {
                self.epoch = value.epoch;
                self.fingerprint = value.metadata_hash;
            }
            // The shard drops the group.
            Change::Group(None) => {}
            Change::Topics { are_stored } => self.has_stored_topics = *are_stored,
            Change::Wish { member, value: Some(value) } => self.set_wish(member, value),
            Change::Wish { member, value: None } => self.remove_member(member),
            Change::TargetEpoch(value) => {
                self.target_epoch = value.as_ref().map_or(0, |value| value.assignment_epoch);
            }
            Change::Target { member, value: Some(value) } => {
                self.targets.insert(member.detach(), target_of(value));
            }
            Change::Target { member, value: None } => drop(self.targets.remove(member.as_str())),
            // What a member wants may have been written again since, and come later.
            Change::Standing { member, value: Some(value) } => self.set_standing(member, Standing::of(value)),
            Change::Standing { member, value: None } => {
                if self.members.contains_key(member.as_str()) {
                    self.set_standing(member, Standing::default());
                }
            }
            Change::Regex { regex, value: Some(value) } => {
                self.regexes.insert(regex.detach(), Resolved::of(value));
            }
            Change::Regex { regex, value: None } => drop(self.regexes.remove(regex.as_str())),
        }
    }

    fn set_wish(&mut self, id: &KStr, value: &ConsumerGroupMemberMetadataValue) {
        self.release_instance(id);
        if let Some(instance) = &value.instance_id {
            self.instances.insert(instance.detach(), id.detach());
        }
        self.member_entry(id).wish = value.clone();
    }

    /// A member goes, or comes under another static name.
    fn release_instance(&mut self, id: &KStr) {
        if let Some(instance) = self.members.get(id.as_str()).and_then(Member::instance_id)
            && self.instances.get(instance.as_str()) == Some(id)
        {
            self.instances.remove(instance.as_str());
        }
    }

    fn member_entry(&mut self, id: &KStr) -> &mut Member {
        if !self.members.contains_key(id.as_str()) {
            self.members.insert(id.detach(), Member::default());
        }
        self.members.get_mut(id.as_str()).expect("it was there or was inserted")
    }

    fn remove_member(&mut self, id: &KStr) {
        if !self.members.contains_key(id.as_str()) {
            return;
        }
        self.set_standing(id, Standing::default());
        self.release_instance(id);
        self.members.remove(id.as_str());
    }

    fn set_standing(&mut self, id: &KStr, standing: Standing) {
        let before = std::mem::replace(&mut self.member_entry(id).standing, standing);
        for (topic, partition, _) in before.held.iter().chain(before.revoking.iter()) {
            if self.owners.get(&(topic, partition)) == Some(id) {
                self.owners.remove(&(topic, partition));
            }
        }
        let (id, member) = self.members.get_key_value(id.as_str()).expect("it was there or was inserted");
        for (topic, partition, _) in member.standing.held.iter().chain(member.standing.revoking.iter()) {
            self.owners.insert((topic, partition), id.clone());
        }
    }

    /// Changes what is stored, and leaves the record.
    fn change(&mut self, change: Change, fx: &mut Effects) {
        self.replay(&change);
        fx.records.push(GroupRecord::Consumer { group: self.id.clone(), change });
    }

    /// It was replayed: sessions begin.
    pub(crate) fn on_loaded(&mut self, turn: &Turn<'_>) {
        let ids: Vec<KStr> = self.members.keys().cloned().collect();
        for id in ids {
            self.extend_session(&id, turn);
            self.watch_revocation(&id, turn.now.steady);
        }
    }

    /// Whether nothing of it was ever stored.
    pub(crate) fn is_vacant(&self) -> bool {
        self.epoch == 0 && self.members.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// How many members it has.
    pub(crate) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Kafka's word for its state.
    pub(crate) fn state(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.target_epoch {
            "Assigning"
        } else if self.is_settled() {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    /// What its members agree on: they are consumers.
    pub(crate) fn protocol_type(&self) -> &KStr {
        static CONSUMER: KStr = KStr::from_static(classic_members::CONSUMER);
        &CONSUMER
    }

    /// Whether every member holds what it is to hold. One that is away holds it still.
    fn is_settled(&self) -> bool {
        let is_there = |member: &Member| member.standing.is_reconciled_to(self.target_epoch);
        self.epoch <= self.target_epoch
            && self.members.values().all(|member| is_there(member) || member.standing.epoch == member::AWAY)
    }

    /// Whether a member reads this topic.
    pub(crate) fn is_subscribed(&self, topic: &str) -> bool {
        self.members
            .values()
            .any(|member| subscription::names(&member.wish, &self.regexes).any(|name| **name == *topic))
    }

    /// The records that remove it.
    pub(crate) fn tombstones(&self, records: &mut Vec<GroupRecord>) {
        let mut push = |change| records.push(GroupRecord::Consumer { group: self.id.clone(), change });
        for member in self.members.keys() {
            push(Change::Standing { member: member.clone(), value: None });
        }
        for member in self.members.keys().chain(self.targets.keys()).collect::<BTreeSet<_>>() {
            push(Change::Target { member: member.clone(), value: None });
        }
        push(Change::TargetEpoch(None));
        for member in self.members.keys() {
            push(Change::Wish { member: member.clone(), value: None });
        }
        for regex in self.regexes.keys() {
            push(Change::Regex { regex: regex.clone(), value: None });
        }
        if self.has_stored_topics {
            push(Change::Topics { are_stored: false });
        }
        push(Change::Group(None));
    }
}

fn target_of(value: &ConsumerGroupTargetAssignmentMemberValue) -> Partitions {
    let topics = value.topic_partitions.iter();
    topics.flat_map(|topic| topic.partitions.iter().map(|partition| (topic.topic_id, *partition))).collect()
}

fn target_value(target: &Partitions) -> ConsumerGroupTargetAssignmentMemberValue {
    let topics = target.topics().map(|(topic_id, partitions)| TopicPartition {
        topic_id,
        partitions: partitions.iter().copied().collect(),
    });
    ConsumerGroupTargetAssignmentMemberValue { topic_partitions: topics.collect() }
}

#[cfg(test)]
mod tests;
