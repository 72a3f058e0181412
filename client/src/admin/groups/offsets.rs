//! Committed offsets: reading, setting and deleting them from outside the group.

use std::collections::BTreeMap;

use millstream_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millstream_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use millstream_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use millstream_protocol::messages::{OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest};
use millstream_protocol::{ErrorCode, KStr};

use super::super::{Admin, judge, refusal, unanswered};
use crate::connection::{CallOptions, Connection};
use crate::error::{ClientError, Refusal};

/// Later versions name topics by id; names are what we have, and what people ask for.
const NAMED_TO: CallOptions =
    CallOptions { newest_version: Some(9), broker_may_take: std::time::Duration::ZERO };
/// From this version on several groups are asked about at once.
const GROUPS_FROM: i16 = 8;
/// Who commits is no member of the group.
const NO_GENERATION: i32 = -1;

/// How far a group has come in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The first record that it has not consumed.
    pub offset: i64,
    /// The leader epoch in which the last one was written, if the committer told it.
    pub leader_epoch: Option<i32>,
    /// What the committer noted beside it.
    pub metadata: String,
}

/// An offset to commit for a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The first record that the group shall consume.
    pub offset: i64,
    /// A note.
    pub metadata: String,
}

/// Why committed offsets were not read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommittedOffsetsError {
    /// The broker refuses.
    #[error("{0}")]
    Refused(Refusal),
    /// The request got no usable answer.
    #[error(transparent)]
    Request(#[from] ClientError),
}
judge!(CommittedOffsetsError only reads);

/// Why offsets were not committed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitOffsetsError {
    /// The group has members, and only they may commit.
    #[error("group {group:?} has members, so nobody else may move it; stop them first")]
    NotEmpty {
        /// Its id.
        group: String,
    },
    /// The broker refuses; what it took of several partitions stays.
    #[error("{0}")]
    Refused(Refusal),
    /// The request got no usable answer.
    #[error(transparent)]
    Request(#[from] ClientError),
}
judge!(CommitOffsetsError, NotEmpty);

/// Why committed offsets were not deleted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DeleteOffsetsError {
    /// There is no such group.
    #[error("there is no group {group:?}")]
    UnknownGroup {
        /// Its id.
        group: String,
    },
    /// Members of the group read the topic.
    #[error("members of group {group:?} are subscribed to topic {topic:?}; stop them first")]
    Subscribed {
        /// The group.
        group: String,
        /// The topic.
        topic: String,
    },
    /// The broker refuses; what it deleted of several partitions is gone.
    #[error("{0}")]
    Refused(Refusal),
    /// The request got no usable answer.
    #[error(transparent)]
    Request(#[from] ClientError),
}
judge!(DeleteOffsetsError, UnknownGroup, Subscribed);

impl Admin {
    /// Everything that a group has committed, by topic and partition. Of a group that does not exist: nothing.
    ///
    /// # Errors
    /// That the broker refuses or cannot be asked.
    pub async fn committed_offsets(
        &self,
        group: &str,
    ) -> Result<Vec<CommittedOffset>, CommittedOffsetsError> {
        self.at_coordinator(group, async |connection| fetch_offsets(&connection, group).await).await
    }

    /// Commits offsets for a group that has no members: its next ones start there. Makes the group if there is
    /// none.
    ///
    /// # Errors
    /// [`CommitOffsetsError::NotEmpty`]; or that the broker refuses, or cannot be asked.
    pub async fn commit_offsets(&self, group: &str, offsets: &[NewOffset]) -> Result<(), CommitOffsetsError> {
        let request = &commit_request(group, offsets);
        self.at_coordinator(group, async |connection| {
            let answer = connection.send(request, NAMED_TO).await?.await?;
            for NewOffset { topic, partition, .. } in offsets {
                let subject =
                    || format!("committing partition {partition} of topic {topic:?} for group {group:?}");
                let found = answer.topics.iter().filter(|found| *found.name == **topic);
                let found = found
                    .flat_map(|found| &found.partitions)
                    .find(|found| found.partition_index == *partition);
                let found = found.ok_or_else(|| CommitOffsetsError::Refused(unanswered(subject())))?;
                refusal(found.error_code, None, subject).map_err(|refusal| match refusal.code {
                    // Kafka's answers to a stranger's commit to a group that is alive, classic and new.
                    ErrorCode::UnknownMemberId
                    | ErrorCode::IllegalGeneration
                    | ErrorCode::StaleMemberEpoch
                    | ErrorCode::NonEmptyGroup => CommitOffsetsError::NotEmpty { group: group.to_owned() },
                    _ => CommitOffsetsError::Refused(refusal),
                })?;
            }
            Ok(())
        })
        .await
    }

