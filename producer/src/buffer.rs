//! Records that wait to be sent, gathered into one batch after another for each partition.
//!
//! Callers append under one short lock; the sender task takes batches out. Room is counted in bytes by a
//! semaphore: taken when a record is accepted, given back when its batch is settled. Knows nothing of
//! brokers, sequences or retries.
//!
//! Owner: [`Buffer`] is shared by all handles and the sender. Locks: `state` alone; never held across an
//! await, while a batch is compressed, or while anybody is woken. An outcome's own lock is taken inside it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millstream_client::TopicMetadata;
use millstream_protocol::KStr;
use millstream_protocol::records::{BatchBuilder, Codec, HEADER_BYTES, NewRecord};
use tokio::sync::{Notify, Semaphore, SemaphorePermit, TryAcquireError};
use tokio::time::Instant;

use crate::clock::now_ms;
use crate::delivery::{Delivery, Outcome, Told, Written};
use crate::error::{FlushError, ProduceError, SendError};
use crate::metering::Meters;
use crate::partitioner::Partitioner;
use crate::producer::ProducerStats;
use crate::record::Record;

/// A partition by the place of its topic in the buffer, and its own number.
pub(crate) type Place = (usize, i32);

/// What the buffer needs to know of the producer's settings.
#[derive(Debug, Clone)]
pub(crate) struct BufferSettings {
    pub(crate) codec: Codec,
    pub(crate) partitioner: Arc<dyn Partitioner>,
    pub(crate) batch_bytes: usize,
    pub(crate) batch_records: u32,
    pub(crate) buffer_bytes: usize,
    pub(crate) record_bytes_max: usize,
    /// None: a batch leaves at once unless its partition has one in flight.
    pub(crate) linger: Option<Duration>,
}

/// A batch that is still open, or waits to be sent.
pub(crate) struct Gathering {
    pub(crate) builder: BatchBuilder,
    pub(crate) outcome: Arc<Outcome>,
    pub(crate) id: u64,
    pub(crate) born: Instant,
    /// What it holds of the buffer's room.
    pub(crate) room: usize,
}

#[derive(Default)]
struct Queue {
    open: Option<Gathering>,
    sealed: VecDeque<Gathering>,
    has_leader: bool,
    is_reported: bool,
    /// Size of the last batch without its header: the next one is likely to grow as large.
    last_bytes: usize,
}

/// The outcome of a batch, and how many parts of it are open.
struct Unsettled {
    outcome: Arc<Outcome>,
    parts: usize,
}

struct Topic {
    name: KStr,
    /// A batch that has grown to this size leaves. Lowered when the broker finds one too large.
    batch_bytes: usize,
    queues: Vec<Queue>,
    /// Where records without a key go until that batch leaves.
    sticky: usize,
}

#[derive(Default)]
struct State {
    topics: Vec<Topic>,
    by_name: HashMap<KStr, usize>,
    /// Partitions that got a batch, or a full one, since the sender last looked.
    news: Vec<Place>,
    /// Every batch that is not settled, by age.
    unsettled: BTreeMap<u64, Unsettled>,
    next_id: u64,
    is_closed: bool,
    failed: u64,
    /// Those of them that may be written all the same.
    possibly_written: u64,
    first_failure: Option<ProduceError>,
    stats: ProducerStats,
}

/// Shared by handles and sender.
pub(crate) struct Buffer {
    settings: BufferSettings,
    room: Semaphore,
    state: Mutex<State>,
    wake: Notify,
    /// Callers who wait for room, or for everything to be sent: nothing lingers while there are any.
    pressing: AtomicUsize,
    pub(crate) meters: Meters,
}

impl Buffer {
    pub(crate) fn new(settings: BufferSettings) -> Self {
        Self {
            room: Semaphore::new(settings.buffer_bytes),
            settings,
            state: Mutex::default(),
            wake: Notify::new(),
            pressing: AtomicUsize::new(0),
            meters: Meters::new(),
        }
    }

