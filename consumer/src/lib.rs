//! A consumer: the records of assigned partitions, in the order of their offsets.
//!
//! [`Consumer::recv`] hands out one record, [`Consumer::recv_batch`] as many as are at hand, [`Consumer::stream`] is
//! the same as a stream. Records own what they
//! hold. An offset that is not there is an error first, and skipped only if asked for ([`OutOfRange`]);
//! trouble that does not pass is reported, not waited out in silence.
//!
//! With `client.consumer("group")` ([`ConsumerExt`]) consumers share the partitions of topics and commit how far they
//! are, in either of Kafka's group protocols; the program is asked before a partition goes ([`Rebalance`]). Nothing is
//! committed unless asked for.
//!
//! Above it stand two ways to work on records: [`Consumer::run`] with many handlers at a time, in order where it
//! matters, at least once; and [`projection`] into a result that keeps its position, exactly once.
//!
//! Knows nothing of sockets and metadata: those are `millstream-client`'s.
//!
//! In reading order: `record`, `consumer` (the handle), `partition` (one cursor), `lookup` (whom to ask, and from
//! where on), `fetching` (what becomes of the answers), `session` (what a request has to name), `decode`, `offsets`,
//! `group`, `source` (a consumer as the input of transactions).

mod offsets;
mod record;

mod builder;
mod consumer;

mod partition;

mod decode;
mod fetching;
mod lookup;
mod session;

mod group;
mod source;

pub mod projection;
mod runner;

mod error;
mod panicked;

pub use builder::{ConsumerBuilder, ConsumerExt, Isolation, OutOfRange, StartAt, StopAt};
pub use consumer::{Consumer, TopicPartitionOffset};
pub use error::{ConsumeError, NotAssigned, SettingsError};
pub use group::{
    Assigned, Assignor, CommitError, Committer, GroupError, GroupProtocol, GroupStatus, LossReason, Lost,
    MemberState, Rebalance, Revoked, TopicPartition,
};
pub use millstream_protocol::records::RecordHeader;
pub use offsets::Offsets;
pub use record::{ConsumerRecord, Typed, Undecodable};
pub use runner::{Failure, ParkError, RetryPolicy, RunError, RunReport, Runner, parked};
