//! How far a group is behind in a partition: in records, and in time. A function of what is known, no more.

use std::time::Duration;

/// What is known of a group and a partition at one moment. Times are milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The first record that the group has not consumed.
    pub(crate) committed: i64,
    pub(crate) committed_ms: i64,
    pub(crate) log_start: i64,
    /// Consumers see what lies below it.
    pub(crate) high_watermark: i64,
    /// The time of the first record that waits, if there is one and it has a time.
    pub(crate) waiting_since_ms: Option<i64>,
    pub(crate) now_ms: i64,
}

/// How far it is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lag {
    /// Records that wait. Those that retention or a deletion took do not; gaps that compaction left count.
    pub(crate) records: u64,
    /// For how long the first of them has been waiting: zero when none waits, unknown when it has no time.
    pub(crate) time: Option<Duration>,
    /// For how long nothing has been committed.
    pub(crate) commit_age: Duration,
}

impl Standing {
    /// The offset from which on records wait, if any does.
    pub(crate) fn first_waiting(&self) -> Option<i64> {
        let first = self.committed.max(self.log_start);
        (first < self.high_watermark).then_some(first)
    }

    pub(crate) fn lag(&self) -> Lag {
        let (records, time) = match self.first_waiting() {
            None => (0, Some(Duration::ZERO)),
            Some(first) => {
                let since = self.waiting_since_ms;
                (self.high_watermark.abs_diff(first), since.map(|since_ms| self.age(since_ms)))
            }
        };
        Lag { records, time, commit_age: self.age(self.committed_ms) }
    }

    /// A time ahead of our clock is no age.
    fn age(&self, since_ms: i64) -> Duration {
        Duration::from_millis(u64::try_from(self.now_ms.saturating_sub(since_ms)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANDING: Standing = Standing {
        committed: 40,
        committed_ms: 90_000,
        log_start: 10,
        high_watermark: 50,
        waiting_since_ms: Some(70_000),
        now_ms: 100_000,
    };

    #[test]
    fn what_waits_is_counted_and_timed_from_the_first_that_waits() {
        let lag = STANDING.lag();
        assert_eq!((lag.records, lag.time), (10, Some(Duration::from_secs(30))));
        assert_eq!(lag.commit_age, Duration::from_secs(10));
    }

    #[test]
    fn a_group_that_has_read_everything_is_behind_by_nothing_and_no_time() {
        for committed in [50, 51] {
            let lag = Standing { committed, waiting_since_ms: None, ..STANDING }.lag();
            assert_eq!((lag.records, lag.time), (0, Some(Duration::ZERO)));
        }
    }

    #[test]
    fn records_that_are_deleted_do_not_wait() {
        let late = Standing { committed: 3, ..STANDING };
        assert_eq!((late.first_waiting(), late.lag().records), (Some(10), 40));
        assert_eq!(Standing { log_start: 50, ..late }.first_waiting(), None);
    }

    #[test]
    fn a_record_without_a_time_waits_for_an_unknown_time_and_one_from_the_future_for_none() {
        assert_eq!(Standing { waiting_since_ms: None, ..STANDING }.lag().time, None);
        let ahead = Standing { waiting_since_ms: Some(i64::MAX), committed_ms: i64::MAX, ..STANDING }.lag();
        assert_eq!((ahead.time, ahead.commit_age), (Some(Duration::ZERO), Duration::ZERO));
    }
}
