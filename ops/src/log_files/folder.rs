//! What lies in a data folder, told apart by its names.
//!
//! ```text
//! <data>/lock, format, clean
//! <data>/meta/log, snapshot
//! <data>/topics/<topic id>/<partition>/<offset>.<what>
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::segment_file::offset_of;

/// Folders within folders: `<data>/topics/<topic>/<partition>` is three.
const DEPTH_MAX: usize = 8;

/// How the folder begins into which a repair moves what it replaces.
pub(super) const REPAIRED: &str = "repaired-";

/// What a file in a partition's folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `<base>.log`
    Segment,
    /// `<base>.index`
    OffsetIndex,
    /// `<base>.timeindex`
    TimeIndex,
    /// `<base>.txnindex`
    TxnIndex,
    /// `<durable point>.snapshot`
    Snapshot,
    /// `<log start>.start`
    Start,
    /// `<offset>.gaps`
    Gaps,
    /// `doubted`
    Doubted,
    /// `<base>.swap`
    Swap,
    /// `<base>.log.cleaned`
    Cleaned,
    /// `<base>.log.<position>.torn`
    Torn,
    /// A file that was to be renamed when it is whole.
    Unfinished,
    /// None of ours.
    Foreign,
}

/// Takes a file's name apart.
pub(super) fn kind_of(path: &Path) -> (Kind, Option<i64>) {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if name == "doubted" {
        return (Kind::Doubted, Some(0));
    }
    let Some((digits, extension)) = name.split_once('.') else { return (Kind::Foreign, None) };
    let Some(offset) = offset_of(digits) else { return (Kind::Foreign, None) };
    let kind = match extension {
        "log" => Kind::Segment,
        "index" => Kind::OffsetIndex,
        "timeindex" => Kind::TimeIndex,
        "txnindex" => Kind::TxnIndex,
        "snapshot" => Kind::Snapshot,
        "start" => Kind::Start,
        "gaps" => Kind::Gaps,
        "swap" => Kind::Swap,
        "log.cleaned" => Kind::Cleaned,
        _ if extension.ends_with("-unfinished") => Kind::Unfinished,
        _ if extension.starts_with("log.") && extension.ends_with(".torn") => Kind::Torn,
        _ => return (Kind::Foreign, None),
    };
    (kind, Some(offset))
}

/// The files of one partition.
#[derive(Debug, Default)]
pub(super) struct PartitionFiles {
    pub(super) dir: PathBuf,
    /// By their first offset.
    pub(super) segments: BTreeMap<i64, PathBuf>,
    /// All others, in the order of their names.
    pub(super) others: Vec<(Kind, i64, PathBuf)>,
    pub(super) foreign: Vec<PathBuf>,
}

impl PartitionFiles {
    pub(super) fn of_kind(&self, kind: Kind) -> impl DoubleEndedIterator<Item = (i64, &PathBuf)> {
        self.others.iter().filter(move |(other, ..)| *other == kind).map(|(_, offset, path)| (*offset, path))
    }
}

/// What was found below the folders asked for.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) partitions: Vec<PartitionFiles>,
    /// Folders that have a `lock` or a `format`.
    pub(super) data_folders: Vec<PathBuf>,
    /// Files outside of partitions that are none of ours.
    pub(super) foreign: Vec<PathBuf>,
    pub(super) bytes: u64,
}

/// Looks through folders.
///
/// # Errors
/// When one cannot be read.
pub(super) fn collect(dirs: &[PathBuf]) -> anyhow::Result<Found> {
    let mut found = Found::default();
    for dir in dirs {
        collect_in(dir, 0, &mut found)?;
    }
    Ok(found)
}

fn collect_in(dir: &Path, depth: usize, found: &mut Found) -> anyhow::Result<()> {
    let unreadable = || format!("{} cannot be read", dir.display());
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir).with_context(unreadable)? {
        entries.push(entry.with_context(unreadable)?);
    }
    entries.sort_by_key(std::fs::DirEntry::file_name);
    let mut files = PartitionFiles { dir: dir.to_owned(), ..PartitionFiles::default() };
    let mut strangers = Vec::new();
    let mut is_data_folder = false;
    for entry in &entries {
        let path = entry.path();
        let is_dir = entry.file_type().with_context(unreadable)?.is_dir();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if is_dir && name.starts_with(REPAIRED) {
            // What a repair has put there is done with.
        } else if is_dir && name == "meta" {
            is_data_folder = true;
        } else if is_dir && depth < DEPTH_MAX {
            collect_in(&path, depth + 1, found)?;
        } else if !is_dir {
            match kind_of(&path) {
                (Kind::Segment, Some(base)) => {
                    found.bytes += entry.metadata().map_or(0, |metadata| metadata.len());
                    files.segments.insert(base, path);
                }
                (Kind::Foreign, _) | (_, None) => strangers.push(path),
                (kind, Some(offset)) => files.others.push((kind, offset, path)),
            }
        }
    }
    let ours = ["lock", "format", "clean", "format.new"];
    is_data_folder |= strangers.iter().any(|path| path.ends_with("lock") || path.ends_with("format"));
    if is_data_folder {
        strangers.retain(|path| !ours.iter().any(|name| path.ends_with(name)));
        found.data_folders.push(dir.to_owned());
    }
    if files.segments.is_empty() && files.others.is_empty() {
        found.foreign.append(&mut strangers);
    } else {
        files.foreign = strangers;
        found.partitions.push(files);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_told_by_its_name() {
        for (name, kind) in [
            ("00000000000000001337.log", Kind::Segment),
            ("00000000000000001337.log.cleaned", Kind::Cleaned),
            ("00000000000000001337.txnindex", Kind::TxnIndex),
            ("00000000000000001337.log.62.torn", Kind::Torn),
            ("00000000000000001337.log.62.1.torn", Kind::Torn),
            ("00000000000000001337.snapshot-unfinished", Kind::Unfinished),
            ("00000000000000001337.swap", Kind::Swap),
            ("1337.log", Kind::Foreign),
            ("notes.txt", Kind::Foreign),
            ("00000000000000001337.torn", Kind::Foreign),
        ] {
            assert_eq!(kind_of(Path::new(name)).0, kind, "{name}");
        }
    }
}
