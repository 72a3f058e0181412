//! Groups that change their protocol while they live, and members of both in one group.

use bytes::Bytes;
use millstream_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use millstream_protocol::messages::leave_group_request::MemberIdentity;
use millstream_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use millstream_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupResponse,
    SyncGroupRequest, SyncGroupResponse,
};
use millstream_protocol::wire::{Form, Writer};

use super::*;
use crate::groups::Join;
use crate::groups::consumer::MigrationPolicy;
use crate::groups::consumer::embedded::{self, Given};

/// A consumer of the classic protocol.
struct Old {
    id: KStr,
    instance: Option<KStr>,
    generation: i32,
    owned: Partitions,
}

impl Old {
    fn new() -> Self {
        Self { id: KStr::default(), instance: None, generation: -1, owned: Partitions::default() }
    }

    fn subscription(&self, bed: &Bed) -> Bytes {
        let mut writer = Writer::new();
        writer.i16(1);
        let string = |writer: &mut Writer, name: &KStr| writer.string(Form::Classic, name);
        writer.array(Form::Classic, &[KStr::from("a")], string).unwrap();
        writer.i32(-1);
        // What it owns is written as an assignment is, between its version and its user data.
        let owned = embedded::assignment(&self.owned, 0, &bed.topics);
        let written = writer.into_chunks().swap_remove(0).into_bytes();
        [&written[..], &owned[2..owned.len() - 4]].concat().into()
    }

    fn join(&mut self, bed: &mut Bed) -> Ticket {
        let request = JoinGroupRequest {
            group_id: GROUP.into(),
            session_timeout_ms: 20_000,
            rebalance_timeout_ms: REBALANCE_MS,
            member_id: self.id.clone(),
            group_instance_id: self.instance.clone(),
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: "range".into(),
                metadata: self.subscription(bed),
            }],
            reason: None,
        };
        let caller = Caller { client_id: "old".into(), host: "/127.0.0.1".into() };
        let fresh = Uuid::from_u128(u128::from(bed.tickets) + 7);
        bed.turn(|shard, turn, ticket| {
            shard.join(turn, &Join { ticket, caller, version: 5, request, fresh });
        })
        .1
    }

    fn hear_join(&mut self, bed: &mut Bed, ticket: Ticket) -> ErrorCode {
        let joined: JoinGroupResponse = bed.reply(ticket);
        self.id = joined.member_id.clone();
        self.generation = joined.generation_id;
        ErrorCode::from_code(joined.error_code).unwrap()
    }

    fn sync_with(&mut self, bed: &mut Bed, assignments: Vec<SyncGroupRequestAssignment>) -> ErrorCode {
        let request = SyncGroupRequest {
            group_id: GROUP.into(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            group_instance_id: self.instance.clone(),
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            assignments,
        };
        let synced: SyncGroupResponse = bed.ask(|shard, turn, ticket| shard.sync(turn, ticket, &request));
        if synced.error_code == 0 {
            self.owned = Given::read(&synced.assignment).unwrap().partitions(&bed.topics);
        }
        ErrorCode::from_code(synced.error_code).unwrap()
    }

    /// Joins and syncs in a group of the new protocol, where nobody is waited for.
    fn rejoin(&mut self, bed: &mut Bed) {
        let mut ticket = self.join(bed);
        let mut code = self.hear_join(bed, ticket);
        if code == ErrorCode::MemberIdRequired {
            ticket = self.join(bed);
            code = self.hear_join(bed, ticket);
        }
        assert_eq!(code, ErrorCode::None);
        assert_eq!(self.sync_with(bed, Vec::new()), ErrorCode::None);
    }

    fn beat(&mut self, bed: &mut Bed) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: GROUP.into(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            group_instance_id: self.instance.clone(),
        };
        let heard: HeartbeatResponse = bed.ask(|shard, turn, ticket| shard.heartbeat(turn, ticket, &request));
        ErrorCode::from_code(heard.error_code).unwrap()
    }

    /// As a client does: joins again when it is told to.
    fn follow(&mut self, bed: &mut Bed) {
        match self.beat(bed) {
            ErrorCode::None => {}
            ErrorCode::RebalanceInProgress => self.rejoin(bed),
            code => panic!("{code:?}"),
        }
    }
}

/// A classic group with one member that has all partitions of "a".
fn classic(bed: &mut Bed) -> Old {
    bed.settings.initial_rebalance_delay = Duration::ZERO;
    let mut old = Old::new();
    let mut ticket = old.join(bed);
    if old.hear_join(bed, ticket) == ErrorCode::MemberIdRequired {
        ticket = old.join(bed);
        bed.pass(Duration::from_millis(1));
        assert_eq!(old.hear_join(bed, ticket), ErrorCode::None);
    }
    let all: Partitions = (0..bed.counts["a"]).map(|at| (topic_id("a"), at)).collect();
    let assignment = embedded::assignment(&all, 1, &bed.topics);
    let part = SyncGroupRequestAssignment { member_id: old.id.clone(), assignment };
    assert_eq!(old.sync_with(bed, vec![part]), ErrorCode::None);
    assert_eq!(old.owned.len(), all.len());
    old
}

