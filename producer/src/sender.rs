//! The task that takes batches out of the buffer and sees them through.
//!
//! One task for each producer. It never waits for one thing: looking up a topic, connecting, asking for a
//! producer id and every Produce are futures in one set, and whatever finishes first is taken in. What follows
//! from an answer is decided by `lane`, which does no I/O.

mod answer;
mod lane;
mod outside;
mod transacting;
mod transaction;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use millstream_client::{BrokerId, CallOptions, Client, ClientError, Connection};
use millstream_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millstream_protocol::messages::{ProduceRequest, ProduceResponse};
use millstream_protocol::{Chunk, Uuid};
use tokio::time::Instant;
use tracing::Instrument;

use crate::buffer::{Buffer, Due, Gathering, Held, Place};
use crate::builder::Acks;
use crate::delivery::Outcome;
use crate::error::{Fate, ProduceError};
use answer::{Leader, Target};
use lane::{Identity, Lane, Numbering, Settled};
use outside::{Broker, Event, Events, TopicView};
pub(crate) use transacting::Transactor;

/// Requests under way to one broker. With one batch of a partition in each, no partition exceeds what the
/// broker recognises as repetitions.
const REQUESTS_MAX: usize = lane::IN_FLIGHT_MAX;
/// A request takes no further batch once it has this size.
const REQUEST_BYTES: usize = 4 * 1024 * 1024;
/// The oldest Produce that names topics by id alone.
const BY_ID_FROM: i16 = 13;
/// The broker gives up waiting for replicas a little before we give up waiting for the broker.
const GRACE: Duration = Duration::from_secs(2);

/// What the sender needs to know of the producer's settings.
#[derive(Debug, Clone)]
pub(crate) struct SenderSettings {
    pub(crate) acks: Acks,
    pub(crate) is_idempotent: bool,
    pub(crate) delivery_timeout: Duration,
}

pub(crate) struct Sender {
    /// For metadata.
    client: Client,
    /// For everything else, over connections of its own.
    wire: Client,
    buffer: Arc<Buffer>,
    settings: SenderSettings,
    lanes: HashMap<Place, Lane>,
    /// Lanes that have anything to send or to wait for; each is looked at once in a pass.
    active: VecDeque<Place>,
    topics: HashMap<usize, TopicView>,
    brokers: HashMap<BrokerId, Broker>,
    identity: Option<Identity>,
    identifying: outside::Attempt,
    /// Who takes care of transactions, if the producer has them.
    transactor: Option<Transactor>,
    /// The last thing that went wrong before anything could be sent.
    trouble: Option<String>,
    events: Events,
    settled: Vec<Settled>,
}

/// A request that is being put together, and the connection that it will go over: should that one end in the
/// meantime, the request fails, and what it carries goes again in order.
struct Draft {
    connection: Connection,
    bytes: usize,
    batches: Vec<Drafted>,
}

struct Drafted {
    place: Place,
    order: u64,
    records: Bytes,
}

/// What a partition waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// For something that will be told.
    Event,
    /// For time to pass.
    Until(Instant),
    /// For the next request: this one is full.
    Turn,
}

impl Wait {
    fn until(at: Option<Instant>) -> Self {
        at.map_or(Self::Event, Self::Until)
    }
}

/// The batches that one request carried.
pub(crate) type Sent = Vec<(Place, u64)>;

impl Sender {
    pub(crate) fn new(
        client: Client,
        buffer: Arc<Buffer>,
        settings: SenderSettings,
        transactor: Option<Transactor>,
    ) -> Self {
        Self {
            wire: client.isolated(),
            client,
            buffer,
            settings,
            lanes: HashMap::new(),
            active: VecDeque::new(),
            topics: HashMap::new(),
            brokers: HashMap::new(),
            identity: None,
            identifying: outside::Attempt::default(),
            transactor,
            trouble: None,
            events: FuturesUnordered::new(),
            settled: Vec::new(),
        }
    }

    pub(crate) async fn run(mut self) {
        loop {
            let wake_at = self.pump().await;
            if self.is_finished() {
                return;
            }
            let alarm = async {
                match wake_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(event) = self.events.next(), if !self.events.is_empty() => self.on_event(event),
                () = self.buffer.woken() => {}
                () = alarm => {}
            }
        }
    }

