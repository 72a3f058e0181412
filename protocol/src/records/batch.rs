//! The header of a batch, and a whole batch looked at in place.

use super::{BatchError, Compression, crc32c};

/// Bytes of the header, from the base offset to the record count.
pub const HEADER_BYTES: usize = 61;

/// The CRC covers a batch from here to its end.
pub const CRC_COVERS_FROM: usize = AT_ATTRIBUTES;

/// Base offset and batch length: what the batch length does not count.
const LENGTH_PREFIX: usize = 12;

pub(super) const AT_LENGTH: usize = 8;
pub(super) const AT_LEADER_EPOCH: usize = 12;
pub(super) const AT_MAGIC: usize = 16;
pub(super) const AT_CRC: usize = 17;
pub(super) const AT_ATTRIBUTES: usize = 21;
const AT_LAST_OFFSET_DELTA: usize = 23;
const AT_BASE_TIMESTAMP: usize = 27;
pub(super) const AT_MAX_TIMESTAMP: usize = 35;
const AT_PRODUCER_ID: usize = 43;
const AT_PRODUCER_EPOCH: usize = 51;
const AT_BASE_SEQUENCE: usize = 53;
const AT_RECORD_COUNT: usize = 57;

pub(super) const MAGIC: i8 = 2;

pub(super) const CODEC_BITS: i16 = 0b111;
pub(super) const LOG_APPEND_TIME_BIT: i16 = 1 << 3;
pub(super) const TRANSACTIONAL_BIT: i16 = 1 << 4;
pub(super) const CONTROL_BIT: i16 = 1 << 5;
pub(super) const DELETE_HORIZON_BIT: i16 = 1 << 6;

/// Whose clock the timestamps of a batch come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// The producer's: each record has its own.
    #[default]
    CreateTime,
    /// The broker's: all records have the batch's max timestamp.
    LogAppendTime,
}

/// The fields of a batch's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record that the batch was written with.
    pub base_offset: i64,
    /// Bytes of the batch without this field and those before it.
    pub batch_length: i32,
    /// Epoch of the leader that placed the batch; -1 when none did.
    pub partition_leader_epoch: i32,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Codec, timestamp type and flags.
    pub attributes: i16,
    /// Offset of the last record, less the base offset.
    pub last_offset_delta: i32,
    /// What the timestamps of the records are relative to: that of the first record that the batch was written
    /// with, or the delete horizon; -1 for none.
    pub base_timestamp: i64,
    /// Largest timestamp of the records, or the log append time.
    pub max_timestamp: i64,
    /// Producer id; -1 for none.
    pub producer_id: i64,
    /// Producer epoch; -1 for none.
    pub producer_epoch: i16,
    /// Sequence of the first record; -1 for none.
    pub base_sequence: i32,
    /// How many records follow.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads a header from the first 61 bytes; what follows need not be there yet.
    pub fn decode(bytes: &[u8]) -> Result<Self, BatchError> {
        // Old message sets can be shorter than a header; to name their format helps more than "cut off".
        if let Some(&magic) = bytes.get(AT_MAGIC)
            && magic as i8 != MAGIC
        {
            return Err(BatchError::Magic(magic as i8));
        }
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(BatchError::Incomplete { needed: HEADER_BYTES, present: bytes.len() });
        };
        let header = Self {
            base_offset: i64::from_be_bytes(field(bytes, 0)),
            batch_length: i32::from_be_bytes(field(bytes, AT_LENGTH)),
            partition_leader_epoch: i32::from_be_bytes(field(bytes, AT_LEADER_EPOCH)),
            crc: u32::from_be_bytes(field(bytes, AT_CRC)),
            attributes: i16::from_be_bytes(field(bytes, AT_ATTRIBUTES)),
            last_offset_delta: i32::from_be_bytes(field(bytes, AT_LAST_OFFSET_DELTA)),
            base_timestamp: i64::from_be_bytes(field(bytes, AT_BASE_TIMESTAMP)),
            max_timestamp: i64::from_be_bytes(field(bytes, AT_MAX_TIMESTAMP)),
            producer_id: i64::from_be_bytes(field(bytes, AT_PRODUCER_ID)),
            producer_epoch: i16::from_be_bytes(field(bytes, AT_PRODUCER_EPOCH)),
            base_sequence: i32::from_be_bytes(field(bytes, AT_BASE_SEQUENCE)),
            record_count: i32::from_be_bytes(field(bytes, AT_RECORD_COUNT)),
        };
        if header.size_in_bytes() < HEADER_BYTES || header.batch_length < 0 {
            return Err(BatchError::BatchLength(header.batch_length));
        }
        Ok(header)
    }

    /// Writes the header, its CRC as it stands.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        put(&mut bytes, 0, self.base_offset.to_be_bytes());
        put(&mut bytes, AT_LENGTH, self.batch_length.to_be_bytes());
        put(&mut bytes, AT_LEADER_EPOCH, self.partition_leader_epoch.to_be_bytes());
        put(&mut bytes, AT_MAGIC, MAGIC.to_be_bytes());
        put(&mut bytes, AT_CRC, self.crc.to_be_bytes());
        put(&mut bytes, AT_ATTRIBUTES, self.attributes.to_be_bytes());
        put(&mut bytes, AT_LAST_OFFSET_DELTA, self.last_offset_delta.to_be_bytes());
        put(&mut bytes, AT_BASE_TIMESTAMP, self.base_timestamp.to_be_bytes());
        put(&mut bytes, AT_MAX_TIMESTAMP, self.max_timestamp.to_be_bytes());
        put(&mut bytes, AT_PRODUCER_ID, self.producer_id.to_be_bytes());
        put(&mut bytes, AT_PRODUCER_EPOCH, self.producer_epoch.to_be_bytes());
        put(&mut bytes, AT_BASE_SEQUENCE, self.base_sequence.to_be_bytes());
        put(&mut bytes, AT_RECORD_COUNT, self.record_count.to_be_bytes());
        bytes
    }

    /// Bytes of the whole batch.
    #[must_use]
    pub fn size_in_bytes(&self) -> usize {
        LENGTH_PREFIX + usize::try_from(self.batch_length).unwrap_or(0)
    }

    /// Offset of the last record that the batch was written with.
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        self.base_offset.wrapping_add(i64::from(self.last_offset_delta))
    }

    /// Sequence of the last record; after `i32::MAX` comes 0. -1 without a producer id.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return self.base_sequence;
        }
        self.base_sequence.wrapping_add(self.last_offset_delta) & i32::MAX
    }

    /// The codec of the records.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        let code = self.attributes & CODEC_BITS;
        Compression::from_code(code).ok_or(BatchError::UnknownCompression(code))
    }

    /// Whose clock the timestamps come from.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        match self.attributes & LOG_APPEND_TIME_BIT {
            0 => TimestampType::CreateTime,
            _ => TimestampType::LogAppendTime,
        }
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Whether the records are markers of the broker, not data.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// From when on the batch's tombstones may go, in milliseconds; `None` before compaction has been through.
    #[must_use]
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON_BIT != 0).then_some(self.base_timestamp)
    }
}

