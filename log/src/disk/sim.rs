//! A disk in memory that loses what a real one may lose.
//!
//! Every file has what the process sees and what would survive; every folder's names too. A write reaches
//! the second only by `sync_data`, a name only by `sync_dir`. A power cut keeps what survived and, if asked
//! to be nasty, a random part of the rest: whole writes, torn ones, later ones without earlier ones. A failed
//! sync drops what it should have written and says nothing about it the next time, as Linux does: the process
//! goes on seeing it until it has memory drop it, and then sees what was durable before. The device may damage
//! what was durable, too. A killed process loses nothing but its open files.
//!
//! What is durable is not kept apart but found by taking back what was not synced, so that a sync costs
//! nothing and a power cut only what it loses.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::sync::{Mutex, MutexGuard};

use super::{Disk, DiskFile, IfMissing, Space};

mod dice;
mod file;
mod inode;
mod names;

use dice::Dice;
use file::SimFile;
pub use inode::Damage;
use inode::{Change, Inode};
use names::{Names, Node};

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

/// How often each kind of fault did something. A test whose fault did not bite shows nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bites {
    /// Power cuts that lost something.
    pub power_cuts: u64,
    /// Calls that failed because they were told to.
    pub failed_calls: u64,
    /// Writes that found no room.
    pub refused_for_space: u64,
    /// Damaged files of which the process got to read.
    pub damage_read: u64,
}

/// A file system in memory. Clones share it.
#[derive(Clone, Debug)]
pub struct SimDisk {
    world: Arc<Mutex<World>>,
    /// The process that this handle belongs to: it ends with it.
    boot: Option<u64>,
}

/// Faults that wait for their call. The numbers count down to 0.
#[derive(Clone, Debug, Default)]
struct Faults {
    sync: Option<u64>,
    write: Option<u64>,
    read: Option<u64>,
    rename: Option<u64>,
    change: Option<u64>,
}

