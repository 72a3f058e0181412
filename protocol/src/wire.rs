//! How fields become bytes: the reader and writer that all generated messages share.
//!
//! Knows Kafka's primitive types in their two forms (KIP-482) and nothing of any message. Reading never
//! panics and never allocates by a length that the bytes at hand do not bear out.

mod reader;
mod writer;

pub use reader::Reader;
pub use writer::{Chunk, FileSlice, Writer};

/// The two ways in which Kafka writes lengths, nulls and trailing tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Fixed-width lengths, -1 for null, no tags.
    Classic,
    /// Varint lengths plus one, 0 for null, tagged fields at the end of each structure (KIP-482).
    Flexible,
}

impl Form {
    /// The form of a message at `version` whose first flexible version is `flexible_from`.
    #[must_use]
    pub fn at(version: i16, flexible_from: i16) -> Self {
        if version >= flexible_from { Self::Flexible } else { Self::Classic }
    }
}

/// Why bytes are not the message that they claim to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside a field.
    #[error("{missing} more bytes are needed where {left} are left")]
    TooShort {
        /// Bytes that the field lacks.
        missing: usize,
        /// Bytes that were left for it.
        left: usize,
    },
    /// A length or count that is negative where null is not allowed, or larger than what follows it.
    #[error("a length of {length} is impossible with {left} bytes left")]
    Length {
        /// The length as it was read.
        length: i64,
        /// Bytes that were left.
        left: usize,
    },
    /// A varint that does not end within its five or ten bytes.
    #[error("a variable-length number does not end")]
    Varint,
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    Utf8,
    /// Null where this version does not allow it.
    #[error("null where a value is required")]
    Null,
    /// Tags that are not in rising order, or one whose content is not as long as it says.
    #[error("tagged field {tag} is out of order or not as long as it says")]
    Tag {
        /// The tag.
        tag: u32,
    },
    /// Elements that take far more memory than the bytes they came in.
    #[error("the message would take more than {limit} bytes of memory")]
    Memory {
        /// The limit.
        limit: usize,
    },
    /// Bytes that are left after the message.
    #[error("{left} bytes follow the end of the message")]
    Trailing {
        /// How many.
        left: usize,
    },
    /// The message does not exist in this version.
    #[error("version {version} of this message does not exist")]
    Version {
        /// The version.
        version: i16,
    },
}

/// Why a message cannot be written in a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A field that says something this version cannot express.
    #[error("{field} cannot be expressed in version {version}")]
    Unsupported {
        /// `Message.field`.
        field: &'static str,
        /// The version.
        version: i16,
    },
    /// A string, array or frame that is longer than its length field can say.
    #[error("a value of {length} elements is too long for its length field")]
    TooLong {
        /// Its length.
        length: usize,
    },
}
