//! `millstream log verify`: whether all that lies below a folder is whole.
//!
//! Each batch: its checksum, and that its offsets and leader epoch do not go back. Each index entry: that it
//! points at a batch which holds its offset. What a crash leaves at the end of a partition is a note and not a
//! problem, because the next start cuts it off.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bytes::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use millstream_protocol::records::{self, BatchView};
use serde_json::json;

use super::VerifyArgs;
use super::dump::DECOMPRESSED_BYTES_MAX;
use super::index_file::{OffsetEntry, TimeEntry, read_offset_index, read_time_index};
use super::segment_file::{Located, SegmentFile, base_offset_of};
use crate::outcome::Outcome;
use crate::output;
use crate::text::{human_bytes, human_count, plural};

/// Folders within folders: `<data>/topics/<topic>/<partition>` is three.
const DEPTH_MAX: usize = 8;

pub(super) fn run(args: &VerifyArgs) -> anyhow::Result<Outcome> {
    let mut partitions = BTreeMap::new();
    collect(&args.dir, 0, &mut partitions)?;
    if partitions.is_empty() && !args.dir.join("lock").exists() {
        bail!("there are no segments below {}; give a data folder or a folder in it", args.dir.display());
    }
    let mut report = Report::new(args, total_bytes(&partitions));
    for segments in partitions.values() {
        report.partitions += 1;
        Partition { report: &mut report, next_offset: 0, leader_epoch: i32::MIN }.check(segments)?;
    }
    report.finish()
}

