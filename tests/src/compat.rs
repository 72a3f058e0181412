//! The card of the foreign clients: each suite of `tests/compat` is a script that starts a broker of its own on a free port, runs
//! one client's tests against it and writes down what became of each; here they are run, a few at a time, and summed up.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use parking_lot::Mutex;
use serde::Deserialize;

/// What the card is told.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Only these suites (default: all)
    #[arg(value_name = "SUITE")]
    pub suites: Vec<String>,
    /// The part that CI has time for
    #[arg(long)]
    pub quick: bool,
    /// The binary under test
    #[arg(long, value_name = "FILE", default_value = "target/release/millstream")]
    pub broker: PathBuf,
    /// Whom to judge: us, or Apache Kafka, which shows whether the tests are right
    #[arg(long, value_enum, default_value_t = Against::Millstream)]
    pub against: Against,
    /// Print the card as Markdown, with the reason of each test left out
    #[arg(long)]
    pub markdown: bool,
    /// How many suites run at once: they wait more than they work, but judge time as well
    #[arg(long, value_name = "N", default_value = "1")]
    pub jobs: NonZero<usize>,
}

/// Who is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Against {
    /// The binary of this workspace
    Millstream,
    /// The broker of the jars that setup.sh fetched
    Kafka,
}

/// One suite: a script of `tests/compat` and its arguments, in full and for CI (`None`: not there).
#[derive(Debug)]
struct Suite {
    name: &'static str,
    script: &'static str,
    full: &'static [&'static str],
    quick: Option<&'static [&'static str]>,
}

/// Those that do not wait for groups: half of the list in a fifth of its time. Groups are asked for by the other suites.
#[rustfmt::skip]
const LIBRDKAFKA_IN_CI: &[&str] = &[
    "0001", "0002", "0003", "0005", "0007", "0008", "0011", "0012", "0013", "0015", "0016", "0017", "0021",
    "0022", "0031", "0034", "0035", "0036", "0038", "0039", "0041", "0044", "0048", "0053", "0054", "0057",
    "0059", "0063", "0065", "0068", "0070", "0073", "0075", "0081", "0085", "0086", "0088", "0110", "0111",
    "0112", "0114", "0123",
];

/// In the order in which they are begun: the longest first, so that those that run at once end at about the same time.
const SUITES: &[Suite] = &[
    Suite { name: "kafka-tools", script: "kafka_tools.py", full: &[], quick: Some(&["--quick"]) },
    Suite { name: "librdkafka", script: "librdkafka.py", full: &[], quick: Some(LIBRDKAFKA_IN_CI) },
    Suite { name: "franz-go", script: "franz_go.py", full: &[], quick: Some(&[]) },
    Suite {
        name: "librdkafka.consumer",
        script: "librdkafka.py",
        full: &["--protocol", "consumer"],
        quick: None,
    },
    Suite { name: "streams", script: "streams.py", full: &["--long"], quick: Some(&[]) },
    Suite { name: "java", script: "java_suite.py", full: &[], quick: Some(&[]) },
    Suite {
        name: "franz-go-chaos",
        script: "franz_go.py",
        full: &["--chaos", "20"],
        quick: Some(&["--chaos", "1", "TestTxnEtl"]),
    },
    Suite { name: "franz-go-groups", script: "franz_go_groups.py", full: &[], quick: None },
    Suite { name: "python-transactions", script: "python_transactions.py", full: &[], quick: Some(&[]) },
    Suite { name: "kafkajs", script: "kafkajs.py", full: &[], quick: Some(&[]) },
    Suite {
        name: "java-old",
        script: "java_suite.py",
        full: &["--client", "old"],
        quick: Some(&["--client", "old"]),
    },
    Suite { name: "java-tv1", script: "java_suite.py", full: &["--client", "tv1"], quick: None },
    Suite { name: "python", script: "python_groups.py", full: &[], quick: Some(&[]) },
];

/// What a suite wrote down.
#[derive(Debug, Deserialize)]
struct Results {
    version: String,
    passed: usize,
    of: usize,
    failed: Vec<Failed>,
    left_out: Vec<LeftOut>,
}

#[derive(Debug, Deserialize)]
struct Failed {
    name: String,
    wrong: String,
}

#[derive(Debug, Deserialize)]
struct LeftOut {
    name: String,
    reason: String,
}

/// A line of the card; without results the suite did not get as far.
#[derive(Debug)]
struct Line {
    suite: &'static str,
    took: Duration,
    results: Option<Results>,
}

impl Line {
    fn is_good(&self) -> bool {
        self.results.as_ref().is_some_and(|results| results.of > 0 && results.passed == results.of)
    }
}

