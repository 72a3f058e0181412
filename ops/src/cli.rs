//! The command line as a whole: one variant per command, each with its own file.

use clap::{Parser, Subcommand};

use crate::{config, consume, group, log_files, produce, serve, topic};

/// What `millstream` was asked to do.
#[derive(Debug, Parser)]
#[command(
    name = "millstream",
    version,
    about = "A streaming broker that speaks Kafka's protocol. Without a command it serves.",
    after_help = "Examples:
  millstream                                     serve on 127.0.0.1:9092, data in ./millstream-data
  millstream --listen 127.0.0.1:0 --http off     serve on any free port, without HTTP
  millstream topic create orders --partitions 3
  echo hello | millstream produce orders
  millstream consume orders --from start --exit-at-end
  millstream group describe billing              who reads what, and how far behind

Exit codes: 0 done, 1 failed, 2 the command line is wrong, 130 interrupted before the input ended.",
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) serve: serve::ServeArgs,
}

/// One command; `millstream` alone is `millstream serve`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve Kafka clients (what happens without a command, too)
    Serve(serve::ServeArgs),
    /// Create, list, describe, delete topics; add partitions
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// List, describe, move and delete consumer groups
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Send lines from standard input to a topic
    Produce(produce::ProduceArgs),
    /// Print the records of a topic
    Consume(consume::ConsumeArgs),
    /// Look into the files of a data folder; no broker is needed
    #[command(subcommand)]
    Log(log_files::LogCommand),
    /// List what can be set, show what is, and set it while a broker runs
    #[command(subcommand)]
    Config(config::ConfigCommand),
}
