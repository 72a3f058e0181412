//! `millstream-proof`: harms a real broker and shows what its clients noticed. See `millstream_tests::proof`.
//!
//! Exit codes: 0 proven, 1 not so, 2 the harm did not happen or the harness failed, 77 not possible on this machine.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use millstream_tests::proof::{Failure, Options, Proof};

#[derive(Debug, Parser)]
#[command(name = "millstream-proof", about = "Harms a real broker and judges what its clients saw")]
struct CommandLine {
    #[command(subcommand)]
    proof: Proof,
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    let CommandLine { proof, options } = CommandLine::parse();
    let Err(failure) = proof.run(&options) else { return ExitCode::SUCCESS };
    // Nothing is left to do when standard error is gone as well.
    let _ = writeln!(std::io::stderr(), "millstream-proof: {failure}");
    match failure {
        Failure::Broken(_) => ExitCode::FAILURE,
        Failure::Invalid(_) | Failure::Harness(_) => ExitCode::from(2),
        Failure::Skipped(_) => ExitCode::from(77),
    }
}
