//! The power fails at every change that a compaction makes to the disk, and again while it recovers.

use super::*;

const KEYS: [&str; 4] = ["a", "b", "c", "d"];

/// A disk with a log of values, old tombstones and new ones, some of it clean and some dirty.
fn prepared() -> Rig {
    let mut rig = Rig::small();
    rig.config.delete_retention = Duration::from_secs(1);
    let log = rig.open();
    cycle(&log, &KEYS, 0..30);
    put(&log, keyed(&[("gone", Some("1"))]));
    put(&log, keyed(&[("gone", None), ("b", None)]));
    compact(&log);
    rig.clock.advance(Duration::from_secs(2));
    cycle(&log, &KEYS[2..], 30..60);
    put(&log, keyed(&[("a", None)]));
    log.flush().unwrap();
    drop(log);
    rig
}

/// The same disk once more, and the log on it.
fn forked(rig: &Rig) -> (Rig, Arc<Log>) {
    let clock = Arc::new(ManualClock::at(rig.clock.now_ms()));
    let fork = Rig { disk: rig.disk.fork(), clock, epoch: rig.epoch, ..Rig::new(rig.config.clone()) };
    let log = fork.open();
    (fork, log)
}

/// What a compaction makes of it.
fn finished(rig: &Rig) -> (Vec<Seen>, Vec<Seen>, u64, u64) {
    let (rig, log) = forked(rig);
    let (before, begins) = (seen(&log), rig.disk.changes());
    compact(&log);
    let after = seen(&log);
    assert!(after.len() < before.len());
    assert!(
        !after.iter().any(|seen| seen.key.as_deref() == Some("gone")),
        "an old tombstone went: {after:?}"
    );
    (before, after, begins, rig.disk.changes())
}

/// Everything that must be there is, nothing is there that was not, and no key says something else than before.
fn check(log: &Arc<Log>, before: &[Seen], after: &[Seen]) -> Result<Vec<Seen>, String> {
    let found = seen(log);
    let end = end(log);
    if end != before.last().unwrap().offset + 1 {
        return Err(format!("it ends at {end}"));
    }
    if let Some(missing) = after.iter().find(|record| !found.contains(record)) {
        return Err(format!("{missing:?} is missing"));
    }
    if let Some(foreign) = found.iter().find(|record| !before.contains(record)) {
        return Err(format!("{foreign:?} came from nowhere"));
    }
    let table = |records: &[Seen]| -> BTreeMap<String, String> {
        let mut table = BTreeMap::new();
        for record in records {
            match &record.value {
                Some(value) => table.insert(record.key.clone().unwrap(), value.clone()),
                None => table.remove(record.key.as_ref().unwrap()),
            };
        }
        table
    };
    match table(&found) == table(before) {
        true => Ok(found),
        false => Err(format!("the table is {:?}", table(&found))),
    }
}

fn crash(rig: &Rig, (at, cut): (u64, PowerCut), before: &[Seen], after: &[Seen]) -> Result<(), String> {
    let (rig, log) = forked(rig);
    rig.disk.fail_power_at(at);
    let done = try_compact(&log, now(ROOMY));
    drop(log);
    rig.disk.power_cut(cut);
    let (log, report) = rig.try_open(CleanStart::No).map_err(|error| error.to_string())?;
    let found = check(&log, before, after)?;
    if done.is_ok() && found != after {
        return Err("a run that ended is not there".into());
    }
    if !report.lost.is_empty() {
        return Err(format!("lost {:?}", report.lost));
    }
    drop(log);
    if let Some(left) = rig.names().iter().find(|name| name.contains("swap") || name.contains("cleaned")) {
        return Err(format!("{left} is left behind"));
    }
    let log = rig.try_open(CleanStart::No).map_err(|error| error.to_string())?.0;
    if check(&log, before, after)? != found {
        return Err("opened again, it is another log".into());
    }
    compact(&log);
    drop(log);
    rig.disk.power_cut(cut);
    let log = rig.try_open(CleanStart::No).map_err(|error| error.to_string())?.0;
    match seen(&log) == after {
        true => Ok(()),
        false => Err(format!("the next run left {:?}", seen(&log))),
    }
}

