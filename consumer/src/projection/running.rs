//! The loop: read, apply, tell.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use millstream_client::{Client, Missing, OffsetAt};
use millstream_protocol::KStr;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::builder::{ConsumerBuilder, Isolation, OutOfRange, StartAt};
use crate::consumer::{Consumer, TopicPartitionOffset};
use crate::error::ConsumeError;
use crate::panicked::Panicked;
use crate::projection::error::{ProjectionError, SinkOperation};
use crate::projection::positions::{Anchor, Position, Positions};
use crate::projection::progress::{Meter, Phase, Progress, ProjectionHandle, ends_of, eta};
use crate::projection::sink::{Batch, Sink};
use crate::record::ConsumerRecord;

/// How often to look whether a topic has grown. The client asks the broker less often than that.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What a new result needs of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum History {
    /// All of it, from offset 0 on.
    #[default]
    Complete,
    /// What is left of it.
    Remaining,
}

/// Opens a [`Projection`].
#[derive(Debug, Clone)]
#[must_use = "call open()"]
pub struct ProjectionBuilder {
    client: Client,
    topics: Vec<KStr>,
    isolation: Isolation,
    history: History,
    is_rebuilt: bool,
    batch_records: usize,
}

impl ProjectionBuilder {
    /// Reads another topic, too. The order of records holds within a partition only.
    pub fn topic(mut self, topic: impl Into<KStr>) -> Self {
        let topic = topic.into();
        if !self.topics.contains(&topic) {
            self.topics.push(topic);
        }
        self
    }

    /// Which records of transactions count. Default: [`Isolation::ReadCommitted`], unlike a consumer's: a result
    /// should not hold what was taken back.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// What a result that has no position yet needs of a partition. Default: [`History::Complete`]; then a
    /// partition whose first records were deleted is an error.
    pub fn history(mut self, history: History) -> Self {
        self.history = history;
        self
    }

    /// Throws away what the sink has, and reads everything again.
    pub fn rebuild(mut self) -> Self {
        self.is_rebuilt = true;
        self
    }

    /// How many records are applied at once at most, in one transaction of the sink. Default: 1000.
    pub fn batch_records(mut self, records: usize) -> Self {
        self.batch_records = records.max(1);
        self
    }

    /// Loads the positions, and compares them with the partitions: nothing is applied before it is certain that
    /// the log goes on where the result ends.
    ///
    /// # Errors
    /// [`ProjectionError`]: that the log and the result do not fit, or that one of them cannot be read.
    pub async fn open<S: Sink>(self, mut sink: S) -> Result<Projection<S>, ProjectionError> {
        if self.is_rebuilt {
            guard(async { sink.reset().await }).await.map_err(of_sink(SinkOperation::Reset))?;
        }
        let mut positions = guard(async { sink.load().await }).await.map_err(of_sink(SinkOperation::Load))?;
        let mut ends = Vec::new();
        let mut starts = Vec::new();
        for topic in &self.topics {
            ends.extend(ends_of(&self.client, topic, self.isolation).await?);
            let partitions = look(&self.client, topic).await?;
            missing_partition(topic, partitions.len(), &positions)?;
            for bounds in partitions {
                let position = positions.get(topic, bounds.partition);
                let position = start(topic, bounds, position, self.history)?;
                starts.push((topic.clone(), bounds, position));
                positions.put(topic, bounds.partition, position);
            }
        }
        self.verify(&starts).await?;
        let mut reading = self.reading();
        for (topic, bounds, position) in &starts {
            reading = reading.assign(topic.clone(), bounds.partition, StartAt::Offset(position.next));
        }
        let consumer = reading.build().await?;
        Ok(self.opened(sink, consumer, (positions, ends)))
    }

    fn reading(&self) -> ConsumerBuilder {
        Consumer::builder(self.client.clone())
            .isolation(self.isolation)
            .out_of_range(OutOfRange::Fail)
            .max_batch_records(self.batch_records)
    }

