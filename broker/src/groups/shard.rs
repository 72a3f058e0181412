//! All groups and offsets of one partition of `__consumer_offsets`: a pure state machine.
//!
//! An event changes the state at once and leaves records, replies and notes in its [`Turn`]. Replaying the records
//! gives the same state, but for sessions and timers, which start anew. Nothing here waits, does I/O or looks at
//! a clock. If a record cannot be appended, the whole shard is thrown away and replayed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use foldhash::fast::RandomState;
use millstream_log::ProducerId;
use millstream_protocol::{KStr, Uuid};

use super::consumer::Crowd;
pub(super) use super::group::Group;
use super::group::GroupKind;
use super::offsets::{Committed, Offsets, Place};
use super::pending::Pending;
use super::record::GroupRecord;
use super::turn::{Millis, Note, Removal, Turn};
use crate::coordinator::BatchNumber;

mod administered;
mod committed;
mod expiring;
mod resting;
mod sighted;
mod transactional;

pub(crate) use administered::ListFilter;
pub(crate) use committed::{Commit, Fetch, Stability};
use resting::Written;

/// What a group id stands for: a group, offsets, or both.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// None where somebody commits who uses no group ("simple" consumer), or all that is left is offsets.
    pub(super) group: Option<Group>,
    pub(super) offsets: Offsets,
    /// Those of transactions that have not ended.
    pending: Pending,
    /// When the group is looked at next, as it stands in `timers`.
    due: Option<Millis>,
    /// The last batch that has records of it.
    written: BatchNumber,
}

impl Entry {
    fn has_offsets(&self) -> bool {
        !self.offsets.is_empty() || !self.pending.is_empty()
    }

    /// Takes out what there is for the topics for which `goes` holds: their partitions, each once.
    fn take_topics(&mut self, goes: impl Fn(&str, Uuid) -> bool) -> Vec<(KStr, i32)> {
        let mut taken = self.offsets.take_topics(&goes);
        if !self.pending.is_empty() {
            taken.extend(self.pending.take_topics(&goes));
            taken.sort_unstable();
            taken.dedup();
        }
        taken
    }
}

/// One partition's groups.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    entries: HashMap<KStr, Entry, RandomState>,
    timers: BTreeSet<(Millis, KStr)>,
    /// Members of the new protocol.
    crowd: Crowd,
    /// Transactions that hold offsets here, with the groups that they are of.
    open: BTreeMap<ProducerId, BTreeSet<KStr>>,
    /// Commits are counted, to know which came later.
    orders: u64,
    written: Written,
}

impl Shard {
    pub(super) fn group(&self, id: &str) -> Option<&Group> {
        self.entries.get(id)?.group.as_ref()
    }

    pub(super) fn group_mut(&mut self, id: &str) -> Option<&mut Group> {
        self.entries.get_mut(id)?.group.as_mut()
    }

    pub(super) fn has_offsets(&self, id: &str) -> bool {
        self.entries.get(id).is_some_and(Entry::has_offsets)
    }

    /// Makes or replaces the group of this id.
    pub(super) fn set_group(&mut self, id: &KStr, group: Group) {
        self.entry(id).group = Some(group);
    }

