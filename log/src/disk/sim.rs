//! A disk in memory that loses what a real one may lose.
//!
//! Every file has what the process sees and what would survive; every folder's names too. A write reaches
//! the second only by `sync_data`, a name only by `sync_dir`. A power cut keeps what survived and, if asked
//! to be nasty, a random part of the rest: whole writes, torn ones, later ones without earlier ones. A failed
//! sync drops what it should have written and says nothing about it the next time, as Linux does: the process
//! goes on seeing it until it has memory drop it, and then sees what was durable before.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Disk, DiskFile, IfMissing, Space};

/// The unit in which a write can be torn.
const SECTOR_BYTES: usize = 512;

/// What a power cut leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerCut {
    /// Nothing.
    LosesUnsynced,
    /// A part that the seed chooses, in any order and torn.
    KeepsSome {
        /// Chooses the part.
        seed: u64,
    },
}

/// A file system in memory. Clones share it.
#[derive(Clone, Debug)]
pub struct SimDisk {
    world: Arc<Mutex<World>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Dir,
    File(usize),
}

#[derive(Debug)]
enum Unsynced {
    Write { position: usize, bytes: Vec<u8> },
    Truncate { bytes: usize },
}

impl Unsynced {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { position, bytes } => {
                let end = position + bytes.len();
                content.resize(content.len().max(end), 0);
                content[*position..end].copy_from_slice(bytes);
            }
            Self::Truncate { bytes } => content.resize(*bytes, 0),
        }
    }
}

#[derive(Debug, Default)]
struct Inode {
    seen: Vec<u8>,
    /// What is seen once memory has dropped what a failed sync lost; `None` if there is no difference.
    stored: Option<Vec<u8>>,
    durable: Vec<u8>,
    unsynced: Vec<Unsynced>,
}

impl Inode {
    fn stored(&self) -> &Vec<u8> {
        self.stored.as_ref().unwrap_or(&self.seen)
    }

    fn change(&mut self, change: Unsynced) {
        change.apply(&mut self.seen);
        if let Some(stored) = &mut self.stored {
            change.apply(stored);
        }
        self.unsynced.push(change);
    }

    fn sync(&mut self) {
        self.durable = self.stored().clone();
        self.unsynced.clear();
    }

    /// What waits to be written is lost, and looks as if it had been written. The length is kept.
    fn fail_sync(&mut self) {
        let mut stored = self.durable.clone();
        stored.resize(self.seen.len(), 0);
        self.stored = Some(stored);
        self.unsynced.clear();
    }

    fn forget(&mut self, range: &Range<u64>) {
        let end = self.seen.len() as u64;
        let at = |position: u64| usize::try_from(position.min(end)).expect("small in tests");
        if let Some(stored) = &self.stored
            && range.start < range.end
        {
            let range = at(range.start)..at(range.end);
            self.seen[range.clone()].copy_from_slice(&stored[range]);
        }
    }
}

#[derive(Debug)]
struct World {
    seen: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    inodes: Vec<Inode>,
    /// Handles from before a power cut are dead.
    boot: u64,
    /// Calls that change something, so far.
    changes: u64,
    power_fails_at: Option<u64>,
    failing_sync: Option<u64>,
    failing_write: Option<u64>,
    failing_read: Option<u64>,
    failing_change: Option<u64>,
    /// Bytes that all files together may have.
    capacity: Option<u64>,
    syncs_lie: bool,
    is_cold: bool,
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimDisk {
    /// An empty disk with a root folder.
    #[must_use]
    pub fn new() -> Self {
        let root = BTreeMap::from([(PathBuf::from("/"), Node::Dir)]);
        let world = World {
            seen: root.clone(),
            durable: root,
            inodes: Vec::new(),
            boot: 0,
            changes: 0,
            power_fails_at: None,
            failing_sync: None,
            failing_write: None,
            failing_read: None,
            failing_change: None,
            capacity: None,
            syncs_lie: false,
            is_cold: false,
        };
        Self { world: Arc::new(Mutex::new(world)) }
    }

    /// Calls so far that changed something or made it durable.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.world.lock().changes
    }

