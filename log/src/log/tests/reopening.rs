//! What a log finds when it is opened.

use super::*;
use crate::recovery::LostRange;

const LAST: &str = "00000000000000000000.log";

/// Ten batches in one segment, never checkpointed; and where each of them begins.
fn ten() -> (Rig, Vec<u8>, Vec<usize>) {
    let rig = Rig::new(LogConfig { index_interval_bytes: 200, ..LogConfig::default() });
    let log = rig.open();
    fill(&log, 0..10);
    let content = rig.disk.content(&Rig::file(LAST)).unwrap();
    let batch = content.len() / 10;
    (rig, content, (0..=10).map(|at| at * batch).collect())
}

fn kept_of(rig: &Rig) -> (usize, Recovery) {
    let (log, recovery) = rig.try_open(CleanStart::No).unwrap();
    let found = values(&consume(&log, 0));
    assert_eq!(found, numbered(0..found.len()));
    (found.len(), recovery)
}

#[test]
fn a_clean_end_needs_no_scan() {
    let rig = Rig::small();
    let log = rig.open();
    fill(&log, 0..40);
    log.close().unwrap();
    assert_eq!(log.close(), Err(FlushError::Closed));
    let (log, recovery) = rig.try_open(CleanStart::Yes).unwrap();
    let at = Offset::new(40);
    assert_eq!(recovery, Recovery { log_end: at, durable: at, ..Recovery::default() });
    assert_eq!(values(&consume(&log, 0)), numbered(0..40));
    fill(&log, 40..60);
    assert_eq!(values(&consume(&log, 0)), numbered(0..60));
}

#[test]
fn recovery_checks_no_more_than_what_came_after_the_durable_point() {
    let rig = Rig::new(LogConfig { checkpoint_bytes: 2000, ..LogConfig::default() });
    let log = rig.open();
    fill(&log, 0..1000);
    let (_, recovery) = rig.try_open(CleanStart::No).unwrap();
    assert!(recovery.scanned_bytes < 2000, "{} bytes of {}", recovery.scanned_bytes, log.size_bytes());
    assert!(recovery.durable.get() > 900);
}

#[test]
fn a_long_tail_is_not_read_at_the_next_start_again() {
    let rig = Rig::new(LogConfig::default());
    let log = rig.open();
    let value = vec![b'v'; 64 << 10];
    for _ in 0..40 {
        written(&log, &[&value]);
    }
    drop(log);
    let scanned = || rig.try_open(CleanStart::No).unwrap().1.scanned_bytes;
    assert!(scanned() > 40 * (64 << 10));
    assert_eq!(scanned(), 0);
}

#[test]
fn a_tail_torn_at_any_byte_costs_only_the_batch_that_it_tears() {
    let (_, content, begins) = ten();
    for bytes in begins[7]..content.len() {
        let (rig, ..) = ten();
        rig.disk.overwrite(&Rig::file(LAST), &content[..bytes]);
        let whole = begins.iter().filter(|begin| **begin <= bytes).count() - 1;
        let (kept, recovery) = kept_of(&rig);
        assert_eq!(kept, whole, "cut at byte {bytes}");
        let torn = bytes - begins[whole];
        assert_eq!(recovery.torn.iter().map(|torn| torn.bytes).sum::<u64>(), torn as u64);
        let (kept, again) = kept_of(&rig);
        assert_eq!((kept, again.log_end, again.torn, again.lost), (whole, recovery.log_end, vec![], vec![]));
    }
}

#[test]
fn what_is_cut_is_kept_aside() {
    let (rig, content, begins) = ten();
    let mut noisy = content[..begins[8]].to_vec();
    noisy.extend(b"this is no batch at all, but somebody may want to know what it was");
    rig.disk.overwrite(&Rig::file(LAST), &noisy);
    let (kept, recovery) = kept_of(&rig);
    assert_eq!(kept, 8);
    let [torn] = &recovery.torn[..] else { panic!("one tail: {recovery:?}") };
    assert_eq!(torn.from, Offset::new(8));
    let aside = torn.kept.as_ref().unwrap();
    assert_eq!(rig.disk.content(aside).unwrap(), noisy[begins[8]..]);
    rig.disk.overwrite(&Rig::file(LAST), &noisy);
    let second = kept_of(&rig).1.torn[0].kept.clone().unwrap();
    assert_ne!(*aside, second, "an older one is not overwritten");
}