    fn opened<S: Sink>(
        self,
        sink: S,
        consumer: Consumer,
        (positions, ends): (Positions, Vec<TopicPartitionOffset>),
    ) -> Projection<S> {
        let (stop, stopped) = watch::channel(false);
        let (progress, seen) = watch::channel(Progress::default());
        let handle = ProjectionHandle {
            client: self.client,
            topics: self.topics.into(),
            isolation: self.isolation,
            progress: seen,
            stop,
        };
        let meter = Meter::new(Instant::now());
        let projection = Projection {
            sink,
            consumer,
            positions,
            ends,
            history: self.history,
            handle,
            stopped,
            progress,
            meter,
            records: 0,
        };
        projection.publish(0.0, None);
        projection
    }

    /// Reads the last record that the result has of each partition, and sees whether it is still the same. One
    /// that compaction took away proves nothing.
    async fn verify(&self, starts: &[(KStr, Bounds, Position)]) -> Result<(), ProjectionError> {
        let mut reading = self.reading();
        let mut wanted: BTreeMap<(KStr, i32), (Anchor, i64)> = BTreeMap::new();
        for (topic, bounds, position) in starts {
            if let Some(anchor) = position.anchor.filter(|anchor| anchor.offset >= bounds.start) {
                wanted.insert((topic.clone(), bounds.partition), (anchor, position.next));
                reading = reading.assign(topic.clone(), bounds.partition, StartAt::Offset(anchor.offset));
            }
        }
        let mut consumer = reading.build().await?;
        while !wanted.is_empty() {
            for record in consumer.advance().await? {
                let key = (record.topic.clone(), record.partition);
                let Some((anchor, next)) = wanted.get(&key) else { continue };
                if record.offset < *next && Anchor::of(&record) != *anchor {
                    let (topic, partition) = (record.topic.to_string(), record.partition);
                    return Err(ProjectionError::LogReplaced { topic, partition, offset: anchor.offset });
                }
            }
            wanted.retain(|(topic, partition), (_, next)| {
                consumer.position(topic, *partition).is_none_or(|position| position < *next)
            });
        }
        Ok(())
    }
}

/// Where a partition begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    partition: i32,
    start: i64,
    end: i64,
}

async fn look(client: &Client, topic: &KStr) -> Result<Vec<Bounds>, ProjectionError> {
    let metadata = client.topic(topic, Missing::Fail).await?;
    let all = |at| metadata.partitions.iter().map(move |partition| (partition.index, at));
    let starts = client.admin().list_offsets(topic, &all(OffsetAt::Earliest).collect::<Vec<_>>()).await?;
    let ends = client.admin().list_offsets(topic, &all(OffsetAt::Latest).collect::<Vec<_>>()).await?;
    let bounds = starts.into_iter().zip(ends).map(|(start, end)| Bounds {
        partition: start.partition,
        start: start.offset.unwrap_or_default(),
        end: end.offset.unwrap_or_default(),
    });
    Ok(bounds.collect())
}

/// A result that has records of a partition which the topic does not have comes from another topic.
fn missing_partition(topic: &KStr, partitions: usize, positions: &Positions) -> Result<(), ProjectionError> {
    let has = |partition: i32| usize::try_from(partition).is_ok_and(|partition| partition < partitions);
    let gone = positions.iter().find(|(of, partition, _)| *of == topic && !has(*partition));
    match gone {
        None => Ok(()),
        Some((_, partition, position)) => Err(ProjectionError::LogShorter {
            topic: topic.to_string(),
            partition,
            position: position.next,
            end: 0,
        }),
    }
}

/// Where to go on in a partition, if it fits the result.
fn start(
    topic: &KStr,
    bounds: Bounds,
    position: Option<Position>,
    history: History,
) -> Result<Position, ProjectionError> {
    let Bounds { partition, start, end } = bounds;
    let position = match (position, history) {
        (Some(position), _) => position,
        (None, History::Complete) => Position { next: 0, anchor: None },
        (None, History::Remaining) => Position { next: start, anchor: None },
    };
    let topic = || topic.to_string();
    if position.next < start {
        let position = position.next;
        return Err(ProjectionError::HistoryGone { topic: topic(), partition, position, log_start: start });
    }
    if position.next > end {
        return Err(ProjectionError::LogShorter { topic: topic(), partition, position: position.next, end });
    }
    Ok(position)
}

