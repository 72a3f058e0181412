//! The group coordinator: who reads what in a group, and how far each group has come.
//!
//! A group belongs to a partition of the internal topic `__consumer_offsets`. All that is known of the groups of one
//! partition is a [`Shard`]: a pure state machine behind a coordinator (`crate::coordinator`). [`Groups`] shows it the
//! topics as they are.

mod assignor;
mod cause;
mod classic;
mod consumer;
mod group;
mod machine;
mod offsets;
mod pending;
mod record;
pub(crate) mod seen;
mod shard;
mod topic_view;
mod turn;

use std::sync::Arc;

use arc_swap::ArcSwap;
use millstream_log::Marker;
use millstream_protocol::KStr;

use crate::coordinator::format::TEXT_BYTES_MAX;
pub(crate) use crate::coordinator::{Asked, NotReady};
use crate::coordinator::{Coordinators, MarkerError};
use crate::dispatch::Boxed;
use crate::metadata::topic_name::CONSUMER_OFFSETS;
use crate::metadata::topics::Snapshot;
use crate::node::Node;
use crate::transactions::TopicPartition;

pub(crate) use assignor::Assignor;
pub(crate) use cause::Caller;
pub(crate) use classic::Join;
pub(crate) use consumer::{
    Heartbeat as ConsumerHeartbeat, MigrationPolicy, Refusal, check_request, compile as compile_expression,
};
use seen::Seen;
pub(crate) use shard::{Commit, Fetch, ListFilter, Shard, Stability};
use topic_view::{TopicFacts, TopicView};
use turn::Now;
pub(crate) use turn::{Reply, Ticket, Turn};

/// All groups of this node.
#[derive(Debug)]
pub(crate) struct Groups {
    coordinators: Coordinators<Shard>,
    topics: ArcSwap<SeenTopics>,
    seen: Seen,
}

/// The topics as they were when somebody looked last.
#[derive(Debug, Default)]
pub(crate) struct SeenTopics {
    snapshot: Arc<Snapshot>,
    view: TopicView,
}

impl Groups {
    pub(crate) fn new() -> Self {
        Self { coordinators: Coordinators::new(), topics: ArcSwap::default(), seen: Seen::default() }
    }

    /// Runs an event in the shard of a group: at once, so that events come in the order of the requests, unless the
    /// topic has to be made first. The answer comes when everything that the shard knew by then is durable.
    pub(crate) fn ask<R: TryFrom<Reply> + Send + 'static>(
        &self,
        node: &Arc<Node>,
        group: &KStr,
        event: impl FnOnce(&mut Shard, &mut Turn<'_>, Ticket) + Send + 'static,
    ) -> Asked<R> {
        if group.len() > TEXT_BYTES_MAX {
            return Box::pin(std::future::ready(Err(NotReady::GroupId)));
        }
        let id = group.detach();
        let scheduled = move |shard: &mut Shard, turn: &mut Turn<'_>, ticket: Ticket| {
            event(shard, turn, ticket);
            shard.reschedule(&id);
        };
        self.coordinators.ask(node, group, scheduled)
    }

    /// Runs an event in every shard.
    pub(crate) fn ask_all<R: TryFrom<Reply> + Send + 'static>(
        &self,
        node: &Arc<Node>,
        event: impl Fn(&mut Shard, &mut Turn<'_>, Ticket) + Clone + Send + 'static,
    ) -> Boxed<Vec<Result<R, NotReady>>> {
        self.coordinators.ask_all(node, event)
    }

    /// Where the offsets of a group are kept; `None` before the topic is made.
    pub(crate) fn offsets_partition(&self, node: &Node, group: &str) -> Option<TopicPartition> {
        let partition = self.coordinators.partition_of(node, group)?;
        Some(TopicPartition { topic: KStr::from_static(CONSUMER_OFFSETS), partition })
    }

    /// Ends a transaction in a partition of `__consumer_offsets`: its offsets count from then on, or never will. Ready when
    /// the marker is durable, or refused.
    pub(crate) fn append_marker(
        &self,
        node: &Arc<Node>,
        partition: i32,
        marker: Marker,
    ) -> Boxed<Result<(), MarkerError>> {
        self.coordinators.append_marker(node, partition, marker)
    }

    /// Makes the topic if it is not there.
    pub(crate) async fn prepare(&self, node: &Arc<Node>) -> Result<(), NotReady> {
        self.coordinators.prepare(node).await
    }

    fn now(&self, node: &Node) -> Now {
        self.coordinators.now(node)
    }

    pub(crate) fn seen(&self) -> &Seen {
        &self.seen
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
        self.coordinators.warm_up(node);
    }
}

/// Does what is due, until the broker stops.
pub(crate) async fn keep_time(node: Arc<Node>) {
    let groups = &node.groups;
    let mut told = groups.topics(&node);
    let mut cleaned = groups.now(&node).steady;
    loop {
        let clean_up_at = cleaned.after(node.settings().groups.clean_up_each);
        let wait = groups.coordinators.due(&node).map_or(clean_up_at, |due| due.min(clean_up_at));
        tokio::select! {
            biased;
            () = node.stopped() => break,
            () = groups.coordinators.alarm().notified() => {}
            () = node.topics.changed() => {}
            () = tokio::time::sleep_until(groups.coordinators.instant(wait)) => {}
        }
        let topics = groups.topics(&node);
        if told.view.has_more_than(&topics.view) {
            groups.coordinators.tell_all(&node, Shard::on_topics_deleted);
        }
        told = topics;
        let now = groups.now(&node).steady;
        if clean_up_at <= now {
            cleaned = now;
            let now_ms = node.time.now_ms();
            groups.coordinators.tell_all(&node, |shard, turn| shard.clean_up(turn, now_ms));
        }
        groups.coordinators.tick(&node);
    }
    groups.coordinators.close(&node);
}
