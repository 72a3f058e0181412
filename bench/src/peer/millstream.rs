//! Our own broker: the release binary, as shipped, with the partition count as its only setting.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, anyhow, bail};
use serde::Deserialize;
use tempfile::TempDir;

use super::{How, Peer, Process, Running, folder, last_words, spawn};

/// The `millstream` binary.
#[derive(Debug)]
pub(crate) struct Millstream {
    binary: PathBuf,
    /// NAME=VALUE each.
    settings: Vec<String>,
}

/// The line that the broker prints once it serves.
#[derive(Deserialize)]
struct Ready {
    kafka: std::net::SocketAddr,
    http: Option<std::net::SocketAddr>,
}

impl Millstream {
    /// Takes `binary`, or the one that was built beside this program.
    pub(crate) fn find(binary: Option<PathBuf>) -> Result<Self> {
        let binary = match binary {
            Some(binary) => binary,
            None => {
                let bench = std::env::current_exe().context("cannot tell where this program lies")?;
                bench.with_file_name("millstream")
            }
        };
        if !binary.is_file() {
            bail!(
                "there is no broker at {}: build it with `cargo build --release`, or name one with --broker",
                binary.display()
            );
        }
        Ok(Self { binary, settings: Vec::new() })
    }

    /// The same with settings that it does not ship with.
    pub(crate) fn with(self, settings: &[&str]) -> Self {
        Self { settings: settings.iter().map(|setting| (*setting).to_owned()).collect(), ..self }
    }

    /// The same with settings that somebody asked for.
    pub(crate) fn with_all(self, settings: &[String]) -> Self {
        Self { settings: settings.to_vec(), ..self }
    }

    /// Starts one over a folder that another has left.
    pub(crate) fn start_in(&self, folder: TempDir, how: &How<'_>) -> Result<Running> {
        self.launch(folder, how)
    }

    /// Stops `broker` and starts this one over its folder.
    pub(crate) fn take_over(&self, broker: Running, how: &How<'_>) -> Result<Running> {
        self.launch(broker.stopped(), how)
    }

    fn launch(&self, folder: TempDir, how: &How<'_>) -> Result<Running> {
        let mut command = Command::new(&self.binary);
        command.args(["serve", "--json", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        command.arg("--data-dir").arg(folder.path().join("data"));
        command.arg("--set").arg(format!("num.partitions={}", how.partitions));
        for setting in &self.settings {
            command.arg("--set").arg(setting);
        }
        let mut process = spawn(command.stdout(Stdio::piped()), folder.path())?;
        let Process::Child(child) = &mut process else { unreachable!("spawn starts a child") };
        let output = child.stdout.as_mut().context("the broker's standard output is not ours")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).context("cannot read the broker's standard output")?;
        let ready: Ready = serde_json::from_str(&line).map_err(|_| {
            anyhow!("the broker did not come up; it said {line:?}, then {}", last_words(folder.path()))
        })?;
        Ok(Running { address: ready.kafka, http: ready.http, process, folder })
    }
}

impl Peer for Millstream {
    fn name(&self) -> &'static str {
        "millstream"
    }

    fn describe(&self) -> String {
        match &self.settings[..] {
            [] => format!("{} serve, shipped defaults", self.binary.display()),
            settings => format!("{} serve, {}", self.binary.display(), settings.join(", ")),
        }
    }

    fn start(&self, how: &How<'_>) -> Result<Running> {
        self.launch(folder(how, self.name())?, how)
    }

    fn binary(&self) -> Option<&Path> {
        Some(&self.binary)
    }
}