    /// Takes a record in, once there is room. `None`: the topic is not known yet.
    ///
    /// Cancel safe: until it returns nothing was accepted, and room that was taken is given back.
    pub(crate) async fn append(&self, record: &Record<'_>) -> Result<Option<Delivery>, SendError> {
        let new = as_new(record);
        let bytes = self.check_size(&new)?;
        let permit = match self.room.try_acquire_many(bytes) {
            Ok(permit) => permit,
            Err(TryAcquireError::Closed) => return Err(SendError::Closed),
            Err(TryAcquireError::NoPermits) => {
                let _pressing = self.press();
                self.room.acquire_many(bytes).await.map_err(|_| SendError::Closed)?
            }
        };
        self.append_with_room(record, &new, permit)
    }

    /// The same, without waiting.
    pub(crate) fn try_append(&self, record: &Record<'_>) -> Result<Option<Delivery>, SendError> {
        let new = as_new(record);
        let bytes = self.check_size(&new)?;
        let permit = self.room.try_acquire_many(bytes).map_err(|error| match error {
            TryAcquireError::Closed => SendError::Closed,
            TryAcquireError::NoPermits => SendError::BufferFull { bytes: bytes as usize },
        })?;
        self.append_with_room(record, &new, permit)
    }

    fn check_size(&self, record: &NewRecord<'_>) -> Result<u32, SendError> {
        let bytes = record.size_bound();
        let limit = self.settings.record_bytes_max.min(self.settings.buffer_bytes);
        let fitting = u32::try_from(bytes).ok().filter(|_| bytes <= limit);
        fitting.ok_or(SendError::TooLarge { bytes, limit })
    }

    fn append_with_room(
        &self,
        record: &Record<'_>,
        new: &NewRecord<'_>,
        permit: SemaphorePermit<'_>,
    ) -> Result<Option<Delivery>, SendError> {
        let bytes = permit.num_permits();
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.is_closed {
            return Err(SendError::Closed);
        }
        let Some(&place) = state.by_name.get(record.topic) else { return Ok(None) };
        let topic = &mut state.topics[place];
        let mut partition = topic.choose(record, &*self.settings.partitioner)?;
        let mut sealed = None;
        if topic.queues[partition].seal_if_full(new, topic.batch_bytes) {
            sealed = Some(partition);
            topic.move_on_from(partition);
            // Without a key, this record is the first for the next partition.
            partition = topic.choose(record, &*self.settings.partitioner)?;
        }
        let queue = &mut topic.queues[partition];
        let mut has_news = queue.seal_if_full(new, topic.batch_bytes);
        let expected_bytes = queue.expected_bytes(topic.batch_bytes);
        let gathering = queue.open.get_or_insert_with(|| {
            has_news = true;
            state.next_id += 1;
            let outcome = Outcome::open(topic.name.clone(), partition as i32);
            state.unsettled.insert(state.next_id, Unsettled { outcome: outcome.clone(), parts: 1 });
            Gathering {
                builder: BatchBuilder::with_capacity(self.settings.codec, expected_bytes),
                outcome,
                id: state.next_id,
                born: Instant::now(),
                room: 0,
            }
        });
        let index = gathering.builder.append(new);
        gathering.room += bytes;
        // Given back by `settle`.
        permit.forget();
        state.stats.buffered_records += 1;
        state.stats.buffered_bytes += bytes as u64;
        let delivery = Delivery::new(gathering.outcome.clone(), index, new.timestamp);
        let is_full = gathering.builder.size_in_bytes() >= topic.batch_bytes
            || gathering.builder.record_count().unsigned_abs() >= self.settings.batch_records;
        if is_full {
            queue.seal();
            topic.move_on_from(partition);
            has_news = true;
        }
        let news = sealed.into_iter().chain(has_news.then_some(partition));
        if news.map(|partition| state.report((place, partition as i32))).count() > 0 {
            drop(guard);
            self.wake.notify_one();
        }
        Ok(Some(delivery))
    }

