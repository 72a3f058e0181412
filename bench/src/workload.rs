//! What is done to one freshly started broker, and the figures that come out.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use crate::driver::{Driver, Target};
use crate::meter::Meter;
use crate::options::{Acks, Part, Plan};
use crate::peer::Running;
use crate::sample::{Case, Figure, Work, latency_figures, load_figures};

/// Record size of the latency part.
const PROBE_BYTES: usize = 1024;

/// How often a topic is read. A pass takes a fraction of a second, and what it costs has two modes (with any
/// broker), after where the scheduler puts client and broker: one pass a round would be a throw of dice.
const CONSUME_PASSES: u32 = 3;

/// Records that a closed loop sends before it counts.
const PROBE_WARM_UP: u32 = 200;

/// One visit to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visit {
    /// Full load in, then full load out.
    Load { record_bytes: usize, acks: Acks },
    /// Low load, with a clock on each record.
    Probe { acks: Acks },
}

/// The figures of one case.
pub(crate) type Outcome = (Case, BTreeMap<Figure, f64>);

impl Visit {
    /// All visits of a plan, in the order of the report.
    pub(crate) fn all(plan: &Plan) -> Vec<Self> {
        let mut visits = Vec::new();
        for &acks in &plan.acks {
            if plan.parts.contains(&Part::Throughput) {
                visits.extend(plan.sizes.iter().map(|&record_bytes| Self::Load { record_bytes, acks }));
            }
            if plan.parts.contains(&Part::Latency) {
                visits.push(Self::Probe { acks });
            }
        }
        visits
    }

    /// What the broker will be asked to acknowledge.
    pub(crate) fn acks(self) -> Acks {
        match self {
            Self::Load { acks, .. } | Self::Probe { acks } => acks,
        }
    }

    /// The partitions that a topic needs.
    pub(crate) fn partitions(self, plan: &Plan) -> u32 {
        match self {
            Self::Load { .. } => plan.partitions,
            Self::Probe { .. } => 1,
        }
    }

    /// About how much a fast broker writes meanwhile.
    pub(crate) fn file_bytes(self, plan: &Plan) -> u64 {
        match self {
            Self::Load { record_bytes, .. } => {
                let bytes_per_second = (3_000_000.0 * record_bytes as f64).min(1.6e9);
                (bytes_per_second * (plan.warm_up + plan.window).as_secs_f64()) as u64
            }
            Self::Probe { .. } => 0,
        }
    }

    /// Runs it.
    pub(crate) fn run(self, broker: &Running, driver: &dyn Driver, plan: &Plan) -> Result<Vec<Outcome>> {
        let partitions = self.partitions(plan);
        match self {
            Self::Load { record_bytes, acks } => {
                let target = Target { address: broker.address, topic: "load", partitions, record_bytes };
                load(broker, driver, plan, &target, acks)
            }
            Self::Probe { acks } => {
                let target =
                    Target { address: broker.address, topic: "probe", partitions, record_bytes: PROBE_BYTES };
                probe(driver, plan, &target, acks)
            }
        }
    }
}

fn load(
    broker: &Running,
    driver: &dyn Driver,
    plan: &Plan,
    target: &Target<'_>,
    acks: Acks,
) -> Result<Vec<Outcome>> {
    let record_bytes = target.record_bytes;
    let mut producer = driver.producer(target, acks)?;
    let warm_up = producer.run(plan.warm_up).context("warm-up of produce")?;
    let meter = Meter::start(broker.pid())?;
    let records = producer.run(plan.window).context("produce")?;
    let produced = load_figures(records, record_bytes, &meter.stop()?);
    drop(producer);
    let mut outcomes = vec![(Case { work: Work::Produce, record_bytes, acks }, produced)];

    // What is read does not depend on how it was acknowledged: once is enough.
    if acks == Acks::Written {
        let records = warm_up + records;
        for _ in 0..CONSUME_PASSES {
            let mut consumer = driver.consumer(target)?;
            let meter = Meter::start(broker.pid())?;
            consumer.run(records).context("consume")?;
            let consumed = load_figures(records, record_bytes, &meter.stop()?);
            outcomes.push((Case { work: Work::Consume, record_bytes, acks }, consumed));
        }
    }
    Ok(outcomes)
}

fn probe(driver: &dyn Driver, plan: &Plan, target: &Target<'_>, acks: Acks) -> Result<Vec<Outcome>> {
    let mut probe = driver.probe(target, acks)?;
    probe.closed_loop(PROBE_WARM_UP.min(plan.closed_loop_records)).context("warm-up of the closed loop")?;
    let closed = probe.closed_loop(plan.closed_loop_records).context("closed loop")?;
    let open = probe.open_loop(plan.open_loop).context("open loop")?;
    let outcome = |work, distances: crate::driver::Distances| {
        let case = Case { work, record_bytes: PROBE_BYTES, acks };
        (case, latency_figures(distances.ack, distances.end_to_end))
    };
    Ok(vec![outcome(Work::ClosedLoop, closed), outcome(Work::OpenLoop, open)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Command, CommandLine};
    use clap::Parser as _;

    #[test]
    fn visits_cover_sizes_and_acks_and_leave_out_what_was_not_asked_for() {
        let visits = |arguments: &[&str]| {
            let line = ["millstream-bench", "produce-consume"].iter().chain(arguments);
            match CommandLine::parse_from(line).command {
                Command::ProduceConsume(options) => Visit::all(&options.plan()),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(visits(&[]).len(), 2 * (2 + 1));
        assert_eq!(visits(&["--only", "latency", "--acks", "all"]), [Visit::Probe { acks: Acks::Flushed }]);
        assert_eq!(visits(&["--only", "footprint"]), []);
    }
}
