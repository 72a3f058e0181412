//! How Kafka's coordinators write a record: the key says its kind, the value its version.
//!
//! ```text
//! key    kind i16 | fields
//! value  version i16 | fields     null removes what the key names
//! ```

use bytes::Bytes;
use millstream_protocol::Message;
use millstream_protocol::wire::{Chunk, DecodeError, EncodeError, Reader, Writer};

/// The longest text that a key can have, and a value of an old version; in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = i16::MAX as usize;

/// The only version of every key.
pub(crate) const KEY_VERSION: i16 = 0;

/// A record that is not what it says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error(transparent)]
    Bytes(#[from] DecodeError),
    #[error("{what} cannot be {found}")]
    Value { what: &'static str, found: i64 },
}

/// The key and the value as they are stored.
pub(crate) fn encoded<K: Message, V: Message>(
    kind: i16,
    key: &K,
    version: i16,
    value: Option<&V>,
) -> Result<(Bytes, Option<Bytes>), EncodeError> {
    let value = value.map(|value| prefixed(version, value, version)).transpose()?;
    Ok((prefixed(kind, key, KEY_VERSION)?, value))
}

fn prefixed<M: Message>(prefix: i16, message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::new();
    writer.i16(prefix);
    message.encode(&mut writer, version)?;
    let mut chunks = writer.into_chunks();
    let first = chunks.swap_remove(0);
    assert!(chunks.is_empty(), "only messages with records have several chunks");
    Ok(Chunk::into_bytes(first))
}

/// A value of whatever version it says.
pub(crate) fn decoded<V: Message>(value: Option<&Bytes>) -> Result<Option<V>, DecodeError> {
    let Some(value) = value else { return Ok(None) };
    let mut reader = Reader::new(value);
    let version = reader.i16()?;
    V::decode(&mut reader, version).map(Some)
}
