//! Jumps, slews, sleep and restarts, on two clocks that the test moves.

use super::*;
use crate::clock::ManualClock;

const NOW: i64 = 1_700_000_000_000;
const SECOND: i64 = 1000;
const HOUR: i64 = 3600 * SECOND;
const DAY: i64 = 24 * HOUR;
const TEN_YEARS: i64 = 3653 * DAY;
const HOLD: Duration = Duration::from_hours(24);

/// Both clocks of a machine, and the one that is tested. The steady one began a while ago.
struct Rig {
    wall_ms: i64,
    steady_ms: i64,
    clock: RetentionClock,
}

impl Rig {
    fn after(last: Option<LastBelieved>) -> Self {
        let (wall_ms, steady_ms) = (NOW, 5 * HOUR);
        Self {
            wall_ms,
            steady_ms,
            clock: RetentionClock::starting(HOLD, last, Reading { wall_ms, steady_ms }),
        }
    }

    fn new() -> Self {
        Self::after(None)
    }

    fn now(&mut self) -> i64 {
        self.clock.now_ms(Reading { wall_ms: self.wall_ms, steady_ms: self.steady_ms })
    }

    /// Lets time pass in steps, asking after each.
    fn pass(&mut self, ms: i64) -> i64 {
        let step = 10 * SECOND;
        for _ in 0..ms / step {
            self.wall_ms += step;
            self.steady_ms += step;
            self.now();
        }
        self.wall_ms += ms % step;
        self.steady_ms += ms % step;
        self.now()
    }

    fn is_held(&self) -> bool {
        self.clock.state != ClockState::Believed
    }
}

#[test]
fn a_clock_that_goes_right_is_believed_and_followed() {
    let mut rig = Rig::new();
    assert_eq!(rig.now(), NOW);
    assert_eq!(rig.pass(10 * DAY), NOW + 10 * DAY);
    assert!(!rig.is_held());
}

#[test]
fn a_jump_ahead_is_held_and_time_goes_on_as_before() {
    for jump in [120 * SECOND, HOUR, TEN_YEARS] {
        let mut rig = Rig::new();
        rig.pass(HOUR);
        rig.wall_ms += jump;
        assert_eq!(rig.now(), NOW + HOUR, "{jump}");
        assert_eq!(rig.clock.state, ClockState::Held { ahead_ms: jump, believed_in_ms: DAY });
        let reading = Reading { wall_ms: rig.wall_ms, steady_ms: rig.steady_ms };
        assert_eq!(rig.clock.latest_ms(reading), NOW + HOUR);
        assert_eq!(rig.pass(23 * HOUR), NOW + DAY, "{jump}");
        assert!(rig.is_held());
    }
}

#[test]
fn a_jump_that_has_lasted_is_believed() {
    let mut rig = Rig::new();
    rig.wall_ms += HOUR;
    rig.now();
    assert_eq!(rig.pass(DAY - 10 * SECOND), NOW + DAY - 10 * SECOND);
    assert_eq!(rig.pass(10 * SECOND), NOW + DAY + HOUR);
    assert!(!rig.is_held());
    assert_eq!(rig.pass(DAY), NOW + 2 * DAY + HOUR);
}

#[test]
fn a_jump_and_back_is_nothing() {
    let mut rig = Rig::new();
    rig.wall_ms += TEN_YEARS;
    rig.now();
    assert_eq!(rig.pass(20 * HOUR), NOW + 20 * HOUR);
    rig.wall_ms -= TEN_YEARS;
    assert_eq!(rig.now(), NOW + 20 * HOUR);
    assert!(!rig.is_held());
    rig.wall_ms += HOUR;
    assert_eq!(rig.now(), NOW + 20 * HOUR);
    assert_eq!(rig.clock.state, ClockState::Held { ahead_ms: HOUR, believed_in_ms: DAY }, "held anew");
}

