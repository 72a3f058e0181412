//! Asking brokers for records, and finding out whom to ask.
//!
//! At most one fetch is under way to each broker, and one lookup in all. They are futures that the consumer
//! owns, so that dropping a call that waits for them drops none of them.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::future::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use millstream_client::{BrokerId, CallOptions, ClientError, To};
use millstream_protocol::messages::fetch_response::{
    AbortedTransaction, FetchableTopicResponse, PartitionData,
};
use millstream_protocol::messages::{FetchRequest, FetchResponse};
use millstream_protocol::records::{self, BatchError, BatchHeader};
use millstream_protocol::{ErrorCode, KStr, Uuid};
use tokio::time::Instant;

use crate::consumer::Consumer;
use crate::error::ConsumeError;
use crate::group::{Call, CommitError};
use crate::lookup::{Found, LookedUp, Lookup, Question};
use crate::partition::{Cursor, Partition};
use crate::session::{Place, Session, Wanted};

/// The newest Fetch that names topics by name.
const BY_NAME_UP_TO: i16 = 12;

/// Something that was waited for.
pub(crate) enum Event {
    Fetched {
        broker: BrokerId,
        asked: Vec<Asked>,
        result: Result<FetchResponse, ClientError>,
    },
    LookedUp(Vec<LookedUp>),
    /// The hook was called, and what had to be committed with it was or was not.
    Called(Call, Result<(), CommitError>),
    /// What is committed from time to time was or was not.
    Committed(Result<(), CommitError>),
}

pub(crate) type Events = FuturesUnordered<Pin<Box<dyn Future<Output = Event> + Send>>>;

/// A batch that was fetched.
pub(crate) struct Fetched {
    pub(crate) place: Place,
    pub(crate) generation: u64,
    pub(crate) batch: Bytes,
    /// It belongs to a transaction that was aborted, and nobody wants it.
    pub(crate) is_aborted: bool,
}

/// What was asked of a partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    place: Place,
    generation: u64,
    offset: i64,
}

/// Whose batches do not count, batch by batch through one answer.
struct Skipped {
    /// The aborted transactions that the broker told of, the first to begin at the end.
    ahead: Vec<AbortedTransaction>,
    /// Producers of those that have begun and not ended.
    now: BTreeSet<i64>,
}

impl Skipped {
    fn new(mut aborted: Vec<AbortedTransaction>) -> Self {
        aborted.sort_unstable_by_key(|one| std::cmp::Reverse(one.first_offset));
        Self { ahead: aborted, now: BTreeSet::new() }
    }

    /// Whether the next batch belongs to an aborted transaction.
    fn holds(&mut self, header: &BatchHeader) -> bool {
        while let Some(one) = self.ahead.pop_if(|one| one.first_offset <= header.last_offset()) {
            self.now.insert(one.producer_id);
        }
        if header.is_control() {
            // A marker ends what its producer has open.
            self.now.remove(&header.producer_id);
            return false;
        }
        header.is_transactional() && self.now.contains(&header.producer_id)
    }
}

/// One broker.
#[derive(Default)]
pub(crate) struct Fetcher {
    session: Session,
    is_busy: bool,
    /// Room that is kept for the answer under way.
    reserved: usize,
    failures: u32,
    retry_at: Option<Instant>,
}

