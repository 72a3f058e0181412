//! The client that makes the load. Each driver offers the same three things, so that workloads know none.

#[cfg(feature = "embedded")]
pub(crate) mod embedded;
#[cfg(feature = "librdkafka")]
mod librdkafka;
mod own;

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::latency::Percentiles;
use crate::options::{Acks, DriverName, OpenLoop};

/// How long any single wait for a broker may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a producer under full load waits for a batch to fill.
pub(crate) const LINGER: Duration = Duration::from_millis(5);

/// A client library.
pub(crate) trait Driver: fmt::Debug {
    /// The library and its version.
    fn describe(&self) -> String;
    /// A connected producer for full load.
    fn producer(&self, target: &Target<'_>, acks: Acks) -> Result<Box<dyn ProduceLoad>>;
    /// A connected consumer for full load.
    fn consumer(&self, target: &Target<'_>) -> Result<Box<dyn ConsumeLoad>>;
    /// A producer and a consumer of partition 0 that do not linger.
    fn probe(&self, target: &Target<'_>, acks: Acks) -> Result<Box<dyn Probe>>;
}

/// Where the load goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) topic: &'a str,
    pub(crate) partitions: u32,
    pub(crate) record_bytes: usize,
}

/// Produces as fast as it can.
pub(crate) trait ProduceLoad {
    /// Sends for `window`, then waits until all is acknowledged. Returns how many records that were.
    fn run(&mut self, window: Duration) -> Result<u64>;
}

/// Consumes as fast as it can.
pub(crate) trait ConsumeLoad {
    /// Reads the topic from its start, all partitions, until it has seen `records`.
    fn run(&mut self, records: u64) -> Result<()>;
}

/// Sends single records and receives them.
pub(crate) trait Probe {
    /// One record after another, each once the one before is acknowledged and received.
    fn closed_loop(&mut self, records: u32) -> Result<Distances>;
    /// A record each interval. Latency counts from the intended time, so that a stall is seen by all the
    /// records that it held up.
    fn open_loop(&mut self, load: OpenLoop) -> Result<Distances>;
}

/// How far the acknowledgement and the consumer lie behind the send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Distances {
    pub(crate) ack: Option<Percentiles>,
    pub(crate) end_to_end: Option<Percentiles>,
}

/// The driver asked for, else the best that is built in.
pub(crate) fn choose(name: Option<DriverName>) -> Result<Box<dyn Driver>> {
    match name {
        Some(DriverName::Own) => Ok(Box::new(own::Own)),
        #[cfg(feature = "librdkafka")]
        None | Some(DriverName::Librdkafka) => Ok(Box::new(librdkafka::Librdkafka)),
        #[cfg(not(feature = "librdkafka"))]
        None => Ok(Box::new(own::Own)),
        #[cfg(not(feature = "librdkafka"))]
        Some(DriverName::Librdkafka) => {
            anyhow::bail!(
                "librdkafka is not built in: add `--features librdkafka`, and have a C compiler at hand"
            )
        }
    }
}

/// A record that carries its intended time in its front, counted from `epoch`.
fn stamp(payload: &[u8], epoch: Instant, intended: Instant) -> Vec<u8> {
    let mut value = payload.to_vec();
    let nanos = intended.saturating_duration_since(epoch).as_nanos() as u64;
    value[..8].copy_from_slice(&nanos.to_be_bytes());
    value
}

/// The time that [`stamp`] put there.
fn stamped(value: Option<&[u8]>) -> Result<Duration> {
    let front = value.and_then(<[u8]>::first_chunk).context("a record came back shorter than it was sent")?;
    Ok(Duration::from_nanos(u64::from_be_bytes(*front)))
}

/// Record values: slices of a pool of noise, so that neither compression nor a cache line makes them cheap.
#[derive(Debug)]
struct Payloads {
    pool: Vec<u8>,
    record_bytes: usize,
    at: usize,
}

impl Payloads {
    fn new(record_bytes: usize) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut noise = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        let pool = (0..record_bytes.max(1) * 61).map(|_| noise()).collect();
        Self { pool, record_bytes, at: 0 }
    }

    fn next(&mut self) -> &[u8] {
        // Steps that are no multiple of the record's length let the values differ for a long while.
        self.at = (self.at + 7 * self.record_bytes / 5 + 1) % (self.pool.len() - self.record_bytes + 1);
        &self.pool[self.at..self.at + self.record_bytes]
    }
}

/// The times at which an open loop means to send.
#[derive(Debug)]
pub(crate) struct Schedule {
    started: Instant,
    interval: Duration,
    sent: u32,
    records: u32,
}

impl Schedule {
    /// Begins now.
    pub(crate) fn start(load: OpenLoop) -> Self {
        Self { started: Instant::now(), interval: load.interval, sent: 0, records: load.records }
    }

    /// Waits for the next intended time and returns it; a late caller gets it at once.
    pub(crate) fn next(&mut self) -> Option<Instant> {
        if self.sent == self.records {
            return None;
        }
        let intended = self.started + self.interval * self.sent;
        self.sent += 1;
        loop {
            let wait = intended.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                return Some(intended);
            }
            // Time itself is the event that an open loop waits for.
            std::thread::park_timeout(wait);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_survives_the_way_and_a_cut_record_is_noticed() {
        let epoch = Instant::now();
        let value = stamp(&[9; 20], epoch, epoch + Duration::from_micros(77));
        assert_eq!(value.len(), 20);
        assert_eq!(stamped(Some(&value)).unwrap(), Duration::from_micros(77));
        assert!(stamped(Some(&value[..7])).is_err());
        assert!(stamped(None).is_err());
    }

    #[test]
    fn payloads_have_the_length_asked_for_and_differ() {
        for record_bytes in [1, 8, 100, 1024] {
            let mut payloads = Payloads::new(record_bytes);
            let first = payloads.next().to_vec();
            assert_eq!(first.len(), record_bytes);
            assert!((0..100).any(|_| payloads.next() != first), "{record_bytes}");
        }
    }

    #[test]
    fn a_schedule_keeps_its_times_when_the_sender_is_late() {
        let load = OpenLoop { interval: Duration::from_micros(100), records: 5 };
        let mut schedule = Schedule::start(load);
        let first = schedule.next().unwrap();
        while first.elapsed() < Duration::from_millis(2) {
            std::hint::spin_loop();
        }
        let rest: Vec<Duration> = std::iter::from_fn(|| schedule.next()).map(|at| at - first).collect();
        assert_eq!(rest, [100, 200, 300, 400].map(Duration::from_micros));
        assert_eq!(schedule.next(), None);
    }
}
