//! The data folder: who holds it, and how it was left.
//!
//! ```text
//! <data>/lock            held (flock) while a broker runs; its text names the holder's process
//! <data>/clean           exists only between a clean shutdown and the next start
//! <data>/meta/           topics, ids, epochs (`meta_store`)
//! <data>/topics/<topic id>/<partition>/   segments (`millstream-log`)
//! ```

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use millstream_log::{CleanStart, Disk, IfMissing, RealDisk};
use rustix::fs::FlockOperation;

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// The folder cannot be made or written.
    #[error(
        "the data folder {folder} cannot be used: {error}; choose another with --data-dir or make it writable"
    )]
    Unusable {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another broker holds it.
    #[error(
        "the data folder {folder} is in use by another broker (process {holder}); stop it, or choose another folder with --data-dir"
    )]
    Held {
        /// The folder.
        folder: PathBuf,
        /// The process id that the lock file names.
        holder: String,
    },
}

/// A locked data folder. The lock is released when this is dropped, or when the process dies.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    is_new: bool,
    _lock: File,
}

impl DataDir {
    /// Locks the folder, making it if it is missing.
    pub(crate) fn lock(path: &Path) -> Result<Self, DataDirError> {
        let unusable = |error| DataDirError::Unusable { folder: path.to_owned(), error };
        std::fs::create_dir_all(path).map_err(unusable)?;
        let is_new = !path.join("meta").exists();
        let mut lock = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path.join("lock"))
            .map_err(unusable)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                // The text only helps a person; an unreadable one changes nothing.
                let _ = lock.read_to_string(&mut holder);
                let holder = holder.trim().to_owned();
                return Err(DataDirError::Held { folder: path.to_owned(), holder });
            }
            Err(error) => return Err(unusable(error.into())),
        }
        lock.set_len(0).map_err(unusable)?;
        writeln!(lock, "{}", std::process::id()).map_err(unusable)?;
        let folder = Self { path: path.to_owned(), is_new, _lock: lock };
        std::fs::create_dir_all(folder.topics()).map_err(unusable)?;
        Ok(folder)
    }

    pub(crate) fn meta(&self) -> PathBuf {
        self.path.join("meta")
    }

    pub(crate) fn topics(&self) -> PathBuf {
        self.path.join("topics")
    }

    /// Makes the names in a new folder durable, and its own. Once the metadata is: the file system's journal
    /// carries them together.
    pub(crate) fn settle(&self) -> Result<(), DataDirError> {
        let settled = match self.is_new {
            true => self.sync().and_then(|()| self.sync_parent()),
            false => Ok(()),
        };
        settled.map_err(|error| DataDirError::Unusable { folder: self.path.clone(), error })
    }

    /// Tells whether the last broker here stopped cleanly, and forgets it: from now on, until
    /// `mark_clean`, an end is unclean.
    pub(crate) fn take_clean_mark(&self) -> Result<CleanStart, DataDirError> {
        self.try_take_clean_mark()
            .map_err(|error| DataDirError::Unusable { folder: self.path.clone(), error })
    }

    fn try_take_clean_mark(&self) -> io::Result<CleanStart> {
        take_clean_mark(&RealDisk, &self.path)
    }

    /// Records a clean shutdown, after everything else is on disk.
    pub(crate) fn mark_clean(&self) -> io::Result<()> {
        mark_clean(&RealDisk, &self.path)
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn sync_parent(&self) -> io::Result<()> {
        match self.path.parent() {
            // The parent of a relative path of one part is the empty path: the current folder.
            Some(parent) if parent.as_os_str().is_empty() => File::open(".")?.sync_all(),
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    }
}

/// See [`DataDir::take_clean_mark`].
pub(crate) fn take_clean_mark(disk: &dyn Disk, folder: &Path) -> io::Result<CleanStart> {
    match disk.remove_file(&folder.join("clean")) {
        Ok(()) => {
            disk.sync_dir(folder)?;
            Ok(CleanStart::Yes)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(CleanStart::No),
        Err(error) => Err(error),
    }
}

/// See [`DataDir::mark_clean`].
pub(crate) fn mark_clean(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    disk.open(&folder.join("clean"), IfMissing::Create)?.sync_data()?;
    disk.sync_dir(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_broker_is_refused_and_told_who_holds_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataDir::lock(folder.path()).unwrap();
        let refused = DataDir::lock(folder.path()).unwrap_err().to_string();
        assert!(refused.contains(&format!("(process {})", std::process::id())), "{refused}");
        drop(first);
        assert!(DataDir::lock(folder.path()).is_ok());
    }

    #[test]
    fn a_folder_is_clean_only_once_after_it_was_marked() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::lock(folder.path()).unwrap();
        assert_eq!(data.take_clean_mark().unwrap(), CleanStart::No);
        data.mark_clean().unwrap();
        assert_eq!(data.take_clean_mark().unwrap(), CleanStart::Yes);
        assert_eq!(data.take_clean_mark().unwrap(), CleanStart::No);
    }

    #[test]
    fn a_folder_that_is_a_file_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = DataDir::lock(file.path()).unwrap_err().to_string();
        assert!(refused.contains(&file.path().display().to_string()), "{refused}");
    }
}
