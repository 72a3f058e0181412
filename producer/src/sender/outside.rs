//! What the sender needs from the world before it can send: who leads, a connection to them, a producer id.
//!
//! Each is asked for at most once at a time, again after a pause if that failed, and arrives as an event.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use millstream_client::{BrokerId, ClientError, Connection, Missing, To, TopicMetadata};
use millstream_protocol::messages::{InitProducerIdRequest, ProduceResponse};
use millstream_protocol::{ErrorCode, KStr, Uuid};
use tokio::time::Instant;

use super::answer::{self, Target};
use super::lane::Identity;
use super::transaction::{Answer, Ask, Version};
use super::{REQUESTS_MAX, Sender, Sent, Wait};
use crate::buffer::Place;
use crate::error::Fate;

/// How often to look whether a topic has grown. The client asks the broker less often than that.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Something that was waited for.
pub(crate) enum Event {
    Topic(usize, Result<Arc<TopicMetadata>, ClientError>),
    Connected(BrokerId, Result<Connection, ClientError>),
    Identified(Result<Identity, IdentifyError>),
    /// A coordinator answered, and said which protocol its cluster speaks.
    Coordinated {
        ask: Ask,
        answer: Answer,
        version: Option<Version>,
    },
    Answered {
        broker: BrokerId,
        sent: Sent,
        result: Result<Box<ProduceResponse>, ClientError>,
    },
}

pub(super) type Events = FuturesUnordered<Pin<Box<dyn Future<Output = Event> + Send>>>;

/// Why there is no producer id.
pub(crate) enum IdentifyError {
    Refused(ErrorCode),
    Request(ClientError),
}

/// Something that is asked for, at most once at a time, and again later if it failed.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    is_under_way: bool,
    failures: u32,
    retry_at: Option<Instant>,
}

impl Attempt {
    /// Whether to ask now. If not: what to wait for.
    fn start(&mut self, now: Instant) -> Result<(), Wait> {
        if self.is_under_way {
            return Err(Wait::Event);
        }
        if let Some(retry_at) = self.retry_at.filter(|retry_at| *retry_at > now) {
            return Err(Wait::Until(retry_at));
        }
        self.is_under_way = true;
        Ok(())
    }

    fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Says how often it has failed in a row.
    fn failed(&mut self) -> u32 {
        self.is_under_way = false;
        self.failures += 1;
        self.failures
    }
}

/// What is known of a topic.
pub(super) struct TopicView {
    name: KStr,
    id: Uuid,
    metadata: Option<Arc<TopicMetadata>>,
    looked_at: Instant,
    attempt: Attempt,
}

/// A broker, and what is under way to it.
#[derive(Default)]
pub(super) struct Broker {
    pub(super) connection: Option<Connection>,
    pub(super) in_flight: usize,
    attempt: Attempt,
}

impl Sender {
    /// Who leads the partition, or what to wait for.
    pub(super) fn leader(&mut self, place: Place, now: Instant) -> Result<BrokerId, Wait> {
        let buffer = &self.buffer;
        let view = self.topics.entry(place.0).or_insert_with(|| TopicView {
            name: buffer.topic_name(place.0),
            id: Uuid::nil(),
            metadata: None,
            looked_at: now,
            attempt: Attempt::default(),
        });
        let partition = view.metadata.as_ref().and_then(|metadata| metadata.partition(place.1));
        let leader = partition.and_then(|partition| partition.leader);
        let is_old = now.duration_since(view.looked_at) > LOOK_AGAIN;
        if let Some(leader) = leader.filter(|_| !is_old) {
            return Ok(leader);
        }
        let started = view.attempt.start(now);
        if started.is_ok() {
            if leader.is_none() && view.metadata.is_some() {
                self.client.invalidate(&view.name);
            }
            let (client, name, topic) = (self.client.clone(), view.name.clone(), place.0);
            self.events.push(Box::pin(async move {
                Event::Topic(topic, client.topic(&name, Missing::Create).await)
            }));
        }
        // What is merely old still serves.
        leader.ok_or(started.err().unwrap_or(Wait::Event))
    }

    /// What is known of the topic's leaders is in doubt.
    pub(super) fn doubt(&mut self, topic: usize) {
        if let Some(view) = self.topics.get_mut(&topic)
            && view.metadata.take().is_some()
        {
            self.client.invalidate(&view.name);
        }
    }

    pub(super) fn on_topic(&mut self, topic: usize, result: Result<Arc<TopicMetadata>, ClientError>) {
        let Some(view) = self.topics.get_mut(&topic) else { return };
        match result {
            Ok(metadata) => {
                self.buffer.learn(&metadata);
                let mut places = self.lanes.keys().filter(|place| place.0 == topic);
                let is_whole = places.all(|place| metadata.partition(place.1).is_some());
                let is_led = metadata.partitions.iter().all(|partition| partition.leader.is_some());
                let partitions = metadata.partitions.len();
                view.id = metadata.id;
                view.looked_at = Instant::now();
                view.metadata = Some(metadata);
                if is_led && is_whole {
                    view.attempt.succeeded();
                } else {
                    let failures = view.attempt.failed();
                    view.attempt.retry_at = Some(Instant::now() + self.client.backoff(failures));
                    self.trouble = Some(match is_whole {
                        true => format!("a partition of topic {:?} has no leader", view.name),
                        // It was deleted and made anew with fewer.
                        false => format!("topic {:?} has only {partitions} partitions now", view.name),
                    });
                }
            }
            Err(error) if error.is_retriable() => {
                let failures = view.attempt.failed();
                view.attempt.retry_at = Some(Instant::now() + self.client.backoff(failures));
                self.trouble = Some(error.to_string());
            }
            Err(error) => {
                view.attempt.succeeded();
                self.fail_topic(topic, Self::request_failed(&error));
            }
        }
    }

