//! Coordinators: whoever keeps what clients agree on in a compacted internal topic.
//!
//! What is kept belongs to a partition of the topic, by Kafka's hash of its id. All that is known of one partition is a
//! [`StateMachine`]: pure, its events leave records, replies and notes. A `Coordinator` is the shell around it: it
//! appends the records in the order of the events and sends replies once what they rest on is durable.
//! [`Coordinators`] finds the one for an id, makes the topic when somebody first needs it, and has the clock. None of
//! this knows what is kept.

pub(crate) mod format;
mod held;
mod load;
mod partition;
mod turn;

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use millstream_log::{AppendError, Marker, ProducerId, TransactionOutcome};
use millstream_protocol::wire::EncodeError;
use millstream_protocol::{ErrorCode, KStr};
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::dispatch::Boxed;
use crate::metadata::topics::{Overrides, TopicError};
use crate::node::Node;
use crate::settings::BrokerSettings;

use format::RecordError;
use held::{Held, Lost};
use partition::Coordinator;
pub(crate) use turn::{Author, BatchNumber, Effects, Millis, Moment, Now, Ticket, replies};

/// All that is known of what one partition of an internal topic keeps.
///
/// Replaying its records gives the same machine, but for what is only in memory. Nothing in it waits, does I/O or
/// looks at a clock. If a record cannot be appended, the machine is thrown away and replayed.
pub(crate) trait StateMachine: fmt::Debug + Default + Send + 'static {
    /// What it keeps in the topic.
    type Record;
    /// What somebody who waits is told.
    type Reply: fmt::Debug + Send + 'static;
    /// What is to be done elsewhere once the records are durable.
    type Deed: fmt::Debug + Send + 'static;
    /// What is worth a line in the log, or a count.
    type Note;
    /// What an event is given.
    type Turn<'a>;

    /// The internal topic.
    const TOPIC: &'static str;

    /// Those of this kind.
    fn coordinators(node: &Node) -> &Coordinators<Self>;

    /// How the topic is made.
    fn layout(settings: &BrokerSettings) -> Layout;

    /// Runs `event` with a turn made of what holds at this moment.
    fn run(
        &mut self,
        node: &Node,
        moment: Moment,
        event: impl FnOnce(&mut Self, &mut Self::Turn<'_>),
    ) -> Effects<Self>;

    /// Tells people of something.
    fn tell(node: &Node, note: &Self::Note, now: Now);

    /// The key and the value of a record as they are stored.
    fn encode(record: &Self::Record) -> Result<(Bytes, Option<Bytes>), EncodeError>;

    /// Reads a record; `None` for a kind that is not known here.
    fn decode(key: &Bytes, value: Option<&Bytes>) -> Result<Option<Self::Record>, RecordError>;

    /// Takes over one record of the log, which may belong to a transaction.
    fn replay(&mut self, record: &Self::Record, author: Option<Author>);

    /// The transaction of a producer has ended, here and in the log.
    fn on_transaction_ended(&mut self, producer: ProducerId, outcome: TransactionOutcome);

    /// To be called once after the replay.
    fn on_loaded(&mut self, turn: &mut Self::Turn<'_>);

    /// When `tick` is to be called next.
    fn next_due(&self) -> Option<Millis>;

    /// Does what is due.
    fn tick(&mut self, turn: &mut Self::Turn<'_>);
}

/// How an internal topic is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) partitions: i64,
    pub(crate) segment_bytes: i64,
}

/// Why a request gets no answer of the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotReady {
    #[error("the coordinator's records are being read; it serves in a moment")]
    Loading,
    #[error("the coordinator's records could not be made durable; what is on the disk is read again")]
    Lost,
    #[error("the internal topic cannot be made or opened")]
    NoTopic,
    #[error("the broker stops")]
    Stopping,
    #[error("a group id has at most 32767 bytes")]
    GroupId,
}

impl NotReady {
    /// On all but the last every client asks again.
    pub(crate) fn code(self) -> ErrorCode {
        match self {
            Self::Loading => ErrorCode::CoordinatorLoadInProgress,
            Self::Lost | Self::Stopping => ErrorCode::NotCoordinator,
            Self::NoTopic => ErrorCode::CoordinatorNotAvailable,
            Self::GroupId => ErrorCode::InvalidGroupId,
        }
    }
}

/// Why a marker was not written to a partition of an internal topic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MarkerError {
    #[error(transparent)]
    NotReady(#[from] NotReady),
    #[error(transparent)]
    Log(AppendError),
}

/// What a coordinator answers, once it may.
pub(crate) type Asked<R> = Boxed<Result<R, NotReady>>;

/// All coordinators of one kind on this node.
#[derive(Debug)]
pub(crate) struct Coordinators<M: StateMachine> {
    /// One for each partition, from when the topic is there.
    partitions: OnceLock<Vec<Arc<Coordinator<M>>>>,
    /// Rung when something is due earlier than it was, or a log failed.
    alarm: Arc<Notify>,
    began: Instant,
    deeds: UnboundedSender<M::Deed>,
    /// Until somebody does them.
    to_do: Mutex<Option<UnboundedReceiver<M::Deed>>>,
}

