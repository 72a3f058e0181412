//! `millstream-bench`: loads a broker, reads what that cost from the system, and holds it against a floor.
//!
//! Modules in reading order: what is asked for (`options`), what is run (`workload`, `runner`), against whom
//! (`peer`), with which client (`driver`), how it is measured (`meter`, `latency`) and
//! how it is told (`sample`, `bars`, `report`). `durability`, `groups`, `transactions` and `embedded` are workloads of their
//! own. But for the last, which is a feature, the broker is not linked: it is seen as a user sees it, a process and a
//! socket.

mod bars;
mod driver;
mod durability;
mod environment;
mod groups;
mod latency;
mod meter;
mod options;
mod peer;
mod report;
mod runner;
mod sample;
mod transactions;
mod wire;
mod workload;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let done = match options::CommandLine::parse().command {
        options::Command::ProduceConsume(options) => runner::produce_consume(&options),
        options::Command::Durability(options) => durability::run(&options),
        options::Command::Groups(options) => groups::run(&options),
        options::Command::Transactions(options) => transactions::run(&options),
        #[cfg(feature = "embedded")]
        options::Command::Embedded(options) => driver::embedded::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do when standard error is gone as well.
            let _ = writeln!(std::io::stderr(), "millstream-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
