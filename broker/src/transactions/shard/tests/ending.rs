//! How transactions end, in each state, for clients of both kinds.

use super::*;

use Outcome::{Abort, Commit};
use Version::{One, Two};

/// Whether the client repeats the request that it sent last, with the epoch of then.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Epoch {
    Last,
    Current,
}

#[test]
fn under_the_second_version_each_end_has_a_new_epoch_and_a_repeated_one_is_known_by_its_epoch() {
    // Kafka's own table: what is answered, or that it ends with a new epoch.
    let state = Err(Refused::State);
    let table = [
        (None, Abort, Epoch::Current, Ok(1)),
        (None, Commit, Epoch::Current, state),
        (None, Abort, Epoch::Last, Err(Refused::Fenced)),
        (None, Commit, Epoch::Last, Err(Refused::Fenced)),
        (Some(Abort), Abort, Epoch::Last, Ok(0)),
        (Some(Abort), Abort, Epoch::Current, Ok(1)),
        (Some(Abort), Commit, Epoch::Last, state),
        (Some(Abort), Commit, Epoch::Current, state),
        (Some(Commit), Abort, Epoch::Last, state),
        (Some(Commit), Abort, Epoch::Current, Ok(1)),
        (Some(Commit), Commit, Epoch::Last, Ok(0)),
        (Some(Commit), Commit, Epoch::Current, state),
    ];
    for (ended, asked, epoch, told) in table {
        let mut bed = Bed::new(2);
        bed.begin(None).unwrap();
        let mut me = bed.begin(None).unwrap();
        if let Some(outcome) = ended {
            bed.enlist(me, enlisted(partition("t", 0)), Adds::Implicitly).unwrap();
            me = bed.end_fully(me, outcome, Two);
        }
        let by = match epoch {
            Epoch::Last => Identity { epoch: me.epoch - 1, ..me },
            Epoch::Current => me,
        };
        let case = format!("{ended:?}, {asked:?} with the {epoch:?} epoch");
        let ticket = bed.end(by, asked, Two);
        bed.finish();
        let told = told.map(|bumps| Identity { epoch: me.epoch + bumps, ..me }).map_err(Stopped::Refused);
        assert_eq!(bed.producer(ticket), Some(told), "{case}");
    }
}

#[test]
fn under_the_first_version_the_epoch_stays_and_the_state_alone_decides() {
    let table = [
        (None, Abort, Err(Refused::State)),
        (None, Commit, Err(Refused::State)),
        (Some(Abort), Abort, Ok(())),
        (Some(Abort), Commit, Err(Refused::State)),
        (Some(Commit), Abort, Err(Refused::State)),
        (Some(Commit), Commit, Ok(())),
    ];
    for (ended, asked, told) in table {
        let mut bed = Bed::new(0);
        let me = bed.begin(None).unwrap();
        if let Some(outcome) = ended {
            bed.add(me, partition("t", 0)).unwrap();
            assert_eq!(bed.end_fully(me, outcome, One), me);
        }
        assert_eq!(bed.ended(me, asked, One), Some(told.map(|()| me)), "{ended:?}, {asked:?}");
        let fenced = Identity { epoch: me.epoch + 1, ..me };
        assert_eq!(bed.ended(fenced, asked, One), Some(Err(Refused::Fenced)));
    }
}

#[test]
fn while_it_ends_nothing_new_begins_and_a_repeated_request_waits_along() {
    for version in [One, Two] {
        let mut bed = Bed::new(2);
        let me = bed.begin(None).unwrap();
        bed.add(me, partition("t", 0)).unwrap();
        let first = bed.end(me, Commit, version);
        let again = bed.end(me, Commit, version);
        assert_eq!((bed.producer(first), bed.producer(again)), (None, None));
        assert_eq!(bed.ended(me, Abort, version), Some(Err(Refused::Concurrent)));
        assert_eq!(bed.add(me, partition("t", 1)), Err(Refused::Concurrent));
        assert_eq!(bed.enlist(me, enlisted(partition("t", 0)), Adds::Implicitly), Err(Refused::Concurrent));
        assert_eq!(bed.begin(None), Err(Refused::Concurrent));
        assert_eq!(bed.finish().len(), 1, "one job writes the markers");
        let told = bed.producer(first).unwrap().unwrap();
        assert_eq!(told.epoch, if version == Two { 1 } else { 0 });
        assert_eq!(bed.producer(again), Some(Ok(told)));
    }
}

