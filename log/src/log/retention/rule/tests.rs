//! Which segments go, judged on figures alone.

use super::*;
use crate::config::CleanupPolicy;

const NOW: i64 = 1_700_000_000_000;
const HOUR: i64 = 3_600_000;

fn aged(bytes: u64, newest_ms: i64, appended_ms: i64) -> Aged {
    Aged { bytes, newest_ms, appended_ms }
}

fn written(bytes: u64, at_ms: i64) -> Aged {
    aged(bytes, at_ms, at_ms)
}

fn keeping(age: Option<Duration>, bytes: Option<u64>) -> Retention {
    Retention::of(&LogConfig { retention_age: age, retention_bytes: bytes, ..LogConfig::default() })
}

fn an_hour() -> Retention {
    keeping(Some(Duration::from_hours(1)), None)
}

#[test]
fn a_segment_goes_when_its_newest_record_is_older_than_the_age() {
    let closed = [written(10, NOW - HOUR - 2), written(10, NOW - HOUR - 1), written(10, NOW - HOUR)];
    assert_eq!(an_hour().expired(&closed, 10, NOW), 2);
    assert_eq!(an_hour().expired(&closed, 10, NOW + 1), 3);
    assert_eq!(an_hour().expired(&closed, 10, NOW - HOUR), 0);
}

#[test]
fn only_a_prefix_goes_whatever_lies_behind_it() {
    let closed = [written(10, NOW), written(10, 0)];
    assert_eq!(an_hour().expired(&closed, 10, NOW), 0);
}

#[test]
fn a_timestamp_from_the_future_or_none_counts_as_the_append() {
    let future = NOW + 10 * 365 * 24 * HOUR;
    for newest in [future, i64::MAX, -1] {
        let closed = [aged(10, newest, NOW)];
        assert_eq!(an_hour().expired(&closed, 0, NOW), 0, "{newest}");
        assert_eq!(an_hour().expired(&closed, 0, NOW + HOUR), 0, "{newest}");
        assert_eq!(an_hour().expired(&closed, 0, NOW + HOUR + 1), 1, "{newest}");
    }
    assert_eq!(an_hour().expired(&[aged(10, -1, -1)], 0, i64::MAX), 0, "nobody can tell: it stays");
    assert_eq!(an_hour().expired(&[aged(10, NOW - 2 * HOUR, NOW)], 0, NOW), 1, "old records came late");
}

#[test]
fn what_came_while_our_clock_was_behind_is_as_old_as_its_producer_says() {
    let closed = [aged(10, NOW, NOW - 2 * HOUR)];
    assert_eq!(an_hour().expired(&closed, 0, NOW + HOUR), 0, "the clock is right again");
    assert_eq!(an_hour().expired(&closed, 0, NOW + HOUR + 1), 1);
}

#[test]
fn by_size_whole_segments_go_as_long_as_the_rest_is_enough() {
    let closed = [written(100, NOW), written(100, NOW), written(100, NOW)];
    let kept = |bytes| keeping(None, Some(bytes)).expired(&closed, 50, NOW);
    assert_eq!(
        [kept(351), kept(251), kept(250), kept(151), kept(150), kept(50), kept(0)],
        [0, 0, 1, 1, 2, 3, 3]
    );
}

#[test]
fn nothing_goes_from_a_log_that_is_for_ever_or_only_compacted() {
    let closed = [written(100, 0)];
    assert_eq!(keeping(None, None).expired(&closed, 0, NOW), 0);
    let config = |cleanup| LogConfig {
        cleanup,
        retention_age: Some(Duration::from_millis(1)),
        retention_bytes: Some(0),
        ..LogConfig::default()
    };
    for kept in [CleanupPolicy::Compact, CleanupPolicy::Keep].map(|policy| Retention::of(&config(policy))) {
        assert!(kept.is_for_ever());
        assert_eq!(kept.expired(&closed, 0, NOW), 0);
    }
    assert_eq!(Retention::of(&config(CleanupPolicy::CompactAndDelete)).expired(&closed, 0, NOW), 1);
}

