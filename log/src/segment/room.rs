//! Room that the file system has set aside behind the end of a segment's file.
//!
//! It makes large sequential writes cheaper and small synced ones dearer, so it is off unless asked for, and
//! only a segment that has grown gets it: a thousand small partitions must not eat the disk. The length of
//! the file stays; cutting it at its length gives the room back.

use crate::disk::DiskFile;
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::Relaxed;

/// Set aside at a time.
const STEP_BYTES: u64 = 64 << 20;

/// A smaller segment gets none.
pub(super) const GROWN_BYTES: u64 = 16 << 20;

/// How far the room reaches; 0 if there is none.
#[derive(Debug, Default)]
pub(crate) struct Room(AtomicU64);

impl Room {
    /// Whether a file of this length should get more.
    pub(crate) fn is_short(&self, bytes: u64) -> bool {
        bytes >= GROWN_BYTES && self.0.load(Relaxed) < bytes + STEP_BYTES / 2
    }

    /// Sets room aside for the file to grow, but not beyond `most`. A file system that has none is not asked
    /// again for this file: the write itself will tell if there is no space.
    pub(crate) fn reserve(&self, file: &dyn DiskFile, bytes: u64, most: u64) {
        let from = self.0.load(Relaxed).max(bytes);
        let to = bytes.next_multiple_of(STEP_BYTES).saturating_add(STEP_BYTES).min(most);
        let reached = match from < to && file.preallocate(from..to).is_err() {
            true => u64::MAX,
            false => to,
        };
        // One that has reached what it may get is not asked for again.
        self.0.store(if to == most { u64::MAX } else { reached }, Relaxed);
    }

    /// Whether there was some; there is none from now on.
    pub(crate) fn take(&self) -> bool {
        self.0.swap(0, Relaxed) > 0
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::disk::{Disk, IfMissing, RealDisk};

    #[test]
    fn room_is_set_aside_ahead_of_a_file_that_has_grown_and_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk.open(&dir.path().join("f"), IfMissing::Create).unwrap();
        file.write_at(&mut [IoSlice::new(&[1; 100_000])], 0).unwrap();
        file.sync_data().unwrap();
        let held =
            || file.as_file().unwrap().metadata().map(|data| (data.len(), data.blocks() * 512)).unwrap();
        let before = held();
        let room = Room::default();
        assert!(!room.is_short(GROWN_BYTES - 1) && room.is_short(GROWN_BYTES));
        room.reserve(&*file, 100_000, 96 << 20);
        assert_eq!(held().0, before.0, "the length stays");
        // Where nothing was set aside, the file system cannot.
        let grown = held().1 - before.1;
        assert!(grown == 0 || grown >= (96 << 20) - before.1, "{grown}");
        assert!(!room.is_short(96 << 20), "it has all that it may get");
        assert!(room.take() && !room.take());
        file.truncate(100_000).unwrap();
        assert_eq!(held(), before);
        let mut byte = [0];
        assert_eq!((file.read_at(&mut byte, 99_999).unwrap(), byte), (1, [1]));
    }
}
