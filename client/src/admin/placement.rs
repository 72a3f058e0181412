//! Where partitions are and who leads them: elections, moves, folders.

use millstream_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use millstream_protocol::messages::describe_log_dirs_response::DescribeLogDirsResult;
use millstream_protocol::messages::elect_leaders_request::TopicPartitions;
use millstream_protocol::messages::{
    AlterPartitionReassignmentsRequest, DescribeLogDirsRequest, ElectLeadersRequest,
    ListPartitionReassignmentsRequest,
};
use millstream_protocol::{ErrorCode, KStr};

use super::{Admin, judge, refusal, timeout_ms, unanswered};
use crate::client::To;
use crate::connection::CallOptions;
use crate::error::{ClientError, Refusal};
use crate::metadata::BrokerId;

/// Who may become leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Election {
    /// The first of the replicas, if it is in sync.
    Preferred,
    /// Any replica, if none in sync is left: records may be lost.
    Unclean,
}

/// A move that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reassignment {
    /// The topic.
    pub topic: KStr,
    /// The partition.
    pub partition: i32,
    /// All its replicas meanwhile.
    pub replicas: Vec<BrokerId>,
    /// Those that come.
    pub adding: Vec<BrokerId>,
    /// Those that go.
    pub removing: Vec<BrokerId>,
}

/// A folder of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogDir {
    /// Where it is on the broker's machine.
    pub path: KStr,
    /// What is wrong with it, if something is.
    pub problem: Option<ErrorCode>,
    /// Bytes of its disk; `None` if the broker is too old to say.
    pub total_bytes: Option<u64>,
    /// Those that are free.
    pub usable_bytes: Option<u64>,
    /// The partitions that are in it.
    pub partitions: Vec<LogDirPartition>,
}

/// A partition in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogDirPartition {
    /// The topic.
    pub topic: KStr,
    /// The partition.
    pub partition: i32,
    /// Its bytes.
    pub bytes: u64,
}

