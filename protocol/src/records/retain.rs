//! What compaction does to a batch: shows its records where they lie, and makes a batch of some of them.
//!
//! What stays keeps its offsets, and the batch keeps its base offset, its last offset and its sequences, so
//! that neither a consumer nor an idempotent producer can tell what went. The bytes of the records are copied
//! as they are, with one exception: a batch that gets a delete horizon has it in the place of its base
//! timestamp, and the timestamps of its records become relative to that.

use std::ops::Range;

use super::batch::{DELETE_HORIZON_BIT, put};
use super::builder::set_crc;
use super::varint::{self, Cursor};
use super::{
    BatchError, BatchHeader, BatchView, Compression, HEADER_BYTES, RecordFlaw, TimestampType, compression,
    walk,
};

/// Where a record lies in the body of its batch, and what compaction wants to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordSpan {
    /// Its offset, less the batch's base offset.
    pub offset_delta: i32,
    /// Its value is null: it deletes its key.
    pub is_tombstone: bool,
    /// Whether it stays. Set by who decides that; at first nothing stays.
    pub stays: bool,
    timestamp_delta: i64,
    start: u32,
    /// Behind its timestamp: what lies from here on never changes.
    offset_delta_at: u32,
    key_start: u32,
    /// Where the key ends; `NULL_KEY` if there is none.
    key_end: u32,
    end: u32,
}

const NULL_KEY: u32 = u32::MAX;

impl RecordSpan {
    /// Its key, in the body that it was read from.
    #[must_use]
    pub fn key<'a>(&self, body: &'a [u8]) -> Option<&'a [u8]> {
        (self.key_end != NULL_KEY).then(|| &body[self.key_start as usize..self.key_end as usize])
    }

    /// Its value, in the body that it was read from.
    #[must_use]
    pub fn value<'a>(&self, body: &'a [u8]) -> Option<&'a [u8]> {
        let from = if self.key_end == NULL_KEY { self.key_start } else { self.key_end };
        let mut cursor = Cursor::new(&body[..self.end as usize], from as usize);
        let length = usize::try_from(cursor.i32()?).ok()?;
        let start = cursor.at();
        cursor.skip(length)?;
        Some(&body[start..start + length])
    }

    /// Headers are not looked at: they stay or go with their record.
    #[inline(always)]
    fn read(body: &[u8], start: usize) -> Result<Self, RecordFlaw> {
        let mut cursor = Cursor::new(body, start);
        let length = cursor.i32().ok_or(RecordFlaw::Varint)?;
        let end = match usize::try_from(length) {
            Ok(length) if length <= cursor.left() => cursor.at() + length,
            _ => return Err(RecordFlaw::Length(length)),
        };
        let mut cursor = Cursor::new(&body[..end], cursor.at());
        cursor.byte().ok_or(RecordFlaw::Varint)?;
        let timestamp_delta = cursor.i64().ok_or(RecordFlaw::Varint)?;
        let offset_delta_at = cursor.at();
        let offset_delta = cursor.i32().ok_or(RecordFlaw::Varint)?;
        let key_length = cursor.i32().ok_or(RecordFlaw::Varint)?;
        let key_start = cursor.at();
        let key_end = match usize::try_from(key_length) {
            Ok(length) => {
                cursor.skip(length).ok_or(RecordFlaw::Key(key_length))?;
                position(cursor.at())
            }
            Err(_) if key_length == -1 => NULL_KEY,
            Err(_) => return Err(RecordFlaw::Key(key_length)),
        };
        let value_length = cursor.i32().ok_or(RecordFlaw::Varint)?;
        Ok(Self {
            offset_delta,
            is_tombstone: value_length == -1,
            stays: false,
            timestamp_delta,
            start: position(start),
            offset_delta_at: position(offset_delta_at),
            key_start: position(key_start),
            key_end,
            end: position(end),
        })
    }

    fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// A body is never larger than the limit on what a batch decompresses to.
fn position(at: usize) -> u32 {
    u32::try_from(at).expect("bodies are bounded below 4 GiB")
}

/// Most that a batch may decompress to here: places in it are 32 bits.
const BODY_BYTES_MAX: usize = 1 << 31;

/// Reads where the records of a batch lie, into memory that the caller reuses, and hands both the records as
/// they are when they are not compressed and the spans to `then`.
///
/// Offsets may have holes but must rise and stay within the batch. The CRC is not checked.
///
/// # Errors
/// When the records are not what the header says, or do not decompress within `decompressed_bytes_max`.
pub fn with_spans<T>(
    batch: &BatchView<'_>,
    decompressed_bytes_max: usize,
    spans: &mut Vec<RecordSpan>,
    then: impl FnOnce(&[u8], &mut [RecordSpan]) -> T,
) -> Result<T, BatchError> {
    let header = batch.header();
    if header.record_count < 0 {
        return Err(BatchError::RecordCount(header.record_count));
    }
    let limit = decompressed_bytes_max.min(BODY_BYTES_MAX);
    compression::with_decompressed(header.compression()?, batch.body(), limit, |body| {
        read_spans(&header, body, spans)?;
        Ok(then(body, spans))
    })?
}

