//! Which partition a record goes to.
//!
//! A key decides by the same function as in Kafka's own producer, so that all producers of a topic agree.
//! Records without a key fill one partition's batch and then move on to the next partition: few large
//! batches are cheaper for everybody than many small ones (KIP-480).

use std::fmt;

use crate::record::Record;

/// Chooses the partition of records that do not name theirs.
///
/// Called for each such record, by the caller of `send`, while the producer's buffer is locked: it should be quick, must
/// not block, and cannot use the producer.
///
/// ```
/// use millstream_producer::{Partitioner, Record};
///
/// /// One customer has a partition of its own; the rest share the others.
/// #[derive(Debug)]
/// struct LargeCustomer;
///
/// impl Partitioner for LargeCustomer {
///     fn partition(&self, record: &Record<'_>, partitions: usize) -> Option<usize> {
///         match record.key_bytes() {
///             Some(b"large") => Some(partitions - 1),
///             Some(key) => Some(millstream_producer::partition_for_key(key, partitions - 1)),
///             None => None,
///         }
///     }
/// }
/// ```
pub trait Partitioner: Send + Sync + fmt::Debug {
    /// A number below `partitions`, which is at least 1. `None`: whichever is cheapest, as for a record without a key.
    fn partition(&self, record: &Record<'_>, partitions: usize) -> Option<usize>;
}

/// As Kafka's own producer does: by the murmur2 hash of the key. Without a key, one partition's batch is filled before the
/// next partition has its turn.
#[derive(Debug, Clone, Copy, Default)]
pub struct Murmur2;

impl Partitioner for Murmur2 {
    fn partition(&self, record: &Record<'_>, partitions: usize) -> Option<usize> {
        record.key.map(|key| partition_for_key(key, partitions))
    }
}

/// The partition of a key, out of so many, as Kafka's own producer has it.
///
/// # Panics
/// If there are none.
#[must_use]
pub fn partition_for_key(key: &[u8], partitions: usize) -> usize {
    (murmur2(key) & 0x7fff_ffff) as usize % partitions
}

/// MurmurHash2, 32 bits, with the seed that Kafka uses.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const MULTIPLIER: u32 = 0x5bd1_e995;
    const SHIFT: u32 = 24;

    let mut hash = SEED ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        k ^= k >> SHIFT;
        hash = hash.wrapping_mul(MULTIPLIER) ^ k.wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u32::from_le_bytes(last)).wrapping_mul(MULTIPLIER);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values that Kafka's own tests hold its function to, as signed numbers.
    #[test]
    fn hashes_are_those_of_kafkas_producer() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    #[test]
    fn a_key_stays_within_the_partitions() {
        for partitions in 1..20 {
            for key in 0..100_u32 {
                assert!(partition_for_key(&key.to_be_bytes(), partitions) < partitions);
            }
        }
    }
}
