//! Who is let in, and under which id, epoch and instance.

use super::*;
use crate::groups::assignor::Assignor;
use crate::groups::consumer::check_request;

#[test]
fn the_first_member_gets_everything_at_once() {
    let mut bed = Bed::new(&[("a", 3)]);
    let mut one = Client::new("one", &["a", "not-there"]);
    let response = bed.heartbeat(one.full());
    one.hear(&response);
    assert_eq!((one.epoch, one.owned.len()), (1, 3));
    let described = &bed.describe().members[0];
    let absent = (&described.instance_id, &described.rack_id, &described.subscribed_topic_regex);
    assert_eq!(absent, (&None, &None, &None), "what was not said is absent, not empty");
    assert_eq!(response.heartbeat_interval_ms, 300, "while it changes members come often");
    bed.pass(Duration::from_secs(4));
    let quiet = bed.heartbeat(one.short());
    assert_eq!((quiet.heartbeat_interval_ms, quiet.assignment), (750, None));
    assert_eq!(bed.group().state(), "Stable");
    bed.check_replay("one member");
}

#[test]
fn a_heartbeat_with_nothing_new_stores_nothing() {
    let mut bed = Bed::new(&[("a", 3)]);
    let mut one = Client::new("one", &["a"]);
    one.join(&mut bed);
    let stored = bed.log.len();
    one.beat(&mut bed);
    bed.heartbeat(one.full());
    assert_eq!(bed.log.len(), stored);
}

#[test]
fn epochs_and_ids_that_are_wrong_are_fenced() {
    let mut bed = Bed::new(&[("a", 3)]);
    let (mut one, mut two) = (Client::new("one", &["a"]), Client::new("two", &["a"]));
    one.epoch = 3;
    assert_eq!(code(&bed.heartbeat(one.short())), ErrorCode::GroupIdNotFound);
    assert!(bed.shard.group(GROUP).is_none(), "a refused member leaves no group behind");
    one.join(&mut bed);
    two.epoch = 1;
    assert_eq!(code(&bed.heartbeat(two.short())), ErrorCode::UnknownMemberId);
    let ahead = ConsumerGroupHeartbeatRequest { member_epoch: 9, ..one.short() };
    assert_eq!(code(&bed.heartbeat(ahead)), ErrorCode::FencedMemberEpoch);
    two.join(&mut bed);
    settle(&mut bed, &mut [&mut one, &mut two]);
    let behind = ConsumerGroupHeartbeatRequest { member_epoch: 1, topic_partitions: None, ..one.short() };
    assert_eq!(code(&bed.heartbeat(behind)), ErrorCode::FencedMemberEpoch, "it did not say what it owns");
    bed.check_replay("after refusals");
}

#[test]
fn a_member_that_did_not_get_the_reply_may_come_as_it_was() {
    let mut bed = Bed::new(&[("a", 4)]);
    let (mut one, mut two) = (Client::new("one", &["a"]), Client::new("two", &["a"]));
    one.join(&mut bed);
    two.join(&mut bed);
    one.beat(&mut bed);
    // The reply that takes it to epoch 2 is lost.
    let before = one.clone();
    one.beat(&mut bed);
    assert_eq!((before.epoch, one.epoch), (1, 2));
    let repeated = bed.heartbeat(before.short());
    assert_eq!((code(&repeated), repeated.member_epoch), (ErrorCode::None, 2));
}

#[test]
fn a_full_group_lets_nobody_in() {
    let mut bed = Bed::new(&[("a", 3)]);
    bed.settings.consumer.members_max = 1;
    Client::new("one", &["a"]).join(&mut bed);
    let refused = bed.heartbeat(Client::new("two", &["a"]).full());
    assert_eq!(code(&refused), ErrorCode::GroupMaxSizeReached);
    assert!(refused.error_message.unwrap().contains('1'));
}

#[test]
fn a_static_member_gets_back_what_it_had_and_nobody_notices() {
    let mut bed = Bed::new(&[("a", 4)]);
    let mut one = Client::new("one", &["a"]).named("i");
    let mut two = Client::new("two", &["a"]);
    one.join(&mut bed);
    two.join(&mut bed);
    settle(&mut bed, &mut [&mut one, &mut two]);
    let had = one.owned.clone();

    let mut again = Client::new("one-again", &["a"]).named("i");
    assert_eq!(code(&bed.heartbeat(again.full())), ErrorCode::UnreleasedInstanceId);
    assert_eq!(code(&bed.heartbeat(one.leaving(-2))), ErrorCode::None);
    let epoch = bed.group().epoch;
    two.beat(&mut bed);
    again.join(&mut bed);
    assert_eq!(again.owned, had);
    assert_eq!((bed.group().epoch, again.epoch), (epoch, epoch), "no rebalance");
    assert_eq!(code(&bed.heartbeat(one.short())), ErrorCode::FencedInstanceId);
    assert_eq!(code(&bed.heartbeat(one.leaving(-2))), ErrorCode::FencedInstanceId);
    bed.check_replay("a static member replaced");
}

