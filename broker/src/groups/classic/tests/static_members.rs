//! Members with a name of their own (KIP-345).

use super::*;

fn stable_pair() -> (Bed, Vec<String>, i32) {
    let mut bed = Bed::new();
    let tickets = [bed.join(&Says::named("a")), bed.join(&Says::named("b"))];
    let (ids, generation) = bed.settle(&tickets);
    (bed, ids, generation)
}

#[test]
fn a_static_member_is_taken_in_at_once_under_an_id_with_its_name() {
    let (_, ids, _) = stable_pair();
    assert!(ids[0].starts_with("a-") || ids[0].starts_with("b-"), "{}", ids[0]);
}

#[test]
fn a_static_member_comes_back_without_a_rebalance() {
    let (mut bed, ids, generation) = stable_pair();
    let name = &ids[1][..1].to_owned();
    let back = bed.join(&Says::named(name));
    let reply = bed.joined(back).unwrap();
    assert_eq!((reply.error_code, reply.generation_id), (0, generation));
    assert_ne!(*reply.member_id, *ids[1]);
    assert_eq!(*reply.leader, *ids[0]);
    let sync = bed.sync((&reply.member_id, generation), &[]);
    assert_eq!(&*bed.synced(sync).unwrap().assignment, ids[1].as_bytes(), "it keeps its part");
    assert_eq!(bed.heartbeat(&ids[0], generation), ErrorCode::None);
    assert_eq!(bed.fx.records.len(), 2, "its new id is stored");
}

#[test]
fn the_one_that_was_replaced_is_fenced() {
    let (mut bed, ids, generation) = stable_pair();
    let name = ids[1][..1].to_owned();
    bed.join(&Says::named(&name));
    let told = bed.turn(|group, turn, _| group.heartbeat((&ids[1], Some(&name)), generation, turn)).0;
    assert_eq!(told, Err(ErrorCode::FencedInstanceId));
    let told = bed.turn(|group, turn, _| group.heartbeat((&ids[1], Some("c")), generation, turn)).0;
    assert_eq!(told, Err(ErrorCode::UnknownMemberId));
    let again = bed.join(&Says { member: ids[1].clone(), ..Says::named(&name) });
    assert_eq!(refusal(bed.joined(again)).0, ErrorCode::FencedInstanceId);
    assert_eq!(bed.leave(&[(&ids[1], Some(&name))]), [ErrorCode::FencedInstanceId]);
    assert!(bed.fx.notes.iter().any(|note| matches!(note, Note::Fenced { .. })));
}

#[test]
fn a_leader_that_comes_back_divides_nothing() {
    let (mut bed, ids, generation) = stable_pair();
    let name = ids[0][..1].to_owned();
    let back = bed.join(&Says::named(&name));
    let reply = bed.joined(back).unwrap();
    assert!(reply.skip_assignment);
    assert_eq!((&reply.leader, reply.members.len()), (&reply.member_id, 2));
    let back = bed.join(&Says::named(&name).version(8));
    let reply_8 = bed.joined(back).unwrap();
    assert!(!reply_8.skip_assignment && reply_8.members.is_empty());
    assert_eq!(reply_8.leader, reply.member_id, "an old client takes itself for a follower");
    assert_eq!(bed.heartbeat(&ids[1], generation), ErrorCode::None);
}

#[test]
fn a_static_member_that_changes_the_election_begins_a_rebalance() {
    let mut bed = Bed::new();
    let both = [("range", &b"r"[..]), ("sticky", b"s")];
    let tickets = [bed.join(&Says::named("a").speaking(&both)), bed.join(&Says::named("b").speaking(&both))];
    let (ids, generation) = bed.settle(&tickets);
    let back = bed.join(&Says::named("b").speaking(&[("sticky", b"s")]));
    assert!(bed.joined(back).is_none());
    let other = ids.iter().find(|id| id.starts_with('a')).unwrap();
    assert_eq!(bed.heartbeat(other, generation), ErrorCode::RebalanceInProgress);
    assert_eq!(bed.began().last(), Some(&Why::StaticReplaced));
}

#[test]
fn a_replaced_member_that_waits_is_fenced() {
    let mut bed = Bed::new();
    let first = bed.join(&Says::named("a"));
    let second = bed.join(&Says::named("a"));
    assert_eq!(refusal(bed.joined(first)).0, ErrorCode::FencedInstanceId);
    bed.pass(Duration::from_secs(6));
    assert!(bed.joined(second).is_some());
    assert_eq!(bed.group.members.len(), 1);
}

#[test]
fn a_static_member_stays_until_its_session_ends() {
    let (mut bed, ids, _) = stable_pair();
    let leader = bed.join(&Says { member: ids[0].clone(), ..Says::named(&ids[0][..1]) });
    for _ in 0..12 {
        bed.pass(Duration::from_secs(5));
        let name = ids[1][..1].to_owned();
        let _ = bed.turn(|group, turn, _| group.heartbeat((&ids[1], Some(&name)), 1, turn));
    }
    let reply = bed.joined(leader).unwrap();
    assert_eq!(reply.members.len(), 2, "it did not join again, and keeps its place");
    bed.sync((&ids[0], reply.generation_id), &[]);
    bed.pass(Duration::from_secs(5));
    assert_eq!(bed.heartbeat(&ids[0], reply.generation_id), ErrorCode::None);
    bed.pass(Duration::from_secs(6));
    assert_eq!(bed.group.members.len(), 1);
}

#[test]
fn an_admin_takes_a_static_member_out_by_its_name() {
    let (mut bed, _, _) = stable_pair();
    let codes = bed.leave(&[("", Some("a")), ("", Some("c")), ("", None)]);
    assert_eq!(codes, [ErrorCode::None, ErrorCode::UnknownMemberId, ErrorCode::UnknownMemberId]);
    assert_eq!(bed.group.members.len(), 1);
}
