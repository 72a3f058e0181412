//! A data folder: who holds it, what version its files have, and how it was left.
//!
//! ```text
//! <data>/lock            held (flock) while a broker runs; its text names the holder's process
//! <data>/format          text: which version the files here have, and which of several folders this is
//! <data>/clean           exists only between a clean shutdown and the next start
//! <data>/meta/           topics, ids, epochs (`meta_store`); in the first data folder only
//! <data>/topics/<topic id>/<partition>/   segments (`millstream-log`)
//!
//! format, two lines, or three where there are several folders:
//!     millstream data folder
//!     version 1
//!     directory 6a7c0f0e-6f0e-4c3b-9d0e-0c8f3f1a2b4c
//! ```
//!
//! The version comes before anything that a later version may want to say, so that every version can read it.
//! A folder without the file is of version 1, from before the file was there.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_log::{CleanStart, Disk, IfMissing};
use millstream_protocol::Uuid;
use rustix::fs::FlockOperation;

/// The version of everything in a data folder.
const VERSION: u32 = 1;

const TITLE: &str = "millstream data folder";

/// A longer file is not one of ours.
const FORMAT_BYTES_MAX: usize = 4096;

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
    /// A newer version has written it.
    #[error(
        "the data folder {folder} has version {found}, and this program knows version {VERSION}; use the newer program that wrote it"
    )]
    Newer {
        /// The folder.
        folder: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Its `format` file cannot be understood.
    #[error(
        "{file} does not say which version the data folder has; if nothing else is wrong there, remove that file"
    )]
    NoFormat {
        /// The file.
        file: PathBuf,
    },
    /// The folder with the metadata has to be named first.
    #[error("{folder} holds the metadata of a node, so it must be the first of log.dirs")]
    NotFirst {
        /// The folder.
        folder: PathBuf,
    },
    /// Two of the folders are one.
    #[error("{folder} is named twice in log.dirs")]
    Twice {
        /// The folder.
        folder: PathBuf,
    },
}

/// What `format` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Format {
    version: u32,
    directory: Option<Uuid>,
}

impl Format {
    fn text(self) -> String {
        let directory = self.directory.map(|id| format!("directory {id}\n")).unwrap_or_default();
        format!("{TITLE}\nversion {}\n{directory}", self.version)
    }

    /// `None` if this is not such a file. Lines that a newer version has added are no obstacle to reading
    /// its number.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != TITLE {
            return None;
        }
        let version = lines.next()?.strip_prefix("version ")?.parse().ok()?;
        let directory = match (version, lines.next()) {
            (VERSION, Some(line)) => Some(line.strip_prefix("directory ")?.parse().ok()?),
            _ => None,
        };
        Some(Self { version, directory })
    }
}

/// A data folder that this process holds. The lock, if any, is released when this is dropped, or when the
/// process dies.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    /// What it said when it was taken; `None` if it said nothing.
    format: Option<Format>,
    /// Names were made here that may not be durable.
    is_new: bool,
    _lock: Option<File>,
}

