//! What every message can do. The messages themselves are generated.

use std::fmt::Debug;

use crate::messages::ApiKey;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// A structure of Kafka's protocol: a request, a response, or a part of one.
///
/// A field that a version lacks is decoded as its default. Encoding such a field fails if it says something
/// else than its default, unless the protocol calls it ignorable.
pub trait Message: Sized + Default + Clone + Debug + PartialEq + Send + 'static {
    /// Reads one in the form of `version`.
    fn decode(reader: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError>;

    /// Writes one in the form of `version`.
    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError>;
}

/// A request, and what it is answered with.
pub trait Request: Message {
    /// Its API.
    const KEY: ApiKey;
    /// Its answer.
    type Response: Message;
}
