//! What compaction leaves of a log, and what it must not touch.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::*;
use crate::clock::Pace;
use crate::disk::Patience;
use crate::segment::Wanted;
use crate::segment_list::Based;
use millstream_protocol::records::EndMarker;

mod crashes;
mod damage;
mod model;

/// A record as a consumer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    offset: i64,
    timestamp: i64,
    key: Option<String>,
    value: Option<String>,
}

/// Enough for the keys of any test.
const ROOMY: usize = 1 << 20;

fn now(dedupe_buffer_bytes: usize) -> CompactLimits {
    CompactLimits { demand: Demand::Now, dedupe_buffer_bytes }
}

fn try_compact(log: &Log, limits: CompactLimits) -> Result<Option<Compacted>, CompactError> {
    log.compact(limits, &Pace::unlimited(), &mut |_| ControlFlow::Continue(()))
}

fn compact(log: &Log) -> Compacted {
    try_compact(log, now(ROOMY)).unwrap().unwrap()
}

/// Keys and values; a value that is missing is a tombstone.
fn keyed(records: &[(&str, Option<&str>)]) -> BatchBuilder {
    let mut builder = BatchBuilder::new(Compression::None);
    for (key, value) in records {
        let (key, value) = (Some(key.as_bytes()), value.map(str::as_bytes));
        builder.append(&NewRecord { timestamp: NOW_MS, key, value, ..NewRecord::default() });
    }
    builder
}

fn put(log: &Arc<Log>, batch: BatchBuilder) -> i64 {
    let outcome = submit(log, append_of(batch.build(), Acks::Written));
    let result = outcome.lock().take();
    result.expect("written at once").unwrap().base_offset.get()
}

