//! What can be wrong with a batch, in words for the person who runs its producer.

use super::Compression;

/// Why bytes are not a batch that can be stored or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than the header, or than the header says.
    #[error("the batch needs {needed} bytes and only {present} are there: it was cut off")]
    Incomplete {
        /// Bytes of the header, or of the whole batch if the header is there.
        needed: usize,
        /// Bytes that are there.
        present: usize,
    },
    /// A batch length that does not even hold the header.
    #[error("a batch length of {0} is impossible: the header alone takes 49 of those bytes")]
    BatchLength(i32),
    /// Message sets from before Kafka 0.11, or something else.
    #[error("record format {0} is not served, only 2: update the client to one for Kafka 0.11 or newer")]
    Magic(i8),
    /// A codec that Kafka has not defined.
    #[error("compression codec {0} is unknown")]
    UnknownCompression(i16),
    /// A negative count of records.
    #[error("a batch cannot hold {0} records")]
    RecordCount(i32),
    /// Count and last offset delta contradict each other.
    #[error("a batch of {count} records must have a last offset delta of {}, not {last}", count - 1)]
    LastOffsetDelta {
        /// Records in the batch, as its header says.
        count: i32,
        /// The last offset delta in the header.
        last: i32,
    },
    /// The compressed bytes do not decompress.
    #[error("the records do not decompress as {compression}: {detail}")]
    Decompression {
        /// The codec that the header names.
        compression: Compression,
        /// What the codec says.
        detail: String,
    },
    /// Decompressing stopped at the limit.
    #[error("the records decompress to more than {limit} bytes, the most that is allowed")]
    TooLarge {
        /// The limit in force.
        limit: usize,
    },
    /// One record is to blame.
    #[error("record {record} of the batch: {flaw}")]
    Record {
        /// The place of the record in its batch, from 0.
        record: i32,
        /// What is wrong with it.
        flaw: RecordFlaw,
    },
    /// More bytes than records.
    #[error("{bytes} bytes follow the last of the {count} records that the header announces")]
    Surplus {
        /// Records in the batch, as its header says.
        count: i32,
        /// Bytes behind the last.
        bytes: usize,
    },
}

impl BatchError {
    /// The record that is to blame, by its place in the batch, if it is a single one.
    #[must_use]
    pub fn record(&self) -> Option<i32> {
        match self {
            Self::Record { record, .. } => Some(*record),
            Self::Incomplete { .. }
            | Self::BatchLength(_)
            | Self::Magic(_)
            | Self::UnknownCompression(_)
            | Self::RecordCount(_)
            | Self::LastOffsetDelta { .. }
            | Self::Decompression { .. }
            | Self::TooLarge { .. }
            | Self::Surplus { .. } => None,
        }
    }
}

/// What is wrong with one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFlaw {
    /// A varint that is cut off, too long or too large for its field.
    #[error("a variable-length number is cut off or larger than its field")]
    Varint,
    /// A record length that is negative or reaches beyond the batch.
    #[error("its length of {0} does not fit into the batch")]
    Length(i32),
    /// A key length below -1 or beyond the record.
    #[error("its key length of {0} does not fit into the record")]
    Key(i32),
    /// A value length below -1 or beyond the record.
    #[error("its value length of {0} does not fit into the record")]
    Value(i32),
    /// More headers than the record has room for, or fewer than none.
    #[error("its count of {0} headers does not fit into the record")]
    HeaderCount(i32),
    /// A header key that is null or reaches beyond the record.
    #[error("a header key length of {0} does not fit into the record")]
    HeaderKey(i32),
    /// A header value length below -1 or beyond the record.
    #[error("a header value length of {0} does not fit into the record")]
    HeaderValue(i32),
    /// Bytes left over inside the record.
    #[error("{0} of its bytes belong to no field")]
    Surplus(usize),
    /// Offsets that do not count up by one from the base offset.
    #[error("its offset delta is {0}, which must equal its place in the batch")]
    OffsetDelta(i32),
    /// A timestamp beyond what 64 bits hold.
    #[error("its timestamp is out of range")]
    Timestamp,
}
