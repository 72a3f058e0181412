//! The one reader and writer of the varints inside records: zigzag, seven bits per byte, lowest first.

/// A position in bytes that came from outside. Reading past the end gives `None`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    #[inline(always)]
    pub(super) fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    #[inline(always)]
    pub(super) fn skip(&mut self, count: usize) -> Option<()> {
        if count > self.left() {
            return None;
        }
        self.at += count;
        Some(())
    }

    #[inline(always)]
    pub(super) fn i32(&mut self) -> Option<i32> {
        let value = self.unsigned::<5>()?;
        let value = u32::try_from(value).ok()?;
        Some((value >> 1) as i32 ^ -((value & 1) as i32))
    }

    #[inline(always)]
    pub(super) fn i64(&mut self) -> Option<i64> {
        let value = self.unsigned::<10>()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// One byte is the common case and stays inline; the loop is worth a call.
    #[inline(always)]
    fn unsigned<const MOST: usize>(&mut self) -> Option<u64> {
        let first = self.byte()?;
        if first < 0x80 {
            return Some(u64::from(first));
        }
        self.unsigned_from::<MOST>(first)
    }

    #[inline]
    fn unsigned_from<const MOST: usize>(&mut self, first: u8) -> Option<u64> {
        let mut value = u64::from(first & 0x7f);
        for index in 1..MOST {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if index == 9 && bits > 1 {
                return None;
            }
            value |= bits << (7 * index);
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}

pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Bytes that `value` takes. A 32-bit field takes the same as a 64-bit one of equal value.
pub(super) fn size(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

pub(super) fn put(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_numbers_have_known_bytes() {
        for (value, bytes) in [
            (0, &[0x00][..]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i64::from(i32::MIN), &[0xff, 0xff, 0xff, 0xff, 0x0f]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ] {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out, bytes, "{value}");
        }
    }

    #[test]
    fn too_long_and_too_large_numbers_are_refused() {
        assert_eq!(Cursor::new(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00], 0).i32(), None);
        assert_eq!(Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0x1f], 0).i32(), None);
        assert_eq!(Cursor::new(&[0xff; 10], 0).i64(), None);
        assert_eq!(Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], 0).i64(), None);
        assert_eq!(Cursor::new(&[0x80], 0).i64(), None);
        assert_eq!(Cursor::new(&[], 0).i32(), None);
    }

    proptest! {
        #[test]
        fn numbers_come_back(long in any::<i64>(), shift in 0..64u32) {
            let value = long >> shift;
            let mut out = Vec::new();
            put(&mut out, value);
            prop_assert_eq!(out.len(), size(value));
            prop_assert_eq!(Cursor::new(&out, 0).i64(), Some(value));
            let fits = i32::try_from(value).ok();
            prop_assert_eq!(Cursor::new(&out, 0).i32(), fits);
        }
    }
}
