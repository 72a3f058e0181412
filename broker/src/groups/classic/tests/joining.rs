//! Who may join, and when a group goes on without the rest.

use super::*;

#[test]
fn the_first_members_are_waited_for_while_more_come() {
    let mut bed = Bed::new();
    let first = bed.join(&Says::new());
    bed.pass(Duration::from_millis(2_900));
    let second = bed.join(&Says::new());
    bed.pass(Duration::from_millis(2_900));
    assert!(bed.joined(first).is_none(), "the second member has extended the wait");
    bed.pass(Duration::from_millis(200));
    let (first, second) = (bed.joined(first).unwrap(), bed.joined(second).unwrap());
    assert_eq!((first.generation_id, second.generation_id), (1, 1));
    assert_eq!(first.leader, first.member_id);
    assert_eq!(first.members.len(), 2);
    assert!(second.members.is_empty(), "only the leader is told who else there is");
    assert_eq!(first.protocol_name.as_deref(), Some("range"));
    assert_eq!(bed.began(), [Why::MemberJoined]);
}

#[test]
fn the_first_wait_ends_with_the_rebalance_timeout() {
    let mut bed = Bed::new();
    let says = Says { rebalance_ms: 7_000, ..Says::new() };
    let first = bed.join(&says);
    for _ in 0..3 {
        bed.pass(Duration::from_millis(2_300));
        bed.join(&says);
    }
    assert!(bed.joined(first).is_none());
    bed.pass(Duration::from_millis(100));
    assert!(bed.joined(first).is_some(), "members that come without end do not keep the first waiting");
}

#[test]
fn a_group_without_a_first_wait_begins_at_once() {
    let mut bed = Bed::new();
    bed.settings.initial_rebalance_delay = Duration::ZERO;
    let ticket = bed.join(&Says::new());
    bed.pass(Duration::ZERO);
    assert!(bed.joined(ticket).is_some());
}

#[test]
fn a_dynamic_member_comes_back_under_the_id_that_it_is_told() {
    let mut bed = Bed::new();
    let first = bed.join(&Says::new().version(4));
    let (told, id) = refusal(bed.joined(first));
    assert_eq!(told, ErrorCode::MemberIdRequired);
    assert!(id.starts_with("client-"), "{id}");
    assert_eq!(bed.group.members.len(), 0);
    let ticket = bed.join(&Says::again(&id));
    bed.pass(Duration::from_secs(3));
    assert_eq!(*bed.joined(ticket).unwrap().member_id, *id);
}

#[test]
fn an_id_that_nobody_uses_expires_and_leaves_nothing() {
    let mut bed = Bed::new();
    let first = bed.join(&Says::new().version(4));
    let (_, id) = refusal(bed.joined(first));
    assert!(!bed.group.is_vacant());
    bed.pass(Duration::from_secs(10));
    assert!(bed.group.is_vacant());
    let late = bed.join(&Says::again(&id));
    assert_eq!(refusal(bed.joined(late)).0, ErrorCode::UnknownMemberId);
}

#[test]
fn a_rebalance_waits_for_an_id_that_was_handed_out() {
    let (mut bed, ids, generation) = Bed::stable(1);
    let pending = bed.join(&Says::new().version(4));
    let (_, pending) = refusal(bed.joined(pending));
    assert_eq!(bed.heartbeat(&ids[0], generation), ErrorCode::None, "an id alone disturbs nobody");
    let leader = bed.join(&Says::again(&ids[0]));
    assert!(bed.joined(leader).is_none());
    let other = bed.join(&Says::again(&pending));
    assert!(bed.joined(leader).is_some() && bed.joined(other).is_some());
}

#[test]
fn a_member_without_a_protocol_that_all_speak_is_refused() {
    let (mut bed, ids, generation) = Bed::stable(1);
    let other = bed.join(&Says::new().speaking(&[("roundrobin", b"")]));
    assert_eq!(refusal(bed.joined(other)).0, ErrorCode::InconsistentGroupProtocol);
    assert_eq!(bed.heartbeat(&ids[0], generation), ErrorCode::None);
    let mut bed = Bed::new();
    let none = bed.join(&Says::new().speaking(&[]));
    assert_eq!(refusal(bed.joined(none)).0, ErrorCode::InconsistentGroupProtocol);
    assert!(bed.group.is_vacant(), "a refused member leaves no group behind");
}

#[test]
fn the_members_vote_among_what_all_speak() {
    let mut bed = Bed::new();
    let only_second = [("cooperative", &b"c"[..]), ("range", b"r")];
    let tickets = [
        bed.join(&Says::new().speaking(&[("range", b"r"), ("cooperative", b"c"), ("sticky", b"s")])),
        bed.join(&Says::new().speaking(&only_second)),
        bed.join(&Says::new().speaking(&only_second)),
    ];
    bed.pass(Duration::from_secs(6));
    for ticket in tickets {
        let reply = bed.joined(ticket).unwrap();
        assert_eq!(reply.protocol_name.as_deref(), Some("cooperative"));
        assert!(reply.members.iter().all(|member| &*member.metadata == b"c"));
    }
}

