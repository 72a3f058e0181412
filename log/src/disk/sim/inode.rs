//! The bytes of one simulated file: on the device, in memory, and what is on its way from one to the other.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use super::dice::Dice;

/// The unit in which a write can be torn, get lost or go astray.
pub(super) const SECTOR_BYTES: usize = 512;

/// The unit in which memory holds a file.
const PAGE_BYTES: u64 = 4096;

/// A change that no sync has made durable, and how to take it back.
#[derive(Clone, Debug)]
struct Unsynced {
    change: Change,
    /// What it replaced, and the length there was.
    replaced: Vec<u8>,
    length: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { position: usize, bytes: Vec<u8> },
    Truncate { bytes: usize },
}

impl Change {
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

    /// Where it changes what is there already.
    fn replaces(&self, length: usize) -> Range<usize> {
        let (from, to) = match self {
            Self::Write { position, bytes } => (*position, position + bytes.len()),
            Self::Truncate { bytes } => (*bytes, length),
        };
        from.min(length)..to.min(length).max(from.min(length))
    }
}

impl Unsynced {
    fn apply(change: Change, content: &mut Vec<u8>) -> Self {
        let length = content.len();
        let replaced = content[change.replaces(length)].to_vec();
        change.apply(content);
        Self { change, replaced, length }
    }

    fn take_back(&self, content: &mut Vec<u8>) {
        content.resize(self.length, 0);
        content[self.change.replaces(self.length)].copy_from_slice(&self.replaced);
    }
}

/// Damage that the device does to what was durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// One bit, counted from the start of the file, turns.
    FlippedBit {
        /// Which.
        bit: u64,
    },
    /// A sector's bytes are where another's were: a write that went astray.
    Misdirected {
        /// The sector whose bytes they are.
        from: u64,
        /// The sector where they landed.
        to: u64,
    },
    /// A sector never got its bytes: it holds what a new file holds.
    Stale {
        /// Which.
        sector: u64,
    },
    /// A sector cannot be read any more, until it is written again.
    Unreadable {
        /// Which.
        sector: u64,
    },
}

/// A file. Forks of a disk share its bytes until one of them writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    /// On the device, or on the way to it.
    stored: Arc<Vec<u8>>,
    /// What memory shows if that differs: after a failed sync, or damage that nobody has read yet.
    remembered: Option<Arc<Vec<u8>>>,
    /// The pages in memory; `None` is all of them.
    resident: Option<BTreeSet<u64>>,
    unsynced: Vec<Unsynced>,
    /// Sectors that the device refuses.
    unreadable: BTreeSet<u64>,
    /// Was damaged, and is read from the device.
    damage_is_visible: bool,
}

impl Inode {
    /// What the process sees.
    pub(super) fn seen(&self) -> &Vec<u8> {
        self.remembered.as_ref().unwrap_or(&self.stored)
    }

    /// What it would see if memory held nothing.
    pub(super) fn stored(&self) -> &Vec<u8> {
        &self.stored
    }

    pub(super) fn length(&self) -> usize {
        self.seen().len()
    }

    /// Something would be lost if the power failed.
    pub(super) fn is_dirty(&self) -> bool {
        !self.unsynced.is_empty()
    }

    pub(super) fn change(&mut self, change: Change) {
        if let Some(remembered) = &mut self.remembered {
            change.apply(Arc::make_mut(remembered));
        }
        if let Change::Write { position, bytes } = &change {
            let (first, end) = (position / SECTOR_BYTES, (position + bytes.len()).div_ceil(SECTOR_BYTES));
            self.unreadable.retain(|sector| !(first as u64..end as u64).contains(sector));
            self.bring_in(*position as u64..(position + bytes.len()) as u64);
        }
        self.unsynced.push(Unsynced::apply(change, Arc::make_mut(&mut self.stored)));
    }

    pub(super) fn sync(&mut self) {
        self.unsynced.clear();
    }

    /// What waits to be written is lost, and looks as if it had been written. The length is kept.
    pub(super) fn fail_sync(&mut self) {
        if self.unsynced.is_empty() {
            return;
        }
        let seen = Arc::clone(self.remembered.as_ref().unwrap_or(&self.stored));
        let length = seen.len();
        self.take_back();
        self.unsynced
            .push(Unsynced::apply(Change::Truncate { bytes: length }, Arc::make_mut(&mut self.stored)));
        self.remembered = Some(seen);
    }

    fn take_back(&mut self) {
        let stored = Arc::make_mut(&mut self.stored);
        for unsynced in self.unsynced.drain(..).rev() {
            unsynced.take_back(stored);
        }
    }

