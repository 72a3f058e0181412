//! What time and restarts do to transactions.

use super::*;

use Outcome::{Abort, Commit};
use Version::{One, Two};

#[test]
fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() {
    for level in [0, 2] {
        let mut bed = Bed::new(level);
        let me = bed.begin(None).unwrap();
        bed.add(me, partition("t", 0)).unwrap();
        bed.pass(Duration::from_millis(59_999));
        assert_eq!(bed.stored().status, Status::Ongoing);
        bed.pass(Duration::from_millis(1));
        assert_eq!(bed.stored().status, Status::Prepared(Abort));
        assert!(bed.fx.notes.contains(&Note::TimedOut { id: ID, identity: me }));
        bed.finish();
        assert_eq!(bed.add(me, partition("t", 0)), Err(Refused::Fenced));
        let version = if level == 2 { Two } else { One };
        let committed = bed.ended(me, Commit, version);
        let refused = if level == 2 { Refused::State } else { Refused::Fenced };
        assert_eq!(committed, Some(Err(refused)));
        if level == 2 {
            // It wanted that, and goes on.
            assert_eq!(bed.ended(me, Abort, Two), Some(Ok(Identity { epoch: 1, ..me })));
        }
    }
}

#[test]
fn a_restart_carries_out_what_was_decided_and_time_runs_on() {
    let mut bed = Bed::new(2);
    let me = bed.begin(None).unwrap();
    bed.add(me, partition("t", 0)).unwrap();
    bed.now_ms += 50_000;
    bed.restart();
    assert_eq!(bed.stored().status, Status::Ongoing);
    bed.pass(Duration::from_secs(9));
    assert_eq!(bed.stored().status, Status::Ongoing);
    bed.pass(Duration::from_secs(1));
    assert_eq!(bed.stored().status, Status::Prepared(Abort));
    let before = bed.fx.deeds.clone();
    bed.restart();
    assert_eq!(bed.fx.deeds.len(), 1);
    assert_ne!(bed.fx.deeds[0].job, before[0].job);
    // The job of before is still at it, but what it has done is done again.
    let (id, job) = (&before[0].id, before[0].job);
    assert!(!bed.shard.is_due(id, job));
    bed.turn(|shard, turn| shard.on_finished(turn, (id, job)));
    assert_eq!(bed.stored().status, Status::Prepared(Abort));
    bed.finish();
    assert_eq!(bed.stored().status, Status::Complete(Abort));
}

#[test]
fn an_unused_id_expires_and_an_open_transaction_does_not() {
    let mut bed = Bed::new(2);
    let me = bed.begin(None).unwrap();
    bed.add(me, partition("t", 0)).unwrap();
    let week = Duration::from_millis(604_800_000);
    bed.now_ms += i64::try_from(week.as_millis()).unwrap();
    bed.turn(|shard, turn| shard.clean_up(turn, turn.moment.now.wall_ms));
    assert_eq!(bed.shard.transactions.len(), 1);
    bed.turn(Shard::tick);
    bed.finish();
    bed.now_ms += i64::try_from(week.as_millis()).unwrap();
    bed.turn(|shard, turn| shard.clean_up(turn, turn.moment.now.wall_ms));
    assert!(
        bed.shard.transactions.is_empty() && bed.shard.producers.is_empty() && bed.shard.timers.is_empty()
    );
    bed.restart();
    assert!(bed.shard.transactions.is_empty());
    assert_eq!(bed.ended(me, Commit, Two), Some(Err(Refused::Unknown)));
    assert_ne!(bed.begin(None).unwrap().producer, me.producer);
}

#[test]
fn a_batch_gets_in_where_its_partition_belongs_and_what_it_rests_on_is_told() {
    let mut bed = Bed::new(2);
    let me = bed.begin(None).unwrap();
    let there = enlisted(partition("t", 0));
    assert_eq!(bed.enlist(me, there.clone(), Adds::Never), Err(Refused::NotAdded));
    assert_eq!(bed.enlist(me, there.clone(), Adds::Implicitly), Ok(()));
    let records = bed.log.len();
    let rests = |bed: &mut Bed, adds| {
        bed.turn(|shard, turn| shard.enlist(turn, (&ID, me), std::slice::from_ref(&there), adds))
    };
    let before = BatchNumber(u64::try_from(records).unwrap());
    assert_eq!(rests(&mut bed, Adds::Never), (Ok(()), before));
    assert_eq!(rests(&mut bed, Adds::Implicitly), (Ok(()), before));
    assert_eq!(bed.log.len(), records, "it is there already");
    bed.restart();
    assert_eq!(rests(&mut bed, Adds::Never), (Ok(()), BatchNumber(0)), "it was read from the disk");
}

#[test]
fn records_that_the_coordinator_does_not_know_are_not_adopted() {
    let mut bed = Bed::new(2);
    let me = bed.begin(None).unwrap();
    let orphan = EnlistPartition { partition: partition("t", 0), is_open: true };
    for adds in [Adds::Never, Adds::Implicitly] {
        assert_eq!(bed.enlist(me, orphan.clone(), adds), Err(Refused::Orphan));
    }
    assert!(!bed.shard.has_open(me.producer, &orphan.partition));
    bed.enlist(me, enlisted(partition("t", 0)), Adds::Implicitly).unwrap();
    assert!(bed.shard.has_open(me.producer, &orphan.partition));
    assert_eq!(bed.enlist(me, orphan.clone(), Adds::Implicitly), Ok(()), "it is known");
    bed.end(me, Commit, Two);
    assert!(bed.shard.has_open(me.producer, &orphan.partition), "until its marker is there");
    bed.finish();
    assert!(!bed.shard.has_open(me.producer, &orphan.partition));
}

#[test]
fn version_zero_of_a_record_says_all_that_a_client_of_the_first_version_needs() {
    let mut bed = Bed::new(0);
    let me = bed.begin(None).unwrap();
    bed.add(me, partition("t", 3)).unwrap();
    bed.end(me, Commit, One);
    let versions = |bed: &Bed| {
        let value = |record: &TransactionRecord| record.encode().unwrap().1.unwrap()[1];
        bed.log.iter().map(value).collect::<Vec<u8>>()
    };
    assert_eq!(versions(&bed), [0, 0, 0]);
    bed.restart();
    assert_eq!(bed.fx.deeds[0].partitions, [partition("t", 3)]);
    bed.level = Level(1);
    bed.finish();
    assert_eq!(versions(&bed), [0, 0, 0, 1]);
}