#[test]
fn a_full_group_refuses_new_members_and_keeps_the_old() {
    let (mut bed, ids, generation) = Bed::stable(2);
    bed.settings.members_max = 2;
    let third = bed.join(&Says::new());
    assert_eq!(refusal(bed.joined(third)).0, ErrorCode::GroupMaxSizeReached);
    assert_eq!(bed.heartbeat(&ids[0], generation), ErrorCode::None);
    bed.join(&Says::again(&ids[0]));
    let second = bed.join(&Says::again(&ids[1]));
    assert!(bed.joined(second).is_some_and(|reply| reply.error_code == 0));
}

#[test]
fn a_group_that_became_too_large_keeps_those_that_come_first() {
    let (mut bed, ids, _) = Bed::stable(3);
    bed.settings.members_max = 2;
    let value = bed.group.value();
    bed.group = ClassicGroup::replay(&"group".into(), &value);
    bed.turn(|group, turn, _| group.on_loaded(turn));
    assert_eq!(bed.began().last(), Some(&Why::OverCapacity));
    let first = bed.join(&Says::again(&ids[2]));
    let second = bed.join(&Says::again(&ids[1]));
    let third = bed.join(&Says::again(&ids[0]));
    assert_eq!(refusal(bed.joined(third)).0, ErrorCode::GroupMaxSizeReached);
    assert!(bed.joined(first).is_some_and(|reply| reply.error_code == 0));
    assert!(bed.joined(second).is_some());
}

#[test]
fn giant_metadata_is_refused_before_it_is_kept() {
    let mut bed = Bed::new();
    let metadata = vec![7; RECORD_BYTES_MAX + 1];
    let giant = bed.join(&Says::new().speaking(&[("range", &metadata)]));
    assert_eq!(refusal(bed.joined(giant)).0, ErrorCode::UnknownServerError);
    let tickets: Vec<Ticket> = (0..5)
        .map(|_| bed.join(&Says::new().speaking(&[("range", &metadata[..RECORD_BYTES_MAX - 100])])))
        .collect();
    assert_eq!(refusal(bed.joined(tickets[4])).0, ErrorCode::GroupMaxSizeReached);
    assert_eq!(bed.group.members.len(), 4);
}

#[test]
fn a_follower_that_says_the_same_gets_the_generation_again() {
    let (mut bed, ids, generation) = Bed::stable(2);
    let again = bed.join(&Says::again(&ids[1]));
    assert_eq!(bed.joined(again).unwrap().generation_id, generation);
    assert_eq!(bed.heartbeat(&ids[0], generation), ErrorCode::None);
}

#[test]
fn new_metadata_and_a_leader_that_joins_again_begin_a_rebalance() {
    let (mut bed, ids, generation) = Bed::stable(2);
    let follower = bed.join(&Says::again(&ids[1]).speaking(&[("range", b"other topics")]));
    assert_eq!(bed.heartbeat(&ids[0], generation), ErrorCode::RebalanceInProgress);
    let leader = bed.join(&Says::again(&ids[0]));
    let (_, generation) = bed.settle_now(&[leader, follower]);
    let leader = bed.join(&Says::again(&ids[0]));
    assert!(bed.joined(leader).is_none());
    assert_eq!(bed.heartbeat(&ids[1], generation), ErrorCode::RebalanceInProgress);
    assert_eq!(bed.began()[1..], [Why::MetadataChanged, Why::LeaderRejoined]);
}

#[test]
fn whoever_asks_twice_is_answered_twice() {
    let (mut bed, ids, _) = Bed::stable(2);
    let first = bed.join(&Says::again(&ids[0]));
    let retry = bed.join(&Says::again(&ids[0]));
    assert_eq!(refusal(bed.joined(first)).0, ErrorCode::RebalanceInProgress);
    bed.join(&Says::again(&ids[1]));
    assert_eq!(bed.joined(retry).unwrap().error_code, 0);
}

#[test]
fn a_lost_reply_to_a_join_is_given_again() {
    let (mut bed, ids, _) = Bed::stable(2);
    let leader = bed.join(&Says::again(&ids[0]));
    bed.join(&Says::again(&ids[1]));
    let told = bed.joined(leader).unwrap();
    let retry = bed.join(&Says::again(&ids[0]));
    assert_eq!(bed.joined(retry).unwrap(), told);
}

#[test]
fn version_0_waits_as_long_as_a_session() {
    let mut bed = Bed::new();
    let says = Says { rebalance_ms: -1, ..Says::new() }.version(0);
    let ticket = bed.join(&says);
    bed.settle(&[ticket]);
    let timeouts = bed.group.members.iter().next().unwrap().timeouts;
    assert_eq!(timeouts.rebalance, timeouts.session);
}

#[test]
fn ids_that_were_handed_out_are_limited() {
    let mut bed = Bed::new();
    for _ in 0..super::super::PENDING_MAX {
        bed.join(&Says::new().version(4));
        bed.fx.replies.clear();
    }
    let more = bed.join(&Says::new().version(4));
    assert_eq!(refusal(bed.joined(more)).0, ErrorCode::GroupMaxSizeReached);
}
