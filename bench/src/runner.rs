//! Runs the visits: brokers in turn, round after round, so that a change of the machine's mood meets all.

mod footprint;
mod page_cache;

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::driver::{self, Driver};
use crate::options::{Acks, Options, Part, Plan};
use crate::peer::{How, Kafka, Kideal, Millstream, Peer};
use crate::report::{Report, Setting};
use crate::sample::{Sample, Summary};
use crate::workload::Visit;
use crate::{bars, environment::Environment};

/// Runs everything that was asked for and tells it.
pub(crate) fn produce_consume(options: &Options) -> Result<()> {
    let plan = options.plan();
    let driver = driver::choose(options.driver)?;
    let peers = peers(options)?;
    let parent = options.dir.clone().unwrap_or_else(std::env::temp_dir);
    let mut report = Report::new(options.json);
    report.begin(&Setting {
        environment: Environment::read(),
        driver: driver.describe(),
        peers: peers.iter().map(|peer| (peer.name(), peer.describe())).collect(),
        folder: parent.display().to_string(),
        partitions: plan.partitions,
        rounds: plan.rounds,
        seconds: plan.window.as_secs_f64(),
    })?;

    let run = Run { plan: &plan, driver: driver.as_ref(), peers: &peers, parent };
    let mut summary = Summary::default();
    for visit in Visit::all(&plan) {
        run.visit(visit, &mut summary, &mut report)?;
    }
    if plan.parts.contains(&Part::Footprint) {
        run.footprint(&mut summary, &mut report)?;
    }
    report.end(&summary, &bars::judge(&summary, bars::Sides { ours: "millstream", floor: "kideal" }))
}

/// Millstream first, then what it is held against.
fn peers(options: &Options) -> Result<Vec<Box<dyn Peer>>> {
    let mut peers: Vec<Box<dyn Peer>> = Vec::new();
    if !options.no_broker {
        peers.push(Box::new(Millstream::find(options.broker.clone())?));
    }
    if !options.no_floor && !options.smoke {
        let floor = match &options.floor {
            Some(binary) => Kideal::at(binary.clone())?,
            None => Kideal::build(&options.perf_dir, &std::env::temp_dir().join("millstream-bench-kideal"))?,
        };
        peers.push(Box::new(floor));
    }
    if let Some(script) = &options.kafka {
        peers.push(Box::new(Kafka::at(script.clone())?));
    }
    Ok(peers)
}

struct Run<'a> {
    plan: &'a Plan,
    driver: &'a dyn Driver,
    peers: &'a [Box<dyn Peer>],
    parent: PathBuf,
}

impl Run<'_> {
    fn visit(&self, visit: Visit, summary: &mut Summary, report: &mut Report) -> Result<()> {
        for round in 0..self.plan.rounds {
            for peer in self.in_turn(round) {
                let how =
                    How { parent: &self.parent, partitions: visit.partitions(self.plan), acks: visit.acks() };
                let name = peer.name();
                // What the broker before has left to write must not slow this one down.
                rustix::fs::sync();
                page_cache::warm(&self.parent, visit.file_bytes(self.plan))?;
                let broker = peer.start(&how).with_context(|| format!("starting {name}"))?;
                let outcomes =
                    visit.run(&broker, self.driver, self.plan).with_context(|| format!("running {name}"))?;
                drop(broker);
                for (case, figures) in outcomes {
                    take(&Sample { peer: name, case, round, figures }, summary, report)?;
                }
            }
        }
        Ok(())
    }

    fn footprint(&self, summary: &mut Summary, report: &mut Report) -> Result<()> {
        for round in 0..self.plan.rounds {
            for peer in self.in_turn(round) {
                let how = How { parent: &self.parent, partitions: 1, acks: Acks::Written };
                let name = peer.name();
                let figures =
                    footprint::measure(peer, &how).with_context(|| format!("footprint of {name}"))?;
                take(&Sample { peer: name, case: bars::FOOTPRINT, round, figures }, summary, report)?;
            }
        }
        Ok(())
    }

    /// A B, then B A: being second is nobody's privilege.
    fn in_turn(&self, round: u32) -> Vec<&dyn Peer> {
        let mut peers: Vec<&dyn Peer> = self.peers.iter().map(AsRef::as_ref).collect();
        if round % 2 == 1 {
            peers.reverse();
        }
        peers
    }
}

fn take(sample: &Sample, summary: &mut Summary, report: &mut Report) -> Result<()> {
    report.sample(sample)?;
    summary.add(sample);
    Ok(())
}