    /// Forgets the group, not its offsets.
    pub(super) fn remove_group(&mut self, id: &str) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.group = None;
        }
        self.forget_if_empty(id);
    }

    /// How many members of the new protocol there are, as of the last second.
    pub(super) fn crowd(&mut self, now: Millis) -> Crowd {
        let count = || {
            let groups = self.entries.values().filter_map(|entry| entry.group.as_ref());
            groups.filter(|group| group.kind() == GroupKind::Consumer).map(Group::member_count).sum()
        };
        self.crowd = self.crowd.refreshed(now, count);
        self.crowd
    }

    /// How many members of the new protocol all shards have.
    pub(super) fn on_crowd_counted(&mut self, everywhere: usize) {
        self.crowd = self.crowd.told(everywhere);
    }

    fn entry(&mut self, id: &KStr) -> &mut Entry {
        // Not `entry`: it would need an id that keeps no frame alive, also where there is one already.
        if !self.entries.contains_key(id.as_str()) {
            let entry = Entry { written: self.written.all(), ..Entry::default() };
            self.entries.insert(id.detach(), entry);
        }
        self.entries.get_mut(id.as_str()).expect("it was there or was inserted")
    }

    fn forget_if_empty(&mut self, id: &str) {
        let is_empty = |entry: &Entry| entry.group.is_none() && !entry.has_offsets();
        if self.entries.get(id).is_some_and(is_empty)
            && let Some((id, Entry { due: Some(due), .. })) = self.entries.remove_entry(id)
        {
            self.timers.remove(&(due, id));
        }
    }

    /// Ids in the order of their names: whoever goes through all groups leaves the same records each time.
    fn ids(&self) -> Vec<KStr> {
        let mut ids: Vec<KStr> = self.entries.keys().cloned().collect();
        ids.sort_unstable();
        ids
    }

    /// To be called after each event of a group.
    pub(crate) fn reschedule(&mut self, id: &str) {
        let Some((id, entry)) = self.entries.get_key_value(id) else { return };
        let wanted = entry.group.as_ref().and_then(Group::next_deadline);
        // A timer that fires too early costs a look; setting it later at each heartbeat would cost more.
        let is_early_enough = wanted.is_none_or(|wanted| entry.due.is_some_and(|due| due <= wanted));
        if !is_early_enough {
            let id = id.clone();
            self.set_due(id, wanted);
        }
    }

    fn set_due(&mut self, id: KStr, due: Option<Millis>) {
        let Some(entry) = self.entries.get_mut(id.as_str()) else { return };
        if let Some(old) = std::mem::replace(&mut entry.due, due) {
            self.timers.remove(&(old, id.clone()));
        }
        if let Some(due) = due {
            self.timers.insert((due, id));
        }
    }

    /// When `tick` is to be called next.
    pub(crate) fn next_due(&self) -> Option<Millis> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, turn: &mut Turn<'_>) {
        while let Some((due, id)) = self.timers.first().cloned()
            && due <= turn.now.steady
        {
            if let Some(group) = self.group_mut(&id)
                && group.next_deadline().is_some_and(|deadline| deadline <= turn.now.steady)
            {
                group.expire(turn);
            }
            let next = self.group(&id).and_then(Group::next_deadline);
            self.set_due(id.clone(), next);
            if self.group(&id).is_some_and(Group::is_vacant) {
                self.remove_group(&id);
            }
        }
    }

    /// Takes over one record of the log.
    pub(crate) fn replay(&mut self, record: &GroupRecord) {
        match record {
            GroupRecord::Offset { group, topic, partition, value: Some(value) } => {
                let place = Place { topic, topic_id: value.topic_id, partition: *partition };
                self.set_offset(group, place, Committed::of(value));
            }
            GroupRecord::Offset { group, topic, partition, value: None } => {
                self.remove_offset(group, topic, *partition);
                self.forget_if_empty(group);
            }
            GroupRecord::Classic { group, value: Some(value) } => {
                self.set_group(group, Group::classic(group, value));
            }
            GroupRecord::Classic { group, value: None } => self.remove_group(group),
            GroupRecord::Consumer { group, change } => self.replay_consumer(group, change),
        }
    }

    /// To be called once after the replay: sessions begin, and what came too late before the end is done.
    pub(crate) fn on_loaded(&mut self, turn: &mut Turn<'_>) {
        self.on_topics_deleted(turn);
        for id in self.ids() {
            if let Some(group) = self.group_mut(&id) {
                group.on_loaded(turn);
                self.reschedule(&id);
            }
        }
    }

    /// Forgets the offsets of topics that are gone.
    pub(crate) fn on_topics_deleted(&mut self, turn: &mut Turn<'_>) {
        for id in self.ids() {
            let Some(entry) = self.entries.get_mut(id.as_str()) else { continue };
            let gone = entry.take_topics(|name, topic| !turn.topics.has(name, topic));
            let count = gone.len();
            turn.fx.records.extend(gone.iter().map(|(topic, partition)| removed(&id, topic, *partition)));
            if count > 0 {
                let why = Removal::TopicDeleted;
                turn.fx.notes.push(Note::OffsetsRemoved { group: id.clone(), count, why });
                self.forget_if_empty(&id);
            }
        }
    }
}

/// The record that removes an offset.
fn removed(group: &KStr, topic: &KStr, partition: i32) -> GroupRecord {
    GroupRecord::Offset { group: group.clone(), topic: topic.clone(), partition, value: None }
}

#[cfg(test)]
mod tests;
