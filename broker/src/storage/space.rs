//! Room on the file system of a data folder: appends are refused before it is full, and taken again by
//! themselves once there is room.
//!
//! Two things watch it. Each second somebody looks at what the file system says; in between every append takes
//! its bytes off what was free then, so that however fast producers are, the low-water mark holds. What is
//! kept free below it is for what is not an append: indexes, snapshots, metadata, the work of deletion.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};

use millstream_log::Space;
use parking_lot::Mutex;

/// The low-water mark if none is set: this many bytes, or this part of the file system if that is less.
///
/// Nothing that is not an append is in proportion to the data, so an absolute amount is enough on a disk of
/// any size, and a laptop that is nearly full is not kept from running a broker. On a file system of a few
/// megabytes it would be all there is, hence the part.
const CHOSEN_BYTES: u64 = 256 << 20;
const CHOSEN_PART: u64 = 20;

/// Appends are taken again when a quarter more than the mark is free: or they would be refused a moment
/// later.
const MARGIN_PART: u64 = 4;

/// How many bytes appends leave free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LowWater {
    /// As many as the size of the file system suggests.
    Chosen,
    /// Exactly so many.
    Bytes(u64),
}

impl LowWater {
    fn bytes(self, total: u64) -> u64 {
        match self {
            Self::Chosen => CHOSEN_BYTES.min(total / CHOSEN_PART),
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// Why an append is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the disk is nearly full: {free} bytes are free and {mark} have to stay free (log.disk.free.min.bytes); \
     records are taken again once there is room"
)]
pub(crate) struct DiskLow {
    free: u64,
    mark: u64,
}

/// What a look changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing.
    Same,
    /// Appends are refused from now on.
    Low,
    /// Appends are taken again.
    Enough,
}

/// The room of one data folder. Read by all who append to it, written by the one who looks.
#[derive(Debug)]
pub(crate) struct SpaceGuard {
    low_water: Mutex<LowWater>,
    /// Bytes that may be appended until somebody looks again.
    room: AtomicI64,
    is_refusing: AtomicBool,
    refused: AtomicU64,
    free: AtomicU64,
    total: AtomicU64,
    /// What the last look has reported: an append may have changed `is_refusing` since.
    was_refusing: AtomicBool,
}

impl SpaceGuard {
    /// Nothing is known before the first look, and nothing refused.
    pub(crate) fn new(low_water: LowWater) -> Self {
        Self {
            low_water: Mutex::new(low_water),
            room: AtomicI64::new(i64::MAX),
            is_refusing: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            free: AtomicU64::new(0),
            total: AtomicU64::new(0),
            was_refusing: AtomicBool::new(false),
        }
    }

    /// Takes the room of an append, or refuses it.
    ///
    /// # Errors
    /// It would leave fewer bytes free than have to be.
    pub(crate) fn take(&self, bytes: usize) -> Result<(), DiskLow> {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        if !self.is_refusing() && self.room.fetch_sub(bytes, Relaxed) >= bytes {
            return Ok(());
        }
        self.is_refusing.store(true, Relaxed);
        self.refused.fetch_add(1, Relaxed);
        let (free, mark) = (self.free.load(Relaxed), self.mark());
        Err(DiskLow { free, mark })
    }

    /// Takes over what the file system says now.
    pub(crate) fn look(&self, space: Space) -> Turn {
        let Space { free_bytes: free, total_bytes: total } = space;
        self.free.store(free, Relaxed);
        self.total.store(total, Relaxed);
        let mark = self.mark();
        let needed = match self.is_refusing() {
            true => mark.saturating_add(mark / MARGIN_PART),
            false => mark,
        };
        let is_low = free < needed;
        self.room.store(i64::try_from(free.saturating_sub(mark)).unwrap_or(i64::MAX), Relaxed);
        self.is_refusing.store(is_low, Relaxed);
        match (self.was_refusing.swap(is_low, Relaxed), is_low) {
            (false, true) => Turn::Low,
            (true, false) => Turn::Enough,
            (true, true) | (false, false) => Turn::Same,
        }
    }

    /// Whether appends are refused.
    pub(crate) fn is_refusing(&self) -> bool {
        self.is_refusing.load(Relaxed)
    }

    /// How many appends were refused.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// What the last look saw; zero before it.
    pub(crate) fn space(&self) -> Space {
        Space { free_bytes: self.free.load(Relaxed), total_bytes: self.total.load(Relaxed) }
    }

    /// Bytes that have to stay free.
    pub(crate) fn mark(&self) -> u64 {
        self.low_water.lock().bytes(self.total.load(Relaxed))
    }

    /// Another mark holds from the next look on.
    pub(crate) fn set_low_water(&self, low_water: LowWater) {
        *self.low_water.lock() = low_water;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn space(free_bytes: u64, total_bytes: u64) -> Space {
        Space { free_bytes, total_bytes }
    }

    #[test]
    fn the_chosen_mark_does_no_harm_on_a_small_file_system_nor_on_a_nearly_full_laptop() {
        assert_eq!(LowWater::Chosen.bytes(48 * MIB), 48 * MIB / 20);
        assert_eq!(LowWater::Chosen.bytes(256 << 30), 256 * MIB);
        assert_eq!(LowWater::Chosen.bytes(0), 0, "a file system that does not tell refuses nothing");
        let guard = SpaceGuard::new(LowWater::Chosen);
        assert_eq!(guard.look(space(800 * MIB, 256 << 30)), Turn::Same);
        assert!(guard.take(1 << 20).is_ok());
    }

    #[test]
    fn appends_between_two_looks_do_not_pass_the_mark() {
        let guard = SpaceGuard::new(LowWater::Bytes(1000));
        assert!(guard.take(1 << 30).is_ok(), "nothing is known yet");
        guard.look(space(1500, 10_000));
        assert!(guard.take(300).is_ok());
        assert!(guard.take(200).is_ok());
        let refused = guard.take(1).unwrap_err();
        assert!(refused.to_string().contains("log.disk.free.min.bytes"), "{refused}");
        assert_eq!(guard.refused(), 1);
    }

    #[test]
    fn appends_are_taken_again_with_a_margin() {
        let guard = SpaceGuard::new(LowWater::Bytes(1000));
        assert_eq!(guard.look(space(1000, 10_000)), Turn::Same);
        assert_eq!(guard.look(space(999, 10_000)), Turn::Low);
        assert_eq!(guard.look(space(1249, 10_000)), Turn::Same);
        assert!(guard.take(1).is_err());
        assert_eq!(guard.look(space(1250, 10_000)), Turn::Enough);
        assert!(guard.take(250).is_ok());
        assert!(guard.take(1).is_err(), "the mark holds again at once");
        assert_eq!(guard.look(space(1000, 10_000)), Turn::Low, "and the look after it says so");
    }
}
