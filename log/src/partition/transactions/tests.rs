//! What is open, what is stable, and who may still write.

use millstream_protocol::records::{BatchBuilder, BatchHeader, BatchView, Compression, EndMarker, NewRecord};

use super::super::{Partition, Rejection, Verdict};
use super::*;

const NOW_MS: i64 = 1_000;
const ALICE: ProducerId = ProducerId::new(1);
const BOB: ProducerId = ProducerId::new(2);

fn data(producer: ProducerId, epoch: i16, sequence: i32, is_transactional: bool) -> BatchHeader {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.producer(producer.get(), epoch, sequence);
    if is_transactional {
        builder.transactional();
    }
    builder.append(&NewRecord::default());
    BatchView::parse(&builder.build()).unwrap().header()
}

fn within(partition: &Partition, producer: ProducerId, first_sequence: FirstSequence) -> InTransaction {
    InTransaction { guard: partition.guard(producer, 0), first_sequence }
}

/// Appends a batch of one record in a transaction, as the coordinator lets it in.
fn write(partition: &mut Partition, producer: ProducerId, epoch: i16, sequence: i32) -> Verdict {
    let transaction = within(partition, producer, FirstSequence::Any);
    write_as(partition, producer, (epoch, sequence), transaction)
}

fn write_as(
    partition: &mut Partition,
    producer: ProducerId,
    (epoch, sequence): (i16, i32),
    transaction: InTransaction,
) -> Verdict {
    let header = data(producer, epoch, sequence, true);
    let verdict = partition.on_append(&header, Some(transaction), NOW_MS);
    partition.raise_high_watermark(partition.log_end());
    verdict
}

fn marker(producer: ProducerId, epoch: i16, outcome: TransactionOutcome) -> Marker {
    let rule = EpochRule::NotOlder;
    Marker { producer, epoch, coordinator_epoch: 0, outcome, rule, only_if: None }
}

fn abort(producer: ProducerId, epoch: i16) -> Marker {
    marker(producer, epoch, TransactionOutcome::Abort)
}

fn commit(producer: ProducerId, epoch: i16) -> Marker {
    marker(producer, epoch, TransactionOutcome::Commit)
}

fn header_of(marker: &Marker) -> BatchHeader {
    let Marker { producer, epoch, coordinator_epoch, outcome, .. } = *marker;
    let batch = EndMarker { outcome, coordinator_epoch }.to_batch(producer.get(), epoch, NOW_MS);
    BatchView::parse(&batch).unwrap().header()
}

fn end_unseen(partition: &mut Partition, marker: &Marker) -> (Verdict, Option<Aborted>) {
    partition.on_marker(&header_of(marker), marker, NOW_MS)
}

fn end(partition: &mut Partition, marker: &Marker) -> (Verdict, Option<Aborted>) {
    let ended = end_unseen(partition, marker);
    partition.raise_high_watermark(partition.log_end());
    ended
}

fn accepted(at: i64) -> Verdict {
    Verdict::Accept { base_offset: Offset::new(at) }
}

fn why(verdict: Verdict) -> Rejection {
    match verdict {
        Verdict::Reject { why, .. } => why,
        Verdict::Accept { .. } | Verdict::Duplicate { .. } => panic!("{verdict:?}"),
    }
}

fn stable(partition: &Partition) -> i64 {
    partition.last_stable().get()
}

#[test]
fn nothing_behind_the_first_open_transaction_is_stable() {
    let mut partition = Partition::default();
    assert_eq!(write(&mut partition, ALICE, 0, 0), accepted(0));
    assert_eq!(write(&mut partition, BOB, 0, 0), accepted(1));
    assert_eq!(write(&mut partition, ALICE, 0, 1), accepted(2));
    assert_eq!(stable(&partition), 0);
    let (verdict, aborted) = end(&mut partition, &commit(ALICE, 0));
    assert_eq!((verdict, aborted), (accepted(3), None));
    assert_eq!(stable(&partition), 1, "the other one is open");
    let (verdict, aborted) = end(&mut partition, &abort(BOB, 0));
    let told =
        Aborted { producer: BOB, first: Offset::new(1), marker: Offset::new(4), last_stable: Offset::new(5) };
    assert_eq!((verdict, aborted), (accepted(4), Some(told)));
    assert_eq!(stable(&partition), 5);
    assert!(partition.open_transactions(0).is_empty());
}

#[test]
fn what_has_ended_is_stable_once_its_marker_can_be_seen() {
    let mut partition = Partition::default();
    write(&mut partition, ALICE, 0, 0);
    end_unseen(&mut partition, &commit(ALICE, 0));
    assert_eq!(stable(&partition), 0, "the marker is not written yet");
    partition.raise_high_watermark(Offset::new(2));
    assert_eq!(stable(&partition), 2);
}

