//! The handle: finds the broker that a request is for, and keeps metadata fresh enough for that.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream_protocol::messages::metadata_request::MetadataRequestTopic;
use millstream_protocol::messages::{MetadataRequest, MetadataResponse};
use millstream_protocol::{ErrorCode, KStr, Request};
use tokio::time::Instant;
use tracing::Instrument;

use crate::address::Address;
use crate::admin::Admin;
use crate::builder::{ClientBuilder, Properties, PropertyError, RetrySettings};
use crate::connection::{CallOptions, Connection, ConnectionSettings};
use crate::coordinator::Coordinators;
use crate::error::{ClientError, known};
use crate::metadata::{BrokerId, ClusterMetadata, TopicMetadata};
use crate::pool::Pool;
use crate::transport::Transport;

/// A topic that was just created may not be known to every broker yet.
const UNKNOWN_TOPIC_PATIENCE: Duration = Duration::from_secs(1);
/// A topic that the broker creates because we asked takes a little longer.
const CREATED_TOPIC_PATIENCE: Duration = Duration::from_secs(5);

/// Before this version of Metadata whatever was asked for was created, if the broker was set up to.
const CHOICE_TO_CREATE_FROM: i16 = 4;

/// Which broker a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum To<'a> {
    /// Whichever can be reached.
    Any,
    /// The one that takes administrative requests.
    Controller,
    /// The one with this id.
    Broker(BrokerId),
    /// The one that leads this partition of this topic.
    Leader(&'a str, i32),
    /// The one that coordinates this group.
    Coordinator(&'a str),
    /// The one that coordinates the transactions of this transactional id.
    TransactionCoordinator(&'a str),
}

/// What to do about a topic that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Say so.
    Fail,
    /// Ask the broker to create it with its defaults, if it is set up to do that.
    Create,
}

/// Which failed attempts may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Those that certainly had no effect.
    WithoutEffect,
    /// All: the request only reads.
    Always,
}

/// A client of one cluster. Clones share connections and metadata.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use millstream_client::Client;
///
/// let client = Client::builder("127.0.0.1:9092").client_id("example").connect().await?;
/// for topic in client.admin().list_topics().await? {
///     println!("{} has {} partitions", topic.name, topic.partitions.len());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
}

/// What all handles to a cluster have in common. `cluster` is held for an assignment, never across an await.
#[derive(Debug)]
struct Shared {
    bootstrap: Vec<Address>,
    transport: Arc<dyn Transport>,
    connection: Arc<ConnectionSettings>,
    retry: RetrySettings,
    /// Connections for metadata, which must not queue behind a long poll of an isolated handle.
    pool: Arc<Pool>,
    cluster: Mutex<Arc<ClusterMetadata>>,
    coordinators: Coordinators,
    /// Whoever refreshes holds it, so that many who find the same thing stale ask once.
    refreshing: tokio::sync::Mutex<()>,
}

impl Client {
    /// Starts with a list of `host:port`, separated by commas; any one that answers is enough.
    pub fn builder(bootstrap: impl AsRef<str>) -> ClientBuilder {
        ClientBuilder::new(bootstrap.as_ref())
    }

    /// Starts with settings by the names that they have in Kafka: `bootstrap.servers`, `client.id`,
    /// `request.timeout.ms`, `default.api.timeout.ms`, `socket.connection.setup.timeout.ms`, `retry.backoff.ms`,
    /// `retry.backoff.max.ms`, `metadata.max.age.ms`. They are taken out of `properties`; the rest is for producer or
    /// consumer, and [`Properties::finish`] refuses what is left at the end.
    ///
    /// # Errors
    /// [`PropertyError`].
    pub fn builder_from(properties: &mut Properties) -> Result<ClientBuilder, PropertyError> {
        ClientBuilder::from_properties(properties)
    }

