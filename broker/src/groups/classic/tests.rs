//! A group by itself, with requests and time under the tests' control.

use std::time::Duration;

use bytes::Bytes;
use millstream_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use millstream_protocol::messages::leave_group_request::MemberIdentity;
use millstream_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use millstream_protocol::messages::{
    JoinGroupRequest, JoinGroupResponse, LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use millstream_protocol::{ErrorCode, KStr, Uuid};

use super::{ClassicGroup, Join, RECORD_BYTES_MAX};
use crate::groups::cause::{Caller, Why};
use crate::groups::group::Committer;
use crate::groups::topic_view::TopicView;
use crate::groups::turn::{Effects, Millis, Note, Now, Reply, Ticket, Turn};
use crate::settings::GroupSettings;

mod expiring;
mod joining;
mod leaving;
mod simulation;
mod static_members;
mod storing;
mod syncing;

/// Session and rebalance timeouts of members that do not care.
const SESSION_MS: i32 = 10_000;
const REBALANCE_MS: i32 = 60_000;

/// What a member says when it joins.
#[derive(Debug, Clone)]
struct Says {
    version: i16,
    member: String,
    instance: Option<String>,
    protocols: Vec<(&'static str, Vec<u8>)>,
    session_ms: i32,
    rebalance_ms: i32,
}

impl Says {
    /// A new dynamic member of an old version, which is taken in at once.
    fn new() -> Self {
        Self {
            version: 3,
            member: String::new(),
            instance: None,
            protocols: vec![("range", b"topics".to_vec())],
            session_ms: SESSION_MS,
            rebalance_ms: REBALANCE_MS,
        }
    }

    fn again(member: &str) -> Self {
        Self { version: 9, member: member.to_owned(), ..Self::new() }
    }

    fn named(instance: &str) -> Self {
        Self { version: 9, instance: Some(instance.to_owned()), ..Self::new() }
    }

    fn speaking(self, protocols: &[(&'static str, &[u8])]) -> Self {
        let protocols = protocols.iter().map(|(name, metadata)| (*name, metadata.to_vec())).collect();
        Self { protocols, ..self }
    }

    fn version(self, version: i16) -> Self {
        Self { version, ..self }
    }
}

/// A group, its time, and what it answered.
struct Bed {
    group: ClassicGroup,
    settings: GroupSettings,
    topics: TopicView,
    now: Now,
    fx: Effects,
    tickets: u64,
}

impl Bed {
    fn new() -> Self {
        let now = Now { steady: Millis(1_000), wall_ms: 1_700_000_000_000 };
        let defaults = GroupSettings::for_tests();
        let settings = GroupSettings { members_max: 100, ..defaults };
        Self {
            group: ClassicGroup::new(&"group".into(), now),
            settings,
            topics: TopicView::default(),
            now,
            fx: Effects::default(),
            tickets: 0,
        }
    }

    /// Runs `event` and returns what it gives.
    fn turn<T>(&mut self, event: impl FnOnce(&mut ClassicGroup, &mut Turn<'_>, Ticket) -> T) -> (T, Ticket) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let Self { group, settings, topics, now, fx, .. } = self;
        let mut turn = Turn { now: *now, settings, topics, fx };
        (event(group, &mut turn, ticket), ticket)
    }

    fn join(&mut self, says: &Says) -> Ticket {
        let protocols = says.protocols.iter().map(|(name, metadata)| JoinGroupRequestProtocol {
            name: (*name).into(),
            metadata: Bytes::from(metadata.clone()),
        });
        let request = JoinGroupRequest {
            group_id: "group".into(),
            session_timeout_ms: says.session_ms,
            rebalance_timeout_ms: says.rebalance_ms,
            member_id: says.member.as_str().into(),
            group_instance_id: says.instance.as_deref().map(KStr::from),
            protocol_type: "consumer".into(),
            protocols: protocols.collect(),
            reason: None,
        };
        let caller = Caller { client_id: "client".into(), host: "/127.0.0.1".into() };
        let fresh = Uuid::from_u128(u128::from(self.tickets) + 1);
        let version = says.version;
        self.turn(|group, turn, ticket| group.join(&Join { ticket, caller, version, request, fresh }, turn)).1
    }

    fn sync(&mut self, (member, generation): (&str, i32), assignments: &[(&str, &str)]) -> Ticket {
        let assignments = assignments.iter().map(|(member, part)| SyncGroupRequestAssignment {
            member_id: (*member).into(),
            assignment: Bytes::copy_from_slice(part.as_bytes()),
        });
        let request = SyncGroupRequest {
            group_id: "group".into(),
            generation_id: generation,
            member_id: member.into(),
            assignments: assignments.collect(),
            ..SyncGroupRequest::default()
        };
        self.turn(|group, turn, ticket| group.sync(turn, ticket, &request)).1
    }

    fn heartbeat(&mut self, member: &str, generation: i32) -> ErrorCode {
        let heard = self.turn(|group, turn, _| group.heartbeat((member, None), generation, turn)).0;
        heard.err().unwrap_or(ErrorCode::None)
    }

    fn commit(&mut self, member: &str, generation: i32) -> ErrorCode {
        let by = Committer {
            member_id: member.into(),
            instance_id: None,
            generation_or_epoch: generation,
            version: 8,
        };
        let checked = self.turn(|group, turn, _| group.check_commit(turn, &by)).0;
        checked.err().unwrap_or(ErrorCode::None)
    }

    /// Takes members out by (id, static name); returns their codes.
    fn leave(&mut self, leaving: &[(&str, Option<&str>)]) -> Vec<ErrorCode> {
        let leaving: Vec<MemberIdentity> = leaving
            .iter()
            .map(|(member, instance)| MemberIdentity {
                member_id: (*member).into(),
                group_instance_id: instance.map(KStr::from),
                reason: None,
            })
            .collect();
        let ticket = self.turn(|group, turn, ticket| group.leave(turn, ticket, &leaving)).1;
        let left: LeaveGroupResponse = self.take(ticket).expect("a LeaveGroup is answered at once");
        left.members.iter().map(|member| code(member.error_code)).collect()
    }

    /// Lets time pass, deadline by deadline, as the shell does.
    fn pass(&mut self, by: Duration) {
        let end = self.now.steady.after(by);
        while let Some(at) = self.group.next_deadline().filter(|at| *at <= end) {
            self.now.steady = at.max(self.now.steady);
            self.turn(|group, turn, _| group.expire(turn));
        }
        self.now.steady = end;
        self.now.wall_ms += i64::try_from(by.as_millis()).unwrap();
    }

    fn take<R: TryFrom<Reply>>(&mut self, ticket: Ticket) -> Option<R> {
        let at = self.fx.replies.iter().position(|(answered, _)| *answered == ticket)?;
        let (_, reply) = self.fx.replies.remove(at);
        assert!(self.fx.replies.iter().all(|(other, _)| *other != ticket), "a ticket is answered once");
        R::try_from(reply).ok()
    }

    fn joined(&mut self, ticket: Ticket) -> Option<JoinGroupResponse> {
        self.take(ticket)
    }

    fn synced(&mut self, ticket: Ticket) -> Option<SyncGroupResponse> {
        self.take(ticket)
    }

    /// A stable group of `count` dynamic members; returns their ids, the leader first, and the generation.
    fn stable(count: usize) -> (Self, Vec<String>, i32) {
        let mut bed = Self::new();
        let tickets: Vec<Ticket> = (0..count).map(|_| bed.join(&Says::new())).collect();
        let (ids, generation) = bed.settle(&tickets);
        (bed, ids, generation)
    }

    /// Lets the first wait of a group run out, and everybody sync on it.
    fn settle(&mut self, tickets: &[Ticket]) -> (Vec<String>, i32) {
        self.pass(Duration::from_secs(6));
        self.settle_now(tickets)
    }

    fn settle_now(&mut self, tickets: &[Ticket]) -> (Vec<String>, i32) {
        let mut joined: Vec<JoinGroupResponse> = Vec::new();
        for ticket in tickets {
            joined.push(self.joined(*ticket).expect("all have joined"));
        }
        let generation = joined[0].generation_id;
        joined.sort_by_key(|reply| reply.member_id != reply.leader);
        let ids: Vec<String> = joined.iter().map(|reply| reply.member_id.to_string()).collect();
        let parts: Vec<(&str, &str)> = ids.iter().map(|id| (&**id, &**id)).collect();
        let followers: Vec<Ticket> = ids[1..].iter().map(|id| self.sync((id, generation), &[])).collect();
        let leader = self.sync((&ids[0], generation), &parts);
        for (id, ticket) in ids[1..].iter().chain([&ids[0]]).zip(followers.into_iter().chain([leader])) {
            let reply = self.synced(ticket).expect("the assignment is there");
            assert_eq!((reply.error_code, &*reply.assignment), (0, id.as_bytes()));
        }
        assert_eq!(self.group.state(), "Stable");
        (ids, generation)
    }

    fn began(&self) -> Vec<Why> {
        let whys = self.fx.notes.iter().filter_map(|note| match note {
            Note::RebalanceBegan { cause, .. } => Some(cause.why),
            _ => None,
        });
        whys.collect()
    }
}

fn code(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).expect("a code of Kafka's table")
}

/// What a refused JoinGroup said.
fn refusal(reply: Option<JoinGroupResponse>) -> (ErrorCode, String) {
    let reply = reply.expect("a refusal is answered at once");
    (code(reply.error_code), reply.member_id.to_string())
}