#[test]
fn a_marker_that_comes_twice_is_written_once() {
    let mut partition = Partition::default();
    write(&mut partition, ALICE, 5, 0);
    assert_eq!(end(&mut partition, &commit(ALICE, 6)).0, accepted(1));
    let again = Verdict::Duplicate { base_offset: Offset::new(1), timestamp: -1, end: Offset::new(2) };
    assert_eq!(end(&mut partition, &commit(ALICE, 6)), (again, None));
    assert_eq!(write(&mut partition, ALICE, 6, 0), accepted(2));
    let newer = Marker { rule: EpochRule::Newer, ..commit(ALICE, 6) };
    let refused = Rejection::InvalidProducerEpoch { producer: ALICE, current: 6, found: 6 };
    assert_eq!(why(end(&mut partition, &newer).0), refused, "it was held up and must not end the next one");
    let next = Marker { epoch: 7, ..newer };
    assert_eq!(end(&mut partition, &next).0, accepted(3));
}

#[test]
fn a_marker_where_nothing_was_written_fences_all_the_same() {
    let mut partition = Partition::default();
    assert_eq!(end(&mut partition, &abort(ALICE, 3)), (accepted(0), None));
    let fenced = Rejection::InvalidProducerEpoch { producer: ALICE, current: 3, found: 2 };
    assert_eq!(why(write(&mut partition, ALICE, 2, 0)), fenced);
    assert_eq!(why(end(&mut partition, &abort(ALICE, 2)).0), fenced);
    let sequence = Rejection::OutOfOrderSequence { producer: ALICE, expected: 0, found: 4 };
    assert_eq!(why(write(&mut partition, ALICE, 3, 4)), sequence, "a new epoch starts at zero");
    assert_eq!(write(&mut partition, ALICE, 3, 0), accepted(1));
}

#[test]
fn a_coordinator_that_was_replaced_ends_nothing() {
    let mut partition = Partition::default();
    write(&mut partition, ALICE, 0, 0);
    end(&mut partition, &Marker { coordinator_epoch: 4, ..commit(ALICE, 0) });
    write(&mut partition, ALICE, 0, 1);
    let fenced = Rejection::CoordinatorFenced { producer: ALICE, current: 4, found: 3 };
    let late = Marker { coordinator_epoch: 3, ..abort(ALICE, 0) };
    assert_eq!(why(end(&mut partition, &late).0), fenced);
    assert_eq!(stable(&partition), 2);
}

#[test]
fn a_guard_is_void_once_a_marker_came_even_one_that_was_not_written() {
    let mut partition = Partition::default();
    let moved = Rejection::TransactionMoved { producer: ALICE };
    let unknown = within(&partition, ALICE, FirstSequence::Any);
    end(&mut partition, &abort(ALICE, 0));
    assert_eq!(why(write_as(&mut partition, ALICE, (0, 0), unknown)), moved);
    let known = within(&partition, ALICE, FirstSequence::Any);
    end(&mut partition, &abort(ALICE, 0));
    assert_eq!(why(write_as(&mut partition, ALICE, (0, 0), known)), moved, "the one before was repeated");
    let guard = partition.guard(ALICE, 0);
    assert_eq!(write(&mut partition, ALICE, 0, 0), accepted(1));
    let in_line = InTransaction { guard, first_sequence: FirstSequence::Any };
    assert_eq!(write_as(&mut partition, ALICE, (0, 1), in_line), accepted(2), "data makes no guard void");
}

#[test]
fn an_orphan_is_ended_only_if_nobody_else_has() {
    let mut partition = Partition::default();
    write(&mut partition, ALICE, 0, 0);
    let orphan = partition.open_transactions(0)[0];
    assert_eq!((orphan.producer, orphan.epoch, orphan.first_offset), (ALICE, 0, Offset::new(0)));
    end(&mut partition, &commit(ALICE, 0));
    write(&mut partition, ALICE, 0, 1);
    let sweep = Marker { only_if: Some(orphan.guard), ..abort(ALICE, 1) };
    let moved = Rejection::TransactionMoved { producer: ALICE };
    assert_eq!(why(end(&mut partition, &sweep).0), moved);
    let sweep = Marker { only_if: Some(partition.open_transactions(0)[0].guard), ..sweep };
    assert_eq!(end(&mut partition, &sweep).0, accepted(3));
}

