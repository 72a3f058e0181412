//! Building a batch record by record, as a producer does.

use bytes::Bytes;

use super::batch::{AT_ATTRIBUTES, AT_CRC, TRANSACTIONAL_BIT, put};
use super::{BatchHeader, Codec, Compression, HEADER_BYTES, RecordHeader, compression, crc32c, varint};

/// A record to append.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewRecord<'a> {
    /// Milliseconds since 1970; -1 for none.
    pub timestamp: i64,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
    /// Headers, in order; keys may repeat.
    pub headers: &'a [RecordHeader],
}

impl NewRecord<'_> {
    /// The most bytes that the record can take in any batch, before compression.
    #[must_use]
    pub fn size_bound(&self) -> usize {
        // Five bytes for its length, one of attributes, ten and five for the deltas.
        21 + self.content_size()
    }

    /// Key, value and headers with their lengths.
    fn content_size(&self) -> usize {
        let headers = self.headers.iter().map(|header| {
            let value = header.value.as_deref();
            bytes_size(Some(header.key.as_bytes())) + bytes_size(value)
        });
        bytes_size(self.key)
            + bytes_size(self.value)
            + varint::size(self.headers.len() as i64)
            + headers.sum::<usize>()
    }
}

fn bytes_size(bytes: Option<&[u8]>) -> usize {
    varint::size(length(bytes)) + bytes.map_or(0, <[u8]>::len)
}

/// As it is written: -1 for null.
fn length(bytes: Option<&[u8]>) -> i64 {
    bytes.map_or(-1, |bytes| bytes.len() as i64)
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    varint::put(out, length(bytes));
    out.extend_from_slice(bytes.unwrap_or_default());
}

/// Collects records and makes a batch of them. Compresses once, at the end.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    codec: Codec,
    /// Room for the header, then the records.
    bytes: Vec<u8>,
    header: BatchHeader,
}

impl BatchBuilder {
    /// A batch without records, producer or place in a log.
    #[must_use]
    pub fn new(codec: impl Into<Codec>) -> Self {
        Self::with_capacity(codec, 0)
    }

    /// The same, with memory for `capacity` bytes of records.
    #[must_use]
    pub fn with_capacity(codec: impl Into<Codec>, capacity: usize) -> Self {
        let codec = codec.into();
        let mut bytes = Vec::with_capacity(HEADER_BYTES + capacity);
        bytes.resize(HEADER_BYTES, 0);
        let header = BatchHeader {
            base_offset: 0,
            batch_length: 0,
            partition_leader_epoch: -1,
            crc: 0,
            attributes: codec.compression().code(),
            last_offset_delta: -1,
            base_timestamp: -1,
            max_timestamp: -1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 0,
        };
        Self { codec, bytes, header }
    }

    /// Names the idempotent producer; `base_sequence` is that of the first record.
    pub fn producer(&mut self, id: i64, epoch: i16, base_sequence: i32) -> &mut Self {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Has the batch belong to a transaction of its producer.
    pub fn transactional(&mut self) -> &mut Self {
        self.attributes(TRANSACTIONAL_BIT)
    }

    /// Sets flags beside the codec.
    pub(super) fn attributes(&mut self, flags: i16) -> &mut Self {
        self.header.attributes |= flags;
        self
    }

    /// Adds a record and says how many lie before it.
    ///
    /// # Panics
    /// If the batch grows beyond the 2 GiB that its format can describe: check [`size_with`](Self::size_with)
    /// against a sane limit before.
    pub fn append(&mut self, record: &NewRecord<'_>) -> i32 {
        let offset_delta = self.header.record_count;
        if offset_delta == 0 {
            self.header.base_timestamp = record.timestamp;
            self.header.max_timestamp = record.timestamp;
        }
        let timestamp_delta = record.timestamp.wrapping_sub(self.header.base_timestamp);
        let deltas = varint::size(timestamp_delta) + varint::size(i64::from(offset_delta));
        let length = 1 + deltas + record.content_size();
        assert!(self.bytes.len() + length < i32::MAX as usize - 5, "a batch has at most 2 GiB");

        let out = &mut self.bytes;
        // By a quarter, not twofold: many batches are open at a time, and what they reserve is not used by anything.
        if out.capacity() - out.len() < length + 5 {
            out.reserve_exact((length + 5).max(out.len() / 4));
        }
        varint::put(out, length as i64);
        let start = out.len();
        out.push(0);
        varint::put(out, timestamp_delta);
        varint::put(out, i64::from(offset_delta));
        put_bytes(out, record.key);
        put_bytes(out, record.value);
        varint::put(out, record.headers.len() as i64);
        for header in record.headers {
            put_bytes(out, Some(header.key.as_bytes()));
            put_bytes(out, header.value.as_deref());
        }
        debug_assert_eq!(out.len() - start, length, "the length is written before its content");

        self.header.max_timestamp = self.header.max_timestamp.max(record.timestamp);
        self.header.last_offset_delta = offset_delta;
        self.header.record_count += 1;
        offset_delta
    }

    /// Records so far.
    #[must_use]
    pub fn record_count(&self) -> i32 {
        self.header.record_count
    }

    /// Whether there is no record yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.header.record_count == 0
    }

    /// Bytes of the batch as it stands, before compression.
    #[must_use]
    pub fn size_in_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The most bytes that the batch would have with `record`, before compression.
    #[must_use]
    pub fn size_with(&self, record: &NewRecord<'_>) -> usize {
        self.bytes.len() + record.size_bound()
    }

    /// Gives back memory that was reserved for records which did not come, if it is worth the while.
    pub fn shrink(&mut self) {
        if self.bytes.capacity() - self.bytes.len() > self.bytes.len() / 8 {
            self.bytes.shrink_to_fit();
        }
    }

    /// Finishes the batch: compresses, fills in the header, sums up.
    #[must_use]
    pub fn build(self) -> Bytes {
        let Self { codec, mut bytes, header } = self;
        if codec.compression() != Compression::None {
            bytes = compression::compressed(codec, &bytes[HEADER_BYTES..]);
        }
        seal(header, bytes)
    }
}

/// Puts `header` before the body that starts behind its place in `bytes`, with the right length and CRC.
pub(super) fn seal(mut header: BatchHeader, mut bytes: Vec<u8>) -> Bytes {
    header.batch_length = i32::try_from(bytes.len() - 12).expect("a body is bounded well below 2 GiB");
    bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
    set_crc(&mut bytes);
    Bytes::from(bytes)
}

/// Sums up one whole batch anew.
pub(super) fn set_crc(batch: &mut [u8]) {
    let crc = crc32c(&batch[AT_ATTRIBUTES..]);
    put(batch, AT_CRC, crc.to_be_bytes());
}
