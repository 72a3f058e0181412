//! strace as the one who does harm: it lets chosen system calls fail or kills the process at them.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::broker::Setup;
use crate::proof::Failure;

/// A command line that runs a broker under strace, and where it notes what it did.
#[derive(Debug)]
pub(in crate::proof) struct Tracer {
    words: Vec<String>,
    notes: PathBuf,
}

impl Tracer {
    /// `calls` are followed, and `harm` is done to them: what strace takes after `inject=`.
    ///
    /// # Errors
    /// That strace is not here.
    pub(in crate::proof) fn harm(setup: &Setup, calls: &str, harm: &str) -> Result<Self, Failure> {
        let Self { mut words, notes } = Self::follow(setup, calls)?;
        let end = words.len() - 1;
        words.splice(end..end, ["-e".to_owned(), format!("inject={harm}")]);
        Ok(Self { words, notes })
    }

    /// `calls` are followed.
    ///
    /// # Errors
    /// That strace is not here.
    pub(in crate::proof) fn follow(setup: &Setup, calls: &str) -> Result<Self, Failure> {
        let found = Command::new("strace").arg("-V").stdout(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            return Err(Failure::Skipped("strace is not installed".to_owned()));
        }
        let notes = setup.beside("strace");
        let mut words: Vec<String> = ["strace", "-f", "-qq", "-y"].map(str::to_owned).into();
        words.extend(["-e".to_owned(), format!("trace={calls}"), "-o".to_owned()]);
        words.extend([notes.display().to_string(), "--".to_owned()]);
        Ok(Self { words, notes })
    }

    pub(in crate::proof) fn words(&self) -> Vec<&str> {
        self.words.iter().map(String::as_str).collect()
    }

    /// The calls that were followed in this run.
    pub(in crate::proof) fn calls(&self) -> Vec<String> {
        fs::read_to_string(&self.notes).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// How many calls were made to fail.
    pub(in crate::proof) fn injected(&self) -> usize {
        self.calls().iter().filter(|line| line.contains("(INJECTED)")).count()
    }
}
