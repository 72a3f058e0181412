//! `compat`: runs the suites of foreign clients against the release binary and prints the card. See `millstream_tests::compat`.
//!
//! Exit codes: 0 every test that is not left out passed, 1 not so.

use std::process::ExitCode;

use clap::Parser;
use millstream_tests::compat::{Options, run};

#[derive(Debug, Parser)]
#[command(name = "compat", about = "Runs suites of foreign clients against a broker and prints the card")]
struct CommandLine {
    #[command(flatten)]
    options: Options,
}

fn main() -> anyhow::Result<ExitCode> {
    let CommandLine { options } = CommandLine::parse();
    Ok(if run(&options)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
