//! Which offset each key was written at last, in a fixed amount of memory.
//!
//! The keys themselves are not kept, only 128 bits of a keyed hash of each: 32 of them choose the place, and the
//! other 96 are compared there, beside a 32-bit offset. A slot has 16 bytes; of three slots two are used, which
//! makes 24 bytes a key. Open addressing, linear probing.
//!
//! Two keys are taken for one only if 96 bits agree and their places lie within one run of used slots, which
//! with n keys happens to a pair with a probability of about 2^-96 * 5 / n, hence to any pair of n keys with
//! about n * 2^-95: with a billion keys 2^-65, where 128 bits compared in full would come to 2^-69. A disk
//! returns wrong bytes unnoticed far more often.

use super::sip::SipKey;

/// Memory that a map takes for each key that it can hold.
pub(crate) const BYTES_PER_KEY: usize = 24;

/// Offsets that a map can tell apart.
pub(super) const OFFSETS_MAX: i64 = u32::MAX as i64 - 1;

/// How large a map may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyMapBounds {
    pub(super) bytes_max: usize,
    /// It will not be asked to hold more.
    pub(super) keys_max: u64,
}

/// The map has no room for another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The hash of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyHash(u128);

/// From hashes of keys to offsets that are relative to some base.
#[derive(Debug)]
pub(super) struct KeyMap {
    secret: SipKey,
    /// Tag << 32 | (offset + 1); 0 is free. A number, because the system hands out zeroed memory that costs
    /// nothing before it is touched.
    slots: Vec<u128>,
    used: usize,
    keys_max: usize,
}

impl KeyMap {
    pub(super) fn new(bounds: KeyMapBounds) -> Self {
        let affordable = (bounds.bytes_max / BYTES_PER_KEY).max(1);
        let keys_max = usize::try_from(bounds.keys_max).map_or(affordable, |keys| keys.clamp(1, affordable));
        let slots = (keys_max * 3).div_ceil(2).max(2);
        Self { secret: SipKey::random(), slots: vec![0; slots], used: 0, keys_max }
    }

    #[inline]
    pub(super) fn hash(&self, key: &[u8]) -> KeyHash {
        KeyHash(self.secret.hash(key))
    }

    pub(super) fn len(&self) -> usize {
        self.used
    }

    pub(super) fn bytes(&self) -> usize {
        self.slots.len() * size_of::<u128>()
    }

    /// Place and tag: the highest 32 bits are scaled to a place, the others are the tag.
    #[inline(always)]
    fn split(&self, hash: KeyHash) -> (usize, u128) {
        let place = ((hash.0 >> 96) as u64 * self.slots.len() as u64) >> 32;
        (place as usize, hash.0 << 32)
    }

    /// Notes that `key` was written at `offset`, which lies behind all that were noted before.
    #[inline]
    pub(super) fn put(&mut self, key: KeyHash, offset: u32) -> Result<(), Full> {
        let (mut place, tag) = self.split(key);
        let entry = tag | u128::from(offset + 1);
        loop {
            let held = self.slots[place];
            if held == 0 {
                if self.used == self.keys_max {
                    return Err(Full);
                }
                self.used += 1;
                self.slots[place] = entry;
                return Ok(());
            }
            if (held ^ tag) >> 32 == 0 {
                self.slots[place] = entry;
                return Ok(());
            }
            place = self.after(place);
        }
    }

    /// Where `key` was written last.
    #[inline]
    pub(super) fn get(&self, key: KeyHash) -> Option<u32> {
        let (mut place, tag) = self.split(key);
        loop {
            let held = self.slots[place];
            if (held ^ tag) >> 32 == 0 && held != 0 {
                return Some(held as u32 - 1);
            }
            if held == 0 {
                return None;
            }
            place = self.after(place);
        }
    }

    #[inline(always)]
    fn after(&self, place: usize) -> usize {
        let next = place + 1;
        if next == self.slots.len() { 0 } else { next }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn it_is_a_map_until_it_is_full_and_stays_one_then() {
        let mut map = KeyMap::new(KeyMapBounds { bytes_max: 24 * 1000, keys_max: u64::MAX });
        assert_eq!(map.bytes(), 24 * 1000);
        let mut model = HashMap::new();
        let mut refused = 0;
        for offset in 0..5000u32 {
            let key = (offset.wrapping_mul(2_654_435_761) % 1100).to_string();
            match map.put(map.hash(key.as_bytes()), offset) {
                Ok(()) => drop(model.insert(key, offset)),
                Err(Full) => {
                    refused += 1;
                    assert!(!model.contains_key(&key), "a key that is there has room");
                }
            }
        }
        assert_eq!((map.len(), model.len()), (1000, 1000));
        assert!(refused > 0);
        for key in 0..1100 {
            let key = key.to_string();
            assert_eq!(map.get(map.hash(key.as_bytes())), model.get(&key).copied(), "{key}");
        }
    }

    #[test]
    fn it_takes_no_more_memory_than_the_keys_need() {
        let bounds = KeyMapBounds { bytes_max: 1 << 30, keys_max: 10 };
        assert_eq!(KeyMap::new(bounds).bytes(), 10 * BYTES_PER_KEY);
        let mut least = KeyMap::new(KeyMapBounds { bytes_max: 0, keys_max: 0 });
        assert_eq!(least.put(least.hash(b"a"), 0), Ok(()), "it always gets on");
        assert_eq!(least.put(least.hash(b"b"), 1), Err(Full));
        assert_eq!(least.get(least.hash(b"b")), None);
        let last = u32::try_from(OFFSETS_MAX).unwrap();
        assert_eq!(least.put(least.hash(b"a"), last), Ok(()));
        assert_eq!(least.get(least.hash(b"a")), Some(last));
    }
}