/// Why no leader was elected.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ElectLeaderError {
    /// The partition has the leader that it should have.
    #[error("partition {partition} of topic {topic:?} has the leader that it should have")]
    NotNeeded {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
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
judge!(ElectLeaderError, NotNeeded, UnknownPartition);

/// Why a partition was not moved.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ReassignError {
    /// There is no move that could be cancelled.
    #[error("partition {partition} of topic {topic:?} is not being moved")]
    NoneInProgress {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
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
judge!(ReassignError, NoneInProgress, UnknownPartition);

/// Why moves were not listed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ListReassignmentsError {
    /// The broker refuses.
    #[error("{0}")]
    Refused(Refusal),
    /// The request got no usable answer.
    #[error(transparent)]
    Request(#[from] ClientError),
}
judge!(ListReassignmentsError only reads);

/// Why folders were not described.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DescribeLogDirsError {
    /// The broker refuses.
    #[error("{0}")]
    Refused(Refusal),
    /// The request got no usable answer.
    #[error(transparent)]
    Request(#[from] ClientError),
}
judge!(DescribeLogDirsError only reads);

impl Admin {
    /// Has a leader elected for a partition.
    ///
    /// ```no_run
    /// # async fn example(client: millstream_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use millstream_client::{ElectLeaderError, Election};
    ///
    /// match client.admin().elect_leader("orders", 0, Election::Preferred).await {
    ///     Ok(()) | Err(ElectLeaderError::NotNeeded { .. }) => {}
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ElectLeaderError::NotNeeded`], [`ElectLeaderError::UnknownPartition`]; or that no replica can lead, or that the broker refuses or cannot be asked.
    pub async fn elect_leader(
        &self,
        topic: &str,
        partition: i32,
        election: Election,
    ) -> Result<(), ElectLeaderError> {
        let wanted = TopicPartitions { topic: KStr::from(topic), partitions: vec![partition] };
        let request = &ElectLeadersRequest {
            election_type: match election {
                Election::Preferred => 0,
                Election::Unclean => 1,
            },
            topic_partitions: Some(vec![wanted]),
            timeout_ms: timeout_ms(&self.client),
        };
        self.retry(async || {
            let connection = self.client.connection(To::Controller).await?;
            let answer = connection.send(request, CallOptions::default()).await?.await?;
            let subject = || format!("electing a leader for partition {partition} of topic {topic:?}");
            refusal(answer.error_code, None, subject).map_err(ElectLeaderError::Refused)?;
            let found =
                answer.replica_election_results.iter().flat_map(|topic| &topic.partition_result).next();
            let found = found.ok_or_else(|| ElectLeaderError::Refused(unanswered(subject())))?;
            refusal(found.error_code, found.error_message.as_ref(), subject).map_err(
                |refusal| match refusal.code {
                    ErrorCode::ElectionNotNeeded => {
                        ElectLeaderError::NotNeeded { topic: topic.to_owned(), partition }
                    }
                    ErrorCode::UnknownTopicOrPartition => {
                        ElectLeaderError::UnknownPartition { topic: topic.to_owned(), partition }
                    }
                    _ => ElectLeaderError::Refused(refusal),
                },
            )?;
            self.client.invalidate(topic);
            Ok(())
        })
        .await
    }

    /// Begins to move a partition to these brokers, the first of which shall lead it; `None` cancels a move. It goes on
    /// by itself: see [`list_reassignments`](Self::list_reassignments).
    ///
    /// # Errors
    /// [`ReassignError::NoneInProgress`], [`ReassignError::UnknownPartition`]; or that the broker refuses, or cannot be asked.
    pub async fn reassign_partition(
        &self,
        topic: &str,
        partition: i32,
        replicas: Option<&[BrokerId]>,
    ) -> Result<(), ReassignError> {
        let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect();
        let partitions =
            vec![ReassignablePartition { partition_index: partition, replicas: replicas.map(ids) }];
        let request = &AlterPartitionReassignmentsRequest {
            timeout_ms: timeout_ms(&self.client),
            topics: vec![ReassignableTopic { name: KStr::from(topic), partitions }],
            ..Default::default()
        };
        self.retry(async || {
            let connection = self.client.connection(To::Controller).await?;
            let answer = connection.send(request, CallOptions::default()).await?.await?;
            let subject = || format!("moving partition {partition} of topic {topic:?}");
            refusal(answer.error_code, answer.error_message.as_ref(), subject)
                .map_err(ReassignError::Refused)?;
            let found = answer.responses.iter().flat_map(|topic| &topic.partitions).next();
            let found = found.ok_or_else(|| ReassignError::Refused(unanswered(subject())))?;
            refusal(found.error_code, found.error_message.as_ref(), subject).map_err(|refusal| match refusal
                .code
            {
                ErrorCode::NoReassignmentInProgress => {
                    ReassignError::NoneInProgress { topic: topic.to_owned(), partition }
                }
                ErrorCode::UnknownTopicOrPartition => {
                    ReassignError::UnknownPartition { topic: topic.to_owned(), partition }
                }
                _ => ReassignError::Refused(refusal),
            })
        })
        .await
    }

    /// The moves that are under way.
    ///
    /// # Errors
    /// That the broker refuses or cannot be asked.
    pub async fn list_reassignments(&self) -> Result<Vec<Reassignment>, ListReassignmentsError> {
        let request =
            &ListPartitionReassignmentsRequest { timeout_ms: timeout_ms(&self.client), topics: None };
        self.retry(async || {
            let connection = self.client.connection(To::Controller).await?;
            let answer = connection.send(request, CallOptions::default()).await?.await?;
            refusal(answer.error_code, answer.error_message.as_ref(), || "moves of partitions".to_owned())
                .map_err(ListReassignmentsError::Refused)?;
            let brokers = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
            let moves = answer.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(move |partition| Reassignment {
                    topic: topic.name.detach(),
                    partition: partition.partition_index,
                    replicas: brokers(&partition.replicas),
                    adding: brokers(&partition.adding_replicas),
                    removing: brokers(&partition.removing_replicas),
                })
            });
            Ok(moves.collect())
        })
        .await
    }

    /// The folders of a broker, and what is in them.
    ///
    /// # Errors
    /// That the broker refuses or cannot be asked.
    pub async fn describe_log_dirs(&self, broker: BrokerId) -> Result<Vec<LogDir>, DescribeLogDirsError> {
        let request = &DescribeLogDirsRequest { topics: None };
        self.retry(async || {
            let connection = self.client.connection(To::Broker(broker)).await?;
            let answer = connection.send(request, CallOptions::default()).await?.await?;
            refusal(answer.error_code, None, || format!("folders of broker {broker}"))
                .map_err(DescribeLogDirsError::Refused)?;
            Ok(answer.results.iter().map(log_dir).collect())
        })
        .await
    }
}

fn log_dir(found: &DescribeLogDirsResult) -> LogDir {
    let partitions = found.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(move |partition| LogDirPartition {
            topic: topic.name.detach(),
            partition: partition.partition_index,
            bytes: u64::try_from(partition.partition_size).unwrap_or(0),
        })
    });
    LogDir {
        path: found.log_dir.detach(),
        problem: Some(crate::error::known(found.error_code)).filter(|code| *code != ErrorCode::None),
        total_bytes: u64::try_from(found.total_bytes).ok(),
        usable_bytes: u64::try_from(found.usable_bytes).ok(),
        partitions: partitions.collect(),
    }
}
