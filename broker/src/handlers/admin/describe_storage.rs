//! DescribeStorage, our own key 16385, version 0: where partitions lie, how far they are durable, what is deleted
//! next and why, what is damaged, and how full the disks are.
//!
//! A null list of topics means all, an empty one none: then only the data folders are told. Reads a batch's
//! header of each partition, so it runs on the control plane.

use std::ops::RangeInclusive;
use std::sync::Arc;

use millstream_log::{CleanupPolicy, Log, NextDeletion, QuarantinedRange as Damaged};
use millstream_protocol::messages::describe_storage_response::{
    DescribeStorageDirectory, DescribeStoragePartition, DescribeStorageTopicResult, QuarantinedRange,
};
use millstream_protocol::messages::{DescribeStorageRequest, DescribeStorageResponse};
use millstream_protocol::{ErrorCode, KStr, StorageState};

use super::asked_partitions::partitions;
use crate::dispatch::{Answer, Call, Handler};
use crate::handlers::NONE;
use crate::metadata::topics::{Partition, Topic, Unavailable};
use crate::storage::directory::Directory;
use crate::storage::folders::Missing;

pub(crate) struct DescribeStorage;

impl Handler for DescribeStorage {
    type Request = DescribeStorageRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn handle(call: Call, request: DescribeStorageRequest) -> Answer<DescribeStorageResponse> {
        Answer::blocking(&call.clone(), move || answer(&call, &request))
    }
}

fn answer(call: &Call, request: &DescribeStorageRequest) -> DescribeStorageResponse {
    let topics = &call.node.topics;
    let used = topics.directories().iter().map(|directory| describe_directory(directory));
    let missing = topics.missing_directories().iter().map(|missing| describe_missing(missing));
    let directories = used.chain(missing).collect();
    let snapshot = topics.snapshot();
    let told = match &request.topics {
        None => snapshot.sorted().into_iter().map(|topic| describe_topic(topic, &[])).collect(),
        Some(asked) => {
            let told = asked.iter().map(|asked| match snapshot.named(&asked.name) {
                Some(topic) => describe_topic(topic, &asked.partitions),
                None => DescribeStorageTopicResult {
                    name: asked.name.clone(),
                    error_code: ErrorCode::UnknownTopicOrPartition.code(),
                    ..Default::default()
                },
            });
            told.collect()
        }
    };
    DescribeStorageResponse { directories, topics: told }
}

fn describe_directory(directory: &Directory) -> DescribeStorageDirectory {
    let looked = directory.disk.space(&directory.path);
    let error_message = looked.as_ref().err().map(|error| KStr::from(error.to_string()));
    let space = looked.unwrap_or_else(|_| directory.space.space());
    DescribeStorageDirectory {
        path: KStr::from(directory.path.display().to_string()),
        error_message,
        free_bytes: size(space.free_bytes),
        total_bytes: size(space.total_bytes),
        free_min_bytes: size(directory.space.mark()),
        is_refusing: directory.space.is_refusing(),
    }
}

fn describe_missing(missing: &Missing) -> DescribeStorageDirectory {
    DescribeStorageDirectory {
        path: KStr::from(missing.path.display().to_string()),
        error_message: Some(KStr::from(missing.reason.clone())),
        ..Default::default()
    }
}

fn describe_topic(topic: &Topic, asked: &[i32]) -> DescribeStorageTopicResult {
    let told = partitions(topic, asked).into_iter().map(|(partition_index, partition)| match partition {
        Ok(partition) => describe_partition(topic, partition),
        Err(code) => {
            DescribeStoragePartition { partition_index, error_code: code.code(), ..Default::default() }
        }
    });
    DescribeStorageTopicResult { name: topic.name.clone(), partitions: told.collect(), ..Default::default() }
}

fn describe_partition(topic: &Topic, partition: &Partition) -> DescribeStoragePartition {
    let placed = DescribeStoragePartition {
        partition_index: partition.index,
        directory: KStr::from(partition.home.path().display().to_string()),
        is_compacted: topic.settings.cleanup().compacts(),
        ..Default::default()
    };
    match partition.log() {
        Ok(log) => describe_log(topic, log, placed),
        Err(missing) => {
            let state = match &missing {
                Unavailable::Recovering | Unavailable::Deleted => StorageState::Recovering,
                Unavailable::Failed { .. } => StorageState::Unavailable,
            };
            let error_message = Some(KStr::from(missing.to_string()));
            DescribeStoragePartition { state: state.code(), error_message, ..placed }
        }
    }
}

fn describe_log(topic: &Topic, log: &Arc<Log>, placed: DescribeStoragePartition) -> DescribeStoragePartition {
    let failure = log.failure();
    let state = if failure.is_some() { StorageState::ReadOnly } else { StorageState::Ok };
    let (facts, offsets) = (log.storage_facts(), log.offsets());
    let (cleaned_to, dirty_bytes, last_compaction_ms) = match topic.settings.cleanup().compacts() {
        false => (NONE, 0, NONE),
        true => (
            log.cleaned_to().get(),
            size(log.dirtiness().dirty_bytes),
            log.compaction_facts().last_success_ms.unwrap_or(NONE),
        ),
    };
    DescribeStoragePartition {
        state: state.code(),
        error_message: failure.map(|failure| KStr::from(&*failure.reason)),
        leader_epoch: log.leader_epoch().get(),
        segments: i32::try_from(facts.segments).unwrap_or(i32::MAX),
        bytes: size(facts.bytes),
        log_start: offsets.log_start.get(),
        high_watermark: offsets.high_watermark.get(),
        log_end: offsets.log_end.get(),
        durable_offset: log.durable_point().get(),
        oldest_record_ms: facts.oldest_record_ms.unwrap_or(NONE),
        next_deletion_ms: facts.next_deletion.at_ms.unwrap_or(NONE),
        next_deletion_reason: Some(KStr::from(why(topic, facts.next_deletion))),
        cleaned_to,
        dirty_bytes,
        last_compaction_ms,
        quarantined: log.quarantined().iter().map(describe_damage).collect(),
        ..placed
    }
}

/// Words for a person.
fn why(topic: &Topic, next: NextDeletion) -> String {
    match topic.settings.cleanup() {
        CleanupPolicy::Compact => return "never: the topic is only compacted (cleanup.policy)".to_owned(),
        CleanupPolicy::Keep => return "never: the topic keeps everything (cleanup.policy)".to_owned(),
        CleanupPolicy::Delete | CleanupPolicy::CompactAndDelete => {}
    }
    match (next.at_ms, next.after_bytes) {
        (None, None) => "never: neither retention.ms nor retention.bytes comes to anything yet".to_owned(),
        (Some(_), None) => "by age (retention.ms)".to_owned(),
        (None, Some(bytes)) => format!("by size, after {bytes} bytes more (retention.bytes)"),
        (Some(_), Some(bytes)) => {
            format!("by age (retention.ms), or by size after {bytes} bytes more (retention.bytes)")
        }
    }
}

fn describe_damage(damaged: &Damaged) -> QuarantinedRange {
    QuarantinedRange {
        from: damaged.offsets.start.get(),
        to: damaged.offsets.end.get(),
        bytes: size(damaged.positions.end.saturating_sub(damaged.positions.start)),
        reason: KStr::from(damaged.cause.to_string()),
    }
}

fn size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
