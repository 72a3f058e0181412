//! Frees the blocks of large files without a name a little at a time.
//!
//! Whoever closes such a file last frees all of it at once, and until that is done no sync of the file system returns.
//! Where freed blocks are discarded (mounted with `discard`) that was measured to take a millisecond for each MiB: each
//! segment of 1 GiB that retention deletes would stop all acknowledgements for a second. So a thread cuts the file in
//! small steps before it closes it; syncs come in between.
//!
//! Nobody who still reads the file may notice: one that is open somewhere else, be it in another process, is closed as it
//! is.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

/// What is freed at a time, and the largest file that is not worth it.
pub(super) const STEP_BYTES: u64 = 256 << 10;

/// Files that wait for their turn: each holds a descriptor.
const WAITING_MAX: usize = 64;

/// Whether somebody may be kept waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Haste {
    /// Until there is room in the queue.
    None,
    /// Then the file is closed at once.
    Great,
}

/// Closes a file; if that frees many blocks, in the background.
pub(super) fn close(file: File, haste: Haste) {
    let is_large = file.metadata().is_ok_and(|found| found.nlink() == 0 && found.len() > STEP_BYTES);
    let Some(queue) = is_large.then(queue).flatten() else { return };
    // What does not get into the queue is dropped, and closed by that.
    match haste {
        Haste::None => drop(queue.send(file)),
        Haste::Great => match queue.try_send(file) {
            Ok(()) => {}
            Err(TrySendError::Full(file) | TrySendError::Disconnected(file)) => drop(file),
        },
    }
}

/// `None` if the system had no thread to give.
fn queue() -> Option<&'static SyncSender<File>> {
    static QUEUE: OnceLock<Option<SyncSender<File>>> = OnceLock::new();
    let start = || {
        let (queue, files) = sync_channel(WAITING_MAX);
        let thread = thread::Builder::new().name("giving-back".to_owned());
        thread.spawn(move || work(&files)).is_ok().then_some(queue)
    };
    QUEUE.get_or_init(start).as_ref()
}

fn work(files: &Receiver<File>) {
    for file in files {
        if is_open_only_here(&file) {
            cut(&file);
        }
    }
}

fn cut(file: &File) {
    let Ok(found) = file.metadata() else { return };
    let mut bytes = found.len();
    while bytes > 0 {
        bytes = bytes.saturating_sub(STEP_BYTES);
        // What cannot be cut is freed when the file is closed.
        if file.set_len(bytes).is_err() {
            return;
        }
    }
}

/// Only a file that nobody else has open, in whatever process, can be leased for writing. A file system that knows no
/// leases says no.
fn is_open_only_here(file: &File) -> bool {
    let lease = |kind: libc::c_int| {
        #[expect(unsafe_code, reason = "no library wraps this call")]
        // SAFETY: it takes numbers only, and the descriptor is open for as long as `file` is borrowed.
        let outcome = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) };
        outcome == 0
    };
    // It has no name, so nobody can come to it any more; and who holds a lease is sent a signal if somebody does.
    lease(libc::F_WRLCK) && lease(libc::F_UNLCK)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn nameless(bytes: usize) -> (tempfile::TempDir, File, File) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        file.write_all(&vec![1; bytes]).unwrap();
        let other = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        (dir, file, other)
    }

    #[test]
    fn a_file_that_somebody_reads_is_not_cut() {
        let (_dir, file, other) = nameless(3 * STEP_BYTES as usize);
        assert!(!is_open_only_here(&file));
        drop(other);
        assert!(is_open_only_here(&file), "this file system knows no leases");
        cut(&file);
        assert_eq!(file.metadata().unwrap().len(), 0);
    }

    #[test]
    fn who_closes_need_not_know_whether_there_is_much_to_free() {
        for bytes in [0, 10, STEP_BYTES as usize + 1] {
            let (_dir, file, other) = nameless(bytes);
            close(file, Haste::Great);
            assert_eq!(other.metadata().unwrap().len(), bytes as u64);
            close(other, Haste::None);
        }
    }
}
