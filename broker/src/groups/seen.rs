//! What can be seen of groups from outside: how far they are behind, which are stuck, how often they rebalance.
//!
//! Nothing of it is counted on the way of a request but rebalances. Every few seconds all groups are looked at, so
//! that a stuck one is found though nobody asks; whoever asks (a scrape, a client) has them looked at anew, and pays
//! for the times of the records that wait, which are read off the logs.

mod history;
mod lag;
mod stuck;
mod survey;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millstream_protocol::KStr;

use super::NotReady;
use super::turn::{Note, Now};
use crate::node::Node;

use history::History;
pub(crate) use history::RebalanceCounts;
#[cfg(test)]
pub(crate) use lag::Lag;
use stuck::StuckWatch;
#[cfg(test)]
pub(crate) use survey::Found;
pub(crate) use survey::{GroupSeen, OffsetSighting, PartitionSeen, Sighting};

/// How often all groups are looked at.
const INTERVAL: Duration = Duration::from_secs(5);
/// Offsets of one partition of the internal topic that are looked at; what is beyond is left out, and counted.
pub(crate) const OFFSETS_SEEN_MAX: usize = 10_000;

/// What is remembered between two looks. Locked for a look or a note, never across an await.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    watch: Mutex<StuckWatch>,
    history: Mutex<History>,
}

impl Seen {
    /// Something happened in a group.
    pub(super) fn note(&self, note: &Note, now: Now) {
        if let Note::RebalanceEnded { group, cause, took, .. } = note {
            self.history().rebalanced(group, cause, *took, now.wall_ms);
        }
    }

    /// Rebalances of all groups since the start, by cause.
    pub(crate) fn rebalances(&self) -> RebalanceCounts {
        self.history().totals()
    }

    fn watch(&self) -> MutexGuard<'_, StuckWatch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at all groups each few seconds, until the broker stops.
pub(crate) async fn watch(node: Arc<Node>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = node.stopped() => return,
            _ = ticks.tick() => {}
        }
        // While some of the groups are being read, what is remembered of them stays.
        if let Ok(sightings) = sight_all(&node).await {
            survey::look(&node, &sightings);
            let members = survey::consumers(&sightings);
            node.groups.coordinators.tell_all(&node, |shard, _| shard.on_crowd_counted(members));
        }
    }
}

/// All groups as they are now, by id. Times are read off the logs on the control plane.
pub(crate) async fn survey(node: &Arc<Node>) -> Result<Vec<GroupSeen>, NotReady> {
    let mut sightings = sight_all(node).await?;
    sightings.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    Ok(surveyed(node, sightings).await)
}

/// One group as it is now; `None` if there is none of this id.
pub(crate) async fn survey_one(node: &Arc<Node>, id: &KStr) -> Result<Option<GroupSeen>, NotReady> {
    let wanted = id.detach();
    let asked = node.groups.ask::<Vec<Sighting>>(node, id, move |shard, turn, ticket| {
        shard.sight(turn, ticket, Some(&wanted));
    });
    Ok(surveyed(node, asked.await?).await.pop())
}

async fn surveyed(node: &Arc<Node>, sightings: Vec<Sighting>) -> Vec<GroupSeen> {
    let looker = Arc::clone(node);
    let looking = node.control.spawn_blocking(move || {
        sightings.into_iter().map(|sighting| survey::describe(&looker, sighting)).collect()
    });
    looking.await.expect("looking does not panic")
}

async fn sight_all(node: &Arc<Node>) -> Result<Vec<Sighting>, NotReady> {
    let asked =
        node.groups.ask_all::<Vec<Sighting>>(node, |shard, turn, ticket| shard.sight(turn, ticket, None));
    let sighted: Result<Vec<_>, _> = asked.await.into_iter().collect();
    Ok(sighted?.into_iter().flatten().collect())
}
