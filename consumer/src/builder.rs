//! Settings of a consumer, and what it reads.

use std::time::Duration;

use millstream_client::{Client, ClientError, Missing, OffsetAt};
use millstream_protocol::KStr;

use crate::consumer::Consumer;
use crate::error::ConsumeError;

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
    pub(crate) max_partition_bytes: i32,
    pub(crate) max_decompressed_bytes: usize,
    pub(crate) max_poll_records: usize,
    pub(crate) out_of_range: OutOfRange,
    pub(crate) isolation: Isolation,
}

/// Builds a [`Consumer`].
#[derive(Debug, Clone)]
#[must_use = "call build()"]
pub struct ConsumerBuilder {
    client: Client,
    assignments: Vec<Assignment>,
    stop: StopAt,
    settings: FetchSettings,
}

impl ConsumerBuilder {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            assignments: Vec::new(),
            stop: StopAt::Never,
            settings: FetchSettings {
                max_wait: Duration::from_millis(500),
                min_bytes: 1,
                max_bytes: 16 * 1024 * 1024,
                max_partition_bytes: 4 * 1024 * 1024,
                max_decompressed_bytes: 128 * 1024 * 1024,
                max_poll_records: 1000,
                out_of_range: OutOfRange::Fail,
                isolation: Isolation::ReadUncommitted,
            },
        }
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

    /// How many records [`poll`](Consumer::poll) gathers before it returns, if so many are at hand.
    /// Default: 1000.
    pub fn max_poll_records(mut self, records: usize) -> Self {
        self.settings.max_poll_records = records.max(1);
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

    /// Looks up where to start.
    ///
    /// # Errors
    /// That a topic or partition does not exist, or that nobody can be asked.
    pub async fn build(self) -> Result<Consumer, ConsumeError> {
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
