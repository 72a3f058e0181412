//! The metadata store of a single node: a log of changes, and a snapshot that keeps the log short.
//!
//! ```text
//! <meta>/log        changes since the snapshot, appended and synced one by one
//! <meta>/snapshot   every live entry; replaced as a whole by rename
//!
//! both:   magic "MSMETA1\n", then frames
//! frame:  length u32 | crc32c u32 | payload          big-endian; the CRC covers the payload
//! payload: version u64 | kind u8 (1 put, 2 delete, 3 snapshot's version) | key length u16 | key | value
//! ```
//!
//! Only the last frame of the log can be incomplete, because each is synced before the next is written: one
//! that is followed by a whole frame has rotted. Changes that the snapshot already holds are skipped by their version, so a crash between the two steps of a
//! compaction does no harm.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use millstream_log::{Disk, DiskFile, IfMissing};
use millstream_protocol::records::crc32c;
use parking_lot::Mutex;

use super::{Entry, Expect, MetaError, MetaStore};

const MAGIC: &[u8; 8] = b"MSMETA1\n";
/// Length and CRC of a frame.
const PREFIX_BYTES: usize = 8;
/// Version, kind and key length.
const PAYLOAD_BYTES_MIN: usize = 11;
/// A log larger than this is folded into a snapshot, once it is also larger than what is alive.
/// Tests take the power away at every change of it.
const COMPACT_BYTES_MIN: u64 = if cfg!(test) { 16 * 1024 } else { 1024 * 1024 };

const KIND_PUT: u8 = 1;
const KIND_DELETE: u8 = 2;
const KIND_SNAPSHOT_VERSION: u8 = 3;

/// `MetaStore` in a folder. One process at a time: the data folder's lock sees to that.
#[derive(Debug)]
pub(crate) struct LocalMetaStore {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    entries: BTreeMap<String, Entry>,
    last_version: u64,
    log: Arc<dyn DiskFile>,
    /// 0 until the mark and the first change are written, together: a crash must not leave one without the other.
    log_bytes: u64,
    live_bytes: u64,
    /// The log and its name are durable. Not known of one that was found: whoever wrote it may have been killed
    /// before the sync. They become so with the first change.
    settled: bool,
    /// Set by a failed write: what is on disk is unknown, so nothing more is written before a restart.
    failed: bool,
}

/// One change, as it stands in a frame.
enum Change<'a> {
    Put { key: &'a str, value: &'a [u8] },
    Delete { key: &'a str },
    SnapshotVersion,
}

impl LocalMetaStore {
    /// Opens the store, making the folder if it is missing; its parent must exist.
    pub(crate) fn open(disk: Arc<dyn Disk>, folder: &Path) -> Result<Self, MetaError> {
        let storage = |error| MetaError::Storage { path: folder.to_owned(), error };
        make_folder(&*disk, folder).map_err(storage)?;
        let (mut entries, mut last_version) = (BTreeMap::new(), 0);
        let snapshot = folder.join("snapshot");
        if let Some(bytes) = read_if_there(&*disk, &snapshot).map_err(storage)? {
            replay(&snapshot, &bytes, Tail::Whole, &mut entries, &mut last_version)?;
        }
        let path = folder.join("log");
        let bytes = read_if_there(&*disk, &path).map_err(storage)?.unwrap_or_default();
        let valid = replay(&path, &bytes, Tail::MayBeTorn, &mut entries, &mut last_version)?;
        let log = open_log(&*disk, &path, &bytes, valid).map_err(storage)?;
        let live_bytes = entries.iter().map(|(key, entry)| live_size(key, &entry.value)).sum();
        let log_bytes = valid as u64;
        let state =
            State { entries, last_version, log, log_bytes, live_bytes, settled: false, failed: false };
        Ok(Self { disk, folder: folder.to_owned(), state: Mutex::new(state) })
    }

    fn storage(&self, error: io::Error) -> MetaError {
        MetaError::Storage { path: self.folder.clone(), error }
    }

    fn commit(&self, state: &mut State, change: &Change<'_>) -> Result<u64, MetaError> {
        if state.failed {
            return Err(self.storage(io::Error::other("an earlier write failed; restart the broker")));
        }
        let version = state.last_version + 1;
        let mut frame = frame(version, change);
        if state.log_bytes == 0 {
            frame.splice(0..0, *MAGIC);
        }
        let written = Self::settle(state).and_then(|()| {
            append(&*state.log, &frame, state.log_bytes)?;
            state.log.sync_data()
        });
        let written = written.and_then(|()| self.settle_name(state));
        if let Err(error) = written {
            state.failed = true;
            return Err(self.storage(error));
        }
        state.last_version = version;
        state.log_bytes += frame.len() as u64;
        match change {
            Change::Put { key, value } => {
                state.live_bytes += live_size(key, value);
                let entry = Entry { value: Bytes::copy_from_slice(value), version };
                state.replace((*key).to_owned(), Some(entry));
            }
            Change::Delete { key } => state.replace((*key).to_owned(), None),
            Change::SnapshotVersion => {}
        }
        if state.log_bytes > COMPACT_BYTES_MIN && state.log_bytes > 2 * state.live_bytes {
            self.compact(state)?;
        }
        Ok(version)
    }

