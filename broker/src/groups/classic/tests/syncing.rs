//! The leader's assignment reaches those that it is for.

use super::*;

#[test]
fn everybody_waits_for_the_leader() {
    let mut bed = Bed::new();
    let tickets = [bed.join(&Says::new()), bed.join(&Says::new())];
    bed.pass(Duration::from_secs(6));
    let leader = bed.joined(tickets[0]).unwrap();
    let follower = bed.joined(tickets[1]).unwrap();
    let waits = bed.sync((&follower.member_id, 1), &[]);
    assert!(bed.synced(waits).is_none());
    assert_eq!(bed.group.state(), "CompletingRebalance");
    assert_eq!(bed.heartbeat(&follower.member_id, 1), ErrorCode::None);
    assert_eq!(bed.commit(&follower.member_id, 1), ErrorCode::RebalanceInProgress);
    let led = bed.sync((&leader.member_id, 1), &[(&leader.member_id, "one")]);
    assert_eq!(&*bed.synced(led).unwrap().assignment, b"one");
    let waited = bed.synced(waits).unwrap();
    assert_eq!((waited.error_code, waited.assignment.len()), (0, 0), "the leader left it out");
    assert_eq!(waited.protocol_type.as_deref(), Some("consumer"));
    assert_eq!(bed.commit(&follower.member_id, 1), ErrorCode::None);
    assert_eq!(bed.fx.records.len(), 1);
}

#[test]
fn a_second_sync_changes_nothing() {
    let (mut bed, ids, generation) = Bed::stable(2);
    for id in &ids {
        let again = bed.sync((id, generation), &[(&ids[0], "other"), (&ids[1], "other")]);
        assert_eq!(&*bed.synced(again).unwrap().assignment, id.as_bytes());
    }
    assert_eq!(bed.fx.records.len(), 1);
}

#[test]
fn a_sync_names_the_generation_and_the_protocol_that_it_is_about() {
    let (mut bed, ids, generation) = Bed::stable(1);
    let mut ask = |request: SyncGroupRequest| {
        let ticket = bed.turn(|group, turn, ticket| group.sync(turn, ticket, &request)).1;
        code(bed.synced(ticket).unwrap().error_code)
    };
    let right = SyncGroupRequest {
        member_id: ids[0].as_str().into(),
        generation_id: generation,
        ..SyncGroupRequest::default()
    };
    assert_eq!(ask(right.clone()), ErrorCode::None);
    assert_eq!(
        ask(SyncGroupRequest { generation_id: generation - 1, ..right.clone() }),
        ErrorCode::IllegalGeneration
    );
    assert_eq!(
        ask(SyncGroupRequest { member_id: "who".into(), ..right.clone() }),
        ErrorCode::UnknownMemberId
    );
    let other = SyncGroupRequest { protocol_name: Some("other".into()), ..right.clone() };
    assert_eq!(ask(other), ErrorCode::InconsistentGroupProtocol);
    let other = SyncGroupRequest { protocol_type: Some("connect".into()), ..right };
    assert_eq!(ask(other), ErrorCode::InconsistentGroupProtocol);
}

#[test]
fn whoever_waits_for_an_assignment_joins_again_when_the_group_changes() {
    let (mut bed, ids, _) = Bed::stable(2);
    let leader = bed.join(&Says::again(&ids[0]));
    bed.join(&Says::again(&ids[1]));
    let generation = bed.joined(leader).unwrap().generation_id;
    let waits = bed.sync((&ids[1], generation), &[]);
    bed.join(&Says::new());
    assert_eq!(code(bed.synced(waits).unwrap().error_code), ErrorCode::RebalanceInProgress);
    let late = bed.sync((&ids[0], generation), &[(&ids[1], "part")]);
    assert_eq!(code(bed.synced(late).unwrap().error_code), ErrorCode::RebalanceInProgress);
}

#[test]
fn a_member_that_is_taken_out_while_it_waits_for_its_assignment_is_told() {
    let (mut bed, ids, _) = Bed::stable(2);
    let leader = bed.join(&Says::again(&ids[0]));
    bed.join(&Says::again(&ids[1]));
    let generation = bed.joined(leader).unwrap().generation_id;
    let waits = bed.sync((&ids[1], generation), &[]);
    assert_eq!(bed.leave(&[(&ids[1], None)]), [ErrorCode::None]);
    assert_eq!(code(bed.synced(waits).unwrap().error_code), ErrorCode::UnknownMemberId);
}

#[test]
fn an_assignment_that_cannot_be_stored_is_refused() {
    let (mut bed, ids, _) = Bed::stable(2);
    let leader = bed.join(&Says::again(&ids[0]));
    bed.join(&Says::again(&ids[1]));
    let generation = bed.joined(leader).unwrap().generation_id;
    let waits = bed.sync((&ids[1], generation), &[]);
    let led = bed.sync((&ids[0], generation), &[(&ids[1], &"x".repeat(RECORD_BYTES_MAX))]);
    for ticket in [waits, led] {
        assert_eq!(code(bed.synced(ticket).unwrap().error_code), ErrorCode::UnknownServerError);
    }
    assert_eq!(bed.group.state(), "PreparingRebalance");
    assert_eq!(bed.began().last(), Some(&Why::TooLarge));
    assert_eq!(bed.fx.records.len(), 1, "nothing was stored but the first generation");
}

#[test]
fn a_generation_that_is_over_commits_nothing() {
    let (mut bed, ids, generation) = Bed::stable(1);
    assert_eq!(bed.commit(&ids[0], generation), ErrorCode::None);
    assert_eq!(bed.commit(&ids[0], generation - 1), ErrorCode::IllegalGeneration);
    assert_eq!(bed.commit("who", generation), ErrorCode::UnknownMemberId);
    assert_eq!(bed.commit("", -1), ErrorCode::UnknownMemberId, "the group has members");
    assert_eq!(Bed::new().commit("", -1), ErrorCode::None);
}
