//! A wall clock that does not believe everything it is told.
//!
//! Ages are judged by it: of records, segments and producers. If the wall clock jumps ahead, by an hour or
//! ten years, everything looks old, and retention would delete it; so a jump is not believed until it has
//! lasted for a while, and until then time goes on as it did before. If the wall clock jumps back everything
//! looks young, which deletes nothing, so that is followed at once; and when it comes back to where it was,
//! that is no jump. What happens meanwhile is noted with the time as it was believed before: it must not look
//! old once the clock is right again.
//!
//! What tells a jump from time that passes is a second clock that nobody sets and that goes on while the
//! machine sleeps. It starts anew with the machine; across a restart the evidence is the last time that was
//! believed before. A wall clock that is far ahead of that may be right, for the broker may have been down: it
//! is held all the same, because that costs little. What is appended from then on is stamped and judged by the
//! same time, so it goes when it is due; what is older stays longer, once, by as long as the broker was down.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::Clock;

/// Clocks that are nearer to one another are the same: they are not read at one instant, and a wall clock is
/// put right in small steps.
const SLACK_MS: i64 = 1000;

/// A wall clock drifts by less than one part in so many.
const DRIFT: i64 = 1000;

/// A clock that is slewed is followed, in steps that are no closer than this: one that is read often could
/// otherwise run away in small steps. With the slack it comes to a tenth, which is as fast as time daemons go.
const FOLLOW_MS: i64 = 10_000;

/// At a start the wall clock may be ahead of the last time believed by this much: a restart of the broker or
/// the machine is done by then. It is also what a wrong clock can do at worst, to records that go so much too
/// early; more is held.
const RESTART_MS: i64 = 10 * 60_000;

/// What was believed when a broker was last seen alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastBelieved {
    /// The time.
    pub believed_ms: i64,
    /// What the wall clock said.
    pub wall_ms: i64,
    /// For how long the wall clock had been held; 0 if it was believed.
    pub held_for_ms: i64,
}

/// Whether the wall clock is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockState {
    /// It is.
    Believed,
    /// It jumped, and is not believed yet.
    Held {
        /// How far it is ahead of the time that is used instead; 0 if it went back and is followed.
        ahead_ms: i64,
        /// How long it has to stay as it is until it is believed.
        believed_in_ms: i64,
    },
}

/// Both clocks at one moment, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Reading {
    wall_ms: i64,
    steady_ms: i64,
}

/// The wall clock less the steady one: stays where it is while time passes, and moves when the wall clock is
/// set.
#[derive(Clone, Copy, Debug)]
struct Line {
    at_ms: i64,
    /// When it was noted, steady.
    noted_ms: i64,
}

impl Line {
    fn of(now: Reading) -> Self {
        Self { at_ms: now.wall_ms.saturating_sub(now.steady_ms), noted_ms: now.steady_ms }
    }

    fn age_ms(self, now: Reading) -> i64 {
        now.steady_ms.saturating_sub(self.noted_ms).max(0)
    }

    /// Whether the wall clock is where it was.
    fn holds(self, now: Reading) -> bool {
        let slack_ms = SLACK_MS + self.age_ms(now) / DRIFT;
        Self::of(now).at_ms.abs_diff(self.at_ms) <= slack_ms.unsigned_abs()
    }

    fn follow(&mut self, now: Reading) {
        if self.age_ms(now) >= FOLLOW_MS {
            *self = Self::of(now);
        }
    }

    fn time_ms(self, now: Reading) -> i64 {
        now.steady_ms.saturating_add(self.at_ms)
    }
}

/// The pure part: readings of both clocks in, the time that counts out.
#[derive(Debug)]
struct RetentionClock {
    hold_ms: i64,
    /// What is believed.
    home: Line,
    /// What is used: what is believed, or if the wall clock is elsewhere the earliest that it showed since.
    used: Line,
    /// Where the wall clock is.
    seen: Line,
    /// Since when it is there, steady.
    since_ms: i64,
    state: ClockState,
}

impl RetentionClock {
    fn starting(hold: Duration, last: Option<LastBelieved>, now: Reading) -> Self {
        let seen = Line::of(now);
        let hold_ms = i64::try_from(hold.as_millis()).unwrap_or(i64::MAX);
        let (home, since_ms) = (seen, now.steady_ms);
        let mut clock = Self { hold_ms, home, used: seen, seen, since_ms, state: ClockState::Believed };
        let Some(last) = last else { return clock };
        let ahead_ms = now.wall_ms.saturating_sub(last.believed_ms);
        if !(-SLACK_MS..=RESTART_MS).contains(&ahead_ms) {
            clock.home.at_ms = seen.at_ms.saturating_sub(ahead_ms);
            // A clock that was held goes on being held, unless it went back: then it is another one.
            if now.wall_ms >= last.wall_ms {
                clock.since_ms = now.steady_ms.saturating_sub(last.held_for_ms.max(0));
            }
            clock.used.at_ms = clock.home.at_ms.min(seen.at_ms);
            clock.hold(now);
        }
        clock
    }

