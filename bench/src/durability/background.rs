//! Produce at a steady rate while retention, compaction and scrub run, beside the same without them. Both
//! sides have the same load, the topics' settings alone differ.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use bytes::Bytes;
use millstream_protocol::records::{BatchBuilder, Compression, NewRecord};

use super::{Stage, median, one_record, pause, verdict};
use crate::bars::Verdict;
use crate::driver::Schedule;
use crate::latency::Latencies;
use crate::meter::scrape::{Scrape, await_readiness};
use crate::options::{Acks, OpenLoop};
use crate::peer::{How, Peer as _};
use crate::wire::Connection;

/// Foreground: batches a second, each of one record of 1 KiB, acks=all.
const RATE: u32 = 1000;
/// What a run without background work may take, times this.
const AT_MOST: f64 = 1.5;
/// Background: a batch each so often, to the compacted topic and to the trimmed one in turn.
const FILL_INTERVAL: Duration = Duration::from_millis(10);
const FILL_RECORDS: u32 = 500;
const FILL_VALUE: [u8; 180] = [b'v'; 180];
/// Batches that lie in both topics before the clock runs.
const FILLED_BEFORE: u32 = 400;
const KEYS: u32 = 20_000;

/// One side of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Quiet,
    Busy,
}

impl Side {
    fn broker_settings(self) -> &'static [&'static str] {
        match self {
            Self::Quiet => &[],
            Self::Busy => &[
                "log.retention.check.interval.ms=200",
                "log.cleaner.backoff.ms=200",
                "log.scrub.max.bytes.per.second=52428800",
            ],
        }
    }

    fn compacted(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Quiet => &[("segment.bytes", "8388608")],
            Self::Busy => &[
                ("segment.bytes", "8388608"),
                ("cleanup.policy", "compact"),
                ("min.cleanable.dirty.ratio", "0.01"),
            ],
        }
    }

    fn trimmed(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Quiet => &[("segment.bytes", "8388608")],
            Self::Busy => &[("segment.bytes", "8388608"), ("retention.bytes", "16777216")],
        }
    }
}

pub(super) fn measure(stage: &Stage) -> Result<Verdict> {
    let (mut quiet, mut busy) = (Vec::new(), Vec::new());
    for round in 0..stage.rounds {
        let sides =
            if round.is_multiple_of(2) { [Side::Quiet, Side::Busy] } else { [Side::Busy, Side::Quiet] };
        for side in sides {
            let p99 = run(stage, side).with_context(|| format!("{side:?} side"))?;
            match side {
                Side::Quiet => quiet.push(p99),
                Side::Busy => busy.push(p99),
            }
        }
    }
    let (busy, quiet) = (median(busy), median(quiet));
    let met = (format!("<= {AT_MOST}x"), busy <= AT_MOST * quiet);
    Ok(verdict("produce p99 us beside background work (floor: without)", busy, Some(quiet), met))
}

/// The foreground's p99 in microseconds.
fn run(stage: &Stage, side: Side) -> Result<f64> {
    let how = How { parent: &stage.parent, partitions: 1, acks: Acks::Flushed };
    let millstream = stage.millstream()?.with(side.broker_settings());
    let broker = millstream.start(&how)?;
    let mut caller = Connection::open(broker.address)?;
    caller.await_topic("foreground")?;
    caller.create_topic("compacted", 1, side.compacted())?;
    caller.create_topic("trimmed", 1, side.trimmed())?;
    let mut filler = Filler { connection: Connection::open(broker.address)?, key: 0, batches: 0 };
    for _ in 0..FILLED_BEFORE {
        filler.fill()?;
    }
    // Scrub looks at what was there when the broker started, then once a day.
    let broker = millstream.take_over(broker, &how)?;
    let http = broker.http.context("the broker told no address for its metrics")?;
    await_readiness(http)?;
    let mut caller = Connection::open(broker.address)?;
    filler.connection = Connection::open(broker.address)?;
    let before = Scrape::of(http)?;
    let done = AtomicBool::new(false);
    let latencies = thread::scope(|scope| {
        let filling = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let begun = Instant::now();
                filler.fill()?;
                pause(FILL_INTERVAL.saturating_sub(begun.elapsed()));
            }
            anyhow::Ok(())
        });
        let latencies = foreground(&mut caller, stage.window);
        done.store(true, Ordering::Relaxed);
        filling.join().map_err(|_| anyhow!("the filling thread panicked"))??;
        latencies
    })?;
    if side == Side::Busy && stage.window >= Duration::from_secs(1) {
        let after = Scrape::of(http)?;
        for work in [
            "millstream_compaction_runs_total",
            "millstream_retention_segments_deleted_total",
            "millstream_scrubbed_bytes_total",
        ] {
            ensure!(after.grown(&before, work)? > 0.0, "invalid: {work} did not grow, so nothing ran beside");
        }
    }
    Ok(latencies.percentiles().context("nothing was sent")?.p99_us)
}

/// Latency counts from the intended time: a stall is seen by all that it held up.
fn foreground(caller: &mut Connection, window: Duration) -> Result<Latencies> {
    let batch = one_record(1024);
    let records = (f64::from(RATE) * window.as_secs_f64()) as u32;
    let mut schedule = Schedule::start(OpenLoop { interval: Duration::from_secs(1) / RATE, records });
    let mut latencies = Latencies::new();
    while let Some(intended) = schedule.next() {
        caller.produce("foreground", batch.clone(), Acks::Flushed)?;
        latencies.record(intended.elapsed());
    }
    Ok(latencies)
}

/// Keeps the background supplied.
struct Filler {
    connection: Connection,
    key: u32,
    batches: u32,
}

impl Filler {
    fn fill(&mut self) -> Result<()> {
        let topic = if self.batches.is_multiple_of(2) { "compacted" } else { "trimmed" };
        self.batches += 1;
        let batch = self.batch();
        self.connection.produce(topic, batch, Acks::Written)
    }

    fn batch(&mut self) -> Bytes {
        let mut batch = BatchBuilder::new(Compression::None);
        for _ in 0..FILL_RECORDS {
            self.key = (self.key + 7919) % KEYS;
            let key = self.key.to_be_bytes();
            let (key, value) = (Some(&key[..]), Some(&FILL_VALUE[..]));
            batch.append(&NewRecord { timestamp: -1, key, value, ..Default::default() });
        }
        batch.build()
    }
}
