//! The power fails at every change that a log makes to its disk, and again while it recovers.

use super::*;

/// What the process was told before the power failed.
#[derive(Debug, Default, PartialEq)]
struct Told {
    appended: usize,
    durable: usize,
    /// A deletion that was begun may be done.
    deletion_begun: usize,
    deleted: usize,
}

/// A short life: appends of both kinds across several segments, a checkpoint, a deletion, more appends.
fn live(log: &Arc<Log>) -> Told {
    let mut told = Told::default();
    let grow = |told: &mut Told, count: usize| {
        for value in numbered(told.appended..told.appended + count) {
            let acks = if told.appended.is_multiple_of(3) { Acks::Durable } else { Acks::Written };
            if append(log, &[value.as_bytes()], acks).is_err() {
                return;
            }
            told.appended += 1;
            if acks == Acks::Durable {
                told.durable = told.appended;
            }
        }
    };
    grow(&mut told, 14);
    if log.checkpoint().is_ok() {
        told.durable = told.durable.max(told.appended);
    }
    grow(&mut told, 9);
    told.deletion_begun = 12.min(told.appended);
    if log.delete_records(Some(Offset::new(12))).is_ok() {
        told.deleted = 12;
    }
    grow(&mut told, 8);
    told
}

/// One log, one power cut in the middle of change `at`, and what is left.
fn crash(rig: &Rig, at: u64, cut: PowerCut, plant: impl Fn(&SimDisk)) -> Result<(), String> {
    plant(&rig.disk);
    rig.disk.fail_power_at(at);
    let told = rig.try_open(CleanStart::Yes).map(|(log, _)| live(&log)).unwrap_or_default();
    rig.disk.power_cut(cut);
    let Ok((log, _)) = rig.try_open(CleanStart::No) else { return Err("it does not open".into()) };
    let kept = check(&log, &told)?;
    drop(log);
    let (log, again) = rig.try_open(CleanStart::No).map_err(|error| error.to_string())?;
    if (check(&log, &told)?, &again.torn) != (kept, &vec![]) {
        return Err(format!("opened again, it is another log: {again:?}"));
    }
    // The write position comes from the walk: what is appended now must be there after the next crash.
    let next = format!("value-{kept:03}");
    append(&log, &[next.as_bytes()], Acks::Durable).map_err(|error| error.to_string())?;
    drop(log);
    rig.disk.power_cut(cut);
    let log = rig.try_open(CleanStart::No).map_err(|error| error.to_string())?.0;
    let kept_now = check(&log, &told)?;
    if kept_now == kept + 1 { Ok(()) } else { Err(format!("appended to {kept}, after the crash {kept_now}")) }
}

/// The log is a prefix of what was appended, and no shorter than what was promised. Returns its end.
fn check(log: &Arc<Log>, told: &Told) -> Result<usize, String> {
    let start = usize::try_from(log.offsets().log_start.get()).unwrap();
    let kept = usize::try_from(end(log)).unwrap();
    let found = values(&consume(log, log.offsets().log_start.get()));
    if found != numbered(start..kept) {
        return Err(format!("{start} to {kept} reads as {found:?}"));
    }
    match kept >= told.durable && start >= told.deleted && start <= told.deletion_begun {
        true => Ok(kept),
        false => Err(format!("{start} to {kept} is left, {told:?}")),
    }
}

fn changes_of_a_life() -> u64 {
    let rig = Rig::small();
    assert_eq!(live(&rig.open()).appended, 31);
    rig.disk.changes()
}

#[test]
fn what_was_promised_survives_a_power_cut_at_any_change() {
    let changes = changes_of_a_life();
    assert!(changes > 60, "{changes} changes are no life");
    for at in 0..=changes {
        for seed in 0..12 {
            let cut = if seed == 0 {
                PowerCut::LosesUnsynced
            } else {
                PowerCut::KeepsSome { seed: seed << 32 | at }
            };
            if let Err(why) = crash(&Rig::small(), at, cut, |_| {}) {
                panic!("change {at} of {changes}, {cut:?}: {why}");
            }
        }
    }
}

#[test]
fn a_disk_that_lies_about_syncs_would_be_noticed() {
    let changes = changes_of_a_life();
    let caught = (0..=changes)
        .filter(|at| crash(&Rig::small(), *at, PowerCut::LosesUnsynced, SimDisk::make_syncs_lie).is_err())
        .count();
    assert!(caught as u64 > changes / 2, "only {caught} of {changes} crashes were noticed");
}

#[test]
fn a_crash_while_recovering_changes_nothing() {
    for seed in 0..40 {
        let torn = || {
            let rig = Rig::small();
            live(&rig.open());
            rig.disk.power_cut(PowerCut::KeepsSome { seed });
            rig
        };
        let rig = torn();
        let before = rig.disk.changes();
        let expected = end(&rig.open());
        for at in before..=rig.disk.changes() {
            let rig = torn();
            rig.disk.fail_power_at(at);
            drop(rig.try_open(CleanStart::No));
            rig.disk.power_cut(PowerCut::KeepsSome { seed: seed + at });
            assert_eq!(end(&rig.open()), expected, "seed {seed}, change {at}");
        }
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_written() {
    let rig = Rig::small();
    let told = live(&rig.open());
    let (log, recovery) = rig.try_open(CleanStart::No).unwrap();
    assert_eq!(check(&log, &told), Ok(told.appended));
    assert_eq!((recovery.torn, recovery.lost), (vec![], vec![]));
    assert!(recovery.scanned_bytes > 0);
}
