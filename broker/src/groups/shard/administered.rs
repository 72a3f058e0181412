//! ListGroups and DeleteGroups.

use millstream_protocol::messages::delete_groups_response::DeletableGroupResult;
use millstream_protocol::messages::list_groups_response::ListedGroup;
use millstream_protocol::{ErrorCode, KStr};

use super::{Shard, removed};
use crate::groups::group::{Group, GroupKind};
use crate::groups::turn::{Ticket, Turn};

/// The state of what has no members.
pub(super) const EMPTY: &str = "Empty";

/// Which groups to list: all if a list is empty. Case does not matter.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListFilter {
    pub(crate) states: Vec<KStr>,
    pub(crate) kinds: Vec<KStr>,
}

impl ListFilter {
    fn admits(&self, state: &str, kind: GroupKind) -> bool {
        let is_among = |list: &[KStr], what: &str| {
            list.is_empty() || list.iter().any(|wanted| wanted.eq_ignore_ascii_case(what))
        };
        is_among(&self.states, state) && is_among(&self.kinds, kind.name())
    }
}

impl Shard {
    pub(crate) fn list(&self, turn: &mut Turn<'_>, ticket: Ticket, filter: &ListFilter) {
        let mut listed = Vec::new();
        for (id, entry) in &self.entries {
            let group = entry.group.as_ref();
            let state = group.map_or(EMPTY, Group::state);
            let kind = group.map_or(GroupKind::Classic, Group::kind);
            if filter.admits(state, kind) {
                listed.push(ListedGroup {
                    group_id: id.clone(),
                    protocol_type: group.map(|group| group.protocol_type().clone()).unwrap_or_default(),
                    group_state: KStr::from_static(state),
                    group_type: KStr::from_static(kind.name()),
                });
            }
        }
        turn.fx.reply(ticket, listed);
    }

    /// Removes a group without members, and its offsets.
    pub(crate) fn delete(&mut self, turn: &mut Turn<'_>, ticket: Ticket, id: KStr) {
        let code = match self.entries.get(id.as_str()) {
            None => ErrorCode::GroupIdNotFound,
            Some(entry) if entry.group.as_ref().is_some_and(|group| !group.is_empty()) => {
                ErrorCode::NonEmptyGroup
            }
            Some(_) => ErrorCode::None,
        };
        if code == ErrorCode::None {
            self.remove_with_offsets(turn, &id);
        }
        turn.fx.reply(ticket, DeletableGroupResult { group_id: id, error_code: code.code() });
    }

    fn remove_with_offsets(&mut self, turn: &mut Turn<'_>, id: &KStr) {
        let Some(entry) = self.entries.get_mut(id.as_str()) else { return };
        let gone = entry.take_topics(|_, _| true);
        turn.fx.records.extend(gone.iter().map(|(topic, partition)| removed(id, topic, *partition)));
        if let Some(group) = &entry.group {
            group.tombstones(&mut turn.fx.records);
        }
        self.remove_group(id);
    }
}
