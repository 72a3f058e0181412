//! Retention: what is too old or too much goes, in time, and nothing else does.

use super::*;
use crate::config::CleanupPolicy;
use crate::segment_list::Based;

const HOUR: Duration = Duration::from_hours(1);

/// Records are kept for an hour, in segments of 1,000 bytes (about 13 batches).
fn keeping_an_hour() -> Rig {
    let small = Rig::small();
    Rig::new(LogConfig { retention_age: Some(HOUR), ..small.config })
}

fn enforce(log: &Arc<Log>) -> (usize, i64) {
    let trimmed = log.enforce_retention().unwrap();
    assert_eq!(trimmed.log_start, log.offsets().log_start);
    (trimmed.segments, trimmed.log_start.get())
}

/// Appends `value-000` and so on with timestamps of the clock.
fn fill_now(rig: &Rig, log: &Arc<Log>, range: std::ops::Range<usize>) {
    for value in numbered(range) {
        let batch = batch_at(rig.clock.now_ms(), &[value.as_bytes()]).build();
        let outcome = submit(log, append_of(batch, Acks::Written));
        outcome.lock().take().unwrap().unwrap();
    }
}

#[test]
fn records_of_an_idle_log_go_when_they_are_old_the_last_ones_too() {
    let rig = keeping_an_hour();
    let log = rig.open();
    fill_now(&rig, &log, 0..30);
    rig.clock.advance(HOUR);
    assert_eq!(enforce(&log), (0, 0));
    rig.clock.advance(Duration::from_millis(1));
    assert_eq!(enforce(&log), (3, 30));
    assert_eq!((log.size_bytes(), log.segment_count()), (0, 1));
    let files: Vec<_> = rig.names().into_iter().filter(|name| !name.ends_with(".snapshot")).collect();
    assert_eq!(files, ["00000000000000000030.log", "00000000000000000030.start"]);
    assert_eq!(enforce(&log), (0, 30), "an empty log is left alone");
    fill_now(&rig, &log, 30..32);
    assert_eq!(values(&consume(&log, 30)), numbered(30..32));
}

#[test]
fn a_steady_trickle_is_held_to_its_age_and_a_part() {
    let rig = keeping_an_hour();
    let log = rig.open();
    let minute = Duration::from_mins(1);
    for at in 0..600 {
        fill_now(&rig, &log, at..at + 1);
        enforce(&log);
        let held = end(&log) - log.offsets().log_start.get();
        assert!(
            (at as i64).min(60) <= held && held <= 60 + 6 + 1,
            "after {at} minutes {held} records are there"
        );
        rig.clock.advance(minute);
    }
    assert!(log.segment_count() <= 12, "{} segments", log.segment_count());
}

#[test]
fn by_size_the_oldest_segments_go_and_the_active_one_is_closed_for_it() {
    let rig = Rig::new(LogConfig { retention_bytes: Some(200_000), ..LogConfig::default() });
    let log = rig.open();
    let value = [7; 1000];
    for at in 0..1000 {
        written(&log, &[&value]);
        enforce(&log);
        let bytes = log.size_bytes();
        assert!(bytes <= 200_000 + (64 << 10) + 2000, "{bytes} bytes after {at}");
        assert!(at < 200 || bytes >= 200_000, "{bytes} bytes after {at}");
    }
    assert!(log.offsets().log_start.get() > 700);
}

#[test]
fn a_record_from_the_future_goes_an_hour_after_it_came() {
    let rig = keeping_an_hour();
    let log = rig.open();
    let future = rig.clock.now_ms() + 10 * 365 * 24 * 3_600_000;
    let outcome = submit(&log, append_of(batch_at(future, &[b"x"]).build(), Acks::Durable));
    outcome.lock().take().unwrap().unwrap();
    rig.clock.advance(HOUR);
    assert_eq!(enforce(&log), (0, 0));
    log.close().unwrap();
    let log = rig.open();
    assert_eq!(enforce(&log), (0, 0));
    rig.clock.advance(Duration::from_millis(1));
    assert_eq!(enforce(&log), (1, 1));
}