    /// Makes a topic known, or learns that it has grown or moved. Says where it is kept.
    pub(crate) fn learn(&self, metadata: &TopicMetadata) -> usize {
        let mut guard = self.lock();
        let state = &mut *guard;
        let place = *state.by_name.entry(metadata.name.clone()).or_insert_with(|| {
            // Producers that start together should not all begin with partition 0.
            let sticky = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0_u8) as usize;
            let batch_bytes = self.settings.batch_bytes;
            state.topics.push(Topic { name: metadata.name.clone(), batch_bytes, queues: Vec::new(), sticky });
            state.topics.len() - 1
        });
        let topic = &mut state.topics[place];
        if topic.queues.len() < metadata.partitions.len() {
            topic.queues.resize_with(metadata.partitions.len(), Queue::default);
        }
        for (queue, partition) in topic.queues.iter_mut().zip(&metadata.partitions) {
            queue.has_leader = partition.leader.is_some();
        }
        place
    }

    /// The name of a topic.
    pub(crate) fn topic_name(&self, place: usize) -> KStr {
        self.lock().topics[place].name.clone()
    }

    /// Partitions with something new, for the sender.
    pub(crate) fn take_news(&self, into: &mut impl Extend<Place>) {
        let mut guard = self.lock();
        let state = &mut *guard;
        for (topic, partition) in &state.news {
            state.topics[*topic].queues[*partition as usize].is_reported = false;
        }
        into.extend(state.news.drain(..));
    }

    /// The next batch of a partition that should leave now; or when that will be.
    pub(crate) fn take_due(&self, place: Place, is_idle: bool, now: Instant) -> Due {
        let presses = self.presses();
        let mut state = self.lock();
        let is_closed = state.is_closed;
        let topic = &mut state.topics[place.0];
        let queue = &mut topic.queues[place.1 as usize];
        if let Some(sealed) = queue.sealed.pop_front() {
            return Due::Now(sealed);
        }
        let Some(open) = &queue.open else { return Due::Nothing };
        let due_at = match self.settings.linger {
            _ if presses || is_closed => now,
            Some(linger) => open.born + linger,
            None if is_idle => now,
            // Woken by the answer to the batch that is in flight.
            None => return Due::Later(None),
        };
        if due_at > now {
            return Due::Later(Some(due_at));
        }
        let due = queue.take_open().map_or(Due::Nothing, Due::Now);
        topic.move_on_from(place.1 as usize);
        due
    }

    /// Takes out what has waited since before `born_before`, whether due or not.
    pub(crate) fn take_older(&self, place: Place, born_before: Instant) -> Vec<Gathering> {
        let mut state = self.lock();
        let queue = &mut state.topics[place.0].queues[place.1 as usize];
        let old = queue.sealed.iter().take_while(|batch| batch.born <= born_before).count();
        let mut taken: Vec<_> = queue.sealed.drain(..old).collect();
        if queue.sealed.is_empty() {
            taken.extend(queue.open.take_if(|open| open.born <= born_before));
        }
        taken
    }

    /// When the oldest waiting batch of a partition was born.
    pub(crate) fn oldest(&self, place: Place) -> Option<Instant> {
        let state = self.lock();
        let queue = &state.topics[place.0].queues[place.1 as usize];
        queue.sealed.front().or(queue.open.as_ref()).map(|batch| batch.born)
    }

    /// Tells the outcome of a batch and gives its room back.
    pub(crate) fn settle(&self, outcome: &Outcome, held: Held, result: Result<Written, ProduceError>) {
        let failure = result.as_ref().err().cloned();
        let mut state = self.lock();
        // Counted before anybody can see it: a flush that returns has counted all it waited for.
        let told = outcome.settle(result);
        state.settle_part(held.id);
        state.stats.buffered_records -= held.records;
        state.stats.buffered_bytes -= held.room as u64;
        self.meters.buffered_bytes.set(state.stats.buffered_bytes as f64);
        if told.is_news() {
            match failure {
                Some(error) => {
                    self.meters.failed_records.increment(held.records);
                    state.count_failure(held, error);
                }
                None => {
                    self.meters.delivered_records.increment(held.records);
                    self.meters.delivered_bytes.increment(held.bytes as u64);
                    state.stats.delivered_records += held.records;
                    state.stats.delivered_bytes += held.bytes as u64;
                }
            }
        }
        drop(state);
        told.wake();
        self.room.add_permits(held.room);
    }

    /// A batch became two, since the broker found it too large: no more of that size for this topic.
    pub(crate) fn divided(&self, topic: usize, divided: &Divided) {
        let mut guard = self.lock();
        let state = &mut *guard;
        if let Some(unsettled) = state.unsettled.get_mut(&divided.id) {
            unsettled.parts += 1;
        }
        let batch_bytes = &mut state.topics[topic].batch_bytes;
        *batch_bytes = (*batch_bytes).min(divided.part_bytes).max(1);
    }

    /// Tells an outcome before the batch is out of the sender's hands: its delivery timeout is over.
    pub(crate) fn settle_early(&self, outcome: &Outcome, held: Held, error: ProduceError) {
        let mut state = self.lock();
        let told = outcome.settle(Err(error.clone()));
        if told.is_news() {
            self.meters.failed_records.increment(held.records);
            state.count_failure(held, error);
        }
        drop(state);
        told.wake();
    }

    pub(crate) fn count_request(&self) {
        self.meters.requests.increment(1);
        self.lock().stats.requests += 1;
    }

    pub(crate) fn stats(&self) -> ProducerStats {
        self.lock().stats
    }

    /// Sends everything accepted so far, and waits until each batch is settled.
    pub(crate) async fn flush(&self) -> Result<(), FlushError> {
        let _pressing = self.press();
        let unsettled: Vec<_> = self.lock().unsettled.values().map(|open| open.outcome.clone()).collect();
        for outcome in unsettled {
            outcome.settled().await;
        }
        let mut state = self.lock();
        match state.first_failure.take() {
            Some(first) => {
                let failed = std::mem::take(&mut state.failed);
                Err(FlushError {
                    failed,
                    possibly_written: std::mem::take(&mut state.possibly_written),
                    first,
                })
            }
            None => Ok(()),
        }
    }

    /// Accepts nothing more; what was accepted is still sent.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.room.close();
        self.wake.notify_one();
    }

    /// Whether every batch is settled and out of the sender's hands.
    pub(crate) fn is_quiet(&self) -> bool {
        self.lock().unsettled.is_empty()
    }

    /// Whether the sender has nothing left to do, now and later.
    pub(crate) fn is_finished(&self) -> bool {
        let state = self.lock();
        state.is_closed && state.unsettled.is_empty()
    }

    /// The sender is gone: nobody will settle what is left.
    pub(crate) fn abandon(&self) {
        self.close();
        let mut told = Vec::new();
        let mut state = self.lock();
        for Unsettled { outcome, .. } in std::mem::take(&mut state.unsettled).into_values() {
            state.first_failure.get_or_insert(ProduceError::Abandoned);
            told.push(outcome.settle(Err(ProduceError::Abandoned)));
        }
        let abandoned = std::mem::take(&mut state.stats.buffered_records);
        state.stats.buffered_bytes = 0;
        state.stats.failed_records += abandoned;
        state.failed += abandoned;
        state.possibly_written += abandoned;
        drop(state);
        told.into_iter().for_each(Told::wake);
    }

    /// Has the sender look.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits for news.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    pub(crate) fn presses(&self) -> bool {
        self.pressing.load(Ordering::Relaxed) > 0
    }

    /// Nothing lingers while the result lives.
    pub(crate) fn press(&self) -> Pressing<'_> {
        self.pressing.fetch_add(1, Ordering::Relaxed);
        self.wake.notify_one();
        Pressing(self)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a batch holds of the buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) id: u64,
    pub(crate) records: u64,
    /// Its size as it was sent.
    pub(crate) bytes: usize,
    pub(crate) room: usize,
}

