//! Records that tell of themselves: each carries its number, from which the rest of it follows.

use bytes::Bytes;
use millstream_protocol::KStr;
use millstream_protocol::records::{BatchBuilder, Compression, NewRecord, Record, RecordHeader};

/// A record as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) number: u64,
    pub(super) key: Option<u64>,
    /// `None` is a tombstone.
    pub(super) value_bytes: Option<usize>,
    pub(super) timestamp: i64,
}

impl Sent {
    fn key(&self) -> Option<Vec<u8>> {
        self.key.map(|key| format!("key-{key}").into_bytes())
    }

    fn value(&self) -> Option<Vec<u8>> {
        let number = self.number;
        self.value_bytes
            .map(|bytes| (0..bytes as u64).map(|at| (number.wrapping_mul(31) + at) as u8).collect())
    }

    fn headers(&self) -> [RecordHeader; 1] {
        let value = Bytes::copy_from_slice(&self.number.to_be_bytes());
        [RecordHeader { key: KStr::from_static("number"), value: Some(value) }]
    }

    /// Whether a record that was read is this one, byte by byte.
    pub(super) fn is(&self, record: &Record) -> bool {
        self.key().as_deref() == record.key.as_deref()
            && self.value().as_deref() == record.value.as_deref()
            && self.headers().as_slice() == record.headers.as_slice()
            && self.timestamp == record.timestamp
    }
}

/// The number that a record claims to have.
pub(super) fn number_of(record: &Record) -> Option<u64> {
    let value = record.headers.first()?.value.as_ref()?;
    Some(u64::from_be_bytes(value.as_ref().try_into().ok()?))
}

/// Who an idempotent producer is, and the sequence of a batch's first record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sequenced {
    pub(super) producer: i64,
    pub(super) epoch: i16,
    pub(super) sequence: i32,
}

pub(super) fn batch(sent: &[Sent], compression: Compression, by: Option<Sequenced>) -> Bytes {
    let mut builder = BatchBuilder::new(compression);
    if let Some(Sequenced { producer, epoch, sequence }) = by {
        builder.producer(producer, epoch, sequence);
    }
    for record in sent {
        let (key, value, headers) = (record.key(), record.value(), record.headers());
        let (key, value) = (key.as_deref(), value.as_deref());
        builder.append(&NewRecord { timestamp: record.timestamp, key, value, headers: &headers });
    }
    builder.build()
}
