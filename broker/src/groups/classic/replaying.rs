//! What the log keeps of a group, and the group made from it again.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::KStr;
use millstream_protocol::messages::GroupMetadataValue;
use millstream_protocol::messages::group_metadata_value::MemberMetadata;

use super::joining::millis;
use super::member::{Member, Parked, Protocol, Timeouts};
use super::members::Members;
use super::{ClassicGroup, Phase, Syncing};
use crate::groups::cause::{Caller, Why};
use crate::groups::record::GroupRecord;
use crate::groups::turn::{Millis, Turn};

/// Bytes of a record, and of a member in it, besides its strings and what it was given.
const RECORD_AROUND_BYTES: usize = 64;
const MEMBER_AROUND_BYTES: usize = 32;

impl ClassicGroup {
    /// The group as its last record tells. Its members' sessions begin with [`on_loaded`](Self::on_loaded).
    pub(crate) fn replay(id: &KStr, value: &GroupMetadataValue) -> Self {
        let mut members = Members::default();
        for member in &value.members {
            let rebalance = match member.rebalance_timeout {
                -1 => member.session_timeout,
                timeout => timeout,
            };
            let name = value.protocol.as_ref().map(KStr::detach).unwrap_or_default();
            // A record that names a member twice is not ours: the first counts.
            let holder = member.group_instance_id.as_ref().and_then(|instance| members.holder(instance));
            if holder.is_some() || members.get(&member.member_id).is_some() {
                continue;
            }
            members.insert(Member {
                id: member.member_id.detach(),
                instance_id: member.group_instance_id.as_ref().map(KStr::detach),
                caller: Caller { client_id: member.client_id.detach(), host: member.client_host.detach() },
                timeouts: Timeouts { session: millis(member.session_timeout), rebalance: millis(rebalance) },
                protocols: vec![Protocol {
                    name,
                    metadata: bytes::Bytes::copy_from_slice(&member.subscription),
                }],
                assignment: bytes::Bytes::copy_from_slice(&member.assignment),
                parked: Parked::No,
                is_new: false,
                deadline: Millis(i64::MAX),
            });
        }
        let phase = match members.is_empty() {
            true => Phase::Empty,
            false => Phase::Stable(Syncing { missing: BTreeSet::new(), deadline: Millis(i64::MAX) }),
        };
        Self {
            id: id.detach(),
            phase,
            since_ms: value.current_state_timestamp,
            generation: value.generation,
            protocol_type: value.protocol_type.detach(),
            protocol: value.protocol.as_ref().map(KStr::detach),
            leader: value.leader.as_ref().map(KStr::detach),
            members,
            pending: BTreeMap::new(),
            rebalance: None,
            is_stored: true,
        }
    }

    /// After a replay: every member has a whole session to be heard of again. A group that is larger than it may
    /// be by now has to join anew, and the last to come are turned away.
    pub(crate) fn on_loaded(&mut self, turn: &mut Turn<'_>) {
        for member in self.members.iter_mut() {
            member.hears(turn.now.steady);
        }
        if self.members.len() > turn.settings.members_max {
            let cause = self.cause_of(Why::OverCapacity, "");
            self.begin(cause, turn);
        }
    }

    /// Notes the group in the log: after the leader's assignment, when a static member takes its place again,
    /// and when the last member is gone.
    pub(super) fn store(&mut self, turn: &mut Turn<'_>) {
        self.is_stored = true;
        turn.fx.records.push(GroupRecord::Classic { group: self.id.clone(), value: Some(self.value()) });
    }

    /// The records that take the group out of the log.
    pub(crate) fn tombstones(&self, records: &mut Vec<GroupRecord>) {
        if self.is_stored {
            records.push(GroupRecord::Classic { group: self.id.clone(), value: None });
        }
    }

    /// The group as it is stored.
    pub(crate) fn value(&self) -> GroupMetadataValue {
        let protocol = self.protocol.clone().unwrap_or_default();
        let members = self.members.iter().map(|member| MemberMetadata {
            member_id: member.id.clone(),
            group_instance_id: member.instance_id.clone(),
            client_id: member.caller.client_id.clone(),
            client_host: member.caller.host.clone(),
            rebalance_timeout: to_millis(member.timeouts.rebalance),
            session_timeout: to_millis(member.timeouts.session),
            subscription: member.metadata(&protocol),
            assignment: member.assignment.clone(),
        });
        GroupMetadataValue {
            protocol_type: self.protocol_type.clone(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            current_state_timestamp: self.since_ms,
            members: members.collect(),
        }
    }

    /// How large its record would be, at least to the thousandth.
    pub(super) fn record_bytes(&self) -> usize {
        let protocol = self.protocol.clone().unwrap_or_default();
        let members = self.members.iter().map(|member| {
            let texts = [&member.id, &member.caller.client_id, &member.caller.host];
            let texts: usize = texts.iter().map(|text| text.len()).sum();
            let instance = member.instance_id.as_ref().map_or(0, |instance| instance.len());
            MEMBER_AROUND_BYTES
                + texts
                + instance
                + member.metadata(&protocol).len()
                + member.assignment.len()
        });
        let members: usize = members.sum();
        RECORD_AROUND_BYTES + self.id.len() + protocol.len() + members
    }
}

/// Timeouts come from 32-bit fields.
fn to_millis(time: std::time::Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}
