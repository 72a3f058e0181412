//! The telling: tables for people, lines of JSON for scripts.

mod table;

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::bars::Verdict;
use crate::environment::Environment;
use crate::sample::{Case, Figure, Quantile, Sample, Spread, Summary, Work};
use table::Table;

/// Writes to standard output; progress goes to standard error.
#[derive(Debug)]
pub(crate) struct Report {
    json: bool,
}

/// What was run, on what.
#[derive(Debug, Serialize)]
pub(crate) struct Setting {
    pub(crate) environment: Environment,
    pub(crate) driver: String,
    pub(crate) peers: Vec<(&'static str, String)>,
    pub(crate) folder: String,
    pub(crate) partitions: u32,
    pub(crate) rounds: u32,
    pub(crate) seconds: f64,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line<'a> {
    Setting(&'a Setting),
    Sample(&'a Sample),
    Bar(&'a Verdict),
}

impl Report {
    /// For people, or for scripts.
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Tells what is about to be run.
    pub(crate) fn begin(&mut self, setting: &Setting) -> Result<()> {
        if self.json {
            return line(&Line::Setting(setting));
        }
        let environment = &setting.environment;
        let mut text = format!(
            "{} x {}, {:.0} GiB, Linux {}, load {}\n",
            environment.cores,
            environment.processor,
            environment.memory_bytes as f64 / f64::from(1 << 30),
            environment.kernel,
            environment.load_average
        );
        text.push_str(&format!("{}\n", setting.driver));
        for (name, description) in &setting.peers {
            text.push_str(&format!("{name}: {description}\n"));
        }
        text.push_str(&format!(
            "{} partition(s), {} rounds in turn, {} s each, data in {}\n",
            setting.partitions, setting.rounds, setting.seconds, setting.folder
        ));
        out(&text)
    }

    /// Tells one run.
    pub(crate) fn sample(&mut self, sample: &Sample) -> Result<()> {
        if self.json {
            return line(&Line::Sample(sample));
        }
        // Progress is of no use to anybody once standard error is gone.
        let _ =
            writeln!(io::stderr(), "  {} round {} {}", sample.case.title(), sample.round + 1, sample.peer);
        Ok(())
    }

    /// Tells what came out.
    pub(crate) fn end(&mut self, summary: &Summary, verdicts: &[Verdict]) -> Result<()> {
        if self.json {
            return verdicts.iter().try_for_each(|verdict| line(&Line::Bar(verdict)));
        }
        for table in
            [load_table(summary), latency_table(summary), footprint_table(summary), bar_table(verdicts)]
        {
            if !table.is_empty() {
                out(&format!("\n{table}"))?;
            }
        }
        Ok(())
    }
}

fn line(line: &Line<'_>) -> Result<()> {
    out(&format!("{}\n", serde_json::to_string(line).context("a figure is no JSON number")?))
}

fn out(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("cannot write to standard output")
}

fn load_table(summary: &Summary) -> Table {
    let header =
        ["full load", "broker", "msgs/s", "spread", "MB/s", "CPU s/GB", "spread", "client s/GB", "peak MB"];
    let mut table = Table::new(header);
    for (case, peer) in summary.cases().filter(|(case, _)| matches!(case.work, Work::Produce | Work::Consume))
    {
        let of = |figure| summary.spread(case, peer, figure);
        table.row([
            case.title(),
            peer.to_owned(),
            told(of(Figure::MessagesPerSecond), grouped),
            told_spread(of(Figure::MessagesPerSecond)),
            told(of(Figure::MegabytesPerSecond), |value| format!("{value:.0}")),
            told(of(Figure::BrokerSecondsPerGigabyte), |value| format!("{value:.3}")),
            told_spread(of(Figure::BrokerSecondsPerGigabyte)),
            told(of(Figure::ClientSecondsPerGigabyte), |value| format!("{value:.3}")),
            told(of(Figure::PeakMemoryBytes), |value| format!("{:.1}", value / 1e6)),
        ]);
    }
    table
}

fn latency_table(summary: &Summary) -> Table {
    let header = ["latency in us", "broker", "what", "p50", "spread", "p90", "p99", "p99.9", "max"];
    let mut table = Table::new(header);
    let cases = summary.cases().filter(|(case, _)| matches!(case.work, Work::ClosedLoop | Work::OpenLoop));
    for (case, peer) in cases {
        table.row(latency_row(summary, (case, peer), ("ack", Figure::Ack)));
        table.row(latency_row(summary, (case, peer), ("end to end", Figure::EndToEnd)));
    }
    table
}

fn latency_row(
    summary: &Summary,
    (case, peer): (Case, &'static str),
    (what, figure): (&str, impl Fn(Quantile) -> Figure),
) -> [String; 9] {
    let at = |quantile| told(summary.spread(case, peer, figure(quantile)), |value| format!("{value:.0}"));
    [
        case.title(),
        peer.to_owned(),
        what.to_owned(),
        at(Quantile::P50),
        told_spread(summary.spread(case, peer, figure(Quantile::P50))),
        at(Quantile::P90),
        at(Quantile::P99),
        at(Quantile::P999),
        at(Quantile::Max),
    ]
}

fn footprint_table(summary: &Summary) -> Table {
    let header =
        ["footprint", "start to first produce ms", "spread", "idle MB", "1,000 partitions MB", "binary MB"];
    let mut table = Table::new(header);
    for (case, peer) in summary.cases().filter(|(case, _)| case.work == Work::Footprint) {
        let megabytes =
            |figure| told(summary.spread(case, peer, figure), |value| format!("{:.1}", value / 1e6));
        table.row([
            peer.to_owned(),
            told(summary.spread(case, peer, Figure::FirstProduceMs), |value| format!("{value:.1}")),
            told_spread(summary.spread(case, peer, Figure::FirstProduceMs)),
            megabytes(Figure::IdleMemoryBytes),
            megabytes(Figure::PartitionsMemoryBytes),
            megabytes(Figure::BinaryBytes),
        ]);
    }
    table
}

fn bar_table(verdicts: &[Verdict]) -> Table {
    let mut table = Table::new(["bar", "millstream", "floor", "ratio", "limit", "met"]);
    for verdict in verdicts {
        table.row([
            verdict.bar.clone(),
            significant(verdict.ours),
            verdict.floor.map_or_else(String::new, significant),
            verdict.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}x")),
            verdict.limit.clone(),
            if verdict.met { "yes" } else { "NO" }.to_owned(),
        ]);
    }
    table
}

fn told(spread: Option<Spread>, form: impl Fn(f64) -> String) -> String {
    spread.map_or_else(|| "-".to_owned(), |spread| form(spread.median))
}

/// How far the rounds lie around their median, in percent.
fn told_spread(spread: Option<Spread>) -> String {
    let Some(spread) = spread.filter(|spread| spread.median > 0.0) else { return "-".to_owned() };
    let percent = |value: f64| (value / spread.median - 1.0) * 100.0;
    format!("{:+.0}..{:+.0} %", percent(spread.least), percent(spread.most))
}

/// Three digits of a small number, thousands grouped in a large one.
fn significant(value: f64) -> String {
    match value {
        value if value >= 1000.0 => grouped(value),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.3}"),
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits_and_group_thousands() {
        let told: Vec<String> = [0.3654, 12.345, 123.4, 999.6, 1_281_234.0].map(significant).to_vec();
        assert_eq!(told, ["0.365", "12.3", "123", "1000", "1,281,234"]);
    }

    #[test]
    fn the_spread_is_told_around_the_median() {
        assert_eq!(told_spread(Some(Spread { median: 100.0, least: 97.0, most: 104.0 })), "-3..+4 %");
        assert_eq!(told_spread(None), "-");
    }

    #[test]
    fn a_missed_bar_catches_the_eye() {
        let verdict = Verdict {
            bar: "produce".to_owned(),
            ours: 2.0,
            floor: Some(1.0),
            ratio: Some(2.0),
            limit: "<= 1.6x".to_owned(),
            met: false,
        };
        let text = bar_table(&[verdict]).to_string();
        assert!(text.lines().last().is_some_and(|line| line.ends_with("2.00x  <= 1.6x   NO")), "{text}");
    }
}