    fn is_finished(&mut self) -> bool {
        let now = Instant::now();
        self.buffer.is_finished() && self.transactor.as_mut().is_none_or(|at_work| at_work.is_finished(now))
    }

    /// Sends all that can be sent now. Says when to look again if nothing happens before.
    async fn pump(&mut self) -> Option<Instant> {
        loop {
            self.take_news();
            let now = Instant::now();
            self.transact(now);
            let mut drafts = HashMap::new();
            let mut wake_at = None;
            let mut next_in_turn = Vec::new();
            for _ in 0..self.active.len() {
                let Some(place) = self.active.pop_front() else { break };
                let expires_at = self.expire(place, now);
                let drafted = self.draft(place, now, &mut drafts);
                if drafted == Err(Wait::Turn) {
                    next_in_turn.push(place);
                } else if self.has_any(place) {
                    self.active.push_back(place);
                } else {
                    self.lane(place).is_active = false;
                }
                let may_go_at = match drafted {
                    Err(Wait::Until(at)) => Some(at),
                    Ok(()) | Err(Wait::Event | Wait::Turn) => None,
                };
                wake_at = [wake_at, expires_at, may_go_at].into_iter().flatten().min();
            }
            // Those that found the request full come first next time, or they might never have their turn.
            for place in next_in_turn.into_iter().rev() {
                self.active.push_front(place);
            }
            self.tell_settled();
            if drafts.is_empty() {
                // A partition may have to join first, and what was given up may be the last of a transaction.
                return [wake_at, self.transact(now)].into_iter().flatten().min();
            }
            for (broker, draft) in drafts {
                self.send(broker, draft).await;
            }
        }
    }

    fn take_news(&mut self) {
        let mut news = Vec::new();
        self.buffer.take_news(&mut news);
        for place in news {
            self.activate(place);
        }
    }

    fn activate(&mut self, place: Place) {
        let numbering = match &self.transactor {
            Some(_) => Numbering::Transactional,
            None if self.settings.is_idempotent => Numbering::Idempotent,
            None => Numbering::None,
        };
        let lane = self.lanes.entry(place).or_insert_with(|| Lane::new(numbering));
        if !std::mem::replace(&mut lane.is_active, true) {
            self.active.push_back(place);
        }
    }

    fn lane(&mut self, place: Place) -> &mut Lane {
        self.lanes.get_mut(&place).expect("a partition that is looked at has had a batch")
    }

    fn has_any(&self, place: Place) -> bool {
        !self.lanes[&place].is_idle() || self.buffer.oldest(place).is_some()
    }

    /// Puts the next batch of a partition into the draft for its leader, if there is one and it can go now.
    fn draft(
        &mut self,
        place: Place,
        now: Instant,
        drafts: &mut HashMap<BrokerId, Draft>,
    ) -> Result<(), Wait> {
        let lane = self.lane(place);
        if !lane.can_send(now) {
            return Err(Wait::until(lane.retry_at().filter(|at| *at > now)));
        }
        if !lane.has_queued() && self.buffer.oldest(place).is_none() {
            return Ok(());
        }
        let leader = self.leader(place, now)?;
        if drafts.get(&leader).is_some_and(|draft| draft.bytes >= REQUEST_BYTES) {
            return Err(Wait::Turn);
        }
        // Both are asked for at once; they do not depend on each other.
        let identified = self.identify(place, now);
        let connection = self.connect(leader, now)?;
        identified?;
        let lane = self.lanes.get_mut(&place).expect("it was looked up above");
        if !lane.has_queued() {
            match self.buffer.take_due(place, lane.is_idle(), now) {
                Due::Now(gathering) => lane.admit(gathering),
                Due::Later(at) => return Err(Wait::until(at)),
                Due::Nothing => return Ok(()),
            }
        }
        if let Some((order, records)) = lane.send_next() {
            let new = || Draft { connection, bytes: 0, batches: Vec::new() };
            let draft = drafts.entry(leader).or_insert_with(new);
            draft.bytes += records.len();
            draft.batches.push(Drafted { place, order, records });
        }
        Ok(())
    }

