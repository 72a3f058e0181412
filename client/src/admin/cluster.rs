//! The cluster as it describes itself.

use millstream_protocol::KStr;
use millstream_protocol::messages::DescribeClusterRequest;

use super::{Admin, judge, refusal};
use crate::client::To;
use crate::connection::CallOptions;
use crate::error::{ClientError, Refusal};
use crate::metadata::{BrokerId, BrokerMetadata, broker_id};

/// A cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDescription {
    /// Its id.
    pub cluster_id: KStr,
    /// The broker that takes administrative requests, if there is one.
    pub controller: Option<BrokerId>,
    /// Its brokers, by number.
    pub brokers: Vec<BrokerMetadata>,
}

/// Why the cluster was not described.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DescribeClusterError {
    /// The broker refuses.
    #[error("{0}")]
    Refused(Refusal),
    /// The request got no usable answer.
    #[error(transparent)]
    Request(#[from] ClientError),
}
judge!(DescribeClusterError only reads);

impl Admin {
    /// Asks the cluster for its id and brokers.
    ///
    /// # Errors
    /// That a broker refuses or cannot be asked.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, DescribeClusterError> {
        self.retry(async || {
            let connection = self.client.connection(To::Any).await?;
            let request = DescribeClusterRequest::default();
            let answer = connection.send(&request, CallOptions::default()).await?.await?;
            refusal(answer.error_code, answer.error_message.as_ref(), || "the cluster".to_owned())
                .map_err(DescribeClusterError::Refused)?;
            let broker =
                |broker: &millstream_protocol::messages::describe_cluster_response::DescribeClusterBroker| {
                    BrokerMetadata {
                        id: BrokerId(broker.broker_id),
                        host: broker.host.detach(),
                        port: u16::try_from(broker.port).unwrap_or_default(),
                        rack: broker.rack.as_ref().map(KStr::detach),
                    }
                };
            let mut brokers: Vec<_> = answer.brokers.iter().map(broker).collect();
            brokers.sort_unstable_by_key(|broker| broker.id);
            Ok(ClusterDescription {
                cluster_id: answer.cluster_id.detach(),
                controller: broker_id(answer.controller_id),
                brokers,
            })
        })
        .await
    }
}
