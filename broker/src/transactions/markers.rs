//! Writes what was decided into the partitions of a transaction, until it is there.
//!
//! A job is one transaction's. It ends when every partition has its marker on the disk, or is gone; then the coordinator is
//! told. If the coordinator's records are read anew meanwhile there is another job for the same transaction, and this one
//! stops: a client that keeps its epoch could have begun its next transaction, which a marker of this one would end. So
//! each attempt first takes the log's guard, then asks whether the job still holds, and then appends on condition that
//! no marker came since the guard was taken.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use millstream_log::{AppendError, EpochRule, LeaderEpoch, Left, Log, Marker, TransactionOutcome};
use tokio::sync::oneshot;

use super::transaction::{Outcome, TopicPartition, Version};
use super::turn::Finish;
use crate::coordinator::MarkerError;
use crate::metadata::topic_name::CONSUMER_OFFSETS;
use crate::node::Node;

/// How long until a partition that did not take a marker is tried again, at first and at most.
const RETRY: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Writes markers, until the broker stops.
pub(crate) async fn write(node: Arc<Node>) {
    let Some(mut deeds) = node.transactions.coordinators.take_deeds() else { return };
    loop {
        let finish = tokio::select! {
            biased;
            () = node.stopped() => return,
            finish = deeds.recv() => finish,
        };
        let Some(finish) = finish else { return };
        tokio::spawn(carry_out(Arc::clone(&node), finish));
    }
}

/// How a partition took a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Took {
    /// It is on the disk, or the partition is gone.
    It,
    /// The job does not hold any more.
    Nothing,
}

async fn carry_out(node: Arc<Node>, finish: Finish) {
    let written = join_all(finish.partitions.iter().map(|partition| persist(&node, &finish, partition)));
    let took = tokio::select! {
        biased;
        () = node.stopped() => return,
        took = written => took,
    };
    if took.contains(&Took::Nothing) {
        return;
    }
    let (id, job) = (&finish.id, finish.job);
    node.transactions.coordinators.tell(&node, id, |shard, turn| shard.on_finished(turn, (id, job)));
}

/// Tries until the partition has the marker, is gone, or the job does not hold any more.
async fn persist(node: &Arc<Node>, finish: &Finish, partition: &TopicPartition) -> Took {
    let mut pause = RETRY;
    loop {
        match attempt(node, finish, partition).await {
            Ok(took) => return took,
            Err(error) => {
                let TopicPartition { topic, partition } = partition;
                tracing::debug!(id = %finish.id, %topic, partition, %error, "a marker is written later");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(RETRY_MAX);
    }
}

/// Why a marker is not in a partition yet.
#[derive(Debug, thiserror::Error)]
enum NotYet {
    #[error("the partition's log is not open")]
    NoLog,
    #[error(transparent)]
    Refused(#[from] AppendError),
    #[error(transparent)]
    Groups(#[from] MarkerError),
}

async fn attempt(node: &Arc<Node>, finish: &Finish, partition: &TopicPartition) -> Result<Took, NotYet> {
    let TopicPartition { topic, partition } = partition;
    let snapshot = node.topics.snapshot();
    let Some(found) = snapshot.named(topic).and_then(|topic| topic.partition(*partition)) else {
        return Ok(Took::It);
    };
    let log = Arc::clone(found.log().map_err(|_| NotYet::NoLog)?);
    drop(snapshot);
    let guard = log.transaction_guard(finish.identity.producer);
    if !node.transactions.holds(node, &finish.id, finish.job) {
        return Ok(Took::Nothing);
    }
    let marker = Marker { only_if: Some(guard), ..finish.marker(node.topics.leader_epoch()) };
    let written = match *topic == CONSUMER_OFFSETS {
        true => node.groups.append_marker(node, *partition, marker).await.map_err(NotYet::Groups),
        false => append(&log, marker).await.map_err(NotYet::Refused),
    };
    match written {
        // It has a later epoch of this producer, and takes none of those while an earlier transaction is open: the marker came
        // before, and the coordinator's record of that was lost.
        Err(
            NotYet::Refused(AppendError::InvalidProducerEpoch { .. })
            | NotYet::Groups(MarkerError::Log(AppendError::InvalidProducerEpoch { .. })),
        ) => Ok(Took::It),
        written => written.map(|()| Took::It),
    }
}

/// Appends a marker at once. Ready when it is durable, or refused.
pub(super) fn append(
    log: &Arc<Log>,
    marker: Marker,
) -> impl Future<Output = Result<(), AppendError>> + use<> {
    let (done, written) = oneshot::channel();
    let left = log.append_marker(
        marker,
        // Nobody listens when the broker stops.
        Box::new(move |result| drop(done.send(result.map(drop)))),
    );
    match left {
        Some(Left::Lead(mut leadership)) => drop(tokio::spawn(async move {
            while let Some(more) = leadership.lead() {
                leadership = more;
                tokio::task::yield_now().await;
            }
        })),
        // Before the wait: it is what is waited for.
        Some(Left::Flush(for_the_pool)) => drop(for_the_pool),
        None => {}
    }
    async move { written.await.unwrap_or(Err(AppendError::Closed)) }
}

impl Finish {
    /// Coordinators tell each other apart by the node's epoch, which never falls: that of a log may, once it was reopened.
    fn marker(&self, coordinator_epoch: LeaderEpoch) -> Marker {
        let rule = match self.version {
            // With the last epoch there is no next transaction of this producer which a newer one would tell apart.
            Version::Two if self.identity.epoch < i16::MAX => EpochRule::Newer,
            Version::Two | Version::One => EpochRule::NotOlder,
        };
        Marker {
            producer: self.identity.producer,
            epoch: self.identity.epoch,
            coordinator_epoch: coordinator_epoch.get(),
            outcome: match self.outcome {
                Outcome::Commit => TransactionOutcome::Commit,
                Outcome::Abort => TransactionOutcome::Abort,
            },
            rule,
            only_if: None,
        }
    }
}
