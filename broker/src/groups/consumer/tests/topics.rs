//! Topics that come, grow and go, by name and by expression.

use super::*;

#[test]
fn new_partitions_and_new_topics_are_given_out_at_the_next_heartbeat() {
    let mut bed = Bed::new(&[("a", 2)]);
    let mut one = Client::new("one", &["a", "later"]);
    one.join(&mut bed);
    bed.set_topic("a", 5);
    one.beat(&mut bed);
    assert_eq!((one.owned.len(), one.epoch), (5, 2));
    bed.set_topic("unrelated", 9);
    one.beat(&mut bed);
    assert_eq!((one.owned.len(), one.epoch), (5, 2));
    bed.set_topic("later", 1);
    one.beat(&mut bed);
    assert_eq!(one.owned.len(), 6);
    bed.counts.remove("a");
    bed.look_at_topics();
    one.beat(&mut bed);
    one.beat(&mut bed);
    assert_eq!(one.owned.len(), 1, "a topic that is gone is taken back");
    bed.check_replay("topics changed");
}

#[test]
fn an_expression_takes_in_topics_as_they_come() {
    let mut bed = Bed::new(&[("orders-eu", 2), ("other", 2), ("__consumer_offsets", 4)]);
    let mut one = Client::matching("one", "orders-.*");
    one.join(&mut bed);
    assert_eq!(one.owned.len(), 2);
    bed.set_topic("orders-us", 3);
    one.beat(&mut bed);
    assert_eq!(one.owned.len(), 5);
    bed.check_replay("an expression");
    one.regex = Some(".*".into());
    let response = bed.heartbeat(one.full());
    one.hear(&response);
    one.beat(&mut bed);
    assert_eq!(one.owned.len(), 11, "the broker's own topic too, as in Kafka");
    assert_eq!(bed.group().regexes.len(), 1, "the old expression is forgotten");
    one.regex = Some("".into());
    let response = bed.heartbeat(one.full());
    one.hear(&response);
    assert_eq!((one.owned.len(), bed.group().regexes.len()), (0, 0));
    bed.check_replay("expressions changed");
}

#[test]
fn names_and_expressions_add_up() {
    let mut bed = Bed::new(&[("a", 1), ("b", 1), ("c", 1)]);
    let mut one = Client::matching("one", "a|b");
    one.names = vec!["b".into(), "c".into()];
    one.join(&mut bed);
    assert_eq!(one.owned.len(), 3);
}

#[test]
fn a_bad_expression_is_refused_and_changes_nothing() {
    let mut bed = Bed::new(&[("a", 1)]);
    let refused = bed.heartbeat(Client::matching("one", "a(").full());
    assert_eq!(code(&refused), ErrorCode::InvalidRegularExpression);
    assert!(refused.error_message.unwrap().contains("RE2"));
    assert!(bed.shard.group(GROUP).is_none());
    assert!(bed.log.is_empty());
}

#[test]
fn what_a_member_does_not_want_any_more_it_gives_back() {
    let mut bed = Bed::new(&[("a", 2), ("b", 2)]);
    let (mut one, mut two) = (Client::new("one", &["a", "b"]), Client::new("two", &["b"]));
    one.join(&mut bed);
    two.join(&mut bed);
    settle(&mut bed, &mut [&mut one, &mut two]);
    one.names = vec!["a".into()];
    let response = bed.heartbeat(one.full());
    one.hear(&response);
    settle(&mut bed, &mut [&mut one, &mut two]);
    assert_eq!((one.owned.len(), two.owned.len()), (2, 2));
    bed.check_replay("another wish");
}