#[test]
fn a_classic_group_becomes_a_consumer_group_when_somebody_speaks_that_and_back_when_nobody_does() {
    let mut bed = Bed::new(&[("a", 4)]);
    let mut old = classic(&mut bed);
    let mut new = Client::new("new", &["a"]);
    new.join(&mut bed);
    assert_eq!(new.owned.len(), 0, "the other has them still");
    assert_eq!(new.epoch, 2, "the epoch goes on from the generation");
    bed.check_replay("upgraded");
    let types: Vec<i8> = bed.describe().members.iter().map(|member| member.member_type).collect();
    assert!(types.contains(&0) && types.contains(&1), "{types:?}");
    for _ in 0..4 {
        old.follow(&mut bed);
        new.beat(&mut bed);
    }
    assert_eq!((old.owned.len(), new.owned.len()), (2, 2));
    assert_eq!(bed.group().state(), "Stable");
    bed.check_replay("both settled");

    bed.heartbeat(new.leaving(-1));
    assert!(matches!(bed.shard.group(GROUP), Some(Group::Classic(_))), "downgraded");
    assert!(matches!(bed.replayed().group(GROUP), Some(Group::Classic(_))));
    assert_eq!(old.beat(&mut bed), ErrorCode::RebalanceInProgress);
    let ticket = old.join(&mut bed);
    assert_eq!(old.hear_join(&mut bed, ticket), ErrorCode::None);
    assert!(old.generation > 2);
}

#[test]
fn a_classic_group_downgrades_also_when_the_last_new_member_falls_silent() {
    let mut bed = Bed::new(&[("a", 4)]);
    let mut old = classic(&mut bed);
    let mut new = Client::new("new", &["a"]);
    new.join(&mut bed);
    for _ in 0..4 {
        old.follow(&mut bed);
        new.beat(&mut bed);
    }
    for _ in 0..5 {
        bed.pass(Duration::from_secs(10));
        if matches!(bed.shard.group(GROUP), Some(Group::Consumer(_))) {
            old.follow(&mut bed);
        }
    }
    assert!(matches!(bed.shard.group(GROUP), Some(Group::Classic(_))));
}

#[test]
fn a_policy_can_forbid_either_way() {
    let mut bed = Bed::new(&[("a", 4)]);
    classic(&mut bed);
    bed.settings.consumer.migration = MigrationPolicy::Downgrade;
    let mut new = Client::new("new", &["a"]);
    let refused = bed.heartbeat(new.full());
    assert_eq!(code(&refused), ErrorCode::GroupIdNotFound);
    assert!(refused.error_message.unwrap().contains("disabled"));
    bed.settings.consumer.migration = MigrationPolicy::Upgrade;
    new.join(&mut bed);
    bed.heartbeat(new.leaving(-1));
    assert!(matches!(bed.shard.group(GROUP), Some(Group::Consumer(_))));
}

#[test]
fn a_join_that_is_refused_does_not_upgrade() {
    let mut bed = Bed::new(&[("a", 4)]);
    let mut old = classic(&mut bed);
    let stored = bed.log.len();
    let refused = bed.heartbeat(Client::matching("new", "(").full());
    assert_eq!(code(&refused), ErrorCode::InvalidRegularExpression);
    assert!(matches!(bed.shard.group(GROUP), Some(Group::Classic(_))));
    assert_eq!(bed.log.len(), stored);
    assert_eq!(old.beat(&mut bed), ErrorCode::None);
}

#[test]
fn an_empty_group_takes_whatever_protocol_comes() {
    let mut bed = Bed::new(&[("a", 4)]);
    let old = classic(&mut bed);
    let leaving = MemberIdentity { member_id: old.id, ..Default::default() };
    let _: LeaveGroupResponse =
        bed.ask(|shard, turn, ticket| shard.leave(turn, ticket, (&GROUP.into(), &[leaving])));
    let mut new = Client::new("new", &["a"]);
    new.join(&mut bed);
    assert_eq!(new.owned.len(), 4);
    bed.check_replay("an empty classic group became a consumer group");
    bed.heartbeat(new.leaving(-1));
    let old = classic(&mut bed);
    assert_eq!(old.owned.len(), 4);
    assert!(matches!(bed.replayed().group(GROUP), Some(Group::Classic(_))));
}

#[test]
fn a_static_member_may_come_back_with_the_other_protocol() {
    let mut bed = Bed::new(&[("a", 4)]);
    let mut other = classic(&mut bed);
    let mut new = Client::new("new", &["a"]).named("i");
    new.join(&mut bed);
    for _ in 0..4 {
        other.follow(&mut bed);
        new.beat(&mut bed);
    }
    // It was the last of the new protocol: the group is classic again.
    let mut old = Old { instance: Some("i".into()), ..Old::new() };
    let ticket = old.join(&mut bed);
    assert!(matches!(bed.shard.group(GROUP), Some(Group::Classic(_))));
    let _ = ticket;
    // And forth, although the classic member did not leave.
    let mut again = Client::new("again", &["a"]).named("i");
    again.join(&mut bed);
    assert!(matches!(bed.shard.group(GROUP), Some(Group::Consumer(_))));
    assert_eq!(bed.group().members.len(), 2);
    bed.check_replay("a static member changed its protocol twice");
}

#[test]
fn a_classic_member_that_does_not_sync_or_rejoin_in_time_is_out() {
    let mut bed = Bed::new(&[("a", 4)]);
    let mut old = classic(&mut bed);
    let mut new = Client::new("new", &["a"]);
    new.join(&mut bed);
    for _ in 0..14 {
        assert_ne!(old.beat(&mut bed), ErrorCode::None);
        new.beat(&mut bed);
        bed.pass(Duration::from_secs(5));
    }
    new.beat(&mut bed);
    assert_eq!(new.owned.len(), 4);
}
