//! A segment's file that notices when a read brings in what had left memory.
//!
//! Whoever reads, a lookup by time, a compaction, a scrub, brings in pages that were verified before they left
//! and may have rotted since; read-ahead brings in their neighbours. From then on they look as if they had
//! been there all the time. So what was verified is forgotten before the read.

use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;

use super::trust::Trust;
use crate::disk::DiskFile;

#[derive(Debug)]
pub(super) struct Watched {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) trust: Arc<Trust>,
}

impl Watched {
    fn before_reading(&self, position: u64, bytes: usize) -> io::Result<()> {
        if !self.file.is_resident(position, bytes) {
            self.trust.distrust(self.file.bytes()?);
        }
        Ok(())
    }
}

impl DiskFile for Watched {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.before_reading(position, buffer.len())?;
        self.file.read_at(buffer, position)
    }

    fn try_read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.try_read_at(buffer, position)
    }

    fn write_at(&self, parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        self.file.write_at(parts, position)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.truncate(bytes)
    }

    fn preallocate(&self, range: Range<u64>) -> io::Result<()> {
        self.file.preallocate(range)
    }

    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write_out(&self, range: Range<u64>) {
        self.file.write_out(range);
    }

    fn start_writing(&self, end: u64) {
        self.file.start_writing(end);
    }

    fn is_resident(&self, position: u64, bytes: usize) -> bool {
        self.file.is_resident(position, bytes)
    }

    fn bring_in(&self, position: u64, bytes: usize) -> io::Result<()> {
        self.before_reading(position, bytes)?;
        self.file.bring_in(position, bytes)
    }

    fn forget(&self, range: Range<u64>) -> io::Result<()> {
        self.file.forget(range)
    }

    fn read_device_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_device_at(buffer, position)
    }

    fn as_file(&self) -> Option<&Arc<File>> {
        self.file.as_file()
    }
}
