//! The file system of this machine.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Advice, FallocateFlags, Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::{Disk, DiskFile, IfMissing, Space};

/// How much `bring_in` reads at a time.
const BRING_IN_BYTES: usize = 64 * 1024;

/// What is written out at a time: a sync that somebody waits for comes between two pieces.
const WRITE_OUT_BYTES: u64 = 64 << 10;

/// No system has smaller pages.
const PAGE_BYTES_MIN: u64 = 4096;

/// What devices want positions, lengths and memory to be a multiple of when they are read directly.
const DIRECT_BYTES: usize = 4096;

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

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let found = rustix::fs::statvfs(dir)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Space { free_bytes: bytes(found.f_bavail), total_bytes: bytes(found.f_blocks) })
    }
}

#[derive(Debug)]
struct RealFile {
    file: Arc<File>,
}

impl RealFile {
    /// Leads to it through the process's own table, also if it has no name.
    fn own_path(&self) -> String {
        format!("/proc/self/fd/{}", self.file.as_raw_fd())
    }
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
                Err(Errno::INTR) => {}
                // A file system that does not know the flag is read as it always was.
                Err(Errno::OPNOTSUPP) => {
                    return Ok(filled + self.read_at(&mut buffer[filled..], at)?);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, mut parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut written = 0;
        // The system writes nothing of an empty part, which is no failure.
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match rustix::io::pwritev(&*self.file, parts, position + written) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => {
                    written += bytes as u64;
                    IoSlice::advance_slices(&mut parts, bytes);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn preallocate(&self, range: Range<u64>) -> io::Result<()> {
        let bytes = range.end.saturating_sub(range.start);
        if bytes == 0 {
            return Ok(());
        }
        match rustix::fs::fallocate(&*self.file, FallocateFlags::KEEP_SIZE, range.start, bytes) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            done => Ok(done?),
        }
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write_out(&self, range: Range<u64>) {
        // An error is told once for each time that the file was opened, and this must not be told it in place of a sync
        // that may be under way: who waits for that would be told that all is well.
        let Ok(opened_anew) = File::open(self.own_path()) else { return };
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at + WRITE_OUT_BYTES);
            if write_out(&opened_anew, at..end).is_err() {
                return;
            }
            at = end;
        }
    }

    fn start_writing(&self, end: u64) {
        // This advice begins with writing out, and then drops whole pages. In fewer bytes than a page has there is none,
        // unless they reach the end of the file: its last page counts as whole.
        let last = end.saturating_sub(1);
        if let Some(bytes) = NonZeroU64::new(last.min(PAGE_BYTES_MIN - 1)) {
            // What cannot be begun, or goes wrong later, the sync that follows tells.
            let _ = rustix::fs::fadvise(&*self.file, last - bytes.get(), Some(bytes), Advice::DontNeed);
        }
    }

    fn is_resident(&self, position: u64, bytes: usize) -> bool {
        let probe = |position| {
            let mut byte = [0; 1];
            let mut parts = [IoSliceMut::new(&mut byte)];
            let read = rustix::io::preadv2(&*self.file, &mut parts, position, ReadWriteFlags::NOWAIT);
            // Only EAGAIN says that the page is not there; a file system that does not know the flag is
            // read as it always was.
            !matches!(read, Err(Errno::AGAIN))
        };
        bytes == 0 || (probe(position) && probe(position + bytes as u64 - 1))
    }

