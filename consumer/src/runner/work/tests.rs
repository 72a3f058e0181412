//! Work by events and times alone.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn rules(order: Order, concurrency: usize) -> Rules {
    Rules {
        order,
        concurrency,
        retry: RetryPolicy::attempts(2),
        can_park: true,
        max_records: 50,
        max_bytes: 1000,
    }
}

fn record(partition: i32, offset: i64, key: u8) -> ConsumerRecord {
    ConsumerRecord {
        topic: KStr::from("t"),
        partition,
        offset,
        timestamp: 0,
        key: Some(Bytes::copy_from_slice(&[key])),
        value: None,
        headers: Vec::new(),
        leader_epoch: 0,
    }
}

fn due(work: &Work) -> Vec<(i32, i64)> {
    work.due(None).iter().map(|due| (due.offset.partition, due.offset.offset)).collect()
}

#[test]
fn a_key_waits_while_its_record_is_tried_again_and_others_do_not() {
    let now = Instant::now();
    let mut work = Work::new(rules(Order::Key, 10));
    for (offset, key) in [(0, b'a'), (1, b'a'), (2, b'b')] {
        work.receive(record(0, offset, key));
    }
    let first = work.take(now).unwrap();
    let other = work.take(now).unwrap();
    assert_eq!((first.record.offset, other.record.offset), (0, 2));
    assert!(work.take(now).is_none());
    assert!(work.returned(first, Outcome::Failed(Failure::passing("no")), now).is_none());
    assert!(work.returned(other, Outcome::Finished, now).is_none());
    assert!(work.take(now).is_none() && due(&work).is_empty());
    let later = work.alarm().unwrap();
    assert!(later > now);
    // It fails again, is parked, and only then the next one of its key comes.
    let again = work.take(later).unwrap();
    assert_eq!((again.record.offset, again.attempts), (0, 2));
    work.returned(again, Outcome::Failed(Failure::passing("no")), later);
    let parked = work.take(later).unwrap();
    assert_eq!((&parked.step, parked.attempts), (&Step::Park(Failure::passing("no")), 2));
    assert!(work.take(later).is_none());
    work.returned(parked, Outcome::NotParked, later);
    let much_later = work.alarm().unwrap();
    let parked = work.take(much_later).unwrap();
    assert!(matches!(parked.step, Step::Park(_)));
    work.returned(parked, Outcome::Finished, much_later);
    assert_eq!(due(&work), [(0, 1)]);
    let last = work.take(much_later).unwrap();
    work.returned(last, Outcome::Finished, much_later);
    assert_eq!(due(&work), [(0, 3)]);
    assert!(work.is_empty() && work.alarm().is_none());
}

#[test]
fn without_a_place_to_park_the_record_is_given_up_and_not_committed() {
    let now = Instant::now();
    let mut work = Work::new(Rules { can_park: false, ..rules(Order::Partition, 10) });
    work.receive(record(0, 7, b'a'));
    work.receive(record(0, 8, b'b'));
    let job = work.take(now).unwrap();
    assert!(work.take(now).is_none(), "the partition is one lane");
    let given_up = work.returned(job, Outcome::Failed(Failure::poison("bad")), now).unwrap();
    assert_eq!((given_up.record.offset, given_up.attempts), (7, 1));
    assert_eq!(due(&work), []);
}

#[test]
fn a_partition_that_is_let_go_begins_nothing_and_what_returns_later_does_not_count() {
    let now = Instant::now();
    let mut work = Work::new(rules(Order::Key, 10));
    for offset in 0..4 {
        work.receive(record(0, offset, offset as u8));
        work.receive(record(1, offset, offset as u8));
    }
    let taken: Vec<Job> = (0..4).map(|_| work.take(now).unwrap()).collect();
    let tenure = work.tenure(&KStr::from("t"), 0).unwrap();
    work.close(tenure);
    assert!(!work.is_idle(&[tenure]) && work.under_way(&[tenure]).len() == 2);
    let mut of_first: Vec<Job> = taken.into_iter().filter(|job| job.record.partition == 0).collect();
    let late = of_first.pop().unwrap();
    let in_time = of_first.pop().unwrap();
    work.returned(in_time, Outcome::Finished, now);
    assert_eq!(due(&work), [(0, 1)]);
    work.on_committed(&work.due(Some(&[tenure])));
    work.release(tenure);
    work.returned(late, Outcome::Finished, now);
    assert!(work.is_idle(&[tenure]));
    assert_eq!((due(&work), work.tenure(&KStr::from("t"), 0)), (vec![], None));
    // It comes back and is read from what was committed.
    work.receive(record(0, 1, 1));
    while let Some(job) = work.take(now) {
        assert!(job.record.partition == 1 || job.record.offset == 1);
        work.returned(job, Outcome::Finished, now);
    }
    assert!(work.positions().contains(&TopicPartitionOffset {
        topic: KStr::from("t"),
        partition: 0,
        offset: 2
    }));
}