    /// Name and id of a topic.
    pub(super) fn topic_names(&self, topic: usize) -> (KStr, Uuid) {
        self.topics.get(&topic).map(|view| (view.name.clone(), view.id)).unwrap_or_default()
    }

    /// The connection over which a request can be sent to the broker now, or what to wait for.
    pub(super) fn connect(&mut self, id: BrokerId, now: Instant) -> Result<Connection, Wait> {
        let broker = self.brokers.entry(id).or_default();
        if broker.in_flight >= REQUESTS_MAX {
            return Err(Wait::Event);
        }
        if let Some(open) = broker.connection.as_ref().filter(|connection| connection.is_open()) {
            return Ok(open.clone());
        }
        broker.connection = None;
        if broker.in_flight > 0 {
            // What was lost with the old connection comes before anything that goes over a new one.
            return Err(Wait::Event);
        }
        broker.attempt.start(now)?;
        let wire = self.wire.clone();
        self.events
            .push(Box::pin(async move { Event::Connected(id, wire.connection(To::Broker(id)).await) }));
        Err(Wait::Event)
    }

    pub(super) fn disconnect(&mut self, id: BrokerId) {
        if let Some(broker) = self.brokers.get_mut(&id) {
            broker.connection.take_if(|connection| !connection.is_open());
        }
    }

    pub(super) fn on_connected(&mut self, id: BrokerId, result: Result<Connection, ClientError>) {
        let broker = self.brokers.entry(id).or_default();
        match result {
            Ok(connection) => {
                broker.connection = Some(connection);
                broker.attempt.succeeded();
            }
            Err(error) => {
                tracing::warn!(%error, broker = %id, "cannot connect");
                let failures = broker.attempt.failed();
                broker.attempt.retry_at = Some(Instant::now() + self.client.backoff(failures));
                self.trouble = Some(error.to_string());
                let topics: Vec<_> = self.topics.keys().copied().collect();
                topics.into_iter().for_each(|topic| self.doubt(topic));
            }
        }
    }

    /// Whether the lane has a producer id, if it needs one, or what to wait for.
    pub(super) fn identify(&mut self, place: Place, now: Instant) -> Result<(), Wait> {
        if let Some(may_send) = self.enter_transaction(place) {
            return if may_send { Ok(()) } else { Err(Wait::Event) };
        }
        let lane = self.lanes.get_mut(&place).expect("the caller looked it up");
        if !lane.wants_identity() {
            return Ok(());
        }
        if let Some(identity) = self.identity.filter(|identity| lane.accepts(*identity)) {
            lane.identify(identity);
            return Ok(());
        }
        self.identifying.start(now)?;
        let wire = self.wire.clone();
        self.events.push(Box::pin(async move {
            let request = InitProducerIdRequest {
                transactional_id: None,
                transaction_timeout_ms: i32::MAX,
                ..Default::default()
            };
            let response = wire.request(request, To::Any).await;
            Event::Identified(response.map_err(IdentifyError::Request).and_then(|response| {
                match ErrorCode::from_code(response.error_code) {
                    Some(ErrorCode::None) => {
                        Ok(Identity { id: response.producer_id, epoch: response.producer_epoch })
                    }
                    code => Err(IdentifyError::Refused(code.unwrap_or(ErrorCode::UnknownServerError))),
                }
            }))
        }));
        Err(Wait::Event)
    }

    pub(super) fn on_identified(&mut self, result: Result<Identity, IdentifyError>) {
        let error = match result {
            Ok(identity) => {
                tracing::debug!(id = identity.id, epoch = identity.epoch, "got a producer id");
                self.identifying.succeeded();
                self.identity = Some(identity);
                return;
            }
            Err(error) => error,
        };
        let failures = self.identifying.failed();
        self.identifying.retry_at = Some(Instant::now() + self.client.backoff(failures));
        match error {
            IdentifyError::Request(error) if error.is_retriable() => self.trouble = Some(error.to_string()),
            IdentifyError::Request(error) => self.fail_all(Self::request_failed(&error)),
            IdentifyError::Refused(code) if code.is_retriable() => {
                self.trouble = Some(format!("no producer id: {}", code.message()));
            }
            IdentifyError::Refused(code) => self.fail_all(|outcome| {
                let message = format!("no producer id: {}", code.message());
                answer::refused(Target::from(outcome), code, message, Fate::NotWritten)
            }),
        }
    }
}