    fn bring_in(&self, position: u64, bytes: usize) -> io::Result<()> {
        let length = NonZeroU64::new(bytes as u64);
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

    fn forget(&self, range: Range<u64>) -> io::Result<()> {
        // No length means up to the end of the file.
        let Some(bytes) = range.end.checked_sub(range.start).and_then(NonZeroU64::new) else { return Ok(()) };
        Ok(rustix::fs::fadvise(&*self.file, range.start, Some(bytes), Advice::DontNeed)?)
    }

    fn read_device_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC;
        match rustix::fs::open(self.own_path(), flags, Mode::empty()) {
            Ok(direct) => match read_direct(&File::from(direct), buffer, position) {
                Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {}
                done => return done,
            },
            // A file system that cannot is read as it always was.
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        self.forget(position..position + buffer.len() as u64)?;
        self.read_at(buffer, position)
    }

    fn as_file(&self) -> Option<&Arc<File>> {
        Some(&self.file)
    }
}

/// Has the device write a range, and waits for that.
fn write_out(file: &File, range: Range<u64>) -> io::Result<()> {
    let offset = |at: u64| i64::try_from(at).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let (start, bytes) = (offset(range.start)?, offset(range.end - range.start)?);
    let steps =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    #[expect(unsafe_code, reason = "no library wraps this call")]
    // SAFETY: it takes numbers only, and the descriptor is open for as long as `file` is borrowed.
    match unsafe { libc::sync_file_range(file.as_raw_fd(), start, bytes, steps) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Reads past memory. Position, length and memory are brought to what the device wants.
fn read_direct(direct: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    let lead = usize::try_from(position % DIRECT_BYTES as u64).expect("smaller than the divisor");
    let bytes = (lead + buffer.len()).next_multiple_of(DIRECT_BYTES);
    let mut memory = vec![0; bytes + DIRECT_BYTES];
    let aligned = memory.as_ptr().align_offset(DIRECT_BYTES);
    let memory = &mut memory[aligned..aligned + bytes];
    let mut filled = 0;
    while filled < bytes {
        match direct.read_at(&mut memory[filled..], position - lead as u64 + filled as u64) {
            Ok(0) => break,
            Ok(read) => {
                filled += read;
                // Only the end of the file ends a read between two blocks.
                if read % DIRECT_BYTES != 0 {
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let read = filled.saturating_sub(lead).min(buffer.len());
    buffer[..read].copy_from_slice(&memory[lead..lead + read]);
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_of(content: &[u8]) -> (tempfile::TempDir, Arc<dyn DiskFile>) {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk.open(&dir.path().join("f"), IfMissing::Create).unwrap();
        file.write_at(&mut [IoSlice::new(content)], 0).unwrap();
        (dir, file)
    }

    #[test]
    fn the_device_gives_what_was_written_at_any_position() {
        let content: Vec<u8> = (0..20_000u32).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect();
        let (_dir, file) = file_of(&content);
        for (position, bytes) in [(0, 20_000), (1, 10), (4095, 2), (4096, 4096), (19_990, 100), (20_000, 5)] {
            let mut read = vec![0; bytes];
            let count = file.read_device_at(&mut read, position as u64).unwrap();
            let end = content.len().min(position + bytes);
            assert_eq!(read[..count], content[position..end], "{bytes} bytes from {position}");
        }
    }

    #[test]
    fn what_begins_to_be_written_stays_in_memory() {
        let (_dir, file) = file_of(&[7; 20_000]);
        file.sync_data().unwrap();
        for end in [0, 1, 4096, 10_000, 20_000] {
            file.start_writing(end);
        }
        for position in (0..20_000).step_by(4096) {
            assert!(file.is_resident(position, 1), "at {position}");
        }
    }

    #[test]
    fn nothing_can_be_written_and_empty_parts_among_others() {
        let (_dir, file) = file_of(b"");
        file.write_at(&mut [IoSlice::new(b""), IoSlice::new(b"a"), IoSlice::new(b""), IoSlice::new(b"b")], 0)
            .unwrap();
        file.write_at(&mut [IoSlice::new(b"c"), IoSlice::new(b"")], 2).unwrap();
        let mut read = [0; 4];
        assert_eq!((file.read_at(&mut read, 0).unwrap(), &read[..3]), (3, &b"abc"[..]));
    }

    #[test]
    fn any_range_can_be_written_out() {
        let (_dir, file) = file_of(&[7; 200_000]);
        for range in [0..200_000, 4095..4097, 190_000..1 << 20, 5..5] {
            file.write_out(range);
        }
        let path = tempfile::NamedTempFile::new().unwrap();
        write_out(path.as_file(), 0..1 << 20).expect("this system can write out");
        write_out(path.as_file(), 0..u64::MAX).unwrap_err();
    }

    #[test]
    fn room_set_aside_changes_no_length_and_forgetting_no_byte() {
        let (dir, file) = file_of(b"batches");
        file.preallocate(0..1 << 20).unwrap();
        file.sync_data().unwrap();
        file.forget(0..7).unwrap();
        let mut read = [0; 8];
        assert_eq!(file.read_at(&mut read, 0).unwrap(), 7);
        assert_eq!((&read[..7], file.bytes().unwrap()), (&b"batches"[..], 7));
        let space = RealDisk.space(dir.path()).unwrap();
        assert!(0 < space.free_bytes && space.free_bytes < space.total_bytes, "{space:?}");
    }
}
