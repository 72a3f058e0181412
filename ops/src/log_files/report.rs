//! What a check finds: said as it is found, counted, and kept where something can be done about it.

use std::io::{self, IsTerminal};
use std::ops::Range;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::outcome::Outcome;
use crate::output;
use crate::text::{human_bytes, human_count, plural};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    /// It is as it may be.
    Note,
    /// Something is lost, damaged or in the way.
    Problem,
}

/// What can be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Nothing, or nothing that a tool should do.
    None,
    /// The broker does it when it starts.
    NextStart,
    /// The indexes of the segment can be made anew.
    RebuildIndexes,
    /// The file can go.
    MoveAside,
}

impl Remedy {
    fn text(self) -> &'static str {
        match self {
            Self::None => "",
            Self::NextStart => "; the next start deals with it",
            Self::RebuildIndexes => "; `millstream log repair` builds it anew",
            Self::MoveAside => "; `millstream log repair` moves it aside",
        }
    }

    fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::NextStart => Some("next_start"),
            Self::RebuildIndexes => Some("rebuild_indexes"),
            Self::MoveAside => Some("move_aside"),
        }
    }
}

/// One thing that was found.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    pub(super) file: PathBuf,
    pub(super) position: Option<u64>,
    /// Offsets that cannot be read because of it.
    pub(super) offsets: Option<Range<i64>>,
    pub(super) text: String,
    pub(super) remedy: Remedy,
}

impl Finding {
    pub(super) fn note(file: &Path, text: impl Into<String>) -> Self {
        let (file, text) = (file.to_owned(), text.into());
        Self { severity: Severity::Note, file, position: None, offsets: None, text, remedy: Remedy::None }
    }

    pub(super) fn problem(file: &Path, text: impl Into<String>) -> Self {
        Self { severity: Severity::Problem, ..Self::note(file, text) }
    }

    pub(super) fn at(self, position: u64) -> Self {
        Self { position: Some(position), ..self }
    }

    pub(super) fn offsets(self, offsets: Range<i64>) -> Self {
        Self { offsets: Some(offsets), ..self }
    }

    pub(super) fn remedy(self, remedy: Remedy) -> Self {
        Self { remedy, ..self }
    }

    fn as_json(&self, file: &str) -> Value {
        let word = match self.severity {
            Severity::Note => "note",
            Severity::Problem => "problem",
        };
        json!({
            "severity": word, "file": file, "position": self.position,
            "from": self.offsets.as_ref().map(|offsets| offsets.start),
            "to": self.offsets.as_ref().map(|offsets| offsets.end),
            "text": self.text, "remedy": self.remedy.name(),
        })
    }
}

/// How it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Json,
}

/// What was looked at.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) partitions: u64,
    pub(super) segments: u64,
    pub(super) batches: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) problems: u64,
}

/// Counts, and says what is found as it is found.
pub(super) struct Report {
    root: PathBuf,
    form: Form,
    bar: ProgressBar,
    pub(super) counts: Counts,
    /// The findings that a repair can do something about.
    pub(super) repairable: Vec<Finding>,
}

impl Report {
    /// Paths are shown as seen from `root`.
    pub(super) fn new(root: &Path, form: Form, total_bytes: u64) -> Self {
        let hidden = form == Form::Json || !io::stderr().is_terminal();
        let bar = if hidden { ProgressBar::hidden() } else { ProgressBar::new(total_bytes) };
        let template = "{bar:24} {percent:>3}%  {binary_bytes} of {binary_total_bytes}  {eta} left";
        bar.set_style(ProgressStyle::with_template(template).expect("the template above is well-formed"));
        Self { root: root.to_owned(), form, bar, counts: Counts::default(), repairable: Vec::new() }
    }

    /// # Errors
    /// When standard output cannot be written.
    pub(super) fn say(&mut self, finding: Finding) -> anyhow::Result<()> {
        if finding.severity == Severity::Problem {
            self.counts.problems += 1;
        }
        let shown = self.shown(&finding.file);
        match self.form {
            Form::Json => output::json(&finding.as_json(&shown))?,
            Form::Text => {
                let word = if finding.severity == Severity::Note { "note" } else { "problem" };
                let place =
                    finding.position.map(|position| format!(" at byte {position}")).unwrap_or_default();
                let (text, remedy) = (&finding.text, finding.remedy.text());
                self.bar.suspend(|| output::line(&format!("{word}: {shown}{place}: {text}{remedy}")))?;
            }
        }
        if matches!(finding.remedy, Remedy::RebuildIndexes | Remedy::MoveAside) {
            self.repairable.push(finding);
        }
        Ok(())
    }

    pub(super) fn shown(&self, file: &Path) -> String {
        file.strip_prefix(&self.root).unwrap_or(file).display().to_string()
    }

    pub(super) fn is_json(&self) -> bool {
        self.form == Form::Json
    }

    pub(super) fn on_bytes(&mut self, bytes: u64) {
        self.counts.bytes += bytes;
        self.bar.set_position(self.counts.bytes);
    }

    /// Prints the sum.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub(super) fn sum_up(&self) -> anyhow::Result<Outcome> {
        self.bar.finish_and_clear();
        let Counts { partitions, segments, batches, records, bytes, problems } = self.counts;
        if self.is_json() {
            output::json(&json!({
                "partitions": partitions, "segments": segments, "batches": batches, "records": records,
                "bytes": bytes, "problems": problems,
            }))?;
        } else {
            let counted = [
                (partitions, "partition", "partitions"),
                (segments, "segment", "segments"),
                (batches, "batch", "batches"),
                (records, "record", "records"),
            ]
            .map(|(count, one, many)| format!("{} {}", human_count(count), plural(count, one, many)))
            .join(", ");
            let verdict = match problems {
                0 => "all is well".to_owned(),
                _ => format!("{} {}", human_count(problems), plural(problems, "problem", "problems")),
            };
            output::line(&format!("{counted}, {}: {verdict}", human_bytes(bytes)))?;
        }
        Ok(if problems == 0 { Outcome::Done } else { Outcome::Found })
    }
}
