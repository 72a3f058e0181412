//! `millstream log`: what lies in a data folder, read without a broker. Only `repair` changes anything, and it
//! takes nothing away.

mod folder;
mod report;

mod fields;
mod index_file;
mod meta_file;
mod segment_file;
mod snapshot_file;

mod dump;
mod index_check;
mod partition_check;
mod repair;
mod verify;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::outcome::Outcome;

/// The commands about files.
#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Print any file of a data folder: segments, indexes, snapshots, swaps, metadata
    Dump(DumpArgs),
    /// Check everything below folders: checksums, order, gaps, epochs, indexes, snapshots, leftovers, metadata; exit
    /// code 1 when something is wrong
    Verify(VerifyArgs),
    /// Rebuild indexes and move leftovers aside, in a data folder whose broker is stopped; says what it would do
    /// unless --yes is given, and takes nothing away
    Repair(RepairArgs),
}

/// What `log dump` can be told.
#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    /// A file of a data folder
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
    /// Data folders, or any folders in them
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Decompress each batch and check each record, too
    #[arg(long)]
    records: bool,
    /// One JSON object per problem and one for the summary
    #[arg(long)]
    json: bool,
}

/// What `log repair` can be told.
#[derive(Debug, Args)]
pub(crate) struct RepairArgs {
    /// A data folder, or any folder in it
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Do it; without this it is only said
    #[arg(long)]
    yes: bool,
    /// One JSON object per finding, per step and for the summary
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
        LogCommand::Repair(args) => repair::run(&args),
    }
}