#[test]
fn nothing_is_received_beyond_the_limits_of_records_and_bytes() {
    let now = Instant::now();
    let mut work = Work::new(rules(Order::Key, 1));
    for offset in 0..50 {
        assert!(work.has_room());
        work.receive(record(0, offset, 0));
    }
    assert!(!work.has_room());
    let job = work.take(now).unwrap();
    work.returned(job, Outcome::Finished, now);
    assert!(work.has_room());
    let mut large = record(1, 0, 0);
    large.value = Some(Bytes::from(vec![0; 1000]));
    work.receive(large);
    assert!(!work.has_room());
}

/// Finishes what was taken, and everything that is left.
fn finish(work: &mut Work, taken: Vec<Job>, time: Instant) {
    for job in taken {
        work.returned(job, Outcome::Finished, time);
    }
    while let Some(job) = work.take(work.alarm().unwrap_or(time)) {
        work.returned(job, Outcome::Finished, time);
    }
}

proptest! {
    /// Whatever fails, is let go or jumps back: keys keep their order, no more is under way than allowed, and no commit
    /// covers what is not finished.
    #[test]
    fn what_is_committed_is_finished(
        concurrency in 1..5_usize,
        steps in prop::collection::vec((0..9_u8, 0..2_i32, 0..3_u8, any::<prop::sample::Index>()), 1..300),
    ) {
        let now = Instant::now();
        let mut work = Work::new(rules(Order::Key, concurrency));
        let mut next = [0_i64; 2];
        let mut committed = [0_i64; 2];
        let mut finished: [BTreeSet<i64>; 2] = Default::default();
        let mut taken: Vec<Job> = Vec::new();
        let mut last: BTreeMap<(i32, u8, u64), i64> = BTreeMap::new();
        let mut time = now;
        for (what, partition, key, which) in steps {
            let at = partition as usize;
            match what {
                0..=2 if work.has_room() => {
                    work.receive(record(partition, next[at], key));
                    next[at] += 1;
                }
                3 | 4 => if let Some(job) = work.take(time) {
                    let at = (job.record.partition, job.record.key.as_ref().unwrap()[0], job.tenure);
                    let before = last.insert(at, job.record.offset);
                    prop_assert!(before.is_none_or(|before| before <= job.record.offset), "order of {at:?}");
                    prop_assert!(taken.iter().all(|other| other.lane != job.lane), "two of {at:?}");
                    taken.push(job);
                    prop_assert!(taken.len() <= concurrency);
                },
                5 | 6 if !taken.is_empty() => {
                    let job = taken.swap_remove(which.index(taken.len()));
                    let outcome = match key {
                        0 => Outcome::Failed(Failure::passing("no")),
                        _ => Outcome::Finished,
                    };
                    let (at, offset) = (job.record.partition as usize, job.record.offset);
                    let counts = work.tenure(&job.record.topic, job.record.partition) == Some(job.tenure);
                    if key != 0 && counts {
                        finished[at].insert(offset);
                    }
                    prop_assert!(work.returned(job, outcome, time).is_none());
                }
                7 => {
                    for due in work.due(None) {
                        let at = due.offset.partition as usize;
                        for offset in committed[at]..due.offset.offset {
                            prop_assert!(finished[at].contains(&offset), "{offset} of {due:?}");
                        }
                        committed[at] = due.offset.offset;
                        work.on_committed(&[due]);
                    }
                    time = work.alarm().unwrap_or(time);
                }
                8 => if let Some(tenure) = work.tenure(&KStr::from("t"), partition) {
                    // Somebody else would go on from the commit, and so do we when it comes back.
                    work.close(tenure);
                    work.release(tenure);
                    next[at] = committed[at];
                    finished[at].retain(|offset| *offset < committed[at]);
                },
                _ => {}
            }
        }
        finish(&mut work, taken, time);
        prop_assert!(work.is_empty());
        for position in work.positions() {
            prop_assert_eq!(position.offset, next[position.partition as usize]);
        }
    }
}
