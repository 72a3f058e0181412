//! The command line, and the plan that follows from it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

/// Workloads for Millstream and its peers.
#[derive(Debug, Parser)]
#[command(name = "millstream-bench", version, about)]
pub(crate) struct CommandLine {
    /// What to run.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The workloads.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Produce and consume at full load, latency at a low rate, start-up and idle cost.
    ProduceConsume(Options),
    /// Group commit, one acknowledgement beside the device's own, produce beside background work.
    Durability(DurabilityOptions),
    /// Consumer groups: commits, heartbeats, a rebalance, a restart over a million offsets.
    Groups(GroupsOptions),
    /// Transactions: beside the same load without them, commits, those that are open, reading only what is committed.
    Transactions(TransactionsOptions),
    /// The broker inside the client's process: one acknowledgement, and a replay.
    #[cfg(feature = "embedded")]
    Embedded(EmbeddedOptions),
}

/// Options of `embedded`.
#[cfg(feature = "embedded")]
#[derive(Debug, Args)]
pub(crate) struct EmbeddedOptions {
    /// Folder for the broker's data [default: the system's temporary folder].
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Shorter measurements.
    #[arg(long, conflicts_with = "smoke")]
    pub(crate) quick: bool,
    /// Seconds: shows that the bench works, measures nothing.
    #[arg(long)]
    pub(crate) smoke: bool,
    /// JSON lines instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `transactions`.
#[derive(Debug, Args)]
pub(crate) struct TransactionsOptions {
    /// The broker to measure [default: `millstream` beside this program].
    #[arg(long, value_name = "PATH")]
    pub(crate) broker: Option<PathBuf>,
    /// Folder for the brokers' data [default: the system's temporary folder].
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Parts to run.
    #[arg(long, value_delimiter = ',', default_value = "throughput,commit,memory,isolation")]
    pub(crate) only: Vec<TransactionsPart>,
    /// A setting of the broker, to measure another than its default.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
    /// Shorter measurements.
    #[arg(long, conflicts_with = "smoke")]
    pub(crate) quick: bool,
    /// Seconds: shows that the bench works, measures nothing.
    #[arg(long)]
    pub(crate) smoke: bool,
    /// JSON lines instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A part of `transactions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TransactionsPart {
    /// Records per second beside the same producers without transactions.
    Throughput,
    /// How long one commit takes, in flushes of the device.
    Commit,
    /// What 1,000 open transactions cost.
    Memory,
    /// What `read_committed` costs beyond `read_uncommitted` where nothing was aborted.
    Isolation,
}

/// Options of `groups`.
#[derive(Debug, Args)]
pub(crate) struct GroupsOptions {
    /// The broker to measure [default: `millstream` beside this program].
    #[arg(long, value_name = "PATH")]
    pub(crate) broker: Option<PathBuf>,
    /// Folder for the brokers' data [default: the system's temporary folder].
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Parts to run.
    #[arg(long, value_delimiter = ',', default_value = "commits,heartbeats,rebalance,restart")]
    pub(crate) only: Vec<GroupsPart>,
    /// A setting of the broker, to measure another than its default.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
    /// Shorter measurements.
    #[arg(long, conflicts_with = "smoke")]
    pub(crate) quick: bool,
    /// Seconds: shows that the bench works, measures nothing.
    #[arg(long)]
    pub(crate) smoke: bool,
    /// JSON lines instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A part of `groups`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GroupsPart {
    /// Durable commits per second.
    Commits,
    /// What 2,000 groups of 5 members cost that only live.
    Heartbeats,
    /// How long it takes until 100 members have settled, with either protocol.
    Rebalance,
    /// How long it takes until a million offsets are there again.
    Restart,
}

/// Options of `durability`.
#[derive(Debug, Args)]
pub(crate) struct DurabilityOptions {
    /// The broker to measure [default: `millstream` beside this program].
    #[arg(long, value_name = "PATH")]
    pub(crate) broker: Option<PathBuf>,
    /// A built `kideal`, to tell beside the low rate what it takes there [default: it is not told].
    #[arg(long, value_name = "PATH")]
    pub(crate) floor: Option<PathBuf>,
    /// Folder for the brokers' data [default: the system's temporary folder].
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Parts to run.
    #[arg(long, value_delimiter = ',', default_value = "group-commit,low-rate,background")]
    pub(crate) only: Vec<DurabilityPart>,
    /// Under a minute: fewer and shorter rounds.
    #[arg(long, conflicts_with = "smoke")]
    pub(crate) quick: bool,
    /// Seconds: shows that the bench works, measures nothing.
    #[arg(long)]
    pub(crate) smoke: bool,
    /// JSON lines instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A part of `durability`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DurabilityPart {
    /// Batches that one `fdatasync` serves.
    GroupCommit,
    /// One acknowledgement beside the device's own.
    LowRate,
    /// Produce beside everything that runs in the background.
    Background,
}

/// Options of `produce-consume`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The broker to measure [default: `millstream` beside this program].
    #[arg(long, value_name = "PATH")]
    pub(crate) broker: Option<PathBuf>,
    /// Measure the others without Millstream.
    #[arg(long, conflicts_with = "broker")]
    pub(crate) no_broker: bool,
    /// A built `kideal`, the floor [default: built from --perf-dir].
    #[arg(long, value_name = "PATH", conflicts_with = "no_floor")]
    pub(crate) floor: Option<PathBuf>,
    /// The source that `kideal` is built from.
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/perf"))]
    pub(crate) perf_dir: PathBuf,
    /// Measure without a floor to hold against.
    #[arg(long)]
    pub(crate) no_floor: bool,
    /// A `kafka.sh start PORT DIR | stop PID`: measures Apache Kafka beside the others.
    #[arg(long, value_name = "PATH")]
    pub(crate) kafka: Option<PathBuf>,
    /// The client that makes the load [default: librdkafka where it is built in].
    #[arg(long)]
    pub(crate) driver: Option<DriverName>,
    /// Parts to run.
    #[arg(long, value_delimiter = ',', default_value = "throughput,latency,footprint")]
    pub(crate) only: Vec<Part>,
    /// Record sizes of the throughput part, in bytes.
    #[arg(long, value_delimiter = ',', default_value = "1024,100")]
    pub(crate) sizes: Vec<usize>,
    /// Acknowledgements: `1` is written, `all` is flushed.
    #[arg(long, value_delimiter = ',', default_value = "1,all")]
    pub(crate) acks: Vec<Acks>,
    /// Partitions of the topic under load.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) partitions: u32,
    /// Repetitions of each workload, broker by broker in turn [default: 5, quick 3].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: Option<u32>,
    /// Seconds that each produce runs [default: 2, quick 0.6].
    #[arg(long, value_name = "SECONDS")]
    pub(crate) seconds: Option<f64>,
    /// Messages per second of the open-loop latency part.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: u32,
    /// Folder for the brokers' data [default: the system's temporary folder].
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Under two minutes: fewer and shorter rounds.
    #[arg(long, conflicts_with = "smoke")]
    pub(crate) quick: bool,
    /// About a second, without a floor: shows that the bench works, measures nothing.
    #[arg(long)]
    pub(crate) smoke: bool,
    /// JSON lines instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which client makes the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DriverName {
    /// Millstream's own producer and consumer.
    Own,
    /// The C client, the same for all brokers (feature `librdkafka`).
    Librdkafka,
}