/// Whether what an answer rests on is durable.
#[derive(Debug)]
pub(crate) struct Durable(Option<oneshot::Receiver<()>>);

impl Durable {
    /// Whether there is nothing to wait for.
    pub(crate) fn is_so(&self) -> bool {
        self.0.is_none()
    }

    /// Waits until it is.
    pub(crate) async fn so(self) -> Result<(), NotReady> {
        match self.0 {
            Some(told) => told.await.map_err(|_| NotReady::Lost),
            None => Ok(()),
        }
    }
}

impl<M: StateMachine> Coordinators<M> {
    pub(crate) fn new() -> Self {
        let (deeds, to_do) = unbounded_channel();
        Self {
            partitions: OnceLock::new(),
            alarm: Arc::default(),
            began: Instant::now(),
            deeds,
            to_do: Mutex::new(Some(to_do)),
        }
    }

    /// What is to be done elsewhere, in the order in which it may be: for whoever asks first.
    pub(crate) fn take_deeds(&self) -> Option<UnboundedReceiver<M::Deed>> {
        self.to_do.lock().take()
    }

    /// For a machine whose partition is looked at when `is_lost` is set.
    fn hold(&self, is_lost: &Arc<AtomicBool>) -> Held<M::Reply, M::Deed> {
        let lost = Lost { is_set: Arc::clone(is_lost), alarm: Arc::clone(&self.alarm) };
        Held::new(lost, self.deeds.clone())
    }

