//! `millstream`: the broker and its tools in one binary.
//!
//! A shell around the libraries: it reads the command line, the environment and a file, resolves them into
//! what the libraries take, and turns their answers into text and exit codes. It decides nothing about Kafka.

mod begin;
mod cli;
mod config;
mod connect;
mod consume;
mod group;
mod log_files;
mod logging;
mod outcome;
mod output;
mod produce;
mod serve;
mod text;
mod timestamp;
mod topic;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::outcome::Outcome;

fn main() -> ExitCode {
    let cli = Cli::parse();
    Outcome::report(match cli.command {
        None => serve::run(&cli.serve),
        Some(Command::Serve(args)) => serve::run(&args),
        Some(Command::Topic(command)) => topic::run(command),
        Some(Command::Group(command)) => group::run(command),
        Some(Command::Produce(args)) => produce::run(args),
        Some(Command::Consume(args)) => consume::run(args),
        Some(Command::Log(command)) => log_files::run(command),
        Some(Command::Config(command)) => config::run(command),
    })
}
