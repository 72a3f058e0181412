//! One transition at a time.

use super::*;

fn header(producer_id: i64, producer_epoch: i16, base_sequence: i32, records: i32) -> BatchHeader {
    BatchHeader {
        base_offset: 0,
        batch_length: 49,
        partition_leader_epoch: 0,
        crc: 0,
        attributes: 0,
        last_offset_delta: records - 1,
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id,
        producer_epoch,
        base_sequence,
        record_count: records,
    }
}

fn accepted(base_offset: i64) -> Verdict {
    Verdict::Accept { base_offset: Offset::new(base_offset) }
}

fn out_of_order(expected: i32, found: i32, seen: i64) -> Verdict {
    let why = Rejection::OutOfOrderSequence { producer: ProducerId::new(1), expected, found };
    Verdict::Reject { why, seen: Offset::new(seen) }
}

#[test]
fn offsets_follow_each_other_and_the_high_watermark_does_not_by_itself() {
    let mut partition = Partition::starting_at(Offset::new(10));
    assert_eq!(partition.on_append(&header(-1, -1, -1, 3), None, 0), accepted(10));
    assert_eq!(partition.on_append(&header(-1, -1, -1, 1), None, 0), accepted(13));
    assert_eq!(partition.log_end(), Offset::new(14));
    assert_eq!(partition.offsets().high_watermark, Offset::new(10));
    partition.raise_high_watermark(Offset::new(13));
    partition.raise_high_watermark(Offset::new(12));
    assert_eq!(partition.offsets().high_watermark, Offset::new(13));
}

#[test]
fn an_unknown_producer_may_start_anywhere_and_then_goes_on_from_there() {
    let mut partition = Partition::default();
    assert_eq!(partition.on_append(&header(1, 4, 100, 2), None, 0), accepted(0));
    assert_eq!(partition.on_append(&header(1, 4, 102, 2), None, 0), accepted(2));
    assert_eq!(partition.on_append(&header(1, 4, 105, 2), None, 0), out_of_order(104, 105, 4));
    assert_eq!(partition.on_append(&header(1, 4, 103, 2), None, 0), out_of_order(104, 103, 4));
}

#[test]
fn sequences_start_over_after_the_largest() {
    let mut partition = Partition::default();
    assert_eq!(partition.on_append(&header(1, 0, i32::MAX - 1, 2), None, 0), accepted(0));
    assert_eq!(partition.on_append(&header(1, 0, 0, 2), None, 0), accepted(2));
    let mut partition = Partition::default();
    assert_eq!(partition.on_append(&header(1, 0, i32::MAX, 3), None, 0), accepted(0));
    assert_eq!(partition.on_append(&header(1, 0, 2, 1), None, 0), accepted(3));
}

#[test]
fn a_new_epoch_starts_at_zero_and_ends_the_old_one() {
    let mut partition = Partition::default();
    assert_eq!(partition.on_append(&header(1, 0, 0, 1), None, 0), accepted(0));
    assert_eq!(partition.on_append(&header(1, 1, 1, 1), None, 0), out_of_order(0, 1, 1));
    assert_eq!(partition.on_append(&header(1, 1, 0, 1), None, 0), accepted(1));
    let why = Rejection::InvalidProducerEpoch { producer: ProducerId::new(1), current: 1, found: 0 };
    assert_eq!(
        partition.on_append(&header(1, 0, 0, 1), None, 0),
        Verdict::Reject { why, seen: Offset::new(2) }
    );
    let repeated =
        Verdict::Duplicate { base_offset: Offset::new(1), timestamp: NO_TIMESTAMP, end: Offset::new(2) };
    assert_eq!(partition.on_append(&header(1, 1, 0, 1), None, 0), repeated);
}

#[test]
fn a_batch_of_the_same_first_sequence_and_another_length_is_no_duplicate() {
    let mut partition = Partition::default();
    assert_eq!(partition.on_append(&header(1, 0, 0, 2), None, 0), accepted(0));
    assert_eq!(partition.on_append(&header(1, 0, 0, 3), None, 0), out_of_order(2, 0, 2));
}

#[test]
fn too_many_producers_push_out_the_most_silent() {
    let mut partition = Partition::default();
    for id in 0..17 {
        partition.on_append(&header(id, 0, 0, 1), None, 100 - id);
    }
    partition.expire_producers(100, 16);
    let kept: Vec<_> = partition.producers().iter().map(|(id, _)| id.get()).collect();
    assert_eq!(kept, (0..14).collect::<Vec<_>>());
}

#[test]
fn an_epoch_in_which_nothing_was_written_leaves_no_trace() {
    let mut partition = Partition::default();
    partition.lead(LeaderEpoch::new(1));
    partition.lead(LeaderEpoch::new(2));
    partition.on_append(&header(-1, -1, -1, 5), None, 0);
    partition.lead(LeaderEpoch::new(2));
    partition.lead(LeaderEpoch::new(1));
    partition.lead(LeaderEpoch::new(3));
    let entries: Vec<_> =
        partition.epochs().entries().iter().map(|start| (start.epoch.get(), start.offset.get())).collect();
    assert_eq!(entries, [(2, 0), (3, 5)]);
    assert_eq!(partition.leader_epoch(), LeaderEpoch::new(3));
}

#[test]
fn a_later_log_start_forgets_the_epochs_before_it() {
    let mut partition = Partition::default();
    for epoch in 1..=3 {
        partition.lead(LeaderEpoch::new(epoch));
        partition.on_append(&header(-1, -1, -1, 10), None, 0);
    }
    partition.raise_high_watermark(partition.log_end());
    partition.raise_log_start(Offset::new(15));
    let entries: Vec<_> =
        partition.epochs().entries().iter().map(|start| (start.epoch.get(), start.offset.get())).collect();
    assert_eq!(entries, [(2, 15), (3, 20)]);
}
