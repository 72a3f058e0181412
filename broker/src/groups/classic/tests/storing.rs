//! What the log keeps, and the group that comes out of it.

use super::*;
use crate::groups::record::GroupRecord;

fn last_value(bed: &Bed) -> millstream_protocol::messages::GroupMetadataValue {
    match bed.fx.records.last() {
        Some(GroupRecord::Classic { value: Some(value), .. }) => value.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stable_group_comes_back_as_it_was() {
    let (mut bed, ids, generation) = Bed::stable(3);
    let value = last_value(&bed);
    assert_eq!(value, bed.group.value());
    bed.group = ClassicGroup::replay(&"group".into(), &value);
    bed.turn(|group, turn, _| group.on_loaded(turn));
    assert_eq!(bed.group.value(), value);
    for id in &ids {
        assert_eq!(bed.heartbeat(id, generation), ErrorCode::None);
        let sync = bed.sync((id, generation), &[]);
        assert_eq!(&*bed.synced(sync).unwrap().assignment, id.as_bytes());
    }
    bed.pass(Duration::from_secs(11));
    assert_eq!(bed.group.state(), "Empty", "sessions went on from the load");
}

#[test]
fn an_empty_group_comes_back_empty_with_its_generation() {
    let (mut bed, ids, generation) = Bed::stable(1);
    bed.leave(&[(&ids[0], None)]);
    let value = last_value(&bed);
    bed.group = ClassicGroup::replay(&"group".into(), &value);
    assert_eq!((bed.group.state(), bed.group.generation), ("Empty", generation + 1));
    assert_eq!(&**bed.group.protocol_type(), "consumer");
    let mut records = Vec::new();
    bed.group.tombstones(&mut records);
    assert!(matches!(records[..], [GroupRecord::Classic { value: None, .. }]));
}

#[test]
fn static_names_and_timeouts_survive() {
    let mut bed = Bed::new();
    let ticket = bed.join(&Says { rebalance_ms: 7_000, session_ms: 8_000, ..Says::named("a") });
    let (ids, generation) = bed.settle(&[ticket]);
    bed.group = ClassicGroup::replay(&"group".into(), &last_value(&bed));
    bed.turn(|group, turn, _| group.on_loaded(turn));
    let told = bed.turn(|group, turn, _| group.heartbeat((&ids[0], Some("a")), generation, turn)).0;
    assert_eq!(told, Ok(()));
    let told = bed.turn(|group, turn, _| group.heartbeat(("b", Some("a")), generation, turn)).0;
    assert_eq!(told, Err(ErrorCode::FencedInstanceId));
    let member = bed.group.members.iter().next().unwrap();
    assert_eq!(member.timeouts.rebalance, Duration::from_secs(7));
    assert_eq!(member.timeouts.session, Duration::from_secs(8));
}

#[test]
fn subscriptions_name_the_topics_that_are_in_use() {
    let subscription = |topics: &[&str]| {
        let mut bytes = vec![0, 1, 0, 0, 0, u8::try_from(topics.len()).unwrap()];
        for topic in topics {
            bytes.extend([0, u8::try_from(topic.len()).unwrap()]);
            bytes.extend(topic.as_bytes());
        }
        bytes.extend([0xff; 4]);
        bytes
    };
    let mut bed = Bed::new();
    let ticket = bed.join(&Says::new().speaking(&[("range", &subscription(&["orders", "trades"]))]));
    let (ids, _) = bed.settle(&[ticket]);
    assert!(bed.group.is_subscribed("trades") && !bed.group.is_subscribed("other"));
    bed.leave(&[(&ids[0], None)]);
    assert!(!bed.group.is_subscribed("trades"), "nobody is left");
    let (bed, _, _) = Bed::stable(1);
    assert!(bed.group.is_subscribed("any"), "what cannot be read may name any topic");
}

#[test]
fn a_stable_group_is_described_in_full() {
    let (mut bed, ids, _) = Bed::stable(2);
    let described = bed.group.describe();
    assert_eq!((&*described.group_state, &*described.protocol_data), ("Stable", "range"));
    assert!(described.members.iter().all(|member| &*member.member_metadata == b"topics"));
    assert!(described.members.iter().all(|member| *member.member_assignment == *member.member_id.as_bytes()));
    assert_eq!(&*described.members[0].client_host, "/127.0.0.1");
    bed.join(&Says::again(&ids[0]));
    let described = bed.group.describe();
    assert_eq!((&*described.group_state, &*described.protocol_data), ("PreparingRebalance", ""));
    assert!(described.members.iter().all(|member| member.member_metadata.is_empty()));
}