fn read_spans(header: &BatchHeader, body: &[u8], spans: &mut Vec<RecordSpan>) -> Result<(), BatchError> {
    spans.clear();
    let (mut at, mut before) = (0, -1);
    for record in 0..header.record_count {
        let span = RecordSpan::read(body, at).map_err(|flaw| BatchError::Record { record, flaw })?;
        if span.offset_delta <= before || span.offset_delta > header.last_offset_delta {
            let flaw = RecordFlaw::OffsetDelta(span.offset_delta);
            return Err(BatchError::Record { record, flaw });
        }
        before = span.offset_delta;
        at = span.end as usize;
        spans.push(span);
    }
    walk::check_end(header, body, at)
}

/// Appends to `out` the batch of those records of `header`'s batch that stay; `body` and `spans` are what
/// [`with_spans`] gave. With `delete_horizon_ms` the batch remembers when its tombstones may go.
///
/// # Panics
/// If no record stays: that is no batch, see [`without_records`].
pub fn retain(
    header: &BatchHeader,
    (body, spans): (&[u8], &[RecordSpan]),
    delete_horizon_ms: Option<i64>,
    out: &mut Vec<u8>,
) {
    let staying = spans.iter().filter(|span| span.stays);
    let (mut count, mut max_delta) = (0, i64::MIN);
    for span in staying {
        count += 1;
        max_delta = max_delta.max(span.timestamp_delta);
    }
    assert!(count > 0, "a batch of no records is not made of records");
    let mut header = *header;
    header.record_count = count;
    if header.timestamp_type() == TimestampType::CreateTime {
        header.max_timestamp = header.base_timestamp.wrapping_add(max_delta);
    }
    let base_moves_by = delete_horizon_ms.map_or(0, |horizon| horizon.wrapping_sub(header.base_timestamp));
    if let Some(horizon) = delete_horizon_ms {
        header.base_timestamp = horizon;
        header.attributes |= DELETE_HORIZON_BIT;
    }
    let start = out.len();
    // The codec was read when the body was decompressed.
    match header.compression().unwrap_or_default() {
        Compression::None => {
            out.resize(start + HEADER_BYTES, 0);
            copy_staying(body, spans, base_moves_by, out);
        }
        codec => {
            let mut stays = Vec::with_capacity(body.len());
            copy_staying(body, spans, base_moves_by, &mut stays);
            out.extend_from_slice(&compression::compressed(codec, &stays));
        }
    }
    finish(header, &mut out[start..]);
}

/// Appends to `out` the batch without any record, as it is kept when it holds the last sequence of its producer.
pub fn without_records(header: &BatchHeader, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + HEADER_BYTES, 0);
    let attributes = header.attributes & !DELETE_HORIZON_BIT & !super::batch::CODEC_BITS;
    let header = BatchHeader { attributes, base_timestamp: -1, record_count: 0, ..*header };
    finish(header, &mut out[start..]);
}

/// Fills in the header of the batch that `bytes` is.
fn finish(mut header: BatchHeader, bytes: &mut [u8]) {
    header.batch_length = i32::try_from(bytes.len() - 12).expect("a body is bounded below 2 GiB");
    put(bytes, 0, header.encode());
    set_crc(bytes);
}

fn copy_staying(body: &[u8], spans: &[RecordSpan], base_moves_by: i64, out: &mut Vec<u8>) {
    if base_moves_by != 0 {
        for span in spans.iter().filter(|span| span.stays) {
            let delta = span.timestamp_delta.wrapping_sub(base_moves_by);
            let rest = &body[span.offset_delta_at as usize..span.end as usize];
            varint::put(out, (1 + varint::size(delta) + rest.len()) as i64);
            // The attributes of a record are unused.
            out.push(0);
            varint::put(out, delta);
            out.extend_from_slice(rest);
        }
        return;
    }
    // Records that stay most often follow each other.
    let mut run = 0..0;
    for span in spans.iter().filter(|span| span.stays) {
        let range = span.range();
        if range.start != run.end {
            out.extend_from_slice(&body[run]);
            run = range.start..range.start;
        }
        run.end = range.end;
    }
    out.extend_from_slice(&body[run]);
}

#[cfg(test)]
mod tests;
