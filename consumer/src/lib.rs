//! A consumer: the records of assigned partitions, in the order of their offsets.
//!
//! [`Consumer::next`] hands out one record, [`Consumer::poll`] as many as are at hand. Records own what they
//! hold. An offset that is not there is an error first, and skipped only if asked for ([`OutOfRange`]);
//! trouble that does not pass is reported, not waited out in silence.
//!
//! Knows nothing of sockets and metadata: those are `millstream-client`'s. Has no groups and commits nothing
//! yet: the program keeps its positions.
//!
//! In reading order: `record`, `consumer` (the handle), `partition` (one cursor), `fetching` (whom to ask, and
//! what becomes of the answers), `session` (what a request has to name), `decode`.

mod record;

mod builder;
mod consumer;

mod partition;

mod decode;
mod fetching;
mod session;

mod error;

pub use builder::{ConsumerBuilder, Isolation, OutOfRange, StartAt, StopAt};
pub use consumer::{Consumer, TopicPartitionOffset};
pub use error::{ConsumeError, NotAssigned};
pub use millstream_protocol::records::RecordHeader;
pub use record::ConsumerRecord;
