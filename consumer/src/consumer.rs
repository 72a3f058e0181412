//! The handle: records in order, one at a time or many, and where one stands.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;

use millstream_client::{BrokerId, Client, OffsetAt};
use millstream_protocol::KStr;
use tokio::time::Instant;

use crate::builder::{ConsumerBuilder, FetchSettings, OutOfRange, StartAt, StopAt};
use crate::decode::Decoded;
use crate::error::{ConsumeError, NotAssigned};
use crate::fetching::{Events, Fetched, Fetcher};
use crate::partition::{Cursor, Partition};
use crate::record::ConsumerRecord;
use crate::session::Place;

/// Reads the partitions that are assigned to it.
///
/// Nothing runs in the background but the connections: the next fetch is on its way while the records of the
/// last one are handed out, and goes on only when more are asked for. So a slow program reads slowly and
/// holds no more than two answers of each broker in memory. Dropping it never blocks.
///
/// All methods that wait are cancel safe: what is dropped half-way has handed out nothing and lost nothing.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use millstream_client::Client;
/// use millstream_consumer::{Consumer, StartAt};
///
/// let client = Client::builder("127.0.0.1:9092").connect().await?;
/// let mut consumer = Consumer::builder(client).assign_topic("orders", StartAt::Beginning).build().await?;
/// while let Some(record) = consumer.next().await? {
///     println!("{}-{} @{}: {:?}", record.topic, record.partition, record.offset, record.value);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Consumer {
    pub(crate) client: Client,
    /// For fetches, which may wait long, over connections of its own.
    pub(crate) wire: Client,
    pub(crate) settings: FetchSettings,
    pub(crate) partitions: Vec<Partition>,
    places: HashMap<(KStr, i32), Place>,
    pub(crate) fetchers: HashMap<BrokerId, Fetcher>,
    pub(crate) events: Events,
    pub(crate) is_looking_up: bool,
    /// Batches that were fetched and not decoded.
    pub(crate) fetched: VecDeque<Fetched>,
    /// Their size: nothing more is fetched while it is at `max_bytes`.
    pub(crate) fetched_bytes: usize,
    /// The rest of a batch from which `next` has begun to hand out.
    current: Option<Decoded>,
    pub(crate) errors: VecDeque<ConsumeError>,
}

/// An offset of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPartitionOffset {
    /// The topic.
    pub topic: KStr,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// An offset of each partition, or why not.
type Offsets = Result<Vec<TopicPartitionOffset>, ConsumeError>;

impl Consumer {
    /// Starts with a client; the consumer shares its metadata and opens connections of its own.
    pub fn builder(client: Client) -> ConsumerBuilder {
        ConsumerBuilder::new(client)
    }

    pub(crate) fn new(client: Client, settings: FetchSettings) -> Self {
        Self {
            wire: client.isolated(),
            client,
            settings,
            partitions: Vec::new(),
            places: HashMap::new(),
            fetchers: HashMap::new(),
            events: Events::new(),
            is_looking_up: false,
            fetched: VecDeque::new(),
            fetched_bytes: 0,
            current: None,
            errors: VecDeque::new(),
        }
    }

    pub(crate) fn add(&mut self, topic: KStr, partition: i32, start: StartAt) {
        match self.places.get(&(topic.clone(), partition)) {
            Some(place) => self.partitions[*place].jump(start.into()),
            None => {
                self.places.insert((topic.clone(), partition), self.partitions.len());
                self.partitions.push(Partition::new(topic, partition, start));
            }
        }
    }

    /// The next record. `None` once everything up to the stop has been handed out, or if nothing is assigned;
    /// without a stop it waits for more.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// [`ConsumeError`]; the next call goes on.
    pub async fn next(&mut self) -> Result<Option<ConsumerRecord>, ConsumeError> {
        loop {
            if let Some(record) = self.pop_current() {
                return Ok(Some(record));
            }
            match self.next_batch().await? {
                Some(batch) => self.current = Some(batch),
                None => return Ok(None),
            }
        }
    }

    /// The next records: at least one, and as many as are at hand up to `max_poll_records`. None once
    /// everything up to the stop has been handed out, or if nothing is assigned.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// [`ConsumeError`]; the next call goes on.
    pub async fn poll(&mut self) -> Result<Vec<ConsumerRecord>, ConsumeError> {
        let mut polled = Vec::new();
        while let Some(record) = self.pop_current() {
            polled.push(record);
        }
        while polled.is_empty() {
            match self.next_batch().await? {
                Some(batch) => self.hand_out(batch, &mut polled),
                None => return Ok(polled),
            }
        }
        while polled.len() < self.settings.max_poll_records {
            match self.decode_next() {
                Some(Ok(batch)) => self.hand_out(batch, &mut polled),
                // These records come first; the error is next.
                Some(Err(error)) => {
                    self.errors.push_front(error);
                    break;
                }
                None => break,
            }
        }
        Ok(polled)
    }

