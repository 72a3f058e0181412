//! Records for consumers: owned slices of the bytes that arrived, or of what they decompress to.

use std::iter::FusedIterator;

use bytes::Bytes;

use super::varint::Cursor;
use super::walk::{self, RecordLayout};
use super::{BatchError, BatchHeader, BatchView, Compression, HEADER_BYTES, TimestampType, compression};
use crate::KStr;

/// One record, as a consumer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its offset in the partition.
    pub offset: i64,
    /// Milliseconds since 1970, by the clock that the batch's timestamp type names; -1 for none.
    pub timestamp: i64,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; null deletes the key from a compacted topic.
    pub value: Option<Bytes>,
    /// Headers in the order in which the producer gave them, duplicates included.
    pub headers: Vec<RecordHeader>,
}

/// A header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Its name, not necessarily unique. What is not UTF-8 is replaced when read, as in Kafka's own client.
    pub key: KStr,
    /// Its value.
    pub value: Option<Bytes>,
}

/// The records of the batch at the start of `batch`, decompressed to at most `decompressed_bytes_max` bytes.
///
/// The CRC is not checked, see [`BatchView::crc_is_valid`]. Offsets may have holes: compaction leaves some.
pub fn records(batch: &Bytes, decompressed_bytes_max: usize) -> Result<Records, BatchError> {
    let view = BatchView::parse(batch)?;
    let header = view.header();
    if header.record_count < 0 {
        return Err(BatchError::RecordCount(header.record_count));
    }
    let body = match header.compression()? {
        Compression::None => batch.slice(HEADER_BYTES..view.size_in_bytes()),
        codec => compression::with_decompressed(
            codec,
            view.body(),
            decompressed_bytes_max,
            Bytes::copy_from_slice,
        )?,
    };
    Ok(Records { header, body, at: 0, next: 0 })
}

/// Iterates over the records of one batch; after an error it ends.
#[derive(Clone, Debug)]
pub struct Records {
    header: BatchHeader,
    body: Bytes,
    at: usize,
    next: i32,
}

impl Records {
    /// The header of the batch.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    fn read(&mut self) -> Result<Record, BatchError> {
        let record = self.next;
        let blame = |flaw| BatchError::Record { record, flaw };
        let layout = RecordLayout::read(&self.body, self.at).map_err(blame)?;
        let headers = self.headers(&layout).map_err(blame)?;
        if record == self.header.record_count - 1 {
            walk::check_end(&self.header, &self.body, layout.end)?;
        }
        self.at = layout.end;
        self.next += 1;
        Ok(Record {
            offset: self.header.base_offset.wrapping_add(i64::from(layout.offset_delta)),
            timestamp: match self.header.timestamp_type() {
                TimestampType::CreateTime => self.header.base_timestamp.wrapping_add(layout.timestamp_delta),
                TimestampType::LogAppendTime => self.header.max_timestamp,
            },
            key: layout.key.map(|range| self.body.slice(range)),
            value: layout.value.map(|range| self.body.slice(range)),
            headers,
        })
    }

    fn headers(&self, layout: &RecordLayout) -> Result<Vec<RecordHeader>, super::RecordFlaw> {
        let mut cursor = Cursor::new(&self.body[..layout.end], layout.headers_at);
        // The layout has proved that as many headers are there.
        let mut headers = Vec::with_capacity(usize::try_from(layout.header_count).unwrap_or(0));
        for _ in 0..layout.header_count {
            let (key, value) = walk::header(&mut cursor)?;
            let key = KStr::from_utf8(self.body.slice(key))
                .unwrap_or_else(|bytes| KStr::from(String::from_utf8_lossy(&bytes).into_owned()));
            headers.push(RecordHeader { key, value: value.map(|range| self.body.slice(range)) });
        }
        Ok(headers)
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.header.record_count {
            return None;
        }
        let record = self.read();
        if record.is_err() {
            self.next = self.header.record_count;
        }
        Some(record)
    }
}

impl FusedIterator for Records {}

/// Cuts what a Fetch answered, or a piece of a log, into its batches.
///
/// A batch that is cut off at the end is left out: Kafka's brokers may fill a Fetch up to its size limit.
#[must_use]
pub fn batches(bytes: Bytes) -> Batches {
    Batches { rest: bytes }
}

/// Iterates over the whole batches in a run of bytes; after an error it ends.
#[derive(Clone, Debug)]
pub struct Batches {
    rest: Bytes,
}

impl Iterator for Batches {
    type Item = Result<Bytes, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let size = BatchView::parse(&self.rest).map(|batch| batch.size_in_bytes());
        match size {
            Ok(size) => Some(Ok(self.rest.split_to(size))),
            Err(error) => {
                self.rest.clear();
                let cut_off = matches!(error, BatchError::Incomplete { .. });
                (!cut_off).then_some(Err(error))
            }
        }
    }
}

impl FusedIterator for Batches {}