#[test]
fn what_comes_while_the_clock_is_behind_does_not_look_old_once_it_is_right() {
    let rig = keeping_an_hour();
    let believed =
        crate::clock::BelievedClock::new(Arc::clone(&rig.clock) as Arc<dyn Clock>, 24 * HOUR, None);
    let log = Log::open(OpenOptions {
        disk: Arc::new(rig.disk.clone()),
        clock: Arc::new(believed),
        flusher: Flusher::inline(),
        dir: Rig::dir(),
        config: rig.config.clone(),
        leader_epoch: LeaderEpoch::new(1),
        clean: CleanStart::No,
    });
    let log = log.unwrap().0;
    let right = rig.clock.now_ms();
    rig.clock.set(right - 2 * 3_600_000);
    let future = append_of(batch_at(right + 10 * 3_600_000, &[b"x"]).build(), Acks::Durable);
    submit(&log, future).lock().take().unwrap().unwrap();
    rig.clock.set(right);
    assert_eq!(enforce(&log), (0, 0), "it came a moment ago");
    rig.clock.advance(HOUR);
    assert_eq!(enforce(&log), (0, 0));
    rig.clock.advance(Duration::from_millis(1));
    assert_eq!(enforce(&log), (1, 1));
}

#[test]
fn a_log_that_is_only_compacted_is_closed_in_time_and_never_trimmed() {
    let rig = keeping_an_hour();
    let config = LogConfig { cleanup: CleanupPolicy::Compact, segment_age: 2 * HOUR, ..rig.config };
    let rig = Rig { config, ..rig };
    let log = rig.open();
    fill_now(&rig, &log, 0..3);
    rig.clock.advance(2 * HOUR);
    assert_eq!((enforce(&log), log.segment_count()), ((0, 0), 2));
    rig.clock.advance(1000 * HOUR);
    assert_eq!((enforce(&log), log.segment_count()), ((0, 0), 2));
    assert_eq!(consume(&log, 0).len(), 3);
}

#[test]
fn who_reads_a_slice_can_finish_and_who_asks_below_is_told() {
    let rig = keeping_an_hour();
    let log = rig.open();
    fill_now(&rig, &log, 0..30);
    let held = log.segments.all()[0].file().unwrap().clone();
    rig.clock.advance(2 * HOUR);
    assert_eq!(enforce(&log), (3, 30));
    let mut bytes = vec![0; 16];
    assert_eq!(held.read_at(&mut bytes, 0).unwrap(), 16);
    let refused = log.read(from(29)).unwrap_err();
    assert!(matches!(refused, ReadError::OutOfRange { held, .. } if held.start.get() == 30));
    assert!(log.read(from(30)).unwrap().records.is_none());
}

#[test]
fn trimming_costs_one_sync_and_works_where_nothing_can_be_written() {
    let rig = keeping_an_hour();
    let log = rig.open();
    fill_now(&rig, &log, 0..30);
    log.checkpoint().unwrap();
    rig.clock.advance(Duration::from_mins(30));
    enforce(&log);
    rig.clock.advance(Duration::from_mins(28));
    fill_now(&rig, &log, 30..31);
    rig.clock.advance(Duration::from_mins(3));
    rig.disk.set_capacity(Some(0));
    let before = rig.disk.changes();
    assert_eq!(enforce(&log), (3, 30));
    // The note, its folder's sync, the old note, three files for each of three segments.
    assert_eq!(rig.disk.changes() - before, 1 + 1 + 1 + 9);
    assert!(!log.is_failed());
}

#[test]
fn a_failed_sync_of_the_note_deletes_nothing() {
    let rig = keeping_an_hour();
    let log = rig.open();
    fill_now(&rig, &log, 0..30);
    rig.clock.advance(HOUR / 2);
    enforce(&log);
    fill_now(&rig, &log, 30..31);
    log.checkpoint().unwrap();
    rig.clock.advance(HOUR / 2 + Duration::from_millis(1));
    rig.disk.fail_change(1);
    let refused = log.enforce_retention().unwrap_err();
    assert!(!rig.disk.fault_is_pending());
    assert!(matches!(refused, RetentionError::StorageFailed { .. }), "{refused}");
    assert_eq!((log.offsets().log_start.get(), log.segments.all()[0].base().get()), (0, 0));
    assert_eq!(values(&consume(&log, 0)), numbered(0..31));
}

