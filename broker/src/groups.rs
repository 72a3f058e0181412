//! The group coordinator: who reads what in a group, and how far each group has come.
//!
//! A group belongs to a partition of the internal topic `__consumer_offsets`, by Kafka's hash of its id. All
//! that is known of the groups of one partition is a [`Shard`]: a pure state machine whose events leave records,
//! replies and notes. A `Coordinator` is the shell around it: it appends the records in the order of the events and
//! sends replies once what they rest on is durable. [`Groups`] finds the coordinator, makes the topic when somebody
//! first needs it, and has the clock.

mod assignor;
mod cause;
mod classic;
mod consumer;
mod coordinator;
mod group;
mod held;
mod load;
mod offsets;
mod record;
pub(crate) mod seen;
mod shard;
mod topic_view;
mod turn;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use millstream_protocol::KStr;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::dispatch::Boxed;
use crate::metadata::topic_name::CONSUMER_OFFSETS;
use crate::metadata::topics::{Overrides, Snapshot, TopicError};
use crate::node::Node;

pub(crate) use assignor::Assignor;
pub(crate) use cause::Caller;
pub(crate) use classic::Join;
pub(crate) use consumer::{Heartbeat as ConsumerHeartbeat, MigrationPolicy, Refusal, check_request};
use coordinator::Coordinator;
pub(crate) use coordinator::NotReady;
use seen::Seen;
pub(crate) use shard::{Commit, Fetch, ListFilter, Shard};
use topic_view::{TopicFacts, TopicView};
use turn::{Millis, Now};
pub(crate) use turn::{Reply, Ticket, Turn};

/// The longest id that a record can name.
const GROUP_ID_BYTES_MAX: usize = i16::MAX as usize;

/// All groups of this node.
#[derive(Debug)]
pub(crate) struct Groups {
    /// One for each partition, from when the topic is there.
    coordinators: OnceLock<Vec<Arc<Coordinator>>>,
    topics: ArcSwap<SeenTopics>,
    /// Rung when something is due earlier than it was, or a log failed.
    alarm: Arc<Notify>,
    began: Instant,
    seen: Seen,
}

/// The topics as they were when somebody looked last.
#[derive(Debug, Default)]
pub(crate) struct SeenTopics {
    snapshot: Arc<Snapshot>,
    view: TopicView,
}

/// What a group answers, once it may.
pub(crate) type Asked<R> = Boxed<Result<R, NotReady>>;

impl Groups {
    pub(crate) fn new() -> Self {
        Self {
            coordinators: OnceLock::new(),
            topics: ArcSwap::default(),
            alarm: Arc::default(),
            began: Instant::now(),
            seen: Seen::default(),
        }
    }

    /// Runs an event in the shard of a group: at once, so that events come in the order of the requests, unless the
    /// topic has to be made first. The answer comes when everything that the shard knew by then is durable.
    pub(crate) fn ask<R: TryFrom<Reply> + Send + 'static>(
        &self,
        node: &Arc<Node>,
        group: &KStr,
        event: impl FnOnce(&mut Shard, &mut Turn<'_>, Ticket) + Send + 'static,
    ) -> Asked<R> {
        if group.len() > GROUP_ID_BYTES_MAX {
            return Box::pin(std::future::ready(Err(NotReady::GroupId)));
        }
        let id = group.detach();
        let scheduled = move |shard: &mut Shard, turn: &mut Turn<'_>, ticket: Ticket| {
            event(shard, turn, ticket);
            shard.reschedule(&id);
        };
        if let Some(coordinators) = self.coordinators(node) {
            let answer = coordinators[partition_of(group, coordinators.len())].submit(node, scheduled);
            return Box::pin(async move { received(answer?.await) });
        }
        let (node, group) = (Arc::clone(node), group.detach());
        Box::pin(async move {
            let coordinators = node.groups.made(&node).await?;
            let answer = coordinators[partition_of(&group, coordinators.len())].submit(&node, scheduled);
            received(answer?.await)
        })
    }

    /// Runs an event in every shard.
    pub(crate) fn ask_all<R: TryFrom<Reply> + Send + 'static>(
        &self,
        node: &Arc<Node>,
        event: impl Fn(&mut Shard, &mut Turn<'_>, Ticket) + Clone + Send + 'static,
    ) -> Boxed<Vec<Result<R, NotReady>>> {
        // Without the topic there are no groups.
        let answers: Vec<_> = self.each(node).iter().map(|one| one.submit(node, event.clone())).collect();
        let answers = answers.into_iter().map(|answer| async move { received(answer?.await) });
        Box::pin(join_all(answers))
    }

    /// Makes the topic if it is not there.
    pub(crate) async fn prepare(&self, node: &Arc<Node>) -> Result<(), NotReady> {
        match self.coordinators(node) {
            Some(_) => Ok(()),
            None => self.made(node).await.map(drop),
        }
    }

    fn coordinators(&self, node: &Node) -> Option<&[Arc<Coordinator>]> {
        if let Some(coordinators) = self.coordinators.get() {
            return Some(coordinators);
        }
        let count = node.topics.snapshot().named(CONSUMER_OFFSETS)?.partitions.len();
        let make = || (0..count).map(|at| Coordinator::new(i32::try_from(at).expect("bounded"))).collect();
        Some(self.coordinators.get_or_init(make))
    }

    async fn made(&self, node: &Arc<Node>) -> Result<&[Arc<Coordinator>], NotReady> {
        let maker = Arc::clone(node);
        let making = node.control.spawn_blocking(move || make_topic(&maker));
        match making.await.expect("making a topic does not panic") {
            // Somebody else was faster.
            Ok(()) | Err(TopicError::Exists(_)) => {}
            Err(error) => {
                tracing::error!(%error, "{CONSUMER_OFFSETS} cannot be made: no group can be served");
                return Err(NotReady::NoTopic);
            }
        }
        self.coordinators(node).ok_or(NotReady::NoTopic)
    }

    fn now(&self, node: &Node) -> Now {
        let steady = Millis(i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX));
        Now { steady, wall_ms: node.clock.now_ms() }
    }

    pub(crate) fn seen(&self) -> &Seen {
        &self.seen
    }

    fn alarm(&self) -> Arc<Notify> {
        Arc::clone(&self.alarm)
    }

    /// The topics as they are now.
    fn topics(&self, node: &Node) -> Arc<SeenTopics> {
        let seen = self.topics.load();
        let snapshot = node.topics.snapshot();
        if Arc::ptr_eq(&seen.snapshot, &snapshot) {
            return Arc::clone(&seen);
        }
        let facts = snapshot.sorted().into_iter().map(|topic| {
            let partitions = i32::try_from(topic.partitions.len()).expect("bounded by PARTITIONS_MAX");
            (topic.name.clone(), TopicFacts { id: topic.id, partitions })
        });
        let now = Arc::new(SeenTopics { snapshot: Arc::clone(&snapshot), view: TopicView::of(facts) });
        self.topics.store(Arc::clone(&now));
        now
    }

    /// Begins to read the groups that are on disk.
    pub(crate) fn warm_up(&self, node: &Arc<Node>) {
        self.each(node).iter().for_each(|coordinator| coordinator.look(node));
    }

    /// None before the topic is made.
    fn each(&self, node: &Node) -> &[Arc<Coordinator>] {
        self.coordinators(node).unwrap_or_default()
    }
}

