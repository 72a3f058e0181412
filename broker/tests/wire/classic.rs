//! The classic group protocol through sockets: joins that wait, all versions, and a restart in the middle.

use std::time::Duration;

use bytes::Bytes;
use millstream_protocol::messages::describe_groups_response::DescribedGroup;
use millstream_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use millstream_protocol::messages::leave_group_request::MemberIdentity;
use millstream_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use millstream_protocol::messages::{
    DescribeGroupsRequest, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    SyncGroupRequest,
};
use millstream_protocol::{ErrorCode, KStr};

use super::bed::{Bed, Client};

/// Groups that wait for nobody.
fn bed() -> Bed {
    Bed::with(&[("group.initial.rebalance.delay.ms", "0")])
}

fn joining(member: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        member_id: member.into(),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: Bytes::from_static(b"mine"),
        }],
        ..JoinGroupRequest::default()
    }
}

fn syncing(joined: &JoinGroupResponse, parts: &[(&KStr, &'static str)]) -> SyncGroupRequest {
    let assignments = parts.iter().map(|(member, part)| SyncGroupRequestAssignment {
        member_id: (*member).clone(),
        assignment: Bytes::from_static(part.as_bytes()),
    });
    SyncGroupRequest {
        group_id: "g".into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignments: assignments.collect(),
        ..SyncGroupRequest::default()
    }
}

fn join(client: &mut Client, version: i16, request: &JoinGroupRequest) -> JoinGroupResponse {
    loop {
        let reply = client.call(version, request);
        if reply.error_code != ErrorCode::CoordinatorLoadInProgress.code() {
            return reply;
        }
    }
}

/// Joins as a new member does, in one or two steps.
fn join_anew(client: &mut Client, version: i16) -> JoinGroupResponse {
    let reply = join(client, version, &joining(""));
    if reply.error_code != ErrorCode::MemberIdRequired.code() {
        return reply;
    }
    assert!(version >= 4);
    join(client, version, &joining(&reply.member_id))
}

fn heartbeat(client: &mut Client, joined: &JoinGroupResponse) -> ErrorCode {
    let request = HeartbeatRequest {
        group_id: "g".into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..HeartbeatRequest::default()
    };
    ErrorCode::from_code(client.call(3, &request).error_code).unwrap()
}

fn described(client: &mut Client, version: i16, group: &str) -> DescribedGroup {
    let request =
        DescribeGroupsRequest { groups: vec![group.into()], include_authorized_operations: version >= 3 };
    client.call(version, &request).groups.swap_remove(0)
}

#[test]
fn one_member_goes_through_the_protocol_in_every_version() {
    let bed = bed();
    let mut client = bed.client();
    for version in 0..=9 {
        let joined = join_anew(&mut client, version);
        assert_eq!((joined.error_code, joined.members.len()), (0, 1), "version {version}");
        assert_eq!(joined.leader, joined.member_id);
        assert!(joined.member_id.starts_with("test-"), "{}", joined.member_id);
        let synced = client.call(version.min(5), &syncing(&joined, &[(&joined.member_id, "part")]));
        assert_eq!((synced.error_code, &*synced.assignment), (0, &b"part"[..]));
        assert_eq!(heartbeat(&mut client, &joined), ErrorCode::None);
        let member = MemberIdentity { member_id: joined.member_id.clone(), ..Default::default() };
        let leaving = match version {
            ..=2 => LeaveGroupRequest { member_id: member.member_id, ..Default::default() },
            3.. => LeaveGroupRequest { members: vec![member], ..Default::default() },
        };
        let leaving = LeaveGroupRequest { group_id: "g".into(), ..leaving };
        let left = client.call(version.min(5), &leaving);
        assert_eq!(left.error_code, 0);
        assert!(left.members.iter().all(|member| member.error_code == 0));
        let again = client.call(version.min(5), &leaving);
        let code = if version < 3 { again.error_code } else { again.members[0].error_code };
        assert_eq!(code, ErrorCode::UnknownMemberId.code());
    }
}

#[test]
fn a_second_member_is_let_in_and_both_get_their_parts() {
    let bed = bed();
    let (mut one, mut two) = (bed.client(), bed.client());
    let first = join_anew(&mut one, 9);
    one.call(5, &syncing(&first, &[]));
    let told = two.call(9, &joining(""));
    two.send(9, &joining(&told.member_id));
    while heartbeat(&mut one, &first) != ErrorCode::RebalanceInProgress {}
    let leads = join(&mut one, 9, &joining(&first.member_id));
    let (_, follows) = two.receive::<JoinGroupRequest>(9);
    assert_eq!(
        (leads.generation_id, follows.generation_id),
        (first.generation_id + 1, first.generation_id + 1)
    );
    assert_eq!((leads.members.len(), follows.members.len()), (2, 0));
    two.send(5, &syncing(&follows, &[]));
    let parts = [(&leads.member_id, "one"), (&follows.member_id, "two")];
    assert_eq!(&*one.call(5, &syncing(&leads, &parts)).assignment, b"one");
    assert_eq!(&*two.receive::<SyncGroupRequest>(5).1.assignment, b"two");
    let group = described(&mut one, 5, "g");
    assert_eq!((&*group.group_state, &*group.protocol_data, group.members.len()), ("Stable", "range", 2));
    assert_eq!((&*group.members[0].client_id, &*group.members[0].client_host), ("test", "/127.0.0.1"));
    assert_ne!(group.authorized_operations, i32::MIN);
}

#[test]
fn members_go_on_after_a_restart() {
    let mut bed = bed();
    let joined = join_anew(&mut bed.client(), 9);
    let parts = [(&joined.member_id, "kept")];
    assert_eq!(bed.client().call(5, &syncing(&joined, &parts)).error_code, 0);
    bed.stop();
    bed.start();
    let mut client = bed.client();
    assert_eq!(heartbeat(&mut client, &joined), ErrorCode::None);
    let mut synced = client.call(5, &syncing(&joined, &[]));
    while synced.error_code == ErrorCode::CoordinatorLoadInProgress.code() {
        synced = client.call(5, &syncing(&joined, &[]));
    }
    assert_eq!(&*synced.assignment, b"kept");
    assert_eq!(described(&mut client, 6, "g").members.len(), 1);
}

#[test]
fn a_member_that_says_nothing_is_out_when_its_session_ends() {
    let bed =
        Bed::with(&[("group.initial.rebalance.delay.ms", "0"), ("group.min.session.timeout.ms", "100")]);
    let mut client = bed.client();
    let request = JoinGroupRequest { session_timeout_ms: 100, ..joining("") };
    let joined = join(&mut client, 3, &request);
    client.call(5, &syncing(&joined, &[]));
    let mut asked = 0;
    while &*described(&mut client, 5, "g").group_state != "Empty" {
        asked += 1;
        assert!(asked < 1_000_000);
    }
    assert_eq!(heartbeat(&mut client, &joined), ErrorCode::UnknownMemberId);
}

#[test]
fn what_cannot_be_served_is_refused_with_kafkas_code() {
    let bed = bed();
    let mut client = bed.client();
    let told = |reply: JoinGroupResponse| ErrorCode::from_code(reply.error_code).unwrap();
    let no_group = JoinGroupRequest { group_id: KStr::default(), ..joining("") };
    assert_eq!(told(client.call(9, &no_group)), ErrorCode::InvalidGroupId);
    for session_timeout_ms in [0, 5_999, 1_800_001, -1, i32::MAX] {
        let request = JoinGroupRequest { session_timeout_ms, ..joining("") };
        assert_eq!(told(client.call(9, &request)), ErrorCode::InvalidSessionTimeout);
    }
    assert_eq!(told(join(&mut client, 9, &joining("nobody"))), ErrorCode::UnknownMemberId);
    let nothing = JoinGroupRequest { protocols: Vec::new(), ..joining("") };
    assert_eq!(told(client.call(9, &nothing)), ErrorCode::InconsistentGroupProtocol);
    let sync = SyncGroupRequest { group_id: "g".into(), ..SyncGroupRequest::default() };
    assert_eq!(client.call(5, &sync).error_code, ErrorCode::InconsistentGroupProtocol.code());
    assert_eq!(client.call(4, &sync).error_code, ErrorCode::UnknownMemberId.code());
    let nobody = HeartbeatRequest { group_id: "g".into(), ..HeartbeatRequest::default() };
    assert_eq!(client.call(4, &nobody).error_code, ErrorCode::UnknownMemberId.code());
    assert_eq!(client.call(4, &HeartbeatRequest::default()).error_code, ErrorCode::InvalidGroupId.code());
    let unknown = described(&mut client, 5, "none");
    assert_eq!((&*unknown.group_state, unknown.error_code), ("Dead", 0));
    let unknown = described(&mut client, 6, "none");
    assert_eq!(unknown.error_code, ErrorCode::GroupIdNotFound.code());
    assert_eq!(unknown.error_message.as_deref(), Some("Group none not found."));
}

#[test]
fn a_join_that_waits_holds_nobody_up_but_its_own_connection() {
    let bed = Bed::with(&[("group.initial.rebalance.delay.ms", "600000")]);
    let (mut one, mut two) = (bed.client(), bed.client());
    let told = join(&mut one, 9, &joining(""));
    one.send(9, &joining(&told.member_id));
    let other = JoinGroupRequest { group_id: "other".into(), ..joining("") };
    assert_eq!(join(&mut two, 9, &other).error_code, ErrorCode::MemberIdRequired.code());
    one.stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut byte = [0];
    assert!(std::io::Read::read(&mut one.stream, &mut byte).is_err(), "it waits");
}
