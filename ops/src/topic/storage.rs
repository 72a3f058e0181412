//! How a topic is stored, for `topic describe`. Kafka's brokers do not tell; what they do not tell is left out.

use millstream_client::{
    Admin, ClientError, DescribeStorageError, PartitionStorage, Quarantined, TopicStorage,
};
use millstream_log::{Clock, SystemClock};
use millstream_protocol::StorageState;
use serde_json::{Value, json};

use crate::output;
use crate::text::{human_bytes, human_count, moment, plural};

/// What every description shows of it.
pub(super) const COLUMNS: [&str; 3] = ["size", "oldest record", "next deletion"];

/// `None` if the broker does not know the question, unless it was asked for by name.
///
/// # Errors
/// What the broker answered.
pub(super) async fn ask(admin: &Admin, topic: &str, by_name: bool) -> anyhow::Result<Option<TopicStorage>> {
    match admin.describe_storage(topic).await {
        Ok(storage) => Ok(Some(storage)),
        Err(DescribeStorageError::Request(ClientError::UnsupportedVersion { .. })) if !by_name => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The cells of [`COLUMNS`] for one partition.
pub(super) fn columns(storage: &TopicStorage, partition: i32) -> Vec<String> {
    let Some(found) = storage.partitions.iter().find(|found| found.partition == partition) else {
        return vec!["-".to_owned(); COLUMNS.len()];
    };
    let now_ms = SystemClock.now_ms();
    let oldest = found.oldest_record_ms.map_or_else(|| "-".to_owned(), |at_ms| moment(at_ms, now_ms));
    vec![human_bytes(found.bytes), oldest, next_deletion(found, now_ms)]
}

fn next_deletion(found: &PartitionStorage, now_ms: i64) -> String {
    let when = found.next_deletion_ms.map(|at_ms| match at_ms > now_ms {
        true => moment(at_ms, now_ms),
        false => "due now".to_owned(),
    });
    match (when, &found.next_deletion_reason) {
        (Some(when), Some(reason)) => format!("{when}: {reason}"),
        (Some(when), None) => when,
        (None, Some(reason)) => reason.clone(),
        (None, None) => "none".to_owned(),
    }
}

/// What `--storage` adds.
///
/// # Errors
/// When standard output cannot be written.
pub(super) fn print(storage: &TopicStorage) -> anyhow::Result<()> {
    let now_ms = SystemClock.now_ms();
    let offset = |offset: Option<i64>| offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
    let row = |found: &PartitionStorage| {
        let compaction = match (found.is_compacted, found.last_compaction_ms) {
            (false, _) => "off".to_owned(),
            (true, None) => format!("{} to do", human_bytes(found.dirty_bytes)),
            (true, Some(at_ms)) => {
                format!("{} to do, last {}", human_bytes(found.dirty_bytes), moment(at_ms, now_ms))
            }
        };
        vec![
            found.partition.to_string(),
            state(found.state).to_owned(),
            found.segments.to_string(),
            offset(found.durable),
            offset(found.log_end),
            compaction,
            found.directory.clone(),
        ]
    };
    let header = ["partition", "state", "segments", "on device to", "end", "compaction", "folder"];
    output::table(&header, storage.partitions.iter().map(row).collect())?;
    for found in &storage.partitions {
        if let Some(problem) = &found.problem {
            output::line(&format!("partition {}: {problem}", found.partition))?;
        }
        for range in &found.quarantined {
            output::line(&format!("partition {}: {}", found.partition, damage(range)))?;
        }
    }
    let row = |folder: &millstream_client::DataDirectory| {
        let takes = match (&folder.problem, folder.is_refusing) {
            (Some(problem), _) => problem.clone(),
            (None, true) => {
                format!("refuses records: less than {} is free", human_bytes(folder.free_bytes_min))
            }
            (None, false) => "takes records".to_owned(),
        };
        vec![folder.path.clone(), human_bytes(folder.free_bytes), human_bytes(folder.total_bytes), takes]
    };
    output::table(&["folder", "free", "of", "state"], storage.directories.iter().map(row).collect())
}

fn damage(range: &Quarantined) -> String {
    let count = u64::try_from(range.to - range.from).unwrap_or(0);
    format!(
        "{} {} from {} to {} cannot be read, {}: {}",
        human_count(count),
        plural(count, "offset", "offsets"),
        range.from,
        range.to - 1,
        human_bytes(range.bytes),
        range.reason
    )
}

fn state(state: Option<StorageState>) -> &'static str {
    match state {
        Some(StorageState::Ok) => "ok",
        Some(StorageState::Recovering) => "recovering",
        Some(StorageState::ReadOnly) => "read only",
        Some(StorageState::Unavailable) => "unavailable",
        Some(_) | None => "unknown",
    }
}

/// The same for scripts: numbers as they are.
pub(super) fn as_json(storage: &TopicStorage) -> Value {
    let quarantined = |range: &Quarantined| json!({"from": range.from, "to": range.to, "bytes": range.bytes, "reason": range.reason});
    let partition = |found: &PartitionStorage| {
        json!({
            "partition": found.partition, "state": state(found.state), "problem": found.problem,
            "directory": found.directory, "segments": found.segments, "bytes": found.bytes,
            "log_start": found.log_start, "high_watermark": found.high_watermark, "log_end": found.log_end,
            "durable": found.durable, "oldest_record_ms": found.oldest_record_ms,
            "next_deletion_ms": found.next_deletion_ms, "next_deletion_reason": found.next_deletion_reason,
            "is_compacted": found.is_compacted, "cleaned_to": found.cleaned_to, "dirty_bytes": found.dirty_bytes,
            "last_compaction_ms": found.last_compaction_ms,
            "quarantined": found.quarantined.iter().map(quarantined).collect::<Vec<_>>(),
        })
    };
    let folder = |folder: &millstream_client::DataDirectory| {
        json!({
            "path": folder.path, "problem": folder.problem, "free_bytes": folder.free_bytes,
            "total_bytes": folder.total_bytes, "free_bytes_min": folder.free_bytes_min,
            "is_refusing": folder.is_refusing,
        })
    };
    json!({
        "partitions": storage.partitions.iter().map(partition).collect::<Vec<_>>(),
        "directories": storage.directories.iter().map(folder).collect::<Vec<_>>(),
    })
}