impl DataDir {
    /// Locks a folder, making it if it is missing.
    pub(crate) fn lock(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, DataDirError> {
        let unusable = |error| DataDirError::Unusable { folder: path.to_owned(), error };
        std::fs::create_dir_all(path).map_err(unusable)?;
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
        Self::take(disk, path, Some(lock))
    }

    /// The same for a folder that nobody else can have, on a disk of its own.
    pub(crate) fn unlocked(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, DataDirError> {
        let unusable = |error| DataDirError::Unusable { folder: path.to_owned(), error };
        make_dir(&*disk, path).map_err(unusable)?;
        Self::take(disk, path, None)
    }

    fn take(disk: Arc<dyn Disk>, path: &Path, lock: Option<File>) -> Result<Self, DataDirError> {
        let format = read_format(&*disk, path)?;
        Ok(Self { path: path.to_owned(), disk, format, is_new: false, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn meta(&self) -> PathBuf {
        self.path.join("meta")
    }

    pub(crate) fn topics(&self) -> PathBuf {
        self.path.join("topics")
    }

    /// Which of several folders this is, if it says so.
    pub(crate) fn id(&self) -> Option<Uuid> {
        self.format.and_then(|format| format.directory)
    }

    /// Whether nothing was here before it was prepared, or nothing that says so.
    pub(crate) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Whether the metadata of a node lies here.
    pub(crate) fn has_metadata(&self) -> bool {
        self.has("meta")
    }

    fn has(&self, name: &str) -> bool {
        self.disk.list(&self.path).is_ok_and(|names| names.iter().any(|other| other == name))
    }

    /// Makes what is missing: the folder of topics, and `format`, which names the folder if there are several.
    pub(crate) fn prepare(&mut self, id: Option<Uuid>) -> Result<(), DataDirError> {
        let prepared = self.try_prepare(id);
        prepared.map_err(|error| DataDirError::Unusable { folder: self.path.clone(), error })
    }

    fn try_prepare(&mut self, id: Option<Uuid>) -> io::Result<()> {
        self.is_new |= make_dir(&*self.disk, &self.topics())?;
        let format = Format { version: VERSION, directory: id };
        if self.format == Some(format) {
            return Ok(());
        }
        self.is_new = true;
        let draft = self.path.join("format.new");
        let file = self.disk.open(&draft, IfMissing::Create)?;
        file.truncate(0)?;
        file.write_at(&mut [IoSlice::new(format.text().as_bytes())], 0)?;
        // Without an id it says nothing that is not known without it: it becomes durable some time, and a start
        // that finds it empty writes it again. An id is remembered elsewhere, and has to be here by then.
        if id.is_some() {
            file.sync_data()?;
        }
        self.disk.rename(&draft, &self.path.join("format"))?;
        self.format = Some(format);
        Ok(())
    }

    /// Makes the names in the folder durable, and its own, unless they are known to be. Once the metadata is:
    /// the file system's journal carries them together.
    pub(crate) fn settle(&self, clean: CleanStart) -> Result<(), DataDirError> {
        // Whoever was killed may not have come to this.
        let settled = match self.is_new || clean == CleanStart::No {
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
        match self.disk.remove_file(&self.path.join("clean")) {
            Ok(()) => {
                self.sync()?;
                Ok(CleanStart::Yes)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(CleanStart::No),
            Err(error) => Err(error),
        }
    }

    /// Records a clean shutdown, after everything else is on disk.
    pub(crate) fn mark_clean(&self) -> io::Result<()> {
        self.disk.open(&self.path.join("clean"), IfMissing::Create)?.sync_data()?;
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync_dir(&self.path)
    }

    fn sync_parent(&self) -> io::Result<()> {
        match self.path.parent() {
            // The parent of a relative path of one part is the empty path: the current folder.
            Some(parent) if parent.as_os_str().is_empty() => self.disk.sync_dir(Path::new(".")),
            Some(parent) => self.disk.sync_dir(parent),
            None => Ok(()),
        }
    }
}

/// Whether it had to be made.
fn make_dir(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
    match disk.create_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

fn read_format(disk: &dyn Disk, folder: &Path) -> Result<Option<Format>, DataDirError> {
    let path = folder.join("format");
    let read = || {
        let file = disk.open(&path, IfMissing::Fail)?;
        let mut held = vec![0; FORMAT_BYTES_MAX];
        let read = file.read_at(&mut held, 0)?;
        held.truncate(read);
        io::Result::Ok(held)
    };
    let bytes = match read() {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DataDirError::Unusable { folder: folder.to_owned(), error }),
    };
    // The power failed before its content was on disk.
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let parsed = std::str::from_utf8(&bytes).ok().and_then(Format::parse);
    let format = parsed.ok_or(DataDirError::NoFormat { file: path })?;
    match format.version {
        VERSION => Ok(Some(format)),
        found => Err(DataDirError::Newer { folder: folder.to_owned(), found }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_log::RealDisk;

    fn lock(path: &Path) -> Result<DataDir, DataDirError> {
        let mut data = DataDir::lock(Arc::new(RealDisk), path)?;
        data.prepare(None).map(|()| data)
    }

    #[test]
    fn a_second_broker_is_refused_and_told_who_holds_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = lock(folder.path()).unwrap();
        let refused = lock(folder.path()).unwrap_err().to_string();
        assert!(refused.contains(&format!("(process {})", std::process::id())), "{refused}");
        drop(first);
        assert!(lock(folder.path()).is_ok());
    }

    #[test]
    fn a_folder_is_clean_only_once_after_it_was_marked() {
        let folder = tempfile::tempdir().unwrap();
        let data = lock(folder.path()).unwrap();
        assert_eq!(data.take_clean_mark().unwrap(), CleanStart::No);
        data.mark_clean().unwrap();
        assert_eq!(data.take_clean_mark().unwrap(), CleanStart::Yes);
        assert_eq!(data.take_clean_mark().unwrap(), CleanStart::No);
    }

    #[test]
    fn a_folder_that_is_a_file_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = lock(file.path()).unwrap_err().to_string();
        assert!(refused.contains(&file.path().display().to_string()), "{refused}");
    }

    #[test]
    fn a_folder_of_a_newer_version_is_refused_with_both_versions_named() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("{TITLE}\nversion 7\nsomething of the future\n");
        std::fs::write(folder.path().join("format"), &text).unwrap();
        let refused = lock(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("version 7") && refused.contains("version 1"), "{refused}");
        assert!(!folder.path().join("topics").exists(), "nothing was made in it");
        assert_eq!(std::fs::read_to_string(folder.path().join("format")).unwrap(), text);
    }

    #[test]
    fn a_folder_from_before_the_format_file_gets_one() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("meta")).unwrap();
        for torn in [None, Some(""), Some("\0\0\0\0")] {
            let path = folder.path().join("format");
            match torn {
                None => {}
                Some(text) => std::fs::write(&path, text).unwrap(),
            }
            drop(lock(folder.path()).unwrap());
            let text = std::fs::read_to_string(path).unwrap();
            assert_eq!(text, "millstream data folder\nversion 1\n");
        }
    }

    #[test]
    fn a_format_file_of_something_else_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["A4 paper\n", "millstream data folder\n", "millstream data folder\nversion x\n"] {
            std::fs::write(folder.path().join("format"), text).unwrap();
            assert!(matches!(lock(folder.path()), Err(DataDirError::NoFormat { .. })), "{text}");
            assert_eq!(std::fs::read_to_string(folder.path().join("format")).unwrap(), text);
        }
    }

    #[test]
    fn a_folder_knows_which_of_several_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let id = Uuid::new_v4();
        let mut data = DataDir::lock(Arc::new(RealDisk), folder.path()).unwrap();
        assert!(data.id().is_none());
        data.prepare(Some(id)).unwrap();
        drop(data);
        let data = DataDir::lock(Arc::new(RealDisk), folder.path()).unwrap();
        assert_eq!(data.id(), Some(id));
        assert!(!data.has_metadata());
    }
}
