//! What a broker changes in a batch that it stores.

use bytes::Bytes;

use super::batch::{AT_ATTRIBUTES, AT_LEADER_EPOCH, AT_MAX_TIMESTAMP, CODEC_BITS, LOG_APPEND_TIME_BIT, put};
use super::builder::{seal, set_crc};
use super::{BatchError, BatchHeader, BatchView, Compression, compression};

/// The batch at the start of `batch` with its records under another codec. Everything else in it stays.
pub fn recompress(
    batch: &Bytes,
    to: Compression,
    decompressed_bytes_max: usize,
) -> Result<Bytes, BatchError> {
    let view = BatchView::parse(batch)?;
    let from = view.compression()?;
    if from == to {
        return Ok(batch.slice(..view.size_in_bytes()));
    }
    let attributes = view.header().attributes & !CODEC_BITS | to.code();
    let header = BatchHeader { attributes, ..view.header() };
    compression::with_decompressed(from, view.body(), decompressed_bytes_max, |body| {
        seal(header, compression::compressed(to, body))
    })
}

/// Stamps one whole batch with the time of its append: all its records now have this timestamp.
///
/// # Panics
/// If `batch` has not the 61 bytes of a header.
pub fn set_log_append_time(batch: &mut [u8], timestamp_ms: i64) {
    // The bit lies in the low byte of the attributes.
    batch[AT_ATTRIBUTES + 1] |= LOG_APPEND_TIME_BIT as u8;
    set_max_timestamp(batch, timestamp_ms);
}

/// Corrects the largest timestamp in the header of one whole batch; those of the records stay.
///
/// # Panics
/// If `batch` has not the 61 bytes of a header.
pub fn set_max_timestamp(batch: &mut [u8], timestamp_ms: i64) {
    put(batch, AT_MAX_TIMESTAMP, timestamp_ms.to_be_bytes());
    set_crc(batch);
}

/// Places a batch in its log. Touches the first 16 bytes only, which the CRC does not cover.
///
/// # Panics
/// If `batch` has not 16 bytes.
pub fn set_base(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    put(batch, 0, base_offset.to_be_bytes());
    put(batch, AT_LEADER_EPOCH, leader_epoch.to_be_bytes());
}
