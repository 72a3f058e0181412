//! Looking offsets up, and deleting the records before one.

use std::collections::BTreeMap;

use millstream_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use millstream_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use millstream_protocol::messages::{DeleteRecordsRequest, ListOffsetsRequest};
use millstream_protocol::{ErrorCode, KStr};

use super::{Admin, judge, refusal, timeout_ms, unanswered};
use crate::client::{Missing, To};
use crate::connection::CallOptions;
use crate::error::{ClientError, Refusal};
use crate::metadata::BrokerId;

/// Which offset of a partition is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetAt {
    /// The first that is still there.
    Earliest,
    /// The one that the next record will get.
    Latest,
    /// The first of which it is not known yet whether it counts: the end, for readers of committed records.
    LastStable,
    /// That of the record with the largest timestamp.
    MaxTimestamp,
    /// That of the first record whose timestamp is this or later, in milliseconds since 1970.
    Timestamp(i64),
}

impl OffsetAt {
    /// Kafka's number for it.
    fn wire(self) -> i64 {
        match self {
            Self::Latest | Self::LastStable => -1,
            Self::Earliest => -2,
            Self::MaxTimestamp => -3,
            // Smaller numbers have meanings of their own; no record is older than 1970.
            Self::Timestamp(ms) => ms.max(0),
        }
    }
}

/// Kafka's number for readers of committed records, and for those of all.
const READ_COMMITTED: i8 = 1;
const READ_UNCOMMITTED: i8 = 0;

/// What was found for one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedOffset {
    /// The partition.
    pub partition: i32,
    /// The offset, if any record matches.
    pub offset: Option<i64>,
    /// The timestamp of that record, where the question was about one.
    pub timestamp: Option<i64>,
    /// The leader epoch in which it was written, if the broker knows.
    pub leader_epoch: Option<i32>,
}

/// Why offsets were not found.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ListOffsetsError {
    /// The broker refuses for a partition.
    #[error("{0}")]
    Refused(Refusal),
    /// The request got no usable answer.
    #[error(transparent)]
    Request(#[from] ClientError),
}
judge!(ListOffsetsError only reads);

/// Up to where records are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteUpTo {
    /// Everything that consumers can see now.
    HighWatermark,
    /// Everything before this offset.
    Offset(i64),
}

/// Why records were not deleted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DeleteRecordsError {
    /// The offset lies beyond the end of the partition, or before its start.
    #[error("partition {partition} of topic {topic:?} does not hold offset {offset}")]
    OffsetOutOfRange {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset asked for.
        offset: i64,
    },
    /// The broker refuses.
    #[error("{0}")]
    Refused(Refusal),
    /// The request got no usable answer.
    #[error(transparent)]
    Request(#[from] ClientError),
}
judge!(DeleteRecordsError, OffsetOutOfRange);

impl Admin {
    /// Finds offsets in partitions of a topic, in the order in which they were asked for.
    ///
    /// # Errors
    /// That the topic or a partition does not exist, or that a broker refuses or cannot be asked.
    pub async fn list_offsets(
        &self,
        topic: &str,
        wanted: &[(i32, OffsetAt)],
    ) -> Result<Vec<ListedOffset>, ListOffsetsError> {
        self.retry(async || {
            let listed = self.list_once(topic, wanted).await;
            if listed.as_ref().is_err_and(ListOffsetsError::is_retriable) {
                self.client.invalidate(topic);
            }
            listed
        })
        .await
    }

    async fn list_once(
        &self,
        topic: &str,
        wanted: &[(i32, OffsetAt)],
    ) -> Result<Vec<ListedOffset>, ListOffsetsError> {
        let mut found = vec![None; wanted.len()];
        for (leader, places) in self.by_leader(topic, wanted).await? {
            let asked = places.iter().map(|place| wanted[*place]);
            let listed = self.list_from(leader, topic, asked).await?;
            for (place, listed) in places.into_iter().zip(listed) {
                found[place] = Some(listed);
            }
        }
        Ok(found.into_iter().map(|listed| listed.expect("every partition has one leader")).collect())
    }

    /// Which broker to ask for which of the wanted offsets.
    async fn by_leader(
        &self,
        topic: &str,
        wanted: &[(i32, OffsetAt)],
    ) -> Result<BTreeMap<BrokerId, Vec<usize>>, ClientError> {
        let metadata = self.client.topic(topic, Missing::Fail).await?;
        let mut leaders: BTreeMap<BrokerId, Vec<usize>> = BTreeMap::new();
        for (place, (partition, _)) in wanted.iter().enumerate() {
            let known = metadata.partition(*partition).ok_or_else(|| ClientError::UnknownPartition {
                topic: topic.to_owned(),
                partition: *partition,
                partitions: metadata.partitions.len(),
            })?;
            let leader = known
                .leader
                .ok_or_else(|| ClientError::NoLeader { topic: topic.to_owned(), partition: *partition })?;
            leaders.entry(leader).or_default().push(place);
        }
        Ok(leaders)
    }

