//! Brokers under test: how each is started, reached and ended.

mod kafka;
mod kideal;
mod millstream;

use std::fmt;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Signal, kill_process};
use tempfile::TempDir;

use crate::meter::Pid;
use crate::options::Acks;

pub(crate) use kafka::Kafka;
pub(crate) use kideal::Kideal;
pub(crate) use millstream::Millstream;

/// How long a broker may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A kind of broker.
pub(crate) trait Peer: fmt::Debug {
    /// As tables call it.
    fn name(&self) -> &'static str;
    /// What runs, with its settings, for the report's reader.
    fn describe(&self) -> String;
    /// Starts one in an empty folder; it answers when this returns.
    fn start(&self, how: &How<'_>) -> Result<Running>;
    /// Whether it knows CreateTopics.
    fn creates_topics(&self) -> bool {
        true
    }
    /// The program's file, where its size says something.
    fn binary(&self) -> Option<&Path> {
        None
    }
}

/// What a broker is started for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How<'a> {
    /// Where its folder is made.
    pub(crate) parent: &'a Path,
    /// Partitions of a topic that is created by its first use.
    pub(crate) partitions: u32,
    /// What the load will ask for: `kideal` must be told.
    pub(crate) acks: Acks,
}

/// A broker that runs. Dropping it ends the process and deletes its folder.
#[derive(Debug)]
pub(crate) struct Running {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Where its metrics are, if it told.
    pub(crate) http: Option<SocketAddr>,
    process: Process,
    // Dropped after the process, which still writes there.
    folder: TempDir,
}

/// How a process was started, and so how it is ended.
#[derive(Debug)]
enum Process {
    Child(Child),
    Script { script: PathBuf, pid: Pid },
}

impl Running {
    /// Stops it; its folder is left.
    pub(crate) fn stopped(self) -> TempDir {
        let Self { process, folder, .. } = self;
        drop(process);
        folder
    }

    /// The broker's process.
    pub(crate) fn pid(&self) -> Pid {
        match &self.process {
            Process::Child(child) => Pid(child.id()),
            Process::Script { pid, .. } => *pid,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        match self {
            Self::Child(child) => {
                if let Some(pid) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
                    // It may have ended by itself.
                    let _ = kill_process(pid, Signal::TERM);
                }
                if !wait_for(|| child.try_wait().is_ok_and(|status| status.is_some())) {
                    let _ = child.kill();
                    let _ = child.wait();
                }
            }
            Self::Script { script, pid } => {
                // A broker that outlives this is visible in the next figures; there is nobody to tell here.
                let _ = Command::new(script).arg("stop").arg(pid.0.to_string()).status();
            }
        }
    }
}

/// The folder of one broker.
fn folder(how: &How<'_>, name: &str) -> Result<TempDir> {
    let prefix = format!("millstream-bench-{name}-");
    tempfile::Builder::new()
        .prefix(&prefix)
        .tempdir_in(how.parent)
        .with_context(|| format!("cannot make a folder in {}", how.parent.display()))
}

/// Starts `command`, its standard error in a file of `folder`, so that a failed start can be explained.
fn spawn(command: &mut Command, folder: &Path) -> Result<Process> {
    let errors = File::create(folder.join("stderr")).context("cannot write into the broker's folder")?;
    let program = command.get_program().to_owned();
    let child = command.stdin(Stdio::null()).stderr(errors).spawn();
    Ok(Process::Child(child.with_context(|| format!("cannot start {}", program.display()))?))
}

/// What the broker last said on standard error.
fn last_words(folder: &Path) -> String {
    let text = fs::read_to_string(folder.join("stderr")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

/// A port that is free now. Another process may take it before the broker does; then the broker says so.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr().context("no free port")?.port())
}

/// Waits until something listens at `address`.
fn await_listener(address: SocketAddr, process: &mut Process, folder: &Path) -> Result<()> {
    let mut ended = None;
    let listens = wait_for(|| {
        if let Process::Child(child) = process {
            ended = child.try_wait().ok().flatten();
        }
        ended.is_some() || TcpStream::connect(address).is_ok()
    });
    if let Some(status) = ended {
        bail!("the broker ended at once ({status}): {}", last_words(folder));
    }
    if !listens {
        bail!("nothing listens at {address} after {PATIENCE:?}: {}", last_words(folder));
    }
    Ok(())
}

/// Asks every fifth of a millisecond; false once patience is over.
fn wait_for(mut happened: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !happened() {
        if Instant::now() >= deadline {
            return false;
        }
        // Another process's state has no event to wait for here.
        std::thread::park_timeout(Duration::from_micros(200));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_ends_at_once_is_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        let mut process =
            spawn(command.args(["-c", "echo no such disk >&2; exit 3"]), folder.path()).unwrap();
        let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port().unwrap()));
        let error = await_listener(nobody, &mut process, folder.path()).unwrap_err().to_string();
        assert!(error.contains("no such disk") && error.contains("exit status: 3"), "{error}");
    }

    #[test]
    fn a_dropped_broker_ends_and_its_folder_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let process = spawn(Command::new("sleep").arg("1000"), &path).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let running = Running { address, http: None, process, folder };
        let pid = running.pid();
        assert!(Path::new(&format!("/proc/{}", pid.0)).exists());
        drop(running);
        assert!(!Path::new(&format!("/proc/{}", pid.0)).exists());
        assert!(!path.exists());
    }
}
