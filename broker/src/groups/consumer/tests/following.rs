//! How members follow a rebalance: give back first, then take.

use super::*;
use crate::groups::cause::Why;
use crate::groups::consumer::member::MemberState;

fn state(bed: &Bed, client: &Client) -> MemberState {
    bed.group().members[client.id.as_str()].standing.state
}

#[test]
fn a_partition_is_given_away_only_once_it_was_given_back() {
    let mut bed = Bed::new(&[("a", 2)]);
    let (mut one, mut two) = (Client::new("one", &["a"]), Client::new("two", &["a"]));
    one.join(&mut bed);
    two.join(&mut bed);
    assert_eq!((two.owned.len(), state(&bed, &two)), (0, MemberState::Unreleased));
    // It is told to give one back, and has not yet.
    let told = bed.heartbeat(one.short());
    assert_eq!(told.assignment.as_ref().unwrap().topic_partitions[0].partitions.len(), 1);
    assert_eq!((told.member_epoch, state(&bed, &one)), (1, MemberState::Unrevoked));
    two.beat(&mut bed);
    assert_eq!(two.owned.len(), 0, "the other reads it still");
    bed.check_replay("a revocation under way");

    one.hear(&told);
    one.beat(&mut bed);
    assert_eq!((one.epoch, state(&bed, &one)), (2, MemberState::Stable));
    two.beat(&mut bed);
    assert_eq!((two.owned.len(), state(&bed, &two)), (1, MemberState::Stable));
    assert_eq!(bed.group().state(), "Stable");
    bed.check_replay("a partition went over");
}

#[test]
fn every_rebalance_is_told_with_who_caused_it_and_how_long_it_took() {
    let mut bed = Bed::new(&[("a", 2)]);
    let (mut one, mut two) = (Client::new("one", &["a"]), Client::new("two", &["a"]));
    one.join(&mut bed);
    bed.notes.clear();
    two.join(&mut bed);
    bed.pass(Duration::from_millis(250));
    settle(&mut bed, &mut [&mut one, &mut two]);
    let ended: Vec<&Note> =
        bed.notes.iter().filter(|note| matches!(note, Note::RebalanceEnded { .. })).collect();
    let [Note::RebalanceEnded { cause, took, members, generation, .. }] = ended[..] else {
        panic!("{:?}", bed.notes)
    };
    assert_eq!((cause.why, &*cause.member, *members, *generation), (Why::MemberJoined, "two", 2, 2));
    assert_eq!((&*cause.caller.client_id, *took), ("client", Duration::from_millis(250)));
}

#[test]
fn a_member_that_does_not_give_back_in_time_is_out() {
    let mut bed = Bed::new(&[("a", 2)]);
    let (mut one, mut two) = (Client::new("one", &["a"]), Client::new("two", &["a"]));
    one.join(&mut bed);
    two.join(&mut bed);
    // It lives, but never says that it gave anything back.
    for _ in 0..13 {
        let stubborn = ConsumerGroupHeartbeatRequest { topic_partitions: None, ..one.short() };
        let _ = bed.heartbeat(stubborn);
        two.beat(&mut bed);
        bed.pass(Duration::from_secs(5));
    }
    two.beat(&mut bed);
    assert_eq!(two.owned.len(), 2);
    assert_eq!(code(&bed.heartbeat(one.short())), ErrorCode::UnknownMemberId);
    assert!(bed.notes.iter().any(|note| matches!(note, Note::DidNotRejoin { .. })));
    one.join(&mut bed);
    settle(&mut bed, &mut [&mut one, &mut two]);
    bed.check_replay("back again");
}

#[test]
fn a_member_that_is_silent_for_its_session_is_out() {
    let mut bed = Bed::new(&[("a", 2)]);
    let (mut one, mut two) = (Client::new("one", &["a"]), Client::new("two", &["a"]));
    one.join(&mut bed);
    two.join(&mut bed);
    settle(&mut bed, &mut [&mut one, &mut two]);
    bed.pass(Duration::from_secs(30));
    two.beat(&mut bed);
    bed.pass(Duration::from_secs(16));
    two.beat(&mut bed);
    assert_eq!(two.owned.len(), 2);
    assert!(bed.notes.contains(&Note::SessionExpired { group: GROUP.into(), member: "one".into() }));
}

#[test]
fn changes_within_the_interval_share_one_assignment() {
    let mut bed = Bed::new(&[("a", 100)]);
    bed.settings = GroupSettings::assigning_each(Duration::from_millis(200));
    let mut clients: Vec<Client> = (0..100).map(|at| Client::new(&format!("{at:03}"), &["a"])).collect();
    for client in &mut clients {
        client.join(&mut bed);
        bed.pass(Duration::from_millis(1));
    }
    let before = bed.now.steady;
    let is_done = |clients: &[Client]| clients.iter().all(|client| client.owned.len() == 1);
    while !is_done(&clients) {
        bed.pass(Duration::from_millis(300));
        for client in &mut clients {
            client.beat(&mut bed);
        }
    }
    let took = bed.now.steady.since(before);
    let targets = bed.log.iter().filter(|record| format!("{record:?}").contains("TargetEpoch")).count();
    println!("100 members settled in {took:?} with {targets} assignments");
    assert!(took <= Duration::from_millis(1500), "{took:?}");
    assert!(targets <= 5, "{targets}");
    bed.check_replay("a hundred members");
}

#[test]
fn the_assignor_that_most_ask_for_is_used() {
    let mut bed = Bed::new(&[("a", 3), ("b", 3)]);
    let mut clients: Vec<Client> = ["one", "two", "three"].map(|id| Client::new(id, &["a", "b"])).into();
    for client in &mut clients {
        client.assignor = Some("range".into());
        client.join(&mut bed);
    }
    let [one, two, three] = &mut clients[..] else { panic!() };
    settle(&mut bed, &mut [one, two, three]);
    for client in &clients {
        let (a, b) = (client.owned.of_topic(topic_id("a")), client.owned.of_topic(topic_id("b")));
        assert_eq!(a, b, "{client:?}");
    }
    assert_eq!(&*bed.describe().assignor_name, "range");
}
