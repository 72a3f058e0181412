//! What is short and has to be in time: how much room there is, partitions that failed, retention.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_log::{Failure, FailureKind, Log, ReopenError, RetentionError};
use millstream_protocol::Uuid;

use super::backoff::Backoff;
use crate::metadata::topics::{Partition, Topic, Unavailable};
use crate::node::Node;
use crate::storage::directory::Directory;

/// How often it looks.
const EACH: Duration = Duration::from_secs(1);

/// What the reopening of a log may write.
const REOPEN_BYTES: u64 = 256 << 10;

/// Keeps one data folder. Owned by its thread.
#[derive(Debug)]
pub(crate) struct Keeper {
    node: Arc<Node>,
    directory: Arc<Directory>,
    retention_due: Duration,
    /// Partitions that failed, and when they are tried next.
    failed: HashMap<(Uuid, i32), Backoff>,
}

impl Keeper {
    pub(crate) fn new(node: Arc<Node>, directory: Arc<Directory>) -> Self {
        Self { node, directory, retention_due: Duration::ZERO, failed: HashMap::new() }
    }

    /// Does what is due and returns how long it may be left alone. `now` is counted from any one moment on.
    /// Blocks on the disk.
    pub(crate) fn step(&mut self, now: Duration) -> Duration {
        self.directory.flusher.run_due();
        self.directory.space.set_low_water(self.node.settings().low_water);
        self.directory.watch_space();
        let snapshot = Arc::clone(&self.node.topics.snapshot());
        let mut here = Vec::new();
        for topic in snapshot.sorted() {
            let partitions = topic.partitions.iter().filter(|one| one.is_on(&self.directory));
            here.extend(partitions.map(|partition| (topic, partition)));
        }
        for (topic, partition) in &here {
            self.look_after(topic, partition, now);
        }
        self.failed.retain(|_, backoff| !backoff.is_over(now));
        if now >= self.retention_due {
            self.retention_due = now + self.node.settings().retention_check_interval;
            for (topic, partition) in &here {
                if self.node.is_stopping() {
                    break;
                }
                self.enforce_retention(topic, partition);
            }
        }
        EACH.min(self.retention_due.saturating_sub(now))
    }

    /// Brings a partition back that failed, if it is time to try.
    fn look_after(&mut self, topic: &Topic, partition: &Partition, now: Duration) {
        match partition.log() {
            Ok(log) => {
                if let Some(failure) = log.failure() {
                    self.reopen(topic, partition, (log, &failure), now);
                }
            }
            Err(Unavailable::Failed { .. }) => self.open(topic, partition, now),
            Err(Unavailable::Recovering | Unavailable::Deleted) => {}
        }
    }

    fn is_due(&mut self, topic: &Topic, partition: &Partition, now: Duration) -> bool {
        let key = (topic.id, partition.index);
        let backoff = self.failed.entry(key).or_insert_with(|| Backoff::from(now));
        let is_due = backoff.is_due(now) && !self.node.is_stopping();
        if is_due {
            backoff.tried(now);
        }
        is_due
    }

    fn reopen(
        &mut self,
        topic: &Topic,
        partition: &Partition,
        (log, failure): (&Arc<Log>, &Failure),
        now: Duration,
    ) {
        // What was lacking was room: then there is nothing to wait for but room.
        let space = &self.directory.space;
        let is_due = match failure.kind {
            FailureKind::NoSpace => {
                let has_room = !space.is_refusing() && space.space().free_bytes >= REOPEN_BYTES;
                has_room && !self.node.is_stopping()
            }
            FailureKind::Other => self.is_due(topic, partition, now),
        };
        if !is_due {
            return;
        }
        let (name, index) = (&*topic.name, partition.index);
        match log.reopen(self.node.topics.leader_epoch()) {
            Ok(report) => {
                self.node.metrics.storage.reopened();
                tracing::info!(
                    topic = name, partition = index, epoch = %log.leader_epoch(), log_end = %report.log_end,
                    failure = %failure.reason, "a partition that had failed takes records again"
                );
            }
            Err(ReopenError::Closed) => {}
            Err(error) => {
                self.node.metrics.storage.reopen_failed();
                tracing::error!(
                    topic = name, partition = index, %error, failure = %failure.reason,
                    "a partition that failed cannot be reopened yet; it is tried again"
                );
            }
        }
    }

    fn open(&mut self, topic: &Topic, partition: &Partition, now: Duration) {
        if self.node.topics.recovery().is_over() && self.is_due(topic, partition, now) {
            match self.node.topics.open_again(topic, partition) {
                true => self.node.metrics.storage.reopened(),
                false => self.node.metrics.storage.reopen_failed(),
            }
        }
    }

    fn enforce_retention(&self, topic: &Topic, partition: &Partition) {
        let Ok(log) = partition.log() else { return };
        match log.enforce_retention() {
            Ok(trimmed) if trimmed.segments == 0 => {}
            Ok(trimmed) => {
                self.node.metrics.storage.trimmed(trimmed.segments, trimmed.bytes);
                tracing::info!(
                    topic = &*topic.name, partition = partition.index, segments = trimmed.segments,
                    bytes = trimmed.bytes, log_start = %trimmed.log_start, "old records deleted"
                );
            }
            // Deleted in the meantime.
            Err(RetentionError::Closed) => {}
            // That it failed was said when it did.
            Err(RetentionError::StorageFailed { .. }) if log.is_failed() => {}
            Err(error @ RetentionError::StorageFailed { .. }) => {
                tracing::warn!(topic = &*topic.name, partition = partition.index, %error, "old records were not deleted");
            }
        }
    }
}
