//! What nobody uses any more: offsets, if the operator wants them to expire, and empty groups.
//!
//! The rules are Kafka's (KIP-211). Offsets of a group without members age since it has none, those that were
//! committed from outside since they were committed. A group with members keeps the offsets of the topics that they
//! read; others age since they were committed, if it is known what the members read. A group without members and
//! offsets goes. An offset stays while an open transaction would replace it.

use millstream_protocol::KStr;

use super::{Entry, Shard, removed};
use crate::groups::group::{Group, GroupKind};
use crate::groups::offsets::Committed;
use crate::groups::turn::{Note, Removal, Turn};

/// The protocol type of groups whose members tell their topics.
const CONSUMER: &str = "consumer";

impl Shard {
    /// Removes what has expired. `now_ms` is the time that is believed: a clock that jumps ahead makes nothing old.
    pub(crate) fn clean_up(&mut self, turn: &mut Turn<'_>, now_ms: i64) {
        for id in self.ids() {
            let Some(entry) = self.entries.get_mut(id.as_str()) else { continue };
            if let Some(retention) = turn.settings.offsets_retention {
                let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
                expire(entry, &id, now_ms.saturating_sub(retention_ms), turn);
            }
            let is_idle = |group: &Group| group.is_empty() && group.next_deadline().is_none();
            if !entry.has_offsets() && entry.group.as_ref().is_none_or(is_idle) {
                if let Some(group) = &entry.group {
                    group.tombstones(&mut turn.fx.records);
                }
                self.remove_group(&id);
            }
        }
    }
}

fn expire(entry: &mut Entry, id: &KStr, oldest: i64, turn: &mut Turn<'_>) {
    let group = entry.group.as_ref();
    let pending = &entry.pending;
    let has_expired = |topic: &str, partition: i32, committed: &Committed| {
        unused_since(group, topic, committed).is_some_and(|since| since <= oldest)
            && !pending.holds(topic, partition)
    };
    let expired = entry.offsets.take(has_expired);
    if expired.is_empty() {
        return;
    }
    let why = Removal::Expired;
    turn.fx.notes.push(Note::OffsetsRemoved { group: id.clone(), count: expired.len(), why });
    turn.fx.records.extend(expired.iter().map(|(topic, partition)| removed(id, topic, *partition)));
}

/// Since when nobody uses an offset, by the wall clock.
fn unused_since(group: Option<&Group>, topic: &str, committed: &Committed) -> Option<i64> {
    let Some(group) = group else { return Some(committed.committed_ms) };
    if let Some(emptied) = group.emptied_at() {
        return Some(emptied.max(committed.committed_ms));
    }
    let are_topics_known = match group.kind() {
        GroupKind::Classic => group.state() == "Stable" && *group.protocol_type() == CONSUMER,
        GroupKind::Consumer => true,
    };
    (are_topics_known && !group.is_subscribed(topic)).then_some(committed.committed_ms)
}
