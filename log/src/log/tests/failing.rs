//! The disk fails, the log is reopened, and nothing that was promised is missing.

use std::collections::BTreeMap;
use std::thread;

use super::*;

/// What was acknowledged, by offset.
#[derive(Debug, Default)]
struct Promised {
    written: BTreeMap<i64, String>,
    durable: BTreeMap<i64, String>,
    /// Appends so far, whatever became of them: each has a value of its own.
    tried: usize,
}

impl Promised {
    /// Appends one value; whether it was acknowledged.
    fn append(&mut self, log: &Arc<Log>) -> bool {
        let value = format!("value-{:03}", self.tried);
        let acks = if self.tried.is_multiple_of(3) { Acks::Durable } else { Acks::Written };
        self.tried += 1;
        let Ok(appended) = append(log, &[value.as_bytes()], acks) else { return false };
        let promises = match acks {
            Acks::Durable => &mut self.durable,
            Acks::Written => &mut self.written,
        };
        promises.insert(appended.base_offset.get(), value);
        true
    }

    /// Goes on until an append fails or `count` are done.
    fn grow(&mut self, log: &Arc<Log>, count: usize) {
        while self.tried < count && self.append(log) {}
    }

    fn check(&self, log: &Arc<Log>) -> Result<(), String> {
        let found: BTreeMap<_, _> =
            consume(log, 0).into_iter().map(|(at, value)| (at, String::from_utf8(value).unwrap())).collect();
        if !found.keys().copied().eq(0..end(log)) {
            return Err(format!("the log has holes: {:?}", found.keys()));
        }
        match self.durable.iter().find(|(at, value)| found.get(at) != Some(*value)) {
            Some((at, value)) => {
                Err(format!("{value} was promised at {at}, which holds {:?}", found.get(at)))
            }
            None => Ok(()),
        }
    }

    /// What a power cut, or the device, took of what was not promised to be durable is not held against it.
    fn forget_from(&mut self, end: i64) {
        self.written.split_off(&end);
    }
}

/// Nothing is acknowledged while the log is failed.
fn refuses(log: &Arc<Log>, promised: &mut Promised) {
    for _ in 0..6 {
        assert!(!promised.append(log), "acknowledged by a log that failed: {:?}", log.failure());
    }
    assert!(log.flush().is_err() && log.checkpoint().is_err());
}

fn reopened(log: &Arc<Log>) -> Recovery {
    log.reopen(LeaderEpoch::new(0)).unwrap()
}

/// A log whose disk fails once, some way, at the `nth` time; `None` if the log did not fail by it.
fn fail_and_reopen(inject: impl Fn(&SimDisk), cut: PowerCut) -> Result<Option<Recovery>, String> {
    let mut rig = Rig::small();
    let mut promised = Promised::default();
    let log = rig.open();
    promised.grow(&log, 5);
    inject(&rig.disk);
    promised.grow(&log, 60);
    if rig.disk.fault_is_pending() {
        return Err("the fault never came".into());
    }
    let mut report = None;
    if log.is_failed() {
        let before = (log.leader_epoch(), log.offsets().log_end);
        refuses(&log, &mut promised);
        let recovery = reopened(&log);
        let after = (log.leader_epoch(), log.offsets().log_end);
        assert!(after.0 > before.0, "the epoch did not rise");
        assert_eq!(log.offsets().high_watermark, after.1);
        // Who read to the old end learns where the logs part.
        let ended = log.end_offset_for_epoch(before.0).unwrap();
        assert_eq!(ended.1, after.1, "the epoch before ended elsewhere: {ended:?}");
        report = Some(recovery);
    }
    promised.check(&log)?;
    let count = promised.tried + 12;
    promised.grow(&log, count);
    assert_eq!(promised.tried, count, "appends do not go on: {:?}", log.failure());
    promised.check(&log)?;
    drop(log);
    rig.disk.power_cut(cut);
    rig.epoch += 1;
    let log = rig.open();
    promised.check(&log)?;
    let count = promised.tried + 5;
    promised.grow(&log, count);
    promised.check(&log)?;
    Ok(report)
}

fn cuts(nth: u64) -> [PowerCut; 2] {
    [PowerCut::LosesUnsynced, PowerCut::KeepsSome { seed: nth }]
}

