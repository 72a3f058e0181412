//! What becomes of a history at the end of a proof.

use std::fs::File;
use std::io::BufWriter;

use anyhow::Context as _;

use super::recorder::Recorder;
use crate::history::checker::{Figures, judge};
use crate::history::write;
use crate::proof::{Failure, Options, say};

/// Fails with what is wrong in the history or besides it, and leaves the history for whoever wants to look.
pub(in crate::proof) fn verdict(
    recorder: &Recorder,
    wrong: &[String],
    options: &Options,
) -> Result<Figures, Failure> {
    let history = recorder.history();
    let verdict = judge(&history);
    if verdict.anomalies.is_empty() && wrong.is_empty() {
        return Ok(verdict.figures);
    }
    for anomaly in verdict.anomalies.iter().take(20) {
        say(&format!("  {anomaly}"));
    }
    for sentence in wrong.iter().take(20) {
        say(&format!("  {sentence}"));
    }
    let path = options.folder.join(format!("millstream-history-{}.jsonl", std::process::id()));
    let file = File::create(&path).with_context(|| format!("{}", path.display()))?;
    write(BufWriter::new(file), &history).context("the history cannot be written")?;
    let (counts, wrongs) = (verdict.counts(), wrong.len());
    Err(Failure::Broken(format!("{counts:?}, {wrongs} other wrongs; the history is in {}", path.display())))
}
