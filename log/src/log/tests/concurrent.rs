//! Many threads on one log.

use std::sync::mpsc;
use std::task::{Wake, Waker};
use std::thread::{self, Thread};

use super::*;

pub(super) fn threaded(rig: &Rig) -> Arc<Log> {
    let options = OpenOptions {
        disk: Arc::new(rig.disk.clone()),
        clock: Arc::clone(&rig.clock) as Arc<dyn Clock>,
        flusher: Flusher::start(2),
        dir: Rig::dir(),
        config: rig.config.clone(),
        leader_epoch: LeaderEpoch::new(0),
        clean: CleanStart::No,
    };
    Log::open(options).unwrap().0
}

fn append_to(log: &Arc<Log>, value: &[u8], answers: &mpsc::Sender<Result<Appended, AppendError>>) {
    let answers = answers.clone();
    let done = Box::new(move |result| answers.send(result).unwrap());
    drop(log.append(append_of(batch_at(NOW_MS, &[value]).build(), Acks::Durable), done));
}

#[test]
fn one_sync_serves_everybody_who_waits() {
    let rig = Rig::new(LogConfig::default());
    let log = threaded(&rig);
    let (told, answers) = mpsc::channel();
    append_to(&log, b"first: its folders are synced with it", &told);
    answers.recv().unwrap().unwrap();
    let busy = log.flushing.lock();
    for _ in 0..50 {
        append_to(&log, b"waits", &told);
    }
    let before = rig.disk.changes();
    assert!(answers.try_recv().is_err(), "answered before the sync");
    drop(busy);
    for _ in 0..50 {
        answers.recv().unwrap().unwrap();
    }
    assert_eq!(rig.disk.changes() - before, 1, "one sync and nothing else");
}

/// Appends a batch and gives back what is left to do, and where the answer will be.
fn left_by(log: &Arc<Log>) -> (Option<Left>, mpsc::Receiver<Result<Appended, AppendError>>) {
    let (told, answer) = mpsc::channel();
    let done = Box::new(move |result| told.send(result).unwrap());
    (log.append(append_of(batch_at(NOW_MS, &[b"v"]).build(), Acks::Durable), done), answer)
}

#[test]
fn who_appends_alone_may_flush_and_is_answered_from_its_own_thread() {
    let log = threaded(&Rig::new(LogConfig::default()));
    let (left, answer) = left_by(&log);
    let Some(Left::Flush(flush)) = left else { panic!("{left:?}") };
    assert!(answer.try_recv().is_err(), "answered before the sync");
    flush.start();
    assert!(answer.try_recv().is_err(), "answered before the sync");
    flush.run();
    answer.try_recv().unwrap().unwrap();
    assert_eq!(log.durable_point(), log.offsets().log_end);
}

#[test]
fn a_flush_that_was_offered_and_is_not_wanted_is_done_all_the_same() {
    let log = threaded(&Rig::new(LogConfig::default()));
    let (left, answer) = left_by(&log);
    assert!(matches!(left, Some(Left::Flush(_))), "{left:?}");
    drop(left);
    answer.recv().unwrap().unwrap();
}

#[test]
fn who_comes_while_another_flushes_is_flushed_for_by_the_pool_and_nobody_is_offered_to() {
    let log = threaded(&Rig::new(LogConfig::default()));
    let (first, first_answer) = left_by(&log);
    let Some(Left::Flush(flush)) = first else { panic!("{first:?}") };
    let busy = log.flushing.lock();
    let flushing = thread::spawn(move || flush.run());
    let (second, second_answer) = left_by(&log);
    let (third, third_answer) = left_by(&log);
    assert!(second.is_none() && third.is_none(), "{second:?} {third:?}");
    drop(busy);
    flushing.join().unwrap();
    for answer in [first_answer, second_answer, third_answer] {
        answer.recv().unwrap().unwrap();
    }
}

#[test]
fn an_append_does_not_wait_for_a_snapshot() {
    let log = threaded(&Rig::new(LogConfig::default()));
    let (told, answers) = mpsc::channel();
    let _saving = log.saving.lock();
    append_to(&log, b"durable", &told);
    answers.recv().unwrap().unwrap();
}

#[test]
fn a_log_that_fails_or_goes_while_appends_wait_tells_each_of_them() {
    for end in ["fail", "delete", "close"] {
        let rig = Rig::new(LogConfig::default());
        let log = threaded(&rig);
        let (told, answers) = mpsc::channel();
        let busy = log.flushing.lock();
        for _ in 0..20 {
            append_to(&log, b"waits", &told);
        }
        rig.disk.fail_sync(if end == "fail" { 0 } else { 1_000 });
        drop(busy);
        match end {
            "delete" => log.delete(),
            "close" => log.close().unwrap(),
            _ => {}
        }
        let answers: Vec<_> = (0..20).map(|_| answers.recv().unwrap()).collect();
        match end {
            "fail" => assert!(answers.iter().all(Result::is_err)),
            "close" => assert!(answers.iter().all(Result::is_ok)),
            // The flusher may have come first.
            _ => assert!(answers.iter().all(|answer| matches!(answer, Ok(_) | Err(AppendError::Closed)))),
        }
    }
}

/// Remembers that it was woken.
#[derive(Default)]
pub(super) struct Flag(std::sync::atomic::AtomicBool);

impl Flag {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[test]
fn a_reader_at_the_tail_sees_every_record_in_order_and_sleeps_in_between() {
    const RECORDS: usize = 3000;
    let rig = Rig::new(LogConfig { segment_bytes: 20_000, ..LogConfig::default() });
    let log = threaded(&rig);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let waker = Waker::from(Arc::new(Unpark(thread::current())));
                    let mut found = Vec::new();
                    while found.len() < RECORDS {
                        let next = i64::try_from(found.len()).unwrap();
                        let parked = log.park(&waker, Offset::new(next), Isolation::ReadUncommitted);
                        while log.offsets().high_watermark.get() <= next {
                            thread::park();
                        }
                        drop(parked);
                        found.extend(values(&consume(&log, next)));
                    }
                    found
                })
            })
            .collect();
        for value in numbered(0..RECORDS) {
            submit(&log, append_of(batch_at(NOW_MS, &[value.as_bytes()]).build(), Acks::Written));
        }
        for reader in readers {
            assert_eq!(reader.join().unwrap(), numbered(0..RECORDS));
        }
    });
    assert!(log.segment_count() > 5);
}

#[test]
fn a_flusher_that_is_dropped_finishes_what_is_queued() {
    let rig = Rig::new(LogConfig::default());
    let log = threaded(&rig);
    let (told, answers) = mpsc::channel();
    for _ in 0..100 {
        append_to(&log, b"queued", &told);
    }
    drop(log);
    drop(told);
    assert_eq!(answers.iter().filter(Result::is_ok).count(), 100);
}

#[test]
fn the_durable_point_moves_by_itself_after_its_interval() {
    let config = LogConfig { checkpoint_interval: Duration::from_millis(1), ..LogConfig::default() };
    let rig = Rig::new(config);
    let log = threaded(&rig);
    fill(&log, 0..3);
    while !rig.names().iter().any(|name| name.ends_with(".snapshot")) {
        thread::yield_now();
    }
    rig.disk.power_cut(PowerCut::LosesUnsynced);
    assert!(end(&rig.open()) > 0);
}
