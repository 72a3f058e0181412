//! An open file of the simulated disk.

use super::{
    Arc, Change, DiskFile, File, Inode, IoSlice, Range, SimDisk, World, counts_down, io, power_is_off,
};

#[derive(Debug)]
pub(super) struct SimFile {
    pub(super) disk: SimDisk,
    pub(super) inode: usize,
    pub(super) boot: u64,
}

impl SimFile {
    fn with<T>(&self, act: impl FnOnce(&mut World) -> io::Result<T>) -> io::Result<T> {
        let world = &mut *self.disk.world.lock();
        match world.boot == self.boot {
            true => world.is_on().and_then(|()| act(world)),
            false => Err(power_is_off()),
        }
    }

    fn read(
        &self,
        content: impl Fn(&Inode) -> &Vec<u8>,
        buffer: &mut [u8],
        position: u64,
    ) -> io::Result<usize> {
        self.with(|world| {
            if counts_down(&mut world.faults.read, &mut world.bites) {
                return Err(io::Error::other("injected read error"));
            }
            let inode = &mut world.inodes[self.inode];
            if inode.refuses(&(position..position + buffer.len() as u64)) {
                world.bites.failed_calls += 1;
                return Err(io::Error::other("an unreadable sector"));
            }
            world.bites.damage_read += u64::from(inode.shows_damage());
            inode.bring_in(position..position + buffer.len() as u64);
            let content = content(inode);
            let from = usize::try_from(position).map_or(content.len(), |at| at.min(content.len()));
            let bytes = buffer.len().min(content.len() - from);
            buffer[..bytes].copy_from_slice(&content[from..from + bytes]);
            Ok(bytes)
        })
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.read(Inode::seen, buffer, position)
    }

    fn try_read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let range = position..position + buffer.len() as u64;
        match self.with(|world| Ok(world.is_cold || !world.inodes[self.inode].is_resident(&range)))? {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => self.read_at(buffer, position),
        }
    }

    fn write_at(&self, parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        self.with(|world| {
            let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
            let changed = world.change();
            let fails = counts_down(&mut world.faults.write, &mut world.bites);
            if fails {
                bytes.truncate(bytes.len() / 2);
            }
            let position = usize::try_from(position).expect("small in tests");
            let fitting = world.fitting(self.inode, position, bytes.len());
            let is_full = fitting < bytes.len();
            bytes.truncate(fitting);
            world.bites.refused_for_space += u64::from(is_full);
            // What is cut off by the power may have been written, in whole or in part.
            world.inodes[self.inode].change(Change::Write { position, bytes });
            changed?;
            match (fails, is_full) {
                (true, _) => Err(io::Error::other("injected write error")),
                (false, true) => Err(io::ErrorKind::StorageFull.into()),
                (false, false) => Ok(()),
            }
        })
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.with(|world| {
            world.change()?;
            let cut = Change::Truncate { bytes: usize::try_from(bytes).expect("small in tests") };
            world.inodes[self.inode].change(cut);
            Ok(())
        })
    }

    fn preallocate(&self, _range: Range<u64>) -> io::Result<()> {
        self.with(|_| Ok(()))
    }

    fn bytes(&self) -> io::Result<u64> {
        self.with(|world| Ok(world.inodes[self.inode].length() as u64))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|world| {
            let changed = world.change();
            world.is_on()?;
            let fails = counts_down(&mut world.faults.sync, &mut world.bites);
            let lies = world.lies() || world.lies_about(self.inode);
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

    /// Nothing is written before it is asked for, or the power goes.
    fn start_writing(&self, _end: u64) {}

    fn write_out(&self, _range: Range<u64>) {}

    fn forget(&self, range: Range<u64>) -> io::Result<()> {
        self.with(|world| {
            world.inodes[self.inode].forget(&range);
            Ok(())
        })
    }

    fn read_device_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.read(Inode::stored, buffer, position)
    }

    fn is_resident(&self, position: u64, bytes: usize) -> bool {
        self.disk.world.lock().inodes[self.inode].is_resident(&(position..position + bytes as u64))
    }

    fn bring_in(&self, position: u64, bytes: usize) -> io::Result<()> {
        self.with(|world| {
            world.inodes[self.inode].bring_in(position..position + bytes as u64);
            Ok(())
        })
    }

    fn as_file(&self) -> Option<&Arc<File>> {
        None
    }
}