/// A projection that is ready to run.
///
/// It is all in this value: what it reads is applied while [`run`](Self::run) is awaited, and a projection
/// that is dropped is one that crashed. Nothing is lost or doubled by it.
pub struct Projection<S> {
    sink: S,
    consumer: Consumer,
    positions: Positions,
    /// Where the partitions ended when it was opened.
    ends: Vec<TopicPartitionOffset>,
    history: History,
    handle: ProjectionHandle,
    stopped: watch::Receiver<bool>,
    progress: watch::Sender<Progress>,
    meter: Meter,
    records: u64,
}

/// What the loop waits for.
enum Event {
    Stop,
    Look,
    Read(Result<Vec<ConsumerRecord>, ConsumeError>),
}

impl Projection<()> {
    /// Starts with a client and the topic to read.
    pub fn builder(client: Client, topic: impl Into<KStr>) -> ProjectionBuilder {
        ProjectionBuilder {
            client,
            topics: vec![topic.into()],
            isolation: Isolation::ReadCommitted,
            history: History::Complete,
            is_rebuilt: false,
            batch_records: 1000,
        }
    }
}

impl<S: Sink> Projection<S> {
    /// Watches it, and stops it, also while it runs.
    #[must_use]
    pub fn handle(&self) -> ProjectionHandle {
        self.handle.clone()
    }

    /// Reads and applies until it is told to [stop](ProjectionHandle::stop), and then returns the sink.
    ///
    /// A broker that cannot be reached is waited for; [`Progress::trouble`] says so. New partitions of the
    /// topics are read once the client has learnt of them (its `metadata_max_age`).
    ///
    /// Dropping it is as good as a crash: the batch that was being applied is stored as a whole, or not at all.
    ///
    /// # Errors
    /// [`ProjectionError`]. The sink is dropped; nothing was stored of the batch that failed.
    pub async fn run(mut self) -> Result<S, ProjectionError> {
        let mut ended = self.drive().await;
        if ended.is_ok() {
            ended = guard(async { self.sink.close().await }).await.map_err(of_sink(SinkOperation::Close));
        }
        let trouble = ended.as_ref().err().map(ToString::to_string);
        self.progress.send_modify(|progress| {
            progress.phase = Phase::Stopped;
            progress.trouble = trouble;
        });
        ended.map(|()| self.sink)
    }