    /// Makes durable what was found, before anything is written behind it: only the last frame may be torn.
    fn settle(state: &State) -> io::Result<()> {
        match state.settled || state.log_bytes == 0 {
            true => Ok(()),
            false => state.log.sync_data(),
        }
    }

    /// After the first change: one commit of the file system's journal for both.
    fn settle_name(&self, state: &mut State) -> io::Result<()> {
        if !state.settled {
            self.disk.sync_dir(&self.folder)?;
            state.settled = true;
        }
        Ok(())
    }

    /// Writes everything alive to a new snapshot, then starts an empty log.
    fn compact(&self, state: &mut State) -> Result<(), MetaError> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(frame(state.last_version, &Change::SnapshotVersion));
        for (key, entry) in &state.entries {
            bytes.extend(frame(entry.version, &Change::Put { key, value: &entry.value }));
        }
        let replaced = self.replace_file("snapshot", &bytes).and_then(|_| self.replace_file("log", MAGIC));
        match replaced {
            Ok(log) => {
                (state.log, state.log_bytes) = (log, MAGIC.len() as u64);
                Ok(())
            }
            Err(error) => {
                state.failed = true;
                Err(self.storage(error))
            }
        }
    }

    /// Puts a file in the place of another, whole or not at all.
    fn replace_file(&self, name: &str, bytes: &[u8]) -> io::Result<Arc<dyn DiskFile>> {
        let draft = self.folder.join(format!("{name}.new"));
        let file = self.disk.open(&draft, IfMissing::Create)?;
        // What an earlier attempt has left.
        file.truncate(0)?;
        append(&*file, bytes, 0)?;
        file.sync_data()?;
        self.disk.rename(&draft, &self.folder.join(name))?;
        self.disk.sync_dir(&self.folder)?;
        Ok(file)
    }
}

impl State {
    fn check(&self, key: &str, expect: Expect) -> Result<(), MetaError> {
        let found = self.entries.get(key).map(|entry| entry.version);
        let expected = match expect {
            Expect::Absent => None,
            Expect::Version(version) => Some(version),
        };
        match found == expected {
            true => Ok(()),
            false => Err(MetaError::Conflict { key: key.to_owned() }),
        }
    }

    /// Replaces or removes an entry; the new one, if any, is counted already.
    fn replace(&mut self, key: String, next: Option<Entry>) {
        let size = |value: &Bytes| live_size(&key, value);
        let gone = self.entries.get(&key).map_or(0, |entry| size(&entry.value));
        self.live_bytes -= gone;
        match next {
            Some(entry) => self.entries.insert(key, entry),
            None => self.entries.remove(&key),
        };
    }
}

impl MetaStore for LocalMetaStore {
    fn get(&self, key: &str) -> Result<Option<Entry>, MetaError> {
        Ok(self.state.lock().entries.get(key).cloned())
    }

    fn put(&self, key: &str, value: Bytes, expect: Expect) -> Result<u64, MetaError> {
        let mut state = self.state.lock();
        state.check(key, expect)?;
        self.commit(&mut state, &Change::Put { key, value: &value })
    }

    fn delete(&self, key: &str, expect: Expect) -> Result<(), MetaError> {
        let mut state = self.state.lock();
        state.check(key, expect)?;
        self.commit(&mut state, &Change::Delete { key }).map(drop)
    }

    fn version(&self) -> u64 {
        self.state.lock().last_version
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Entry)>, MetaError> {
        let state = self.state.lock();
        let from = state.entries.range(prefix.to_owned()..);
        let named = from.take_while(|(key, _)| key.starts_with(prefix));
        Ok(named.map(|(key, entry)| (key.clone(), entry.clone())).collect())
    }
}

fn live_size(key: &str, value: &[u8]) -> u64 {
    (PREFIX_BYTES + PAYLOAD_BYTES_MIN + key.len() + value.len()) as u64
}

