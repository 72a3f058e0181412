//! One broker process: started, killed, started again on the same port and folder.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::port::Port;

/// How long a broker may take to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(180);

/// What a broker is started with.
#[derive(Debug)]
pub(in crate::proof) struct Setup {
    binary: PathBuf,
    folder: TempDir,
    data: PathBuf,
    port: Port,
    settings: Vec<String>,
}

/// A broker that runs, alone or under a tracer. Dropping it kills it.
#[derive(Debug)]
pub(in crate::proof) struct Broker {
    /// The broker itself or the tracer that started it.
    child: Child,
    pid: Pid,
    /// From before its start until it said that it is ready.
    pub(in crate::proof) took: Duration,
}

impl Setup {
    /// A fresh folder in `parent`, and a port that nobody else gets.
    pub(in crate::proof) fn new(binary: &Path, parent: &Path, settings: &[&str]) -> Result<Self> {
        let binary = fs::canonicalize(binary).with_context(|| {
            format!(
                "no broker at {}: build one with cargo build --release -p millstream-ops",
                binary.display()
            )
        })?;
        let folder = tempfile::Builder::new().prefix("millstream-proof-").tempdir_in(parent)?;
        let port = Port::reserve()?;
        let settings = settings.iter().map(|pair| (*pair).to_owned()).collect();
        let data = folder.path().join("data");
        Ok(Self { binary, folder, data, port, settings })
    }

    /// The same with its data elsewhere.
    pub(in crate::proof) fn with_data(mut self, data: PathBuf) -> Self {
        self.data = data;
        self
    }

    /// The same with one more setting.
    pub(in crate::proof) fn set(&mut self, pair: String) {
        self.settings.push(pair);
    }

    pub(in crate::proof) fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Where the broker keeps everything.
    pub(in crate::proof) fn data(&self) -> &Path {
        &self.data
    }

    /// A file beside the data.
    pub(in crate::proof) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Everything that brokers of this setup logged.
    pub(in crate::proof) fn logged(&self) -> String {
        fs::read(self.beside("log"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    pub(in crate::proof) fn start(&self) -> Result<Broker> {
        self.start_under(&[])
    }

    /// Starts it as the last words of another command, and waits until it is ready.
    pub(in crate::proof) fn start_under(&self, command: &[&str]) -> Result<Broker> {
        let began = Instant::now();
        let mut words: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        words.push(self.binary.display().to_string());
        words.extend(["serve", "--json", "--http", "off"].map(str::to_owned));
        words.extend(["--listen".to_owned(), self.address().to_string()]);
        words.extend(["--data-dir".to_owned(), self.data.display().to_string()]);
        for pair in &self.settings {
            words.extend(["--set".to_owned(), pair.clone()]);
        }
        let log = File::options().create(true).append(true).open(self.beside("log"))?;
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", words[0]))?;
        let pid = ready(&mut child).and_then(|line| pid_in(&line));
        match pid {
            Ok(pid) => Ok(Broker { child, pid, took: began.elapsed() }),
            Err(error) => {
                let _ = child.kill();
                let status = child.wait()?;
                let log = self.logged();
                let last: Vec<&str> = log.lines().rev().take(10).collect();
                let last: Vec<&str> = last.into_iter().rev().collect();
                bail!("the broker did not start ({status}, {error}):\n{}", last.join("\n"))
            }
        }
    }
}

/// The line by which it says that it serves.
fn ready(child: &mut Child) -> Result<String> {
    let stdout = child.stdout.take().context("its output is not a pipe")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    if line.is_empty() { bail!("it ended without a word") } else { Ok(line) }
}

fn pid_in(line: &str) -> Result<Pid> {
    let banner: serde_json::Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
    let pid = banner["pid"].as_i64().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    pid.ok_or_else(|| anyhow!("no process id in {line:?}"))
}

impl Broker {
    /// SIGKILL: it has no say. Answers when it was sent.
    pub(in crate::proof) fn kill(mut self) -> Result<Instant> {
        self.kill_now()
    }

    /// The same where the place of this broker is to be taken by the next.
    pub(in crate::proof) fn kill_now(&mut self) -> Result<Instant> {
        let at = Instant::now();
        kill_process(self.pid, Signal::KILL)?;
        self.child.wait()?;
        Ok(at)
    }

    /// Its process.
    pub(in crate::proof) fn pid(&self) -> Pid {
        self.pid
    }

    /// Asks it to end, and waits.
    pub(in crate::proof) fn stop(mut self) -> Result<()> {
        kill_process(self.pid, Signal::TERM)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return if status.success() {
                    Ok(())
                } else {
                    bail!("it ended with {status} when asked to stop")
                };
            }
            if Instant::now() > deadline {
                bail!("it has not ended {PATIENCE:?} after it was asked to");
            }
            pause(Duration::from_millis(2));
        }
    }

    /// Whether the process is still there.
    pub(in crate::proof) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it has ended by itself; false if it has not within the time.
    pub(in crate::proof) fn ends_within(&mut self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        while self.is_alive() && Instant::now() < deadline {
            pause(Duration::from_millis(2));
        }
        !self.is_alive()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.is_alive() {
            // It may have ended by itself meanwhile.
            let _ = kill_process(self.pid, Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// Lets time pass where another process's state has no event to wait for, or where chance decides.
pub(in crate::proof) fn pause(time: Duration) {
    let deadline = Instant::now() + time;
    while let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}
