//! `millstream log verify`: whether all that lies below some folders is whole.
//!
//! Each batch: its checksum, that its offset is the one that comes next, and its leader epoch. Each index entry:
//! that it points at a batch which holds its offset. Each snapshot, each intent of compaction, the metadata. What
//! a crash leaves is a note and not a problem, because the next start deals with it.

use std::fs;
use std::path::Path;

use anyhow::bail;
use rustix::fs::FlockOperation;

use super::VerifyArgs;
use super::folder::{self, Found};
use super::meta_file::{MetaFile, holds_a_frame};
use super::partition_check;
use super::report::{Finding, Form, Remedy, Report};
use super::snapshot_file::read_small;
use crate::outcome::Outcome;

/// How far a check looks into a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Its header and checksum.
    Batches,
    /// Each record of it.
    Records,
}

pub(super) fn run(args: &VerifyArgs) -> anyhow::Result<Outcome> {
    let found = folder::collect(&args.dirs)?;
    let depth = if args.records { Depth::Records } else { Depth::Batches };
    let form = if args.json { Form::Json } else { Form::Text };
    let mut report = Report::new(root_of(&args.dirs), form, found.bytes);
    for folder in &found.data_folders {
        check_lock(folder, &mut report)?;
    }
    check(&found, depth, &mut report)?;
    report.sum_up()
}

/// Paths are told from here on.
pub(super) fn root_of(dirs: &[std::path::PathBuf]) -> &Path {
    match dirs {
        [dir] => dir,
        _ => Path::new(""),
    }
}

/// Checks everything that was found.
///
/// # Errors
/// When there is nothing to check, or a file cannot be read.
pub(super) fn check(found: &Found, depth: Depth, report: &mut Report) -> anyhow::Result<()> {
    if found.partitions.is_empty() && found.data_folders.is_empty() {
        bail!("there are no segments there; give a data folder, or a folder in it");
    }
    for folder in &found.data_folders {
        check_data_folder(folder, report)?;
    }
    for path in &found.foreign {
        report.say(Finding::note(path, "no file of Millstream's; it is left alone"))?;
    }
    for partition in &found.partitions {
        partition_check::check(partition, depth, report)?;
    }
    Ok(())
}

fn check_lock(folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    let lock = folder.join("lock");
    if is_held(&lock) {
        let holder = fs::read_to_string(&lock).unwrap_or_default();
        let text = format!(
            "a broker (process {}) is writing here; its newest records may look unfinished",
            holder.trim()
        );
        report.say(Finding::note(&lock, text))?;
    }
    Ok(())
}

fn check_data_folder(folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    let format = folder.join("format");
    if let Ok(text) = fs::read_to_string(&format)
        && version_of(&text) != Some(1)
    {
        let text = "this program knows version 1 of data folders, and this is none of it; what it says below may be wrong";
        report.say(Finding::problem(&format, text))?;
    }
    for name in ["snapshot", "log"] {
        let path = folder.join("meta").join(name);
        if path.exists() {
            check_meta(&path, name == "log", report)?;
        }
    }
    Ok(())
}

/// The version in a `format` file; `None` if it is no such file.
pub(super) fn version_of(text: &str) -> Option<u32> {
    let mut lines = text.lines();
    let titled = lines.next() == Some("millstream data folder");
    lines.next().filter(|_| titled)?.strip_prefix("version ")?.parse().ok()
}

fn is_held(lock: &Path) -> bool {
    let Ok(file) = fs::File::open(lock) else { return false };
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
}

fn check_meta(path: &Path, may_be_torn: bool, report: &mut Report) -> anyhow::Result<()> {
    let bytes = read_small(path)?;
    let damaged = "; the broker does not start over it: bring this file back from a backup";
    match MetaFile::read(&bytes) {
        Err(fault) => report.say(Finding::problem(path, format!("{fault}{damaged}"))),
        Ok(MetaFile { broken: None, .. }) => Ok(()),
        Ok(MetaFile { broken: Some((at, fault)), .. }) => {
            let position = u64::try_from(at).unwrap_or(u64::MAX);
            let torn = may_be_torn && !holds_a_frame(&bytes[at..]);
            report.say(match torn {
                true => Finding::note(path, "its last change was not written whole and never acknowledged")
                    .remedy(Remedy::NextStart)
                    .at(position),
                false => Finding::problem(path, format!("{fault}{damaged}")).at(position),
            })
        }
    }
}
