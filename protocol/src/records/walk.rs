//! The walk over the records of a batch: every length checked, nothing copied.

use std::ops::Range;

use super::varint::Cursor;
use super::{BatchError, BatchHeader, BatchView, RecordFlaw, compression};

/// What a walk over all records found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validated {
    /// Smallest timestamp of the records; -1 for a batch without records.
    pub min_timestamp: i64,
    /// Largest timestamp of the records; -1 for a batch without records.
    pub max_timestamp: i64,
    /// Bytes of the records when they are not compressed.
    pub decompressed_bytes: usize,
    /// Records whose key is null.
    pub without_key: usize,
}

/// Checks all records of a batch that a producer wrote: each length lies within its record, the records fill
/// the batch exactly, and their offsets count up by one.
///
/// Decompresses if need be, and gives up once that yields more than `decompressed_bytes_max` bytes. Not for
/// compacted batches, which have holes.
pub fn validate(batch: &BatchView<'_>, decompressed_bytes_max: usize) -> Result<Validated, BatchError> {
    let header = batch.header();
    let (count, last) = (header.record_count, header.last_offset_delta);
    if count < 0 {
        return Err(BatchError::RecordCount(count));
    }
    if last != count - 1 {
        return Err(BatchError::LastOffsetDelta { count, last });
    }
    compression::with_decompressed(header.compression()?, batch.body(), decompressed_bytes_max, |body| {
        validate_body(&header, body)
    })?
}

fn validate_body(header: &BatchHeader, body: &[u8]) -> Result<Validated, BatchError> {
    let (mut min, mut max) = (i64::MAX, i64::MIN);
    let (mut at, mut without_key) = (0, 0);
    for index in 0..header.record_count {
        let record =
            RecordLayout::read(body, at).map_err(|flaw| BatchError::Record { record: index, flaw })?;
        if record.offset_delta != index {
            let flaw = RecordFlaw::OffsetDelta(record.offset_delta);
            return Err(BatchError::Record { record: index, flaw });
        }
        min = min.min(record.timestamp_delta);
        max = max.max(record.timestamp_delta);
        without_key += usize::from(record.key.is_none());
        at = record.end;
    }
    check_end(header, body, at)?;
    if header.record_count == 0 {
        let decompressed_bytes = body.len();
        return Ok(Validated { min_timestamp: -1, max_timestamp: -1, decompressed_bytes, without_key });
    }
    let timestamp = |delta| header.base_timestamp.checked_add(delta);
    let (Some(min), Some(max)) = (timestamp(min), timestamp(max)) else {
        return Err(BatchError::Record { record: 0, flaw: RecordFlaw::Timestamp });
    };
    Ok(Validated { min_timestamp: min, max_timestamp: max, decompressed_bytes: body.len(), without_key })
}

/// The last record must end where the body ends.
pub(super) fn check_end(header: &BatchHeader, body: &[u8], at: usize) -> Result<(), BatchError> {
    match body.len() - at {
        0 => Ok(()),
        bytes => Err(BatchError::Surplus { count: header.record_count, bytes }),
    }
}

/// Where the parts of one record lie in the body.
#[derive(Debug)]
pub(super) struct RecordLayout {
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) key: Option<Range<usize>>,
    pub(super) value: Option<Range<usize>>,
    /// Where the first header begins.
    pub(super) headers_at: usize,
    pub(super) header_count: i32,
    pub(super) end: usize,
}

impl RecordLayout {
    /// Reads the record at `at`. All that it describes, headers included, lies within the record.
    #[inline(always)]
    pub(super) fn read(body: &[u8], at: usize) -> Result<Self, RecordFlaw> {
        let mut cursor = Cursor::new(body, at);
        let length = cursor.i32().ok_or(RecordFlaw::Varint)?;
        let end = match usize::try_from(length) {
            Ok(length) if length <= cursor.left() => cursor.at() + length,
            _ => return Err(RecordFlaw::Length(length)),
        };
        let mut cursor = Cursor::new(&body[..end], cursor.at());
        cursor.byte().ok_or(RecordFlaw::Varint)?;
        let timestamp_delta = cursor.i64().ok_or(RecordFlaw::Varint)?;
        let offset_delta = cursor.i32().ok_or(RecordFlaw::Varint)?;
        let key = nullable(&mut cursor, RecordFlaw::Key)?;
        let value = nullable(&mut cursor, RecordFlaw::Value)?;
        let header_count = cursor.i32().ok_or(RecordFlaw::Varint)?;
        let headers_at = cursor.at();
        if header_count != 0 {
            skip_headers(&mut cursor, header_count)?;
        }
        match cursor.left() {
            0 => Ok(Self { timestamp_delta, offset_delta, key, value, headers_at, header_count, end }),
            bytes => Err(RecordFlaw::Surplus(bytes)),
        }
    }
}

/// A length of -1 is null; otherwise as many bytes follow.
#[inline(always)]
fn nullable(
    cursor: &mut Cursor<'_>,
    flaw: impl Fn(i32) -> RecordFlaw,
) -> Result<Option<Range<usize>>, RecordFlaw> {
    let length = cursor.i32().ok_or(RecordFlaw::Varint)?;
    if length == -1 {
        return Ok(None);
    }
    let start = cursor.at();
    let skipped = usize::try_from(length).ok().and_then(|length| cursor.skip(length));
    skipped.ok_or_else(|| flaw(length))?;
    Ok(Some(start..cursor.at()))
}

fn skip_headers(cursor: &mut Cursor<'_>, count: i32) -> Result<(), RecordFlaw> {
    // The shortest header has two bytes, which bounds the loop, and what readers allocate, by what is there.
    if usize::try_from(count).is_ok_and(|count| count <= cursor.left() / 2) {
        for _ in 0..count {
            header(cursor)?;
        }
        return Ok(());
    }
    Err(RecordFlaw::HeaderCount(count))
}

/// Reads one header: where its key and value lie.
#[inline]
pub(super) fn header(cursor: &mut Cursor<'_>) -> Result<(Range<usize>, Option<Range<usize>>), RecordFlaw> {
    let key = nullable(cursor, RecordFlaw::HeaderKey)?.ok_or(RecordFlaw::HeaderKey(-1))?;
    let value = nullable(cursor, RecordFlaw::HeaderValue)?;
    Ok((key, value))
}