    /// Fails what has waited too long. Says when the next batch will have.
    fn expire(&mut self, place: Place, now: Instant) -> Option<Instant> {
        let timeout = self.settings.delivery_timeout;
        let trouble = self.trouble.as_deref();
        let lane = self.lanes.get_mut(&place)?;
        for (outcome, held, error) in lane.expire(now, timeout, trouble, &mut self.settled) {
            if let Some(transactor) = &mut self.transactor {
                transactor.machine.on_batch_failed(&error);
            }
            self.buffer.settle_early(&outcome, held, error);
        }
        if let Some(limit) = now.checked_sub(timeout)
            && self.buffer.oldest(place).is_some_and(|oldest| oldest <= limit)
        {
            for gathering in self.buffer.take_older(place, limit) {
                let trouble = self.trouble.as_deref();
                let error = answer::never_sent(Target::from(&*gathering.outcome), timeout, trouble);
                self.fail(&gathering, error);
            }
        }
        let lane = &self.lanes[&place];
        let oldest = lane.oldest().into_iter().chain(self.buffer.oldest(place)).min();
        oldest.map(|oldest| oldest + timeout)
    }

    fn fail(&mut self, gathering: &Gathering, error: ProduceError) {
        if let Some(transactor) = &mut self.transactor {
            transactor.machine.on_batch_failed(&error);
        }
        let records = u64::from(gathering.builder.record_count().unsigned_abs());
        let held = Held { id: gathering.id, records, bytes: 0, room: gathering.room };
        self.buffer.settle(&gathering.outcome, held, Err(error));
    }

    fn tell_settled(&mut self) {
        for Settled { outcome, held, result } in self.settled.drain(..) {
            match (&mut self.transactor, &result) {
                (Some(transactor), Ok(_)) => transactor.machine.on_written(),
                (Some(transactor), Err(error)) => transactor.machine.on_batch_failed(error),
                (None, _) => {}
            }
            self.buffer.settle(&outcome, held, result);
        }
    }

    /// Sends a request. Its answer arrives as an event.
    async fn send(&mut self, id: BrokerId, draft: Draft) {
        self.brokers.entry(id).or_default().in_flight += 1;
        let sent: Sent = draft.batches.iter().map(|batch| (batch.place, batch.order)).collect();
        self.buffer.count_request();
        let connection = draft.connection.clone();
        let (request, options) = self.request(draft);
        let span = tracing::trace_span!("produce", broker = %id, batches = sent.len());
        match connection.send(&request, options).instrument(span.clone()).await {
            Ok(reply) => self.events.push(Box::pin(
                async move { Event::Answered { broker: id, sent, result: reply.await.map(Box::new) } }
                    .instrument(span),
            )),
            Err(error) => self.on_event(Event::Answered { broker: id, sent, result: Err(error) }),
        }
    }