    /// The power fails: of what was not synced the dice keep some, in any order and torn. Tells whether
    /// anything was lost.
    pub(super) fn lose_power(&mut self, dice: Option<&mut Dice>) -> bool {
        self.remembered = None;
        self.resident = None;
        if self.unsynced.is_empty() {
            return false;
        }
        let before = dice.is_some().then(|| Arc::clone(&self.stored));
        let changes: Vec<_> = self.unsynced.iter().map(|unsynced| unsynced.change.clone()).collect();
        self.take_back();
        let (Some(dice), Some(before)) = (dice, before) else { return true };
        let stored = Arc::make_mut(&mut self.stored);
        for change in changes {
            survive(dice, &change, stored);
        }
        *self.stored != *before
    }

    /// Drops from memory what it holds of a range.
    pub(super) fn forget(&mut self, range: &Range<u64>) {
        if let Some(pages) = &mut self.resident {
            pages.retain(|page| !pages_of(range).contains(page));
        }
        let (end, stored) = (self.stored.len(), &self.stored);
        let at = |position: u64| usize::try_from(position).map_or(end, |at| at.min(end));
        if let Some(remembered) = &mut self.remembered
            && range.start < range.end
        {
            let range = at(range.start)..at(range.end).min(remembered.len());
            if range.start < range.end {
                Arc::make_mut(remembered)[range.clone()].copy_from_slice(&stored[range]);
            }
        }
    }

    /// Drops everything from memory: what is read next comes from the device.
    pub(super) fn evict(&mut self) {
        self.remembered = None;
        self.resident = Some(BTreeSet::new());
    }

    pub(super) fn is_resident(&self, range: &Range<u64>) -> bool {
        self.resident.as_ref().is_none_or(|pages| pages_of(range).all(|page| pages.contains(&page)))
    }

    /// Whether the device would have to be asked for a sector that it refuses.
    pub(super) fn refuses(&self, range: &Range<u64>) -> bool {
        let sectors = range.start / SECTOR_BYTES as u64..range.end.div_ceil(SECTOR_BYTES as u64);
        self.unreadable.range(sectors).next().is_some() && !self.is_resident(range)
    }

    pub(super) fn bring_in(&mut self, range: Range<u64>) {
        if let Some(pages) = &mut self.resident {
            pages.extend(pages_of(&range));
        }
    }

    /// Damages what is on the device; memory goes on showing what it holds. Tells whether a byte changed.
    pub(super) fn damage(&mut self, damage: Damage) -> bool {
        let before = Arc::clone(&self.stored);
        let stored = Arc::make_mut(&mut self.stored);
        let sector = |number: u64| {
            let start = usize::try_from(number).unwrap_or(usize::MAX).saturating_mul(SECTOR_BYTES);
            start.min(before.len())..start.saturating_add(SECTOR_BYTES).min(before.len())
        };
        match damage {
            Damage::FlippedBit { bit } => {
                let at = usize::try_from(bit / 8).unwrap_or(usize::MAX);
                if let Some(byte) = stored.get_mut(at) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            Damage::Misdirected { from, to } => {
                let (from, to) = (sector(from), sector(to));
                let length = from.len().min(to.len());
                stored[to.start..to.start + length].copy_from_slice(&before[from.start..from.start + length]);
            }
            Damage::Stale { sector: number } => stored[sector(number)].fill(0),
            Damage::Unreadable { sector } => {
                self.remembered.get_or_insert(before);
                return self.unreadable.insert(sector);
            }
        }
        let changed = *self.stored != *before;
        if changed {
            self.damage_is_visible = true;
            self.remembered.get_or_insert(before);
        }
        changed
    }

    /// Whether the file was damaged and this read may have seen it: told once.
    pub(super) fn shows_damage(&mut self) -> bool {
        self.remembered.is_none() && std::mem::take(&mut self.damage_is_visible)
    }

    /// Replaces everything, durably.
    pub(super) fn overwrite(&mut self, content: &[u8]) {
        *self = Self { stored: Arc::new(content.to_vec()), ..Self::default() };
    }
}

fn pages_of(range: &Range<u64>) -> Range<u64> {
    range.start / PAGE_BYTES..range.end.div_ceil(PAGE_BYTES)
}

/// Applies a change whole, in part, or not at all. Sectors of the file survive each for itself.
fn survive(dice: &mut Dice, change: &Change, content: &mut Vec<u8>) {
    match (dice.below(3), change) {
        (0, _) => {}
        (1, Change::Write { position, bytes }) => {
            let end = position + bytes.len();
            let mut at = *position;
            while at < end {
                let next = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
                if dice.flip() {
                    let bytes = bytes[at - position..next - position].to_vec();
                    Change::Write { position: at, bytes }.apply(content);
                }
                at = next;
            }
        }
        (_, change) => change.apply(content),
    }
}