    /// Asks one leader. Kafka refuses a partition that is named twice in one request, and has one isolation level
    /// for all, so repetitions and other levels go into requests of their own.
    async fn list_from(
        &self,
        leader: BrokerId,
        topic: &str,
        wanted: impl Iterator<Item = (i32, OffsetAt)>,
    ) -> Result<Vec<ListedOffset>, ListOffsetsError> {
        let wanted: Vec<_> = wanted.collect();
        let mut listed = Vec::with_capacity(wanted.len());
        let mut rest = &wanted[..];
        while !rest.is_empty() {
            let level = isolation_level(rest);
            let alike = rest.iter().take_while(|one| isolation_level(&[**one]) == level).count();
            let distinct = distinct_prefix(&rest[..alike]);
            let (now, later) = rest.split_at(distinct);
            listed.extend(self.list_distinct(leader, topic, now).await?);
            rest = later;
        }
        Ok(listed)
    }

    async fn list_distinct(
        &self,
        leader: BrokerId,
        topic: &str,
        wanted: &[(i32, OffsetAt)],
    ) -> Result<Vec<ListedOffset>, ListOffsetsError> {
        let partition = |(partition, at): &(i32, OffsetAt)| ListOffsetsPartition {
            partition_index: *partition,
            timestamp: at.wire(),
            ..Default::default()
        };
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: KStr::from(topic),
                partitions: wanted.iter().map(partition).collect(),
            }],
            timeout_ms: timeout_ms(&self.client),
            isolation_level: isolation_level(wanted),
        };
        let connection = self.client.connection(To::Broker(leader)).await?;
        let answer = connection.send(&request, CallOptions::default()).await?.await?;
        let answers: Vec<_> = answer.topics.iter().flat_map(|topic| &topic.partitions).collect();
        let listed = wanted.iter().map(|(partition, _)| {
            let subject = || format!("offsets of partition {partition} of topic {topic:?}");
            let found = answers.iter().find(|answer| answer.partition_index == *partition);
            let found = found.ok_or_else(|| ListOffsetsError::Refused(unanswered(subject())))?;
            refusal(found.error_code, None, subject).map_err(ListOffsetsError::Refused)?;
            Ok(ListedOffset {
                partition: *partition,
                offset: (found.offset >= 0).then_some(found.offset),
                timestamp: (found.timestamp >= 0).then_some(found.timestamp),
                leader_epoch: (found.leader_epoch >= 0).then_some(found.leader_epoch),
            })
        });
        listed.collect()
    }

    /// Deletes the records of a partition up to an offset. Answers where the partition starts from then on.
    ///
    /// # Errors
    /// [`DeleteRecordsError::OffsetOutOfRange`]; or that the broker refuses, or cannot be asked.
    pub async fn delete_records(
        &self,
        topic: &str,
        partition: i32,
        up_to: DeleteUpTo,
    ) -> Result<i64, DeleteRecordsError> {
        let offset = match up_to {
            DeleteUpTo::HighWatermark => -1,
            DeleteUpTo::Offset(offset) => offset.max(0),
        };
        let request = &DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: KStr::from(topic),
                partitions: vec![DeleteRecordsPartition { partition_index: partition, offset }],
            }],
            timeout_ms: timeout_ms(&self.client),
        };
        self.retry(async || {
            let connection = self.client.connection(To::Leader(topic, partition)).await?;
            let answer = connection.send(request, CallOptions::default()).await?.await?;
            let subject = || format!("deleting records of partition {partition} of topic {topic:?}");
            let found = answer.topics.iter().flat_map(|topic| &topic.partitions).next();
            let found = found.ok_or_else(|| DeleteRecordsError::Refused(unanswered(subject())))?;
            refusal(found.error_code, None, subject).map_err(|refusal| match refusal.code {
                ErrorCode::OffsetOutOfRange => {
                    DeleteRecordsError::OffsetOutOfRange { topic: topic.to_owned(), partition, offset }
                }
                _ => {
                    self.client.invalidate(topic);
                    DeleteRecordsError::Refused(refusal)
                }
            })?;
            Ok(found.low_watermark)
        })
        .await
    }
}

/// The isolation level that the first of them needs.
fn isolation_level(wanted: &[(i32, OffsetAt)]) -> i8 {
    match wanted.first() {
        Some((_, OffsetAt::LastStable)) => READ_COMMITTED,
        Some(_) | None => READ_UNCOMMITTED,
    }
}

/// How many entries there are before a partition comes a second time.
fn distinct_prefix(wanted: &[(i32, OffsetAt)]) -> usize {
    let mut seen = std::collections::HashSet::with_capacity(wanted.len());
    wanted.iter().take_while(|(partition, _)| seen.insert(*partition)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_asked_for_twice_starts_another_request() {
        let wanted = [(0, OffsetAt::Earliest), (1, OffsetAt::Latest), (0, OffsetAt::Latest)];
        assert_eq!(distinct_prefix(&wanted), 2);
        assert_eq!(distinct_prefix(&wanted[2..]), 1);
    }

    #[test]
    fn a_time_before_1970_is_not_taken_for_a_special_offset() {
        assert_eq!(OffsetAt::Timestamp(-2).wire(), 0);
        assert_eq!(OffsetAt::Earliest.wire(), -2);
    }
}
