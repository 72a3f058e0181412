//! What groups keep in `__consumer_offsets`: Kafka's own formats.
//!
//! ```text
//! key    kind i16 | fields        the kind says which (OffsetCommit 0 and 1, GroupMetadata 2, ...)
//! value  version i16 | fields     null removes what the key names
//! ```
//! Every version is read; written is what Kafka 4.3 writes. A kind that is not known here is left alone: Kafka
//! has more, and a topic that came from it may hold them.

use bytes::Bytes;
use millstream_protocol::messages::{
    GroupMetadataKey, GroupMetadataValue, OffsetCommitKey, OffsetCommitValue,
};
use millstream_protocol::wire::{DecodeError, EncodeError, Reader};
use millstream_protocol::{KStr, Message};

use super::consumer::ConsumerChange;
pub(super) use crate::coordinator::format::{KEY_VERSION, decoded, encoded};

/// Kinds of keys.
const LEGACY_OFFSET: i16 = 0;
const OFFSET: i16 = 1;
const CLASSIC: i16 = 2;

/// The version that says which topic an offset is of.
const OFFSET_WRITTEN: i16 = 4;
/// The last version without tagged fields.
const CLASSIC_WRITTEN: i16 = 3;

/// One change of a group; `None` for a value is its removal.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum GroupRecord {
    Offset { group: KStr, topic: KStr, partition: i32, value: Option<OffsetCommitValue> },
    Classic { group: KStr, value: Option<GroupMetadataValue> },
    Consumer { group: KStr, change: ConsumerChange },
}

impl GroupRecord {
    /// The id of the group that it is of.
    pub(crate) fn group(&self) -> &str {
        match self {
            Self::Offset { group, .. } | Self::Classic { group, .. } | Self::Consumer { group, .. } => group,
        }
    }

    /// The key and the value as they are stored.
    pub(crate) fn encode(&self) -> Result<(Bytes, Option<Bytes>), EncodeError> {
        match self {
            Self::Offset { group, topic, partition, value } => {
                let key =
                    OffsetCommitKey { group: group.clone(), topic: topic.clone(), partition: *partition };
                encoded(OFFSET, &key, OFFSET_WRITTEN, value.as_ref())
            }
            Self::Classic { group, value } => {
                let key = GroupMetadataKey { group: group.clone() };
                encoded(CLASSIC, &key, CLASSIC_WRITTEN, value.as_ref())
            }
            Self::Consumer { group, change } => change.encode(group),
        }
    }

    /// Reads a record; `None` for a kind that is not known here.
    pub(crate) fn decode(key: &Bytes, value: Option<&Bytes>) -> Result<Option<Self>, DecodeError> {
        let mut reader = Reader::new(key);
        Ok(match reader.i16()? {
            LEGACY_OFFSET | OFFSET => {
                let OffsetCommitKey { group, topic, partition } = Message::decode(&mut reader, KEY_VERSION)?;
                Some(Self::Offset { group, topic, partition, value: decoded(value)? })
            }
            CLASSIC => {
                let GroupMetadataKey { group } = Message::decode(&mut reader, KEY_VERSION)?;
                Some(Self::Classic { group, value: decoded(value)? })
            }
            kind => {
                let change = ConsumerChange::decode(kind, &mut reader, value)?;
                change.map(|(group, change)| Self::Consumer { group, change })
            }
        })
    }
}

#[cfg(test)]
mod tests;