    /// Deletes what a group has committed for partitions of a topic that no member reads.
    ///
    /// # Errors
    /// [`DeleteOffsetsError::UnknownGroup`], [`DeleteOffsetsError::Subscribed`]; or that the broker refuses, or
    /// cannot be asked.
    pub async fn delete_offsets(
        &self,
        group: &str,
        topic: &str,
        partitions: &[i32],
    ) -> Result<(), DeleteOffsetsError> {
        let partition = |index: &i32| OffsetDeleteRequestPartition { partition_index: *index };
        let request = &OffsetDeleteRequest {
            group_id: KStr::from(group),
            topics: vec![OffsetDeleteRequestTopic {
                name: KStr::from(topic),
                partitions: partitions.iter().map(partition).collect(),
            }],
        };
        self.at_coordinator(group, async |connection| {
            let answer = connection.send(request, CallOptions::default()).await?.await?;
            let subject = || format!("deleting offsets of topic {topic:?} for group {group:?}");
            let codes = answer.topics.iter().flat_map(|topic| &topic.partitions);
            let codes = codes.map(|partition| partition.error_code);
            for code in std::iter::once(answer.error_code).chain(codes) {
                refusal(code, None, subject).map_err(|refusal| match refusal.code {
                    ErrorCode::GroupIdNotFound => {
                        DeleteOffsetsError::UnknownGroup { group: group.to_owned() }
                    }
                    ErrorCode::GroupSubscribedToTopic | ErrorCode::NonEmptyGroup => {
                        DeleteOffsetsError::Subscribed { group: group.to_owned(), topic: topic.to_owned() }
                    }
                    _ => DeleteOffsetsError::Refused(refusal),
                })?;
            }
            Ok(())
        })
        .await
    }
}

async fn fetch_offsets(
    connection: &Connection,
    group: &str,
) -> Result<Vec<CommittedOffset>, CommittedOffsetsError> {
    let asks_for_groups = connection.version_of::<OffsetFetchRequest>(NAMED_TO)? >= GROUPS_FROM;
    let group_id = KStr::from(group);
    let request = match asks_for_groups {
        true => {
            let group = OffsetFetchRequestGroup { group_id, topics: None, ..Default::default() };
            OffsetFetchRequest { groups: vec![group], ..Default::default() }
        }
        false => OffsetFetchRequest { group_id, topics: None, ..Default::default() },
    };
    let answer = connection.send(&request, NAMED_TO).await?.await?;
    let subject = || format!("offsets of group {group:?}");
    let refused = CommittedOffsetsError::Refused;
    refusal(answer.error_code, None, subject).map_err(refused)?;
    let mut found = BTreeMap::new();
    for told in &answer.groups {
        refusal(told.error_code, None, subject).map_err(refused)?;
        for topic in &told.topics {
            for partition in &topic.partitions {
                refusal(partition.error_code, None, subject).map_err(refused)?;
                let place = (topic.name.to_string(), partition.partition_index);
                let metadata = partition.metadata.as_deref().unwrap_or_default().to_owned();
                found.insert(place, (partition.committed_offset, partition.committed_leader_epoch, metadata));
            }
        }
    }
    for topic in &answer.topics {
        for partition in &topic.partitions {
            refusal(partition.error_code, None, subject).map_err(refused)?;
            let place = (topic.name.to_string(), partition.partition_index);
            let metadata = partition.metadata.as_deref().unwrap_or_default().to_owned();
            found.insert(place, (partition.committed_offset, partition.committed_leader_epoch, metadata));
        }
    }
    let committed = found.into_iter().filter(|(_, (offset, ..))| *offset >= 0);
    let committed = committed.map(|((topic, partition), (offset, epoch, metadata))| CommittedOffset {
        topic,
        partition,
        offset,
        leader_epoch: (epoch >= 0).then_some(epoch),
        metadata,
    });
    Ok(committed.collect())
}

fn commit_request(group: &str, offsets: &[NewOffset]) -> OffsetCommitRequest {
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for new in offsets {
        topics.entry(&new.topic).or_default().push(OffsetCommitRequestPartition {
            partition_index: new.partition,
            committed_offset: new.offset,
            committed_metadata: Some(KStr::from(new.metadata.as_str())),
            ..Default::default()
        });
    }
    let topics = topics.into_iter().map(|(name, partitions)| OffsetCommitRequestTopic {
        name: KStr::from(name),
        partitions,
        ..Default::default()
    });
    OffsetCommitRequest {
        group_id: KStr::from(group),
        generation_id_or_member_epoch: NO_GENERATION,
        topics: topics.collect(),
        ..Default::default()
    }
}