#[test]
fn a_file_that_grew_without_its_data_leaves_nothing_aside() {
    let (rig, mut content, _) = ten();
    content.resize(content.len() + 5000, 0);
    rig.disk.overwrite(&Rig::file(LAST), &content);
    let (kept, recovery) = kept_of(&rig);
    assert_eq!(kept, 10);
    assert_eq!((recovery.torn[0].bytes, &recovery.torn[0].kept), (5000, &None));
}

#[test]
fn a_flipped_bit_above_the_durable_point_ends_the_log_there() {
    let (_, content, begins) = ten();
    for at in (begins[7]..begins[8]).step_by(3) {
        let (rig, ..) = ten();
        let mut flipped = content.clone();
        flipped[at] ^= 0x10;
        rig.disk.overwrite(&Rig::file(LAST), &flipped);
        if !(12..16).contains(&(at - begins[7])) {
            assert_eq!(kept_of(&rig).0, 7, "bit in byte {}", at - begins[7]);
            continue;
        }
        // No torn write looks like a batch that is whole but for its leader epoch: that batch is damaged.
        let (log, recovery) = rig.try_open(CleanStart::No).unwrap();
        assert_eq!(recovery.lost, [LostRange { from: Offset::new(7), to: Offset::new(8) }]);
        assert_eq!((end(&log), values(&consume(&log, 8))), (10, numbered(8..10)));
        assert!(matches!(log.read(from(7)), Err(ReadError::Corrupt { .. })));
    }
}

#[test]
fn a_valid_batch_in_the_wrong_place_ends_the_log_too() {
    let (rig, mut stale, begins) = ten();
    stale.copy_within(begins[2]..begins[3], begins[6]);
    rig.disk.overwrite(&Rig::file(LAST), &stale);
    assert_eq!(kept_of(&rig).0, 6);
}

#[test]
fn snapshots_may_be_missing_or_damaged() {
    let rig = Rig::small();
    let log = rig.open();
    fill(&log, 0..38);
    log.checkpoint().unwrap();
    fill(&log, 38..40);
    log.checkpoint().unwrap();
    log.close().unwrap();
    let snapshots: Vec<_> = rig.names().into_iter().filter(|name| name.ends_with(".snapshot")).collect();
    assert_eq!(snapshots.len(), 2);
    for damage in 0..3 {
        for name in &snapshots[damage.min(1)..] {
            let content = rig.disk.content(&Rig::file(name)).unwrap();
            match damage {
                0 => rig.disk.remove_file(&Rig::file(name)).unwrap(),
                1 => rig.disk.overwrite(&Rig::file(name), &content[..content.len() / 2]),
                _ => rig.disk.overwrite(&Rig::file(name), b"not a snapshot"),
            }
        }
        let (log, recovery) = rig.try_open(CleanStart::No).unwrap();
        assert_eq!((&recovery.torn, &recovery.lost), (&vec![], &vec![]), "damage {damage}");
        assert_eq!(values(&consume(&log, 0)), numbered(0..40));
        assert!(recovery.scanned_bytes > 0);
        log.close().unwrap();
    }
}

#[test]
fn every_length_of_a_snapshot_is_read_without_harm() {
    let rig = Rig::small();
    let log = rig.open();
    fill(&log, 0..12);
    log.close().unwrap();
    let name = rig.names().into_iter().rfind(|name| name.ends_with(".snapshot")).unwrap();
    let content = rig.disk.content(&Rig::file(&name)).unwrap();
    for bytes in 0..content.len() {
        rig.disk.overwrite(&Rig::file(&name), &content[..bytes]);
        assert_eq!(end(&rig.open()), 12, "{bytes} bytes");
    }
}

