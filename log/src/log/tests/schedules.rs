//! Whole logs in schedules that shuttle chooses: appenders who lead and follow, the flusher, readers, a
//! deleter, and at the end a power cut. Every call to the simulated disk is a place where threads change.

use shuttle::rand::Rng;
use shuttle::sync::mpsc;
use shuttle::thread::{self, JoinHandle};

use super::*;
use crate::flusher::Flusher;
use crate::sync::schedules::explore;

/// Every other batch starts a segment, and every roll asks for a checkpoint.
fn tiny() -> Rig {
    Rig::new(LogConfig { segment_bytes: 170, index_interval_bytes: 0, ..LogConfig::default() })
}

fn open(rig: &Rig, flusher: Arc<Flusher>) -> Arc<Log> {
    let options = OpenOptions {
        // After a power cut a flusher that is still at it must reach nothing.
        disk: Arc::new(rig.disk.for_process()),
        clock: Arc::clone(&rig.clock) as Arc<dyn Clock>,
        flusher,
        dir: Rig::dir(),
        config: rig.config.clone(),
        leader_epoch: LeaderEpoch::new(rig.epoch),
        clean: CleanStart::No,
    };
    Log::open(options).unwrap().0
}

/// Who appended, which of its batches, and the answer.
type Told = (usize, usize, Result<i64, AppendError>);

fn appender(
    log: &Arc<Log>,
    (who, batches): (usize, usize),
    acks: Acks,
    tell: &mpsc::Sender<Told>,
) -> JoinHandle<()> {
    let (log, tell) = (Arc::clone(log), tell.clone());
    thread::spawn(move || {
        for batch in 0..batches {
            let tell = tell.clone();
            let done = Box::new(move |result: Result<Appended, AppendError>| {
                tell.send((who, batch, result.map(|at| at.base_offset.get()))).unwrap();
            });
            let value = format!("{who}/{batch}");
            let append = append_of(batch_at(NOW_MS, &[value.as_bytes()]).build(), acks);
            match log.append(append, done) {
                // The lead is handed on to a thread of its own, as the broker does.
                Some(Left::Lead(leadership)) => thread::spawn(move || drop(leadership)).join().unwrap(),
                Some(Left::Flush(flush)) if batch % 2 == 0 => flush.run(),
                Some(Left::Flush(_)) | None => {}
            }
        }
    })
}

/// Every answer. One that never comes is a deadlock, which shuttle reports.
fn answers(told: &mpsc::Receiver<Told>, count: usize) -> Vec<Told> {
    (0..count).map(|_| told.recv().unwrap()).collect()
}

/// One fetch: the values from `next` on, as far as they lie in one segment.
fn fetch(log: &Log, next: i64) -> Result<Vec<String>, ReadError> {
    let Some(Chunk::Bytes(bytes)) = log.read(from(next))?.records else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for batch in records::batches(bytes) {
        found.extend(records::records(&batch.unwrap(), usize::MAX).unwrap().map(Result::unwrap));
    }
    found.retain(|record| record.offset >= next);
    let dense = found.iter().zip(next..).all(|(record, at)| record.offset == at);
    assert!(dense, "a fetch skips: {found:?}");
    Ok(found
        .iter()
        .map(|record| String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap())
        .collect())
}

