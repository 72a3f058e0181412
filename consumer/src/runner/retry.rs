//! What failed, and how often it is tried again.

use std::fmt;
use std::time::Duration;

use millstream_client::Backoff;

/// Why a record was not handled. Everything that can be shown turns into one that may be tried again, so `?`
/// works on any error in a handler.
///
/// ```
/// use millstream_consumer::Failure;
///
/// fn quantity(text: &str) -> Result<u32, Failure> {
///     if text.is_empty() {
///         // It will be empty the next time, too.
///         return Err(Failure::poison("no quantity"));
///     }
///     Ok(text.parse::<u32>()?)
/// }
///
/// assert!(quantity("").unwrap_err().is_poison());
/// assert!(!quantity("x").unwrap_err().is_poison());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    reason: String,
    is_poison: bool,
}

impl Failure {
    /// One that trying again cannot mend: the record itself is wrong.
    pub fn poison(reason: impl fmt::Display) -> Self {
        Self { reason: format!("{reason:#}"), is_poison: true }
    }

    /// One that may pass.
    pub fn passing(reason: impl fmt::Display) -> Self {
        Self { reason: format!("{reason:#}"), is_poison: false }
    }

    /// Whether trying again is useless.
    #[must_use]
    pub fn is_poison(&self) -> bool {
        self.is_poison
    }

    /// What went wrong.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

// `Failure` itself cannot be shown, or this would be two conversions of it.
impl<E: fmt::Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::passing(error)
    }
}

/// How often a record is tried that fails, and how long to wait in between. While a record waits, those that have
/// to come after it wait, too; others are worked on.
///
/// ```
/// use std::time::Duration;
/// use millstream_client::Backoff;
/// use millstream_consumer::RetryPolicy;
///
/// let waits = Backoff { first: Duration::from_millis(50), most: Duration::from_secs(10) };
/// let policy = RetryPolicy::attempts(5).backoff(waits);
/// # let _ = policy;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    attempts: u32,
    backoff: Backoff,
}

impl RetryPolicy {
    /// Tries a record so often in all, at least once; waits from 100 ms up to 10 s in between.
    #[must_use]
    pub fn attempts(attempts: u32) -> Self {
        let backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_secs(10) };
        Self { attempts: attempts.max(1), backoff }
    }

    /// Tries for ever.
    #[must_use]
    pub fn forever() -> Self {
        Self::attempts(u32::MAX)
    }

    /// How long to wait between attempts.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How long to wait after so many attempts that failed; none if that is enough.
    pub(crate) fn wait(&self, attempts: u32, failure: &Failure) -> Option<Duration> {
        let is_over = failure.is_poison || (attempts >= self.attempts && self.attempts < u32::MAX);
        (!is_over).then(|| self.backoff.after(attempts))
    }
}

impl Default for RetryPolicy {
    /// Three attempts.
    fn default() -> Self {
        Self::attempts(3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_end_and_poison_is_not_tried_again() {
        let policy = RetryPolicy::attempts(3);
        let failure = Failure::from("no");
        let waits: Vec<_> = (1..5).map(|attempts| policy.wait(attempts, &failure).is_some()).collect();
        assert_eq!(waits, [true, true, false, false]);
        assert_eq!(policy.wait(1, &Failure::poison("never")), None);
        assert!(RetryPolicy::forever().wait(u32::MAX, &failure).is_some());
    }
}
