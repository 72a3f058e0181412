//! The file system of this machine.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::Advice;
use rustix::io::ReadWriteFlags;

use super::{Disk, DiskFile, IfMissing};

/// How much `bring_in` reads at a time.
const BRING_IN_BYTES: usize = 64 * 1024;

/// The file system of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn open(&self, path: &Path, missing: IfMissing) -> io::Result<Arc<dyn DiskFile>> {
        let create = missing == IfMissing::Create;
        let file = File::options().read(true).write(true).create(create).truncate(false).open(path)?;
        Ok(Arc::new(RealFile { file: Arc::new(file) }))
    }

    fn file_bytes(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

#[derive(Debug)]
struct RealFile {
    file: Arc<File>,
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], position + filled as u64) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn try_read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let mut parts = [IoSliceMut::new(&mut buffer[filled..])];
            let at = position + filled as u64;
            match rustix::io::preadv2(&*self.file, &mut parts, at, ReadWriteFlags::NOWAIT) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(rustix::io::Errno::INTR) => {}
                // A file system that does not know the flag is read as it always was.
                Err(rustix::io::Errno::OPNOTSUPP) => {
                    return Ok(filled + self.read_at(&mut buffer[filled..], at)?);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, mut parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut written = 0;
        while !parts.is_empty() {
            match rustix::io::pwritev(&*self.file, parts, position + written) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => {
                    written += bytes as u64;
                    IoSlice::advance_slices(&mut parts, bytes);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn is_resident(&self, position: u64, bytes: usize) -> bool {
        let probe = |position| {
            let mut byte = [0; 1];
            let mut parts = [IoSliceMut::new(&mut byte)];
            let read = rustix::io::preadv2(&*self.file, &mut parts, position, ReadWriteFlags::NOWAIT);
            // Only EAGAIN says that the page is not there; a file system that does not know the flag is
            // read as it always was.
            !matches!(read, Err(rustix::io::Errno::AGAIN))
        };
        bytes == 0 || (probe(position) && probe(position + bytes as u64 - 1))
    }

    fn bring_in(&self, position: u64, bytes: usize) -> io::Result<()> {
        let length = std::num::NonZeroU64::new(bytes as u64);
        // Advice only: what it does not bring in, the reads below do.
        let _ = rustix::fs::fadvise(&*self.file, position, length, Advice::WillNeed);
        let mut buffer = vec![0; bytes.min(BRING_IN_BYTES)];
        let mut done = 0;
        while done < bytes {
            let part = (bytes - done).min(buffer.len());
            match self.read_at(&mut buffer[..part], position + done as u64)? {
                0 => break,
                read => done += read,
            }
        }
        Ok(())
    }

    fn as_file(&self) -> Option<&Arc<File>> {
        Some(&self.file)
    }
}
