//! What can be seen of a projection while it runs, and how it is told to stop.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use millstream_client::{Client, Missing, OffsetAt};
use millstream_protocol::KStr;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::builder::Isolation;
use crate::consumer::TopicPartitionOffset;
use crate::error::ConsumeError;
use crate::projection::error::CatchUpError;
use crate::projection::positions::Positions;

/// What a projection is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Phase {
    /// With what was there when it was opened.
    #[default]
    CatchingUp,
    /// With what has arrived since.
    Live,
    /// With nothing any more.
    Stopped,
}

/// How far a projection is.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Progress {
    /// What it is busy with.
    pub phase: Phase,
    /// Where the result stands.
    pub positions: Positions,
    /// Offsets between there and the ends of the partitions, as of the last answer that told one. Includes what
    /// a transaction still holds back, and offsets that are no record.
    pub lag: u64,
    /// Records applied since it was opened.
    pub records: u64,
    /// Records applied per second, lately.
    pub records_per_second: f64,
    /// How long the lag will take at that rate; none if nobody can tell.
    pub eta: Option<Duration>,
    /// What keeps it from reading, if that is not expected to last; or why it stopped.
    pub trouble: Option<String>,
}

/// Watches a running projection. Clones watch the same one.
#[derive(Clone)]
pub struct ProjectionHandle {
    pub(super) client: Client,
    pub(super) topics: Arc<[KStr]>,
    pub(super) isolation: Isolation,
    pub(super) progress: watch::Receiver<Progress>,
    pub(super) stop: watch::Sender<bool>,
}

impl ProjectionHandle {
    /// Waits until everything that was readable at the time of the call is part of the result: with
    /// [`Isolation::ReadCommitted`] everything up to the first open transaction. Writers who go on writing do
    /// not put it off.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// That the projection has stopped, or that the ends cannot be looked up.
    pub async fn caught_up(&self) -> Result<(), CatchUpError> {
        let mut ends = Vec::new();
        for topic in &*self.topics {
            ends.extend(ends_of(&self.client, topic, self.isolation).await?);
        }
        let mut progress = self.progress.clone();
        let seen = progress
            .wait_for(|progress| progress.positions.reach(&ends) || progress.phase == Phase::Stopped)
            .await;
        match seen {
            Ok(progress) if progress.positions.reach(&ends) => Ok(()),
            Ok(progress) => Err(CatchUpError::Stopped { reason: progress.trouble.clone() }),
            Err(_) => Err(CatchUpError::Stopped { reason: None }),
        }
    }

    /// How far it is now.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Waits until there is something new to see, and says what; none once the projection is gone.
    ///
    /// Cancel safe.
    pub async fn changed(&mut self) -> Option<Progress> {
        self.progress.changed().await.ok()?;
        Some(self.progress.borrow_and_update().clone())
    }

    /// Ends the projection behind the batch that it is busy with. [`run`](super::Projection::run) then returns the sink.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }
}

impl fmt::Debug for ProjectionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProjectionHandle").field("progress", &*self.progress.borrow()).finish_non_exhaustive()
    }
}

/// Up to where each partition of a topic can be read now.
pub(super) async fn ends_of(
    client: &Client,
    topic: &KStr,
    isolation: Isolation,
) -> Result<Vec<TopicPartitionOffset>, ConsumeError> {
    let metadata = client.topic(topic, Missing::Fail).await?;
    let wanted: Vec<_> = (metadata.partitions.iter())
        .map(|partition| (partition.index, isolation.bound(OffsetAt::Latest)))
        .collect();
    let listed = client.admin().list_offsets(topic, &wanted).await?;
    let end = |listed: millstream_client::ListedOffset| TopicPartitionOffset {
        topic: topic.clone(),
        partition: listed.partition,
        offset: listed.offset.unwrap_or_default(),
    };
    Ok(listed.into_iter().map(end).collect())
}

/// Counts records over windows of a second.
#[derive(Debug)]
pub(super) struct Meter {
    since: Instant,
    records: u64,
    last: Option<f64>,
}

/// How long a window is at least.
const WINDOW: Duration = Duration::from_secs(1);

impl Meter {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, records: 0, last: None }
    }

    /// Counts records that were applied by `now`. Says how many there are per second: in the last whole window,
    /// or in the first as far as it has got.
    pub(super) fn count(&mut self, records: u64, now: Instant) -> f64 {
        self.records += records;
        let elapsed = now.duration_since(self.since);
        let rate = if elapsed.is_zero() { 0.0 } else { self.records as f64 / elapsed.as_secs_f64() };
        if elapsed < WINDOW {
            return self.last.unwrap_or(rate);
        }
        *self = Self { since: now, records: 0, last: Some(rate) };
        rate
    }
}

/// How long so many records take at a rate.
pub(super) fn eta(lag: u64, rate: f64) -> Option<Duration> {
    if lag == 0 {
        return Some(Duration::ZERO);
    }
    Duration::try_from_secs_f64(lag as f64 / rate).ok()
}
