//! Proofs on the real binary: each does harm, shows that the harm was done, and judges what clients saw.
//!
//! A proof prints what it does as it goes and ends with one line that has its figure. Where the harm did not happen the run is
//! invalid, which is a failure: it proves nothing. Most harm the real binary and stand on `bed`; some harm a log on a
//! simulated disk (`disk`), or judge the judge (`checker`).

mod bed;

mod checker;
mod compaction;
mod disk;
mod disk_full;
mod failing;
mod fsync;
mod groups;
mod kill;
mod kill_cleaned;
mod once;
mod recovery;
mod reopen;
mod simulated;
mod syscalls;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

pub use once::copier::Copying;

/// One proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Proof {
    /// The judge of histories names every planted anomaly and finds nothing in clean histories
    Checker,
    /// SIGKILL under load: nothing acknowledged is lost, doubled or moved
    Kill,
    /// SIGKILL while old records are removed: the last of each key is there, and what size retention leaves is whole
    KillCleaned,
    /// Every k-th fdatasync fails: what it carried is not acknowledged, and the partition comes back
    Fsync,
    /// A failed write or sync closes a partition; it comes back without a restart
    Reopen,
    /// No room on a small disk: refused, served, resumed by itself
    DiskFull,
    /// From SIGKILL to the first accepted produce: with many partitions, with much data, and with twice as much
    Recovery,
    /// Compaction: bytes of the log per second, and bytes of memory per key
    Compaction,
    /// SIGKILL at every system call that changes a file, also while starting
    Syscalls,
    /// A log's tail is torn at every byte of its last batches
    Torn,
    /// Bits flip in sealed segments
    Rot,
    /// Index files are deleted, cut and garbled
    Indexes,
    /// The power of a simulated broker fails again and again: nothing durable is lost
    PowerCut,
    /// The same in the relaxed mode: only the youngest records are lost
    Relaxed,
    /// A whole broker in simulation, whatever goes wrong: every promise is kept
    Simulate,
    /// Members of a group join and die: nothing is passed over, and no committed offset falls
    GroupChaos,
    /// SIGKILL while groups commit: no acknowledged commit is lost, and members go on
    GroupKill,
    /// An idempotent producer on a bad network, with the broker killed: each record once, in order
    Idempotence,
    /// Records are copied in transactions while copiers and broker are killed: each once, in order
    ExactlyOnce,
    /// A whole broker in simulation: transactions, whatever goes wrong, are seen whole or not at all
    Transactions,
    /// One copier of `exactly-once`, which is to be killed
    #[command(hide = true)]
    Copier(Copying),
    /// Every proof, one after the other
    All,
}

/// What all proofs are told.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The binary to harm
    #[arg(long, global = true, value_name = "FILE", default_value = "target/release/millstream")]
    pub broker: PathBuf,
    /// Take as long as a soak may, instead of less than a minute
    #[arg(long, global = true)]
    pub long: bool,
    /// Repeats what was drawn in an earlier run, as far as processes can be repeated
    #[arg(long, global = true)]
    pub seed: Option<u64>,
    /// Bars on time are so many times as wide: a slow machine, or one with other work, says nothing about them
    #[arg(long, global = true, value_name = "TIMES", default_value_t = 1.0)]
    pub slack: f64,
    /// Where folders of brokers are made
    #[arg(long, global = true, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    pub folder: PathBuf,
}

impl Options {
    /// The seed that was given, or a new one; told at once, for a proof that fails may not come to it.
    fn seed(&self) -> u64 {
        let seed = self.seed.unwrap_or_else(rand::random);
        say(&format!("  seed {seed}"));
        seed
    }

    /// One of two numbers, by the length of the run.
    fn either<T>(&self, short: T, long: T) -> T {
        if self.long { long } else { short }
    }

    /// A bar on time, as wide as was asked for.
    fn at_most(&self, bar: Duration) -> Duration {
        bar.mul_f64(self.slack)
    }
}

