//! What the brokers of a cluster have agreed on: levels of features, and the quorum that keeps the metadata.

use millstream_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use millstream_protocol::messages::update_features_request::FeatureUpdateKey;
use millstream_protocol::messages::{ApiVersionsRequest, DescribeQuorumRequest, UpdateFeaturesRequest};
use millstream_protocol::{ErrorCode, KStr};

use super::{Admin, judge, refusal, timeout_ms, unanswered};
use crate::client::To;
use crate::connection::CallOptions;
use crate::error::{ClientError, Refusal};
use crate::metadata::{BrokerId, broker_id};

/// The topic in which a Kafka cluster keeps its metadata.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// A feature.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Feature {
    /// Its name: `transaction.version`.
    pub name: KStr,
    /// The level that the cluster has agreed on; `None` if it is off.
    pub level: Option<i16>,
    /// The lowest level that the broker supports.
    pub min_supported: i16,
    /// The highest.
    pub max_supported: i16,
}

/// Whether a level may be lowered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeatureChange {
    /// Only raised.
    Upgrade,
    /// Lowered, if nothing is lost by that.
    SafeDowngrade,
    /// Lowered, whatever is lost.
    UnsafeDowngrade,
}

/// Those who keep the metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quorum {
    /// Who leads them.
    pub leader: Option<BrokerId>,
    /// Rises with every change of leader.
    pub leader_epoch: i32,
    /// How far all are agreed.
    pub high_watermark: i64,
    /// Those who vote.
    pub voters: Vec<BrokerId>,
    /// Those who only follow.
    pub observers: Vec<BrokerId>,
}

/// Why features were not described.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DescribeFeaturesError {
    /// The broker refuses.
    #[error("{0}")]
    Refused(Refusal),
    /// The request got no usable answer.
    #[error(transparent)]
    Request(#[from] ClientError),
}
judge!(DescribeFeaturesError only reads);

/// Why a feature has its old level.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateFeatureError {
    /// The broker refuses.
    #[error("{0}")]
    Refused(Refusal),
    /// The request got no usable answer.
    #[error(transparent)]
    Request(#[from] ClientError),
}
judge!(UpdateFeatureError);

/// Why the quorum was not described.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DescribeQuorumError {
    /// The broker refuses.
    #[error("{0}")]
    Refused(Refusal),
    /// The request got no usable answer.
    #[error(transparent)]
    Request(#[from] ClientError),
}
judge!(DescribeQuorumError only reads);

impl Admin {
    /// The features that a broker supports, and the levels that its cluster has agreed on, by name.
    ///
    /// ```no_run
    /// # async fn example(client: millstream_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use millstream_client::FeatureChange;
    ///
    /// for feature in client.admin().describe_features().await? {
    ///     println!("{} is at {:?} of {}", feature.name, feature.level, feature.max_supported);
    /// }
    /// client.admin().update_feature("transaction.version", 2, FeatureChange::Upgrade).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// That the broker refuses or cannot be asked.
    pub async fn describe_features(&self) -> Result<Vec<Feature>, DescribeFeaturesError> {
        let request = &ApiVersionsRequest {
            client_software_name: KStr::from_static("millstream"),
            client_software_version: KStr::from_static(env!("CARGO_PKG_VERSION")),
        };
        self.retry(async || {
            let connection = self.client.connection(To::Any).await?;
            let answer = connection.send(request, CallOptions::default()).await?.await?;
            refusal(answer.error_code, None, || "features".to_owned())
                .map_err(DescribeFeaturesError::Refused)?;
            let level = |name: &KStr| {
                let mut finalized = answer.finalized_features.iter();
                finalized.find(|feature| feature.name == *name).map(|feature| feature.max_version_level)
            };
            let mut features: Vec<_> = { answer.supported_features.iter() }
                .map(|supported| Feature {
                    name: supported.name.detach(),
                    level: level(&supported.name),
                    min_supported: supported.min_version,
                    max_supported: supported.max_version,
                })
                .collect();
            features.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            Ok(features)
        })
        .await
    }

    /// Gives a feature another level; 0 turns it off.
    ///
    /// # Errors
    /// That the broker does not support the level, refuses for another reason, or cannot be asked.
    pub async fn update_feature(
        &self,
        name: &str,
        level: i16,
        change: FeatureChange,
    ) -> Result<(), UpdateFeatureError> {
        let update = FeatureUpdateKey {
            feature: KStr::from(name),
            max_version_level: level,
            upgrade_type: match change {
                FeatureChange::Upgrade => 1,
                FeatureChange::SafeDowngrade => 2,
                FeatureChange::UnsafeDowngrade => 3,
            },
            // What version 0 has in its place.
            allow_downgrade: false,
        };
        let request = &UpdateFeaturesRequest {
            timeout_ms: timeout_ms(&self.client),
            feature_updates: vec![update],
            ..Default::default()
        };
        self.retry(async || {
            let connection = self.client.connection(To::Controller).await?;
            let answer = connection.send(request, CallOptions::default()).await?.await?;
            let subject = || format!("feature {name:?}");
            refusal(answer.error_code, answer.error_message.as_ref(), subject)
                .map_err(UpdateFeatureError::Refused)?;
            let result = answer.results.iter().find(|result| &*result.feature == name);
            let (code, message) = result.map_or((ErrorCode::None.code(), None), |result| {
                (result.error_code, result.error_message.as_ref())
            });
            refusal(code, message, subject).map_err(UpdateFeatureError::Refused)
        })
        .await
    }

    /// Who keeps the cluster's metadata, and how far they are agreed.
    ///
    /// # Errors
    /// That the broker refuses or cannot be asked.
    pub async fn describe_quorum(&self) -> Result<Quorum, DescribeQuorumError> {
        let partitions = vec![PartitionData { partition_index: 0 }];
        let wanted = TopicData { topic_name: KStr::from_static(METADATA_TOPIC), partitions };
        let request = &DescribeQuorumRequest { topics: vec![wanted] };
        self.retry(async || {
            let connection = self.client.connection(To::Controller).await?;
            let answer = connection.send(request, CallOptions::default()).await?.await?;
            let subject = || "the quorum".to_owned();
            refusal(answer.error_code, answer.error_message.as_ref(), subject)
                .map_err(DescribeQuorumError::Refused)?;
            let found = answer.topics.iter().flat_map(|topic| &topic.partitions).next();
            let found = found.ok_or_else(|| DescribeQuorumError::Refused(unanswered(subject())))?;
            refusal(found.error_code, found.error_message.as_ref(), subject)
                .map_err(DescribeQuorumError::Refused)?;
            let ids =
                |replicas: &[millstream_protocol::messages::describe_quorum_response::ReplicaState]| {
                    replicas.iter().map(|replica| BrokerId(replica.replica_id)).collect()
                };
            Ok(Quorum {
                leader: broker_id(found.leader_id),
                leader_epoch: found.leader_epoch,
                high_watermark: found.high_watermark,
                voters: ids(&found.current_voters),
                observers: ids(&found.observers),
            })
        })
        .await
    }
}