    /// The power fails in the middle of the change of this number, counted as `changes` does. Every call
    /// fails from then on, until `power_cut` has been called.
    pub fn fail_power_at(&self, change: u64) {
        self.world.lock().power_fails_at = Some(change);
    }

    /// Takes the power away and gives it back. Open files are gone.
    pub fn power_cut(&self, cut: PowerCut) {
        let world = &mut *self.world.lock();
        world.boot += 1;
        world.power_fails_at = None;
        world.failing_sync = None;
        world.failing_write = None;
        world.failing_read = None;
        world.failing_change = None;
        let mut dice = match cut {
            PowerCut::LosesUnsynced => None,
            PowerCut::KeepsSome { seed } => Some(Dice(seed)),
        };
        for inode in &mut world.inodes {
            let mut content = inode.durable.clone();
            for change in inode.unsynced.drain(..) {
                if let Some(change) = dice.as_mut().and_then(|dice| dice.survives(change)) {
                    change.apply(&mut content);
                }
            }
            inode.seen.clone_from(&content);
            inode.stored = None;
            inode.durable = content;
        }
        let mut names = world.durable.clone();
        if let Some(dice) = &mut dice {
            let (seen, durable) = (&world.seen, &world.durable);
            let paths: std::collections::BTreeSet<_> = seen.keys().chain(durable.keys()).collect();
            for path in paths.into_iter().filter(|path| seen.get(*path) != durable.get(*path)) {
                let keep = if dice.flip() { seen.get(path) } else { durable.get(path) };
                match keep {
                    Some(node) => names.insert(path.clone(), *node),
                    None => names.remove(path),
                };
            }
        }
        // What lies in a folder that is gone is gone too; a folder sorts before what is in it.
        let mut reachable = BTreeMap::new();
        for (path, node) in names {
            if path.parent().is_none_or(|parent| reachable.get(parent) == Some(&Node::Dir)) {
                reachable.insert(path, node);
            }
        }
        world.seen.clone_from(&reachable);
        world.durable = reachable;
    }

    /// The sync of this number, counted from 0 from now on, fails, and what it should have made durable is
    /// lost without further notice: it is seen until memory drops it.
    pub fn fail_sync(&self, nth: u64) {
        self.world.lock().failing_sync = Some(nth);
    }

    /// The write of this number, counted from 0 from now on, fails half way.
    pub fn fail_write(&self, nth: u64) {
        self.world.lock().failing_write = Some(nth);
    }

    /// The read of this number, counted from 0 from now on, fails.
    pub fn fail_read(&self, nth: u64) {
        self.world.lock().failing_read = Some(nth);
    }

    /// The change of this number, counted from 0 from now on, fails, whatever it is: a name made, given or
    /// removed, a write, a cut, a sync of a file or a folder.
    pub fn fail_change(&self, nth: u64) {
        self.world.lock().failing_change = Some(nth);
    }

    /// Whether the fault asked for by one of the `fail_` calls is still to come. A test whose fault did not
    /// come shows nothing.
    #[must_use]
    pub fn fault_is_pending(&self) -> bool {
        let world = self.world.lock();
        [world.failing_sync, world.failing_write, world.failing_read, world.failing_change]
            .iter()
            .any(Option::is_some)
    }

