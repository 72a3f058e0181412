//! Members that go.

use super::*;

#[test]
fn the_last_member_leaves_an_empty_group_that_is_stored() {
    let (mut bed, ids, generation) = Bed::stable(1);
    assert_eq!(bed.leave(&[(&ids[0], None)]), [ErrorCode::None]);
    assert_eq!((bed.group.state(), bed.group.generation), ("Empty", generation + 1));
    assert_eq!(bed.fx.records.len(), 2);
    assert_eq!(bed.heartbeat(&ids[0], generation), ErrorCode::UnknownMemberId);
    assert!(!bed.group.is_vacant());
}

#[test]
fn members_that_leave_together_cost_one_rebalance() {
    let (mut bed, ids, generation) = Bed::stable(3);
    let codes = bed.leave(&[(&ids[0], None), ("who", None), (&ids[1], None)]);
    assert_eq!(codes, [ErrorCode::None, ErrorCode::UnknownMemberId, ErrorCode::None]);
    assert_eq!(bed.began()[1..], [Why::MemberLeft]);
    assert_eq!(bed.heartbeat(&ids[2], generation), ErrorCode::RebalanceInProgress);
    let heir = bed.join(&Says::again(&ids[2]));
    assert_eq!(*bed.joined(heir).unwrap().leader, *ids[2]);
}

#[test]
fn a_rebalance_does_not_wait_for_who_left() {
    let (mut bed, ids, _) = Bed::stable(2);
    let leader = bed.join(&Says::again(&ids[0]));
    assert!(bed.joined(leader).is_none());
    bed.leave(&[(&ids[1], None)]);
    assert_eq!(bed.joined(leader).unwrap().members.len(), 1);
}

#[test]
fn a_member_that_leaves_while_it_joins_is_told() {
    let (mut bed, ids, _) = Bed::stable(2);
    let joins = bed.join(&Says::again(&ids[0]));
    bed.leave(&[(&ids[0], None)]);
    assert_eq!(refusal(bed.joined(joins)), (ErrorCode::UnknownMemberId, String::new()));
}

#[test]
fn an_id_that_was_handed_out_is_given_back() {
    let (mut bed, ids, _) = Bed::stable(1);
    let pending = bed.join(&Says::new().version(4));
    let (_, pending) = refusal(bed.joined(pending));
    let leader = bed.join(&Says::again(&ids[0]));
    assert_eq!(bed.leave(&[(&pending, None)]), [ErrorCode::None]);
    assert!(bed.joined(leader).is_some());
}

#[test]
fn an_id_that_nobody_joined_with_costs_no_rebalance_when_it_is_given_back() {
    let (mut bed, ids, generation) = Bed::stable(1);
    let pending = bed.join(&Says::new().version(4));
    let (_, pending) = refusal(bed.joined(pending));
    assert_eq!(bed.leave(&[(&pending, None)]), [ErrorCode::None]);
    assert_eq!(bed.group.state(), "Stable");
    assert_eq!(bed.heartbeat(&ids[0], generation), ErrorCode::None);
}