#[test]
fn whoever_waits_for_a_partition_that_takes_no_marker_is_told_the_decision_after_a_while() {
    let mut bed = Bed::new(2);
    let me = bed.begin(None).unwrap();
    bed.add(me, partition("t", 0)).unwrap();
    let ticket = bed.end(me, Commit, Two);
    bed.pass(Duration::from_millis(999));
    assert_eq!(bed.producer(ticket), None);
    bed.pass(Duration::from_millis(1));
    let next = Identity { epoch: 1, ..me };
    assert_eq!(bed.producer(ticket), Some(Ok(next)));
    assert_eq!(bed.add(next, partition("t", 0)), Err(Refused::Concurrent), "the markers are still due");
    bed.finish();
    assert_eq!(bed.add(next, partition("t", 0)), Ok(()));
}

#[test]
fn an_end_of_the_first_version_is_not_taken_for_that_of_a_fenced_client_of_the_second() {
    let mut bed = Bed::new(2);
    let zombie = bed.begin(None).unwrap();
    let live = bed.begin(None).unwrap();
    bed.add(live, partition("t", 0)).unwrap();
    bed.end_fully(live, Commit, One);
    assert_eq!(bed.ended(zombie, Commit, Two), Some(Err(Refused::Fenced)), "its own was aborted");
}

#[test]
fn with_the_last_epoch_the_next_transaction_has_another_producer() {
    let mut bed = Bed::new(2);
    let first = bed.begin(None).unwrap();
    let last = Identity { epoch: LAST_EPOCH, ..first };
    bed.shard.transactions.get_mut(ID.as_str()).unwrap().stored.identity = last;
    bed.enlist(last, enlisted(partition("t", 0)), Adds::Implicitly).unwrap();
    let ticket = bed.end(last, Commit, Two);
    bed.pass(Duration::from_secs(1));
    let next = bed.producer(ticket).unwrap().unwrap();
    assert_ne!(next.producer, last.producer);
    assert_eq!(next.epoch, 0);
    assert!(bed.shard.has_open(last.producer, &partition("t", 0)));
    let finished = bed.finish();
    assert_eq!(finished[0].identity, Identity { epoch: i16::MAX, ..last });
    assert_eq!(bed.ended(last, Commit, Two), Some(Ok(next)), "the answer got lost");
    assert_eq!(bed.ended(last, Abort, Two), Some(Err(Refused::State)));
    bed.restart();
    assert_eq!(bed.ended(last, Commit, Two), Some(Ok(next)), "nor does a restart matter");
    assert_eq!(bed.enlist(next, enlisted(partition("t", 0)), Adds::Implicitly), Ok(()));
}

#[test]
fn nobody_gets_in_with_the_very_last_epoch() {
    let mut bed = Bed::new(2);
    let first = bed.begin(None).unwrap();
    let last = Identity { epoch: LAST_EPOCH, ..first };
    bed.shard.transactions.get_mut(ID.as_str()).unwrap().stored.identity = last;
    bed.add(last, partition("t", 0)).unwrap();
    bed.pass(Duration::from_secs(60));
    bed.finish();
    let very_last = Identity { epoch: i16::MAX, ..first };
    assert_eq!(bed.stored().identity, very_last);
    assert_eq!(bed.add(very_last, partition("t", 0)), Err(Refused::Fenced));
    assert_eq!(bed.ended(very_last, Abort, Two), Some(Err(Refused::Fenced)));
    assert_eq!(bed.ended(last, Abort, Two), Some(Err(Refused::Fenced)), "it would be told that epoch");
    let next = bed.begin(None).unwrap();
    assert_ne!(next.producer, first.producer);
}