#[test]
fn whichever_sync_fails_nothing_promised_is_lost() {
    let (mut failed, mut fell) = (0, 0);
    for nth in 0..50 {
        for cut in cuts(nth) {
            let outcome = fail_and_reopen(|disk| disk.fail_sync(nth % 25), cut);
            let report = outcome.unwrap_or_else(|why| panic!("sync {nth}, {cut:?}: {why}"));
            failed += usize::from(report.is_some());
            fell += usize::from(report.is_some_and(|report| !report.torn.is_empty()));
        }
    }
    assert!(failed > 50 && fell > 20, "{failed} logs failed and {fell} lost something: nothing was at stake");
}

#[test]
fn whichever_change_fails_nothing_promised_is_lost() {
    for nth in 0..70 {
        for cut in cuts(nth) {
            let outcome = fail_and_reopen(|disk| disk.fail_change(nth), cut);
            outcome.unwrap_or_else(|why| panic!("change {nth}, {cut:?}: {why}"));
        }
    }
}

/// A log that failed because of a sync, with records that memory shows and the device does not have.
fn failed_log() -> (Rig, Arc<Log>, Promised) {
    let rig = Rig::small();
    let log = rig.open();
    let mut promised = Promised::default();
    promised.grow(&log, 20);
    rig.disk.fail_sync(0);
    promised.grow(&log, 40);
    assert!(log.is_failed());
    (rig, log, promised)
}

#[test]
fn what_fails_while_a_log_is_reopened_fails_the_reopening_and_no_more() {
    let changes = {
        let (rig, log, _) = failed_log();
        let before = rig.disk.changes();
        reopened(&log);
        rig.disk.changes() - before
    };
    assert!(changes > 5, "{changes} changes are no reopening");
    for nth in 0..changes {
        let (rig, log, mut promised) = failed_log();
        rig.disk.fail_change(nth);
        let outcome = log.reopen(LeaderEpoch::new(0));
        assert!(!rig.disk.fault_is_pending());
        if outcome.is_err() {
            refuses(&log, &mut promised);
            reopened(&log);
        }
        promised.check(&log).unwrap();
        let count = promised.tried + 9;
        promised.grow(&log, count);
        drop(log);
        rig.disk.power_cut(PowerCut::LosesUnsynced);
        promised.check(&rig.open()).unwrap_or_else(|why| panic!("change {nth} of {changes}: {why}"));
    }
}

#[test]
fn a_full_disk_takes_nothing_back_and_is_forgiven_once_there_is_room() {
    let room_for_all = {
        let rig = Rig::small();
        Promised::default().grow(&rig.open(), 60);
        rig.disk.used_bytes()
    };
    let mut failed = 0;
    for room in (500..room_for_all).step_by(61) {
        let rig = Rig::small();
        let mut promised = Promised::default();
        rig.disk.set_capacity(Some(room));
        let log = rig.open();
        promised.grow(&log, 60);
        if log.is_failed() {
            failed += 1;
            assert_eq!(log.failure().unwrap().kind, FailureKind::NoSpace, "{:?}", log.failure());
            refuses(&log, &mut promised);
            if let Err(error) = log.reopen(LeaderEpoch::new(0)) {
                assert_eq!(log.failure().unwrap().kind, FailureKind::NoSpace, "{error}");
                refuses(&log, &mut promised);
            }
            rig.disk.set_capacity(None);
            reopened(&log);
        }
        rig.disk.set_capacity(None);
        promised.durable.append(&mut promised.written);
        promised.check(&log).unwrap_or_else(|why| panic!("room for {room} bytes: {why}"));
        promised.grow(&log, 80);
        promised.written.clear();
        drop(log);
        rig.disk.power_cut(PowerCut::KeepsSome { seed: room });
        let log = rig.open();
        promised.forget_from(end(&log));
        let durable = promised.durable.clone();
        promised.durable.retain(|at, _| *at < end(&log));
        assert!(durable.len() - promised.durable.len() < 80, "{room}");
        promised.check(&log).unwrap();
    }
    assert!(failed > 60, "the disk was full {failed} times only");
}

#[test]
fn what_found_no_room_is_cut_at_once_so_a_full_disk_can_be_read_after_a_restart() {
    for room in (2_000..5_000).step_by(61) {
        let mut rig = Rig::small();
        let mut promised = Promised::default();
        rig.disk.set_capacity(Some(room));
        let log = rig.open();
        promised.grow(&log, 60);
        assert!(log.is_failed(), "{room} bytes are enough");
        drop(log);
        rig.disk.kill();
        rig.epoch += 1;
        // Nothing would be left in which a torn tail could be kept.
        let (log, report) = rig.try_open(CleanStart::No).unwrap_or_else(|error| panic!("{room}: {error}"));
        assert_eq!(report.torn, [], "room for {room} bytes");
        promised.check(&log).unwrap_or_else(|why| panic!("room for {room} bytes: {why}"));
    }
}