/// A batch that became two.
#[derive(Debug)]
pub(crate) struct Divided {
    /// The batch's number, which both parts keep.
    pub(crate) id: u64,
    /// The size of the larger part before compression.
    pub(crate) part_bytes: usize,
}

/// What [`Buffer::take_due`] found.
pub(crate) enum Due {
    /// Nothing waits.
    Nothing,
    /// Something waits, until this time at the latest if one is given.
    Later(Option<Instant>),
    /// This should leave.
    Now(Gathering),
}

fn as_new<'a>(record: &'a Record<'_>) -> NewRecord<'a> {
    NewRecord {
        timestamp: record.timestamp.unwrap_or_else(now_ms),
        key: record.key,
        value: record.value,
        headers: &record.headers,
    }
}

pub(crate) struct Pressing<'a>(&'a Buffer);

impl Drop for Pressing<'_> {
    fn drop(&mut self) {
        self.0.pressing.fetch_sub(1, Ordering::Relaxed);
    }
}

impl State {
    fn settle_part(&mut self, id: u64) {
        if let Some(unsettled) = self.unsettled.get_mut(&id) {
            unsettled.parts -= 1;
            if unsettled.parts == 0 {
                self.unsettled.remove(&id);
            }
        }
    }

    fn count_failure(&mut self, held: Held, error: ProduceError) {
        self.failed += held.records;
        self.possibly_written += if error.possibly_written() { held.records } else { 0 };
        self.stats.failed_records += held.records;
        self.first_failure.get_or_insert(error);
    }

