//! Settings of a consumer, and what it reads.

mod properties;
mod subscribing;

use std::collections::BTreeSet;
use std::time::Duration;

use millstream_client::{Client, ClientError, Missing, OffsetAt};
use millstream_protocol::KStr;

use crate::consumer::Consumer;
use crate::error::ConsumeError;
use crate::group::GroupSettings;

/// Where to start reading a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// At the first record that is there.
    Beginning,
    /// Behind the last record: only what is written from now on.
    End,
    /// At this offset.
    Offset(i64),
    /// At the first record whose timestamp is this or later, in milliseconds since 1970; at the end if there
    /// is none.
    Timestamp(i64),
    /// At what the group has committed; where it has committed nothing, as
    /// [`start_at`](ConsumerBuilder::start_at) says.
    Committed,
}

/// Where to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StopAt {
    /// Nowhere: wait for more.
    #[default]
    Never,
    /// At the end that each partition has when the consumer is built.
    CurrentEnd,
}

/// What to do when a partition does not hold the offset that is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutOfRange {
    /// Say so, and stay: records may have been lost, and only the program knows what that means.
    #[default]
    Fail,
    /// Go on with the first record that is there.
    Beginning,
    /// Go on behind the last.
    End,
}

/// Which records of transactions are handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// All, also of transactions that are open or were aborted.
    #[default]
    ReadUncommitted,
    /// Those of transactions that were committed. What lies behind the beginning of an open one waits for its end,
    /// and so does [`StopAt::CurrentEnd`].
    ReadCommitted,
}

impl Isolation {
    /// Kafka's number for it.
    pub(crate) fn level(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }

    /// What to look up: the end is where this isolation can read to.
    pub(crate) fn bound(self, at: OffsetAt) -> OffsetAt {
        match (self, at) {
            (Self::ReadCommitted, OffsetAt::Latest) => OffsetAt::LastStable,
            (Self::ReadCommitted | Self::ReadUncommitted, at) => at,
        }
    }
}

/// What is to be read.
#[derive(Debug, Clone)]
pub(crate) struct Assignment {
    pub(crate) topic: KStr,
    /// None: all partitions that the topic has.
    pub(crate) partition: Option<i32>,
    pub(crate) start: StartAt,
}

/// Limits of fetching.
#[derive(Debug, Clone)]
pub(crate) struct FetchSettings {
    pub(crate) max_wait: Duration,
    pub(crate) min_bytes: i32,
    pub(crate) max_bytes: i32,
    pub(crate) max_buffered_bytes: usize,
    pub(crate) max_partition_bytes: i32,
    pub(crate) max_decompressed_bytes: usize,
    pub(crate) max_batch_records: usize,
    pub(crate) out_of_range: OutOfRange,
    pub(crate) isolation: Isolation,
    /// The group whose committed offsets are read.
    pub(crate) group: Option<KStr>,
    /// Where to start where it has committed nothing.
    pub(crate) uncommitted: Option<StartAt>,
}

/// What a group is asked for, as it was said.
#[derive(Debug, Clone)]
enum Subscribed {
    Names(BTreeSet<KStr>),
    Pattern(String),
}

/// Has a client build consumers of groups: `client.consumer("group")`.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use millstream_client::Client;
/// use millstream_consumer::{ConsumerExt, StartAt};
///
/// let client = Client::builder("127.0.0.1:9092").connect().await?;
/// let consumer = client.consumer("billing").subscribe(["orders"]).start_at(StartAt::Beginning);
/// let mut consumer = consumer.build().await?;
/// while let Some(record) = consumer.recv().await? {
///     println!("{}-{} @{}: {:?}", record.topic, record.partition, record.offset, record.value);
///     consumer.commit(&record).await?;
/// }
/// # Ok(())
/// # }
/// ```
pub trait ConsumerExt {
    /// Starts with the name of a group: its members share the partitions of what they
    /// [`subscribe`](ConsumerBuilder::subscribe) to, and commit how far they are.
    ///
    /// For a consumer without a group there is [`Consumer::builder`].
    fn consumer(&self, group: impl Into<KStr>) -> ConsumerBuilder;
}

impl ConsumerExt for Client {
    fn consumer(&self, group: impl Into<KStr>) -> ConsumerBuilder {
        ConsumerBuilder::new(self.clone()).group(group.into())
    }
}

/// Builds a [`Consumer`].
#[derive(Debug, Clone)]
#[must_use = "call build()"]
pub struct ConsumerBuilder {
    client: Client,
    assignments: Vec<Assignment>,
    subscribed: Option<Subscribed>,
    group: GroupSettings,
    stop: StopAt,
    settings: FetchSettings,
}

