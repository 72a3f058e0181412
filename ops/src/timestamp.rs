//! Points in time as people write them, and the time of the log as people read it: RFC 3339 in UTC.
//!
//! No calendar crate: two conversions between a day number and a date are all that is needed.

use std::time::Duration;

/// Milliseconds since 1970, as Kafka counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp(pub(crate) i64);

impl Timestamp {
    /// `2026-11-24T09:30:00.250Z`; a time that has no four-digit year stays a number.
    pub(crate) fn to_rfc3339(self) -> String {
        let (days, ms) = (self.0.div_euclid(MS_PER_DAY), self.0.rem_euclid(MS_PER_DAY));
        let (year, month, day) = date_of(days);
        if !(0..=9999).contains(&year) {
            return self.0.to_string();
        }
        let (hour, minute) = (ms / 3_600_000, ms / 60_000 % 60);
        let (second, ms) = (ms / 1000 % 60, ms % 1000);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
    }

    /// Reads `2026-11-24T09:30:00Z`, `2026-11-24 09:30:00.5+01:00` or `2026-11-24` (midnight in UTC).
    pub(crate) fn from_rfc3339(text: &str) -> Option<Self> {
        let (date, rest) = text.split_at_checked(10)?;
        let days = parse_date(date)?;
        if rest.is_empty() {
            return Some(Self(days * MS_PER_DAY));
        }
        let clock = rest.strip_prefix(['T', 't', ' '])?;
        let zone_at = clock.find(['Z', 'z', '+', '-'])?;
        let (clock, zone) = clock.split_at(zone_at);
        Some(Self(days * MS_PER_DAY + parse_clock(clock)? - parse_zone(zone)?))
    }
}

const MS_PER_DAY: i64 = 86_400_000;

/// `90s`, `5m`, `2h`, `7d`, `250ms`.
pub(crate) fn parse_age(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().ok()?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(unit_ms)?))
}

fn parse_date(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, '-');
    let year = digits(parts.next()?, 4)?;
    let month = digits(parts.next()?, 2)?;
    let day = digits(parts.next()?, 2)?;
    let days = days_of(year, month, day);
    // The way back shows whether that month has that day.
    (date_of(days) == (year, month, day)).then_some(days)
}

fn parse_clock(text: &str) -> Option<i64> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = clock.splitn(3, ':');
    let hour = digits(parts.next()?, 2)?;
    let minute = digits(parts.next()?, 2)?;
    let second = parts.next().map_or(Some(0), |text| digits(text, 2))?;
    if hour > 23 || minute > 59 || second > 60 || fraction.is_empty() {
        return None;
    }
    if !fraction.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let ms: i64 = format!("{fraction:0<3}")[..3].parse().ok()?;
    Some(((hour * 60 + minute) * 60 + second) * 1000 + ms)
}

fn parse_zone(text: &str) -> Option<i64> {
    let (sign, offset) = match text.as_bytes().first()? {
        b'Z' | b'z' => return (text.len() == 1).then_some(0),
        b'+' => (1, &text[1..]),
        _ => (-1, &text[1..]),
    };
    let (hours, minutes) = offset.split_once(':')?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60_000)
}

fn digits(text: &str, length: usize) -> Option<i64> {
    let fits = text.len() == length && text.bytes().all(|c| c.is_ascii_digit());
    fits.then(|| text.parse().ok()).flatten()
}

/// Days since 1970-01-01 of a date in the Gregorian calendar. The year is taken to start in March, so that
/// the leap day is its last day; 719,468 days lie between 0000-03-01 and 1970-01-01.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

/// The date of a day number. 400 years are 146,097 days; inside them every day number is cleared of the leap
/// days before it (one in 1,460 days, but not in 36,524, yet again in 146,096) and then divides by 365.
fn date_of(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (cycle, day_of_cycle) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = cycle * 400 + year_of_cycle;
    match month {
        0..=9 => (year, month + 3, day),
        _ => (year + 1, month - 9, day),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_eight_centuries_survives_the_round_trip() {
        let mut expected = (1600, 1, 1);
        for days in days_of(1600, 1, 1)..days_of(2400, 1, 1) {
            assert_eq!(date_of(days), expected, "day {days}");
            let (year, month, day) = expected;
            let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
            let length = match month {
                2 => 28 + i64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            expected = match (day == length, month == 12) {
                (true, true) => (year + 1, 1, 1),
                (true, false) => (year, month + 1, 1),
                _ => (year, month, day + 1),
            };
        }
    }

    #[test]
    fn times_are_read_with_their_zone_and_fraction() {
        let read = |text| Timestamp::from_rfc3339(text).map(|time| time.0);
        assert_eq!(read("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(read("2001-09-09T01:46:40Z"), Some(1_000_000_000_000));
        assert_eq!(read("2001-09-09 03:46:40.5+02:00"), Some(1_000_000_000_500));
        assert_eq!(read("2001-09-08T20:46:40.123456-05:00"), Some(1_000_000_000_123));
        assert_eq!(read("2001-09-09"), Some(999_993_600_000));
        assert_eq!(Timestamp(1_000_000_000_123).to_rfc3339(), "2001-09-09T01:46:40.123Z");
        assert_eq!(Timestamp(-1).to_rfc3339(), "1969-12-31T23:59:59.999Z");
        assert_eq!(Timestamp(i64::MAX).to_rfc3339(), i64::MAX.to_string());
    }

    #[test]
    fn what_is_no_time_is_refused() {
        let wrong = ["", "now", "2026-02-29", "2026-13-01", "2026-1-1", "2026-01-01T", "2026-01-01T10:00"];
        for text in wrong.into_iter().chain(["2026-01-01T24:00:00Z", "2026-01-01T10:00:00.Z", "ä026-01-01xx"])
        {
            assert_eq!(Timestamp::from_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn ages_have_a_number_and_a_unit() {
        assert_eq!(parse_age("5m"), Some(Duration::from_secs(300)));
        assert_eq!(parse_age("250ms"), Some(Duration::from_millis(250)));
        for wrong in ["", "5", "m", "5y", "-5m", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(parse_age(wrong), None, "{wrong}");
        }
    }
}
