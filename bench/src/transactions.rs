//! What transactions cost: throughput beside the same load without them, a commit beside the device's own flush, the memory of
//! those that are open, and reading only what is committed.
//!
//! Bare connections make the load: a client library's own waiting would be most of what is seen.

mod commit;
mod isolation;
mod memory;
mod throughput;
mod writer;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::bars::Verdict;
use crate::environment::Environment;
use crate::options::{Acks, TransactionsOptions, TransactionsPart};
use crate::peer::{How, Millstream, Peer as _, Running};
use crate::report::{Report, Setting};
use crate::sample::Summary;

/// Records of a transaction where a bar does not say otherwise: what Kafka's own system tests take.
const RECORDS: u32 = 750;

/// What each part is told.
#[derive(Debug)]
struct Stage {
    millstream: Millstream,
    parent: PathBuf,
    /// How long one measurement takes.
    window: Duration,
    /// Measurements of each kind, in turn.
    rounds: u32,
    /// One in so many of the transactions and bytes that the bars speak of.
    divisor: u32,
}

/// Runs the parts that were asked for and tells where we stand.
pub(crate) fn run(options: &TransactionsOptions) -> Result<()> {
    let (window, rounds, divisor) = match (options.smoke, options.quick) {
        (true, _) => (0.2, 1, 50),
        (_, true) => (1.0, 3, 1),
        _ => (3.0, 5, 1),
    };
    let stage = Stage {
        millstream: Millstream::find(options.broker.clone())?.with_all(&options.set),
        parent: options.dir.clone().unwrap_or_else(std::env::temp_dir),
        window: Duration::from_secs_f64(window),
        rounds,
        divisor,
    };
    let mut report = Report::new(options.json);
    report.begin(&Setting {
        environment: Environment::read(),
        driver: "bare connections, a producer on each".to_owned(),
        peers: vec![("millstream", stage.millstream.describe())],
        folder: stage.parent.display().to_string(),
        partitions: 1,
        rounds,
        seconds: window,
    })?;
    let mut verdicts = Vec::new();
    for part in &options.only {
        verdicts.extend(match part {
            TransactionsPart::Throughput => throughput::measure(&stage).context("throughput")?,
            TransactionsPart::Commit => commit::measure(&stage).context("commit")?,
            TransactionsPart::Memory => memory::measure(&stage).context("memory")?,
            TransactionsPart::Isolation => isolation::measure(&stage).context("isolation")?,
        });
    }
    report.end(&Summary::default(), &verdicts)
}

impl Stage {
    fn start(&self) -> Result<Running> {
        self.millstream.start(&How { parent: &self.parent, partitions: 1, acks: Acks::Flushed })
    }
}

fn verdict(bar: String, ours: f64, floor: Option<f64>, (limit, met): (String, bool)) -> Verdict {
    let ratio = floor.filter(|floor| *floor > 0.0).map(|floor| ours / floor);
    Verdict { bar, ours, floor, ratio, limit, met }
}

/// A figure without a bar.
fn told(bar: String, ours: f64) -> Verdict {
    verdict(bar, ours, None, ("told".to_owned(), true))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