    pub(crate) fn new(
        bootstrap: Vec<Address>,
        transport: Arc<dyn Transport>,
        connection: ConnectionSettings,
        retry: RetrySettings,
    ) -> Self {
        let pool = Arc::new(Pool::default());
        let shared = Shared {
            bootstrap,
            transport,
            connection: Arc::new(connection),
            retry,
            pool: pool.clone(),
            cluster: Mutex::default(),
            coordinators: Coordinators::default(),
            refreshing: tokio::sync::Mutex::default(),
        };
        Self { shared: Arc::new(shared), pool }
    }

    /// The first contact: one round, and what the cluster says of itself.
    pub(crate) async fn introduce(&self) -> Result<(), ClientError> {
        self.fetch_metadata(Some(&[]), Missing::Fail).await.map(drop)
    }

    /// A handle with the same settings and metadata but connections of its own: what it sends never waits
    /// behind what others send. Producers and consumers make one for themselves.
    #[must_use]
    pub fn isolated(&self) -> Self {
        Self { shared: self.shared.clone(), pool: Arc::new(Pool::default()) }
    }

    /// Administrative operations.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    /// What is known of the cluster, without asking.
    #[must_use]
    pub fn cluster(&self) -> Arc<ClusterMetadata> {
        self.shared.cluster.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Metadata that is fresh for these topics. Never creates one.
    ///
    /// # Errors
    /// [`ClientError::UnknownTopic`] for a topic that does not exist, or what kept us from asking.
    pub async fn metadata(&self, topics: &[&str]) -> Result<Arc<ClusterMetadata>, ClientError> {
        self.ensure(topics, Missing::Fail).await
    }

    /// Metadata of one topic, fresh enough.
    ///
    /// # Errors
    /// As [`metadata`](Self::metadata).
    pub async fn topic(&self, name: &str, missing: Missing) -> Result<Arc<TopicMetadata>, ClientError> {
        let cluster = self.ensure(&[name], missing).await?;
        let topic = cluster.topic(name).cloned();
        topic.ok_or_else(|| ClientError::UnknownTopic { topic: name.to_owned() })
    }

    /// Forgets what is known of a topic: a broker said that it is not so any more. Asked again on next use.
    pub fn invalidate(&self, topic: &str) {
        let mut cluster = self.shared.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        if cluster.topic(topic).is_some() {
            *cluster = Arc::new(cluster.without(topic));
        }
    }

    /// Sends one request of the protocol, whichever it is, in the newest version that both sides know.
    ///
    /// Goes on trying to reach the broker for the client's total timeout. Once the request may have arrived,
    /// it is not sent again: only the caller knows whether that would be right. Error codes inside the
    /// response are the caller's to read.
    ///
    /// ```no_run
    /// # async fn example(client: millstream_client::Client) -> Result<(), millstream_client::ClientError> {
    /// use millstream_client::To;
    /// use millstream_client::protocol::messages::ListGroupsRequest;
    ///
    /// let groups = client.request(ListGroupsRequest::default(), To::Any).await?;
    /// println!("{} groups", groups.groups.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What kept the request from being answered. [`ClientError::had_no_effect`] tells whether the broker may
    /// have acted on it.
    pub async fn request<R: Request>(&self, request: R, to: To<'_>) -> Result<R::Response, ClientError> {
        let request = &request;
        let span = tracing::debug_span!("request", api = R::KEY.name(), ?to);
        let answered = self.retry(Repeat::WithoutEffect, async || {
            let connection = self.connection(to).await?;
            connection.send(request, CallOptions::default()).await?.await
        });
        answered.instrument(span).await
    }

    /// The open connection to the broker that `to` names, opened if need be. One attempt.
    ///
    /// For those who pipeline: see [`Connection::send`].
    ///
    /// # Errors
    /// That no such broker is known or can be reached; always without effect.
    pub async fn connection(&self, to: To<'_>) -> Result<Connection, ClientError> {
        match to {
            To::Any => self.any_connection().await,
            To::Broker(id) => self.broker_connection(id).await,
            To::Controller => match self.ensure(&[], Missing::Fail).await?.controller {
                Some(id) => self.broker_connection(id).await,
                None => self.any_connection().await,
            },
            To::Coordinator(group) => {
                let coordinator = self.coordinator(group).await?;
                let opened = self.broker_connection(coordinator).await;
                if opened.is_err() {
                    self.forget_coordinator(group);
                }
                opened
            }
            To::TransactionCoordinator(id) => {
                let coordinator = self.transaction_coordinator(id).await?;
                let opened = self.broker_connection(coordinator).await;
                if opened.is_err() {
                    self.forget_transaction_coordinator(id);
                }
                opened
            }
            To::Leader(topic, partition) => {
                let metadata = self.topic(topic, Missing::Fail).await?;
                let unknown = || ClientError::UnknownPartition {
                    topic: topic.to_owned(),
                    partition,
                    partitions: metadata.partitions.len(),
                };
                let no_leader = || ClientError::NoLeader { topic: topic.to_owned(), partition };
                let leader = metadata.partition(partition).ok_or_else(unknown)?.leader.ok_or_else(no_leader);
                if leader.is_err() {
                    self.invalidate(topic);
                }
                self.broker_connection(leader?).await
            }
        }
    }

    /// How long to wait before the next attempt, after so many that failed in a row.
    #[must_use]
    pub fn backoff(&self, failures: u32) -> Duration {
        self.shared.retry.backoff.after(failures)
    }

    /// How long a call goes on trying.
    #[must_use]
    pub fn total_timeout(&self) -> Duration {
        self.shared.retry.total_timeout
    }

    /// How long one request waits for its answer.
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        self.shared.connection.request_timeout
    }