    /// The offset of the next record that will be handed out; none if the partition is not assigned, or
    /// while it is being looked up.
    #[must_use]
    pub fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        self.partition(topic, partition)?.position()
    }

    /// The end of a partition as of the last answer that mentioned it.
    #[must_use]
    pub fn high_watermark(&self, topic: &str, partition: i32) -> Option<i64> {
        self.partition(topic, partition)?.high_watermark
    }

    /// The partitions that are assigned, in the order in which they were.
    pub fn assignment(&self) -> impl Iterator<Item = (&KStr, i32)> {
        self.partitions.iter().map(|partition| (&partition.topic, partition.index))
    }

    /// Goes on reading a partition from somewhere else. What was fetched of it is dropped; a stop stays.
    ///
    /// # Errors
    /// [`NotAssigned`].
    pub fn seek(&mut self, topic: &str, partition: i32, to: StartAt) -> Result<(), NotAssigned> {
        let place = self.place(topic, partition);
        let place = place.ok_or_else(|| NotAssigned { topic: topic.to_owned(), partition })?;
        self.current.take_if(|current| current.place == place);
        self.partitions[place].jump(to.into());
        Ok(())
    }

    /// Where each assigned partition ends now.
    ///
    /// # Errors
    /// That a broker cannot be asked.
    pub fn end_offsets(&self) -> impl Future<Output = Offsets> + Send + use<> {
        self.offsets(OffsetAt::Latest)
    }

    /// Where each assigned partition begins now.
    ///
    /// # Errors
    /// That a broker cannot be asked.
    pub fn beginning_offsets(&self) -> impl Future<Output = Offsets> + Send + use<> {
        self.offsets(OffsetAt::Earliest)
    }

    /// The future borrows nothing: a consumer can be sent to another thread but not shared, so one that held it would keep
    /// whoever awaits it from being spawned.
    fn offsets(&self, at: OffsetAt) -> impl Future<Output = Offsets> + Send + use<> {
        let admin = self.client.admin();
        let at = self.settings.isolation.bound(at);
        let of = |place: &Place| (*place, self.partitions[*place].index);
        let topics: Vec<(KStr, Vec<(Place, i32)>)> = self
            .by_topic(|_| true)
            .into_iter()
            .map(|(topic, places)| (topic, places.iter().map(of).collect()))
            .collect();
        async move {
            let mut found = BTreeMap::new();
            for (topic, places) in topics {
                let wanted: Vec<_> = places.iter().map(|(_, partition)| (*partition, at)).collect();
                let listed = admin.list_offsets(&topic, &wanted).await?;
                for ((place, _), listed) in places.into_iter().zip(listed) {
                    let (partition, offset) = (listed.partition, listed.offset.unwrap_or_default());
                    found.insert(place, TopicPartitionOffset { topic: topic.clone(), partition, offset });
                }
            }
            Ok(found.into_values().collect())
        }
    }

    /// Finds out where to start, and where to stop if that is wanted.
    pub(crate) async fn settle_starts(&mut self, stop: StopAt) -> Result<(), ConsumeError> {
        if stop == StopAt::CurrentEnd {
            let ends = self.end_offsets().await?;
            for (partition, end) in self.partitions.iter_mut().zip(ends) {
                partition.stop_at = Some(end.offset);
            }
        }
        let deadline = Instant::now() + self.client.total_timeout();
        while self.partitions.iter().any(Partition::needs_lookup) && Instant::now() < deadline {
            self.step().await;
            if let Some(error) = self.errors.pop_front() {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Places that satisfy a condition, by topic.
    pub(crate) fn by_topic(&self, is_meant: impl Fn(&Partition) -> bool) -> BTreeMap<KStr, Vec<Place>> {
        let mut topics: BTreeMap<KStr, Vec<Place>> = BTreeMap::new();
        for (place, partition) in self.partitions.iter().enumerate().filter(|(_, p)| is_meant(p)) {
            topics.entry(partition.topic.clone()).or_default().push(place);
        }
        topics
    }

    /// Waits until a batch with records is decoded. `None`: there will be no more.
    async fn next_batch(&mut self) -> Result<Option<Decoded>, ConsumeError> {
        loop {
            if let Some(error) = self.errors.pop_front() {
                return Err(error);
            }
            match self.decode_next() {
                Some(Ok(batch)) if !batch.is_empty() => {
                    self.fetch_ahead();
                    return Ok(Some(batch));
                }
                Some(Ok(batch)) => self.finish(&batch),
                Some(Err(error)) => return Err(error),
                None if self.partitions.iter().all(Partition::is_finished) => return Ok(None),
                None => self.step().await,
            }
        }
    }

    fn pop_current(&mut self) -> Option<ConsumerRecord> {
        let current = self.current.as_mut()?;
        let record = current.records.next();
        let (place, end) = (current.place, current.end);
        match &record {
            Some(record) if current.records.len() > 0 => {
                self.partitions[place].advance(record.offset.saturating_add(1));
            }
            Some(_) | None => {
                self.partitions[place].advance(end);
                self.current = None;
            }
        }
        record
    }

    fn hand_out(&mut self, batch: Decoded, polled: &mut Vec<ConsumerRecord>) {
        self.finish(&batch);
        if polled.is_empty() {
            *polled = batch.records.collect();
        } else {
            polled.extend(batch.records);
        }
    }

    fn finish(&mut self, batch: &Decoded) {
        self.partitions[batch.place].advance(batch.end);
    }

    /// What to do about a partition that does not hold the offset.
    pub(crate) fn on_out_of_range(&mut self, place: Place, offset: i64) {
        let partition = &mut self.partitions[place];
        let at = match self.settings.out_of_range {
            OutOfRange::Fail => {
                let topic = partition.topic.to_string();
                let partition = partition.index;
                self.errors.push_back(ConsumeError::OutOfRange { topic, partition, offset });
                return;
            }
            OutOfRange::Beginning => OffsetAt::Earliest,
            OutOfRange::End => OffsetAt::Latest,
        };
        let Partition { topic, index, .. } = partition;
        tracing::warn!(%topic, partition = index, offset, to = ?at, "the offset is out of range: jumping");
        partition.jump(Cursor::Unknown(at));
    }

    fn place(&self, topic: &str, partition: i32) -> Option<Place> {
        self.places.get(&(KStr::from(topic), partition)).copied()
    }

    fn partition(&self, topic: &str, partition: i32) -> Option<&Partition> {
        self.place(topic, partition).map(|place| &self.partitions[place])
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("partitions", &self.partitions).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
