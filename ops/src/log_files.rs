//! `millstream log`: what lies in a data folder, read without a broker and without changing a byte.

mod dump;
mod index_file;
mod segment_file;
mod verify;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::outcome::Outcome;

/// The commands about files.
#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Print the batches of a segment (.log), or the entries of an index (.index, .timeindex)
    Dump(DumpArgs),
    /// Check checksums, offsets and indexes of all segments below a folder; exit code 1 when something is wrong
    Verify(VerifyArgs),
}

/// What `log dump` can be told.
#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    /// A file of a partition's folder
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print the records of each batch, too
    #[arg(long)]
    records: bool,
    /// One JSON object per batch, record or entry
    #[arg(long)]
    json: bool,
}

/// What `log verify` can be told.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// A data folder, or any folder in it
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Decompress each batch and check each record, too
    #[arg(long)]
    records: bool,
    /// One JSON object per problem and one for the summary
    #[arg(long)]
    json: bool,
}

/// Runs one of them.
///
/// # Errors
/// When a file or folder cannot be read. What is wrong inside is told by the exit code.
pub(crate) fn run(command: LogCommand) -> anyhow::Result<Outcome> {
    match command {
        LogCommand::Dump(args) => dump::run(&args),
        LogCommand::Verify(args) => verify::run(&args),
    }
}
