//! `millstream log repair`: what a tool can do for a data folder whose broker is stopped.
//!
//! It takes nothing away. Indexes are built anew from their segments; the old ones, and files that nothing refers
//! to, are moved to `repaired-<time>` in the data folder. Damaged batches are told and left where they are: the
//! broker answers their offsets with CORRUPT_MESSAGE and serves all others.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use millstream_log::{Clock, SystemClock};
use rustix::fs::FlockOperation;
use serde_json::json;

use super::folder::{self, REPAIRED};
use super::report::{Finding, Form, Remedy, Report};
use super::segment_file::{SegmentFile, base_offset_of};
use super::verify::{self, Depth, root_of};
use super::{RepairArgs, index_file};
use crate::outcome::Outcome;
use crate::output;

pub(super) fn run(args: &RepairArgs) -> anyhow::Result<Outcome> {
    let data = data_folder_of(&args.dir)?;
    // Held until the end: no broker starts meanwhile.
    let _lock = lock(&data)?;
    let dirs = [args.dir.clone()];
    let found = folder::collect(&dirs)?;
    let form = if args.json { Form::Json } else { Form::Text };
    let mut report = Report::new(root_of(&dirs), form, found.bytes);
    verify::check(&found, Depth::Batches, &mut report)?;
    let outcome = report.sum_up()?;
    let steps = steps(&report);
    if steps.is_empty() {
        if !report.is_json() {
            output::line("there is nothing that a repair can do")?;
        }
        return Ok(outcome);
    }
    let aside = data.join(format!("{REPAIRED}{}", SystemClock.now_ms()));
    for step in &steps {
        tell(&report, step, args.yes)?;
        if args.yes {
            step.carry_out(&data, &aside)?;
        }
    }
    if !args.yes {
        if !report.is_json() {
            output::line("nothing was changed; --yes does it, and moves what it replaces aside")?;
        }
        return Ok(Outcome::Found);
    }
    if !report.is_json() {
        output::line(&format!("what was replaced is in {}; nothing needs it", aside.display()))?;
    }
    // What is left after the repair is what counts.
    let found = folder::collect(&dirs)?;
    let mut report = Report::new(root_of(&dirs), form, found.bytes);
    verify::check(&found, Depth::Batches, &mut report)?;
    report.sum_up()
}

/// The nearest folder above that a broker locks.
fn data_folder_of(dir: &Path) -> anyhow::Result<PathBuf> {
    let dir = dir.canonicalize().with_context(|| format!("{} cannot be read", dir.display()))?;
    match dir.ancestors().find(|above| above.join("lock").is_file()) {
        Some(data) => Ok(data.to_owned()),
        None => bail!(
            "{} does not lie in a data folder (there is no `lock` in it or above it), so nobody can say that no broker is \
             writing there",
            dir.display()
        ),
    }
}

fn lock(data: &Path) -> anyhow::Result<File> {
    let path = data.join("lock");
    let lock = File::options().read(true).write(true).open(&path);
    let lock = lock.with_context(|| format!("{} cannot be opened", path.display()))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            bail!("a broker (process {}) uses {}; stop it first", holder.trim(), data.display())
        }
        Err(error) => Err(error).with_context(|| format!("{} cannot be locked", path.display())),
    }
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// Make both indexes of this segment anew.
    Rebuild { segment: PathBuf },
    /// Move this file out of the way.
    MoveAside { file: PathBuf },
}

fn steps(report: &Report) -> Vec<Step> {
    let mut steps = Vec::new();
    for Finding { file, remedy, .. } in &report.repairable {
        let step = match remedy {
            Remedy::RebuildIndexes => Step::Rebuild { segment: file.with_extension("log") },
            Remedy::MoveAside => Step::MoveAside { file: file.clone() },
            Remedy::None | Remedy::NextStart => continue,
        };
        if !steps.contains(&step) {
            steps.push(step);
        }
    }
    steps
}

fn tell(report: &Report, step: &Step, done: bool) -> anyhow::Result<()> {
    let (action, words, file) = match step {
        Step::Rebuild { segment } => ("rebuild_indexes", "build the indexes anew of", segment),
        Step::MoveAside { file } => ("move_aside", "move aside", file),
    };
    let shown = report.shown(file);
    match report.is_json() {
        true => output::json(&json!({"repair": action, "file": shown, "done": done})),
        false => output::line(&format!("{}: {words} {shown}", if done { "repair" } else { "would" })),
    }
}

impl Step {
    fn carry_out(&self, data: &Path, aside: &Path) -> anyhow::Result<()> {
        match self {
            Self::MoveAside { file } => move_aside(file, data, aside),
            Self::Rebuild { segment } => rebuild(segment, data, aside),
        }
    }
}

/// Within one file system: a rename, so that the bytes are at every moment in one place or the other.
fn move_aside(file: &Path, data: &Path, aside: &Path) -> anyhow::Result<()> {
    let file = file.canonicalize().with_context(|| format!("{} cannot be found", file.display()))?;
    let to = aside.join(file.strip_prefix(data).unwrap_or(&file));
    let folder = to.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    anyhow::ensure!(!to.exists(), "{} is there already", to.display());
    fs::rename(&file, &to)
        .with_context(|| format!("{} cannot be moved to {}", file.display(), to.display()))?;
    sync(folder)?;
    sync(file.parent().context("a file lies in a folder")?)
}

fn rebuild(segment: &Path, data: &Path, aside: &Path) -> anyhow::Result<()> {
    let base = base_offset_of(segment).context("a segment is named by its first offset")?;
    let built = index_file::build(&mut SegmentFile::open(segment)?, base)?;
    for (extension, bytes) in [("index", built.offsets), ("timeindex", built.times)] {
        let path = segment.with_extension(extension);
        if fs::read(&path).is_ok_and(|held| held == bytes) {
            continue;
        }
        let draft = segment.with_extension(format!("{extension}-unfinished"));
        let write = || {
            let mut file = File::create(&draft)?;
            file.write_all(&bytes)?;
            file.sync_all()
        };
        write().with_context(|| format!("{} cannot be written", draft.display()))?;
        if path.exists() {
            move_aside(&path, data, aside)?;
        }
        fs::rename(&draft, &path).with_context(|| format!("{} cannot be written", path.display()))?;
        sync(path.parent().context("a file lies in a folder")?)?;
    }
    Ok(())
}

fn sync(folder: &Path) -> anyhow::Result<()> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("{} cannot be synced", folder.display()))
}
