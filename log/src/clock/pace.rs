//! A limit on bytes per second for work in the background.
//!
//! Work is done in pieces; each piece asks first and waits until it is its turn. A twentieth of a second's worth
//! may be taken at once after a pause: more would be a burst that others wait behind. It refuses to know what the bytes
//! are for, and needs no clock of the machine: only time that has passed counts.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Holds work to a rate. Shared by those who share the rate.
#[derive(Debug)]
pub struct Pace {
    bucket: Mutex<Bucket>,
    changed: Condvar,
}

impl Pace {
    /// No limit: nobody ever waits.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(None)
    }

    /// At most so many bytes per second; 0 is a limit of one byte, not none.
    #[must_use]
    pub fn of(bytes_per_second: u64) -> Self {
        Self::new(NonZeroU64::new(bytes_per_second.max(1)))
    }

    fn new(bytes_per_second: Option<NonZeroU64>) -> Self {
        Self { bucket: Mutex::new(Bucket::full(bytes_per_second, Instant::now())), changed: Condvar::new() }
    }

    /// Another rate; `None`: no limit. Whoever waits at the old one waits no more.
    pub fn set(&self, bytes_per_second: Option<NonZeroU64>) {
        let mut bucket = self.bucket.lock();
        if bucket.bytes_per_second != bytes_per_second {
            let hurried = bucket.hurried;
            *bucket = Bucket { hurried, ..Bucket::full(bytes_per_second, Instant::now()) };
            self.changed.notify_all();
        }
    }

    /// Waits until `bytes` more may be moved. Blocks. A piece larger than what may be taken at once is paid for by
    /// those that follow.
    pub fn wait_for(&self, bytes: u64) {
        let mut bucket = self.bucket.lock();
        let rate = bucket.bytes_per_second;
        if bucket.hurried || rate.is_none() {
            return;
        }
        let until = bucket.take(bytes, Instant::now());
        while !bucket.hurried
            && bucket.bytes_per_second == rate
            && !self.changed.wait_until(&mut bucket, until).timed_out()
        {}
    }

    /// Nobody waits any more: the work has to end.
    pub fn hurry(&self) {
        self.bucket.lock().hurried = true;
        self.changed.notify_all();
    }
}

/// The pure part: how much may be taken, and when.
#[derive(Debug)]
struct Bucket {
    /// `None`: there is no limit.
    bytes_per_second: Option<NonZeroU64>,
    /// When the bucket was, or will be, empty.
    empty_at: Instant,
    hurried: bool,
}

impl Bucket {
    const HOLDS: Duration = Duration::from_millis(50);

    fn full(bytes_per_second: Option<NonZeroU64>, now: Instant) -> Self {
        let empty_at = now.checked_sub(Self::HOLDS).unwrap_or(now);
        Self { bytes_per_second, empty_at, hurried: false }
    }

    /// Takes `bytes` out and says from when on they may be used.
    fn take(&mut self, bytes: u64, now: Instant) -> Instant {
        let full = now.checked_sub(Self::HOLDS).unwrap_or(now);
        let begin = self.empty_at.max(full);
        let rate = self.bytes_per_second.map_or(f64::INFINITY, |rate| rate.get() as f64);
        let cost = Duration::from_secs_f64(bytes as f64 / rate);
        // A debt of more than a day is a mistake of units; the work has to end some time.
        self.empty_at = begin + cost.min(Duration::from_hours(24));
        self.empty_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_little_is_free_after_a_pause_and_then_the_rate_holds() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut bucket = Bucket::full(NonZeroU64::new(1000), start);
        assert!(bucket.take(30, start) <= start);
        assert!(bucket.take(20, start) <= start);
        assert_eq!(bucket.take(500, start), start + Duration::from_millis(500));
        let later = start + Duration::from_millis(500);
        assert_eq!(bucket.take(2000, later), later + Duration::from_secs(2), "a large piece is a debt");
        let much_later = start + Duration::from_secs(100);
        assert!(bucket.take(50, much_later) <= much_later);
        assert!(bucket.take(1, much_later) > much_later, "a pause saves up no more");
    }

    #[test]
    fn work_that_has_to_end_is_not_held_up() {
        let pace = Pace::of(1);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| pace.wait_for(1 << 20));
            pace.hurry();
            waiting.join().unwrap();
        });
        pace.wait_for(u64::MAX);
        Pace::unlimited().wait_for(u64::MAX);
    }

    #[test]
    fn who_waits_at_a_rate_that_is_changed_waits_no_more() {
        let pace = Pace::of(1);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| pace.wait_for(1 << 20));
            pace.set(None);
            waiting.join().unwrap();
        });
        pace.wait_for(u64::MAX);
        pace.set(NonZeroU64::new(1 << 20));
        pace.wait_for(1 << 10);
    }
}
