//! A member of a classic group on a bare connection, and a simple consumer: what groups do, with nothing hidden.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use millstream_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use millstream_protocol::messages::leave_group_request::MemberIdentity;
use millstream_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millstream_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use millstream_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use millstream_protocol::messages::{
    DescribeGroupsRequest, FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest,
    OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest,
};
use millstream_protocol::{ErrorCode, KStr};

use super::broker::pause;
use super::wire::{Wire, known};
use crate::history::Key;

/// The one assignor that these members know.
const PROTOCOL: &str = "range";
/// How long a coordinator may take to come up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Committed offsets by partition.
pub(in crate::proof) type Offsets = BTreeMap<Key, i64>;

/// Who commits: a simple consumer has no member id and the generation -1.
#[derive(Debug, Clone)]
pub(in crate::proof) struct Membership {
    pub(in crate::proof) group: String,
    pub(in crate::proof) member: String,
    pub(in crate::proof) generation: i32,
}

impl Membership {
    pub(in crate::proof) fn simple(group: &str) -> Self {
        Self { group: group.to_owned(), member: String::new(), generation: -1 }
    }
}

/// What a member that joined has to work on.
#[derive(Debug, Clone)]
pub(in crate::proof) struct Joined {
    pub(in crate::proof) me: Membership,
    pub(in crate::proof) partitions: Vec<Key>,
}

/// How a group is joined.
#[derive(Debug, Clone, Copy)]
pub(in crate::proof) struct Joining<'a> {
    pub(in crate::proof) group: &'a str,
    pub(in crate::proof) topic: &'a str,
    pub(in crate::proof) partitions: u32,
    pub(in crate::proof) session_ms: i32,
}

/// What a request of a group came to: the answer, or the code by which it was refused.
pub(in crate::proof) type Told<T> = io::Result<Result<T, ErrorCode>>;

impl Wire {
    /// Joins and syncs; the leader shares the partitions out.
    pub(in crate::proof) fn join(&mut self, joining: Joining<'_>, member: &str) -> Told<Joined> {
        let protocol =
            JoinGroupRequestProtocol { name: KStr::from(PROTOCOL), metadata: subscription(joining.topic) };
        let mut request = JoinGroupRequest {
            group_id: KStr::from(joining.group),
            session_timeout_ms: joining.session_ms,
            rebalance_timeout_ms: joining.session_ms,
            member_id: KStr::from(member),
            protocol_type: KStr::from("consumer"),
            protocols: vec![protocol],
            ..Default::default()
        };
        let mut joined = self.call(7, &request)?;
        if known(joined.error_code) == ErrorCode::MemberIdRequired {
            request.member_id = KStr::from(&*joined.member_id);
            joined = self.call(7, &request)?;
        }
        if joined.error_code != 0 {
            return Ok(Err(known(joined.error_code)));
        }
        let members: Vec<KStr> = joined.members.iter().map(|member| member.member_id.clone()).collect();
        let me = Membership {
            group: joining.group.to_owned(),
            member: joined.member_id.to_string(),
            generation: joined.generation_id,
        };
        self.sync(joining, me, &members)
    }

    /// Joins a group whose coordinator may still have to come up.
    pub(in crate::proof) fn join_soon(&mut self, joining: Joining<'_>) -> Result<Joined> {
        let deadline = Instant::now() + PATIENCE;
        let request = FindCoordinatorRequest { key: KStr::from(joining.group), ..Default::default() };
        loop {
            // Who asks for the coordinator makes the broker create the topic of offsets.
            self.call(2, &request)?;
            match self.join(joining, "")? {
                Ok(joined) => return Ok(joined),
                Err(code) if !is_starting(code) || Instant::now() > deadline => {
                    bail!("group {} cannot be joined: {}", joining.group, code.name())
                }
                Err(_) => pause(Duration::from_millis(20)),
            }
        }
    }

    fn sync(&mut self, joining: Joining<'_>, me: Membership, members: &[KStr]) -> Told<Joined> {
        let share = |index: usize| {
            (0..joining.partitions).filter(move |partition| *partition as usize % members.len() == index)
        };
        let assignments = members.iter().enumerate().map(|(index, member)| SyncGroupRequestAssignment {
            member_id: member.clone(),
            assignment: assignment(joining.topic, share(index)),
        });
        let request = SyncGroupRequest {
            group_id: KStr::from(joining.group),
            generation_id: me.generation,
            member_id: KStr::from(&*me.member),
            assignments: assignments.collect(),
            ..Default::default()
        };
        let synced = self.call(3, &request)?;
        match known(synced.error_code) {
            ErrorCode::None => Ok(Ok(Joined { me, partitions: partitions(&synced.assignment)? })),
            code => Ok(Err(code)),
        }
    }

    pub(in crate::proof) fn heartbeat(&mut self, me: &Membership) -> io::Result<ErrorCode> {
        let request = HeartbeatRequest {
            group_id: KStr::from(&*me.group),
            generation_id: me.generation,
            member_id: KStr::from(&*me.member),
            ..Default::default()
        };
        Ok(known(self.call(3, &request)?.error_code))
    }

