//! The bytes of Kafka: requests, responses, record batches and error codes. Sans-io.
//!
//! Bottom layer: knows how a field, a message, a frame and a record batch are written, and nothing of sockets,
//! files (but that a slice of one can be part of a reply) or brokers. Whatever comes from outside is bounded
//! by the bytes that are really there; nothing here panics on it.
//!
//! In reading order: [`wire`] has the primitive types, [`messages`] all requests and responses (generated from
//! `protocol/schema` by `protocol/gen`), [`encode_request`] and its neighbours whole frames, [`records`] the
//! record batch.

mod kstr;
pub mod wire;

mod generated;
mod header;
mod message;
mod own_states;

mod error_code;
pub mod records;

/// All requests and responses; parts of a message live in a module named after it.
pub mod messages {
    pub use crate::generated::*;
}

pub use error_code::ErrorCode;
pub use header::{RequestHeader, decode_response, encode_request, encode_response};
pub use kstr::KStr;
pub use message::{Message, Request};
pub use messages::ApiKey;
pub use own_states::{CompactionState, StorageState};
pub use uuid::Uuid;
pub use wire::{Chunk, FileSlice};
