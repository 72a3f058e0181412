//! Which groups there are.

use std::collections::BTreeMap;

use millstream_protocol::KStr;
use millstream_protocol::messages::ListGroupsRequest;

use super::super::{Admin, judge, refusal};
use crate::client::To;
use crate::connection::CallOptions;
use crate::error::{ClientError, Refusal};
use crate::metadata::BrokerId;

/// Which groups are wanted; nothing named means all. Brokers before Kafka 2.6 know no states, those before 3.8 no
/// types: they are not asked then, and the client says so.
#[derive(Debug, Clone, Default)]
pub struct GroupFilter {
    /// Only those in one of these states: `Stable`, `Empty`.
    pub states: Vec<String>,
    /// Only those of one of these types: `classic`, `consumer`.
    pub types: Vec<String>,
}

/// A group, as a list tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// Its id.
    pub id: KStr,
    /// What its members have in common: `consumer`; empty if it never had any.
    pub protocol_type: KStr,
    /// What it is doing; `None` if the broker is too old to say.
    pub state: Option<KStr>,
    /// How it is coordinated; `None` if the broker is too old to say.
    pub group_type: Option<KStr>,
    /// The broker that coordinates it.
    pub coordinator: BrokerId,
}

/// Why groups were not listed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ListGroupsError {
    /// A broker refuses.
    #[error("{0}")]
    Refused(Refusal),
    /// The request got no usable answer.
    #[error(transparent)]
    Request(#[from] ClientError),
}
judge!(ListGroupsError only reads);

impl Admin {
    /// The groups of all brokers, by id.
    ///
    /// # Errors
    /// That a broker refuses or cannot be asked.
    pub async fn list_groups(&self, filter: &GroupFilter) -> Result<Vec<GroupListing>, ListGroupsError> {
        self.retry(async || {
            let mut listed = BTreeMap::new();
            for broker in self.all_brokers().await? {
                for group in self.list_groups_of(broker, filter).await? {
                    listed.insert(group.id.clone(), group);
                }
            }
            Ok(listed.into_values().collect())
        })
        .await
    }

    async fn list_groups_of(
        &self,
        broker: BrokerId,
        filter: &GroupFilter,
    ) -> Result<Vec<GroupListing>, ListGroupsError> {
        let words = |words: &[String]| words.iter().map(|word| KStr::from(word.as_str())).collect();
        let request =
            ListGroupsRequest { states_filter: words(&filter.states), types_filter: words(&filter.types) };
        let connection = self.client.connection(To::Broker(broker)).await?;
        let answer = connection.send(&request, CallOptions::default()).await?.await?;
        refusal(answer.error_code, None, || format!("groups of broker {broker}"))
            .map_err(ListGroupsError::Refused)?;
        let known = |word: &KStr| (!word.is_empty()).then(|| word.detach());
        let listed = answer.groups.iter().map(|group| GroupListing {
            id: group.group_id.detach(),
            protocol_type: group.protocol_type.detach(),
            state: known(&group.group_state),
            group_type: known(&group.group_type),
            coordinator: broker,
        });
        Ok(listed.collect())
    }
}
