//! What the pool did so far, for those who watch it.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Upper bounds of the time that one `fdatasync` took; the last bucket has none.
const BOUNDS_US: [u64; 12] =
    [100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000];

/// Flushes of all logs of a data folder since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlushStats {
    /// Successful `fdatasync` calls on segments.
    pub flushes: u64,
    /// Batches that became durable by them.
    pub batches: u64,
    /// The time that the calls took.
    pub time: Duration,
    /// How many calls took at most so long, by rising time. Those that took longer are in `flushes` only.
    pub at_most: Vec<(Duration, u64)>,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    flushes: AtomicU64,
    batches: AtomicU64,
    micros: AtomicU64,
    by_time: [AtomicU64; BOUNDS_US.len()],
}

impl Counters {
    pub(super) fn note_flush(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.flushes.fetch_add(1, Relaxed);
        self.micros.fetch_add(micros, Relaxed);
        if let Some(bucket) = self.by_time.get(BOUNDS_US.partition_point(|bound| *bound < micros)) {
            bucket.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn note_batches(&self, batches: u64) {
        self.batches.fetch_add(batches, Relaxed);
    }

    pub(super) fn stats(&self) -> FlushStats {
        let mut below = 0;
        let at_most = BOUNDS_US.iter().zip(&self.by_time).map(|(bound, count)| {
            below += count.load(Relaxed);
            (Duration::from_micros(*bound), below)
        });
        FlushStats {
            at_most: at_most.collect(),
            flushes: self.flushes.load(Relaxed),
            batches: self.batches.load(Relaxed),
            time: Duration::from_micros(self.micros.load(Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_counts_in_the_buckets_of_its_time_and_above() {
        let counters = Counters::default();
        for micros in [100, 101, 900_000, 2_000_000] {
            counters.note_flush(Duration::from_micros(micros));
        }
        counters.note_batches(7);
        let stats = counters.stats();
        assert_eq!((stats.flushes, stats.batches, stats.time), (4, 7, Duration::from_micros(2_900_201)));
        let counts: Vec<_> = stats.at_most.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3]);
    }
}