#[test]
fn the_active_segment_is_closed_in_time_for_what_is_asked() {
    let active = |bytes, begun_ms, newest_ms| Active { segment: written(bytes, newest_ms), begun_ms };
    let none = keeping(None, None);
    let week = 7 * 24 * HOUR;
    assert!(none.must_roll(&active(1, NOW - week, NOW), NOW), "segment.ms, though nothing is deleted");
    assert!(!none.must_roll(&active(1, NOW - week + 1, NOW), NOW));
    assert!(!none.must_roll(&active(0, -1, -1), NOW), "an empty one stays");
    assert!(!none.must_roll(&active(1, -1, NOW), NOW));
    let hour = an_hour();
    assert!(hour.must_roll(&active(1, NOW - HOUR / 10, NOW), NOW), "a tenth of the age");
    assert!(!hour.must_roll(&active(1, NOW - HOUR / 10 + 1, NOW), NOW));
    assert!(hour.must_roll(&active(1, NOW, NOW - HOUR - 1), NOW), "all of it has expired");
    let seconds = keeping(Some(Duration::from_secs(10)), None);
    assert!(!seconds.must_roll(&active(1, NOW - 29_999, NOW), NOW));
    assert!(seconds.must_roll(&active(1, NOW - 30_000, NOW), NOW));
    let million = keeping(None, Some(1_000_000));
    assert!(million.must_roll(&active(100_000, NOW, NOW), NOW), "a tenth of the size");
    assert!(!million.must_roll(&active(99_999, NOW, NOW), NOW));
}

#[test]
fn the_next_deletion_is_told_by_age_and_by_size() {
    let oldest = written(100, NOW);
    let both = keeping(Some(Duration::from_hours(1)), Some(500));
    let next = both.next_deletion(&oldest, 550, NOW);
    assert_eq!(next, NextDeletion { at_ms: Some(NOW + HOUR), after_bytes: Some(50) });
    assert_eq!(both.next_deletion(&oldest, 600, NOW).after_bytes, Some(0));
    assert_eq!(both.next_deletion(&aged(0, -1, -1), 0, NOW), NextDeletion::default());
    assert_eq!(keeping(None, None).next_deletion(&oldest, 550, NOW), NextDeletion::default());
}

/// Random segments against the rule said once more, one segment at a time.
#[test]
fn what_goes_is_the_longest_prefix_in_which_each_segment_may_go() {
    let mut seed = 0x5eed_u64;
    let mut dice = move |sides: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % sides
    };
    let time = |roll: u64| if roll == 0 { -1 } else { NOW + i64::try_from(roll).unwrap() - 60 };
    for turn in 0..5000 {
        let closed: Vec<Aged> =
            (0..dice(6)).map(|_| aged(dice(4) * 10, time(dice(100)), time(dice(80)))).collect();
        let active = dice(3) * 10;
        let age = (dice(3) > 0).then(|| Duration::from_millis(dice(50)));
        let bytes = (dice(3) > 0).then(|| dice(120));
        let gone = keeping(age, bytes).expired(&closed, active, NOW);
        let may_go = |at: usize| {
            let rest: u64 = closed[at + 1..].iter().map(|segment| segment.bytes).sum::<u64>() + active;
            let Aged { bytes: size, newest_ms, appended_ms } = closed[at];
            let since = match (newest_ms, appended_ms) {
                (-1, -1) => None,
                (-1, only) | (only, -1) => Some(only),
                (newest, _) if newest <= NOW => Some(newest),
                (_, appended) if appended <= NOW => Some(appended),
                (newest, appended) => Some(newest.min(appended)),
            };
            let by_age = age.is_some_and(|age| {
                size == 0 || since.is_some_and(|since| NOW - since > i64::try_from(age.as_millis()).unwrap())
            });
            by_age || bytes.is_some_and(|bytes| rest >= bytes)
        };
        let expected = (0..closed.len()).find(|at| !may_go(*at)).unwrap_or(closed.len());
        assert_eq!(gone, expected, "turn {turn}: {closed:?} {active} {age:?} {bytes:?}");
    }
}
