//! Which segments retention deletes, and when the active one is closed for its sake. Pure: figures in, a
//! decision out.
//!
//! Records go by whole segments, the oldest first. A segment counts as old as its newest record, or as its last
//! append if that record has no time or one that is still to come: neither deletes nor keeps for ever. That a
//! time is to come is asked now, not at the append: our clock may have been behind then, the producer's right.
//! The active segment cannot go, so it is closed in time: after a tenth of the age, and at a tenth of the
//! size, so that at most about that much more is kept than was asked for, in about ten segments.

use std::time::Duration;

use crate::config::LogConfig;
use crate::partition::NO_TIMESTAMP;

/// The part of an age or a size after which the active segment is closed.
const PART: u32 = 10;

/// Closing more often than this costs more than it is worth.
const ROLL_AGE_MIN: Duration = Duration::from_secs(30);
const ROLL_BYTES_MIN: u64 = 64 << 10;

/// A segment as retention sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Aged {
    pub(super) bytes: u64,
    /// The largest timestamp of its records; -1 if there is none.
    pub(super) newest_ms: i64,
    /// When a batch was appended last, by our clock; -1 if that is not known.
    pub(super) appended_ms: i64,
}

impl Aged {
    /// The time since which it has been as it is; `None` if nobody can tell.
    fn since_ms(&self, now_ms: i64) -> Option<i64> {
        let has_come = |ms: &i64| (0..=now_ms).contains(ms);
        let known = [self.newest_ms, self.appended_ms].into_iter();
        known.clone().find(has_come).or_else(|| known.filter(|ms| *ms > NO_TIMESTAMP).min())
    }

    fn is_older_than(&self, age_ms: i64, now_ms: i64) -> bool {
        self.since_ms(now_ms).is_some_and(|since| now_ms.saturating_sub(since) > age_ms)
    }
}

/// The segment that grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Active {
    pub(super) segment: Aged,
    /// When it got its first batch; -1 if it has none.
    pub(super) begun_ms: i64,
}

/// When and why the next segment goes, if nothing more is appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextDeletion {
    /// By age, at this time; `None` if records are kept for ever, or there are none.
    pub at_ms: Option<i64>,
    /// By size, once so many bytes more are there; `None` if the size is not bounded.
    pub after_bytes: Option<u64>,
}

/// What a log's settings ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retention {
    age_ms: Option<i64>,
    bytes: Option<u64>,
    segment_age_ms: i64,
}

impl Retention {
    pub(super) fn of(config: &LogConfig) -> Self {
        let deletes = config.cleanup.deletes();
        let age = config.retention_age.filter(|_| deletes);
        Self {
            age_ms: age.map(millis),
            bytes: config.retention_bytes.filter(|_| deletes),
            segment_age_ms: millis(config.segment_age),
        }
    }

    /// Whether anything is ever deleted.
    pub(super) fn is_for_ever(&self) -> bool {
        self.age_ms.is_none() && self.bytes.is_none()
    }

    /// Whether the active segment has to be closed now.
    pub(super) fn must_roll(&self, active: &Active, now_ms: i64) -> bool {
        if active.segment.bytes == 0 {
            return false;
        }
        let age_ms = Some(active.begun_ms).filter(|begun| *begun > NO_TIMESTAMP);
        let age_ms = age_ms.map_or(0, |begun| now_ms.saturating_sub(begun));
        age_ms >= self.segment_age_ms
            || self.age_ms.is_some_and(|kept_ms| {
                let part_ms = (kept_ms / i64::from(PART)).max(millis(ROLL_AGE_MIN));
                age_ms >= part_ms || active.segment.is_older_than(kept_ms, now_ms)
            })
            || self.bytes.is_some_and(|bytes| {
                let part = (bytes / u64::from(PART)).max(ROLL_BYTES_MIN);
                active.segment.bytes >= part
            })
    }

    /// How many of the closed segments go now, the oldest first; `active_bytes` come behind them.
    pub(super) fn expired(&self, closed: &[Aged], active_bytes: u64, now_ms: i64) -> usize {
        let mut left = closed.iter().map(|segment| segment.bytes).sum::<u64>() + active_bytes;
        let goes = |segment: &&Aged| {
            let rest = left - segment.bytes;
            let by_age =
                self.age_ms.is_some_and(|age_ms| segment.bytes == 0 || segment.is_older_than(age_ms, now_ms));
            let by_size = self.bytes.is_some_and(|bytes| rest >= bytes);
            left = rest;
            by_age || by_size
        };
        closed.iter().take_while(goes).count()
    }

    /// When the oldest of these segments goes. `total_bytes` is the size of all.
    pub(super) fn next_deletion(&self, oldest: &Aged, total_bytes: u64, now_ms: i64) -> NextDeletion {
        let held = oldest.bytes > 0;
        let at_ms = |age_ms: i64| oldest.since_ms(now_ms).map(|since| since.saturating_add(age_ms));
        let after_bytes = |bytes: u64| bytes.saturating_add(oldest.bytes).saturating_sub(total_bytes);
        NextDeletion {
            at_ms: self.age_ms.filter(|_| held).and_then(at_ms),
            after_bytes: self.bytes.filter(|_| held).map(after_bytes),
        }
    }
}

fn millis(age: Duration) -> i64 {
    i64::try_from(age.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
