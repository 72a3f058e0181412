//! Record batches, version 2: the form in which records travel and are stored.
//!
//! A batch is a header of 61 bytes, then the records, compressed together or not at all. Big-endian:
//!
//! ```text
//!  at  bytes
//!   0      8  base offset             set by the broker  \ not covered by the CRC, so that the broker
//!   8      4  batch length            of what follows     | can place a batch in its log without
//!  12      4  partition leader epoch  set by the broker   | touching the rest
//!  16      1  magic                   2                  /
//!  17      4  CRC-32C                 of all that follows
//!  21      2  attributes              bits 0-2 codec, 3 log append time, 4 transactional, 5 control,
//!                                     6 the base timestamp is a delete horizon
//!  23      4  last offset delta       also once compaction has taken the last record
//!  27      8  base timestamp          what the records' timestamps are relative to: that of the first when the batch
//!                                     was written, or the delete horizon; milliseconds, -1 for none
//!  35      8  max timestamp           of all records, or the log append time
//!  43      8  producer id             -1 for none
//!  51      2  producer epoch
//!  53      4  base sequence           of the first record
//!  57      4  record count            0 where compaction took all and the sequence has to stay
//!  61         records
//! ```
//!
//! A record is a row of zigzag varints and bytes: length of what follows, attributes (one byte, unused),
//! timestamp delta, offset delta, key length and key, value length and value, header count, and for each
//! header key length, key, value length, value. A length of -1 is null.
//!
//! The broker looks at bytes in place: [`BatchView`] and [`validate`] copy and allocate nothing for a batch
//! that is not compressed. [`records`] gives consumers slices of the bytes that arrived. Decompressed sizes
//! are bounded by the caller, whatever a frame says of itself.

mod batch;
mod builder;
mod compression;
mod control;
mod error;
mod reading;
mod retain;
mod rewrite;
mod varint;
mod walk;

pub use batch::{BatchHeader, BatchView, CRC_COVERS_FROM, HEADER_BYTES, TimestampType};
pub use builder::{BatchBuilder, NewRecord};
pub use compression::{Codec, Compression, NoSuchLevel, UnknownCompressionName};
pub use control::{EndMarker, TransactionOutcome};
pub use error::{BatchError, RecordFlaw};
pub use reading::{Batches, Record, RecordHeader, Records, batches, records};
pub use retain::{RecordSpan, retain, with_spans, without_records};
pub use rewrite::{recompress, set_base, set_log_append_time, set_max_timestamp};
pub use walk::{Validated, validate};

/// The checksum of Kafka's batches: CRC-32C (Castagnoli), over everything from the attributes on.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The same checksum of bytes that come in pieces: a batch may be larger than what one wants to hold.
#[derive(Debug)]
pub struct Crc32c(crc_fast::Digest);

impl Default for Crc32c {
    fn default() -> Self {
        Self(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi))
    }
}

impl Crc32c {
    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all pieces.
    #[must_use]
    pub fn finish(&self) -> u32 {
        u32::try_from(self.0.finalize()).expect("a checksum of 32 bits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_of_pieces_is_that_of_the_whole() {
        let bytes: Vec<u8> = (0..10_000u32).map(|at| at.to_le_bytes()[0]).collect();
        for cut in [0, 1, 61, 4096, 10_000] {
            let mut pieces = Crc32c::default();
            pieces.update(&bytes[..cut]);
            pieces.update(&bytes[cut..]);
            assert_eq!(pieces.finish(), crc32c(&bytes), "cut at {cut}");
        }
    }
}