fn frame(version: u64, change: &Change<'_>) -> Vec<u8> {
    let (kind, key, value): (u8, &str, &[u8]) = match change {
        Change::Put { key, value } => (KIND_PUT, key, value),
        Change::Delete { key } => (KIND_DELETE, key, &[]),
        Change::SnapshotVersion => (KIND_SNAPSHOT_VERSION, "", &[]),
    };
    let length = PAYLOAD_BYTES_MIN + key.len() + value.len();
    let mut frame = Vec::with_capacity(PREFIX_BYTES + length);
    frame.put_u32(u32::try_from(length).expect("an entry is far smaller than 4 GiB"));
    frame.put_u32(0);
    frame.put_u64(version);
    frame.put_u8(kind);
    frame.put_u16(u16::try_from(key.len()).expect("keys are a prefix and a topic name"));
    frame.put_slice(key.as_bytes());
    frame.put_slice(value);
    let crc = crc32c(&frame[PREFIX_BYTES..]);
    frame[4..PREFIX_BYTES].copy_from_slice(&crc.to_be_bytes());
    frame
}

/// Whether a file's last frame may be incomplete.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tail {
    Whole,
    MayBeTorn,
}

/// Applies the frames of a file and returns how many of its bytes are valid.
fn replay(
    path: &Path,
    bytes: &[u8],
    tail: Tail,
    entries: &mut BTreeMap<String, Entry>,
    last_version: &mut u64,
) -> Result<usize, MetaError> {
    let damaged = |at: usize, reason| MetaError::Damaged { path: path.to_owned(), at: at as u64, reason };
    if !bytes.starts_with(MAGIC) {
        if tail == Tail::MayBeTorn && is_torn(bytes) {
            return Ok(0);
        }
        return Err(damaged(0, "it does not start with the mark of a metadata file"));
    }
    let skip_to = *last_version;
    let mut at = MAGIC.len();
    while at < bytes.len() {
        let rest = &bytes[at..];
        let payload = match payload(rest) {
            Some(payload) => payload,
            None if tail == Tail::MayBeTorn && is_torn(rest) => return Ok(at),
            None => return Err(damaged(at, "a frame's checksum does not match its bytes")),
        };
        apply(payload, skip_to, entries, last_version)
            .ok_or_else(|| damaged(at, "a frame makes no sense"))?;
        at += PREFIX_BYTES + payload.len();
    }
    Ok(at)
}

/// The payload of the frame at the start of `rest`, if it is whole and its CRC is right.
fn payload(rest: &[u8]) -> Option<&[u8]> {
    let (mut prefix, after) = rest.split_at_checked(PREFIX_BYTES)?;
    let length = usize::try_from(prefix.get_u32()).ok()?;
    let payload = after.get(..length)?;
    (length >= PAYLOAD_BYTES_MIN && crc32c(payload) == prefix.get_u32()).then_some(payload)
}

/// A frame that was being written when the machine stopped: no whole one follows it, because each is synced
/// before the next is written. Its sectors arrive in any order: even its length may be missing.
fn is_torn(rest: &[u8]) -> bool {
    (0..rest.len()).all(|at| payload(&rest[at..]).is_none())
}

fn apply(
    mut payload: &[u8],
    skip_to: u64,
    entries: &mut BTreeMap<String, Entry>,
    last_version: &mut u64,
) -> Option<()> {
    let (version, kind) = (payload.get_u64(), payload.get_u8());
    let key_length = usize::from(payload.get_u16());
    let (key, value) = payload.split_at_checked(key_length)?;
    let key = std::str::from_utf8(key).ok()?;
    if version <= skip_to {
        return Some(());
    }
    *last_version = version.max(*last_version);
    match kind {
        KIND_PUT => {
            entries.insert(key.to_owned(), Entry { value: Bytes::copy_from_slice(value), version });
        }
        KIND_DELETE => {
            entries.remove(key);
        }
        KIND_SNAPSHOT_VERSION => {}
        _ => return None,
    }
    Some(())
}

fn make_folder(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    match disk.create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn read_if_there(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, IfMissing::Fail) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let length = usize::try_from(file.bytes()?).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let mut bytes = vec![0; length];
    // A sync that failed leaves memory showing what the device does not have, even to the next process.
    let read = file.read_device_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(Some(bytes))
}

/// Opens the log for appending after its valid bytes; a torn frame is cut off first.
fn open_log(disk: &dyn Disk, path: &Path, bytes: &[u8], valid: usize) -> io::Result<Arc<dyn DiskFile>> {
    let log = disk.open(path, IfMissing::Create)?;
    if valid < bytes.len() {
        tracing::warn!(
            path = %path.display(), cut = bytes.len() - valid,
            "the last metadata change was not written whole and was never acknowledged; it is cut off"
        );
        // Durable before the next frame is written, or a crash could leave that frame in front of the old rest.
        log.truncate(valid as u64)?;
        log.sync_data()?;
    }
    Ok(log)
}

fn append(file: &dyn DiskFile, bytes: &[u8], position: u64) -> io::Result<()> {
    file.write_at(&mut [IoSlice::new(bytes)], position)
}

#[cfg(test)]
mod tests;