    pub(in crate::proof) fn leave(&mut self, me: &Membership) -> io::Result<ErrorCode> {
        let member = MemberIdentity { member_id: KStr::from(&*me.member), ..Default::default() };
        let request = LeaveGroupRequest {
            group_id: KStr::from(&*me.group),
            members: vec![member],
            ..Default::default()
        };
        Ok(known(self.call(3, &request)?.error_code))
    }

    /// Commits; the first code that is none is the answer.
    pub(in crate::proof) fn commit(
        &mut self,
        me: &Membership,
        topic: &str,
        offsets: &Offsets,
    ) -> io::Result<ErrorCode> {
        let partitions = offsets.iter().map(|(key, offset)| OffsetCommitRequestPartition {
            partition_index: *key as i32,
            committed_offset: *offset,
            ..Default::default()
        });
        let topic = OffsetCommitRequestTopic {
            name: KStr::from(topic),
            partitions: partitions.collect(),
            ..Default::default()
        };
        let request = OffsetCommitRequest {
            group_id: KStr::from(&*me.group),
            generation_id_or_member_epoch: me.generation,
            member_id: KStr::from(&*me.member),
            topics: vec![topic],
            ..Default::default()
        };
        let topics = self.call(9, &request)?.topics;
        let mut codes =
            topics.iter().flat_map(|topic| &topic.partitions).map(|partition| known(partition.error_code));
        Ok(codes.find(|code| *code != ErrorCode::None).unwrap_or(ErrorCode::None))
    }

    /// What a group has committed of these partitions; 0 where it has nothing.
    pub(in crate::proof) fn committed(
        &mut self,
        group: &str,
        topic: &str,
        keys: impl IntoIterator<Item = Key>,
    ) -> Told<Offsets> {
        let topics = OffsetFetchRequestTopics {
            name: KStr::from(topic),
            partition_indexes: keys.into_iter().map(|key| key as i32).collect(),
            ..Default::default()
        };
        let group = OffsetFetchRequestGroup {
            group_id: KStr::from(group),
            topics: Some(vec![topics]),
            ..Default::default()
        };
        let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
        let group = self.call(8, &request)?.groups.into_iter().next();
        let group = group.ok_or_else(|| io::Error::other("an answer without the group"))?;
        let partitions: Vec<_> = group.topics.iter().flat_map(|topic| &topic.partitions).collect();
        let codes = partitions.iter().map(|partition| partition.error_code);
        if let Some(code) = std::iter::once(group.error_code).chain(codes).find(|code| *code != 0) {
            return Ok(Err(known(code)));
        }
        let offset = |at: i64| at.max(0);
        Ok(Ok(partitions.iter().map(|at| (at.partition_index as Key, offset(at.committed_offset))).collect()))
    }

    /// A group's state and how many members it has.
    pub(in crate::proof) fn group_state(&mut self, group: &str) -> io::Result<(String, usize)> {
        let request = DescribeGroupsRequest { groups: vec![KStr::from(group)], ..Default::default() };
        let group = self.call(5, &request)?.groups.into_iter().next();
        let group = group.ok_or_else(|| io::Error::other("an answer without the group"))?;
        Ok((group.group_state.to_string(), group.members.len()))
    }
}

/// Whether a coordinator asks for patience while it reads its log.
pub(in crate::proof) fn is_starting(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::CoordinatorLoadInProgress | ErrorCode::CoordinatorNotAvailable | ErrorCode::NotCoordinator
    )
}

/// The subscription of Kafka's consumers, version 0.
fn subscription(topic: &str) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(1);
    put_text(&mut bytes, topic);
    bytes.put_i32(-1);
    bytes.freeze()
}

/// The assignment of Kafka's consumers, version 0.
fn assignment(topic: &str, keys: impl Iterator<Item = Key>) -> Bytes {
    let keys: Vec<Key> = keys.collect();
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(1);
    put_text(&mut bytes, topic);
    bytes.put_i32(keys.len() as i32);
    keys.iter().for_each(|key| bytes.put_i32(*key as i32));
    bytes.put_i32(-1);
    bytes.freeze()
}

fn put_text(bytes: &mut BytesMut, text: &str) {
    bytes.put_i16(text.len() as i16);
    bytes.put_slice(text.as_bytes());
}

/// The partitions of an assignment of one topic; a member that joined too late has none.
fn partitions(mut bytes: &[u8]) -> io::Result<Vec<Key>> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let cut = |_| io::Error::new(io::ErrorKind::InvalidData, "an assignment that was cut off");
    bytes.try_get_i16().map_err(cut)?;
    if bytes.try_get_i32().map_err(cut)? == 0 {
        return Ok(Vec::new());
    }
    let name = usize::try_from(bytes.try_get_i16().map_err(cut)?).unwrap_or(0);
    bytes = bytes.get(name..).unwrap_or_default();
    let count = bytes.try_get_i32().map_err(cut)?;
    (0..count).map(|_| Ok(bytes.try_get_i32().map_err(cut)? as Key)).collect()
}
