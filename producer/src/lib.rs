//! A producer: records in, batches out, acknowledgements back.
//!
//! [`Producer::send`] puts a record into a batch of its partition and returns a [`Delivery`] to await or to
//! drop. Batches leave when they are full, when they have lingered, or when nothing else is under way; each is
//! written once and in order, also when answers are lost or leaders move ([`Idempotence`]). Whatever fails
//! says whether it may be written all the same ([`ProduceError::possibly_written`]).
//!
//! Knows nothing of sockets and metadata: those are `millstream-client`'s. Has no transactions yet.
//!
//! In reading order: `record`, `producer` (the handle), `buffer` (where records gather), `sender` (the task
//! that sends them), `sender/lane` (one partition's order, sequences and retries, without I/O).

mod record;

mod builder;
mod producer;

mod buffer;
mod clock;
mod delivery;
mod partitioner;

mod sender;

mod error;

pub use builder::{Acks, Idempotence, ProducerBuilder};
pub use delivery::Delivery;
pub use error::{Fate, FlushError, ProduceError, SendError};
pub use millstream_protocol::records::{Compression, RecordHeader};
pub use producer::{Producer, ProducerStats};
pub use record::{Record, RecordMetadata};