/// Reads from the start like a consumer, sleeping at the end, until it has seen `records` or the log closes.
fn reader(log: &Arc<Log>, records: usize) -> JoinHandle<Vec<String>> {
    struct Unpark(thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let log = Arc::clone(log);
    thread::spawn(move || {
        let waker = std::task::Waker::from(Arc::new(Unpark(thread::current())));
        let mut found = Vec::new();
        while found.len() < records {
            let next = i64::try_from(found.len()).unwrap();
            let parked = log.park(&waker, Offset::new(next), Isolation::ReadUncommitted);
            while log.offsets().high_watermark.get() <= next && !log.tail.is_closed() {
                thread::park();
            }
            drop(parked);
            match fetch(&log, next) {
                Ok(values) => {
                    assert!(!values.is_empty(), "{next} was shown and reads as nothing");
                    found.extend(values);
                }
                Err(ReadError::Closed) => break,
                Err(error) => panic!("{error}"),
            }
        }
        found
    })
}

/// After a power cut: what was acknowledged is in the log at its offset, once, and each appender's batches
/// are in its order.
fn judge(rig: &Rig, told: &[Told]) -> Arc<Log> {
    rig.disk.power_cut(PowerCut::LosesUnsynced);
    let log = open(rig, Flusher::inline());
    let start = log.offsets().log_start.get();
    let found = values(&consume(&log, start));
    let mut at = std::collections::BTreeMap::new();
    for (who, batch, answer) in told {
        let Ok(offset) = answer else { continue };
        let value = format!("{who}/{batch}");
        assert!(at.insert(*offset, value.clone()).is_none(), "two batches were told offset {offset}");
        if *offset >= start {
            let index = usize::try_from(offset - start).unwrap();
            assert_eq!(found.get(index), Some(&value), "acknowledged at {offset} and not there: {found:?}");
        }
    }
    for who in 0..4 {
        let prefix = format!("{who}/");
        let own: Vec<_> = found.iter().filter(|value| value.starts_with(&prefix)).collect();
        assert!(own.is_sorted_by(|a, b| a < b), "{own:?} of {found:?}");
    }
    log
}

fn join(threads: Vec<JoinHandle<()>>) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn group_commit_beside_rolls_and_fetches(plant: fn(&SimDisk)) {
    let rig = tiny();
    plant(&rig.disk);
    let log = open(&rig, Flusher::start(2));
    let (tell, told) = mpsc::channel();
    let appenders = (0..3).map(|who| appender(&log, (who, 2), Acks::Durable, &tell)).collect();
    let readers = [reader(&log, 6), reader(&log, 6)];
    let seen = readers.map(|reader| reader.join().unwrap());
    assert_eq!(seen[0], seen[1], "two readers saw different logs");
    join(appenders);
    let told = answers(&told, 6);
    assert!(told.iter().all(|(.., answer)| answer.is_ok()), "{told:?}");
    assert!(log.segment_count() > 2, "nothing was rolled");
    judge(&rig, &told);
}

#[test]
fn shuttle_group_commit_beside_rolls_and_fetches() {
    explore(400, || group_commit_beside_rolls_and_fetches(|_| {}));
}

#[test]
#[should_panic(expected = "acknowledged at")]
fn shuttle_a_disk_that_lies_about_syncs_is_caught() {
    explore(400, || group_commit_beside_rolls_and_fetches(SimDisk::make_syncs_lie));
}

/// The power fails at any change, and whoever was told before is held to it.
#[test]
fn shuttle_the_power_fails_in_the_middle_of_group_commit() {
    explore(400, || {
        let rig = tiny();
        let log = open(&rig, Flusher::start(2));
        let (tell, told) = mpsc::channel();
        let at = rig.disk.changes() + shuttle::rand::thread_rng().gen_range(0..30);
        rig.disk.fail_power_at(at);
        join((0..3).map(|who| appender(&log, (who, 2), Acks::Durable, &tell)).collect());
        judge(&rig, &answers(&told, 6));
    });
}

type Flushes = fn(&Log) -> Offset;

/// One thread makes durable what others append, says how far, and the power fails at that moment.
fn what_a_flush_reports_is_durable(flush: Flushes) {
    let rig = tiny();
    let log = open(&rig, Flusher::inline());
    log.flush().unwrap();
    let (tell, _told) = mpsc::channel();
    let appenders = (0..2).map(|who| appender(&log, (who, 2), Acks::Written, &tell)).collect();
    let promised = flush(&log);
    rig.disk.fail_power_at(rig.disk.changes());
    join(appenders);
    let kept = end(&judge(&rig, &[]));
    assert!(kept >= promised.get(), "reported durable to {promised}, after the power cut it ends at {kept}");
}

#[test]
fn shuttle_what_a_flush_reports_is_durable() {
    explore(2_000, || {
        what_a_flush_reports_is_durable(|log| {
            let written = log.offsets().log_end;
            log.flush().unwrap();
            written
        });
    });
}

#[test]
#[should_panic(expected = "reported durable to")]
fn shuttle_a_flush_that_looks_at_the_segments_before_the_end_is_caught() {
    explore(2_000, || {
        what_a_flush_reports_is_durable(|log| {
            let _flushing = log.flushing.lock();
            let segments = log.segments.all();
            let target = log.tail.log_end();
            segments.iter().for_each(|segment| segment.sync().unwrap());
            log.disk.sync_dir(&Rig::dir()).unwrap();
            target
        });
    });
}

#[test]
fn shuttle_a_sync_that_fails_ends_the_acknowledgements_of_its_log() {
    explore(400, || {
        let rig = tiny();
        let log = open(&rig, Flusher::start(1));
        rig.disk.fail_sync(1);
        let (tell, told) = mpsc::channel();
        join((0..3).map(|who| appender(&log, (who, 2), Acks::Durable, &tell)).collect());
        let told = answers(&told, 6);
        let failed = told.iter().position(|(.., answer)| answer.is_err()).unwrap_or(told.len());
        assert!(told[failed..].iter().all(|(.., answer)| answer.is_err()), "acknowledged after: {told:?}");
        judge(&rig, &told);
    });
}

#[test]
fn shuttle_deletion_from_the_front_beside_appends_fetches_and_checkpoints() {
    explore(400, || {
        let rig = tiny();
        let log = open(&rig, Flusher::start(1));
        let (tell, told) = mpsc::channel();
        let appenders = (0..2).map(|who| appender(&log, (who, 3), Acks::Durable, &tell)).collect();
        let deleter = {
            let log = Arc::clone(&log);
            thread::spawn(move || log.delete_records(None).unwrap())
        };
        for _ in 0..3 {
            let offsets = log.offsets();
            match log.read(from(offsets.log_start.get())) {
                Ok(slice) => {
                    let is_empty = offsets.log_start == offsets.high_watermark;
                    assert!(is_empty || slice.records.is_some(), "{offsets:?} reads as nothing");
                }
                Err(ReadError::OutOfRange { held, .. }) => assert!(held.start > offsets.log_start),
                Err(error) => panic!("a deletion looks like damage: {error}"),
            }
        }
        let deleted_to = deleter.join().unwrap();
        join(appenders);
        let start = judge(&rig, &answers(&told, 6)).offsets().log_start;
        assert!(start >= deleted_to, "deleted records are back: {start} after {deleted_to}");
    });
}

#[test]
fn shuttle_a_log_that_is_deleted_tells_everybody() {
    explore(400, || {
        let rig = tiny();
        let log = open(&rig, Flusher::start(1));
        let (tell, told) = mpsc::channel();
        let appenders = (0..2).map(|who| appender(&log, (who, 2), Acks::Durable, &tell)).collect();
        let reader = reader(&log, 100);
        log.delete();
        reader.join().unwrap();
        join(appenders);
        answers(&told, 4);
    });
}

/// Everything is too old at once: the active segment is closed and deleted under the eyes of those who append
/// to it and read it.
#[test]
fn shuttle_retention_beside_appends_fetches_and_checkpoints() {
    explore(400, || {
        let tiny = tiny();
        let rig = Rig::new(LogConfig { retention_age: Some(Duration::ZERO), ..tiny.config });
        let log = open(&rig, Flusher::start(1));
        rig.clock.advance(Duration::from_secs(1));
        let (tell, told) = mpsc::channel();
        let appenders = (0..2).map(|who| appender(&log, (who, 3), Acks::Durable, &tell)).collect();
        let keeper = {
            let log = Arc::clone(&log);
            thread::spawn(move || (0..3).map(|_| log.enforce_retention().unwrap().log_start).collect())
        };
        for _ in 0..3 {
            let offsets = log.offsets();
            match log.read(from(offsets.log_start.get())) {
                Ok(slice) => {
                    let is_empty = offsets.log_start == offsets.high_watermark;
                    assert!(is_empty || slice.records.is_some(), "{offsets:?} reads as nothing");
                }
                Err(ReadError::OutOfRange { held, .. }) => assert!(held.start > offsets.log_start),
                Err(error) => panic!("a deletion looks like damage: {error}"),
            }
        }
        let starts: Vec<Offset> = keeper.join().unwrap();
        assert!(starts.is_sorted(), "{starts:?}");
        join(appenders);
        let told = answers(&told, 6);
        assert!(told.iter().all(|(.., answer)| answer.is_ok()), "{told:?}");
        let start = judge(&rig, &told).offsets().log_start;
        assert!(start >= starts[2], "deleted records are back: {start} after {starts:?}");
    });
}

/// What reopening puts back for good: a sync fails, and the log is cut, and given to new batches, under the
/// eyes of those who append to it, read it and flush it.
fn a_log_is_reopened_beside_appends_and_fetches(acks: Acks) {
    let rig = tiny();
    let log = open(&rig, Flusher::start(1));
    rig.disk.fail_sync(shuttle::rand::thread_rng().gen_range(0..5));
    let (tell, told) = mpsc::channel();
    let appenders = (0..2).map(|who| appender(&log, (who, 3), acks, &tell)).collect();
    let mender = {
        let log = Arc::clone(&log);
        thread::spawn(move || {
            for _ in 0..12 {
                let epoch = log.leader_epoch();
                let was_failed = log.is_failed();
                log.reopen(LeaderEpoch::new(0)).unwrap();
                assert!(!was_failed || log.leader_epoch() > epoch);
                thread::yield_now();
            }
        })
    };
    for _ in 0..4 {
        let (epoch, end) = (log.leader_epoch(), log.offsets().high_watermark);
        match log.read(from(0)) {
            Ok(_) | Err(ReadError::Io(_)) => {}
            Err(error) => panic!("a reopening looks like damage: {error}"),
        }
        let now = log.offsets().high_watermark;
        // In this order: the failure is taken back after the epoch has risen.
        let is_told = now >= end || log.is_failed() || log.leader_epoch() > epoch;
        assert!(is_told, "the end fell from {end} to {now} in epoch {epoch}");
    }
    join(appenders);
    mender.join().unwrap();
    let told = answers(&told, 6);
    drop(log.reopen(LeaderEpoch::new(0)).unwrap());
    log.flush().ok();
    judge(&rig, if acks == Acks::Durable { &told } else { &[] });
}

#[test]
fn shuttle_a_log_is_reopened_beside_durable_appends() {
    explore(100, || a_log_is_reopened_beside_appends_and_fetches(Acks::Durable));
}

#[test]
fn shuttle_a_log_is_reopened_beside_written_appends() {
    explore(100, || a_log_is_reopened_beside_appends_and_fetches(Acks::Written));
}

/// Readers who have to verify first, a scrub and an appender, on a log of which one batch is damaged.
#[test]
fn shuttle_verification_beside_a_scrub_and_appends() {
    explore(80, || {
        let rig = tiny();
        let log = open(&rig, Flusher::inline());
        fill(&log, 0..6);
        log.close().unwrap();
        let first = Rig::file("00000000000000000000.log");
        assert!(rig.disk.damage(&first, crate::disk::Damage::FlippedBit { bit: 70 * 8 }));
        rig.disk.evict(&first);
        let log = open(&rig, Flusher::inline());
        let (tell, told) = mpsc::channel();
        let appender = appender(&log, (0, 2), Acks::Durable, &tell);
        let scrub = {
            let log = Arc::clone(&log);
            thread::spawn(move || {
                let from = ScrubFrom { offset: Offset::default(), max_bytes: u64::MAX };
                log.scrub(from, &crate::Pace::unlimited()).unwrap()
            })
        };
        let readers = [0, 1].map(|_| {
            let log = Arc::clone(&log);
            thread::spawn(move || {
                for offset in 0..6 {
                    match (offset, fetch(&log, offset)) {
                        (0, Err(ReadError::Corrupt { .. })) => {}
                        (1.., Ok(values)) => assert_eq!(values[0], format!("value-{offset:03}")),
                        (_, other) => panic!("at {offset}: {other:?}"),
                    }
                }
            })
        });
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        assert_eq!(scrub.join().unwrap().damaged.len(), 1);
        join(vec![appender]);
        assert!(answers(&told, 2).iter().all(|(.., answer)| answer.is_ok()));
        assert_eq!(log.quarantined().len(), 1);
    });
}

/// Keys `a` and `b` in turn are compacted while they are appended and read: a reader never sees a key fall back,
/// and what was acknowledged last is there after a power cut.
fn compaction_beside_appends_and_fetches() {
    use std::ops::ControlFlow;

    use crate::clock::Pace;

    let rig = tiny();
    let log = open(&rig, Flusher::start(1));
    let keyed = |number: usize| {
        let mut batch = BatchBuilder::new(Compression::None);
        let (key, value) = (["a", "b"][number % 2], number.to_string());
        let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
        batch.append(&NewRecord { timestamp: NOW_MS, key, value, ..NewRecord::default() });
        append_of(batch.build(), Acks::Durable)
    };
    let (tell, told) = mpsc::channel();
    let appending = Arc::clone(&log);
    let appender = thread::spawn(move || {
        for number in 0..6 {
            let tell = tell.clone();
            let done = Box::new(move |result: Result<Appended, AppendError>| {
                tell.send(result.unwrap().base_offset.get()).unwrap();
            });
            drop(appending.append(keyed(number), done));
        }
    });
    let compacting = Arc::clone(&log);
    let compactor = thread::spawn(move || {
        for _ in 0..2 {
            let limits = CompactLimits { demand: Demand::Now, dedupe_buffer_bytes: 1 << 10 };
            compacting.compact(limits, &Pace::unlimited(), &mut |_| ControlFlow::Continue(())).unwrap();
        }
    });
    let reading = Arc::clone(&log);
    let reader = thread::spawn(move || {
        let (mut next, mut last) = (0, -1);
        for _ in 0..4 {
            let Some(Chunk::Bytes(bytes)) = reading.read(from(next)).unwrap().records else { continue };
            for batch in records::batches(bytes) {
                let batch = batch.unwrap();
                next = BatchView::parse(&batch).unwrap().last_offset() + 1;
                for record in records::records(&batch, usize::MAX).unwrap() {
                    let record = record.unwrap();
                    let number: i64 = String::from_utf8_lossy(&record.value.unwrap()).parse().unwrap();
                    assert!(number > last, "{number} after {last}");
                    assert_eq!(number, record.offset, "a record was moved");
                    last = number;
                }
            }
        }
    });
    for thread in [appender, compactor, reader] {
        thread.join().unwrap();
    }
    let mut acknowledged: Vec<i64> = (0..6).map(|_| told.recv().unwrap()).collect();
    acknowledged.sort_unstable();
    assert_eq!(acknowledged, [0, 1, 2, 3, 4, 5]);
    rig.disk.power_cut(PowerCut::LosesUnsynced);
    let left: Vec<_> = consume_offsets(&open(&rig, Flusher::inline()));
    assert!(left.ends_with(&[4, 5]), "{left:?}");
}

/// Offsets of all records, as a consumer gets them.
fn consume_offsets(log: &Log) -> Vec<i64> {
    let (mut found, mut next) = (Vec::new(), 0);
    while let Some(Chunk::Bytes(bytes)) = log.read(from(next)).unwrap().records {
        for batch in records::batches(bytes) {
            let batch = batch.unwrap();
            next = BatchView::parse(&batch).unwrap().last_offset() + 1;
            found.extend(records::records(&batch, usize::MAX).unwrap().map(|record| record.unwrap().offset));
        }
    }
    found
}

#[test]
fn shuttle_compaction_beside_appends_and_fetches() {
    explore(100, compaction_beside_appends_and_fetches);
}
