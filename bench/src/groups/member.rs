//! Members of classic groups, many on one connection: each request of all of them is sent before an answer is read.

use anyhow::{Result, ensure};
use bytes::Bytes;
use millstream_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use millstream_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use millstream_protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, SyncGroupRequest,
};
use millstream_protocol::{ErrorCode, KStr};

use super::ok;
use crate::wire::Connection;

/// The last version in which a new member is let in at once.
const JOIN_VERSION: i16 = 3;
const SYNC_VERSION: i16 = 2;
const HEARTBEAT_VERSION: i16 = 2;

/// One member.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) group: KStr,
    pub(super) id: KStr,
    pub(super) generation: i32,
}

impl Member {
    pub(super) fn new(group: &str) -> Self {
        Self { group: KStr::from(group), id: KStr::default(), generation: -1 }
    }
}

/// Joins and syncs until all are in the same generation of their group.
pub(super) fn join(connection: &mut Connection, members: &mut [Member]) -> Result<()> {
    let joins: Vec<JoinGroupRequest> = members.iter().map(join_request).collect();
    let joined = connection.call_many(JOIN_VERSION, &joins)?;
    let mut syncs = Vec::with_capacity(members.len());
    for (member, joined) in members.iter_mut().zip(&joined) {
        ok(joined.error_code, "a join")?;
        (member.id, member.generation) = (joined.member_id.detach(), joined.generation_id);
        syncs.push(sync_request(member, joined));
    }
    let synced = connection.call_many(SYNC_VERSION, &syncs)?;
    if synced.iter().any(|synced| is_rebalance(synced.error_code)) {
        return join(connection, members);
    }
    synced.iter().try_for_each(|synced| ok(synced.error_code, "a sync"))
}

/// Whether the group of one of them rebalances.
pub(super) fn heartbeat(connection: &mut Connection, members: &[Member]) -> Result<bool> {
    let beats: Vec<HeartbeatRequest> = members.iter().map(heartbeat_request).collect();
    let mut rebalances = false;
    for answer in connection.call_many(HEARTBEAT_VERSION, &beats)? {
        let code = answer.error_code;
        rebalances |= is_rebalance(code);
        ensure!(code == 0 || is_rebalance(code), "a heartbeat was refused with error {code}");
    }
    Ok(rebalances)
}

fn is_rebalance(code: i16) -> bool {
    code == ErrorCode::RebalanceInProgress.code()
}

fn join_request(member: &Member) -> JoinGroupRequest {
    let protocol =
        JoinGroupRequestProtocol { name: KStr::from_static("range"), metadata: Bytes::from_static(&[0; 40]) };
    JoinGroupRequest {
        group_id: member.group.clone(),
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 60_000,
        member_id: member.id.clone(),
        protocol_type: KStr::from_static("bench"),
        protocols: vec![protocol],
        ..Default::default()
    }
}

fn sync_request(member: &Member, joined: &JoinGroupResponse) -> SyncGroupRequest {
    let of_each = joined.members.iter().map(|other| SyncGroupRequestAssignment {
        member_id: other.member_id.clone(),
        assignment: Bytes::from_static(&[1; 40]),
    });
    SyncGroupRequest {
        group_id: member.group.clone(),
        generation_id: member.generation,
        member_id: member.id.clone(),
        assignments: of_each.collect(),
        ..Default::default()
    }
}

fn heartbeat_request(member: &Member) -> HeartbeatRequest {
    HeartbeatRequest {
        group_id: member.group.clone(),
        generation_id: member.generation,
        member_id: member.id.clone(),
        group_instance_id: None,
    }
}
