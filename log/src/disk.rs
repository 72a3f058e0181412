//! The files under a log, behind a trait, so that tests can take the power away and an embedded broker can go
//! without any.
//!
//! Calls block. A write is a write to the page cache; nothing is durable before `sync_data`, and no name
//! before `sync_dir` of its folder.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

mod memory;
mod real;
#[cfg(any(test, feature = "sim"))]
mod sim;

pub use memory::MemoryDisk;
pub use real::RealDisk;
#[cfg(any(test, feature = "sim"))]
pub use sim::{Bites, Damage, PowerCut, SimDisk};

/// What `Disk::open` does with a file that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfMissing {
    /// It is created, empty.
    Create,
    /// The call fails with `NotFound`.
    Fail,
}

/// Room on the file system that holds a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What this process may still write.
    pub free_bytes: u64,
    /// All of it.
    pub total_bytes: u64,
}

/// A file system.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Makes one folder; its parent must exist. Fails with `AlreadyExists` if it is there.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a folder, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>>;
    /// Opens a file for reading and writing at any position.
    fn open(&self, path: &Path, missing: IfMissing) -> io::Result<Arc<dyn DiskFile>>;
    /// Length of a file in bytes.
    fn file_bytes(&self, path: &Path) -> io::Result<u64>;
    /// Gives a file another name, replacing what had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Whoever holds it open can go on reading it.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder and everything in it.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// How much room there is around a folder.
    fn space(&self, dir: &Path) -> io::Result<Space>;
}

/// An open file.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Reads until `buffer` is full or the file ends; returns the bytes read.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// The same, but fails with `WouldBlock` where it would have to wait for the device.
    fn try_read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes all parts, one behind the other.
    fn write_at(&self, parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()>;
    /// Cuts the file.
    fn truncate(&self, bytes: u64) -> io::Result<()>;
    /// Has the file system set room aside for a range that will be written; the length stays. A file system
    /// that cannot is no error. `truncate` gives back what lies behind the new end.
    fn preallocate(&self, range: Range<u64>) -> io::Result<()>;
    /// Length in bytes.
    fn bytes(&self) -> io::Result<u64>;
    /// Makes the content durable. After an error nothing is known about what was written before: memory shows
    /// it as if nothing had happened, and the next call may report success without having written it.
    fn sync_data(&self) -> io::Result<()>;
    /// Has the device write what of a range is only in memory, a little at a time, and waits for that. Promises nothing:
    /// it leaves less for `sync_data` to do at once. What goes wrong `sync_data` tells all the same.
    fn write_out(&self, range: Range<u64>);
    /// Has the system begin to write the last bytes before `end`, as it may at any time; waits for nothing.
    fn start_writing(&self, end: u64);
    /// Whether the first and last byte of the range can be read without waiting for the device.
    fn is_resident(&self, position: u64, bytes: usize) -> bool;
    /// Brings the range into memory.
    fn bring_in(&self, position: u64, bytes: usize) -> io::Result<()>;
    /// Drops from memory what it holds of a range and what is not waiting to be written, so that the next read
    /// asks the device. Advice: pages that somebody is sending stay.
    fn forget(&self, range: Range<u64>) -> io::Result<()>;
    /// Like `read_at`, but asks the device whatever memory holds: after a failed sync the two may differ, and
    /// only the first survives. What waits to be written is written before.
    fn read_device_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// The system's own handle, where there is one: replies are sent from it without a copy.
    fn as_file(&self) -> Option<&Arc<File>>;
}

/// Whether a read may wait for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    Waits,
    /// Fails with `WouldBlock` instead.
    Never,
}

impl Patience {
    pub(crate) fn read_at(self, file: &dyn DiskFile, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        match self {
            Self::Waits => file.read_at(buffer, position),
            Self::Never => file.try_read_at(buffer, position),
        }
    }
}
