//! The classic group protocol. So far: what a log says of such a group.

use millstream_protocol::messages::GroupMetadataValue;
use millstream_protocol::{ErrorCode, KStr};

use super::group::Committer;
use super::record::GroupRecord;
use super::turn::{Millis, Turn};

/// A classic group.
#[derive(Debug)]
pub(crate) struct ClassicGroup {
    id: KStr,
    protocol_type: KStr,
    members: usize,
    since_ms: i64,
}

impl ClassicGroup {
    pub(super) fn replay(id: &KStr, value: &GroupMetadataValue) -> Self {
        Self {
            id: id.detach(),
            protocol_type: value.protocol_type.detach(),
            members: value.members.len(),
            since_ms: value.current_state_timestamp,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Millis> {
        None
    }

    pub(super) fn expire(&mut self, _turn: &mut Turn<'_>) {}

    pub(super) fn on_loaded(&mut self, _turn: &mut Turn<'_>) {
        // Nobody can join yet, so whoever was in it has left.
        self.members = 0;
    }

    pub(super) fn check_commit(&mut self, _turn: &mut Turn<'_>, by: &Committer) -> Result<(), ErrorCode> {
        match by.is_member() {
            true => Err(ErrorCode::UnknownMemberId),
            false => Ok(()),
        }
    }

    pub(super) fn check_offset_delete(&self) -> Result<(), ErrorCode> {
        Ok(())
    }

    pub(super) fn is_subscribed(&self, _topic: &str) -> bool {
        false
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members == 0
    }

    pub(super) fn emptied_at(&self) -> Option<i64> {
        self.is_empty().then_some(self.since_ms)
    }

    pub(super) fn state(&self) -> &'static str {
        if self.is_empty() { "Empty" } else { "Stable" }
    }

    pub(super) fn protocol_type(&self) -> &KStr {
        &self.protocol_type
    }

    pub(super) fn tombstones(&self, records: &mut Vec<GroupRecord>) {
        records.push(GroupRecord::Classic { group: self.id.clone(), value: None });
    }
}
