//! A whole broker in a simulation: from one seed come the clients, the faults, the schedule and the time, so
//! that a run that fails is run again exactly.
//!
//! The broker is the real one from a connection's bytes down to the disk (`SimBroker`); its disk, clocks and
//! connections are simulated and everything happens on one thread. Clients speak real frames. What they are
//! told goes to the [`oracle`], which judges it as it comes and, once the faults have healed, against what is
//! left. A run whose faults did nothing is no evidence and counts as failed.

use std::fmt;

mod admin;
mod chance;
mod commits;
mod consumer;
mod driver;
mod faults;
pub mod oracle;
mod producer;
mod records;
mod rot;
mod setting;
mod trace;
mod transactions;
mod wire;
mod world;

pub use commits::{CommitReport, commits};
pub use driver::run;
pub use faults::Planted;
pub use transactions::{Comes, Lie, OrphanReport, TransactionPlan, TransactionReport, orphan, transactions};

/// What a run is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// That everything holds whatever goes wrong.
    Everything,
    /// That power cuts lose nothing that is durable, many of them one after the other.
    PowerCuts,
    /// That the relaxed mode loses only what is young, and only from the end.
    Relaxed,
}

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Decides everything else.
    pub seed: u64,
    /// What it is to show.
    pub aim: Aim,
    /// Simulated milliseconds with faults, before they heal.
    pub millis: u64,
    /// A bug to plant, to see that it is found.
    pub planted: Option<Planted>,
    /// Keep every line of the trace, not only the last ones.
    pub whole_trace: bool,
}

impl Plan {
    /// The short form.
    #[must_use]
    pub fn short(seed: u64) -> Self {
        Self { seed, aim: Aim::Everything, millis: 600, planted: None, whole_trace: false }
    }

    /// Some fifty power cuts.
    #[must_use]
    pub fn power_cuts(seed: u64) -> Self {
        Self { aim: Aim::PowerCuts, millis: 1000, ..Self::short(seed) }
    }

    /// Some power cuts of the relaxed mode, with time between them.
    #[must_use]
    pub fn relaxed(seed: u64) -> Self {
        Self { aim: Aim::Relaxed, millis: 2000, ..Self::short(seed) }
    }
}

/// What a run did, so that one that did nothing is noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Of everything that happened, in order: the same seed gives the same.
    pub trace_hash: u64,
    /// Records acknowledged.
    pub acked: u64,
    /// Records read by consumers on the way.
    pub read: u64,
    /// Ends of the broker by a power cut.
    pub power_cuts: u64,
    /// Ends of the broker by a kill.
    pub kills: u64,
    /// Clean restarts.
    pub shutdowns: u64,
    /// Faults that did something: power cuts that lost data, failed calls, full disks, damage that was read.
    pub bites: u64,
    /// Jumps of the wall clock.
    pub clock_jumps: u64,
    /// Acknowledged records that a power cut has lost: none but those that promise no more.
    pub lost: u64,
    /// The age in milliseconds that the oldest of them had when the power failed.
    pub oldest_lost_ms: u64,
    /// Connections that clients dropped while a reply was on its way.
    pub dropped: u64,
}

impl Report {
    /// Adds another run's numbers.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            trace_hash: self.trace_hash.rotate_left(1) ^ other.trace_hash,
            acked: self.acked + other.acked,
            read: self.read + other.read,
            power_cuts: self.power_cuts + other.power_cuts,
            kills: self.kills + other.kills,
            shutdowns: self.shutdowns + other.shutdowns,
            bites: self.bites + other.bites,
            clock_jumps: self.clock_jumps + other.clock_jumps,
            lost: self.lost + other.lost,
            oldest_lost_ms: self.oldest_lost_ms.max(other.oldest_lost_ms),
            dropped: self.dropped + other.dropped,
        }
    }
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Runs it again.
    pub seed: u64,
    /// What was broken.
    pub what: String,
    /// What happened before, oldest first.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "  {line}")?;
        }
        write!(f, "seed {}: {}", self.seed, self.what)
    }
}
