//! What is lost where an acknowledgement does not wait for the disk, and how much of it.

use super::*;
use crate::config::DurabilityMode;

const INTERVAL: Duration = Duration::from_millis(50);
/// The clock moves by no more than this at a time.
const STEP_MS: u64 = 10;

/// What a power cut took.
#[derive(Debug, Default)]
struct Losses {
    records: usize,
    /// How long before the cut the oldest lost record was acknowledged.
    oldest_ms: i64,
}

/// Writes for a while, with a flusher that comes late, and cuts the power.
fn live_and_lose(seed: u64, config: LogConfig, acks: Acks) -> Losses {
    let mut dice = model::Dice::new(seed);
    let mut rig = Rig::new(config);
    rig.has_intervals = true;
    let log = rig.open();
    let (mut told_ms, mut idle_ms) = (Vec::new(), 0);
    for _ in 0..20 + dice.below(200) {
        let step_ms = dice.below(STEP_MS + 1);
        rig.clock.advance(Duration::from_millis(step_ms));
        idle_ms += step_ms;
        if dice.below(3) > 0 {
            let value = format!("value-{:03}", told_ms.len());
            append(&log, &[value.as_bytes()], acks).unwrap();
            told_ms.push(rig.clock.now_ms());
        }
        // Late, but by less than the interval.
        if dice.below(8) == 0 || Duration::from_millis(idle_ms + STEP_MS) >= INTERVAL {
            log.flusher.run_due();
            idle_ms = 0;
        }
    }
    let cut = match dice.below(2) {
        0 => PowerCut::LosesUnsynced,
        _ => PowerCut::KeepsSome { seed },
    };
    rig.disk.power_cut(cut);
    let log = rig.open();
    let kept = values(&consume(&log, 0));
    assert_eq!(kept, numbered(0..kept.len()), "seed {seed}: what is lost is not a suffix");
    let lost = &told_ms[kept.len()..];
    let oldest_ms = lost.first().map_or(0, |told| rig.clock.now_ms() - told);
    Losses { records: lost.len(), oldest_ms }
}

fn written_with(flush_interval: Option<Duration>, seed: u64) -> LogConfig {
    LogConfig {
        durability: DurabilityMode::Written,
        flush_interval,
        // Half of them roll, and flush therefore, in between.
        segment_bytes: if seed.is_multiple_of(2) { 1000 } else { 1 << 20 },
        ..LogConfig::default()
    }
}

#[test]
fn a_power_cut_takes_only_a_suffix_acknowledged_less_than_two_intervals_before() {
    let (mut records, mut oldest_ms) = (0, 0);
    for seed in 0..600 {
        let config = written_with(Some(INTERVAL), seed);
        let (config, acks) = match seed % 3 {
            0 => (LogConfig { durability: DurabilityMode::Fsync, ..config }, Acks::Written),
            _ => (config, Acks::Durable),
        };
        let lost = live_and_lose(seed, config, acks);
        assert!(lost.oldest_ms < 2 * 50, "seed {seed}: {lost:?}");
        records += lost.records;
        oldest_ms = oldest_ms.max(lost.oldest_ms);
    }
    assert!(
        records > 600 && oldest_ms > 60,
        "nothing was at stake: {records} lost, at most {oldest_ms} ms old"
    );
}

#[test]
fn without_an_interval_more_is_lost() {
    let lost = (0..20).map(|seed| live_and_lose(2 * seed + 1, written_with(None, 1), Acks::Durable));
    let oldest_ms = lost.map(|lost| lost.oldest_ms).max();
    assert!(oldest_ms > Some(200), "{oldest_ms:?}: the test above would not notice");
}

#[test]
fn so_many_records_are_unflushed_at_most() {
    let rig = Rig::new(LogConfig { flush_records: 5, ..LogConfig::default() });
    let log = rig.open();
    for at in 0..23 {
        fill(&log, at..at + 1);
        let durable = log.durability.lock().point().get();
        assert!(end(&log) - durable < 5, "{durable} of {}", end(&log));
    }
    rig.disk.power_cut(PowerCut::LosesUnsynced);
    assert_eq!(values(&consume(&rig.open(), 0)), numbered(0..20));
}

#[test]
fn where_written_is_enough_an_append_makes_no_sync() {
    let rig = Rig::new(written_with(None, 1));
    let log = rig.open();
    written(&log, &[b"its file is made"]);
    let before = rig.disk.changes();
    for _ in 0..10 {
        append(&log, &[b"v"], Acks::Durable).unwrap();
    }
    assert_eq!((rig.disk.changes() - before, log.flusher.stats().flushes), (10, 0));
    log.flush().unwrap();
    let stats = log.flusher.stats();
    assert_eq!((stats.flushes, stats.batches), (1, 11));
}

/// A log whose records nobody waits for, with one that is not on the disk.
fn with_unflushed(config: LogConfig) -> (Rig, Arc<Log>) {
    let mut rig = Rig::new(config);
    rig.has_intervals = true;
    let log = rig.open();
    append(&log, &[b"a"], Acks::Written).unwrap();
    (rig, log)
}

#[test]
fn an_interval_that_is_set_later_holds_for_what_was_written_before() {
    for before in [None, Some(Duration::from_hours(1))] {
        let (rig, log) = with_unflushed(LogConfig { flush_interval: before, ..LogConfig::default() });
        log.reconfigure(LogConfig { flush_interval: Some(INTERVAL), ..LogConfig::default() });
        rig.clock.advance(INTERVAL + Duration::from_millis(1));
        log.flusher.run_due();
        rig.disk.power_cut(PowerCut::LosesUnsynced);
        assert_eq!(values(&consume(&rig.open(), 0)), ["a"], "{before:?}");
    }
}

#[test]
fn an_append_waits_for_what_was_set_last() {
    let written = LogConfig { durability: DurabilityMode::Written, ..LogConfig::default() };
    let (_rig, log) = with_unflushed(written.clone());
    append(&log, &[b"b"], Acks::Durable).unwrap();
    let before = log.durable_point();
    log.reconfigure(LogConfig::default());
    assert_eq!(log.acks(Acks::Durable), Acks::Durable);
    log.reconfigure(written);
    assert_eq!(log.acks(Acks::Durable), Acks::Written);
    assert_eq!(log.durable_point(), before, "nobody waited for the disk");
}
