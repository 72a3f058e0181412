//! Administrative operations: topics, partitions, offsets, records, settings, storage, groups, transactions, placement,
//! features, the cluster itself.
//!
//! Each operation has its own error. An operation is tried again while that is certain to be harmless and
//! the client's total timeout lasts; when it may have been carried out already, the caller decides.

mod cluster;
mod configs;
mod features;
mod groups;
mod offsets;
mod placement;
mod storage;
mod topics;
mod transactions;

use std::future::Future;

use millstream_protocol::{ErrorCode, KStr};
use tokio::time::Instant;

use crate::client::Client;
use crate::error::{ClientError, Refusal, known};
use crate::metadata::BrokerId;

pub use cluster::{ClusterDescription, DescribeClusterError};
pub use configs::{
    AlterConfigsError, AlterMode, ConfigEdit, ConfigEntry, ConfigResource, ConfigSource, DescribeConfigsError,
};
pub use features::{
    DescribeFeaturesError, DescribeQuorumError, Feature, FeatureChange, Quorum, UpdateFeatureError,
};
pub use groups::{
    CommitOffsetsError, CommittedOffset, CommittedOffsetsError, DeleteGroupError, DeleteOffsetsError,
    DescribeGroupError, GroupDescription, GroupFilter, GroupKind, GroupLag, GroupLagError, GroupListing,
    GroupMember, GroupPartitions, ListGroupsError, NewOffset, PartitionLag, Remove, RemoveMemberError,
};
pub use offsets::{DeleteRecordsError, DeleteUpTo, ListOffsetsError, ListedOffset, OffsetAt};
pub use placement::{
    DescribeLogDirsError, ElectLeaderError, Election, ListReassignmentsError, LogDir, LogDirPartition,
    ReassignError, Reassignment,
};
pub use storage::{
    CompactTopicError, Compaction, CompactionProgress, DataDirectory, DescribeStorageError, PartitionStorage,
    Quarantined, TopicStorage,
};
pub use topics::{
    AddPartitionsError, CreateTopicError, CreatedTopic, DeleteTopicError, DescribeTopicError, NewTopic,
};

pub use transactions::{
    AbortTransactionError, ActiveProducer, DescribeProducersError, DescribeTransactionError,
    FenceProducerError, ListTransactionsError, TransactionDescription, TransactionFilter, TransactionListing,
};

/// Administrative operations of a [`Client`]. Cheap to make and to clone.
///
/// ```no_run
/// # async fn example(client: millstream_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use millstream_client::{NewTopic, OffsetAt};
///
/// let admin = client.admin();
/// let created = admin.create_topic(NewTopic::new("orders").partitions(4)).await?;
/// println!("{} has the id {}", created.name, created.id);
///
/// let latest = admin.list_offsets("orders", &[(0, OffsetAt::Latest)]).await?;
/// println!("partition 0 ends at {:?}", latest[0].offset);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Admin {
    client: Client,
}

impl Admin {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Runs `attempt` until it succeeds, fails in a way that trying again cannot mend or might double, or
    /// time is up.
    async fn retry<T, E, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T, E>
    where
        E: Judged,
        F: Future<Output = Result<T, E>>,
    {
        let deadline = Instant::now() + self.client.total_timeout();
        let mut failures = 0;
        loop {
            let error = match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            failures += 1;
            let wait = self.client.backoff(failures);
            if !error.may_be_repeated() || Instant::now() + wait > deadline {
                return Err(error);
            }
            tokio::time::sleep(wait).await;
        }
    }
}

impl Admin {
    /// The brokers that there are now.
    async fn all_brokers(&self) -> Result<Vec<BrokerId>, ClientError> {
        let cluster = self.client.metadata(&[]).await?;
        Ok(cluster.brokers.iter().map(|broker| broker.id).collect())
    }
}

/// Whether an error leaves it certain that nothing happened, and trying again makes sense.
trait Judged {
    fn may_be_repeated(&self) -> bool;
}

/// Answers the two questions for an operation's error: `Refused` and `Request` know by themselves, the
/// variants named are definite and without effect. An operation that only reads never has one.
macro_rules! judge {
    ($error:ident only reads $(, $definite:ident)*) => {
        $crate::admin::judge!(@ $error $(, $definite)*);

        impl $error {
            /// Always: nothing is changed by asking.
            #[must_use]
            pub fn had_no_effect(&self) -> bool {
                true
            }
        }
    };
    ($error:ident $(, $definite:ident)*) => {
        $crate::admin::judge!(@ $error $(, $definite)*);

        impl $error {
            /// Whether it is certain that nothing was changed.
            #[must_use]
            pub fn had_no_effect(&self) -> bool {
                match self {
                    $(Self::$definite { .. } => true,)*
                    Self::Refused(refusal) => refusal.had_no_effect(),
                    Self::Request(error) => error.had_no_effect(),
                }
            }
        }
    };
    (@ $error:ident $(, $definite:ident)*) => {
        impl $error {
            /// Whether the same call may succeed later without a change.
            #[must_use]
            pub fn is_retriable(&self) -> bool {
                match self {
                    $(Self::$definite { .. } => false,)*
                    Self::Refused(refusal) => refusal.is_retriable(),
                    Self::Request(error) => error.is_retriable(),
                }
            }
        }

        impl $crate::admin::Judged for $error {
            fn may_be_repeated(&self) -> bool {
                self.is_retriable() && self.had_no_effect()
            }
        }
    };
}
use judge;

/// The refusal that a response carries, if its code is one.
fn refusal(code: i16, message: Option<&KStr>, subject: impl FnOnce() -> String) -> Result<(), Refusal> {
    match known(code) {
        ErrorCode::None => Ok(()),
        code => Err(Refusal { subject: subject(), code, message: message.map(KStr::to_string) }),
    }
}

/// An answer that leaves out what was asked.
fn unanswered(subject: String) -> Refusal {
    let message = Some("the broker's answer does not mention it".to_owned());
    Refusal { subject, code: ErrorCode::UnknownServerError, message }
}

/// The broker's share of the time a request may take, in its terms.
fn timeout_ms(client: &Client) -> i32 {
    i32::try_from(client.request_timeout().as_millis()).unwrap_or(i32::MAX)
}
