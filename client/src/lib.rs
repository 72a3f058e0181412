//! A client of brokers that speak Kafka's protocol: what producers, consumers and tools share.
//!
//! [`Client`] finds the broker that a request is for, keeps metadata fresh and tries again where that is
//! harmless; [`Admin`] has the administrative operations; [`Client::request`] sends any request of the
//! protocol. Errors answer two questions: may it be tried again, and may it have happened
//! ([`ClientError::is_retriable`], [`ClientError::had_no_effect`]).
//!
//! Works with Millstream and with Apache Kafka. Knows nothing of records, batches or groups: those are the
//! business of `millstream-producer` and `millstream-consumer`. Nothing runs in the background but one task
//! for each open connection, and dropping a handle never blocks.
//!
//! In reading order: `address` and `transport` (where to, and over what), `connection` (frames, versions,
//! pipelining), `pool`, `metadata`, `coordinator`, `client`, `admin`.

mod address;
mod transport;

mod connection;
mod pool;

mod backoff;
mod coordinator;
mod group;
mod metadata;

mod builder;
mod client;

mod admin;
mod error;

mod encoding;

#[cfg(feature = "embedded")]
pub mod embedded;
#[cfg(any(test, feature = "fake-broker"))]
pub mod fake;

pub use address::Address;
pub use admin::{
    AbortTransactionError, ActiveProducer, AddPartitionsError, Admin, AlterConfigsError, AlterMode,
    ClusterDescription, CommitOffsetsError, CommittedOffset, CommittedOffsetsError, CompactTopicError,
    Compaction, CompactionProgress, ConfigEdit, ConfigEntry, ConfigResource, ConfigSource, CreateTopicError,
    CreatedTopic, DataDirectory, DeleteGroupError, DeleteOffsetsError, DeleteRecordsError, DeleteTopicError,
    DeleteUpTo, DescribeClusterError, DescribeConfigsError, DescribeFeaturesError, DescribeGroupError,
    DescribeLogDirsError, DescribeProducersError, DescribeQuorumError, DescribeStorageError,
    DescribeTopicError, DescribeTransactionError, ElectLeaderError, Election, Feature, FeatureChange,
    FenceProducerError, GroupDescription, GroupFilter, GroupKind, GroupLag, GroupLagError, GroupListing,
    GroupMember, GroupPartitions, ListGroupsError, ListOffsetsError, ListReassignmentsError,
    ListTransactionsError, ListedOffset, LogDir, LogDirPartition, NewOffset, NewTopic, OffsetAt,
    PartitionLag, PartitionStorage, Quarantined, Quorum, ReassignError, Reassignment, Remove,
    RemoveMemberError, TopicStorage, TransactionDescription, TransactionFilter, TransactionListing,
    UpdateFeatureError,
};
pub use backoff::Backoff;
pub use builder::{ClientBuilder, Properties, PropertyError};
pub use client::{Client, Missing, To};
pub use connection::{Authenticating, AuthenticationError, Authenticator, CallOptions, Connection, Reply};
#[cfg(feature = "json")]
pub use encoding::Json;
#[cfg(feature = "prost")]
pub use encoding::Prost;
pub use encoding::{Deserializer, Serializer};
pub use error::{Attempt, ClientError, Progress, Refusal};
pub use group::{GroupMetadata, Source};
pub use metadata::{BrokerId, BrokerMetadata, ClusterMetadata, PartitionMetadata, TopicMetadata};
pub use transport::{Connecting, ReadHalf, Stream, Tcp, Transport, WriteHalf};

pub use millstream_protocol as protocol;