impl ConsumerBuilder {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            assignments: Vec::new(),
            subscribed: None,
            group: GroupSettings::new(KStr::default()),
            stop: StopAt::Never,
            settings: FetchSettings {
                max_wait: Duration::from_millis(500),
                min_bytes: 1,
                max_bytes: 16 * 1024 * 1024,
                max_buffered_bytes: 64 * 1024 * 1024,
                max_partition_bytes: 4 * 1024 * 1024,
                max_decompressed_bytes: 128 * 1024 * 1024,
                max_batch_records: 1000,
                out_of_range: OutOfRange::Fail,
                isolation: Isolation::ReadUncommitted,
                group: None,
                uncommitted: None,
            },
        }
    }

    fn group(mut self, group: KStr) -> Self {
        self.group.group = group.clone();
        self.settings.group = Some(group);
        self
    }

    /// Reads one partition.
    pub fn assign(mut self, topic: impl Into<KStr>, partition: i32, start: StartAt) -> Self {
        self.assignments.push(Assignment { topic: topic.into(), partition: Some(partition), start });
        self
    }

    /// Reads every partition that the topic has when the consumer is built.
    pub fn assign_topic(mut self, topic: impl Into<KStr>, start: StartAt) -> Self {
        self.assignments.push(Assignment { topic: topic.into(), partition: None, start });
        self
    }

    /// Where to stop. Default: [`StopAt::Never`].
    pub fn stop(mut self, stop: StopAt) -> Self {
        self.stop = stop;
        self
    }

    /// How long the broker may wait for new records before it answers. Default: 500 ms.
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.settings.max_wait = wait;
        self
    }

    /// How many bytes the broker waits for, at most for `max_wait`. Default: 1.
    pub fn min_bytes(mut self, bytes: i32) -> Self {
        self.settings.min_bytes = bytes.max(0);
        self
    }

    /// Most bytes that one answer of a broker holds. Two answers of each broker are in memory at a time: one
    /// being read, one on its way. A single batch may exceed it. Default: 16 MiB.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_bytes = i32::try_from(bytes).unwrap_or(i32::MAX).max(1);
        self
    }

    /// Most bytes, as they come from the brokers, that wait to be handed out or are being fetched, of all brokers
    /// together. Another fetch is sent only once there is room for its whole answer
    /// ([`max_bytes`](Self::max_bytes)), so a slow program reads slowly instead of filling the memory. What the
    /// program was handed, and what one batch unpacks to, is not counted. Default: 64 MiB.
    pub fn max_buffered_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_buffered_bytes = bytes.max(1);
        self
    }

    /// Most bytes of one partition in an answer. Default: 4 MiB.
    pub fn max_partition_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_partition_bytes = i32::try_from(bytes).unwrap_or(i32::MAX).max(1);
        self
    }

    /// Most bytes that one batch may decompress to; one that would exceed it is an error. Default: 128 MiB.
    pub fn max_decompressed_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_decompressed_bytes = bytes;
        self
    }

    /// How many records [`recv_batch`](Consumer::recv_batch) gathers before it returns, if so many are at hand.
    /// Default: 1000.
    pub fn max_batch_records(mut self, records: usize) -> Self {
        self.settings.max_batch_records = records.max(1);
        self
    }

    /// What to do when a partition does not hold the offset to read. Default: [`OutOfRange::Fail`].
    pub fn out_of_range(mut self, policy: OutOfRange) -> Self {
        self.settings.out_of_range = policy;
        self
    }

    /// Which records of transactions are handed out. Default: [`Isolation::ReadUncommitted`], as in Kafka's
    /// consumers.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.settings.isolation = isolation;
        self
    }

    /// Looks up where to start; with [`subscribe`](Self::subscribe) it joins the group in the background, and does not wait
    /// for that.
    ///
    /// # Errors
    /// That settings do not go together, that a topic or partition does not exist, or that nobody can be asked.
    pub async fn build(self) -> Result<Consumer, ConsumeError> {
        if let Some(subscription) = self.subscription()? {
            let following = self.group.join(&self.client, subscription);
            let mut consumer = Consumer::new(self.client, self.settings);
            consumer.following = Some(following);
            return Ok(consumer);
        }
        let mut partitions = Vec::new();
        for Assignment { topic, partition, start } in self.assignments {
            let metadata = self.client.topic(&topic, Missing::Fail).await?;
            match partition {
                None => {
                    let all = metadata.partitions.iter();
                    partitions.extend(all.map(|partition| (topic.clone(), partition.index, start)));
                }
                Some(index) if metadata.partition(index).is_some() => partitions.push((topic, index, start)),
                Some(partition) => {
                    let partitions = metadata.partitions.len();
                    let topic = topic.to_string();
                    return Err(ClientError::UnknownPartition { topic, partition, partitions }.into());
                }
            }
        }
        // The last word counts where a partition is named twice.
        let mut consumer = Consumer::new(self.client, self.settings);
        for (topic, partition, start) in partitions {
            consumer.add(topic, partition, start);
        }
        consumer.settle_starts(self.stop).await?;
        Ok(consumer)
    }
}