#[test]
fn a_process_that_is_killed_after_a_failed_sync_leaves_word_for_the_next() {
    let kill = |told: bool| {
        let (mut rig, log, mut promised) = failed_log();
        drop(log);
        if !told {
            rig.disk.remove_file(&Rig::file("doubted")).unwrap();
        }
        rig.epoch += 1;
        let log = rig.open();
        let count = promised.tried + 9;
        promised.grow(&log, count);
        assert!(!rig.names().contains(&"doubted".to_owned()), "it would be doubted for ever");
        drop(log);
        rig.disk.power_cut(PowerCut::LosesUnsynced);
        promised.check(&rig.open())
    };
    kill(true).unwrap();
    // What is lost in the middle may not even read as a batch.
    let untold = std::panic::catch_unwind(|| kill(false));
    assert!(!matches!(untold, Ok(Ok(()))), "the next process believes memory, and this test does not notice");
}

#[test]
fn an_epoch_that_was_reached_by_reopening_is_not_given_again_after_a_crash() {
    let (rig, log, _) = failed_log();
    let epoch = reopened(&log).log_end;
    let reached = log.leader_epoch();
    written(&log, &[b"lost with the power"]);
    drop(log);
    rig.disk.power_cut(PowerCut::LosesUnsynced);
    let log = rig.open();
    assert_eq!(log.offsets().log_end, epoch, "nothing was lost");
    assert!(log.leader_epoch() > reached, "{} after {reached}", log.leader_epoch());
}

#[test]
fn an_epoch_that_a_start_has_reached_alone_is_not_given_again_after_a_crash() {
    let (mut rig, log, _) = failed_log();
    reopened(&log);
    drop(log);
    rig.disk.kill();
    // The node has counted its unclean end, and the log is ahead of it.
    rig.epoch += 1;
    let log = rig.open();
    let (epoch, end) = (log.leader_epoch(), log.offsets().log_end);
    assert!(epoch > LeaderEpoch::new(rig.epoch));
    assert_eq!(written(&log, &[b"read by somebody, and lost"]), end.get());
    drop(log);
    rig.disk.power_cut(PowerCut::LosesUnsynced);
    rig.epoch += 1;
    let log = rig.open();
    assert_eq!(log.offsets().log_end, end, "the power cut has bitten");
    assert!(log.leader_epoch() > epoch, "{} again", log.leader_epoch());
}

#[test]
fn readers_are_served_while_a_log_is_failed_and_after() {
    let (_rig, log, _) = failed_log();
    let seen = consume(&log, 0);
    assert_eq!(i64::try_from(seen.len()).unwrap(), end(&log));
    let woken = Arc::new(concurrent::Flag::default());
    let _parked =
        log.park(&Arc::clone(&woken).into(), log.offsets().high_watermark, Isolation::ReadUncommitted);
    let before = log.offsets().high_watermark;
    reopened(&log);
    assert!(log.offsets().high_watermark < before, "nothing was lost");
    assert!(woken.is_set(), "a fetch that waits beyond the end waits for ever");
    assert!(matches!(log.read(from(before.get())), Err(ReadError::OutOfRange { .. })));
    assert_eq!(consume(&log, 0), seen[..usize::try_from(end(&log)).unwrap()]);
}

#[test]
fn a_log_that_has_not_failed_is_not_reopened() {
    let log = Rig::small().open();
    fill(&log, 0..3);
    let epoch = log.leader_epoch();
    assert_eq!(reopened(&log).log_end, Offset::new(3));
    assert_eq!(log.leader_epoch(), epoch);
    log.close().unwrap();
    assert!(matches!(log.reopen(epoch), Err(ReopenError::Closed)));
}