#[test]
fn a_power_cut_at_any_change_of_a_compaction_loses_nothing_and_brings_nothing_back() {
    let prepared = prepared();
    let (before, after, begins, ends) = finished(&prepared);
    assert!(ends - begins > 25, "{} changes are no compaction", ends - begins);
    for at in begins..=ends {
        for seed in 0..16 {
            let cut = match seed {
                0 => PowerCut::LosesUnsynced,
                _ => PowerCut::KeepsSome { seed: seed << 32 | at },
            };
            if let Err(why) = crash(&prepared, (at, cut), &before, &after) {
                panic!("change {at} of {begins}..={ends}, {cut:?}: {why}");
            }
        }
    }
}

#[test]
fn a_crash_while_a_compaction_is_recovered_changes_nothing() {
    let prepared = prepared();
    let (before, after, begins, ends) = finished(&prepared);
    let mut interrupted = 0;
    for at in begins..=ends {
        let torn = || {
            let (rig, log) = forked(&prepared);
            rig.disk.fail_power_at(at);
            drop(try_compact(&log, now(ROOMY)));
            drop(log);
            rig.disk.power_cut(PowerCut::KeepsSome { seed: at });
            rig
        };
        let rig = torn();
        if !rig.names().iter().any(|name| name.ends_with(".swap")) {
            continue;
        }
        interrupted += 1;
        let from = rig.disk.changes();
        let expected = seen(&rig.open());
        for second in from..=rig.disk.changes() {
            let rig = torn();
            rig.disk.fail_power_at(second);
            drop(rig.try_open(CleanStart::No));
            rig.disk.power_cut(PowerCut::KeepsSome { seed: at << 20 | second });
            let log = rig.open();
            let found = check(&log, &before, &after).unwrap_or_else(|why| panic!("{at}, {second}: {why}"));
            assert_eq!(found, expected, "change {at}, then {second}");
        }
    }
    assert!(interrupted > 5, "only {interrupted} crashes left an intent");
}

#[test]
fn a_disk_that_lies_about_syncs_would_be_noticed() {
    let prepared = prepared();
    let (before, after, begins, ends) = finished(&prepared);
    let caught = (begins..=ends)
        .filter(|at| {
            let (rig, log) = forked(&prepared);
            rig.disk.make_syncs_lie();
            rig.disk.fail_power_at(*at);
            drop(try_compact(&log, now(ROOMY)));
            drop(log);
            rig.disk.power_cut(PowerCut::KeepsSome { seed: *at });
            let opened = rig.try_open(CleanStart::No);
            !opened.is_ok_and(|(log, _)| {
                let checked =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&log, &before, &after)));
                checked.is_ok_and(|checked| checked.is_ok())
            })
        })
        .count();
    assert!(caught > 5, "only {caught} crashes were noticed");
}

#[test]
fn a_damaged_intent_costs_no_record_however_far_its_swap_came() {
    let prepared = prepared();
    let (before, after, begins, ends) = finished(&prepared);
    let (mut not_begun, mut begun) = (0, 0);
    for at in begins..=ends {
        for cut in [PowerCut::LosesUnsynced, PowerCut::KeepsSome { seed: at }] {
            let (rig, log) = forked(&prepared);
            rig.disk.fail_power_at(at);
            drop(try_compact(&log, now(ROOMY)));
            drop(log);
            rig.disk.power_cut(cut);
            let names = rig.names();
            let Some(intent) = names.iter().find(|name| name.ends_with(".swap")) else { continue };
            match names.iter().any(|name| name.ends_with(".cleaned")) {
                true => not_begun += 1,
                false => begun += 1,
            }
            rig.disk.overwrite(&Rig::file(intent), b"not an intent");
            let (log, report) = rig.try_open(CleanStart::No).unwrap();
            let found = check(&log, &before, &after).unwrap_or_else(|why| panic!("{at}, {cut:?}: {why}"));
            assert_eq!(report.lost, [], "{at}, {cut:?}");
            assert_eq!(check(&rig.open(), &before, &after), Ok(found), "{at}, {cut:?}: opened again");
        }
    }
    assert!(not_begun > 2 && begun > 2, "{not_begun} swaps not begun, {begun} begun");
}

