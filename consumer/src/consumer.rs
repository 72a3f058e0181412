//! The handle: records in order, one at a time or many, and where one stands.

mod assigning;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;

use futures_util::stream::{self, Stream};
use millstream_client::{BrokerId, Client, OffsetAt};
use millstream_protocol::KStr;
use tokio::time::Instant;

use crate::builder::{ConsumerBuilder, FetchSettings, OutOfRange, StopAt};
use crate::decode::Decoded;
use crate::error::ConsumeError;
use crate::fetching::{Events, Fetched, Fetcher};
use crate::group::{Committer, Following};
use crate::partition::{Cursor, Partition, Sought};
use crate::record::ConsumerRecord;
use crate::session::Place;
use crate::source::Open;

/// Reads the partitions that are assigned to it, by the program or by its group.
///
/// Nothing runs in the background but the connections, and the heartbeats of a member of a group: the next fetch is on its
/// way while the records of the last one are handed out, and goes on only when more are asked for. So a slow program reads
/// slowly and holds no more than two answers of each broker in memory, and no more than
/// [`max_buffered_bytes`](ConsumerBuilder::max_buffered_bytes) in all; and it stays in its group, whatever it takes. Dropping
/// it never blocks; a member leaves its group then, in the background.
///
/// All methods that wait are cancel safe: what is dropped half-way has handed out nothing and lost nothing.
///
/// [`ConsumerExt`](crate::ConsumerExt) has an example of a group. Without one:
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use millstream_client::Client;
/// use millstream_consumer::{Consumer, StartAt};
///
/// let client = Client::builder("127.0.0.1:9092").connect().await?;
/// let mut consumer = Consumer::builder(client).assign_topic("orders", StartAt::Beginning).build().await?;
/// while let Some(record) = consumer.recv().await? {
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
    pub(crate) places: HashMap<(KStr, i32), Place>,
    pub(crate) fetchers: HashMap<BrokerId, Fetcher>,
    pub(crate) events: Events,
    pub(crate) is_looking_up: bool,
    /// Batches that were fetched and not decoded.
    pub(crate) fetched: VecDeque<Fetched>,
    /// Their size: nothing more is fetched while it is at `max_bytes`, or near `max_buffered_bytes`.
    pub(crate) fetched_bytes: usize,
    /// The rest of a batch from which `recv` has begun to hand out.
    pub(crate) current: Option<Decoded>,
    pub(crate) errors: VecDeque<ConsumeError>,
    /// What is known of the group that it subscribes with.
    pub(crate) following: Option<Following>,
    /// For a group that it does not subscribe with, or for none.
    pub(crate) committer: Committer,
    /// What a producer is to commit.
    pub(crate) open: Open,
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
            committer: Committer::new(&client, (settings.group.clone(), None), None),
            following: None,
            open: Open::default(),
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

    /// The next record; waits for one. `None` only with a [stop](ConsumerBuilder::stop), once everything up to it has
    /// been handed out.
    ///
    /// Cancel safe: a call that is dropped has handed out nothing, and the next one gives what it would have given.
    ///
    /// # Errors
    /// [`ConsumeError`]; the next call goes on.
    pub async fn recv(&mut self) -> Result<Option<ConsumerRecord>, ConsumeError> {
        let _turn = self.turn();
        self.follow_group();
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

    /// The next records: at least one, and as many as are at hand up to
    /// [`max_batch_records`](ConsumerBuilder::max_batch_records); whole batches of the log, so it may be a few more.
    /// Empty only with a [stop](ConsumerBuilder::stop), once everything up to it has been handed out.
    ///
    /// Cancel safe: a call that is dropped has handed out nothing, and the next one gives what it would have given.
    ///
    /// ```no_run
    /// # async fn example(mut consumer: millstream_consumer::Consumer) -> Result<(), millstream_consumer::ConsumeError> {
    /// loop {
    ///     let records = consumer.recv_batch().await?;
    ///     println!("{} records", records.len());
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ConsumeError`]; the next call goes on.
    pub async fn recv_batch(&mut self) -> Result<Vec<ConsumerRecord>, ConsumeError> {
        loop {
            let records = self.advance().await?;
            if !records.is_empty() || self.is_at_end() {
                return Ok(records);
            }
        }
    }

    /// As [`recv_batch`](Self::recv_batch), but returns with nothing, too, once a position has moved for another
    /// reason than a record: behind the marker of a transaction, behind what was aborted or what compaction took
    /// away. For those who wait for a position rather than for a record.
    ///
    /// Cancel safe.
    pub(crate) async fn advance(&mut self) -> Result<Vec<ConsumerRecord>, ConsumeError> {
        let _turn = self.turn();
        self.follow_group();
        let mut records = Vec::new();
        while let Some(record) = self.pop_current() {
            records.push(record);
        }
        let mut has_moved = !records.is_empty();
        while records.len() < self.settings.max_batch_records {
            if !has_moved && let Some(error) = self.errors.pop_front() {
                return Err(error);
            }
            match self.decode_next() {
                Some(Ok(batch)) => {
                    self.hand_out(batch, &mut records);
                    if !has_moved {
                        self.fetch_ahead();
                    }
                    has_moved = true;
                }
                Some(Err(error)) if !has_moved => return Err(error),
                // What has moved comes first; the error is next.
                Some(Err(error)) => {
                    self.errors.push_front(error);
                    break;
                }
                None if has_moved => break,
                None => match self.is_out() {
                    Some(error) => return Err(error),
                    None if self.is_at_end() => break,
                    None => self.step().await,
                },
            }
        }
        Ok(records)
    }

    /// Hands out nothing, but attends to the group: for a program that is busy with what it has. Ends with the first
    /// error.
    ///
    /// Cancel safe.
    pub(crate) async fn attend(&mut self) -> ConsumeError {
        let _turn = self.turn();
        self.follow_group();
        loop {
            if let Some(error) = self.errors.pop_front() {
                return error;
            }
            self.step().await;
        }
    }

    /// What [`recv`](Self::recv) gives, as a stream. It ends where `recv` gives `None`; after an error it goes on.
    ///
    /// Cancel safe: whatever waits for the next item may be dropped, and so may the stream.
    ///
    /// ```no_run
    /// # async fn example(mut consumer: millstream_consumer::Consumer) -> Result<(), millstream_consumer::ConsumeError> {
    /// use futures_util::TryStreamExt;
    ///
    /// let mut records = consumer.stream();
    /// while let Some(record) = records.try_next().await? {
    ///     println!("{}", record.offset);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn stream(
        &mut self,
    ) -> impl Stream<Item = Result<ConsumerRecord, ConsumeError>> + Send + Unpin + use<'_> {
        Box::pin(stream::unfold(self, |consumer| async move {
            let next = consumer.recv().await.transpose()?;
            Some((next, consumer))
        }))
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
            .by_topic(|partition| partition.is_assigned)
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
            // Nothing has been taken away yet, so these are all.
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
                None => match self.is_out() {
                    Some(error) => return Err(error),
                    None if self.is_at_end() => return Ok(None),
                    None => self.step().await,
                },
            }
        }
    }

    /// Everything that is wanted has been handed out.
    fn is_at_end(&self) -> bool {
        let mut assigned = self.partitions.iter().filter(|partition| partition.is_assigned);
        self.following.is_none() && assigned.all(Partition::is_finished)
    }

    fn pop_current(&mut self) -> Option<ConsumerRecord> {
        let current = self.current.as_mut()?;
        let record = current.records.next();
        let (place, end) = (current.place, current.end);
        if record.is_some() {
            self.partitions[place].consumed = Some(current.leader_epoch);
        }
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

    fn hand_out(&mut self, batch: Decoded, records: &mut Vec<ConsumerRecord>) {
        self.finish(&batch);
        if !batch.is_empty() {
            self.partitions[batch.place].consumed = Some(batch.leader_epoch);
        }
        if records.is_empty() {
            *records = batch.records.collect();
        } else {
            records.extend(batch.records);
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
        partition.jump(Cursor::Unknown(Sought::At(at)));
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("partitions", &self.partitions).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