#[test]
fn damage_below_the_durable_point_is_reported_and_nothing_is_cut() {
    let rig = Rig::small();
    let log = rig.open();
    fill(&log, 0..40);
    log.close().unwrap();
    for name in rig.names().iter().filter(|name| name.ends_with(".snapshot")) {
        rig.disk.overwrite(&Rig::file(name), b"damaged");
    }
    let first = rig.disk.content(&Rig::file(LAST)).unwrap();
    let mut rotten = first.clone();
    rotten[first.len() / 2] ^= 1;
    rig.disk.overwrite(&Rig::file(LAST), &rotten);
    let (log, recovery) = rig.try_open(CleanStart::No).unwrap();
    assert_eq!(recovery.torn, []);
    let [lost] = recovery.lost[..] else { panic!("one range: {recovery:?}") };
    assert_eq!(rig.disk.content(&Rig::file(LAST)).unwrap(), rotten);
    let behind = usize::try_from(lost.to.get()).unwrap();
    assert_eq!(values(&consume(&log, lost.to.get())), numbered(behind..40));
    assert_eq!(written(&log, &[b"next"]), 40, "offsets that were durable are not given again");
}

#[test]
fn a_segment_that_lost_synced_bytes_does_not_give_its_offsets_again() {
    let rig = Rig::small();
    let log = rig.open();
    fill(&log, 0..5);
    log.close().unwrap();
    let content = rig.disk.content(&Rig::file(LAST)).unwrap();
    rig.disk.overwrite(&Rig::file(LAST), &content[..content.len() / 2]);
    let (log, recovery) = rig.try_open(CleanStart::No).unwrap();
    assert_eq!(recovery.lost.len(), 1);
    assert_eq!(written(&log, &[b"next"]), 5);
    assert_eq!(values(&consume(&log, 5)), ["next"]);
    assert!(matches!(log.read(from(4)), Err(ReadError::Corrupt { .. })) || log.read(from(4)).is_ok());
}

#[test]
fn foreign_files_are_left_alone() {
    let rig = Rig::small();
    drop(rig.open());
    use crate::disk::IfMissing;
    for name in ["notes.txt", "00000000000000000000.log.bak", "00000000000000000005.snapshot-unfinished"] {
        rig.disk.open(&Rig::file(name), IfMissing::Create).unwrap();
    }
    let (log, report) = rig.try_open(CleanStart::No).unwrap();
    assert_eq!(report.foreign, ["00000000000000000000.log.bak", "notes.txt"], "and named");
    fill(&log, 0..3);
    let names = rig.names();
    assert!(names.contains(&"notes.txt".into()) && names.contains(&"00000000000000000000.log.bak".into()));
    assert!(!names.iter().any(|name| name.ends_with("unfinished")), "{names:?}");
}

#[test]
fn the_time_of_the_last_append_survives_a_restart_and_is_guessed_low_without_a_snapshot() {
    let rig = Rig::small();
    let log = rig.open();
    fill(&log, 0..20);
    rig.clock.advance(Duration::from_secs(60));
    fill(&log, 20..40);
    let times = |log: &Log| -> Vec<_> {
        log.segments.all().iter().map(|segment| segment.past().appended_ms - NOW_MS).collect()
    };
    let known = times(&log);
    assert!(known.len() > 2 && known[0] == 0 && known[known.len() - 1] == 60_000, "{known:?}");
    log.close().unwrap();
    assert_eq!(times(&rig.open()), known);
    for name in rig.names().iter().filter(|name| name.ends_with(".snapshot")) {
        rig.disk.remove_file(&Rig::file(name)).unwrap();
    }
    rig.clock.advance(Duration::from_hours(1000));
    let guessed = times(&rig.open());
    assert_eq!(
        guessed,
        vec![0; known.len()],
        "the records' own time, not that of a clock that may have jumped"
    );
}
