//! What a program is told when its partitions change, and what it may say to that.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use millstream_protocol::KStr;
use tokio::time::Instant;

use super::commit::Committer;
use crate::builder::StartAt;

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: KStr,
    /// The number of the partition.
    pub partition: i32,
}

impl TopicPartition {
    /// A partition of a topic.
    #[must_use]
    pub fn new(topic: impl Into<KStr>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A change of the partitions that a member of a group reads, as a hook is told of it.
///
/// The hook's future runs while the program waits in [`recv`](crate::Consumer::recv) and its likes, one at a time and in
/// order. It belongs to the consumer: a `recv` that is dropped does not drop it. Records of other partitions are
/// handed out meanwhile.
///
/// ```no_run
/// # async fn example(client: millstream_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use millstream_consumer::{ConsumerExt, Rebalance, StartAt};
///
/// let consumer = client.consumer("billing").subscribe(["orders"]).start_at(StartAt::Beginning);
/// let consumer = consumer.on_rebalance(|rebalance| async move {
///     match rebalance {
///         Rebalance::Assigned(assigned) => println!("now ours: {:?}", assigned.partitions()),
///         Rebalance::Revoked(revoked) => println!("going until {:?}: {:?}", revoked.deadline(), revoked.partitions()),
///         Rebalance::Lost(lost) => println!("gone: {:?}", lost.partitions()),
///         _ => {}
///     }
/// });
/// let mut consumer = consumer.build().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Rebalance {
    /// Partitions are read from now on.
    Assigned(Assigned),
    /// Partitions are to be given up.
    Revoked(Revoked),
    /// Partitions are gone already.
    Lost(Lost),
}

/// Partitions that are read once the hook is done, from what the group has committed unless it says otherwise.
#[derive(Debug)]
pub struct Assigned {
    partitions: Vec<TopicPartition>,
    starts: Starts,
}

/// Where a hook wants partitions to be read.
pub(crate) type Starts = Arc<Mutex<Vec<(TopicPartition, StartAt)>>>;

impl Assigned {
    pub(crate) fn new(partitions: Vec<TopicPartition>, starts: Starts) -> Self {
        Self { partitions, starts }
    }

    /// The partitions, in order.
    #[must_use]
    pub fn partitions(&self) -> &[TopicPartition] {
        &self.partitions
    }

    /// Has a partition read from somewhere else than what the group has committed: what a program does that keeps its
    /// positions with its results. Of a partition that is not among these: nothing.
    pub fn start(&self, partition: &TopicPartition, at: StartAt) {
        if self.partitions.contains(partition) {
            self.starts.lock().unwrap_or_else(PoisonError::into_inner).push((partition.clone(), at));
        }
    }
}

/// Partitions that are given up once the hook is done. Nothing of them is handed out any more.
#[derive(Debug)]
pub struct Revoked {
    partitions: Vec<TopicPartition>,
    deadline: Instant,
    committer: Committer,
}

impl Revoked {
    pub(crate) fn new(partitions: Vec<TopicPartition>, deadline: Instant, committer: Committer) -> Self {
        Self { partitions, deadline, committer }
    }

    /// The partitions, in order.
    #[must_use]
    pub fn partitions(&self) -> &[TopicPartition] {
        &self.partitions
    }

    /// Until when the hook has to be done. After that they are taken away without asking: commits for them fail, and the
    /// program is told so ([`ConsumeError::PartitionsLost`](crate::ConsumeError::PartitionsLost)).
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Commits what is done: these partitions are still this member's.
    #[must_use]
    pub fn committer(&self) -> &Committer {
        &self.committer
    }
}

/// Partitions that are gone: the member was out of its group, or did not give them up in time. Others may read them
/// already, and commits for them fail.
#[derive(Debug)]
pub struct Lost {
    partitions: Vec<TopicPartition>,
}

impl Lost {
    pub(crate) fn new(partitions: Vec<TopicPartition>) -> Self {
        Self { partitions }
    }

    /// The partitions, in order.
    #[must_use]
    pub fn partitions(&self) -> &[TopicPartition] {
        &self.partitions
    }
}

/// What a hook returns.
pub(crate) type Hooked = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A program's hook.
#[derive(Clone)]
pub(crate) struct Hook(Arc<Mutex<dyn FnMut(Rebalance) -> Hooked + Send>>);

impl Hook {
    pub(crate) fn new<F>(mut hook: impl FnMut(Rebalance) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self(Arc::new(Mutex::new(move |rebalance| Box::pin(hook(rebalance)) as Hooked)))
    }

    pub(crate) fn call(&self, rebalance: Rebalance) -> Hooked {
        (self.0.lock().unwrap_or_else(PoisonError::into_inner))(rebalance)
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}
