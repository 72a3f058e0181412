//! Protocol buffers, through prost.

use std::convert::Infallible;

use prost::Message;

use super::{Deserializer, Serializer};

/// Protocol buffers, for every message of prost; the bare message, without the prefix of a schema registry. With the
/// feature `prost`.
///
/// ```
/// use millstream_client::{Deserializer, Prost, Serializer};
///
/// // prost has the well-known wrapper messages for plain types.
/// let bytes = Prost.serialize(&"two apples".to_owned())?;
/// let order: String = Prost.deserialize(&bytes)?;
/// assert_eq!(order, "two apples");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prost;

impl<T: Message> Serializer<T> for Prost {
    type Error = Infallible;

    fn serialize(&self, value: &T) -> Result<Vec<u8>, Infallible> {
        Ok(value.encode_to_vec())
    }
}

impl<T: Message + Default> Deserializer<T> for Prost {
    type Error = prost::DecodeError;

    fn deserialize(&self, bytes: &[u8]) -> Result<T, prost::DecodeError> {
        T::decode(bytes)
    }
}
