//! How far groups are behind, as a Millstream broker tells it: in offsets and in time. Kafka's brokers do not know
//! the question; the client says so before it sends anything.

use std::time::Duration;

use millstream_protocol::messages::DescribeGroupLagRequest;
use millstream_protocol::messages::describe_group_lag_response::{DescribedGroupLag, GroupLagPartition};
use millstream_protocol::{ErrorCode, KStr};

use super::super::{Admin, judge, refusal, unanswered};
use super::serves;
use crate::client::To;
use crate::connection::{CallOptions, Connection};
use crate::error::{ClientError, Refusal};

/// How far a group is behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupLag {
    /// Its id.
    pub id: String,
    /// How it is coordinated: `classic`, `consumer`.
    pub group_type: String,
    /// What it is doing.
    pub state: String,
    /// How many members it has.
    pub members: u32,
    /// When its members were given their partitions last, in milliseconds since 1970.
    pub last_rebalance_ms: Option<i64>,
    /// Why.
    pub last_rebalance_cause: Option<String>,
    /// The partitions for which it has committed, by topic and number.
    pub partitions: Vec<PartitionLag>,
}

/// How far a group is behind in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionLag {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Why nothing more is known: the topic or partition is gone, or cannot be read now.
    pub problem: Option<ErrorCode>,
    /// The first record that the group has not consumed.
    pub committed: i64,
    /// When it was committed, in milliseconds since 1970.
    pub last_commit_ms: Option<i64>,
    /// The first offset that is there.
    pub log_start: Option<i64>,
    /// Consumers see what lies below it.
    pub high_watermark: Option<i64>,
    /// Records that wait.
    pub lag: Option<u64>,
    /// For how long the first of them has been waiting; nothing waits at zero.
    pub lag_time: Option<Duration>,
    /// For how long the group has been stuck here, if it is.
    pub stuck_for: Option<Duration>,
}

/// Why it is not known how far a group is behind.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GroupLagError {
    /// There is no such group.
    #[error("there is no group {group:?}")]
    UnknownGroup {
        /// Its id.
        group: String,
    },
    /// The broker refuses.
    #[error("{0}")]
    Refused(Refusal),
    /// The request got no usable answer.
    #[error(transparent)]
    Request(#[from] ClientError),
}
judge!(GroupLagError only reads, UnknownGroup);

impl Admin {
    /// How far a group is behind; `None` if its broker is not one that tells.
    ///
    /// # Errors
    /// [`GroupLagError::UnknownGroup`]; or that the broker refuses, or cannot be asked.
    pub async fn group_lag(&self, group: &str) -> Result<Option<GroupLag>, GroupLagError> {
        let asked = Some(vec![KStr::from(group)]);
        self.at_coordinator(group, async |connection| {
            let Some(told) = ask(&connection, asked.clone()).await? else { return Ok(None) };
            let subject = || format!("lag of group {group:?}");
            let found = told.iter().find(|told| &*told.group_id == group);
            let found = found.ok_or_else(|| GroupLagError::Refused(unanswered(subject())))?;
            refusal(found.error_code, found.error_message.as_ref(), subject).map_err(
                |refusal| match refusal.code {
                    ErrorCode::GroupIdNotFound => GroupLagError::UnknownGroup { group: group.to_owned() },
                    _ => GroupLagError::Refused(refusal),
                },
            )?;
            Ok(Some(lag(found)))
        })
        .await
    }

    /// How far all groups are behind, by id; `None` if there is a broker that does not tell.
    ///
    /// # Errors
    /// That a broker refuses or cannot be asked.
    pub async fn all_group_lags(&self) -> Result<Option<Vec<GroupLag>>, GroupLagError> {
        self.retry(async || {
            let mut lags = Vec::new();
            for broker in self.all_brokers().await? {
                let connection = self.client.connection(To::Broker(broker)).await?;
                let Some(told) = ask(&connection, None).await? else { return Ok(None) };
                // One that is gone since is no matter here.
                let told = told.iter().filter(|told| told.error_code == ErrorCode::None.code());
                lags.extend(told.map(lag));
            }
            lags.sort_unstable_by(|a, b| a.id.cmp(&b.id));
            Ok(Some(lags))
        })
        .await
    }
}

async fn ask(
    connection: &Connection,
    groups: Option<Vec<KStr>>,
) -> Result<Option<Vec<DescribedGroupLag>>, GroupLagError> {
    if !serves::<DescribeGroupLagRequest>(connection) {
        return Ok(None);
    }
    let request = DescribeGroupLagRequest { groups };
    let answer = connection.send(&request, CallOptions::default()).await?.await?;
    refusal(answer.error_code, None, || "lag of groups".to_owned()).map_err(GroupLagError::Refused)?;
    Ok(Some(answer.groups))
}

fn lag(told: &DescribedGroupLag) -> GroupLag {
    let partitions = told.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| partition_lag(topic.name.to_string(), partition))
    });
    let mut partitions: Vec<_> = partitions.collect();
    partitions.sort_unstable_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    GroupLag {
        id: told.group_id.to_string(),
        group_type: told.group_type.to_string(),
        state: told.group_state.to_string(),
        members: u32::try_from(told.members).unwrap_or(0),
        last_rebalance_ms: known(told.last_rebalance_ms),
        last_rebalance_cause: told.last_rebalance_cause.as_ref().map(KStr::to_string),
        partitions,
    }
}

fn partition_lag(topic: String, told: &GroupLagPartition) -> PartitionLag {
    let duration = |ms: i64| u64::try_from(ms).ok().map(Duration::from_millis);
    let problem = crate::error::known(told.error_code);
    PartitionLag {
        topic,
        partition: told.partition_index,
        problem: (problem != ErrorCode::None).then_some(problem),
        committed: told.committed_offset,
        last_commit_ms: known(told.last_commit_ms),
        log_start: known(told.log_start),
        high_watermark: known(told.high_watermark),
        lag: u64::try_from(told.lag).ok(),
        lag_time: duration(told.lag_ms),
        stuck_for: duration(told.stuck_ms),
    }
}

fn known(number: i64) -> Option<i64> {
    (number >= 0).then_some(number)
}