#[test]
fn a_second_jump_is_held_for_its_own_time() {
    let mut rig = Rig::new();
    rig.wall_ms += HOUR;
    rig.now();
    rig.pass(23 * HOUR);
    rig.wall_ms += HOUR;
    rig.now();
    assert_eq!(rig.pass(23 * HOUR), NOW + 46 * HOUR);
    assert_eq!(rig.pass(HOUR), NOW + 47 * HOUR + 2 * HOUR);
}

#[test]
fn a_step_back_is_followed_and_the_way_home_is_open() {
    let mut rig = Rig::new();
    rig.pass(HOUR);
    rig.wall_ms -= DAY;
    assert_eq!(rig.now(), NOW + HOUR - DAY);
    assert!(rig.is_held());
    let reading = Reading { wall_ms: rig.wall_ms, steady_ms: rig.steady_ms };
    assert_eq!(rig.clock.latest_ms(reading), NOW + HOUR, "what happens now is noted with the time before");
    rig.wall_ms += HOUR;
    assert_eq!(rig.now(), NOW + HOUR - DAY, "on from there it is a jump ahead");
    rig.wall_ms += 23 * HOUR;
    assert_eq!(rig.now(), NOW + HOUR);
    assert!(!rig.is_held());
    rig.wall_ms -= DAY;
    rig.now();
    rig.pass(DAY);
    assert!(!rig.is_held(), "after a day it is believed to have been ahead before");
    rig.wall_ms += DAY;
    assert_eq!(rig.now(), NOW + HOUR);
    assert!(rig.is_held());
}

#[test]
fn a_slow_slew_is_followed_and_a_clock_that_runs_away_is_not() {
    let mut rig = Rig::new();
    for _ in 0..DAY / (10 * SECOND) {
        rig.wall_ms += 10 * SECOND + 500;
        rig.steady_ms += 10 * SECOND;
        assert_eq!(rig.now(), rig.wall_ms);
    }
    assert_eq!(rig.wall_ms, NOW + DAY + DAY / 20, "5 % fast, all day");
    let mut rig = Rig::new();
    for _ in 0..HOUR {
        rig.wall_ms += 2;
        rig.steady_ms += 1;
        rig.now();
    }
    assert!(rig.is_held());
    assert!(rig.now() <= NOW + HOUR + 1100, "twice as fast, in steps of a millisecond");
}

#[test]
fn sleep_is_time_that_passes() {
    let mut rig = Rig::new();
    rig.wall_ms += 3 * DAY + 2 * SECOND;
    rig.steady_ms += 3 * DAY;
    assert_eq!(rig.now(), rig.wall_ms);
    assert!(!rig.is_held());
}

fn last_seen(ago_ms: i64) -> Option<LastBelieved> {
    Some(LastBelieved { believed_ms: NOW - ago_ms, wall_ms: NOW - ago_ms, held_for_ms: 0 })
}

#[test]
fn a_restart_is_believed_and_a_clock_that_is_far_ahead_at_the_start_is_not() {
    let mut rig = Rig::after(last_seen(5 * 60 * SECOND));
    assert_eq!((rig.now(), rig.is_held()), (NOW, false));
    let mut rig = Rig::after(last_seen(TEN_YEARS));
    assert!(rig.is_held());
    assert_eq!(rig.now(), NOW - TEN_YEARS);
    assert_eq!(rig.pass(23 * HOUR), NOW - TEN_YEARS + 23 * HOUR);
    assert_eq!(rig.pass(HOUR), NOW + DAY);
    assert!(!rig.is_held());
}

#[test]
fn a_clock_that_is_behind_at_the_start_is_followed_and_may_come_home() {
    let mut rig = Rig::after(last_seen(-DAY));
    assert_eq!((rig.now(), rig.is_held()), (NOW, true));
    rig.wall_ms += HOUR;
    assert_eq!(rig.now(), NOW);
    rig.wall_ms += 23 * HOUR;
    assert_eq!((rig.now(), rig.is_held()), (NOW + DAY, false));
}

