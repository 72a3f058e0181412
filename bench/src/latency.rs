//! Latencies: a histogram, and the five figures it is told by.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest latency that is told apart; anything slower counts as this.
const LONGEST: Duration = Duration::from_secs(60);

/// Latencies in nanoseconds, three significant digits.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

/// What a table says of a set of latencies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) count: u64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
}

impl Latencies {
    /// An empty histogram.
    pub(crate) fn new() -> Self {
        let longest = LONGEST.as_nanos() as u64;
        Self(Histogram::new_with_bounds(1, longest, 3).expect("the bounds are constants in range"))
    }

    /// Adds one.
    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// None of an empty histogram: no latency is not a latency of zero.
    pub(crate) fn percentiles(&self) -> Option<Percentiles> {
        if self.0.is_empty() {
            return None;
        }
        let at = |quantile: f64| self.0.value_at_quantile(quantile) as f64 / 1e3;
        Some(Percentiles {
            count: self.0.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.0.max() as f64 / 1e3,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_three_digits() {
        let mut latencies = Latencies::new();
        for micros in 1..=1000 {
            latencies.record(Duration::from_micros(micros));
        }
        let told = latencies.percentiles().unwrap();
        assert_eq!(told.count, 1000);
        for (seen, exact) in
            [(told.p50_us, 500.0), (told.p90_us, 900.0), (told.p99_us, 990.0), (told.max_us, 1000.0)]
        {
            assert!((seen / exact - 1.0).abs() < 0.002, "{seen} instead of {exact}");
        }
    }

    #[test]
    fn nothing_recorded_has_no_percentiles() {
        assert_eq!(Latencies::new().percentiles(), None);
    }

    #[test]
    fn a_stall_beyond_the_longest_is_kept_at_the_end() {
        let mut latencies = Latencies::new();
        latencies.record(Duration::from_secs(3600));
        let longest = latencies.percentiles().unwrap().max_us;
        assert!((longest / 60e6 - 1.0).abs() < 0.002, "{longest}");
    }
}
