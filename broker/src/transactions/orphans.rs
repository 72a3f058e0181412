//! Orphans: transactions that are open in a log while no coordinator knows of them.
//!
//! A coordinator's record that added the partition was lost, in a power cut or with a failed log, and the batch that it was
//! written for was not: nobody would ever end that transaction, and readers of committed records would wait for ever. Each
//! gets an abort marker, with the next epoch, so that a producer that sends the batch again is told to abort instead of
//! being told that it is there already. The marker is written only if no other came since the log was looked at.
//!
//! Every open transaction of every log is held against the coordinators again and again: that costs a look at two numbers
//! for a log without one, and needs no list of the ways in which a record can be lost.

use std::sync::Arc;
use std::time::Duration;

use millstream_log::{AppendError, EpochRule, Marker, OpenTransaction, TransactionOutcome};

use super::marking::{MarkError, mark};
use super::{Knows, TopicPartition};
use crate::coordinator::MarkerError;
use crate::node::Node;

/// How often all logs are looked at.
const EACH: Duration = Duration::from_secs(2);

/// Looks until the broker stops.
pub(crate) async fn keep_watch(node: Arc<Node>) {
    loop {
        tokio::select! {
            biased;
            () = node.stopped() => return,
            () = tokio::time::sleep(EACH) => {}
        }
        let found: Vec<(TopicPartition, Vec<OpenTransaction>)> = all_open(&node);
        for (partition, open) in found {
            for transaction in open {
                adopt_or_abort(&node, &partition, transaction).await;
            }
        }
    }
}

/// Looks at one partition now, because somebody met what may be an orphan there.
pub(crate) fn look_at(node: &Arc<Node>, partition: &TopicPartition) {
    let (node, partition) = (Arc::clone(node), partition.clone());
    tokio::spawn(async move {
        for transaction in open_in(&node, &partition) {
            adopt_or_abort(&node, &partition, transaction).await;
        }
    });
}

fn all_open(node: &Node) -> Vec<(TopicPartition, Vec<OpenTransaction>)> {
    let snapshot = node.topics.snapshot();
    let mut found = Vec::new();
    for topic in snapshot.sorted() {
        for (at, partition) in topic.partitions.iter().enumerate() {
            let open = partition.log().map(|log| log.open_transactions()).unwrap_or_default();
            if !open.is_empty() {
                let partition = i32::try_from(at).expect("bounded by PARTITIONS_MAX");
                found.push((TopicPartition { topic: topic.name.clone(), partition }, open));
            }
        }
    }
    found
}

fn open_in(node: &Node, partition: &TopicPartition) -> Vec<OpenTransaction> {
    let snapshot = node.topics.snapshot();
    let found = snapshot.named(&partition.topic).and_then(|topic| topic.partition(partition.partition));
    let log = found.and_then(|partition| partition.log().ok());
    log.map(|log| log.open_transactions()).unwrap_or_default()
}

/// Leaves a transaction to the coordinator that knows it; one that nobody knows is aborted.
async fn adopt_or_abort(node: &Arc<Node>, partition: &TopicPartition, open: OpenTransaction) {
    match node.transactions.knows_open(node, open.producer, partition) {
        // It is asked again once all are loaded.
        Knows::Yes | Knows::NotLoaded => return,
        Knows::No => {}
    }
    let (epoch, rule) = match open.epoch.checked_add(1) {
        Some(epoch) => (epoch, EpochRule::Newer),
        None => (open.epoch, EpochRule::NotOlder),
    };
    let marker = Marker {
        producer: open.producer,
        epoch,
        coordinator_epoch: node.topics.leader_epoch().get(),
        outcome: TransactionOutcome::Abort,
        rule,
        only_if: Some(open.guard),
    };
    let (producer, first_offset) = (open.producer, open.first_offset);
    let TopicPartition { topic, partition: index } = partition;
    match mark(node, partition, marker).await {
        Ok(()) => tracing::warn!(
            %topic, partition = index, %producer, epoch = open.epoch, %first_offset,
            "a transaction was aborted that its coordinator does not know: a crash has lost what it wrote of it"
        ),
        // Somebody else has ended it.
        Err(MarkError::Refused(MarkerError::Log(AppendError::TransactionMoved { .. }))) => {}
        Err(error) => tracing::warn!(
            %topic, partition = index, %producer, %error,
            "a transaction that its coordinator does not know could not be aborted; trying again"
        ),
    }
}