    pub(crate) fn coordinators(&self) -> &Coordinators {
        &self.shared.coordinators
    }

    /// Runs `attempt` until it succeeds, fails in a way that may not be repeated, or time is up.
    pub(crate) async fn retry<T, F>(
        &self,
        repeat: Repeat,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let deadline = Instant::now() + self.shared.retry.total_timeout;
        let mut failures = 0;
        loop {
            let error = match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            failures += 1;
            let wait = self.backoff(failures);
            let is_harmless = repeat == Repeat::Always || error.had_no_effect();
            if !error.is_retriable() || !is_harmless || Instant::now() + wait > deadline {
                return Err(error);
            }
            tracing::debug!(%error, ?wait, "trying again");
            tokio::time::sleep(wait).await;
        }
    }

    async fn broker_connection(&self, id: BrokerId) -> Result<Connection, ClientError> {
        let mut address = self.cluster().broker(id).map(|broker| broker.address());
        if address.is_none() {
            self.fetch_metadata(Some(&[]), Missing::Fail).await?;
            address = self.cluster().broker(id).map(|broker| broker.address());
        }
        let address = address.ok_or(ClientError::UnknownBroker { broker: id })?;
        let opened = self.open(&self.pool, &address).await;
        if matches!(opened, Err(ClientError::Unreachable { .. })) {
            self.suspect_brokers();
        }
        opened
    }

    /// A broker that cannot be reached may have moved: its address is asked for again on next use.
    fn suspect_brokers(&self) {
        let mut cluster = self.shared.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = ClusterMetadata::clone(&cluster);
        changed.brokers.clear();
        *cluster = Arc::new(changed);
    }

    pub(crate) async fn any_connection(&self) -> Result<Connection, ClientError> {
        self.any_connection_of(&self.pool).await
    }

    async fn any_connection_of(&self, pool: &Pool) -> Result<Connection, ClientError> {
        if let Some(open) = pool.any_open() {
            return Ok(open);
        }
        let cluster = self.cluster();
        let mut addresses = self.shared.bootstrap.clone();
        let brokers = cluster.brokers.iter().map(|broker| broker.address());
        addresses.extend(brokers.filter(|address| !self.shared.bootstrap.contains(address)));
        let mut attempts = Vec::new();
        for address in &addresses {
            match self.open(pool, address).await {
                Ok(connection) => return Ok(connection),
                Err(ClientError::Unreachable { attempts: failed }) => attempts.extend(failed),
                // Somebody else's service: with a single address its own message is the better one.
                Err(error) if addresses.len() == 1 => return Err(error),
                Err(error) => attempts
                    .push(crate::error::Attempt { address: address.to_string(), reason: error.to_string() }),
            }
        }
        Err(ClientError::Unreachable { attempts })
    }