impl Consumer {
    /// Starts what can be started, and takes in the next thing that happens.
    ///
    /// Cancel safe: everything that is under way belongs to the consumer.
    pub(crate) async fn step(&mut self) {
        let wake_at = self.start();
        let alarm = async {
            match wake_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let changes = self.following.as_mut().map(|following| &mut following.changes);
        let changed = async {
            match changes {
                Some(changes) => drop(changes.changed().await),
                None => std::future::pending().await,
            }
        };
        let event = tokio::select! {
            Some(event) = self.events.next(), if !self.events.is_empty() => Some(event),
            () = changed => None,
            () = alarm => None,
        };
        match event {
            Some(event) => self.on_event(event),
            None => {
                if let Some(following) = &mut self.following {
                    following.must_look = true;
                }
                self.follow_group();
            }
        }
    }

    /// Sends the next fetches while the program is busy with the records of the last ones.
    pub(crate) fn fetch_ahead(&mut self) {
        if self.fetchers.values().any(|fetcher| !fetcher.is_busy) {
            self.start();
            // The first poll sends the request, if the connection is open.
            if let Some(Some(event)) = self.events.next().now_or_never() {
                self.on_event(event);
            }
        }
    }

    /// Starts lookups and fetches. Says when to look again if nothing happens before.
    fn start(&mut self) -> Option<Instant> {
        let now = Instant::now();
        self.start_lookup(now);
        if self.fetched_bytes >= self.settings.max_bytes as usize {
            return None;
        }
        let mut leaders: BTreeMap<BrokerId, Vec<Place>> = BTreeMap::new();
        for (place, partition) in self.partitions.iter().enumerate() {
            if let Some(leader) = partition.leader
                && partition.fetch_at().is_some()
                && partition.is_due(now)
            {
                leaders.entry(leader).or_default().push(place);
            }
        }
        for (leader, places) in leaders {
            let fetcher = self.fetchers.entry(leader).or_default();
            if !fetcher.is_busy
                && fetcher.retry_at.is_none_or(|at| at <= now)
                && let Some(room) = self.room()
            {
                self.start_fetch((leader, room), &places);
            }
        }
        let partitions = self.partitions.iter().filter_map(|partition| partition.retry_at);
        let brokers = self.fetchers.values().filter_map(|fetcher| fetcher.retry_at);
        partitions.chain(brokers).filter(|at| *at > now).min()
    }

    /// How large an answer may be now; none while what is there and under way leaves no room for a whole one.
    fn room(&self) -> Option<i32> {
        let most = self.settings.max_buffered_bytes;
        let wanted = (self.settings.max_bytes as usize).min(most);
        let reserved: usize = self.fetchers.values().map(|fetcher| fetcher.reserved).sum();
        let left = most.saturating_sub(self.fetched_bytes + reserved);
        // What is larger than the limit by itself comes alone.
        let is_room = left >= wanted || self.fetched_bytes + reserved == 0;
        is_room.then(|| i32::try_from(wanted).unwrap_or(i32::MAX))
    }

    fn start_fetch(&mut self, (leader, room): (BrokerId, i32), places: &[Place]) {
        let settings = &self.settings;
        let mut wanted = BTreeMap::new();
        let mut asked = Vec::with_capacity(places.len());
        for place in places {
            let partition = &self.partitions[*place];
            let Some(offset) = partition.fetch_at() else { continue };
            asked.push(Asked { place: *place, generation: partition.generation, offset });
            let max_bytes = settings.max_partition_bytes;
            wanted.insert(*place, partition.wanted(offset, max_bytes));
        }
        let all_have_ids = wanted.values().all(|wanted| wanted.topic_id != Uuid::nil());
        let mut request = FetchRequest {
            max_wait_ms: i32::try_from(settings.max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: settings.min_bytes,
            max_bytes: room,
            isolation_level: settings.isolation.level(),
            ..Default::default()
        };
        let options = CallOptions {
            newest_version: (!all_have_ids).then_some(BY_NAME_UP_TO),
            broker_may_take: settings.max_wait,
        };
        let fetcher = self.fetchers.entry(leader).or_default();
        fetcher.session.ask(wanted, &mut request);
        fetcher.is_busy = true;
        fetcher.reserved = usize::try_from(room).unwrap_or_default();
        let wire = self.wire.clone();
        self.events.push(Box::pin(async move {
            let fetched = async {
                let connection = wire.connection(To::Broker(leader)).await?;
                connection.send(&request, options).await?.await
            };
            Event::Fetched { broker: leader, asked, result: fetched.await }
        }));
    }

    fn start_lookup(&mut self, now: Instant) {
        if self.is_looking_up {
            return;
        }
        let is_wanted = |partition: &Partition| partition.needs_lookup() && partition.is_due(now);
        let topics = self.by_topic(is_wanted);
        if topics.is_empty() {
            return;
        }
        self.is_looking_up = true;
        let ask = |place: Place| {
            let partition = &self.partitions[place];
            let sought = match partition.cursor {
                Cursor::Unknown(sought) => Some(sought),
                Cursor::At { .. } => None,
            };
            Question { place, generation: partition.generation, partition: partition.index, sought }
        };
        let topics: Vec<(KStr, Vec<Question>)> = topics
            .into_iter()
            .map(|(topic, places)| (topic, places.into_iter().map(ask).collect()))
            .collect();
        let lookup = Lookup {
            client: self.client.clone(),
            isolation: self.settings.isolation,
            group: self.settings.group.clone(),
            uncommitted: self.settings.uncommitted,
        };
        self.events.push(Box::pin(async move { Event::LookedUp(lookup.run(topics).await) }));
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::LookedUp(found) => {
                self.is_looking_up = false;
                for LookedUp { place, generation, found } in found {
                    if self.partitions[place].generation == generation {
                        self.on_found(place, found);
                    }
                }
            }
            Event::Called(call, committed) => self.on_event_called(call, committed),
            Event::Committed(committed) => self.on_event_committed(committed),
            Event::Fetched { broker, asked, result } => {
                let fetcher = self.fetchers.entry(broker).or_default();
                fetcher.is_busy = false;
                fetcher.reserved = 0;
                match result {
                    Ok(response) => self.on_response(broker, &asked, response),
                    Err(error) => self.on_lost(broker, &asked, &error),
                }
            }
        }
    }

    fn on_found(&mut self, place: Place, found: Result<Found, ConsumeError>) {
        let found = match found {
            Ok(found) => found,
            Err(error) if error.is_retriable() => return self.on_trouble(place, error.to_string()),
            Err(error) => {
                self.back_off(place);
                return self.errors.push_back(error);
            }
        };
        let partition = &mut self.partitions[place];
        partition.topic_id = found.topic_id;
        partition.leader = found.leader;
        partition.leader_epoch = found.leader_epoch;
        if let Some(offset) = found.offset {
            partition.jump(Cursor::At { position: offset, fetch_at: offset });
        }
        if found.leader.is_none() {
            self.client.invalidate(&self.partitions[place].topic);
            self.on_trouble(place, "it has no leader".to_owned());
        }
    }

    fn on_response(&mut self, broker: BrokerId, asked: &[Asked], response: FetchResponse) {
        let code = ErrorCode::from_code(response.error_code).unwrap_or(ErrorCode::UnknownServerError);
        let fetcher = self.fetchers.entry(broker).or_default();
        match code {
            ErrorCode::None => fetcher.session.on_answer(response.session_id),
            // The broker has forgotten the session: the next request opens another.
            ErrorCode::FetchSessionIdNotFound
            | ErrorCode::InvalidFetchSessionEpoch
            | ErrorCode::FetchSessionTopicIdError => {
                fetcher.session.reset();
                fetcher.failures += 1;
                fetcher.retry_at = Some(Instant::now() + self.client.backoff(fetcher.failures));
                return;
            }
            code => {
                fetcher.session.reset();
                for asked in asked {
                    self.forget_leader(asked.place);
                    self.on_trouble(asked.place, format!("{} ({})", code.message(), code.name()));
                }
                return;
            }
        }
        fetcher.failures = 0;
        fetcher.retry_at = None;
        let mut asked: BTreeMap<(KStr, i32), Asked> =
            asked.iter().map(|asked| (self.key(*asked), *asked)).collect();
        for topic in response.responses {
            let name = self.topic_name(&topic);
            for data in topic.partitions {
                if let Some(asked) = asked.remove(&(name.clone(), data.partition_index)) {
                    self.on_partition(asked, data);
                }
            }
        }
        // Within a session the broker leaves out those that have nothing new: they are well.
        for asked in asked.into_values() {
            self.partitions[asked.place].on_success();
        }
    }

    fn on_partition(&mut self, asked: Asked, data: PartitionData) {
        let partition = &mut self.partitions[asked.place];
        if partition.generation != asked.generation {
            return;
        }
        let code = ErrorCode::from_code(data.error_code).unwrap_or(ErrorCode::UnknownServerError);
        match code {
            ErrorCode::None => {
                partition.on_success();
                partition.high_watermark = (data.high_watermark >= 0).then_some(data.high_watermark);
                let bytes = data.records.map(|records| records.into_bytes()).unwrap_or_default();
                let aborted = data.aborted_transactions.unwrap_or_default();
                self.take_batches(asked, bytes, Skipped::new(aborted));
            }
            ErrorCode::OffsetOutOfRange => {
                self.back_off(asked.place);
                self.on_out_of_range(asked.place, asked.offset);
            }
            ErrorCode::NotLeaderOrFollower
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::UnknownLeaderEpoch
            | ErrorCode::UnknownTopicOrPartition
            | ErrorCode::UnknownTopicId
            | ErrorCode::InconsistentTopicId
            | ErrorCode::KafkaStorageError
            | ErrorCode::ReplicaNotAvailable => {
                self.forget_leader(asked.place);
                self.on_trouble(asked.place, format!("{} ({})", code.message(), code.name()));
            }
            code if code.is_retriable() => {
                self.on_trouble(asked.place, format!("{} ({})", code.message(), code.name()));
            }
            code => {
                let topic = partition.topic.to_string();
                let partition = partition.index;
                self.back_off(asked.place);
                self.errors.push_back(ConsumeError::Refused { topic, partition, code });
            }
        }
    }

    /// Cuts what arrived into batches, which are decoded when they are wanted.
    fn take_batches(&mut self, asked: Asked, bytes: Bytes, mut skipped: Skipped) {
        let Asked { place, generation, offset } = asked;
        let total = bytes.len();
        let mut next = offset;
        for batch in records::batches(bytes) {
            let header = batch.and_then(|batch| Ok((BatchHeader::decode(&batch)?, batch)));
            match header {
                Ok((header, batch)) => {
                    let is_aborted = skipped.holds(&header);
                    // What lies wholly before the offset is of no use, and must not turn us back.
                    if header.last_offset() >= next {
                        next = header.last_offset().saturating_add(1);
                        self.fetched_bytes += batch.len();
                        self.fetched.push_back(Fetched { place, generation, batch, is_aborted });
                    }
                }
                Err(source) => {
                    self.report_malformed(place, next, source);
                    break;
                }
            }
        }
        self.partitions[place].fetched(next);
        if next == offset && total > 0 && self.errors.is_empty() {
            // Kafka's brokers always send the first batch whole, so this cannot be mended by asking again.
            self.report_malformed(
                place,
                offset,
                BatchError::Incomplete { needed: total + 1, present: total },
            );
        }
    }

    fn report_malformed(&mut self, place: Place, offset: i64, source: BatchError) {
        let partition = &self.partitions[place];
        let topic = partition.topic.to_string();
        let partition = partition.index;
        self.back_off(place);
        self.errors.push_back(ConsumeError::Malformed { topic, partition, offset, source });
    }

    fn on_lost(&mut self, broker: BrokerId, asked: &[Asked], error: &ClientError) {
        tracing::debug!(%error, %broker, "a fetch got no answer");
        let fetcher = self.fetchers.entry(broker).or_default();
        fetcher.session.reset();
        fetcher.failures += 1;
        fetcher.retry_at = Some(Instant::now() + self.client.backoff(fetcher.failures));
        for asked in asked {
            if error.is_retriable() {
                self.forget_leader(asked.place);
                self.on_trouble(asked.place, error.to_string());
            } else {
                self.back_off(asked.place);
            }
        }
        if !error.is_retriable() {
            self.errors.push_back(ConsumeError::Topic(error.clone()));
        }
    }

    /// Something that usually passes. It is reported if it does not.
    fn on_trouble(&mut self, place: Place, reason: String) {
        let now = Instant::now();
        let since = self.back_off(place);
        let after = now.duration_since(since);
        if after < self.client.total_timeout() {
            return;
        }
        let partition = &mut self.partitions[place];
        partition.reported(now);
        let topic = partition.topic.to_string();
        let partition = partition.index;
        self.errors.push_back(ConsumeError::Unavailable { topic, partition, after, reason });
    }

    /// Leaves a partition alone for a moment. Says since when it has been failing.
    pub(crate) fn back_off(&mut self, place: Place) -> Instant {
        let now = Instant::now();
        let partition = &mut self.partitions[place];
        let (failures, since) = partition.on_failure(now);
        partition.retry_at = Some(now + self.client.backoff(failures));
        since
    }

    fn forget_leader(&mut self, place: Place) {
        let partition = &mut self.partitions[place];
        if partition.leader.take().is_some() {
            self.client.invalidate(&partition.topic);
        }
    }

    fn key(&self, asked: Asked) -> (KStr, i32) {
        let partition = &self.partitions[asked.place];
        (partition.topic.clone(), partition.index)
    }

    /// The name of a topic in an answer, which newer versions give by id alone.
    fn topic_name(&self, topic: &FetchableTopicResponse) -> KStr {
        let by_id = |partition: &&Partition| partition.topic_id == topic.topic_id;
        let known = || self.partitions.iter().find(by_id).map(|partition| partition.topic.clone());
        if topic.topic_id == Uuid::nil() { topic.topic.clone() } else { known().unwrap_or_default() }
    }
}

impl Partition {
    fn wanted(&self, offset: i64, max_bytes: i32) -> Wanted {
        Wanted {
            topic: self.topic.clone(),
            topic_id: self.topic_id,
            partition: self.index,
            offset,
            leader_epoch: self.leader_epoch,
            max_bytes,
        }
    }
}