#[test]
fn an_error_at_any_change_loses_nothing_and_reopening_or_the_next_run_mends_it() {
    let prepared = prepared();
    let (before, after, begins, ends) = finished(&prepared);
    let (mut refused, mut failed) = (0, 0);
    for nth in 0..=ends - begins {
        let (rig, log) = forked(&prepared);
        rig.disk.fail_change(nth);
        let outcome = try_compact(&log, now(ROOMY));
        if rig.disk.fault_is_pending() {
            continue;
        }
        check(&log, &before, &after).unwrap_or_else(|why| panic!("change {nth}, {outcome:?}: {why}"));
        if log.is_failed() {
            failed += 1;
            log.reopen(LeaderEpoch::new(9)).unwrap();
            check(&log, &before, &after).unwrap_or_else(|why| panic!("change {nth}, reopened: {why}"));
        }
        refused += u64::from(outcome.is_err());
        compact(&log);
        assert_eq!(seen(&log), after, "change {nth}: the next run");
        drop(log);
        rig.disk.power_cut(PowerCut::LosesUnsynced);
        assert_eq!(seen(&rig.open()), after, "change {nth}: after the next run and a power cut");
    }
    assert!(refused > 15 && failed > 5, "{refused} errors, {failed} of them final: the faults did not bite");
}

#[test]
fn a_full_disk_stops_a_run_and_not_the_log() {
    let prepared = prepared();
    let (before, after, ..) = finished(&prepared);
    let mut refused = 0;
    for room in 0..40 {
        let (rig, log) = forked(&prepared);
        rig.disk.set_capacity(Some(rig.disk.used_bytes() + room * 100));
        let outcome = try_compact(&log, now(ROOMY));
        refused += u64::from(outcome.is_err());
        check(&log, &before, &after).unwrap_or_else(|why| panic!("room {room}, {outcome:?}: {why}"));
        rig.disk.set_capacity(None);
        if log.is_failed() {
            log.reopen(LeaderEpoch::new(9)).unwrap();
        }
        compact(&log);
        assert_eq!(seen(&log), after, "room {room}");
        assert_eq!(seen(&rig.open()), after, "room {room}, opened again");
    }
    assert!(refused > 3, "the disk was full {refused} times only");
}

#[test]
fn a_swap_is_finished_on_a_full_disk_too() {
    let prepared = prepared();
    let (before, after, begins, ends) = finished(&prepared);
    let mut interrupted = 0;
    for at in begins..=ends {
        let (rig, log) = forked(&prepared);
        rig.disk.fail_power_at(at);
        drop(try_compact(&log, now(ROOMY)));
        drop(log);
        rig.disk.power_cut(PowerCut::KeepsSome { seed: at });
        if !rig.names().iter().any(|name| name.ends_with(".swap")) {
            continue;
        }
        interrupted += 1;
        rig.disk.set_capacity(Some(rig.disk.used_bytes()));
        let found = check(&rig.open(), &before, &after).unwrap_or_else(|why| panic!("{at}: {why}"));
        assert!(
            !rig.names().iter().any(|name| name.ends_with(".swap")),
            "the intent is left: {:?}",
            rig.names()
        );
        rig.disk.set_capacity(None);
        assert_eq!(check(&rig.open(), &before, &after), Ok(found), "{at}: opened again");
    }
    assert!(interrupted > 5, "only {interrupted} crashes left an intent");
}