#[test]
fn a_log_that_failed_is_trimmed_and_its_active_segment_left_as_it_is() {
    let rig = keeping_an_hour();
    let log = rig.open();
    fill_now(&rig, &log, 0..30);
    log.checkpoint().unwrap();
    rig.disk.fail_write(0);
    append(&log, &[b"lost"], Acks::Written).unwrap_err();
    assert!(!rig.disk.fault_is_pending() && log.is_failed());
    rig.clock.advance(2 * HOUR);
    let active = log.segments.all().last().unwrap().base().get();
    assert_eq!(enforce(&log), (2, active), "what was closed goes: a full disk must get room");
    assert_eq!(log.segment_count(), 1);
    assert_eq!(values(&consume(&log, active)), numbered(usize::try_from(active).unwrap()..30));
}

#[test]
fn what_is_known_of_producers_outlives_their_batches() {
    let rig = keeping_an_hour();
    let clock = || Arc::clone(&rig.clock) as Arc<dyn Clock>;
    let log = Log::open(OpenOptions {
        disk: Arc::new(rig.disk.for_process()),
        clock: clock(),
        flusher: Flusher::stepped(clock()),
        dir: Rig::dir(),
        config: rig.config.clone(),
        leader_epoch: LeaderEpoch::new(1),
        clean: CleanStart::No,
    });
    let log = log.unwrap().0;
    let batch = |sequence: i32| {
        let mut builder = batch_at(rig.clock.now_ms(), &[b"x"]);
        builder.producer(7, 0, sequence);
        append_of(builder.build(), Acks::Written)
    };
    for sequence in 0..5 {
        submit(&log, batch(sequence)).lock().take().unwrap().unwrap();
    }
    rig.clock.advance(2 * HOUR);
    assert_eq!(enforce(&log), (1, 5));
    // The checkpoint that the end of a segment asks for is still in the queue.
    drop(log);
    rig.disk.power_cut(PowerCut::LosesUnsynced);
    let log = rig.open();
    assert_eq!((log.offsets().log_start.get(), end(&log)), (5, 5));
    let again = submit(&log, batch(4)).lock().take().unwrap().unwrap();
    assert_eq!(again.base_offset.get(), 4, "a duplicate of a batch that is gone");
    let gap = submit(&log, batch(6)).lock().take().unwrap().unwrap_err();
    assert!(matches!(gap, AppendError::OutOfOrderSequence { expected: 5, .. }), "{gap}");
}

#[test]
fn a_start_holds_whatever_snapshots_are_damaged() {
    for damaged in 1..=2 {
        let rig = Rig::small();
        let log = rig.open();
        fill(&log, 0..30);
        log.checkpoint().unwrap();
        fill(&log, 30..40);
        log.checkpoint().unwrap();
        log.delete_records(Some(Offset::new(35))).unwrap();
        fill(&log, 40..45);
        log.flush().unwrap();
        drop(log);
        let mut snapshots: Vec<_> =
            rig.names().into_iter().filter(|name| name.ends_with(".snapshot")).collect();
        snapshots.sort_by(|a, b| b.cmp(a));
        assert!(snapshots.len() >= damaged, "{snapshots:?}");
        for name in &snapshots[..damaged] {
            rig.disk.overwrite(&Rig::file(name), b"garbage");
        }
        let (log, report) = rig.try_open(CleanStart::No).unwrap();
        assert_eq!((log.offsets().log_start.get(), end(&log)), (35, 45), "{damaged}");
        assert_eq!((&report.lost, &report.torn), (&vec![], &vec![]), "{damaged}");
        assert_eq!(values(&consume(&log, 35)), numbered(35..45));
        assert!(matches!(log.read(from(34)), Err(ReadError::OutOfRange { .. })));
    }
}

#[test]
fn the_facts_tell_the_oldest_record_and_when_it_goes() {
    let rig = keeping_an_hour();
    let log = rig.open();
    assert_eq!(log.storage_facts().oldest_record_ms, None);
    fill_now(&rig, &log, 0..5);
    rig.clock.advance(Duration::from_mins(1));
    fill_now(&rig, &log, 5..10);
    let facts = log.storage_facts();
    assert_eq!((facts.segments, facts.bytes), (1, log.size_bytes()));
    assert_eq!(facts.oldest_record_ms, Some(NOW_MS));
    assert_eq!(
        facts.next_deletion.at_ms,
        Some(NOW_MS + 60_000 + 3_600_000),
        "the newest of its segment counts"
    );
    assert_eq!(facts.next_deletion.after_bytes, None);
    log.delete_records(Some(Offset::new(7))).unwrap();
    assert_eq!(log.storage_facts().oldest_record_ms, Some(NOW_MS + 60_000));
}

