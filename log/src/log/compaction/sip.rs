//! SipHash with 128 bits of output (Aumasson, Bernstein 2012; the 128-bit variant is theirs, too).
//!
//! Keys come from clients. With a hash that a client can predict, it could make a key of its own collide with
//! that of another and have compaction take the other's record away; hence a keyed function that was made to
//! withstand that, and a fresh secret for each map. The standard library has the function, but not with 128
//! bits.

use std::hash::{BuildHasher, Hasher, RandomState};

/// The secret.
#[derive(Clone, Copy, Debug)]
pub(super) struct SipKey(u64, u64);

impl SipKey {
    /// One that nobody outside this process can know. What is computed with it decides no outcome, short of a
    /// collision, so that simulation still repeats.
    pub(super) fn random() -> Self {
        let number = || RandomState::new().build_hasher().finish();
        Self(number(), number())
    }

    /// One round for each word and three at the end, as in the standard library's hash maps.
    #[inline]
    pub(super) fn hash(self, bytes: &[u8]) -> u128 {
        sip_128::<1, 3>(self, bytes)
    }
}

struct State([u64; 4]);

impl State {
    #[inline(always)]
    fn rounds<const COUNT: usize>(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.0;
        for _ in 0..COUNT {
            a = a.wrapping_add(b);
            b = b.rotate_left(13) ^ a;
            a = a.rotate_left(32);
            c = c.wrapping_add(d);
            d = d.rotate_left(16) ^ c;
            a = a.wrapping_add(d);
            d = d.rotate_left(21) ^ a;
            c = c.wrapping_add(b);
            b = b.rotate_left(17) ^ c;
            c = c.rotate_left(32);
        }
        self.0 = [a, b, c, d];
    }

    #[inline(always)]
    fn absorb<const COUNT: usize>(&mut self, word: u64) {
        self.0[3] ^= word;
        self.rounds::<COUNT>();
        self.0[0] ^= word;
    }

    fn folded(&self) -> u64 {
        self.0[0] ^ self.0[1] ^ self.0[2] ^ self.0[3]
    }
}

#[inline(always)]
fn sip_128<const FOR_A_WORD: usize, const AT_THE_END: usize>(key: SipKey, bytes: &[u8]) -> u128 {
    let SipKey(k0, k1) = key;
    let mut state = State([
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ]);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state.absorb::<FOR_A_WORD>(u64::from_le_bytes(*word));
    }
    // The last word has what is left and, in its highest byte, the length.
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    last[7] = bytes.len() as u8;
    state.absorb::<FOR_A_WORD>(u64::from_le_bytes(last));
    state.0[2] ^= 0xee;
    state.rounds::<AT_THE_END>();
    let low = state.folded();
    state.0[1] ^= 0xdd;
    state.rounds::<AT_THE_END>();
    u128::from(state.folded()) << 64 | u128::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the reference implementation: keys and inputs are 00, 01, 02 ...
    #[test]
    fn the_published_vectors_of_two_and_four_rounds_hold() {
        let key = SipKey(u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7]), 0x0f0e_0d0c_0b0a_0908);
        let input: Vec<u8> = (0..64).collect();
        for (length, expected) in [
            (0, "a3817f04ba25a8e66df67214c7550293"),
            (1, "da87c1d86b99af44347659119b22fc45"),
            (2, "8177228da4a45dc7fca38bdef60affe4"),
        ] {
            let hash = sip_128::<2, 4>(key, &input[..length]).to_le_bytes();
            let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hash, expected, "{length} bytes");
        }
    }

    #[test]
    fn every_byte_and_the_length_count_and_secrets_differ() {
        let key = SipKey::random();
        let input = [0x5a; 40];
        let mut seen = std::collections::HashSet::new();
        for length in 0..=input.len() {
            assert!(seen.insert(key.hash(&input[..length])));
            for at in 0..length {
                let mut other = input;
                other[at] ^= 1;
                assert!(seen.insert(key.hash(&other[..length])));
            }
        }
        assert_ne!(key.hash(b"key"), SipKey::random().hash(b"key"));
    }
}
