//! What durability costs: batches per `fdatasync`, the way of one acknowledgement beside the device's own,
//! and produce while everything that runs in the background does.
//!
//! Bare connections make the load: at these distances a client library's threads would be most of what is
//! seen.

mod background;
mod group_commit;
mod low_rate;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use millstream_protocol::records::{BatchBuilder, Compression, NewRecord};

use crate::bars::Verdict;
use crate::environment::Environment;
use crate::options::{DurabilityOptions, DurabilityPart};
use crate::peer::{Kideal, Millstream, Peer as _};
use crate::report::{Report, Setting};
use crate::sample::Summary;

/// What each part is told.
#[derive(Debug)]
struct Stage {
    broker: Option<PathBuf>,
    floor: Option<Kideal>,
    parent: PathBuf,
    /// How long one measurement takes.
    window: Duration,
    rounds: u32,
}

/// Runs all parts and tells where we stand.
pub(crate) fn run(options: &DurabilityOptions) -> Result<()> {
    let (window, rounds) = match (options.smoke, options.quick) {
        (true, _) => (0.2, 1),
        (_, true) => (2.0, 3),
        _ => (6.0, 5),
    };
    let stage = Stage {
        broker: options.broker.clone(),
        floor: options.floor.clone().map(Kideal::at).transpose()?,
        parent: options.dir.clone().unwrap_or_else(std::env::temp_dir),
        window: Duration::from_secs_f64(window),
        rounds,
    };
    let mut report = Report::new(options.json);
    report.begin(&Setting {
        environment: Environment::read(),
        driver: "bare connections, one request at a time each".to_owned(),
        peers: vec![("millstream", Millstream::find(options.broker.clone())?.describe())],
        folder: stage.parent.display().to_string(),
        partitions: 1,
        rounds,
        seconds: window,
    })?;
    let parts = options.only.iter().map(|part| match part {
        DurabilityPart::GroupCommit => group_commit::measure(&stage).context("group commit"),
        DurabilityPart::LowRate => low_rate::measure(&stage).context("low rate"),
        DurabilityPart::Background => background::measure(&stage).context("background work"),
    });
    let verdicts = parts.collect::<Result<Vec<_>>>()?;
    report.end(&Summary::default(), &verdicts)
}

impl Stage {
    fn millstream(&self) -> Result<Millstream> {
        Millstream::find(self.broker.clone())
    }
}

/// A batch of one record.
pub(crate) fn one_record(value_bytes: usize) -> Bytes {
    let value = vec![b'm'; value_bytes];
    let mut batch = BatchBuilder::new(Compression::None);
    batch.append(&NewRecord { timestamp: -1, value: Some(&value), ..Default::default() });
    batch.build()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Lets time pass: nothing is to happen until then.
fn pause(length: Duration) {
    let end = Instant::now() + length;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}

fn verdict(bar: &str, ours: f64, floor: Option<f64>, (limit, met): (String, bool)) -> Verdict {
    let ratio = floor.filter(|floor| *floor > 0.0).map(|floor| ours / floor);
    Verdict { bar: bar.to_owned(), ours, floor, ratio, limit, met }
}