#[test]
fn a_static_member_that_does_not_come_back_loses_what_it_had_after_its_session() {
    let mut bed = Bed::new(&[("a", 4)]);
    let mut one = Client::new("one", &["a"]).named("i");
    let mut two = Client::new("two", &["a"]);
    one.join(&mut bed);
    two.join(&mut bed);
    settle(&mut bed, &mut [&mut one, &mut two]);
    bed.heartbeat(one.leaving(-2));
    for _ in 0..10 {
        bed.pass(Duration::from_secs(5));
        two.beat(&mut bed);
    }
    two.beat(&mut bed);
    assert_eq!(two.owned.len(), 4);
}

#[test]
fn members_leave_and_the_last_leaves_an_empty_group() {
    let mut bed = Bed::new(&[("a", 4)]);
    let (mut one, mut two) = (Client::new("one", &["a"]), Client::new("two", &["a"]));
    one.join(&mut bed);
    two.join(&mut bed);
    settle(&mut bed, &mut [&mut one, &mut two]);
    let left = bed.heartbeat(one.leaving(-1));
    assert_eq!((code(&left), left.member_epoch), (ErrorCode::None, -1));
    two.beat(&mut bed);
    assert_eq!(two.owned.len(), 4);
    bed.heartbeat(two.leaving(-1));
    assert_eq!(bed.group().state(), "Empty");
    assert_eq!(code(&bed.heartbeat(two.leaving(-1))), ErrorCode::UnknownMemberId);
    bed.check_replay("everybody left");
}

#[test]
fn requests_that_make_no_sense_are_refused_with_the_reason() {
    let good = Client::new("one", &["a"]).full();
    let refused = |request: ConsumerGroupHeartbeatRequest, version| {
        check_request(&request, version, &[Assignor::Uniform]).unwrap_err().code
    };
    assert_eq!(check_request(&good, 1, &[Assignor::Uniform]), Ok(()));
    let long = || KStr::from("x".repeat(40_000));
    let bad: [ConsumerGroupHeartbeatRequest; 12] = [
        ConsumerGroupHeartbeatRequest { member_id: long(), ..good.clone() },
        ConsumerGroupHeartbeatRequest { subscribed_topic_regex: Some(long()), ..good.clone() },
        ConsumerGroupHeartbeatRequest { subscribed_topic_names: Some(vec![long(); 30]), ..good.clone() },
        ConsumerGroupHeartbeatRequest { group_id: "".into(), ..good.clone() },
        ConsumerGroupHeartbeatRequest { member_id: "".into(), ..good.clone() },
        ConsumerGroupHeartbeatRequest { instance_id: Some("".into()), ..good.clone() },
        ConsumerGroupHeartbeatRequest { rack_id: Some("".into()), ..good.clone() },
        ConsumerGroupHeartbeatRequest { rebalance_timeout_ms: -1, ..good.clone() },
        ConsumerGroupHeartbeatRequest { topic_partitions: None, ..good.clone() },
        ConsumerGroupHeartbeatRequest { subscribed_topic_names: None, ..good.clone() },
        ConsumerGroupHeartbeatRequest { member_epoch: -2, ..good.clone() },
        ConsumerGroupHeartbeatRequest { member_epoch: -3, ..good.clone() },
    ];
    for request in bad {
        assert_eq!(refused(request.clone(), 1), ErrorCode::InvalidRequest);
    }
    let unnamed = ConsumerGroupHeartbeatRequest { member_id: "".into(), ..good.clone() };
    assert_eq!(check_request(&unnamed, 0, &[Assignor::Uniform]), Ok(()), "version 0 is given an id");
    let assignor = ConsumerGroupHeartbeatRequest { server_assignor: Some("range".into()), ..good };
    assert_eq!(refused(assignor, 1), ErrorCode::UnsupportedAssignor);
}

#[test]
fn a_member_that_comes_under_another_static_name_gives_up_the_one_it_had() {
    let mut bed = Bed::new(&[("a", 2)]);
    Client::new("one", &["a"]).named("x").join(&mut bed);
    let mut renamed = Client::new("one", &["a"]).named("y");
    renamed.join(&mut bed);
    bed.check_replay("renamed");
    assert_eq!(code(&bed.heartbeat(renamed.leaving(-1))), ErrorCode::None);
    let mut two = Client::new("two", &["a"]).named("x");
    two.join(&mut bed);
    assert_eq!(two.owned.len(), 2);
    bed.check_replay("its first name is another's");
}
