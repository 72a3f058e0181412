//! Works on many records at once, in order where it matters, and commits what is done.
//!
//! ```no_run
//! # async fn example(client: millstream_client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use millstream_consumer::{ConsumerExt, ConsumerRecord, Failure, RetryPolicy, StartAt};
//!
//! async fn bill(record: ConsumerRecord) -> Result<(), Failure> {
//!     let order = record.value.ok_or_else(|| Failure::poison("an order without content"))?;
//!     let order = std::str::from_utf8(&order).map_err(Failure::poison)?;
//!     println!("billing {order}");
//!     Ok(())
//! }
//!
//! let consumer = client.consumer("billing").subscribe(["orders"]).start_at(StartAt::Beginning).build().await?;
//! let report = consumer
//!     .run(bill)
//!     .concurrency(32)
//!     .order_by_key()
//!     .retry(RetryPolicy::attempts(5))
//!     .park_to("orders-parked")
//!     .until(async { tokio::signal::ctrl_c().await.unwrap_or(()) })
//!     .await?;
//! println!("{} handled, {} parked", report.handled, report.parked);
//! # Ok(())
//! # }
//! ```
//!
//! In reading order: `retry` (what a handler says), `tracker` (what may be committed), `lanes` (who waits for whom),
//! `work` (both together, without I/O), `parking`, `running` (the loop).

mod lanes;
mod parking;
mod retry;
mod running;
mod tracker;
mod work;

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::KStr;

use crate::consumer::{Consumer, TopicPartitionOffset};
use crate::error::ConsumeError;
use crate::group::CommitError;
use crate::offsets::Offsets;
use crate::record::ConsumerRecord;

use lanes::Order;
use running::{Handler, Running, Settings, Until};
use work::Rules;

pub use parking::{ParkError, header as parked};
pub use retry::{Failure, RetryPolicy};

/// Works on the records of a [`Consumer`] with many handlers at a time; made by [`Consumer::run`], started by `.await`.
///
/// - A record counts as finished when its handler has returned `Ok`, or when it is [parked](Self::park_to). What is
///   committed of a partition is the offset of the first record that is not finished, so after a crash no record
///   is left out, and some come again: **at least once**.
/// - A handler that fails, panics, or takes longer than [`timeout`](Self::timeout) is tried again by the
///   [policy](Self::retry). After that the record is parked; without a place for that the run ends with an error.
/// - What is in flight is [limited](Self::max_in_flight_records). At the limit nothing more is received, but the
///   group is attended to.
/// - When partitions are revoked, nothing more of them is begun; handlers under way may finish in four fifths of the time
///   that the group gives, are then aborted where they wait, and what is finished is committed before the partitions
///   are let go. What was finished behind a record that was not comes again at whoever has them next; with
///   [`order_by_partition`](Self::order_by_partition) there is no such record.
/// - A future that is dropped aborts its handlers where they wait and commits nothing more.
///
/// Without a group nothing is committed; [`RunReport::positions`] tells how far it came. A consumer with a
/// [stop](crate::ConsumerBuilder::stop) ends the run once everything before it is finished.
#[must_use = "nothing runs until it is awaited"]
pub struct Runner {
    consumer: Consumer,
    handler: Handler,
    until: Option<Until>,
    settings: Settings,
}

impl Consumer {
    /// Hands every record to `handler`, several at a time. See [`Runner`].
    ///
    /// The handler gets records it owns and returns a future. An error of any type that can be shown is a
    /// [`Failure`] that may be tried again; [`Failure::poison`] is one that may not.
    pub fn run<F, R, E>(self, handler: F) -> Runner
    where
        F: Fn(ConsumerRecord) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Failure>,
    {
        let handler: Handler = Arc::new(move |record| {
            let handling = handler(record);
            Box::pin(async move { handling.await.map_err(Into::into) })
        });
        let rules = Rules {
            order: Order::Key,
            concurrency: 16,
            retry: RetryPolicy::default(),
            can_park: false,
            max_records: 4096,
            max_bytes: 64 * 1024 * 1024,
        };
        let settings = Settings {
            rules,
            park_to: None,
            timeout: None,
            commit_every: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(30),
        };
        Runner { consumer: self, handler, until: None, settings }
    }
}