    /// How many bytes all files together may have from now on; `None` is no bound. A write beyond it is done
    /// in part and fails for lack of space.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.world.lock().capacity = bytes;
    }

    /// Bytes of all files that have a name.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.world.lock().used_bytes()
    }

    /// Syncs do nothing and report success: a fault to show that a test would notice.
    pub fn make_syncs_lie(&self) {
        self.world.lock().syncs_lie = true;
    }

    /// From now on nothing is in memory: reads that must not wait fail.
    pub fn chill(&self) {
        self.world.lock().is_cold = true;
    }

    /// The bytes of a file as the process sees them.
    #[must_use]
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let world = self.world.lock();
        match world.seen.get(path)? {
            Node::File(inode) => Some(world.inodes[*inode].seen.clone()),
            Node::Dir => None,
        }
    }

    /// Replaces the bytes of a file, durably, as damage from outside would.
    pub fn overwrite(&self, path: &Path, content: &[u8]) {
        let mut world = self.world.lock();
        if let Some(Node::File(inode)) = world.seen.get(path).copied() {
            let inode = &mut world.inodes[inode];
            inode.seen = content.to_vec();
            inode.stored = None;
            inode.durable = content.to_vec();
            inode.unsynced.clear();
        }
    }
}

/// A small generator: tests print its seed.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    /// Splitmix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn flip(&mut self) -> bool {
        self.next() & 1 == 0
    }

    /// The change, whole or torn, or nothing.
    fn survives(&mut self, change: Unsynced) -> Option<Unsynced> {
        match (self.next() % 3, change) {
            (0, _) => None,
            (1, Unsynced::Write { position, mut bytes }) => {
                let sectors = bytes.len().div_ceil(SECTOR_BYTES) as u64;
                let kept = usize::try_from(self.next() % (sectors + 1)).expect("small") * SECTOR_BYTES;
                bytes.truncate(kept);
                Some(Unsynced::Write { position, bytes })
            }
            (_, change) => Some(change),
        }
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

impl World {
    /// Counts a change. `Err` if the power is off, or fails now.
    fn change(&mut self) -> io::Result<()> {
        self.changes += 1;
        self.is_on()?;
        match counts_down(&mut self.failing_change) {
            true => Err(io::Error::other("injected error")),
            false => Ok(()),
        }
    }

    fn used_bytes(&self) -> u64 {
        let files = self.seen.values().filter_map(|node| match node {
            Node::File(inode) => Some(self.inodes[*inode].seen.len() as u64),
            Node::Dir => None,
        });
        files.sum()
    }

    /// How many of these bytes fit.
    fn fitting(&self, inode: usize, position: usize, bytes: usize) -> usize {
        let Some(capacity) = self.capacity else { return bytes };
        let free = usize::try_from(capacity.saturating_sub(self.used_bytes())).unwrap_or(usize::MAX);
        let held = self.inodes[inode].seen.len().saturating_sub(position);
        bytes.min(held.saturating_add(free))
    }

    fn read(
        &mut self,
        content: impl Fn(&Inode) -> &Vec<u8>,
        read: (usize, &mut [u8], u64),
    ) -> io::Result<usize> {
        let (inode, buffer, position) = read;
        self.is_on()?;
        if counts_down(&mut self.failing_read) {
            return Err(io::Error::other("injected read error"));
        }
        let content = content(&self.inodes[inode]);
        let from = usize::try_from(position).map_or(content.len(), |at| at.min(content.len()));
        let bytes = buffer.len().min(content.len() - from);
        buffer[..bytes].copy_from_slice(&content[from..from + bytes]);
        Ok(bytes)
    }

    fn is_on(&self) -> io::Result<()> {
        match self.power_fails_at {
            Some(at) if self.changes > at => Err(power_is_off()),
            _ => Ok(()),
        }
    }

    fn node(&self, path: &Path) -> io::Result<Node> {
        self.seen.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn parent_is_there(&self, path: &Path) -> io::Result<()> {
        match path.parent().map(|parent| self.node(parent)) {
            Some(Ok(Node::Dir)) => Ok(()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world.lock();
        world.is_on()?;
        if world.seen.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        world.parent_is_there(path)?;
        world.change()?;
        world.seen.insert(path.to_owned(), Node::Dir);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let world = self.world.lock();
        world.is_on()?;
        world.node(dir)?;
        let names = world.seen.keys().filter(|path| path.parent() == Some(dir));
        Ok(names.filter_map(|path| path.file_name().map(OsString::from)).collect())
    }

    fn open(&self, path: &Path, missing: IfMissing) -> io::Result<Arc<dyn DiskFile>> {
        let mut world = self.world.lock();
        world.is_on()?;
        let inode = match (world.node(path), missing) {
            (Ok(Node::File(inode)), _) => inode,
            (Ok(Node::Dir), _) => return Err(io::ErrorKind::IsADirectory.into()),
            (Err(error), IfMissing::Fail) => return Err(error),
            (Err(_), IfMissing::Create) => {
                world.parent_is_there(path)?;
                world.change()?;
                world.inodes.push(Inode::default());
                let inode = world.inodes.len() - 1;
                world.seen.insert(path.to_owned(), Node::File(inode));
                inode
            }
        };
        Ok(Arc::new(SimFile { disk: self.clone(), inode, boot: world.boot }))
    }

    fn file_bytes(&self, path: &Path) -> io::Result<u64> {
        let world = self.world.lock();
        world.is_on()?;
        match world.node(path)? {
            Node::File(inode) => Ok(world.inodes[inode].seen.len() as u64),
            Node::Dir => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world.lock();
        world.change()?;
        let node = world.node(from)?;
        world.seen.remove(from);
        world.seen.insert(to.to_owned(), node);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world.lock();
        world.change()?;
        world.seen.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world.lock();
        world.change()?;
        world.node(path)?;
        world.seen.retain(|held, _| !held.starts_with(path));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world.lock();
        world.change()?;
        world.node(path)?;
        if !world.syncs_lie {
            let in_dir = |held: &PathBuf| held.parent() == Some(path);
            world.durable.retain(|held, _| !in_dir(held));
            let names: Vec<_> = world.seen.iter().filter(|(held, _)| in_dir(held)).collect();
            let names: Vec<_> = names.into_iter().map(|(held, node)| (held.clone(), *node)).collect();
            world.durable.extend(names);
        }
        Ok(())
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let world = self.world.lock();
        world.is_on()?;
        world.node(dir)?;
        let total_bytes = world.capacity.unwrap_or(1 << 40);
        Ok(Space { free_bytes: total_bytes.saturating_sub(world.used_bytes()), total_bytes })
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: usize,
    boot: u64,
}

impl SimFile {
    fn with<T>(&self, act: impl FnOnce(&mut World) -> io::Result<T>) -> io::Result<T> {
        let world = &mut *self.disk.world.lock();
        match world.boot == self.boot {
            true => act(world),
            false => Err(power_is_off()),
        }
    }
}

fn counts_down(nth: &mut Option<u64>) -> bool {
    match nth {
        Some(0) => nth.take().is_some(),
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.with(|world| world.read(|inode| &inode.seen, (self.inode, buffer, position)))
    }

    fn try_read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        match self.with(|world| Ok(world.is_cold))? {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => self.read_at(buffer, position),
        }
    }

    fn write_at(&self, parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        self.with(|world| {
            world.is_on()?;
            let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
            let powered = world.change();
            let fails = counts_down(&mut world.failing_write);
            if fails {
                bytes.truncate(bytes.len() / 2);
            }
            let position = usize::try_from(position).expect("small in tests");
            let fitting = world.fitting(self.inode, position, bytes.len());
            let is_full = fitting < bytes.len();
            bytes.truncate(fitting);
            // What is cut off by the power may have been written, in whole or in part.
            world.inodes[self.inode].change(Unsynced::Write { position, bytes });
            powered?;
            match (fails, is_full) {
                (true, _) => Err(io::Error::other("injected write error")),
                (false, true) => Err(io::ErrorKind::StorageFull.into()),
                (false, false) => Ok(()),
            }
        })
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.with(|world| {
            world.is_on()?;
            world.change()?;
            let cut = Unsynced::Truncate { bytes: usize::try_from(bytes).expect("small in tests") };
            world.inodes[self.inode].change(cut);
            Ok(())
        })
    }

    fn preallocate(&self, _range: Range<u64>) -> io::Result<()> {
        self.with(|world| world.is_on())
    }

    fn bytes(&self) -> io::Result<u64> {
        self.with(|world| {
            world.is_on()?;
            Ok(world.inodes[self.inode].seen.len() as u64)
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|world| {
            let changed = world.change();
            world.is_on()?;
            let (fails, lies) = (counts_down(&mut world.failing_sync), world.syncs_lie);
            let inode = &mut world.inodes[self.inode];
            if fails || changed.is_err() {
                inode.fail_sync();
                return Err(io::Error::other("injected sync error"));
            }
            if !lies {
                inode.sync();
            }
            Ok(())
        })
    }

    fn forget(&self, range: Range<u64>) -> io::Result<()> {
        self.with(|world| {
            world.is_on()?;
            world.inodes[self.inode].forget(&range);
            Ok(())
        })
    }

    fn read_device_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.with(|world| world.read(Inode::stored, (self.inode, buffer, position)))
    }

    fn is_resident(&self, _position: u64, _bytes: usize) -> bool {
        true
    }

    fn bring_in(&self, _position: u64, _bytes: usize) -> io::Result<()> {
        Ok(())
    }

    fn as_file(&self) -> Option<&Arc<File>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> (SimDisk, Arc<dyn DiskFile>) {
        let disk = SimDisk::new();
        let file = disk.open(Path::new("/f"), IfMissing::Create).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        (disk, file)
    }

    fn content(file: &dyn DiskFile) -> Vec<u8> {
        let mut bytes = vec![0; 100];
        let read = file.read_at(&mut bytes, 0).unwrap();
        bytes.truncate(read);
        bytes
    }

    #[test]
    fn what_a_failed_sync_lost_looks_written_until_memory_drops_it() {
        let (disk, file) = file();
        file.write_at(&mut [IoSlice::new(b"kept")], 0).unwrap();
        file.sync_data().unwrap();
        file.write_at(&mut [IoSlice::new(b" lost")], 4).unwrap();
        disk.fail_sync(0);
        file.sync_data().unwrap_err();
        assert!(!disk.fault_is_pending());
        file.write_at(&mut [IoSlice::new(b" later")], 9).unwrap();
        file.sync_data().unwrap();
        assert_eq!(content(&*file), b"kept lost later");
        let mut device = [0; 15];
        file.read_device_at(&mut device, 0).unwrap();
        assert_eq!(&device, b"kept\0\0\0\0\0 later");
        file.forget(0..100).unwrap();
        assert_eq!(content(&*file), device);
        disk.power_cut(PowerCut::LosesUnsynced);
        assert_eq!(disk.content(Path::new("/f")).unwrap(), device);
    }

    #[test]
    fn a_full_disk_takes_what_fits_and_says_so() {
        let (disk, file) = file();
        disk.set_capacity(Some(6));
        let error = file.write_at(&mut [IoSlice::new(b"too many")], 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(
            (content(&*file), disk.space(Path::new("/")).unwrap().free_bytes),
            (b"too ma".to_vec(), 0)
        );
        file.write_at(&mut [IoSlice::new(b"over")], 1).unwrap();
        disk.set_capacity(None);
        file.write_at(&mut [IoSlice::new(b"!")], 6).unwrap();
        assert_eq!(content(&*file), b"tovera!");
    }

    #[test]
    fn a_change_and_a_read_fail_when_it_is_their_turn() {
        let (disk, file) = file();
        disk.fail_change(1);
        file.write_at(&mut [IoSlice::new(b"1")], 0).unwrap();
        disk.sync_dir(Path::new("/")).unwrap_err();
        disk.sync_dir(Path::new("/")).unwrap();
        disk.fail_read(0);
        file.read_at(&mut [0], 0).unwrap_err();
        file.read_at(&mut [0], 0).unwrap();
        assert!(!disk.fault_is_pending());
    }
}