    fn request(&self, draft: Draft) -> (ProduceRequest, CallOptions) {
        let mut topics: Vec<TopicProduceData> = Vec::new();
        let mut last_place = None;
        let mut batches = draft.batches;
        batches.sort_unstable_by_key(|batch| batch.place);
        for Drafted { place: (topic, partition), records, .. } in batches {
            if last_place != Some(topic) {
                last_place = Some(topic);
                let (name, topic_id) = self.topic_names(topic);
                topics.push(TopicProduceData { name, topic_id, partition_data: Vec::new() });
            }
            let data = PartitionProduceData { index: partition, records: Some(Chunk::Bytes(records)) };
            topics.last_mut().expect("one was just pushed").partition_data.push(data);
        }
        let all_have_ids = topics.iter().all(|topic| topic.topic_id != Uuid::nil());
        let request_timeout = self.client.request_timeout();
        let request = ProduceRequest {
            transactional_id: self.transactor.as_ref().map(Transactor::id),
            acks: self.settings.acks.wire(),
            timeout_ms: i32::try_from(request_timeout.as_millis()).unwrap_or(i32::MAX),
            topic_data: topics,
        };
        let newest_of_transaction = self.transactor.as_ref().and_then(Transactor::newest_produce);
        let newest_version = newest_of_transaction.or((!all_have_ids).then_some(BY_ID_FROM - 1));
        (request, CallOptions { newest_version, broker_may_take: GRACE })
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Topic(topic, result) => self.on_topic(topic, result),
            Event::Connected(broker, result) => self.on_connected(broker, result),
            Event::Identified(result) => self.on_identified(result),
            Event::Coordinated { ask, answer, version } => self.on_coordinated(&ask, answer, version),
            Event::Answered { broker, sent, result } => {
                if let Some(broker) = self.brokers.get_mut(&broker) {
                    broker.in_flight -= 1;
                }
                match result {
                    Ok(response) => self.on_response(&sent, &response),
                    Err(error) => self.on_failure(broker, &sent, &error),
                }
            }
        }
        self.tell_settled();
    }

    fn on_response(&mut self, sent: &Sent, response: &ProduceResponse) {
        for (place, order) in sent {
            let (name, topic_id) = self.topic_names(place.0);
            let target = Target { topic: &name, partition: place.1 };
            let (verdict, leader) = if self.settings.acks == Acks::None {
                let written = crate::delivery::Written { base_offset: None, append_time: None };
                (lane::Verdict::Written(written), Leader::Stands)
            } else {
                let mut topics = response.responses.iter();
                let topic = topics.find(|topic| {
                    topic.name == name || (topic_id != Uuid::nil() && topic.topic_id == topic_id)
                });
                let partitions = topic.map(|topic| &topic.partition_responses[..]).unwrap_or_default();
                answer::judge(target, partitions.iter().find(|partition| partition.index == place.1))
            };
            if let lane::Verdict::Again(error) = &verdict {
                tracing::debug!(%error, "sending again");
                self.buffer.meters.repeated_batches.increment(1);
            }
            if leader == Leader::Doubtful {
                self.doubt(place.0);
            }
            self.answer(*place, *order, verdict);
        }
    }

    fn on_failure(&mut self, broker: BrokerId, sent: &Sent, error: &ClientError) {
        tracing::debug!(%error, %broker, "a Produce got no answer");
        self.disconnect(broker);
        for (place, order) in sent {
            let (name, _) = self.topic_names(place.0);
            let target = Target { topic: &name, partition: place.1 };
            let verdict = answer::judge_failure(target, error);
            // The broker may be gone, and another one lead.
            self.doubt(place.0);
            self.answer(*place, *order, verdict);
        }
    }

    fn answer(&mut self, place: Place, order: u64, verdict: lane::Verdict) {
        let Some(lane) = self.lanes.get_mut(&place) else { return };
        let retry_at = Instant::now() + self.client.backoff(lane.failures() + 1);
        if let Some(divided) = lane.on_answer(order, verdict, retry_at, &mut self.settled) {
            tracing::debug!(?divided, "a batch was too large");
            self.buffer.divided(place.0, &divided);
        }
        self.activate(place);
    }

    /// Fails everything of a topic that has not been sent.
    fn fail_topic(&mut self, topic: usize, error: impl Fn(&Outcome) -> ProduceError) {
        let now = Instant::now();
        let places: Vec<_> = self.lanes.keys().filter(|place| place.0 == topic).copied().collect();
        for place in places {
            self.fail_place(place, now, &error);
        }
    }

    fn fail_place(&mut self, place: Place, now: Instant, error: &impl Fn(&Outcome) -> ProduceError) {
        if let Some(lane) = self.lanes.get_mut(&place) {
            lane.fail_queued(error, &mut self.settled);
        }
        for gathering in self.buffer.take_older(place, now) {
            self.fail(&gathering, error(&gathering.outcome));
        }
    }

    /// Fails everything that has not been sent.
    fn fail_all(&mut self, error: impl Fn(&Outcome) -> ProduceError) {
        let topics: Vec<_> = self.topics.keys().copied().collect();
        for topic in topics {
            self.fail_topic(topic, &error);
        }
    }

    fn request_failed(source: &ClientError) -> impl Fn(&Outcome) -> ProduceError {
        move |outcome| answer::request_failed(Target::from(outcome), source.clone(), Fate::NotWritten)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.buffer.abandon();
    }
}

#[cfg(test)]
mod tests;