    /// Tells the sender about a partition, once until it looks.
    fn report(&mut self, place: Place) {
        let queue = &mut self.topics[place.0].queues[place.1 as usize];
        if !std::mem::replace(&mut queue.is_reported, true) {
            self.news.push(place);
        }
    }
}

impl Topic {
    fn choose(&self, record: &Record<'_>, partitioner: &dyn Partitioner) -> Result<usize, SendError> {
        let partitions = self.queues.len();
        let checked = |partition: Option<usize>, shown: i32| {
            let known = partition.filter(|partition| *partition < partitions);
            let topic = || self.name.to_string();
            known.ok_or_else(|| SendError::UnknownPartition { topic: topic(), partition: shown, partitions })
        };
        if let Some(partition) = record.partition {
            return checked(usize::try_from(partition).ok(), partition);
        }
        if partitions == 0 {
            return checked(None, 0);
        }
        match partitioner.partition(record, partitions) {
            Some(partition) => checked(Some(partition), i32::try_from(partition).unwrap_or(i32::MAX)),
            None => Ok(self.sticky % partitions),
        }
    }

    /// Records without a key go to the next partition that has a leader, if they went to this one.
    fn move_on_from(&mut self, partition: usize) {
        let partitions = self.queues.len();
        if self.sticky % partitions != partition {
            return;
        }
        let mut next = (1..=partitions).map(|step| (partition + step) % partitions);
        self.sticky = next.find(|next| self.queues[*next].has_leader).unwrap_or(partition);
    }
}

impl Queue {
    /// Closes the open batch if the record does not fit into it.
    fn seal_if_full(&mut self, record: &NewRecord<'_>, batch_bytes: usize) -> bool {
        let is_full = self.open.as_ref().is_some_and(|open| open.builder.size_with(record) > batch_bytes);
        if is_full {
            self.seal();
        }
        is_full
    }

    /// How large the next batch will be. One that is likely to be filled has room for that, and never has to move.
    fn expected_bytes(&self, batch_bytes: usize) -> usize {
        match self.last_bytes >= batch_bytes / 4 * 3 {
            true => batch_bytes.saturating_sub(HEADER_BYTES),
            false => self.last_bytes,
        }
    }

    fn seal(&mut self) {
        let sealed = self.take_open();
        self.sealed.extend(sealed);
    }

    fn take_open(&mut self) -> Option<Gathering> {
        let mut taken = self.open.take();
        if let Some(taken) = &mut taken {
            taken.builder.shrink();
        }
        self.last_bytes = taken.as_ref().map_or(0, |taken| taken.builder.size_in_bytes() - HEADER_BYTES);
        taken
    }
}

#[cfg(test)]
mod tests;
