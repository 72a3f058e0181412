//! Creating, listing, describing, growing and deleting topics.

use std::sync::Arc;

use millstream_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use millstream_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use millstream_protocol::messages::delete_topics_request::DeleteTopicState;
use millstream_protocol::messages::{CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest};
use millstream_protocol::{ErrorCode, KStr, Uuid};

use super::{Admin, judge, refusal, timeout_ms, unanswered};
use crate::client::{Missing, Repeat, To};
use crate::connection::CallOptions;
use crate::error::{ClientError, Refusal};
use crate::metadata::TopicMetadata;

/// From this version on DeleteTopics names topics in another field.
const DELETE_BY_STATE_FROM: i16 = 6;

/// A topic to create. What is not said is left to the broker.
#[derive(Debug, Clone)]
#[must_use]
pub struct NewTopic {
    topic: CreatableTopic,
}

impl NewTopic {
    /// A topic with the broker's default number of partitions and replicas.
    pub fn new(name: impl Into<KStr>) -> Self {
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: -1,
            replication_factor: -1,
            ..Default::default()
        };
        Self { topic }
    }

    /// How many partitions.
    pub fn partitions(mut self, count: i32) -> Self {
        self.topic.num_partitions = count;
        self
    }

    /// How many copies of each partition.
    pub fn replication_factor(mut self, count: i16) -> Self {
        self.topic.replication_factor = count;
        self
    }

    /// A setting, by Kafka's name.
    pub fn config(mut self, name: impl Into<KStr>, value: impl Into<KStr>) -> Self {
        let config = CreatableTopicConfig { name: name.into(), value: Some(value.into()) };
        self.topic.configs.push(config);
        self
    }
}

/// A topic that was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its name.
    pub name: KStr,
    /// Its id; nil if the broker is too old to say.
    pub id: Uuid,
    /// How many partitions it has, if the broker says.
    pub partitions: Option<i32>,
    /// How many copies each has, if the broker says.
    pub replication_factor: Option<i16>,
}

/// Why a topic was not created.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CreateTopicError {
    /// There is one of this name.
    #[error("topic {topic:?} exists already")]
    AlreadyExists {
        /// Its name.
        topic: String,
    },
    /// The broker refuses.
    #[error("{0}")]
    Refused(Refusal),
    /// The request got no usable answer.
    #[error(transparent)]
    Request(#[from] ClientError),
}
judge!(CreateTopicError, AlreadyExists);

/// Why a topic was not described.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DescribeTopicError {
    /// There is none of this name.
    #[error("topic {topic:?} does not exist")]
    UnknownTopic {
        /// Its name.
        topic: String,
    },
    /// The broker refuses.
    #[error("{0}")]
    Refused(Refusal),
    /// The request got no usable answer.
    #[error(transparent)]
    Request(ClientError),
}
judge!(DescribeTopicError only reads, UnknownTopic);

/// Why a topic was not deleted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DeleteTopicError {
    /// There is none of this name.
    #[error("topic {topic:?} does not exist")]
    UnknownTopic {
        /// Its name.
        topic: String,
    },
    /// The broker refuses.
    #[error("{0}")]
    Refused(Refusal),
    /// The request got no usable answer.
    #[error(transparent)]
    Request(#[from] ClientError),
}
judge!(DeleteTopicError, UnknownTopic);

/// Why no partitions were added.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AddPartitionsError {
    /// There is no topic of this name.
    #[error("topic {topic:?} does not exist")]
    UnknownTopic {
        /// Its name.
        topic: String,
    },
    /// The broker refuses; a topic can only grow.
    #[error("{0}")]
    Refused(Refusal),
    /// The request got no usable answer.
    #[error(transparent)]
    Request(#[from] ClientError),
}
judge!(AddPartitionsError, UnknownTopic);

impl Admin {
    /// Creates a topic.
    ///
    /// # Errors
    /// [`CreateTopicError::AlreadyExists`]; or that the broker refuses, or cannot be asked.
    pub async fn create_topic(&self, new: NewTopic) -> Result<CreatedTopic, CreateTopicError> {
        let name = new.topic.name.clone();
        let request = &CreateTopicsRequest {
            topics: vec![new.topic],
            timeout_ms: timeout_ms(&self.client),
            ..Default::default()
        };
        let created = self.retry(async || self.create_once(request, &name).await).await?;
        // It may have been asked for before, when it was not there.
        self.client.invalidate(&name);
        Ok(created)
    }