/// Every batch from the log's start on, as a consumer gets them: it asks behind the last batch that it got.
fn batches(log: &Log) -> Vec<Bytes> {
    let mut found = Vec::new();
    let mut next = log.offsets().log_start.get();
    loop {
        let bytes = read_bytes(log, from(next));
        if bytes.is_empty() {
            return found;
        }
        for batch in records::batches(bytes) {
            let batch = batch.unwrap();
            let view = BatchView::parse(&batch).unwrap();
            assert!(view.crc_is_valid());
            assert!(view.last_offset() >= next, "a consumer at {next} got a batch that ends before");
            next = view.last_offset() + 1;
            found.push(batch);
        }
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Every record that a consumer gets.
fn seen(log: &Log) -> Vec<Seen> {
    let start = log.offsets().log_start.get();
    let mut found: Vec<Seen> = Vec::new();
    for batch in batches(log) {
        for record in records::records(&batch, usize::MAX).unwrap() {
            let record = record.unwrap();
            assert!(found.last().is_none_or(|last| last.offset < record.offset), "offsets rise");
            if record.offset >= start {
                let (key, value) = (record.key.as_ref().map(text), record.value.as_ref().map(text));
                found.push(Seen { offset: record.offset, timestamp: record.timestamp, key, value });
            }
        }
    }
    found
}

/// What each key stands at, and where.
fn table(log: &Log) -> Vec<(i64, String, Option<String>)> {
    seen(log).into_iter().map(|seen| (seen.offset, seen.key.unwrap(), seen.value)).collect()
}

/// The same in short, with a value of `-` for a tombstone.
fn brief(log: &Log) -> String {
    let one = |(offset, key, value): (i64, String, Option<String>)| {
        format!("{offset}:{key}={}", value.unwrap_or_else(|| "-".into()))
    };
    table(log).into_iter().map(one).collect::<Vec<_>>().join(" ")
}

/// Appends `a=0 b=1 c=2 a=3 ...`, a batch each.
fn cycle(log: &Arc<Log>, keys: &[&str], range: std::ops::Range<usize>) {
    for number in range {
        put(log, keyed(&[(keys[number % keys.len()], Some(&number.to_string()))]));
    }
}

#[test]
fn the_last_record_of_each_key_stays_where_it_was() {
    let rig = Rig::small();
    let log = rig.open();
    cycle(&log, &["a", "b", "c"], 0..100);
    assert!(log.segment_count() > 5);
    let done = compact(&log);
    assert_eq!(brief(&log), "97:b=97 98:c=98 99:a=99");
    assert_eq!((done.records_before, done.records_removed, done.keys), (100, 97, 3));
    assert_eq!((done.cleaned_to.get(), done.more, end(&log)), (100, false, 100));
    assert_eq!(done.bytes_after, log.size_bytes());
    compact(&log);
    assert_eq!(log.segment_count(), 2, "small neighbours become one");
    assert_eq!(brief(&log), "97:b=97 98:c=98 99:a=99");
    cycle(&log, &["a", "d"], 100..104);
    assert_eq!(brief(&log), "97:b=97 98:c=98 99:a=99 100:a=100 101:d=101 102:a=102 103:d=103");
    log.close().unwrap();
    let log = rig.try_open(CleanStart::Yes).unwrap().0;
    compact(&log);
    assert_eq!(brief(&log), "97:b=97 98:c=98 102:a=102 103:d=103");
    assert_eq!(log.cleaned_to().get(), 104);
}

#[test]
fn the_active_segment_and_young_records_are_left_alone() {
    let mut rig = Rig::small();
    rig.config.min_compaction_lag = Duration::from_secs(60);
    rig.config.min_dirty_ppm = 0;
    let log = rig.open();
    cycle(&log, &["a"], 0..20);
    rig.clock.advance(Duration::from_secs(61));
    cycle(&log, &["a"], 20..40);
    let due = CompactLimits { demand: Demand::IfDue, dedupe_buffer_bytes: ROOMY };
    let bases: Vec<_> = log.segments.all().iter().map(|segment| segment.base().get()).collect();
    let done = try_compact(&log, due).unwrap().unwrap();
    let young = bases.iter().copied().find(|base| *base > 20).unwrap();
    let old = bases.iter().copied().rfind(|base| *base <= 20).unwrap();
    assert!(done.cleaned_to.get() == old || done.cleaned_to.get() == young, "{done:?} of {bases:?}");
    let kept: Vec<_> = table(&log).into_iter().map(|(offset, ..)| offset).collect();
    let expected: Vec<_> = (done.cleaned_to.get() - 1..40).collect();
    assert_eq!(kept, expected);
    assert!(log.dirtiness().dirty_bytes == 0 && !log.dirtiness().is_due);
}

#[test]
fn a_run_is_due_when_enough_is_dirty_or_some_for_too_long() {
    let mut rig = Rig::small();
    rig.config.min_dirty_ppm = 400_000;
    rig.config.max_compaction_lag = Duration::from_secs(1000);
    let due = CompactLimits { demand: Demand::IfDue, dedupe_buffer_bytes: ROOMY };
    let log = rig.open();
    assert!(!log.dirtiness().is_due);
    cycle(&log, &["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"], 0..60);
    assert_eq!(log.dirtiness().ratio_ppm(), 1_000_000);
    try_compact(&log, due).unwrap().unwrap();
    assert_eq!(try_compact(&log, due).unwrap(), None);
    cycle(&log, &["a"], 60..64);
    assert!(!log.dirtiness().is_due, "{:?}", log.dirtiness());
    rig.clock.advance(Duration::from_secs(1001));
    let late = log.dirtiness();
    assert!(late.is_overdue && late.is_due);
    let done = try_compact(&log, due).unwrap().unwrap();
    assert_eq!(done.cleaned_to.get(), 64, "the active segment was closed for it");
    assert!(!log.dirtiness().is_due);
    let facts = log.compaction_facts();
    assert_eq!((facts.runs, facts.is_running, facts.last), (2, false, Some(done)));
    assert_eq!(facts.last_success_ms, Some(NOW_MS + 1_001_000));
}

#[test]
fn a_tombstone_stays_for_its_time_after_the_run_that_went_through_it() {
    let mut rig = Rig::small();
    rig.config.delete_retention = Duration::from_secs(100);
    let log = rig.open();
    put(&log, keyed(&[("a", Some("1")), ("b", Some("1"))]));
    put(&log, keyed(&[("a", None), ("c", Some("1"))]));
    rig.clock.advance(Duration::from_secs(1000));
    compact(&log);
    assert_eq!(brief(&log), "1:b=1 2:a=- 3:c=1");
    assert!(seen(&log).iter().all(|seen| seen.timestamp == NOW_MS), "a horizon moves no timestamp");
    rig.clock.advance(Duration::from_secs(99));
    compact(&log);
    assert_eq!(brief(&log), "1:b=1 2:a=- 3:c=1");
    drop(log);
    let log = rig.open();
    rig.clock.advance(Duration::from_secs(1));
    compact(&log);
    assert_eq!(brief(&log), "1:b=1 3:c=1");
    put(&log, keyed(&[("c", None)]));
    compact(&log);
    rig.clock.advance(Duration::from_secs(100));
    compact(&log);
    assert_eq!((brief(&log).as_str(), end(&log)), ("1:b=1", 5));
}

#[test]
fn records_without_a_key_go_and_control_batches_stay() {
    let rig = Rig::small();
    let log = rig.open();
    written(&log, &[b"no key"]);
    ended(&log, abort_of(7, 0)).unwrap();
    put(&log, keyed(&[("a", Some("1"))]));
    compact(&log);
    let left: Vec<_> = batches(&log).iter().map(|batch| BatchView::parse(batch).unwrap().header()).collect();
    let left: Vec<_> = left.iter().map(|header| (header.base_offset, header.is_control())).collect();
    assert_eq!(left, [(1, true), (2, false)]);
}

/// What is left: the offset of each batch, how many records it has, and whether it is a marker.
fn shape(log: &Log) -> Vec<(i64, i32, bool)> {
    let headers = batches(log).into_iter().map(|batch| BatchView::parse(&batch).unwrap().header());
    headers.map(|header| (header.base_offset, header.record_count, header.is_control())).collect()
}

#[test]
fn what_was_aborted_goes_and_its_marker_once_its_horizon_has_passed() {
    let mut rig = Rig::small();
    rig.config.delete_retention = Duration::from_secs(10);
    rig.config.producer_expiration = Duration::from_secs(5);
    let log = rig.open();
    let put_in = |producer: i64, key: &str, value: &str| {
        let mut batch = keyed(&[(key, Some(value))]);
        batch.producer(producer, 0, -1);
        drop(submit(&log, in_transaction(&log, batch, Acks::Durable)));
    };
    put(&log, keyed(&[("a", Some("before"))]));
    put_in(1, "a", "aborted");
    put_in(2, "b", "committed");
    ended(&log, abort_of(1, 0)).unwrap();
    ended(&log, commit_of(2, 0)).unwrap();
    put_in(3, "a", "open");
    put(&log, keyed(&[("b", Some("behind an open one"))]));
    let all = shape(&log);
    assert_eq!(compact(&log).cleaned_to.get(), 0, "the segment has what is not stable");
    assert_eq!(shape(&log), all);
    ended(&log, commit_of(3, 0)).unwrap();
    rig.clock.advance(Duration::from_secs(6));
    put(&log, keyed(&[("c", Some("1"))]));
    compact(&log);
    let (marker, data) = (true, false);
    let left = [(3, 1, marker), (4, 1, marker), (5, 1, data), (6, 1, data), (7, 1, marker), (8, 1, data)];
    assert_eq!(shape(&log), left, "markers outlive the batches that the same run removed");
    let horizons = |log: &Log| -> Vec<bool> {
        let headers = batches(log).into_iter().map(|batch| BatchView::parse(&batch).unwrap().header());
        headers.map(|header| header.delete_horizon_ms().is_some()).collect()
    };
    compact(&log);
    assert_eq!(shape(&log), left);
    assert_eq!(horizons(&log), [true, true, false, false, false, false], "their time begins");
    let says = BatchView::parse(&batches(&log)[0]).map(|view| EndMarker::from_batch(&view)).unwrap();
    assert_eq!(says.map(|says| says.outcome), Some(TransactionOutcome::Abort), "it says the same");
    rig.clock.advance(Duration::from_secs(10));
    compact(&log);
    assert_eq!(shape(&log), left[2..], "the marker of what is still there stays");
    assert!(log.segments.all().iter().all(|segment| segment.aborted().is_empty()));
}

#[test]
fn the_last_batch_of_a_living_producer_stays_though_empty_and_its_marker_with_it() {
    let mut rig = Rig::small();
    rig.config.delete_retention = Duration::ZERO;
    let log = rig.open();
    let mut batch = keyed(&[("a", Some("aborted"))]);
    batch.producer(1, 0, 0);
    drop(submit(&log, in_transaction(&log, batch, Acks::Durable)));
    ended(&log, abort_of(1, 0)).unwrap();
    put(&log, keyed(&[("a", Some("1"))]));
    for _ in 0..3 {
        compact(&log);
        assert_eq!(shape(&log), [(0, 0, false), (1, 1, true), (2, 1, false)]);
        rig.clock.advance(Duration::from_secs(1));
    }
    drop(log);
    for name in rig.names().iter().filter(|name| name.ends_with(".snapshot") || name.ends_with(".txnindex")) {
        rig.disk.remove_file(&Rig::file(name)).unwrap();
    }
    let log = rig.open();
    assert_eq!(log.offsets().last_stable.get(), 3, "the batch that was emptied opens nothing for good");
    assert_eq!(log.active_producers()[0].last_sequence, 0);
}

#[test]
fn the_last_batch_of_a_living_producer_stays_though_empty() {
    let rig = Rig::small();
    let log = rig.open();
    let by = |producer: i64, sequence: i32, value: &str| {
        let mut batch = keyed(&[("a", Some(value)), ("b", Some(value))]);
        batch.producer(producer, 0, sequence);
        batch
    };
    put(&log, by(1, 0, "1"));
    put(&log, by(1, 2, "2"));
    put(&log, by(2, 0, "3"));
    put(&log, by(2, 2, "4"));
    compact(&log);
    let counts = |log: &Log| -> Vec<(i64, i64, i32)> {
        let views = batches(log);
        let views = views.iter().map(|batch| BatchView::parse(batch).unwrap());
        views.map(|view| (view.producer_id(), view.base_offset(), view.record_count())).collect()
    };
    assert_eq!(counts(&log), [(1, 2, 0), (2, 6, 2)]);
    assert_eq!(log.offset_for_timestamp(NOW_MS).unwrap().unwrap().offset.get(), 6);
    assert_eq!(log.max_timestamp().unwrap().unwrap().offset.get(), 6);
    compact(&log);
    assert_eq!(counts(&log), [(1, 2, 0), (2, 6, 2)], "it stays empty");
    // Without a snapshot the producers' sequences come from the batches.
    drop(log);
    for name in rig.names().iter().filter(|name| name.ends_with(".snapshot")) {
        rig.disk.remove_file(&Rig::file(name)).unwrap();
    }
    let log = rig.open();
    assert_eq!(put(&log, by(1, 2, "2")), 2, "a duplicate");
    assert_eq!(put(&log, by(1, 4, "5")), 8);
    rig.clock.advance(Duration::from_hours(25));
    put(&log, by(2, 4, "6"));
    compact(&log);
    assert_eq!(counts(&log), [(2, 10, 2)], "producer 1 is forgotten");
}

#[test]
fn a_full_key_map_ends_a_run_and_the_next_goes_on() {
    let rig = Rig::small();
    let log = rig.open();
    let keys = ["a", "b", "c", "d", "e", "f", "g"];
    cycle(&log, &keys, 0..70);
    let mut runs = 0;
    loop {
        let done = try_compact(&log, now(3 * 24)).unwrap().unwrap();
        assert!(done.cleaned_to > done.dirty_from && done.keys <= 3 && done.key_map_bytes <= 3 * 24 + 16);
        runs += 1;
        if !done.more {
            break;
        }
    }
    assert!(runs > 7);
    // A key that came again only in a later run was replaced there.
    let left = table(&log);
    let last: BTreeMap<_, _> = left.iter().map(|(offset, key, _)| (key.clone(), *offset)).collect();
    assert_eq!(last.values().copied().collect::<Vec<_>>(), (63..70).collect::<Vec<_>>());
    assert_eq!(left.len(), 7);
}

#[test]
fn one_run_at_a_time_and_whoever_watches_can_end_it() {
    let rig = Rig::small();
    let log = rig.open();
    cycle(&log, &["a"], 0..20);
    let busy = log.compacting.lock();
    assert!(matches!(try_compact(&log, now(ROOMY)), Err(CompactError::Busy)));
    drop(busy);
    cycle(&log, &["a"], 20..120);
    let before = rig.names();
    let mut asked = 0;
    let stopped = log.compact(now(ROOMY), &Pace::unlimited(), &mut |progress| {
        asked += 1;
        assert!(progress.read_bytes <= progress.total_bytes);
        if asked == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(CompactError::Stopped)), "{stopped:?}");
    assert!(!rig.names().iter().any(|name| name.contains("cleaned") || name.contains("swap")));
    assert!(log.segment_count() >= before.iter().filter(|name| name.ends_with(".log")).count());
    assert_eq!(log.compaction_facts().last_error.as_deref(), Some("the compaction was stopped"));
    compact(&log);
    assert_eq!(table(&log).len(), 1);
}

#[test]
fn appends_trims_and_readers_go_on_during_a_run() {
    let rig = Rig::small();
    let log = rig.open();
    cycle(&log, &["a", "b"], 0..100);
    let old = log.segments.all();
    let mut steps = 0;
    let done = log.compact(now(ROOMY), &Pace::unlimited(), &mut |_| {
        steps += 1;
        put(&log, keyed(&[("c", Some("during"))]));
        ControlFlow::Continue(())
    });
    assert_eq!(done.unwrap().unwrap().cleaned_to.get(), 100);
    assert!(steps > 2);
    assert_eq!(table(&log).len(), 2 + steps);
    // Whoever found a segment before reads the old one to its end, index and all.
    let wanted = Wanted {
        from: Offset::new(1),
        below: Offset::new(2000),
        max_bytes: usize::MAX,
        whole_first: true,
        patience: Patience::Waits,
    };
    let first = &old[0];
    let slice = first.slice(Wanted { from: first.base(), ..wanted }, &log.epochs).unwrap().unwrap();
    let mut bytes = vec![0; slice.bytes];
    assert_eq!(first.file().unwrap().read_at(&mut bytes, slice.position).unwrap(), slice.bytes);
    assert!(BatchView::parse(&bytes).unwrap().crc_is_valid());
    // A trim takes away what is read: the run gives up, and nothing is lost.
    cycle(&log, &["d"], 0..100);
    let overtaken = log.compact(now(ROOMY), &Pace::unlimited(), &mut |_| {
        log.delete_records(None).unwrap();
        ControlFlow::Continue(())
    });
    assert!(matches!(overtaken, Err(CompactError::Overtaken)), "{overtaken:?}");
    put(&log, keyed(&[("e", Some("after"))]));
    compact(&log);
    assert_eq!(table(&log).len(), 1);
}
