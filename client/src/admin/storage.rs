//! Millstream's own operations: how partitions are stored, and compacting them now. Kafka's brokers do not know
//! them; the client says so before it sends anything.

use millstream_protocol::messages::compact_logs_request::CompactLogsTopic;
use millstream_protocol::messages::compact_logs_response::CompactLogsPartitionResult;
use millstream_protocol::messages::describe_storage_request::DescribeStorageTopic;
use millstream_protocol::messages::describe_storage_response::{
    DescribeStorageDirectory, DescribeStoragePartition,
};
use millstream_protocol::messages::{CompactLogsRequest, DescribeStorageRequest};
use millstream_protocol::{CompactionState, ErrorCode, KStr, StorageState};

use super::{Admin, judge, refusal, unanswered};
use crate::client::To;
use crate::connection::CallOptions;
use crate::error::{ClientError, Refusal};

/// Whether a compaction is asked for, or only asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compaction {
    /// It begins now; one that is under way goes on.
    Start,
    /// Nothing is changed.
    Ask,
}

/// How far the compaction of a partition is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactionProgress {
    /// The partition.
    pub partition: i32,
    /// What it is doing; `None` if the broker is newer and has a word for it that this client does not know.
    pub state: Option<CompactionState>,
    /// Bytes done of the run that is under way, or of the last one.
    pub done_bytes: u64,
    /// Bytes that this run has to read.
    pub total_bytes: u64,
    /// Bytes that no compaction has been through.
    pub dirty_bytes: u64,
    /// Runs since the broker started.
    pub runs: u64,
    /// When the last one ended, in milliseconds since 1970.
    pub last_end_ms: Option<i64>,
    /// How long it took, in milliseconds.
    pub last_duration_ms: Option<i64>,
    /// Why it failed, or cannot be done.
    pub message: Option<String>,
}

/// Why a topic was not compacted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CompactTopicError {
    /// There is no such topic.
    #[error("there is no topic {topic:?}")]
    UnknownTopic {
        /// The topic.
        topic: String,
    },
    /// The topic has no such partition.
    #[error("topic {topic:?} has no partition {partition}")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// The broker refuses.
    #[error("{0}")]
    Refused(Refusal),
    /// The request got no usable answer.
    #[error(transparent)]
    Request(#[from] ClientError),
}
judge!(CompactTopicError, UnknownTopic, UnknownPartition);

/// Where a broker stores, and how a topic's partitions are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicStorage {
    /// The broker's data folders.
    pub directories: Vec<DataDirectory>,
    /// The partitions, by number.
    pub partitions: Vec<PartitionStorage>,
}

/// A data folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDirectory {
    /// Where it is on the broker's machine.
    pub path: String,
    /// What is wrong with it, if something is.
    pub problem: Option<String>,
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Bytes that there are in all.
    pub total_bytes: u64,
    /// With less than this free, it takes no records.
    pub free_bytes_min: u64,
    /// It takes no records now.
    pub is_refusing: bool,
}

/// How a partition is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionStorage {
    /// The partition.
    pub partition: i32,
    /// How its log is; `None` if the broker is newer and has a word for it that this client does not know.
    pub state: Option<StorageState>,
    /// What is wrong with it, if something is.
    pub problem: Option<String>,
    /// Its data folder.
    pub directory: String,
    /// The epoch in which it is written now.
    pub leader_epoch: Option<i32>,
    /// Files of records.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The first offset that is there.
    pub log_start: Option<i64>,
    /// Consumers see what lies below it.
    pub high_watermark: Option<i64>,
    /// The offset that the next record gets.
    pub log_end: Option<i64>,
    /// What lies below it is on the device.
    pub durable: Option<i64>,
    /// The time of the oldest record, in milliseconds since 1970.
    pub oldest_record_ms: Option<i64>,
    /// When the oldest segment is deleted.
    pub next_deletion_ms: Option<i64>,
    /// Why it will be, or why none will.
    pub next_deletion_reason: Option<String>,
    /// Of several records with one key only the last is kept.
    pub is_compacted: bool,
    /// Compaction has been through what lies below it.
    pub cleaned_to: Option<i64>,
    /// Bytes that it has not been through.
    pub dirty_bytes: u64,
    /// When it ended last, in milliseconds since 1970.
    pub last_compaction_ms: Option<i64>,
    /// What cannot be read because it is damaged.
    pub quarantined: Vec<Quarantined>,
}

/// Offsets that are answered with CORRUPT_MESSAGE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// The first.
    pub from: i64,
    /// The one behind the last.
    pub to: i64,
    /// Bytes that are damaged.
    pub bytes: u64,
    /// What is wrong with them.
    pub reason: String,
}

/// Why the storage of a topic was not described.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DescribeStorageError {
    /// The broker refuses.
    #[error("{0}")]
    Refused(Refusal),
    /// The request got no usable answer.
    #[error(transparent)]
    Request(#[from] ClientError),
}
judge!(DescribeStorageError only reads);