    async fn create_once(
        &self,
        request: &CreateTopicsRequest,
        name: &KStr,
    ) -> Result<CreatedTopic, CreateTopicError> {
        let connection = self.client.connection(To::Controller).await?;
        let answer = connection.send(request, CallOptions::default()).await?.await?;
        let found = answer.topics.into_iter().find(|topic| topic.name == *name);
        let subject = || format!("creating topic {name:?}");
        let topic = found.ok_or_else(|| CreateTopicError::Refused(unanswered(subject())))?;
        let refused = refusal(topic.error_code, topic.error_message.as_ref(), subject);
        refused.map_err(|refusal| match refusal.code {
            ErrorCode::TopicAlreadyExists => CreateTopicError::AlreadyExists { topic: name.to_string() },
            _ => CreateTopicError::Refused(refusal),
        })?;
        Ok(CreatedTopic {
            name: name.clone(),
            id: topic.topic_id,
            partitions: (topic.num_partitions >= 0).then_some(topic.num_partitions),
            replication_factor: (topic.replication_factor >= 0).then_some(topic.replication_factor),
        })
    }

    /// All topics that we may see, by name.
    ///
    /// # Errors
    /// That the broker cannot be asked.
    pub async fn list_topics(&self) -> Result<Vec<Arc<TopicMetadata>>, ClientError> {
        self.client
            .retry(Repeat::Always, async || self.client.fetch_metadata(None, Missing::Fail).await)
            .await?;
        let mut topics: Vec<_> = self.client.cluster().topics().cloned().collect();
        topics.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// One topic as it is now: its partitions, their leaders and replicas.
    ///
    /// # Errors
    /// [`DescribeTopicError::UnknownTopic`]; or that the broker refuses, or cannot be asked.
    pub async fn describe_topic(&self, name: &str) -> Result<Arc<TopicMetadata>, DescribeTopicError> {
        self.client.invalidate(name);
        self.client.topic(name, Missing::Fail).await.map_err(|error| match error {
            ClientError::UnknownTopic { topic } => DescribeTopicError::UnknownTopic { topic },
            ClientError::TopicRefused { topic, code } => DescribeTopicError::Refused(Refusal {
                subject: format!("topic {topic:?}"),
                code,
                message: None,
            }),
            error => DescribeTopicError::Request(error),
        })
    }

    /// Deletes a topic with everything in it.
    ///
    /// # Errors
    /// [`DeleteTopicError::UnknownTopic`]; or that the broker refuses, or cannot be asked.
    pub async fn delete_topic(&self, name: &str) -> Result<(), DeleteTopicError> {
        let deleted = self.retry(async || self.delete_once(name).await).await;
        self.client.invalidate(name);
        deleted
    }

    async fn delete_once(&self, name: &str) -> Result<(), DeleteTopicError> {
        let connection = self.client.connection(To::Controller).await?;
        let mut request = DeleteTopicsRequest { timeout_ms: timeout_ms(&self.client), ..Default::default() };
        if connection.version_of::<DeleteTopicsRequest>(CallOptions::default())? >= DELETE_BY_STATE_FROM {
            request.topics = vec![DeleteTopicState { name: Some(KStr::from(name)), ..Default::default() }];
        } else {
            request.topic_names = vec![KStr::from(name)];
        }
        let answer = connection.send(&request, CallOptions::default()).await?.await?;
        let found = answer.responses.iter().find(|topic| topic.name.as_deref() == Some(name));
        let subject = || format!("deleting topic {name:?}");
        let topic = found.ok_or_else(|| DeleteTopicError::Refused(unanswered(subject())))?;
        refusal(topic.error_code, topic.error_message.as_ref(), subject).map_err(|refusal| {
            match refusal.code {
                ErrorCode::UnknownTopicOrPartition => {
                    DeleteTopicError::UnknownTopic { topic: name.to_owned() }
                }
                _ => DeleteTopicError::Refused(refusal),
            }
        })
    }

    /// Raises the number of a topic's partitions to `total`. Records with keys may go to other partitions
    /// than before from then on.
    ///
    /// # Errors
    /// [`AddPartitionsError::UnknownTopic`]; or that the broker refuses, or cannot be asked.
    pub async fn add_partitions(&self, name: &str, total: i32) -> Result<(), AddPartitionsError> {
        let topic = CreatePartitionsTopic { name: KStr::from(name), count: total, assignments: None };
        let request = &CreatePartitionsRequest {
            topics: vec![topic],
            timeout_ms: timeout_ms(&self.client),
            ..Default::default()
        };
        self.retry(async || self.add_once(request, name).await).await?;
        self.client.invalidate(name);
        Ok(())
    }

    async fn add_once(
        &self,
        request: &CreatePartitionsRequest,
        name: &str,
    ) -> Result<(), AddPartitionsError> {
        let connection = self.client.connection(To::Controller).await?;
        let answer = connection.send(request, CallOptions::default()).await?.await?;
        let found = answer.results.iter().find(|topic| topic.name == *name);
        let subject = || format!("adding partitions to topic {name:?}");
        let topic = found.ok_or_else(|| AddPartitionsError::Refused(unanswered(subject())))?;
        refusal(topic.error_code, topic.error_message.as_ref(), subject).map_err(|refusal| {
            match refusal.code {
                ErrorCode::UnknownTopicOrPartition => {
                    AddPartitionsError::UnknownTopic { topic: name.to_owned() }
                }
                _ => AddPartitionsError::Refused(refusal),
            }
        })
    }
}
