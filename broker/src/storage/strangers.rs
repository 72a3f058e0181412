//! What lies in a data folder and is not ours: left alone, and named.
//!
//! The one thing that is removed is the folder of a topic that never was, as a crash in the middle of its
//! creation leaves it: a tree of our own shape in which no file has a byte.

use std::io;
use std::path::{Path, PathBuf};

use millstream_log::Disk;
use millstream_protocol::Uuid;

/// Names in the data folder that are ours, or the file system's.
const OURS: [&str; 7] = ["clean", "format", "format.new", "lock", "meta", "topics", "lost+found"];

/// Strangers that are named, in each data folder.
const NAMED_MAX: usize = 20;

/// How many partitions the topic of an id has, if there is one.
pub(crate) type PartitionsOf<'a> = &'a dyn Fn(Uuid) -> Option<usize>;

/// What was found in a data folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Strangers {
    /// The first of them, in order.
    pub(crate) named: Vec<PathBuf>,
    /// How many there are.
    pub(crate) count: usize,
    /// Folders of topics that never were.
    pub(crate) unborn: Vec<PathBuf>,
}

impl Strangers {
    /// Looks through a data folder.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub(crate) fn of(disk: &dyn Disk, folder: &Path, partitions_of: PartitionsOf<'_>) -> io::Result<Self> {
        let mut found = Self::default();
        for name in sorted(disk, folder)? {
            if !OURS.contains(&name.to_string_lossy().as_ref()) {
                found.note(folder.join(name));
            }
        }
        let topics = folder.join("topics");
        for name in sorted(disk, &topics)? {
            let path = topics.join(&name);
            let id = name.to_str().and_then(|name| name.parse::<Uuid>().ok());
            match (id, id.and_then(partitions_of)) {
                (_, Some(partitions)) => found.look_into_topic(disk, &path, partitions)?,
                (Some(_), None) if is_unborn(disk, &path) => found.unborn.push(path),
                (_, None) => found.note(path),
            }
        }
        Ok(found)
    }

    fn look_into_topic(&mut self, disk: &dyn Disk, folder: &Path, partitions: usize) -> io::Result<()> {
        for name in sorted(disk, folder)? {
            let index = name.to_str().and_then(|name| name.parse::<usize>().ok());
            if index.is_none_or(|index| index >= partitions) {
                self.note(folder.join(name));
            }
        }
        Ok(())
    }

    fn note(&mut self, path: PathBuf) {
        self.count += 1;
        if self.named.len() < NAMED_MAX {
            self.named.push(path);
        }
    }
}

fn sorted(disk: &dyn Disk, folder: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let mut names = disk.list(folder)?;
    names.sort_unstable();
    Ok(names)
}

/// Whether it holds partitions only, and these no byte.
fn is_unborn(disk: &dyn Disk, topic: &Path) -> bool {
    let is_empty = |partition: &Path| {
        let names = disk.list(partition)?;
        let mut sizes = names.iter().map(|name| disk.file_bytes(&partition.join(name)));
        sizes.try_fold(true, |all, bytes| Ok::<_, io::Error>(all && bytes? == 0))
    };
    let Ok(names) = disk.list(topic) else { return false };
    names.iter().all(|name| {
        let is_partition = name.to_str().is_some_and(|name| name.parse::<usize>().is_ok());
        is_partition && is_empty(&topic.join(name)).unwrap_or(false)
    })
}
