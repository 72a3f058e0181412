//! When something that failed is tried again: soon, then ever later.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(1);

/// The time of the next try. Times are counted from any one moment on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Backoff {
    due: Duration,
    wait: Duration,
}

impl Backoff {
    /// For something that has just failed: a try is due at once.
    pub(super) fn from(now: Duration) -> Self {
        Self { due: now, wait: FIRST }
    }

    pub(super) fn is_due(&self, now: Duration) -> bool {
        now >= self.due
    }

    /// A try was made. Whether or not it helped, the next one comes later: what helps for a moment only would
    /// be tried for ever.
    pub(super) fn tried(&mut self, now: Duration) {
        self.due = now + self.wait;
        self.wait = (self.wait * 2).min(LONGEST);
    }

    /// Whether what was tried last has held for so long that the next failure is a new one.
    pub(super) fn is_over(&self, now: Duration) -> bool {
        now >= self.due + LONGEST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_come_ever_later_up_to_a_minute() {
        let mut now = Duration::from_secs(100);
        let mut backoff = Backoff::from(now);
        let mut waits = Vec::new();
        for _ in 0..9 {
            assert!(backoff.is_due(now));
            backoff.tried(now);
            let began = now;
            while !backoff.is_due(now) {
                now += Duration::from_secs(1);
            }
            waits.push((now - began).as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert!(!backoff.is_over(now));
        assert!(backoff.is_over(now + Duration::from_secs(60)));
    }
}
