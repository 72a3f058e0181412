//! Progress while it runs, on a terminal; a summary at the end.

use std::fmt;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use millstream_producer::ProducerStats;

use crate::text::{human_bytes, human_count, per_second, plural};

/// Draws on standard error, if a person sees it.
pub(super) struct Progress {
    bar: ProgressBar,
    started: Instant,
}

impl Progress {
    pub(super) fn start(topic: &str, quiet: bool) -> Self {
        let hidden = quiet || !io::stderr().is_terminal();
        if !hidden && io::stdin().is_terminal() {
            // The person types: a moving line would write over theirs.
            eprintln!("one record per line to {topic}; Ctrl-D ends");
        }
        let bar = match hidden || io::stdin().is_terminal() {
            true => ProgressBar::hidden(),
            false => ProgressBar::with_draw_target(input_bytes(), ProgressDrawTarget::stderr_with_hz(10)),
        };
        let template = match bar.length() {
            Some(_) => "{bar:24} {percent:>3}%  {msg}  {eta} left",
            None => "{spinner} {msg}",
        };
        let style = ProgressStyle::with_template(template).expect("the templates above are well-formed");
        bar.set_style(style);
        Self { bar, started: Instant::now() }
    }

    /// Shows how far it has come. Cheap: drawn ten times a second at most.
    pub(super) fn show(&self, stats: &ProducerStats, read_bytes: u64) {
        if self.bar.is_hidden() {
            return;
        }
        let rate = human_count(per_second(stats.delivered_records, self.started.elapsed()));
        let (records, bytes) = (human_count(stats.delivered_records), human_bytes(read_bytes));
        self.bar.set_message(format!("{records} records, {bytes}, {rate}/s"));
        self.bar.set_position(read_bytes);
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// How much there is to read, when standard input is a file.
fn input_bytes() -> Option<u64> {
    let file = std::fs::File::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
    let metadata = file.metadata().ok()?;
    metadata.is_file().then_some(metadata.len())
}

/// What was acknowledged, how much input that was, in what time.
pub(super) struct Summary {
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) elapsed: Duration,
}

impl Summary {
    pub(super) fn records_per_second(&self) -> u64 {
        per_second(self.records, self.elapsed)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        let (count, word) = (human_count(self.records), plural(self.records, "record", "records"));
        write!(f, "{count} {word} of {} of input in {seconds:.2} s", human_bytes(self.bytes))?;
        if self.records == 0 {
            return Ok(());
        }
        let rate = human_count(self.records_per_second());
        write!(f, ": {rate} records/s, {}/s", human_bytes(per_second(self.bytes, self.elapsed)))
    }
}
