//! Records by their time.

use super::*;
use crate::segment::TimestampedOffset;

/// Batches of two records at 1000, 1010, 1020, ... but the one at 1500 comes early and the last ones late.
fn timed() -> (Rig, Arc<Log>, Vec<i64>) {
    let rig = Rig::small();
    let log = rig.open();
    let mut times: Vec<i64> = (0..40).map(|batch| 1000 + batch * 10).collect();
    times[5] = 1500;
    times[39] = 900;
    for time in &times {
        let mut batch = batch_at(time - 3, &[b"early"]);
        batch.append(&NewRecord { timestamp: *time, value: Some(b"late"), ..NewRecord::default() });
        let append = append_of(batch.build(), Acks::Written);
        submit(&log, append).lock().take().unwrap().unwrap();
    }
    (rig, log, times)
}

fn expected(times: &[i64], timestamp: i64, start: i64) -> Option<i64> {
    let records = times.iter().flat_map(|time| [time - 3, *time]).enumerate();
    let mut records = records.map(|(offset, time)| (i64::try_from(offset).unwrap(), time));
    records.find(|(offset, time)| *offset >= start && *time >= timestamp).map(|(offset, _)| offset)
}

fn offset_of(found: Option<TimestampedOffset>) -> Option<i64> {
    found.map(|found| found.offset.get())
}

#[test]
fn the_first_record_at_or_after_a_time_is_found() {
    let (rig, log, times) = timed();
    let check = |log: &Log, start| {
        for timestamp in 890..1510 {
            let found = log.offset_for_timestamp(timestamp).unwrap();
            assert_eq!(offset_of(found), expected(&times, timestamp, start), "at {timestamp}");
        }
    };
    check(&log, 0);
    log.delete_records(Some(Offset::new(15))).unwrap();
    check(&log, 15);
    log.close().unwrap();
    check(&rig.open(), 15);
}

#[test]
fn the_record_with_the_largest_time_is_the_first_that_has_it() {
    let (rig, log, _) = timed();
    let newest = |log: &Log| {
        let found = log.max_timestamp().unwrap().unwrap();
        (found.offset.get(), found.timestamp, found.leader_epoch.get())
    };
    assert_eq!(newest(&log), (11, 1500, 1));
    log.delete_records(Some(Offset::new(12))).unwrap();
    assert_eq!(newest(&log), (77, 1380, 1), "records that are deleted do not count");
    log.close().unwrap();
    let log = rig.open();
    assert_eq!(newest(&log), (77, 1380, 1));
    log.delete_records(None).unwrap();
    assert_eq!(log.max_timestamp().unwrap(), None);
    assert_eq!(log.offset_for_timestamp(0).unwrap(), None);
}

#[test]
fn log_append_time_is_answered_and_found() {
    let log = Rig::small().open();
    let mut batch = bytes::BytesMut::from(&batch_at(5, &[b"a", b"b"]).build()[..]);
    records::set_log_append_time(&mut batch, 777);
    let appended = submit(&log, append_of(batch.freeze(), Acks::Written)).lock().take().unwrap().unwrap();
    assert_eq!(appended.timestamp, 777);
    assert_eq!(offset_of(log.offset_for_timestamp(777).unwrap()), Some(0));
    assert_eq!(append(&log, &[b"c"], Acks::Written).unwrap().timestamp, -1);
}

#[test]
fn epochs_end_where_the_next_one_begins() {
    let mut rig = Rig::small();
    for epoch in [1, 2, 5] {
        rig.epoch = epoch;
        let log = rig.open();
        fill(&log, 0..10);
    }
    rig.epoch = 6;
    let log = rig.open();
    let ends = |epoch| {
        log.end_offset_for_epoch(LeaderEpoch::new(epoch)).map(|(epoch, end)| (epoch.get(), end.get()))
    };
    assert_eq!(ends(0), Some((0, 0)), "older than all");
    assert_eq!(ends(1), Some((1, 10)));
    assert_eq!(ends(2), Some((2, 20)));
    assert_eq!(ends(4), Some((2, 20)));
    assert_eq!(ends(5), Some((5, 30)));
    assert_eq!(ends(6), Some((6, 30)), "the current one, though nothing was written in it");
    assert_eq!(ends(7), None);
    assert_eq!(ends(-1), None);
}