#[test]
fn the_time_of_a_record_is_found_by_its_offset_wherever_it_lies() {
    let rig = keeping_an_hour();
    let log = rig.open();
    assert_eq!(log.time_at(Offset::new(0)), None);
    for at in 0..40 {
        fill_now(&rig, &log, at..at + 1);
        rig.clock.advance(Duration::from_secs(1));
    }
    assert!(log.segment_count() > 2);
    for offset in 0..40 {
        assert_eq!(log.time_at(Offset::new(offset)), Some(NOW_MS + offset * 1000), "{offset}");
    }
    assert_eq!(log.time_at(Offset::new(40)), None, "it waits for a record that is not there yet");
    log.delete_records(Some(Offset::new(20))).unwrap();
    assert_eq!(log.time_at(Offset::new(5)), Some(NOW_MS + 20_000), "what is gone does not wait");
}

/// A life under retention, with the power failing at any change of it.
#[test]
fn a_power_cut_at_any_change_leaves_a_start_that_was_asked_for_and_all_behind_it() {
    let live = |rig: &Rig| -> (i64, i64) {
        let Ok((log, _)) = rig.try_open(CleanStart::Yes) else { return (0, 0) };
        let (mut promised, mut durable) = (0, 0);
        for turn in 0..6 {
            for value in numbered(turn * 10..turn * 10 + 10) {
                let batch = batch_at(rig.clock.now_ms(), &[value.as_bytes()]).build();
                let outcome = submit(&log, append_of(batch, Acks::Durable));
                let Some(Ok(appended)) = outcome.lock().take() else { return (promised, durable) };
                durable = appended.base_offset.get() + 1;
            }
            rig.clock.advance(HOUR / 3);
            match log.enforce_retention() {
                Ok(trimmed) => promised = trimmed.log_start.get(),
                Err(_) => return (promised, durable),
            }
        }
        // Nothing comes any more: all of it goes.
        rig.clock.advance(2 * HOUR);
        if let Ok(trimmed) = log.enforce_retention() {
            promised = trimmed.log_start.get();
        }
        (promised, durable)
    };
    let rig = keeping_an_hour();
    assert_eq!(live(&rig), (60, 60));
    let changes = rig.disk.changes();
    for at in 0..=changes {
        for seed in 0..8 {
            let rig = keeping_an_hour();
            rig.disk.fail_power_at(at);
            let (promised, durable) = live(&rig);
            let cut = match seed {
                0 => PowerCut::LosesUnsynced,
                seed => PowerCut::KeepsSome { seed: seed << 32 | at },
            };
            rig.disk.power_cut(cut);
            for opened in 0..2 {
                let (log, report) = rig.try_open(CleanStart::No).unwrap();
                let (start, end) = (log.offsets().log_start.get(), end(&log));
                let told =
                    format!("change {at}, {cut:?}, opened {opened}: {start} to {end}, {promised} {durable}");
                assert!(promised <= start && start <= end && durable <= end, "{told}");
                assert_eq!(report.lost, vec![], "{told}");
                let expected = numbered(usize::try_from(start).unwrap()..usize::try_from(end).unwrap());
                assert_eq!(values(&consume(&log, start)), expected, "{told}");
            }
        }
    }
}

#[test]
fn what_was_appended_while_the_clock_was_behind_is_not_old_once_it_is_right_again() {
    let rig = keeping_an_hour();
    let log = rig.open();
    fill_now(&rig, &log, 0..5);
    let right = rig.clock.now_ms();
    rig.clock.set(right - 2 * 3_600_000);
    for value in numbered(5..40) {
        let batch = batch_at(right, &[value.as_bytes()]).build();
        submit(&log, append_of(batch, Acks::Written)).lock().take().unwrap().unwrap();
    }
    assert!(log.segment_count() > 2);
    rig.clock.set(right);
    assert_eq!(enforce(&log), (0, 0));
    rig.clock.advance(HOUR + Duration::from_millis(1));
    assert_eq!(enforce(&log).1, 40, "and goes when it is due");
}