fn field<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the slice has the length of the array")
}

pub(super) fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

/// One whole batch, looked at in place.
#[derive(Clone, Copy, Debug)]
pub struct BatchView<'a> {
    bytes: &'a [u8],
    header: BatchHeader,
}

impl<'a> BatchView<'a> {
    /// Takes the batch at the start of `bytes`, which may go on behind it. The CRC is not checked.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let header = BatchHeader::decode(bytes)?;
        let needed = header.size_in_bytes();
        match bytes.get(..needed) {
            Some(bytes) => Ok(Self { bytes, header }),
            None => Err(BatchError::Incomplete { needed, present: bytes.len() }),
        }
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> BatchHeader {
        self.header
    }

    /// The whole batch.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What follows the header: the records, compressed as the header says.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// Whether the bytes are those that the CRC was made of.
    #[must_use]
    pub fn crc_is_valid(&self) -> bool {
        crc32c(&self.bytes[AT_ATTRIBUTES..]) == self.header.crc
    }

    /// Bytes of the whole batch.
    #[must_use]
    pub fn size_in_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Offset of the first record.
    #[must_use]
    pub fn base_offset(&self) -> i64 {
        self.header.base_offset
    }

    /// Offset of the last record.
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        self.header.last_offset()
    }

    /// Offset of the last record, less the base offset.
    #[must_use]
    pub fn last_offset_delta(&self) -> i32 {
        self.header.last_offset_delta
    }

    /// How many records the header announces.
    #[must_use]
    pub fn record_count(&self) -> i32 {
        self.header.record_count
    }

    /// Timestamp of the first record; -1 for none.
    #[must_use]
    pub fn base_timestamp(&self) -> i64 {
        self.header.base_timestamp
    }

    /// Largest timestamp of the records, or the log append time.
    #[must_use]
    pub fn max_timestamp(&self) -> i64 {
        self.header.max_timestamp
    }

    /// Producer id; -1 for none.
    #[must_use]
    pub fn producer_id(&self) -> i64 {
        self.header.producer_id
    }

    /// Producer epoch; -1 for none.
    #[must_use]
    pub fn producer_epoch(&self) -> i16 {
        self.header.producer_epoch
    }

    /// Sequence of the first record; -1 for none.
    #[must_use]
    pub fn base_sequence(&self) -> i32 {
        self.header.base_sequence
    }

    /// The codec of the records.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        self.header.compression()
    }

    /// Whose clock the timestamps come from.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        self.header.timestamp_type()
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.header.is_transactional()
    }

    /// Whether the records are markers of the broker, not data.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.header.is_control()
    }
}