/// Appends for a while from several threads, whatever happens to the log; what was acknowledged as durable.
fn append_in_parallel(log: &Arc<Log>, rig: &Rig, seed: u64) -> BTreeMap<i64, String> {
    let told = Arc::new(Mutex::new(BTreeMap::new()));
    let mut dice = model::Dice::new(seed);
    thread::scope(|scope| {
        let appenders: Vec<_> = (0..4)
            .map(|appender| {
                let told = &told;
                scope.spawn(move || {
                    for at in 0..150 {
                        let value = format!("{appender}-{at}");
                        let batch = batch_at(NOW_MS, &[value.as_bytes()]).build();
                        let (answer, told) = (std::sync::mpsc::channel(), Arc::clone(told));
                        let done = move |result: Result<Appended, AppendError>| {
                            if let Ok(Appended { base_offset, .. }) = result {
                                let other = told.lock().insert(base_offset.get(), value);
                                assert_eq!(other, None, "one offset was given twice");
                            }
                            answer.0.send(()).unwrap();
                        };
                        drop(log.append(append_of(batch, Acks::Durable), Box::new(done)));
                        while log.is_failed() {
                            thread::yield_now();
                        }
                        // Some wait, some go on at once.
                        if at % (appender + 1) == 0 {
                            answer.1.recv().unwrap();
                        } else {
                            std::mem::forget(answer.1);
                        }
                    }
                })
            })
            .collect();
        while !appenders.iter().all(|appender| appender.is_finished()) {
            if log.is_failed() {
                log.reopen(LeaderEpoch::new(0)).unwrap();
                rig.disk.fail_sync(dice.below(12));
            }
            thread::yield_now();
        }
    });
    if log.is_failed() {
        log.reopen(LeaderEpoch::new(0)).unwrap();
    }
    log.flush().or_else(|_| log.reopen(LeaderEpoch::new(0)).map(drop)).unwrap();
    Arc::try_unwrap(told).expect("everybody is told").into_inner()
}

#[test]
fn what_was_judged_before_a_reopening_is_not_acknowledged_after_it() {
    let (_rig, log, _) = failed_log();
    let judged_in = log.generation.load(std::sync::atomic::Ordering::Relaxed);
    reopened(&log);
    for acks in [Acks::Written, Acks::Durable] {
        let outcome = Outcome::default();
        let answer = Arc::clone(&outcome);
        // A batch that the reopening has cut; another one may have its offset by now.
        let result = Ok(Appended { base_offset: Offset::new(0), timestamp: -1, log_start: Offset::new(0) });
        let done = Box::new(move |result| drop(answer.lock().replace(result)));
        drop(log.settle(vec![writing::Settled { until: Offset::new(1), acks, result, done }], judged_in));
        let told = outcome.lock().take().expect("it is answered");
        assert!(matches!(told, Err(AppendError::StorageFailed { .. })), "{told:?}");
    }
}

#[test]
fn appenders_that_race_with_a_reopening_are_not_told_what_is_not_so() {
    let mut reopened = 0;
    for seed in 0..20 {
        let rig = Rig::new(LogConfig { segment_bytes: 4000, ..LogConfig::default() });
        let log = concurrent::threaded(&rig);
        rig.disk.fail_sync(3);
        let told = append_in_parallel(&log, &rig, seed);
        reopened += log.leader_epoch().get();
        drop(log);
        rig.disk.power_cut(PowerCut::LosesUnsynced);
        let log = rig.open();
        let found: BTreeMap<_, _> = consume(&log, 0).into_iter().collect();
        for (at, value) in told {
            let held = found.get(&at).map(|held| String::from_utf8_lossy(held).into_owned());
            assert_eq!(held.as_ref(), Some(&value), "seed {seed}: offset {at}");
        }
    }
    assert!(reopened > 60, "reopened {reopened} times only");
}

#[test]
fn a_segment_that_recovery_begins_behind_damage_has_a_durable_name() {
    let rig = Rig::new(LogConfig::default());
    let log = rig.open();
    fill(&log, 0..20);
    log.checkpoint().unwrap();
    drop(log);
    let active = Rig::file("00000000000000000000.log");
    let content = rig.disk.content(&active).unwrap();
    rig.disk.overwrite(&active, &content[..content.len() / 2]);
    let (log, recovery) = rig.try_open(CleanStart::Yes).unwrap();
    assert!(!recovery.lost.is_empty() && log.segment_count() == 2, "{recovery:?}");
    append(&log, &[b"kept"], Acks::Durable).unwrap();
    drop(log);
    rig.disk.power_cut(PowerCut::LosesUnsynced);
    assert_eq!(values(&consume(&rig.open(), 20)), ["kept"]);
}
