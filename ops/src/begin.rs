//! Places in a partition as people name them: `start`, `end`, an offset, a time, an age. Where `consume` begins and
//! where `group seek` goes.

use std::time::Duration;

use millstream_client::OffsetAt;
use millstream_consumer::StartAt;
use millstream_log::Clock;

use crate::timestamp::{Timestamp, parse_age};

/// What is accepted, for help and refusals.
pub(crate) const HELP: &str = "start, end, an offset, a date (2026-11-24T09:30:00Z), milliseconds since 1970 (13 digits), or an age (5m, 2h, 7d)";

/// From here on a number is a time: 10^12 ms is September 2001, and no partition of ours has as many records.
const EPOCH_MS_MIN: i64 = 1_000_000_000_000;

/// A place, as asked for; ages are not yet resolved against the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    Start,
    End,
    Offset(i64),
    /// The first record that is not older.
    Time(Timestamp),
    /// The same, counted back from now.
    Age(std::time::Duration),
}

impl Begin {
    /// Reads the option.
    ///
    /// # Errors
    /// Says what would have been accepted.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "start" | "beginning" => return Ok(Self::Start),
            "end" => return Ok(Self::End),
            _ => {}
        }
        if let Ok(number) = text.parse::<i64>() {
            return match number {
                ..0 => Err(format!("an offset cannot be negative; give {HELP}")),
                0..EPOCH_MS_MIN => Ok(Self::Offset(number)),
                _ => Ok(Self::Time(Timestamp(number))),
            };
        }
        let age = parse_age(text).map(Self::Age);
        let time = || Timestamp::from_rfc3339(text).map(Self::Time);
        age.or_else(time).ok_or_else(|| format!("give {HELP}"))
    }

    /// What a broker is asked for: a place that it has to look up, or an offset that is known already.
    pub(crate) fn offset_at(self, clock: &dyn Clock) -> Result<OffsetAt, i64> {
        match self {
            Self::Start => Ok(OffsetAt::Earliest),
            Self::End => Ok(OffsetAt::Latest),
            Self::Offset(offset) => Err(offset),
            Self::Time(Timestamp(ms)) => Ok(OffsetAt::Timestamp(ms)),
            Self::Age(age) => Ok(OffsetAt::Timestamp(before(age, clock))),
        }
    }

    /// What the consumer is asked for; an age is counted back from now.
    pub(crate) fn start_at(self, clock: &dyn Clock) -> StartAt {
        match self {
            Self::Start => StartAt::Beginning,
            Self::End => StartAt::End,
            Self::Offset(offset) => StartAt::Offset(offset),
            Self::Time(Timestamp(ms)) => StartAt::Timestamp(ms),
            Self::Age(age) => StartAt::Timestamp(before(age, clock)),
        }
    }
}

/// So long ago, in milliseconds since 1970.
fn before(age: Duration, clock: &dyn Clock) -> i64 {
    let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    clock.now_ms().saturating_sub(age_ms).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Noon;

    impl Clock for Noon {
        fn now_ms(&self) -> i64 {
            1_000_000
        }

        fn steady_ms(&self) -> i64 {
            0
        }
    }

    #[test]
    fn offsets_times_and_ages_are_told_apart() {
        let parse = |text| Begin::parse(text).unwrap();
        assert_eq!(parse("start"), Begin::Start);
        assert_eq!(parse("end"), Begin::End);
        assert_eq!(parse("0"), Begin::Offset(0));
        assert_eq!(parse("999999999999"), Begin::Offset(999_999_999_999));
        assert_eq!(parse("1000000000000"), Begin::Time(Timestamp(1_000_000_000_000)));
        assert_eq!(parse("2001-09-09T01:46:40Z"), Begin::Time(Timestamp(1_000_000_000_000)));
        assert_eq!(parse("5m").start_at(&Noon), StartAt::Timestamp(700_000));
        assert_eq!(parse("7d").start_at(&Noon), StartAt::Timestamp(0));
        assert_eq!(parse("3").start_at(&Noon), StartAt::Offset(3));
    }

    #[test]
    fn anything_else_is_refused_with_what_would_do() {
        for wrong in ["", "-1", "yesterday", "5y", "1.5"] {
            assert!(Begin::parse(wrong).unwrap_err().contains("start, end, an offset"), "{wrong}");
        }
    }
}
