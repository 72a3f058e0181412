//! How a command ends: the exit codes, and errors as sentences on standard error.

use std::io;
use std::process::ExitCode;

/// A command's end, as the shell sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// 0: done.
    Done,
    /// 1: the command ran, and what it checked is not well; it has said so itself.
    Found,
    /// 130: interrupted before its input ended, as the shell counts a SIGINT.
    Interrupted,
}

/// The command line is wrong in a way that its parser cannot see: exit code 2 all the same.
#[derive(Debug, thiserror::Error)]
#[error("the command line is wrong")]
pub(crate) struct WrongCommandLine;

impl Outcome {
    /// Turns the end of a command into an exit code, printing the error if there is one.
    pub(crate) fn report(result: anyhow::Result<Self>) -> ExitCode {
        match result {
            Ok(Self::Done) => ExitCode::SUCCESS,
            Ok(Self::Found) => ExitCode::from(1),
            Ok(Self::Interrupted) => ExitCode::from(130),
            // `| head` has seen enough: that is an end, not a failure.
            Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("millstream: {}", sentence(&error));
                ExitCode::from(if error.is::<WrongCommandLine>() { 2 } else { 1 })
            }
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kinds = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    kinds.map(io::Error::kind).any(|kind| kind == io::ErrorKind::BrokenPipe)
}

/// The chain of causes, without what a message already repeats from its cause.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn causes_are_told_once() {
        let error = anyhow::anyhow!("port in use").context("cannot listen: port in use").context("no start");
        assert_eq!(sentence(&error), "no start: cannot listen: port in use");
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let gone: anyhow::Result<Outcome> =
            Err(io::Error::from(io::ErrorKind::BrokenPipe)).context("printing");
        assert!(is_broken_pipe(&gone.unwrap_err()));
    }
}