    /// Runs an event in the machine that keeps `id`, and gives what it says at once. It rests on the batch that it
    /// names.
    pub(crate) fn decide<R>(
        &self,
        node: &Arc<Node>,
        id: &str,
        event: impl FnOnce(&mut M, &mut M::Turn<'_>) -> (R, BatchNumber),
    ) -> Result<(R, Durable), NotReady> {
        let partitions = self.partitions(node).ok_or(NotReady::NoTopic)?;
        partitions[partition_of(id, partitions.len())].decide(node, event)
    }

    /// Looks into every machine; `None` for one that is not there.
    pub(crate) fn look_at_all<R>(&self, node: &Node, look: impl Fn(&M) -> R) -> Vec<Option<R>> {
        self.each(node).iter().map(|one| one.look_at(&look)).collect()
    }

    /// Runs something in the machine that keeps `id`, if it is there.
    pub(crate) fn tell(&self, node: &Arc<Node>, id: &str, event: impl FnOnce(&mut M, &mut M::Turn<'_>)) {
        let partitions = self.each(node);
        if !partitions.is_empty() {
            partitions[partition_of(id, partitions.len())].tell(node, event);
        }
    }

    /// Runs an event in the machine that keeps `id`: at once, so that events come in the order of the requests, unless
    /// the topic has to be made first. The answer comes when everything that the machine knew by then is durable.
    pub(crate) fn ask<R: TryFrom<M::Reply> + Send + 'static>(
        &self,
        node: &Arc<Node>,
        id: &KStr,
        event: impl FnOnce(&mut M, &mut M::Turn<'_>, Ticket) + Send + 'static,
    ) -> Asked<R> {
        if let Some(partitions) = self.partitions(node) {
            let answer = partitions[partition_of(id, partitions.len())].submit(node, event);
            return Box::pin(async move { received::<M, R>(answer?.await) });
        }
        let (node, id) = (Arc::clone(node), id.detach());
        Box::pin(async move {
            let partitions = M::coordinators(&node).made(&node).await?;
            let answer = partitions[partition_of(&id, partitions.len())].submit(&node, event);
            received::<M, R>(answer?.await)
        })
    }

    /// Runs an event in every machine. Without the topic there is none.
    pub(crate) fn ask_all<R: TryFrom<M::Reply> + Send + 'static>(
        &self,
        node: &Arc<Node>,
        event: impl Fn(&mut M, &mut M::Turn<'_>, Ticket) + Clone + Send + 'static,
    ) -> Boxed<Vec<Result<R, NotReady>>> {
        let answers: Vec<_> = self.each(node).iter().map(|one| one.submit(node, event.clone())).collect();
        let answers = answers.into_iter().map(|answer| async move { received::<M, R>(answer?.await) });
        Box::pin(join_all(answers))
    }

    /// Writes a marker to a partition of the topic, after all that its machine has left, and ends the transaction there.
    /// Ready when the marker is durable, or refused.
    pub(crate) fn append_marker(
        &self,
        node: &Arc<Node>,
        partition: i32,
        marker: Marker,
    ) -> Boxed<Result<(), MarkerError>> {
        let at = usize::try_from(partition).ok().and_then(|at| self.each(node).get(at));
        let answer = at.ok_or(NotReady::NoTopic).and_then(|one| one.append_marker(node, marker));
        Box::pin(async move { answer?.await.unwrap_or(Err(AppendError::Closed)).map_err(MarkerError::Log) })
    }

    /// The partition of the topic that keeps `id`; `None` before the topic is made.
    pub(crate) fn partition_of(&self, node: &Node, id: &str) -> Option<i32> {
        let count = self.partitions(node)?.len();
        Some(i32::try_from(partition_of(id, count)).expect("bounded"))
    }

    /// Looks into the machine that keeps `id`, if it is there.
    pub(crate) fn look_at<R>(&self, node: &Node, id: &str, look: impl FnOnce(&M) -> R) -> Option<R> {
        let partitions = self.partitions(node)?;
        partitions[partition_of(id, partitions.len())].look_at(look)
    }

    /// Makes the topic if it is not there.
    pub(crate) async fn prepare(&self, node: &Arc<Node>) -> Result<(), NotReady> {
        match self.partitions(node) {
            Some(_) => Ok(()),
            None => self.made(node).await.map(drop),
        }
    }

    fn partitions(&self, node: &Node) -> Option<&[Arc<Coordinator<M>>]> {
        if let Some(partitions) = self.partitions.get() {
            return Some(partitions);
        }
        let count = node.topics.snapshot().named(M::TOPIC)?.partitions.len();
        let make = || (0..count).map(|at| Coordinator::new(i32::try_from(at).expect("bounded"))).collect();
        Some(self.partitions.get_or_init(make))
    }

    async fn made(&self, node: &Arc<Node>) -> Result<&[Arc<Coordinator<M>>], NotReady> {
        let maker = Arc::clone(node);
        let making = node.control.spawn_blocking(move || make_topic::<M>(&maker));
        match making.await.expect("making a topic does not panic") {
            // Somebody else was faster.
            Ok(()) | Err(TopicError::Exists(_)) => {}
            Err(error) => {
                tracing::error!(%error, "{} cannot be made: nobody is served who needs it", M::TOPIC);
                return Err(NotReady::NoTopic);
            }
        }
        self.partitions(node).ok_or(NotReady::NoTopic)
    }

    pub(crate) fn now(&self, node: &Node) -> Now {
        let steady = Millis(i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX));
        Now { steady, wall_ms: node.clock.now_ms() }
    }

    /// When it is `at`; a time that has gone by is the beginning.
    pub(crate) fn instant(&self, at: Millis) -> Instant {
        self.began + Duration::from_millis(u64::try_from(at.0).unwrap_or(0))
    }

    /// Rung when something is due earlier than it was, or a log failed.
    pub(crate) fn alarm(&self) -> &Arc<Notify> {
        &self.alarm
    }

    /// When something is due the next time.
    pub(crate) fn due(&self, node: &Node) -> Option<Millis> {
        self.each(node).iter().map(|one| one.due()).min()
    }

    /// Runs something that nobody asked for in every machine that is there.
    pub(crate) fn tell_all(&self, node: &Arc<Node>, event: impl Fn(&mut M, &mut M::Turn<'_>)) {
        self.each(node).iter().for_each(|one| one.tell(node, &event));
    }

    /// Does what is due by now, and reads again what was lost.
    pub(crate) fn tick(&self, node: &Arc<Node>) {
        let now = self.now(node).steady;
        self.each(node).iter().filter(|one| one.is_due(now)).for_each(|one| one.look(node));
    }

    /// Begins to read what is on disk.
    pub(crate) fn warm_up(&self, node: &Arc<Node>) {
        self.each(node).iter().for_each(|one| one.look(node));
    }

    /// Tells everybody who waits to go elsewhere, for good.
    pub(crate) fn close(&self, node: &Node) {
        self.each(node).iter().for_each(|one| one.close());
    }

    /// None before the topic is made.
    fn each(&self, node: &Node) -> &[Arc<Coordinator<M>>] {
        self.partitions(node).unwrap_or_default()
    }
}

fn received<M: StateMachine, R: TryFrom<M::Reply>>(
    answer: Result<M::Reply, oneshot::error::RecvError>,
) -> Result<R, NotReady> {
    let reply = answer.map_err(|_| NotReady::Lost)?;
    Ok(R::try_from(reply).unwrap_or_else(|_| unreachable!("an event is answered in its own kind")))
}

fn make_topic<M: StateMachine>(node: &Node) -> Result<(), TopicError> {
    let Layout { partitions, segment_bytes } = M::layout(&node.settings());
    let configs = [("cleanup.policy", "compact".to_owned()), ("segment.bytes", segment_bytes.to_string())];
    let configs: Overrides = configs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    node.topics.create_any(&KStr::from_static(M::TOPIC), partitions, configs).map(drop)
}

/// The partition of an id: the hash of Java's strings, as in Kafka.
fn partition_of(id: &str, partitions: usize) -> usize {
    let hash =
        id.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // Kafka takes the sign off like this.
    let positive = usize::try_from(hash & i32::MAX).expect("not negative");
    positive % partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_in_the_partition_in_which_kafka_has_it() {
        // "console-consumer" and others, by Kafka's own groupMetadataManager over 50 partitions.
        assert_eq!(partition_of("", 50), 0);
        assert_eq!(partition_of("a", 50), 97 % 50);
        assert_eq!(partition_of("polygenelubricants", 50), 0, "its hash is the least number");
    }
}