/// The segments of each partition below `dir`, in the order of their offsets.
fn collect(dir: &Path, depth: usize, partitions: &mut BTreeMap<PathBuf, Vec<PathBuf>>) -> anyhow::Result<()> {
    let unreadable = || format!("{} cannot be read", dir.display());
    let mut segments = Vec::new();
    for entry in fs::read_dir(dir).with_context(unreadable)? {
        let entry = entry.with_context(unreadable)?;
        let path = entry.path();
        if entry.file_type().with_context(unreadable)?.is_dir() {
            if depth < DEPTH_MAX {
                collect(&path, depth + 1, partitions)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "log")
            && base_offset_of(&path).is_some()
        {
            segments.push(path);
        }
    }
    if !segments.is_empty() {
        segments.sort();
        partitions.insert(dir.to_owned(), segments);
    }
    Ok(())
}

fn total_bytes(partitions: &BTreeMap<PathBuf, Vec<PathBuf>>) -> u64 {
    let sizes = partitions.values().flatten().filter_map(|path| fs::metadata(path).ok());
    sizes.map(|metadata| metadata.len()).sum()
}

/// Counts, and says what is found as it is found.
struct Report<'a> {
    args: &'a VerifyArgs,
    bar: ProgressBar,
    partitions: u64,
    segments: u64,
    batches: u64,
    records: u64,
    bytes: u64,
    problems: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Severity {
    Note,
    Problem,
}

impl<'a> Report<'a> {
    fn new(args: &'a VerifyArgs, total: u64) -> Self {
        let hidden = args.json || !io::stderr().is_terminal();
        let bar = if hidden { ProgressBar::hidden() } else { ProgressBar::new(total) };
        let template = "{bar:24} {percent:>3}%  {binary_bytes} of {binary_total_bytes}  {eta} left";
        bar.set_style(ProgressStyle::with_template(template).expect("the template above is well-formed"));
        Self { args, bar, partitions: 0, segments: 0, batches: 0, records: 0, bytes: 0, problems: 0 }
    }

    fn say(
        &mut self,
        severity: Severity,
        file: &Path,
        position: Option<u64>,
        text: &str,
    ) -> anyhow::Result<()> {
        if severity == Severity::Problem {
            self.problems += 1;
        }
        let shown = file.strip_prefix(&self.args.dir).unwrap_or(file).display();
        let word = match severity {
            Severity::Note => "note",
            Severity::Problem => "problem",
        };
        if self.args.json {
            let shown = shown.to_string();
            output::json(&json!({"severity": word, "file": shown, "position": position, "text": text}))?;
            return Ok(());
        }
        let place = position.map(|position| format!(" at byte {position}")).unwrap_or_default();
        self.bar.suspend(|| output::line(&format!("{word}: {shown}{place}: {text}")))?;
        Ok(())
    }

    fn finish(self) -> anyhow::Result<Outcome> {
        self.bar.finish_and_clear();
        let Self { args, partitions, segments, batches, records, bytes, problems, .. } = self;
        if args.json {
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

/// What the walk through a partition remembers from one batch to the next.
struct Partition<'r, 'a> {
    report: &'r mut Report<'a>,
    next_offset: i64,
    leader_epoch: i32,
}

impl Partition<'_, '_> {
    fn check(&mut self, segments: &[PathBuf]) -> anyhow::Result<()> {
        for (at, path) in segments.iter().enumerate() {
            self.report.segments += 1;
            self.check_segment(path, at + 1 == segments.len())?;
        }
        Ok(())
    }

    fn check_segment(&mut self, path: &Path, is_last: bool) -> anyhow::Result<()> {
        let base = base_offset_of(path).unwrap_or_default();
        if base < self.next_offset {
            let text = format!("begins at offset {base}; the segment before it ends at {}", self.next_offset);
            self.report.say(Severity::Problem, path, None, &text)?;
        }
        self.next_offset = base;
        // The indexes before the segment: a running broker writes them after it.
        let mut indexes = Indexes::read(path, base)?;
        let mut segment = SegmentFile::open(path)?;
        while let Some(next) = segment.next()? {
            match next {
                Ok(located) => {
                    self.check_batch(path, &located)?;
                    indexes.on_batch(&located);
                }
                Err(broken) => {
                    let torn = is_last && broken.is_torn_tail();
                    let severity = if torn { Severity::Note } else { Severity::Problem };
                    let remedy = if torn { "; the next start cuts them off" } else { "" };
                    let text = format!("{broken}{remedy}");
                    self.report.say(severity, path, Some(segment.position()), &text)?;
                    break;
                }
            }
        }
        for (severity, file, text) in indexes.finish(path, is_last) {
            self.report.say(severity, &file, None, &text)?;
        }
        Ok(())
    }

    fn check_batch(&mut self, path: &Path, located: &Located) -> anyhow::Result<()> {
        let header = &located.header;
        self.report.batches += 1;
        self.report.records += header.record_count.max(0) as u64;
        self.report.bytes += header.size_in_bytes() as u64;
        self.report.bar.set_position(self.report.bytes);
        let (first, last) = (header.base_offset, header.last_offset());
        let mut wrong = Vec::new();
        if !located.crc_is_valid {
            wrong.push(format!("the checksum of the batch of offsets {first}..={last} is wrong"));
        } else if self.report.args.records {
            wrong.extend(check_records(&located.bytes));
        }
        if first < self.next_offset {
            wrong.push(format!("offsets go back: {first} after {}", self.next_offset - 1));
        }
        if header.partition_leader_epoch < self.leader_epoch {
            let (epoch, before) = (header.partition_leader_epoch, self.leader_epoch);
            wrong.push(format!("leader epochs go back: {epoch} after {before}"));
        }
        if located.crc_is_valid {
            self.next_offset = last + 1;
            self.leader_epoch = header.partition_leader_epoch;
        }
        for text in wrong {
            self.report.say(Severity::Problem, path, Some(located.position), &text)?;
        }
        Ok(())
    }
}

fn check_records(batch: &Bytes) -> Option<String> {
    let view = BatchView::parse(batch);
    let checked = view.and_then(|view| records::validate(&view, DECOMPRESSED_BYTES_MAX));
    checked.err().map(|error| format!("the records are wrong: {error}"))
}

/// The entries of a segment's indexes, checked off against its batches as they pass.
struct Indexes {
    offsets: Vec<OffsetEntry>,
    next_offset_entry: usize,
    times: Vec<TimeEntry>,
    next_time_entry: usize,
    largest_timestamp: i64,
    /// The first fault of each file: the others mostly follow from it.
    offset_fault: Option<String>,
    time_fault: Option<String>,
}

impl Indexes {
    fn read(segment: &Path, base: i64) -> anyhow::Result<Self> {
        let mut indexes = Self {
            offsets: Vec::new(),
            next_offset_entry: 0,
            times: Vec::new(),
            next_time_entry: 0,
            largest_timestamp: i64::MIN,
            offset_fault: None,
            time_fault: None,
        };
        let cut = |rest: usize| (rest > 0).then(|| format!("the last {rest} bytes are not a whole entry"));
        // An index that is missing is no fault: it is rebuilt at the next start.
        let path = segment.with_extension("index");
        if path.exists() {
            let index = read_offset_index(&path, base)?;
            let ascending = index.entries.is_sorted_by(|a, b| a.offset < b.offset && a.position < b.position);
            indexes.offset_fault =
                cut(index.rest).or((!ascending).then(|| "entries are not in order".into()));
            indexes.offsets = index.entries;
        }
        let path = segment.with_extension("timeindex");
        if path.exists() {
            let index = read_time_index(&path, base)?;
            let ascending =
                index.entries.is_sorted_by(|a, b| a.timestamp <= b.timestamp && a.offset <= b.offset);
            indexes.time_fault = cut(index.rest).or((!ascending).then(|| "entries are not in order".into()));
            indexes.times = index.entries;
        }
        Ok(indexes)
    }

    fn on_batch(&mut self, located: &Located) {
        let (first, last) = (located.header.base_offset, located.header.last_offset());
        while let Some(entry) = self.offsets.get(self.next_offset_entry) {
            if entry.position > located.position {
                break;
            }
            self.next_offset_entry += 1;
            if entry.position < located.position || !(first..=last).contains(&entry.offset) {
                let text =
                    || format!("offset {} is not at byte {} of the segment", entry.offset, entry.position);
                self.offset_fault.get_or_insert_with(text);
            }
        }
        self.largest_timestamp = self.largest_timestamp.max(located.header.max_timestamp);
        while let Some(entry) = self.times.get(self.next_time_entry) {
            if entry.offset > last {
                break;
            }
            self.next_time_entry += 1;
            if entry.offset < first || entry.timestamp > self.largest_timestamp {
                let text =
                    || format!("no batch up to offset {} has timestamp {}", entry.offset, entry.timestamp);
                self.time_fault.get_or_insert_with(text);
            }
        }
    }

    /// What is wrong with which file. Entries behind the last batch of a partition are what a crash leaves when
    /// the index reached the disk before the records did.
    fn finish(self, segment: &Path, is_last: bool) -> Vec<(Severity, PathBuf, String)> {
        let behind = if is_last { Severity::Note } else { Severity::Problem };
        let offset_behind = self.offsets.get(self.next_offset_entry).map(|entry| entry.offset);
        let time_behind = self.times.get(self.next_time_entry).map(|entry| entry.offset);
        let files =
            [("index", self.offset_fault, offset_behind), ("timeindex", self.time_fault, time_behind)];
        let mut found = Vec::new();
        for (extension, fault, offset_behind) in files {
            let file = segment.with_extension(extension);
            let remedy = "; without the file, the next start builds a new one";
            if let Some(fault) = fault {
                found.push((Severity::Problem, file, format!("{fault}{remedy}")));
            } else if let Some(offset) = offset_behind {
                found.push((behind, file, format!("offset {offset} is behind the last batch")));
            }
        }
        found
    }
}