#[test]
fn being_held_goes_on_across_restarts() {
    let mut rig = Rig::after(last_seen(3 * DAY));
    rig.pass(20 * HOUR);
    let reading = Reading { wall_ms: rig.wall_ms, steady_ms: rig.steady_ms };
    let believed_ms = rig.clock.now_ms(reading);
    let last = rig.clock.last_believed(reading, believed_ms);
    assert_eq!(last.believed_ms, NOW - 3 * DAY + 20 * HOUR);
    assert_eq!(last.held_for_ms, 20 * HOUR);
    let after = |wall_ms| {
        let at = Reading { wall_ms, steady_ms: 0 };
        let mut clock = RetentionClock::starting(HOLD, Some(last), at);
        clock.now_ms(at);
        clock.state
    };
    let off = 16 * HOUR;
    let ahead_ms = 3 * DAY + off;
    assert_eq!(after(rig.wall_ms + off), ClockState::Held { ahead_ms, believed_in_ms: 4 * HOUR });
    let ahead_ms = 3 * DAY - HOUR;
    assert_eq!(
        after(rig.wall_ms - HOUR),
        ClockState::Held { ahead_ms, believed_in_ms: DAY },
        "another clock"
    );
}

#[test]
fn without_a_hold_whatever_the_wall_clock_says_counts() {
    let at = |wall_ms| Reading { wall_ms, steady_ms: 0 };
    let mut clock = RetentionClock::starting(Duration::ZERO, last_seen(TEN_YEARS), at(NOW));
    for wall_ms in [NOW, NOW + TEN_YEARS, NOW - TEN_YEARS, NOW + HOUR] {
        assert_eq!((clock.now_ms(at(wall_ms)), clock.state), (wall_ms, ClockState::Believed));
    }
}

/// Whatever the wall clock does, for less than the hold at a time: time never gets ahead of what has passed.
#[test]
fn no_row_of_jumps_makes_time_go_faster_than_it_does() {
    for first in 0..200_u64 {
        let mut seed = first;
        let mut dice = move |sides: i64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            i64::try_from(seed >> 33).unwrap() % sides
        };
        let mut rig = Rig::new();
        let mut right = NOW;
        for turn in 0..300 {
            let jump = [0, 0, HOUR, -HOUR, TEN_YEARS, -DAY, right - rig.wall_ms][dice(7) as usize];
            rig.wall_ms += jump;
            let passed = dice(2 * HOUR);
            (rig.wall_ms, rig.steady_ms, right) =
                (rig.wall_ms + passed, rig.steady_ms + passed, right + passed);
            let told = rig.now();
            assert!(
                told <= right + SLACK_MS + 300 * HOUR / DRIFT,
                "seed {first}, turn {turn}: {told} at {right}"
            );
            if turn % 10 == 0 {
                rig.wall_ms = right;
                assert_eq!(rig.now(), right, "seed {first}, turn {turn}: a clock that is right is believed");
            }
        }
    }
}

#[test]
fn a_log_that_asks_a_clock_that_jumped_deletes_nothing() {
    let machine = Arc::new(ManualClock::at(NOW));
    let clock = BelievedClock::new(Arc::clone(&machine) as Arc<dyn Clock>, HOLD, None);
    machine.set(NOW + TEN_YEARS);
    assert_eq!(clock.now_ms(), NOW);
    machine.advance(Duration::from_secs(60));
    assert_eq!(clock.now_ms(), NOW + 60_000);
    assert!(matches!(clock.state(), ClockState::Held { ahead_ms: TEN_YEARS, .. }));
    assert_eq!(clock.last_believed().believed_ms, NOW + 60_000);
    machine.set(NOW + 60_000);
    assert_eq!((clock.now_ms(), clock.state()), (NOW + 60_000, ClockState::Believed));
}
