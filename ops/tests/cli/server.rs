//! Starts brokers and runs commands.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The binary, with nothing of the caller's environment that would change its mind.
pub(crate) fn millstream() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MILLSTREAM_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command
}

/// Output of a command as text.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Panics with everything that was printed unless the command succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Panics unless the command failed with this exit code and its message has all of these parts.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in: {}", self.stderr);
        }
    }

    /// The lines of standard output, each as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("the command was killed"),
            stdout: String::from_utf8(output.stdout).expect("standard output is text"),
            stderr: String::from_utf8(output.stderr).expect("standard error is text"),
        }
    }
}

/// Runs a command with this standard input.
pub(crate) fn run(mut command: Command, input: &[u8]) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdin = child.stdin.take().expect("standard input is piped");
    let input = input.to_vec();
    // A command that refuses its arguments does not read its input: the broken pipe is no matter.
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("the command ends");
    feeder.join().expect("feeding does not panic");
    output.into()
}

/// A broker that runs, in a folder that outlives it.
pub(crate) struct Server {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
    stderr: PathBuf,
    pub(crate) banner: Value,
}

impl Server {
    pub(crate) fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[])
    }

    /// Returns once clients are served.
    pub(crate) fn start_with(folder: &Path, options: &[&str]) -> Self {
        let (mut child, stderr) = spawn(folder, &[&["--json"], options].concat());
        let mut stdout = BufReader::new(child.stdout.take().expect("standard output is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("the banner is text");
        let Ok(banner) = serde_json::from_str(&line) else {
            panic!("no banner but {line:?}; {}", std::fs::read_to_string(&stderr).unwrap());
        };
        Self { child, stdout, stderr, banner }
    }

    pub(crate) fn address(&self) -> &str {
        self.banner["kafka"].as_str().expect("the banner names the address")
    }

    /// A client command against this broker.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = millstream();
        command.args(arguments).env("MILLSTREAM_BOOTSTRAP", self.address());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        run(self.command(arguments), b"")
    }

    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Ran {
        run(self.command(arguments), input)
    }

    /// SIGTERM, and what it printed from then on; panics unless it ends well.
    pub(crate) fn stop(self) -> String {
        self.stop_by(Signal::TERM)
    }

    pub(crate) fn stop_by(mut self, signal: Signal) -> String {
        self.signal(signal);
        let status = self.child.wait().expect("the broker ends");
        let log = std::fs::read_to_string(&self.stderr).expect("the log is text");
        assert!(status.success(), "{status}; {log}");
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("standard output is text");
        rest + &log
    }

    /// SIGKILL: the broker has no chance to do anything about it.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::KILL);
        self.child.wait().expect("the broker ends");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the broker runs");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts `serve` on free ports, logging to a file beside the data.
pub(crate) fn spawn(folder: &Path, options: &[&str]) -> (Child, PathBuf) {
    let stderr = folder.join("stderr");
    let unless_given = |option| if options.contains(&option) { vec![] } else { vec![option, "127.0.0.1:0"] };
    let child = millstream()
        .args(["serve", "--data-dir"])
        .arg(folder.join("data"))
        .args(unless_given("--listen"))
        .args(unless_given("--http"))
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::options().create(true).append(true).open(&stderr).expect("the folder can be written"))
        .spawn()
        .expect("the binary starts");
    (child, stderr)
}