impl Runner {
    /// How many handlers run at a time at most. Default: 16.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.settings.rules.concurrency = handlers.max(1);
        self
    }

    /// Records of one partition with equal keys are handled one after the other; others, and those without a key, in
    /// parallel. While one waits to be tried again, those with its key wait, too. The default.
    pub fn order_by_key(mut self) -> Self {
        self.settings.rules.order = Order::Key;
        self
    }

    /// The records of a partition are handled one after the other.
    pub fn order_by_partition(mut self) -> Self {
        self.settings.rules.order = Order::Partition;
        self
    }

    /// Records are handled in any order.
    pub fn unordered(mut self) -> Self {
        self.settings.rules.order = Order::None;
        self
    }

    /// How often a record is tried, and how long to wait in between. Default: three attempts.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.settings.rules.retry = policy;
        self
    }

    /// Where records go that failed for good: as they were, with headers behind their own that say where they come
    /// from and why (see [`parked`]). Those with the same key go on. At least once, and acknowledged by all replicas
    /// before the record counts as finished. A broker that is set up to do that creates the topic.
    ///
    /// Default: nowhere. The run then ends with [`RunError::Failed`], and the record comes again at the next start.
    pub fn park_to(mut self, topic: impl Into<KStr>) -> Self {
        self.settings.park_to = Some(topic.into());
        self.settings.rules.can_park = true;
        self
    }

    /// How long a handler may take for one attempt before it is dropped and counts as failed. One that blocks its thread
    /// cannot be dropped. Default: as long as it likes.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = Some(timeout);
        self
    }

    /// How many records may be received and not finished before no more are received; what was received last may
    /// exceed it by a batch. Default: 4096.
    pub fn max_in_flight_records(mut self, records: usize) -> Self {
        self.settings.rules.max_records = records.max(1);
        self
    }

    /// The same in bytes of keys, values and headers. Default: 64 MiB.
    pub fn max_in_flight_bytes(mut self, bytes: usize) -> Self {
        self.settings.rules.max_bytes = bytes.max(1);
        self
    }

    /// How often finished offsets are committed, if there are new ones. Default: 1 s.
    pub fn commit_every(mut self, interval: Duration) -> Self {
        self.settings.commit_every = interval.max(Duration::from_millis(1));
        self
    }

    /// Stops when this future is done: nothing more is begun, what is under way may finish, and what is finished is
    /// committed. A handle is the receiving half of a channel: `until(async { receiver.await.unwrap_or(()) })`.
    pub fn until(mut self, stop: impl Future<Output = ()> + Send + 'static) -> Self {
        self.until = Some(Box::pin(stop));
        self
    }

    /// How long handlers may take to finish when it stops; then they are aborted where they wait. Default: 30 s.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.settings.drain_timeout = timeout;
        self
    }
}

impl IntoFuture for Runner {
    type Output = Result<RunReport, RunError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { consumer, handler, until, settings } = self;
        Box::pin(Running::new(consumer, (handler, until), settings).run())
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// What a run has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunReport {
    /// Records that were handled.
    pub handled: u64,
    /// Records that were parked.
    pub parked: u64,
    /// Attempts that failed.
    pub failed_attempts: u64,
    /// How far the partitions that it had at the end were worked off. Committed, if there is a group.
    pub positions: Offsets,
}

/// Why a run ended that was not asked to. What is finished was committed, if that was possible.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A record failed for good, and there is no place to park it.
    #[error(
        "the record at offset {} of partition {} of topic {:?} was not handled in {attempts} attempts: {reason}; \
         park_to() goes on behind such records",
        at.offset, at.partition, at.topic
    )]
    Failed {
        /// The record.
        at: TopicPartitionOffset,
        /// How often it was tried.
        attempts: u32,
        /// What the handler said last.
        reason: String,
    },
    /// A record that failed for good cannot be parked.
    #[error(
        "the record at offset {} of partition {} of topic {:?} cannot be parked: {source}",
        at.offset, at.partition, at.topic
    )]
    Park {
        /// The record.
        at: TopicPartitionOffset,
        /// Why not.
        source: ParkError,
    },
    /// No records can be had.
    #[error(transparent)]
    Consume(#[from] ConsumeError),
    /// What was finished at the end is not committed, and comes again.
    #[error("not everything that is finished could be committed: {0}")]
    Commit(#[source] CommitError),
}