#[derive(Clone, Debug)]
struct World {
    names: Names,
    inodes: Vec<Inode>,
    /// Handles from before an end of the process are dead.
    boot: u64,
    /// Calls that change something, so far.
    changes: u64,
    power_fails_at: Option<u64>,
    faults: Faults,
    bites: Bites,
    /// Bytes that all files together may have.
    capacity: Option<u64>,
    /// Of the syncs every so many does nothing and reports success.
    lying: Option<u64>,
    /// Syncs of files in this folder and below do nothing and report success.
    lying_folder: Option<PathBuf>,
    syncs: u64,
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
        let world = World {
            names: Names::new(),
            inodes: Vec::new(),
            boot: 0,
            changes: 0,
            power_fails_at: None,
            faults: Faults::default(),
            bites: Bites::default(),
            capacity: None,
            lying: None,
            lying_folder: None,
            syncs: 0,
            is_cold: false,
        };
        Self { world: Arc::new(Mutex::new(world)), boot: None }
    }

    /// A disk of its own that is as this one is now, without the open files. They share what neither changes.
    #[must_use]
    pub fn fork(&self) -> Self {
        let mut world = self.world.lock().clone();
        world.boot += 1;
        Self { world: Arc::new(Mutex::new(world)), boot: None }
    }

    /// The disk as one process sees it: a power cut, or a kill, ends this handle, so that nothing of a broker that
    /// is gone reaches the disk of the next.
    #[must_use]
    pub fn for_process(&self) -> Self {
        let boot = Some(self.world.lock().boot);
        Self { world: Arc::clone(&self.world), boot }
    }

    /// The world for a call of the process. `Err` if it has ended or the power is off.
    fn enter(&self) -> io::Result<MutexGuard<'_, World>> {
        let world = self.world.lock();
        match self.boot.is_none_or(|boot| boot == world.boot) {
            true => {
                world.is_on()?;
                Ok(world)
            }
            false => Err(power_is_off()),
        }
    }

    /// Calls so far that changed something or made it durable.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.world.lock().changes
    }

    /// The power fails in the middle of the change of this number, counted as `changes` does. Every call
    /// fails from then on, until `power_cut` or `kill` has been called.
    pub fn fail_power_at(&self, change: u64) {
        self.world.lock().power_fails_at = Some(change);
    }

    /// Whether the power has failed and every call is refused.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.world.lock().is_on().is_err()
    }

    /// Takes the power away and gives it back. Open files are gone.
    pub fn power_cut(&self, cut: PowerCut) {
        let world = &mut *self.world.lock();
        world.end_process();
        let mut dice = match cut {
            PowerCut::LosesUnsynced => None,
            PowerCut::KeepsSome { seed } => Some(Dice(seed)),
        };
        let mut lost = false;
        for inode in &mut world.inodes {
            lost |= inode.lose_power(dice.as_mut());
        }
        lost |= world.names.lose_power(dice.as_mut());
        world.bites.power_cuts += u64::from(lost);
        world.drop_nameless();
    }

    /// Ends the process: open files are gone, and everything else is as it was.
    pub fn kill(&self) {
        let world = &mut *self.world.lock();
        world.end_process();
    }

    /// The sync of this number, counted from 0 from now on, fails, and what it should have made durable is
    /// lost without further notice: it is seen until memory drops it.
    pub fn fail_sync(&self, nth: u64) {
        self.world.lock().faults.sync = Some(nth);
    }

    /// The write of this number, counted from 0 from now on, fails half way.
    pub fn fail_write(&self, nth: u64) {
        self.world.lock().faults.write = Some(nth);
    }

    /// The read of this number, counted from 0 from now on, fails.
    pub fn fail_read(&self, nth: u64) {
        self.world.lock().faults.read = Some(nth);
    }

    /// The rename of this number, counted from 0 from now on, fails.
    pub fn fail_rename(&self, nth: u64) {
        self.world.lock().faults.rename = Some(nth);
    }

    /// The change of this number, counted from 0 from now on, fails, whatever it is: a name made, given or
    /// removed, a write, a cut, a sync of a file or a folder.
    pub fn fail_change(&self, nth: u64) {
        self.world.lock().faults.change = Some(nth);
    }

    /// Whether the fault asked for by one of the `fail_` calls is still to come. A test whose fault did not
    /// come shows nothing.
    #[must_use]
    pub fn fault_is_pending(&self) -> bool {
        let Faults { sync, write, read, rename, change } = self.world.lock().faults;
        [sync, write, read, rename, change].iter().any(Option::is_some)
    }

    /// Takes back what the `fail_` calls asked for and has not come.
    pub fn heal(&self) {
        self.world.lock().faults = Faults::default();
    }

    /// What the faults have done so far.
    #[must_use]
    pub fn bites(&self) -> Bites {
        self.world.lock().bites
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

    /// How many handles there are, of the disk itself and of open files.
    #[must_use]
    pub fn handles(&self) -> usize {
        Arc::strong_count(&self.world)
    }

    /// Syncs do nothing and report success: a fault to show that a test would notice.
    pub fn make_syncs_lie(&self) {
        self.world.lock().lying = Some(1);
    }

    /// Of the syncs every `nth` does nothing and reports success.
    pub fn make_some_syncs_lie(&self, nth: std::num::NonZero<u64>) {
        self.world.lock().lying = Some(nth.get());
    }

    /// Syncs of files in this folder and below do nothing and report success; its names are made durable.
    pub fn make_syncs_lie_in(&self, folder: &Path) {
        self.world.lock().lying_folder = Some(folder.to_owned());
    }

    /// From now on nothing is in memory: reads that must not wait fail.
    pub fn chill(&self) {
        self.world.lock().is_cold = true;
    }

    /// All files, in the order of their names.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let world = self.world.lock();
        let files = world.names.nodes().filter(|(_, node)| *node != Node::Dir);
        files.map(|(path, _)| path.to_owned()).collect()
    }

    /// The bytes of a file as the process sees them.
    #[must_use]
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let mut world = self.world.lock();
        world.inode_mut(path).map(|inode| inode.seen().clone())
    }

    /// Whether a file has content that a power cut could lose.
    #[must_use]
    pub fn is_dirty(&self, path: &Path) -> bool {
        self.world.lock().inode_mut(path).is_some_and(|inode| inode.is_dirty())
    }

    /// Replaces the bytes of a file, durably, as damage from outside would.
    pub fn overwrite(&self, path: &Path, content: &[u8]) {
        if let Some(inode) = self.world.lock().inode_mut(path) {
            inode.overwrite(content);
        }
    }

    /// Damages a file on the device. Memory goes on showing what it holds, until it is evicted or the power
    /// fails. Tells whether a byte changed.
    pub fn damage(&self, path: &Path, damage: Damage) -> bool {
        self.world.lock().inode_mut(path).is_some_and(|inode| inode.damage(damage))
    }

    /// Drops a file from memory: reads that must not wait fail until it is brought in, and see what is on
    /// the device then.
    pub fn evict(&self, path: &Path) {
        if let Some(inode) = self.world.lock().inode_mut(path) {
            inode.evict();
        }
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

impl World {
    fn end_process(&mut self) {
        self.boot += 1;
        self.power_fails_at = None;
        self.faults = Faults::default();
    }

    /// Frees what nobody can reach: open files are gone.
    fn drop_nameless(&mut self) {
        let mut named = vec![false; self.inodes.len()];
        for (_, node) in self.names.nodes() {
            if let Node::File(inode) = node {
                named[inode] = true;
            }
        }
        for (inode, _) in self.inodes.iter_mut().zip(named).filter(|(_, named)| !named) {
            *inode = Inode::default();
        }
    }

    fn inode_mut(&mut self, path: &Path) -> Option<&mut Inode> {
        match self.names.node(path) {
            Ok(Node::File(inode)) => Some(&mut self.inodes[inode]),
            Ok(Node::Dir) | Err(_) => None,
        }
    }

    /// Counts a change. `Err` if the power is off, fails now, or this change is to fail.
    fn change(&mut self) -> io::Result<()> {
        self.changes += 1;
        self.is_on()?;
        match counts_down(&mut self.faults.change, &mut self.bites) {
            true => Err(io::Error::other("injected error")),
            false => Ok(()),
        }
    }

    /// A change of names. One in the middle of which the power fails may have been done.
    fn change_names(&mut self, change: impl FnOnce(&mut Names) -> io::Result<()>) -> io::Result<()> {
        let changed = self.change();
        if changed.is_ok() || self.is_on().is_err() {
            change(&mut self.names)?;
        }
        changed
    }

    fn used_bytes(&self) -> u64 {
        let files = self.names.nodes().filter_map(|(_, node)| match node {
            Node::File(inode) => Some(self.inodes[inode].length() as u64),
            Node::Dir => None,
        });
        files.sum()
    }

    /// How many of these bytes fit.
    fn fitting(&self, inode: usize, position: usize, bytes: usize) -> usize {
        let Some(capacity) = self.capacity else { return bytes };
        let free = usize::try_from(capacity.saturating_sub(self.used_bytes())).unwrap_or(usize::MAX);
        let held = self.inodes[inode].length().saturating_sub(position);
        bytes.min(held.saturating_add(free))
    }

    fn is_on(&self) -> io::Result<()> {
        match self.power_fails_at {
            Some(at) if self.changes > at => Err(power_is_off()),
            _ => Ok(()),
        }
    }

    /// Whether this sync is one that does nothing.
    fn lies(&mut self) -> bool {
        self.syncs += 1;
        self.lying.is_some_and(|nth| self.syncs.is_multiple_of(nth))
    }

    /// Whether this is a file of which no sync does anything.
    fn lies_about(&self, inode: usize) -> bool {
        self.lying_folder.as_ref().is_some_and(|folder| {
            let mut nodes = self.names.nodes();
            nodes.any(|(path, node)| node == Node::File(inode) && path.starts_with(folder))
        })
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.enter()?;
        if world.names.node(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        world.names.parent_is_there(path)?;
        world.change_names(|names| {
            names.make(path, Node::Dir);
            Ok(())
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let world = self.enter()?;
        world.names.node(dir)?;
        Ok(world.names.in_dir(dir).filter_map(|path| path.file_name().map(OsString::from)).collect())
    }

    fn open(&self, path: &Path, missing: IfMissing) -> io::Result<Arc<dyn DiskFile>> {
        let world = &mut *self.enter()?;
        let inode = match (world.names.node(path), missing) {
            (Ok(Node::File(inode)), _) => inode,
            (Ok(Node::Dir), _) => return Err(io::ErrorKind::IsADirectory.into()),
            (Err(error), IfMissing::Fail) => return Err(error),
            (Err(_), IfMissing::Create) => {
                world.names.parent_is_there(path)?;
                let inode = world.inodes.len();
                world.inodes.push(Inode::default());
                world.change_names(|names| {
                    names.make(path, Node::File(inode));
                    Ok(())
                })?;
                inode
            }
        };
        Ok(Arc::new(SimFile { disk: self.clone(), inode, boot: world.boot }))
    }

    fn file_bytes(&self, path: &Path) -> io::Result<u64> {
        let world = self.enter()?;
        match world.names.node(path)? {
            Node::File(inode) => Ok(world.inodes[inode].length() as u64),
            Node::Dir => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let world = &mut *self.enter()?;
        if counts_down(&mut world.faults.rename, &mut world.bites) {
            return Err(io::Error::other("injected rename error"));
        }
        world.change_names(|names| names.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.enter()?.change_names(|names| names.remove(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.enter()?.change_names(|names| names.remove_tree(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.enter()?;
        world.change()?;
        world.names.node(path)?;
        if !world.lies() {
            world.names.sync(path);
        }
        Ok(())
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let world = self.enter()?;
        world.names.node(dir)?;
        let total_bytes = world.capacity.unwrap_or(1 << 40);
        Ok(Space { free_bytes: total_bytes.saturating_sub(world.used_bytes()), total_bytes })
    }
}

fn counts_down(nth: &mut Option<u64>, bites: &mut Bites) -> bool {
    match nth {
        Some(0) => {
            bites.failed_calls += 1;
            nth.take().is_some()
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

#[cfg(test)]
mod tests;