    async fn open(&self, pool: &Pool, address: &Address) -> Result<Connection, ClientError> {
        pool.connection(address, &*self.shared.transport, &self.shared.connection).await
    }

    /// Whether everything asked for is known and not too old.
    fn is_fresh(&self, cluster: &ClusterMetadata, topics: &[&str]) -> bool {
        let max_age = self.shared.retry.metadata_max_age;
        let is_fresh =
            |name: &&str| cluster.topic(name).is_some_and(|topic| topic.fetched_at.elapsed() < max_age);
        !cluster.brokers.is_empty() && topics.iter().all(is_fresh)
    }

    /// Asks until every topic is known, within the patience that `missing` deserves.
    async fn ensure(&self, topics: &[&str], missing: Missing) -> Result<Arc<ClusterMetadata>, ClientError> {
        let started = Instant::now();
        let mut failures = 0;
        loop {
            let error = {
                let cluster = self.cluster();
                if self.is_fresh(&cluster, topics) {
                    return Ok(cluster);
                }
                let _turn = self.shared.refreshing.lock().await;
                let cluster = self.cluster();
                if self.is_fresh(&cluster, topics) {
                    return Ok(cluster);
                }
                match self.fetch_metadata(Some(topics), missing).await {
                    Ok(answer) => match first_error(&answer, topics) {
                        None => return Ok(self.cluster()),
                        Some(error) => error,
                    },
                    Err(error) => error,
                }
            };
            failures += 1;
            let wait = self.backoff(failures);
            let patience = match (&error, missing) {
                (ClientError::UnknownTopic { .. }, Missing::Fail) => UNKNOWN_TOPIC_PATIENCE,
                (ClientError::UnknownTopic { .. }, Missing::Create) => CREATED_TOPIC_PATIENCE,
                // Metadata changes nothing, so it may be asked for again whatever became of the request.
                (error, _) if error.is_retriable() => self.shared.retry.total_timeout,
                _ => Duration::ZERO,
            };
            if started.elapsed() + wait > patience.min(self.shared.retry.total_timeout) {
                return Err(error);
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Asks once, over the connections that are kept for this, and merges the answer. `None` asks for all.
    pub(crate) async fn fetch_metadata(
        &self,
        topics: Option<&[&str]>,
        missing: Missing,
    ) -> Result<MetadataResponse, ClientError> {
        let connection = self.any_connection_of(&self.shared.pool).await?;
        let version = connection.version_of::<MetadataRequest>(CallOptions::default())?;
        let always_creates = version < CHOICE_TO_CREATE_FROM;
        let named =
            |name: &&str| MetadataRequestTopic { name: Some(KStr::from(*name)), ..Default::default() };
        let request = MetadataRequest {
            topics: topics.map(|topics| topics.iter().map(named).collect()),
            allow_auto_topic_creation: missing == Missing::Create || always_creates,
            ..Default::default()
        };
        let answer = connection.send(&request, CallOptions::default()).await?.await?;
        match known(answer.error_code) {
            ErrorCode::None => {}
            code => return Err(ClientError::MetadataRefused { code }),
        }
        let mut cluster = self.shared.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        *cluster = Arc::new(cluster.merge(&answer, Instant::now()));
        drop(cluster);
        Ok(answer)
    }
}

/// The first topic that the broker could not describe.
fn first_error(answer: &MetadataResponse, topics: &[&str]) -> Option<ClientError> {
    topics.iter().find_map(|name| {
        let found = answer.topics.iter().find(|topic| topic.name.as_deref() == Some(*name));
        let topic = (*name).to_owned();
        match found.map_or(ErrorCode::UnknownTopicOrPartition, |topic| known(topic.error_code)) {
            ErrorCode::None => None,
            ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId => {
                Some(ClientError::UnknownTopic { topic })
            }
            code => Some(ClientError::TopicRefused { topic, code }),
        }
    })
}

#[cfg(test)]
mod tests;
