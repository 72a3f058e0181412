//! Time behind a seam: the wall clock, which people and daemons set, and a steady one, which nobody sets. And a
//! pace, to which work in the background is held.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

mod believed;
mod pace;

pub use believed::{BelievedClock, ClockState, LastBelieved};
pub use pace::Pace;

/// Tells the time. Simulation brings its own.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Milliseconds since 1970-01-01 UTC.
    fn now_ms(&self) -> i64;
    /// The latest that it may be now: what happens now is noted with it, and is not taken for older than it is
    /// when a clock turns out to have been behind.
    fn latest_ms(&self) -> i64 {
        self.now_ms()
    }
    /// Milliseconds since some moment. It is never set, and goes on while the machine sleeps.
    fn steady_ms(&self) -> i64;
}

/// The clock of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the seam that everything else goes through")]
    fn now_ms(&self) -> i64 {
        // A clock before 1970 is wrong; 0 is as good an answer as any.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn steady_ms(&self) -> i64 {
        let since = clock_gettime(ClockId::Boottime);
        since.tv_sec.saturating_mul(1000).saturating_add(since.tv_nsec / 1_000_000)
    }
}

/// A clock that stands until it is moved.
#[cfg(any(test, feature = "sim"))]
#[derive(Debug, Default)]
pub struct ManualClock {
    wall_ms: std::sync::atomic::AtomicI64,
    steady_ms: std::sync::atomic::AtomicI64,
}

#[cfg(any(test, feature = "sim"))]
impl ManualClock {
    /// A clock that shows `ms`.
    #[must_use]
    pub fn at(ms: i64) -> Self {
        Self { wall_ms: std::sync::atomic::AtomicI64::new(ms), ..Self::default() }
    }

    /// Sets the wall clock, forward or back. No time passes.
    pub fn set(&self, ms: i64) {
        self.wall_ms.store(ms, std::sync::atomic::Ordering::Relaxed);
    }

    /// Lets time pass.
    pub fn advance(&self, by: std::time::Duration) {
        let ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.wall_ms.fetch_add(ms, std::sync::atomic::Ordering::Relaxed);
        self.steady_ms.fetch_add(ms, std::sync::atomic::Ordering::Relaxed);
    }
}

#[cfg(any(test, feature = "sim"))]
impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.wall_ms.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn steady_ms(&self) -> i64 {
        self.steady_ms.load(std::sync::atomic::Ordering::Relaxed)
    }
}