/// Does what is due, until the broker stops.
pub(crate) async fn keep_time(node: Arc<Node>) {
    let groups = &node.groups;
    let mut told = groups.topics(&node);
    let mut cleaned = groups.now(&node).steady;
    loop {
        let clean_up_at = cleaned.after(node.settings().groups.clean_up_each);
        let due = groups.each(&node).iter().map(|coordinator| coordinator.due());
        let wait = due.chain([clean_up_at]).min().map_or(0, |due| due.0);
        let until = groups.began + Duration::from_millis(u64::try_from(wait).unwrap_or(0));
        tokio::select! {
            biased;
            () = node.stopped() => break,
            () = groups.alarm.notified() => {}
            () = node.topics.changed() => {}
            () = tokio::time::sleep_until(until) => {}
        }
        let topics = groups.topics(&node);
        let are_deleted = told.view.has_more_than(&topics.view);
        told = topics;
        let now = groups.now(&node).steady;
        let is_clean_up = clean_up_at <= now;
        if is_clean_up {
            cleaned = now;
        }
        for coordinator in groups.each(&node) {
            if are_deleted {
                coordinator.tell(&node, Shard::on_topics_deleted);
            }
            if is_clean_up {
                coordinator.tell(&node, Shard::clean_up);
            }
            if coordinator.due() <= now {
                coordinator.look(&node);
            }
        }
    }
    groups.each(&node).iter().for_each(|coordinator| coordinator.close());
}

fn received<R: TryFrom<Reply>>(
    answer: Result<Reply, tokio::sync::oneshot::error::RecvError>,
) -> Result<R, NotReady> {
    let reply = answer.map_err(|_| NotReady::Lost)?;
    Ok(R::try_from(reply).unwrap_or_else(|_| unreachable!("an event is answered in its own kind")))
}

fn make_topic(node: &Node) -> Result<(), TopicError> {
    let groups = &node.settings().groups;
    let configs =
        [("cleanup.policy", "compact".to_owned()), ("segment.bytes", groups.segment_bytes.to_string())];
    let configs: Overrides = configs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    node.topics.create_any(&KStr::from_static(CONSUMER_OFFSETS), groups.partitions, configs).map(drop)
}

/// The partition of a group: the hash of Java's strings, as in Kafka.
fn partition_of(group: &str, partitions: usize) -> usize {
    let hash =
        group.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // Kafka takes the sign off like this.
    let positive = usize::try_from(hash & i32::MAX).expect("not negative");
    positive % partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_in_the_partition_in_which_kafka_has_it() {
        // "console-consumer" and others, by Kafka's own groupMetadataManager over 50 partitions.
        assert_eq!(partition_of("", 50), 0);
        assert_eq!(partition_of("a", 50), 97 % 50);
        assert_eq!(partition_of("polygenelubricants", 50), 0, "its hash is the least number");
    }
}