/// Why a run proved nothing.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What was to be proven is not so.
    #[error("FAILED: {0}")]
    Broken(String),
    /// The harm did not happen.
    #[error("INVALID: {0}")]
    Invalid(String),
    /// It cannot be done on this machine.
    #[error("SKIPPED: {0}")]
    Skipped(String),
    /// The harness could not go on.
    #[error("the harness failed: {0:#}")]
    Harness(#[from] anyhow::Error),
}

/// The figure of a proof.
type Proven = Result<String, Failure>;

impl Proof {
    const EACH: &[Self] = &[
        Self::Checker,
        Self::Torn,
        Self::Rot,
        Self::Indexes,
        Self::PowerCut,
        Self::Relaxed,
        Self::Simulate,
        Self::Transactions,
        Self::Kill,
        Self::KillCleaned,
        Self::Fsync,
        Self::Reopen,
        Self::DiskFull,
        Self::Recovery,
        Self::Compaction,
        Self::Syscalls,
        Self::GroupChaos,
        Self::GroupKill,
        Self::Idempotence,
        Self::ExactlyOnce,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Checker => "checker",
            Self::Kill => "kill",
            Self::KillCleaned => "kill-cleaned",
            Self::Fsync => "fsync",
            Self::Reopen => "reopen",
            Self::DiskFull => "disk-full",
            Self::Recovery => "recovery",
            Self::Compaction => "compaction",
            Self::Syscalls => "syscalls",
            Self::Torn => "torn",
            Self::Rot => "rot",
            Self::Indexes => "indexes",
            Self::PowerCut => "power-cut",
            Self::Relaxed => "relaxed",
            Self::Simulate => "simulate",
            Self::GroupChaos => "group-chaos",
            Self::GroupKill => "group-kill",
            Self::Idempotence => "idempotence",
            Self::ExactlyOnce => "exactly-once",
            Self::Transactions => "transactions",
            Self::Copier(_) => "copier",
            Self::All => "all",
        }
    }

    /// Runs it and prints its figure last.
    ///
    /// # Errors
    /// Why it proved nothing.
    pub fn run(self, options: &Options) -> Result<(), Failure> {
        let proven = match self {
            Self::Checker => checker::run(options),
            Self::Kill => kill::run(options),
            Self::KillCleaned => kill_cleaned::run(options),
            Self::Fsync => fsync::run(options),
            Self::Reopen => reopen::run(options),
            Self::DiskFull => disk_full::run(options),
            Self::Recovery => recovery::run(options),
            Self::Compaction => compaction::run(options),
            Self::Syscalls => syscalls::run(options),
            Self::Torn => disk::torn::run(options),
            Self::Rot => disk::rot::run(options),
            Self::Indexes => disk::indexes::run(options),
            Self::PowerCut => simulated::power_cut(options),
            Self::Relaxed => simulated::relaxed(options),
            Self::Simulate => simulated::simulate(options),
            Self::GroupChaos => groups::chaos::run(options),
            Self::GroupKill => groups::kill::run(options),
            Self::Idempotence => once::idempotence::run(options),
            Self::ExactlyOnce => once::exactly::run(options),
            Self::Transactions => simulated::transactions(options),
            Self::Copier(copying) => return once::copier::run(&copying),
            Self::All => return all(options),
        };
        say(&format!("{}: {}", self.name(), proven?));
        Ok(())
    }
}

/// Runs each, whatever becomes of the others; a proof that this machine does not allow is no failure. Whether harm happens is
/// chance in some: they have a second one.
fn all(options: &Options) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    for proof in Proof::EACH {
        let mut ended = proof.run(options);
        if let Err(Failure::Invalid(reason)) = &ended {
            say(&format!("{}: INVALID: {reason}; once more", proof.name()));
            ended = proof.run(options);
        }
        match ended {
            Ok(()) => {}
            Err(Failure::Skipped(reason)) => say(&format!("{}: SKIPPED: {reason}", proof.name())),
            Err(failure) => {
                say(&format!("{}: {failure}", proof.name()));
                wrong.push(proof.name());
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::Broken(wrong.join(", "))) }
}

/// Prints a line. Nobody reading it is no reason not to prove.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
}
