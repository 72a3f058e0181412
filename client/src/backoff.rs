//! How long to wait before trying again.
//!
//! Exponential with full jitter over the upper half: clients that failed together do not come back together.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Bounds of the waits between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait; each following one is twice as long.
    pub first: Duration,
    /// No wait is longer.
    pub most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(20), most: Duration::from_secs(1) }
    }
}

impl Backoff {
    /// The wait after `failures` failures in a row, at least one.
    #[must_use]
    pub fn after(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let whole = self.first.saturating_mul(1 << doublings).min(self.most);
        whole.mul_f64(0.5 + 0.5 * fraction())
    }
}

/// A number from 0 to 1 that differs from call to call: each `RandomState` has keys of its own.
fn fraction() -> f64 {
    let bits = RandomState::new().hash_one(0_u8) >> 40;
    bits as f64 / f64::from(1_u32 << 24)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most_and_are_jittered_downwards() {
        let backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_millis(350) };
        for (failures, whole) in [(1, 100), (2, 200), (3, 350), (40, 350)] {
            let wait = backoff.after(failures).as_millis();
            assert!(wait <= whole && wait * 2 >= whole - 1, "{failures} failures: {wait} ms of {whole}");
        }
    }
}
