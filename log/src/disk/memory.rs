//! Files in the memory of this process, for a broker that is to leave nothing behind.
//!
//! No faults, no descriptors, no waiting: what `sync_data` promises holds as long as the disk does, and no longer. A
//! file that was removed keeps its memory until the last handle to it is dropped, as on any file system.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::{Mutex, RwLock};

use super::{Disk, DiskFile, IfMissing, Space};

/// A file grows by pieces of this size, so that it is never moved as a whole.
const PIECE_BYTES: usize = 256 << 10;

/// A file system in memory. Clones share it; the memory is given back with the last clone and the last open file.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// A folder sorts before what is in it.
    names: Mutex<BTreeMap<PathBuf, Node>>,
    held: Arc<AtomicU64>,
}

#[derive(Clone, Debug)]
enum Node {
    Dir,
    File(Arc<MemoryFile>),
}

#[derive(Debug)]
struct MemoryFile {
    /// Every piece but the last is full.
    pieces: RwLock<Vec<Vec<u8>>>,
    /// Bytes of all files, for `space`.
    held: Arc<AtomicU64>,
}

impl Default for Shared {
    fn default() -> Self {
        let root = (PathBuf::from("/"), Node::Dir);
        Self { names: Mutex::new(BTreeMap::from([root])), held: Arc::default() }
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl MemoryDisk {
    /// Bytes of all files, removed ones that are still open included.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.shared.held.load(Relaxed)
    }

    fn file(&self, path: &Path) -> io::Result<Arc<MemoryFile>> {
        match self.shared.names.lock().get(path) {
            Some(Node::File(file)) => Ok(Arc::clone(file)),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(not_found()),
        }
    }
}

fn parent_is_there(names: &BTreeMap<PathBuf, Node>, path: &Path) -> io::Result<()> {
    match path.parent().and_then(|parent| names.get(parent)) {
        Some(Node::Dir) => Ok(()),
        Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
        None => Err(not_found()),
    }
}

impl Disk for MemoryDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut names = self.shared.names.lock();
        if names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        parent_is_there(&names, path)?;
        names.insert(path.to_owned(), Node::Dir);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let names = self.shared.names.lock();
        match names.get(dir) {
            Some(Node::Dir) => {}
            Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
            None => return Err(not_found()),
        }
        let below = names.range(dir.to_owned()..).map(|(path, _)| path);
        let below = below.take_while(|path| path.starts_with(dir)).filter(|path| path.parent() == Some(dir));
        Ok(below.filter_map(|path| path.file_name().map(OsString::from)).collect())
    }

    fn open(&self, path: &Path, missing: IfMissing) -> io::Result<Arc<dyn DiskFile>> {
        match (self.file(path), missing) {
            (Ok(file), _) => Ok(file),
            (Err(error), IfMissing::Create) if error.kind() == io::ErrorKind::NotFound => {
                let mut names = self.shared.names.lock();
                parent_is_there(&names, path)?;
                let held = Arc::clone(&self.shared.held);
                let file = Arc::new(MemoryFile { pieces: RwLock::default(), held });
                // Somebody may have made it since.
                let node = names.entry(path.to_owned()).or_insert(Node::File(file));
                match node {
                    Node::File(file) => Ok(Arc::clone(file) as Arc<dyn DiskFile>),
                    Node::Dir => Err(io::ErrorKind::IsADirectory.into()),
                }
            }
            (Err(error), _) => Err(error),
        }
    }

    fn file_bytes(&self, path: &Path) -> io::Result<u64> {
        self.file(path)?.bytes()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let file = self.file(from)?;
        let mut names = self.shared.names.lock();
        parent_is_there(&names, to)?;
        if matches!(names.get(to), Some(Node::Dir)) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        names.remove(from);
        names.insert(to.to_owned(), Node::File(file));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.file(path)?;
        self.shared.names.lock().remove(path);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut names = self.shared.names.lock();
        if !names.contains_key(path) {
            return Err(not_found());
        }
        names.retain(|other, _| !other.starts_with(path));
        Ok(())
    }

    /// Names are as durable as they can be from the moment they are made.
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.shared.names.lock().get(path).map(drop).ok_or_else(not_found)
    }

    /// What this disk holds is all that it knows to be taken of the machine's memory.
    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.sync_dir(dir)?;
        let machine = rustix::system::sysinfo();
        let total_bytes = machine.totalram.saturating_mul(u64::from(machine.mem_unit));
        Ok(Space { free_bytes: total_bytes.saturating_sub(self.held_bytes()), total_bytes })
    }
}