#[test]
fn a_transaction_and_what_is_none_do_not_mix() {
    let mut partition = Partition::default();
    write(&mut partition, ALICE, 0, 0);
    let outside = partition.on_append(&data(ALICE, 0, 1, false), None, NOW_MS);
    assert_eq!(why(outside), Rejection::NotTransactional { producer: ALICE });
    let open = Rejection::TransactionOpen { producer: ALICE, current: 0, found: 1 };
    assert_eq!(why(write(&mut partition, ALICE, 1, 0)), open, "no epoch goes on with that of another");
    let guard = partition.guard(ALICE, 0);
    assert_eq!([0, 1].map(|epoch| guard.admits(epoch)), [true, false]);
    assert!(guard.is_open_at(0) && !guard.is_open_at(1));
}

#[test]
fn a_batch_of_a_transaction_that_has_ended_is_no_success_in_the_next() {
    let mut partition = Partition::default();
    write(&mut partition, ALICE, 0, 0);
    let repeated = Verdict::Duplicate { base_offset: Offset::new(0), timestamp: -1, end: Offset::new(1) };
    assert_eq!(write(&mut partition, ALICE, 0, 0), repeated);
    end(&mut partition, &abort(ALICE, 0));
    let moved = Rejection::TransactionMoved { producer: ALICE };
    assert_eq!(why(write(&mut partition, ALICE, 0, 0)), moved);
    assert_eq!(write(&mut partition, ALICE, 0, 1), accepted(2), "its sequences go on");
}

#[test]
fn who_has_a_new_epoch_for_each_transaction_starts_at_zero_though_unknown() {
    let mut partition = Partition::default();
    let sequence = Rejection::OutOfOrderSequence { producer: ALICE, expected: 0, found: 9 };
    let zero = within(&partition, ALICE, FirstSequence::Zero);
    assert_eq!(why(write_as(&mut partition, ALICE, (0, 9), zero)), sequence);
    let any = within(&partition, ALICE, FirstSequence::Any);
    assert_eq!(write_as(&mut partition, ALICE, (0, 9), any), accepted(0));
}

#[test]
fn batches_without_a_sequence_are_never_taken_for_repeated() {
    let mut partition = Partition::default();
    for at in 0..3 {
        assert_eq!(write(&mut partition, ALICE, 0, -1), accepted(at));
    }
    assert_eq!(stable(&partition), 0);
    assert_eq!(partition.active_producers(NOW_MS)[0].last_sequence, -1);
    end(&mut partition, &commit(ALICE, 1));
    assert_eq!(stable(&partition), 4);
}

#[test]
fn who_has_a_transaction_open_is_not_forgotten() {
    let mut partition = Partition::default();
    partition.remember_producers_for(std::time::Duration::from_millis(10));
    write(&mut partition, ALICE, 0, 0);
    partition.on_append(&data(BOB, 0, 0, false), None, NOW_MS);
    partition.expire_producers(NOW_MS + 11, 0);
    let left: Vec<_> = partition.producers().iter().map(|(id, _)| id).collect();
    assert_eq!(left, [ALICE]);
    assert_eq!(partition.active_producers(NOW_MS + 11)[0].transaction_start, Some(Offset::new(0)));
    end(&mut partition, &abort(ALICE, 1));
    partition.expire_producers(NOW_MS + 11, 0);
    assert_eq!(partition.producers().iter().count(), 0);
}

#[test]
fn replay_finds_what_was_open_when_it_was_written() {
    let mut live = Partition::default();
    let mut log: Vec<(BatchHeader, Option<EndMarker>)> = Vec::new();
    let script = [(ALICE, None), (BOB, None), (ALICE, Some(TransactionOutcome::Abort)), (ALICE, None)];
    for (at, (producer, ends)) in script.into_iter().enumerate() {
        let mut header = match ends {
            None => data(producer, 0, -1, true),
            Some(outcome) => header_of(&marker(producer, 0, outcome)),
        };
        header.base_offset = i64::try_from(at).unwrap();
        let ends = ends.map(|outcome| EndMarker { outcome, coordinator_epoch: 0 });
        log.push((header, ends));
        match ends {
            None => assert_eq!(write(&mut live, producer, 0, -1), accepted(header.base_offset)),
            Some(EndMarker { outcome, .. }) => {
                end(&mut live, &marker(producer, 0, outcome));
            }
        }
    }
    let mut replayed = Partition::default();
    let aborted: Vec<_> =
        log.iter().filter_map(|(header, marker)| replayed.replay(header, *marker, NOW_MS)).collect();
    assert_eq!(aborted.len(), 1);
    let open = |partition: &Partition| -> Vec<_> {
        partition.open_transactions(0).iter().map(|one| (one.producer, one.first_offset.get())).collect()
    };
    assert_eq!(open(&replayed), [(BOB, 1), (ALICE, 3)]);
    assert_eq!(open(&replayed), open(&live));
    assert_eq!((stable(&replayed), stable(&live)), (1, 1));
}
