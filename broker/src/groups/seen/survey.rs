//! One look: what shards say of their groups, beside what logs say of the partitions.

use std::collections::HashSet;
use std::time::Duration;

use millstream_log::Offset;
use millstream_protocol::{ErrorCode, KStr};

use super::history::{LastRebalance, RebalanceCounts};
use super::lag::{Lag, Standing};
use super::stuck::{Progress, Spot};
use crate::groups::group::GroupKind;
use crate::groups::turn::Millis;
use crate::metadata::topics::{Snapshot, Unavailable};
use crate::node::Node;

/// A group, as its shard tells it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sighting {
    pub(crate) id: KStr,
    /// Kafka's words.
    pub(crate) kind: &'static str,
    pub(crate) state: &'static str,
    pub(crate) members: usize,
    pub(crate) offsets: Vec<OffsetSighting>,
    /// Offsets that are left out because there are too many.
    pub(crate) left_out: usize,
}

/// How far a group has come in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OffsetSighting {
    pub(crate) topic: KStr,
    pub(crate) partition: i32,
    pub(crate) committed: i64,
    pub(crate) committed_ms: i64,
}

/// A group, as it is told to those outside.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GroupSeen {
    pub(crate) id: KStr,
    pub(crate) kind: &'static str,
    pub(crate) state: &'static str,
    pub(crate) members: usize,
    pub(crate) rebalances: RebalanceCounts,
    pub(crate) last_rebalance: Option<LastRebalance>,
    pub(crate) partitions: Vec<PartitionSeen>,
    pub(crate) left_out: usize,
}

/// A partition that a group has committed for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PartitionSeen {
    pub(crate) offset: OffsetSighting,
    /// Where the partition is not there, or cannot be read now, the code that Kafka has for it.
    pub(crate) found: Result<Found, ErrorCode>,
}

/// How a group stands in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) log_start: i64,
    pub(crate) high_watermark: i64,
    pub(crate) lag: Lag,
    /// For how long it has been stuck, if it is.
    pub(crate) stuck_for: Option<Duration>,
}

/// How many members of the new protocol there are.
pub(super) fn consumers(sightings: &[Sighting]) -> usize {
    let of_consumers = sightings.iter().filter(|group| group.kind == GroupKind::Consumer.name());
    of_consumers.map(|group| group.members).sum()
}

/// Takes note of who makes no progress. Tells it once when somebody turns out to be stuck. Reads no disk.
pub(super) fn look(node: &Node, sightings: &[Sighting]) {
    let topics = node.topics.snapshot();
    let (now, after) = moment(node);
    let mut watch = node.groups.seen().watch();
    watch.begin_round();
    for group in sightings {
        for offset in &group.offsets {
            let Ok((standing, _)) = stand(node, &topics, offset) else { continue };
            let spot = spot(&group.id, offset);
            let was_stuck = watch.is_known_stuck(&spot);
            let stuck = watch.look(now, after, &spot, progress(group.members, &standing));
            if let (Some(stuck_for), false) = (stuck, was_stuck) {
                tracing::warn!(
                    group = %group.id, topic = %offset.topic, partition = offset.partition,
                    committed = offset.committed, lag = standing.lag().records, ?stuck_for,
                    "a group is stuck: it has members and commits nothing while more and more records wait"
                );
            }
        }
    }
    drop(watch);
    let there: HashSet<&str> = sightings.iter().map(|group| &*group.id).collect();
    node.groups.seen().history().keep_only(|group| there.contains(group));
}

/// What is told of a group. Reads a batch header for each partition where records wait, so it may wait for the disk.
pub(super) fn describe(node: &Node, group: Sighting) -> GroupSeen {
    let topics = node.topics.snapshot();
    let (now, after) = moment(node);
    let (rebalances, last_rebalance) = node.groups.seen().history().of(&group.id);
    let Sighting { id, kind, state, members, offsets, left_out } = group;
    let partitions = offsets.into_iter().map(|offset| {
        let found = stand(node, &topics, &offset).map(|(standing, log)| {
            let first = standing.first_waiting();
            let waiting_since_ms = first.and_then(|first| log.time_at(Offset::new(first)));
            let lag = Standing { waiting_since_ms, ..standing }.lag();
            let progress = progress(members, &standing);
            let stuck_for = node.groups.seen().watch().stuck_for(now, after, &spot(&id, &offset), progress);
            let Standing { log_start, high_watermark, .. } = standing;
            Found { log_start, high_watermark, lag, stuck_for }
        });
        PartitionSeen { offset, found }
    });
    let partitions = partitions.collect();
    GroupSeen { id, kind, state, members, rebalances, last_rebalance, partitions, left_out }
}

/// Now, and after how long without a commit a group is stuck.
fn moment(node: &Node) -> (Millis, Duration) {
    (node.groups.now(node).steady, node.settings().groups.stuck_after)
}

/// How a group stands in a partition, but for the time of what waits, and the log to ask for that.
fn stand(
    node: &Node,
    topics: &Snapshot,
    offset: &OffsetSighting,
) -> Result<(Standing, std::sync::Arc<millstream_log::Log>), ErrorCode> {
    let topic = topics.named(&offset.topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let partition = topic.partition(offset.partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let log = partition.log().map_err(|missing| match missing {
        Unavailable::Recovering => ErrorCode::LeaderNotAvailable,
        Unavailable::Deleted => ErrorCode::UnknownTopicOrPartition,
        Unavailable::Failed { .. } => ErrorCode::KafkaStorageError,
    })?;
    let offsets = log.offsets();
    let standing = Standing {
        committed: offset.committed,
        committed_ms: offset.committed_ms,
        log_start: offsets.log_start.get(),
        high_watermark: offsets.high_watermark.get(),
        waiting_since_ms: None,
        now_ms: node.clock.now_ms(),
    };
    Ok((standing, std::sync::Arc::clone(log)))
}

fn progress(members: usize, standing: &Standing) -> Progress {
    Progress {
        is_alive: members > 0,
        committed: standing.committed,
        committed_ms: standing.committed_ms,
        lag: standing.lag().records,
    }
}

fn spot(group: &KStr, offset: &OffsetSighting) -> Spot {
    Spot { group: group.clone(), topic: offset.topic.clone(), partition: offset.partition }
}