    /// The time that counts now.
    fn now_ms(&mut self, now: Reading) -> i64 {
        if self.home.holds(now) {
            self.home.follow(now);
            self.used = Line::of(now);
            self.state = ClockState::Believed;
            return now.wall_ms;
        }
        if self.state == ClockState::Believed || !self.seen.holds(now) {
            self.seen = Line::of(now);
            self.since_ms = now.steady_ms;
        } else {
            self.seen.follow(now);
        }
        if self.held_for_ms(now) >= self.hold_ms {
            let here = Line::of(now);
            (self.home, self.used, self.seen) = (here, here, here);
            self.state = ClockState::Believed;
            return now.wall_ms;
        }
        if Line::of(now).at_ms < self.used.at_ms {
            self.used = Line::of(now);
        }
        self.hold(now);
        self.used.time_ms(now)
    }

    /// The latest that it may be now. To be asked after `now_ms`.
    fn latest_ms(&self, now: Reading) -> i64 {
        self.home.time_ms(now).max(self.used.time_ms(now))
    }

    fn held_for_ms(&self, now: Reading) -> i64 {
        now.steady_ms.saturating_sub(self.since_ms)
    }

    fn hold(&mut self, now: Reading) {
        self.state = ClockState::Held {
            ahead_ms: Line::of(now).at_ms.saturating_sub(self.used.at_ms),
            believed_in_ms: self.hold_ms.saturating_sub(self.held_for_ms(now)),
        };
    }

    fn last_believed(&self, now: Reading, believed_ms: i64) -> LastBelieved {
        let held_for_ms = match self.state {
            ClockState::Believed => 0,
            ClockState::Held { .. } => self.held_for_ms(now),
        };
        LastBelieved { believed_ms, wall_ms: now.wall_ms, held_for_ms }
    }
}

/// A wall clock whose jumps are not believed at once.
#[derive(Debug)]
pub struct BelievedClock {
    machine: Arc<dyn Clock>,
    state: Mutex<RetentionClock>,
}

impl BelievedClock {
    /// A jump is believed once it has lasted for `hold`; `last` is what was believed by the broker before.
    #[must_use]
    pub fn new(machine: Arc<dyn Clock>, hold: Duration, last: Option<LastBelieved>) -> Self {
        let state = RetentionClock::starting(hold, last, read(&*machine));
        tell(ClockState::Believed, state.state);
        Self { machine, state: Mutex::new(state) }
    }

    /// Whether the wall clock is believed now.
    pub fn state(&self) -> ClockState {
        self.ask(|clock, _, _| clock.state)
    }

    /// What to remember for the next start.
    pub fn last_believed(&self) -> LastBelieved {
        self.ask(RetentionClock::last_believed)
    }

    /// Reads the machine's clocks, and answers with what is made of them.
    fn ask<R>(&self, answer: impl FnOnce(&RetentionClock, Reading, i64) -> R) -> R {
        let now = read(&*self.machine);
        let (answer, before, after) = {
            let mut clock = self.state.lock();
            let before = clock.state;
            let time_ms = clock.now_ms(now);
            (answer(&clock, now, time_ms), before, clock.state)
        };
        tell(before, after);
        answer
    }
}

impl Clock for BelievedClock {
    fn now_ms(&self) -> i64 {
        self.ask(|_, _, time_ms| time_ms)
    }

    fn latest_ms(&self) -> i64 {
        self.ask(|clock, now, _| clock.latest_ms(now))
    }

    fn steady_ms(&self) -> i64 {
        self.machine.steady_ms()
    }
}

/// The wall clock first: a pause between the two looks like a step back, which deletes nothing.
fn read(machine: &dyn Clock) -> Reading {
    let wall_ms = machine.now_ms();
    Reading { wall_ms, steady_ms: machine.steady_ms() }
}

fn tell(before: ClockState, after: ClockState) {
    match (before, after) {
        (ClockState::Believed, ClockState::Held { ahead_ms, believed_in_ms }) => tracing::warn!(
            ahead_seconds = ahead_ms / 1000,
            believed_in_seconds = believed_in_ms / 1000,
            "the wall clock jumped; ages go by the time before the jump until it has lasted (log.retention.clock.hold.ms): a wrong clock deletes nothing"
        ),
        (ClockState::Held { .. }, ClockState::Believed) => {
            tracing::warn!("the wall clock is believed again; ages go by it");
        }
        (ClockState::Believed, ClockState::Believed) | (ClockState::Held { .. }, ClockState::Held { .. }) => {
        }
    }
}

#[cfg(test)]
mod tests;