/// Where a position lies: which piece, and where in it.
fn place(position: u64) -> io::Result<(usize, usize)> {
    let position = usize::try_from(position).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    Ok((position / PIECE_BYTES, position % PIECE_BYTES))
}

fn length(pieces: &[Vec<u8>]) -> u64 {
    pieces.last().map_or(0, |last| ((pieces.len() - 1) * PIECE_BYTES + last.len()) as u64)
}

/// Makes the file so long; what is new is zero.
fn set_length(pieces: &mut Vec<Vec<u8>>, bytes: u64) -> io::Result<()> {
    let (whole, rest) = place(bytes)?;
    pieces.truncate(whole + usize::from(rest > 0));
    for index in 0..=whole {
        let length = if index < whole { PIECE_BYTES } else { rest };
        match pieces.get_mut(index) {
            Some(piece) => piece.resize(length, 0),
            None if length > 0 => pieces.push(vec![0; length]),
            None => {}
        }
    }
    if let Some(last) = pieces.last_mut() {
        last.shrink_to_fit();
    }
    Ok(())
}

impl DiskFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let pieces = self.pieces.read();
        let (mut piece, mut at) = place(position)?;
        let mut filled = 0;
        while filled < buffer.len() {
            let Some(rest) = pieces.get(piece).and_then(|piece| piece.get(at..)) else { break };
            let bytes = rest.len().min(buffer.len() - filled);
            if bytes == 0 {
                break;
            }
            buffer[filled..filled + bytes].copy_from_slice(&rest[..bytes]);
            filled += bytes;
            (piece, at) = (piece + 1, 0);
        }
        Ok(filled)
    }

    fn try_read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.read_at(buffer, position)
    }

    fn write_at(&self, parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut pieces = self.pieces.write();
        let before = length(&pieces);
        if position > before {
            set_length(&mut pieces, position)?;
        }
        let (mut piece, mut at) = place(position)?;
        for part in parts {
            let mut part: &[u8] = part;
            while !part.is_empty() {
                if piece == pieces.len() {
                    pieces.push(Vec::new());
                }
                let content = &mut pieces[piece];
                let (now, later) = part.split_at(part.len().min(PIECE_BYTES - at));
                let (over, new) = now.split_at(now.len().min(content.len() - at));
                content[at..at + over.len()].copy_from_slice(over);
                content.extend_from_slice(new);
                at += now.len();
                if at == PIECE_BYTES {
                    (piece, at) = (piece + 1, 0);
                }
                part = later;
            }
        }
        self.held.fetch_add(length(&pieces) - before, Relaxed);
        Ok(())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut pieces = self.pieces.write();
        let before = length(&pieces);
        set_length(&mut pieces, bytes)?;
        // Wraps where the file became shorter, and so comes out right.
        self.held.fetch_add(bytes.wrapping_sub(before), Relaxed);
        Ok(())
    }

    fn preallocate(&self, _range: Range<u64>) -> io::Result<()> {
        Ok(())
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(length(&self.pieces.read()))
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write_out(&self, _range: Range<u64>) {}

    fn start_writing(&self, _end: u64) {}

    fn is_resident(&self, _position: u64, _bytes: usize) -> bool {
        true
    }

    fn bring_in(&self, _position: u64, _bytes: usize) -> io::Result<()> {
        Ok(())
    }

    fn forget(&self, _range: Range<u64>) -> io::Result<()> {
        Ok(())
    }

    fn read_device_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.read_at(buffer, position)
    }

    fn as_file(&self) -> Option<&Arc<File>> {
        None
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        self.held.fetch_sub(length(self.pieces.get_mut()), Relaxed);
    }
}

#[cfg(test)]
mod tests;