    async fn drive(&mut self) -> Result<(), ProjectionError> {
        let mut look = tokio::time::interval_at(Instant::now() + LOOK_AGAIN, LOOK_AGAIN);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                biased;
                () = asked_to_stop(&mut self.stopped) => Event::Stop,
                _ = look.tick() => Event::Look,
                read = self.consumer.advance() => Event::Read(read),
            };
            match event {
                Event::Stop => return Ok(()),
                Event::Look => self.grow().await,
                Event::Read(Ok(records)) => self.apply(records).await?,
                Event::Read(Err(error)) => self.on_trouble(error).await?,
            }
        }
    }

    async fn apply(&mut self, records: Vec<ConsumerRecord>) -> Result<(), ProjectionError> {
        let positions = self.behind(&records);
        let batch = Batch::new(records);
        let applied = guard(async { self.sink.apply(&batch, &positions).await }).await;
        applied.map_err(|error| match batch.suspect() {
            None => of_sink(SinkOperation::Store)(error),
            Some(record) => ProjectionError::Apply {
                topic: record.topic.to_string(),
                partition: record.partition,
                offset: record.offset,
                error,
            },
        })?;
        self.positions = positions;
        self.records += batch.len() as u64;
        let rate = self.meter.count(batch.len() as u64, Instant::now());
        self.publish(rate, None);
        Ok(())
    }

    /// The positions that the result has with these records, which are all that was handed out.
    fn behind(&self, records: &[ConsumerRecord]) -> Positions {
        let mut positions = self.positions.clone();
        for (at, record) in records.iter().enumerate() {
            let is_followed = records
                .get(at + 1)
                .is_some_and(|next| next.partition == record.partition && next.topic == record.topic);
            if !is_followed {
                positions.applied(record);
            }
        }
        for (topic, partition) in self.consumer.assignment() {
            if let Some(position) = self.consumer.position(topic, partition) {
                positions.advance(topic, partition, position);
            }
        }
        positions
    }

    fn publish(&self, rate: f64, trouble: Option<String>) {
        let end = |topic: &KStr, partition| {
            let opened = self.ends.iter().find(|end| end.topic == *topic && end.partition == partition);
            let seen = self.consumer.high_watermark(topic, partition);
            opened.map(|end| end.offset).max(seen).unwrap_or_default()
        };
        let lag = self.positions.iter().map(|(topic, partition, position)| {
            u64::try_from(end(topic, partition).saturating_sub(position.next)).unwrap_or_default()
        });
        let lag = lag.sum();
        self.progress.send_replace(Progress {
            phase: if self.positions.reach(&self.ends) { Phase::Live } else { Phase::CatchingUp },
            positions: self.positions.clone(),
            lag,
            records: self.records,
            records_per_second: rate,
            eta: eta(lag, rate),
            trouble,
        });
    }

    /// Takes up partitions that were added to a topic.
    async fn grow(&mut self) {
        for topic in self.handle.topics.clone().iter() {
            let metadata = match self.handle.client.topic(topic, Missing::Fail).await {
                Ok(metadata) => metadata,
                Err(error) => {
                    tracing::warn!(%error, %topic, "cannot tell whether the topic has grown");
                    continue;
                }
            };
            let known = self.consumer.assignment().filter(|(of, _)| *of == topic).count();
            for partition in metadata.partitions.iter().skip(known) {
                tracing::info!(%topic, partition = partition.index, "a new partition");
                let start = match self.history {
                    History::Complete => StartAt::Offset(0),
                    History::Remaining => StartAt::Beginning,
                };
                self.consumer.add(topic.clone(), partition.index, start);
            }
        }
    }

    /// Decides whether an error passes.
    async fn on_trouble(&mut self, error: ConsumeError) -> Result<(), ProjectionError> {
        if let ConsumeError::OutOfRange { topic, partition, offset } = &error {
            let topic = KStr::from(topic.as_str());
            let bounds = look(&self.handle.client, &topic).await?;
            if let Some(bounds) = bounds.into_iter().find(|bounds| bounds.partition == *partition) {
                let position = Position { next: *offset, anchor: None };
                start(&topic, bounds, Some(position), self.history)?;
            }
            // By now the partition holds it: it is read with the next turn.
            return Ok(());
        }
        if !error.is_retriable() {
            return Err(error.into());
        }
        tracing::warn!(%error, "the projection waits");
        let rate = self.meter.count(0, Instant::now());
        self.publish(rate, Some(error.to_string()));
        Ok(())
    }
}

impl<S> fmt::Debug for Projection<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Projection").field("positions", &self.positions).finish_non_exhaustive()
    }
}

async fn asked_to_stop(stopped: &mut watch::Receiver<bool>) {
    // The projection itself holds a handle, so there is always somebody who could ask.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

type Boxed = Box<dyn Error + Send + Sync>;

/// A panic of the program's code is an error of it.
async fn guard<T, E: Into<Boxed>>(call: impl Future<Output = Result<T, E>>) -> Result<T, Boxed> {
    match AssertUnwindSafe(call).catch_unwind().await {
        Ok(result) => result.map_err(Into::into),
        Err(payload) => Err(Panicked::new(&*payload).into()),
    }
}

fn of_sink(operation: SinkOperation) -> impl FnOnce(Boxed) -> ProjectionError {
    move |error| ProjectionError::Sink { operation, error }
}