/// Runs the suites and prints the card; answers whether every test passed.
///
/// # Errors
/// A suite of that name does not exist, or nothing can be run at all.
pub fn run(options: &Options) -> Result<bool> {
    let known = |name: &String| SUITES.iter().any(|suite| suite.name == name);
    if let Some(name) = options.suites.iter().find(|name| !known(name)) {
        let names: Vec<&str> = SUITES.iter().map(|suite| suite.name).collect();
        bail!("no suite {name}: there are {}", names.join(", "));
    }
    let asked =
        |suite: &&Suite| options.suites.is_empty() || options.suites.iter().any(|name| name == suite.name);
    let arguments = |suite: &'static Suite| if options.quick { suite.quick } else { Some(suite.full) };
    let chosen: Vec<_> =
        SUITES.iter().filter(asked).filter_map(|suite| Some((suite, arguments(suite)?))).collect();
    let lines = run_all(&chosen, options)?;
    let card = if options.markdown { markdown(&lines) } else { plain(&lines) };
    // Nobody reading the card is no reason to fail.
    let _ = io::stdout().lock().write_all(card.as_bytes());
    Ok(lines.iter().all(Line::is_good))
}

/// Runs the suites, `jobs` at once; their lines in the order of the suites.
fn run_all(chosen: &[(&Suite, &[&str])], options: &Options) -> Result<Vec<Line>> {
    let waiting = Mutex::new(chosen.iter().enumerate());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..options.jobs.get() {
            scope.spawn(|| {
                loop {
                    let Some((at, (suite, arguments))) = waiting.lock().next() else { return };
                    let line = run_suite(suite, arguments, options);
                    done.lock().push((at, line));
                }
            });
        }
    });
    let mut done = done.into_inner();
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, line)| line).collect()
}

fn run_suite(suite: &Suite, arguments: &[&str], options: &Options) -> Result<Line> {
    let folder = tempfile::tempdir()?;
    let results = folder.path().join("results.json");
    let began = Instant::now();
    let mut command = Command::new(python());
    command.arg(scripts().join(suite.script)).args(arguments).arg("--json").arg(&results);
    command.stdin(Stdio::null());
    match options.against {
        Against::Millstream => {
            let binary = options.broker.canonicalize().with_context(|| {
                let path = options.broker.display();
                format!("no broker at {path}: build one with cargo build --release -p millstream-ops")
            })?;
            command.env("FOREIGN_MILLSTREAM", binary);
        }
        Against::Kafka => {
            command.args(["--broker", "kafka"]);
        }
    }
    // Its exit code says no more than what it wrote down.
    command
        .status()
        .with_context(|| format!("cannot run {}: has tests/compat/setup.sh run?", python().display()))?;
    let results = std::fs::read(&results).ok().map(|bytes| serde_json::from_slice(&bytes)).transpose()?;
    Ok(Line { suite: suite.name, took: began.elapsed(), results })
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("compat")
}

/// The interpreter of the environment that setup.sh made.
fn python() -> PathBuf {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cache = std::env::var_os("FOREIGN_CACHE").map(PathBuf::from);
    cache.unwrap_or_else(|| home.join(".cache/millstream/foreign")).join("venv/bin/python")
}

fn plain(lines: &[Line]) -> String {
    let mut card =
        format!("\n{:<21}{:>7}{:>5}{:>9}{:>8}  version\n", "suite", "passed", "of", "left out", "seconds");
    for line in lines {
        let seconds = line.took.as_secs();
        let _ = match &line.results {
            Some(results) => writeln!(
                card,
                "{:<21}{:>7}{:>5}{:>9}{seconds:>8}  {}",
                line.suite,
                results.passed,
                results.of,
                results.left_out.len(),
                results.version
            ),
            None => writeln!(card, "{:<21}  did not run{seconds:>17}", line.suite),
        };
    }
    for line in lines {
        for failed in line.results.iter().flat_map(|results| &results.failed) {
            let _ = writeln!(card, "FAILED {} {}: {}", line.suite, failed.name, failed.wrong);
        }
    }
    card
}

fn markdown(lines: &[Line]) -> String {
    let mut card = "| suite | version | passed | of |\n| --- | --- | ---: | ---: |\n".to_owned();
    for line in lines {
        let _ = match &line.results {
            Some(results) => writeln!(
                card,
                "| {} | {} | {} | {} |",
                line.suite, results.version, results.passed, results.of
            ),
            None => writeln!(card, "| {} | did not run | | |", line.suite),
        };
    }
    card.push_str("\n| left out of | test | reason |\n| --- | --- | --- |\n");
    for line in lines {
        for out in line.results.iter().flat_map(|results| &results.left_out) {
            let _ = writeln!(card, "| {} | {} | {} |", line.suite, out.name, out.reason);
        }
    }
    card
}
