//! Who gets an id, and who is fenced by it.

use super::*;

#[test]
fn a_producer_that_comes_later_has_the_id_and_the_first_is_fenced() {
    let mut bed = Bed::new(2);
    let first = bed.begin(None).unwrap();
    assert_eq!(first.epoch, 0);
    let second = bed.begin(None).unwrap();
    assert_eq!(second, Identity { epoch: 1, ..first });
    assert_eq!(bed.add(first, partition("t", 0)), Err(Refused::Fenced));
    assert_eq!(bed.enlist(first, enlisted(partition("t", 0)), Adds::Implicitly), Err(Refused::Fenced));
    let stranger = Identity { producer: ProducerId::new(7), epoch: 1 };
    assert_eq!(bed.add(stranger, partition("t", 0)), Err(Refused::Unknown));
    assert_eq!(bed.ended(first, Outcome::Commit, Version::One), Some(Err(Refused::Fenced)));
    assert_eq!(bed.ended(first, Outcome::Commit, Version::Two), Some(Err(Refused::Fenced)));
}

#[test]
fn what_is_open_is_aborted_first_under_an_epoch_that_nobody_has() {
    for level in 0..=2 {
        let mut bed = Bed::new(level);
        let first = bed.begin(None).unwrap();
        bed.add(first, partition("t", 0)).unwrap();
        assert_eq!(bed.begin(None), Err(Refused::Concurrent));
        assert_eq!(bed.begin(None), Err(Refused::Concurrent), "the markers are not written");
        let finished = bed.finish();
        assert_eq!(finished[0].identity, Identity { epoch: 1, ..first });
        assert_eq!(finished[0].outcome, Outcome::Abort);
        assert_eq!(finished[0].partitions, [partition("t", 0)]);
        assert_eq!(bed.begin(None), Ok(Identity { epoch: 2, ..first }));
    }
}

#[test]
fn a_client_that_says_who_it_was_goes_on_and_its_repeated_request_is_answered_alike() {
    let mut bed = Bed::new(2);
    let first = bed.begin(None).unwrap();
    let second = bed.begin(Some(first)).unwrap();
    assert_eq!(second.epoch, 1);
    assert_eq!(bed.begin(Some(first)), Ok(second), "the answer got lost");
    let third = bed.begin(None).unwrap();
    assert_eq!(third.epoch, 2);
    assert_eq!(bed.begin(Some(first)), Err(Refused::Fenced));
    assert_eq!(bed.begin(Some(second)), Err(Refused::Fenced), "somebody else has asked since");
    let stranger = Identity { producer: ProducerId::new(7), epoch: 2 };
    assert_eq!(bed.begin(Some(stranger)), Err(Refused::Fenced));
}

#[test]
fn a_fenced_client_that_asks_again_costs_the_live_one_nothing() {
    let mut bed = Bed::new(2);
    let zombie = bed.begin(None).unwrap();
    let live = bed.begin(None).unwrap();
    bed.add(live, partition("t", 0)).unwrap();
    assert_eq!(bed.begin(Some(zombie)), Err(Refused::Fenced));
    assert_eq!(bed.stored().status, Status::Ongoing);
}

#[test]
fn a_producer_without_epochs_left_is_replaced_by_another() {
    let mut bed = Bed::new(2);
    let first = bed.begin(None).unwrap();
    let last = Identity { epoch: LAST_EPOCH, ..first };
    bed.shard.transactions.get_mut(ID.as_str()).unwrap().stored.identity = last;
    let next = bed.begin(Some(last)).unwrap();
    assert_ne!(next.producer, first.producer);
    assert_eq!(next.epoch, 0);
    assert_eq!(bed.begin(Some(last)), Ok(next), "the answer got lost");
    assert_eq!(bed.add(next, partition("t", 0)), Ok(()));
    assert_eq!(bed.add(last, partition("t", 0)), Err(Refused::Unknown));
}

#[test]
fn a_timeout_above_the_limit_and_an_empty_id_are_refused() {
    let mut bed = Bed::new(2);
    let asks = [
        (ID, 900_001, Refused::Timeout),
        (ID, 0, Refused::Timeout),
        (ID, -1, Refused::Timeout),
        (KStr::from_static(""), 1, Refused::NoId),
    ];
    for (id, timeout_ms, why) in asks {
        let ticket = bed.ticket();
        let begin = Begin { id, timeout_ms, expected: None, fresh: None };
        bed.turn(|shard, turn| shard.begin(turn, ticket, &begin));
        assert_eq!(bed.producer(ticket), Some(Err(why.into())), "{begin:?}");
    }
    assert!(bed.log.is_empty());
}