impl Admin {
    /// Has partitions of a topic compacted, or asks how far that is. No partition named means all of them.
    /// Returns at once: the broker goes on by itself, whoever asks.
    ///
    /// # Errors
    /// That there is no such topic or partition, that it is none that is compacted, or that the broker refuses
    /// or cannot be asked.
    pub async fn compact_topic(
        &self,
        topic: &str,
        partitions: &[i32],
        compaction: Compaction,
    ) -> Result<Vec<CompactionProgress>, CompactTopicError> {
        let wanted = CompactLogsTopic { name: KStr::from(topic), partitions: partitions.to_vec() };
        let is_start = compaction == Compaction::Start;
        let request = CompactLogsRequest { topics: vec![wanted], is_start };
        let request = &request;
        self.retry(async || {
            let connection = self.client.connection(To::Any).await?;
            let answer = connection.send(request, CallOptions::default()).await?.await?;
            let subject = || format!("topic {topic:?}");
            let result = answer.topics.into_iter().next();
            let result = result.ok_or_else(|| CompactTopicError::Refused(unanswered(subject())))?;
            if result.error_code == ErrorCode::UnknownTopicOrPartition.code() {
                return Err(CompactTopicError::UnknownTopic { topic: topic.to_owned() });
            }
            refusal(result.error_code, result.error_message.as_ref(), subject)
                .map_err(CompactTopicError::Refused)?;
            result.partitions.iter().map(|partition| progress(topic, partition)).collect()
        })
        .await
    }

    /// Where and how the partitions of a topic are stored.
    ///
    /// # Errors
    /// That there is no such topic, or that the broker refuses or cannot be asked.
    pub async fn describe_storage(&self, topic: &str) -> Result<TopicStorage, DescribeStorageError> {
        let wanted = DescribeStorageTopic { name: KStr::from(topic), partitions: Vec::new() };
        let request = DescribeStorageRequest { topics: Some(vec![wanted]) };
        let request = &request;
        self.retry(async || {
            let connection = self.client.connection(To::Any).await?;
            let answer = connection.send(request, CallOptions::default()).await?.await?;
            let subject = || format!("storage of topic {topic:?}");
            let result = answer.topics.iter().find(|result| &*result.name == topic);
            let result = result.ok_or_else(|| DescribeStorageError::Refused(unanswered(subject())))?;
            refusal(result.error_code, None, subject).map_err(DescribeStorageError::Refused)?;
            let mut partitions: Vec<_> = result.partitions.iter().map(stored).collect();
            partitions.sort_unstable_by_key(|partition| partition.partition);
            Ok(TopicStorage { directories: answer.directories.iter().map(directory).collect(), partitions })
        })
        .await
    }
}

fn progress(
    topic: &str,
    result: &CompactLogsPartitionResult,
) -> Result<CompactionProgress, CompactTopicError> {
    let partition = result.partition_index;
    if result.error_code == ErrorCode::UnknownTopicOrPartition.code() {
        return Err(CompactTopicError::UnknownPartition { topic: topic.to_owned(), partition });
    }
    let subject = || format!("partition {partition} of topic {topic:?}");
    refusal(result.error_code, result.error_message.as_ref(), subject).map_err(CompactTopicError::Refused)?;
    Ok(CompactionProgress {
        partition,
        state: CompactionState::from_code(result.state),
        done_bytes: count(result.done_bytes),
        total_bytes: count(result.total_bytes),
        dirty_bytes: count(result.dirty_bytes),
        runs: count(result.runs),
        last_end_ms: known(result.last_end_ms),
        last_duration_ms: known(result.last_duration_ms),
        message: text(result.error_message.as_ref()),
    })
}

fn directory(found: &DescribeStorageDirectory) -> DataDirectory {
    DataDirectory {
        path: found.path.to_string(),
        problem: text(found.error_message.as_ref()),
        free_bytes: count(found.free_bytes),
        total_bytes: count(found.total_bytes),
        free_bytes_min: count(found.free_min_bytes),
        is_refusing: found.is_refusing,
    }
}

fn stored(found: &DescribeStoragePartition) -> PartitionStorage {
    PartitionStorage {
        partition: found.partition_index,
        state: StorageState::from_code(found.state),
        problem: text(found.error_message.as_ref()),
        directory: found.directory.to_string(),
        leader_epoch: (found.leader_epoch >= 0).then_some(found.leader_epoch),
        segments: count(i64::from(found.segments)),
        bytes: count(found.bytes),
        log_start: known(found.log_start),
        high_watermark: known(found.high_watermark),
        log_end: known(found.log_end),
        durable: known(found.durable_offset),
        oldest_record_ms: known(found.oldest_record_ms),
        next_deletion_ms: known(found.next_deletion_ms),
        next_deletion_reason: text(found.next_deletion_reason.as_ref()),
        is_compacted: found.is_compacted,
        cleaned_to: known(found.cleaned_to),
        dirty_bytes: count(found.dirty_bytes),
        last_compaction_ms: known(found.last_compaction_ms),
        quarantined: found
            .quarantined
            .iter()
            .map(|range| Quarantined {
                from: range.from,
                to: range.to,
                bytes: count(range.bytes),
                reason: range.reason.to_string(),
            })
            .collect(),
    }
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn known(number: i64) -> Option<i64> {
    (number >= 0).then_some(number)
}

fn text(text: Option<&KStr>) -> Option<String> {
    text.filter(|text| !text.is_empty()).map(KStr::to_string)
}
