//! What happens to members that are silent.

use super::*;

#[test]
fn a_silent_member_is_out_and_the_others_divide_anew() {
    let (mut bed, ids, generation) = Bed::stable(2);
    for _ in 0..3 {
        bed.pass(Duration::from_secs(4));
        let _ = bed.heartbeat(&ids[0], generation);
    }
    assert_eq!(bed.group.members.len(), 1);
    assert_eq!(bed.heartbeat(&ids[0], generation), ErrorCode::RebalanceInProgress);
    assert_eq!(bed.began().last(), Some(&Why::SessionExpired));
    assert_eq!(bed.heartbeat(&ids[1], generation), ErrorCode::UnknownMemberId);
}

#[test]
fn a_commit_is_a_sign_of_life() {
    let (mut bed, ids, generation) = Bed::stable(1);
    for _ in 0..5 {
        bed.pass(Duration::from_secs(8));
        assert_eq!(bed.commit(&ids[0], generation), ErrorCode::None);
    }
}

#[test]
fn whoever_waits_for_us_does_not_expire() {
    let (mut bed, ids, generation) = Bed::stable(2);
    let leader = bed.join(&Says::again(&ids[0]));
    for _ in 0..5 {
        bed.pass(Duration::from_secs(9));
        assert_eq!(bed.heartbeat(&ids[1], generation), ErrorCode::RebalanceInProgress);
    }
    assert!(bed.joined(leader).is_none());
    assert_eq!(bed.group.members.len(), 2);
}

#[test]
fn who_does_not_join_again_in_time_is_out() {
    let (mut bed, ids, generation) = Bed::stable(2);
    let follower = bed.join(&Says::again(&ids[1]).speaking(&[("range", b"new")]));
    for _ in 0..60 {
        bed.pass(Duration::from_secs(1));
        let _ = bed.heartbeat(&ids[0], generation);
    }
    let reply = bed.joined(follower).unwrap();
    assert_eq!(*reply.leader, *ids[1], "the leader did not come back");
    assert_eq!(reply.members.len(), 1);
    assert!(bed.fx.notes.iter().any(|note| matches!(note, Note::DidNotRejoin { .. })));
}

#[test]
fn who_does_not_sync_in_time_is_out() {
    let (mut bed, ids, _) = Bed::stable(2);
    let leader = bed.join(&Says::again(&ids[0]));
    bed.join(&Says::again(&ids[1]));
    let generation = bed.joined(leader).unwrap().generation_id;
    bed.sync((&ids[0], generation), &[]);
    for _ in 0..60 {
        bed.pass(Duration::from_secs(1));
        let _ = bed.heartbeat(&ids[0], generation);
        let _ = bed.heartbeat(&ids[1], generation);
    }
    assert_eq!(bed.group.members.len(), 1);
    assert_eq!(bed.began().last(), Some(&Why::SyncExpired));
}

#[test]
fn the_first_join_of_a_client_that_went_away_ends() {
    let mut bed = Bed::new();
    let says = Says { rebalance_ms: 3_600_000, ..Says::new() };
    let ticket = bed.join(&says);
    let (ids, generation) = bed.settle(&[ticket]);
    let gone = bed.join(&says);
    for _ in 0..301 {
        bed.pass(Duration::from_secs(1));
        let _ = bed.heartbeat(&ids[0], generation);
    }
    assert_eq!(refusal(bed.joined(gone)), (ErrorCode::UnknownMemberId, String::new()));
    assert_eq!(bed.group.members.len(), 1);
}

#[test]
fn a_group_of_static_members_waits_without_spinning() {
    let mut bed = Bed::new();
    let ticket = bed.join(&Says::named("a"));
    bed.settle(&[ticket]);
    bed.join(&Says { rebalance_ms: 0, session_ms: 30_000, ..Says::named("a") });
    bed.turn(|group, turn, _| {
        let cause = group.cause_of(Why::OverCapacity, "");
        group.begin(cause, turn);
    });
    let mut wakes = 0;
    while !bed.group.members.is_empty() {
        bed.now.steady = bed.group.next_deadline().unwrap().max(bed.now.steady);
        bed.turn(|group, turn, _| group.expire(turn));
        wakes += 1;
        assert!(wakes < 50, "a wait of no time is not repeated without a pause");
    }
}