/// A part of the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// As fast as the client can.
    Throughput,
    /// Acknowledgement and end-to-end latency at a low rate.
    Latency,
    /// Start-up time, idle memory, binary size.
    Footprint,
}

/// When a produce counts as acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
pub(crate) enum Acks {
    /// Written to the page cache.
    #[value(name = "1")]
    #[serde(rename = "1")]
    Written,
    /// Flushed to the disk, on Millstream and on `kideal fsync`.
    #[value(name = "all")]
    #[serde(rename = "all")]
    Flushed,
}

impl Acks {
    /// As clients spell it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Written => "1",
            Self::Flushed => "all",
        }
    }
}

/// How long and how often, once `--quick`, `--smoke` and the defaults have been weighed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) parts: Vec<Part>,
    pub(crate) sizes: Vec<usize>,
    pub(crate) acks: Vec<Acks>,
    pub(crate) partitions: u32,
    pub(crate) rounds: u32,
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
    pub(crate) closed_loop_records: u32,
    pub(crate) open_loop: OpenLoop,
}

/// A load that does not wait for answers: `records` at `interval`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenLoop {
    pub(crate) interval: Duration,
    pub(crate) records: u32,
}

impl Options {
    /// Settles defaults.
    pub(crate) fn plan(&self) -> Plan {
        let (rounds, window, closed_loop_records, open_loop_seconds) = match (self.smoke, self.quick) {
            (true, _) => (1, 0.1, 20, 0.1),
            (_, true) => (3, 0.6, 1_500, 1.5),
            _ => (5, 2.0, 5_000, 5.0),
        };
        let window = Duration::from_secs_f64(self.seconds.unwrap_or(window).clamp(0.01, 60.0));
        Plan {
            parts: self.only.clone(),
            sizes: if self.smoke { self.sizes.iter().copied().take(1).collect() } else { self.sizes.clone() },
            acks: self.acks.clone(),
            partitions: self.partitions,
            rounds: self.rounds.unwrap_or(rounds),
            warm_up: window / 4,
            window,
            closed_loop_records,
            open_loop: OpenLoop {
                interval: Duration::from_secs(1) / self.rate,
                records: (f64::from(self.rate) * open_loop_seconds).ceil() as u32,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(arguments: &[&str]) -> Plan {
        let line = ["millstream-bench", "produce-consume"].iter().chain(arguments);
        match CommandLine::try_parse_from(line).unwrap().command {
            Command::ProduceConsume(options) => options.plan(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_explicit_number_wins_over_quick() {
        let plan = plan(&["--quick", "--rounds", "9", "--seconds", "1.5"]);
        assert_eq!((plan.rounds, plan.window), (9, Duration::from_millis(1500)));
        assert_eq!(plan.closed_loop_records, 1_500);
    }

    #[test]
    fn the_rate_becomes_an_interval_and_a_count() {
        let open_loop = plan(&["--rate", "500"]).open_loop;
        assert_eq!(open_loop, OpenLoop { interval: Duration::from_millis(2), records: 2_500 });
    }

    #[test]
    fn smoke_runs_one_size_once() {
        let plan = plan(&["--smoke"]);
        assert_eq!((plan.rounds, plan.sizes), (1, vec![1024]));
    }
}
