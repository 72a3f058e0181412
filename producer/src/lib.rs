//! A producer: records in, batches out, acknowledgements back.
//!
//! [`Producer::send`] puts a record into a batch of its partition and returns a [`Delivery`] to await or to
//! drop. Batches leave when they are full, when they have lingered, or when nothing else is under way; each is
//! written once and in order, also when answers are lost or leaders move ([`Idempotence`]). Whatever fails
//! says whether it may be written all the same ([`ProduceError::possibly_written`]).
//!
//! A [`TransactionalProducer`] writes to several partitions all or nothing, together with the offsets of what it has
//! consumed ([`Transaction`]).
//!
//! Knows nothing of sockets and metadata: those are `millstream-client`'s.
//!
//! In reading order: `record`, `producer` (the handle), `buffer` (where records gather), `sender` (the task
//! that sends them), `sender/lane` (one partition's order, sequences and retries, without I/O), `transaction` (the handles),
//! `sender/transaction` (what a transactional id asks its coordinator, without I/O).

mod record;

mod builder;
mod producer;

mod buffer;
mod clock;
mod delivery;
mod metering;
mod partitioner;

mod sender;
mod transaction;

mod error;

pub use builder::{Acks, Idempotence, ProducerBuilder, TransactionalProducerBuilder};
pub use delivery::Delivery;
pub use error::{Fate, FlushError, ProduceError, SendError};
pub use millstream_protocol::records::{Codec, Compression, NoSuchLevel, RecordHeader};
pub use partitioner::{Murmur2, Partitioner, partition_for_key};
pub use producer::{Producer, ProducerExt, ProducerStats};
pub use record::{Record, RecordMetadata};
pub use transaction::{Ending, SessionError, Transaction, TransactionError, TransactionalProducer};
