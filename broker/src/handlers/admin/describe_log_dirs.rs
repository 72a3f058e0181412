//! DescribeLogDirs, key 35, versions 1 to 4: which partitions lie in which data folder, and how large they are.
//!
//! 3: an error for the whole reply. 4: the size of the disk and its free bytes. Asks the file system, so it
//! runs on the control plane.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use millstream_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use millstream_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use millstream_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use millstream_protocol::{ErrorCode, KStr};

use crate::dispatch::{Answer, Call, Handler};
use crate::metadata::topics::Snapshot;
use crate::storage::directory::Directory;
use crate::storage::folders::Missing;

pub(crate) struct DescribeLogDirs;

impl Handler for DescribeLogDirs {
    type Request = DescribeLogDirsRequest;
    const VERSIONS: RangeInclusive<i16> = 1..=4;

    fn handle(call: Call, request: DescribeLogDirsRequest) -> Answer<DescribeLogDirsResponse> {
        Answer::blocking(&call.clone(), move || answer(&call, &request))
    }
}

/// What was asked for; `None`: everything.
type Wanted<'a> = Option<HashSet<(&'a str, i32)>>;

fn answer(call: &Call, request: &DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let wanted: Wanted<'_> = request.topics.as_ref().map(|topics| topics.iter().flat_map(named).collect());
    let topics = &call.node.topics;
    let snapshot = topics.snapshot();
    let used = topics.directories().iter().map(|directory| describe(&snapshot, directory, &wanted));
    let missing = topics.missing_directories().iter().map(|missing| describe_missing(missing));
    DescribeLogDirsResponse { results: used.chain(missing).collect(), ..Default::default() }
}

fn named(topic: &DescribableLogDirTopic) -> impl Iterator<Item = (&str, i32)> {
    topic.partitions.iter().map(|index| (&*topic.topic, *index))
}

fn describe(snapshot: &Snapshot, directory: &Directory, wanted: &Wanted<'_>) -> DescribeLogDirsResult {
    let is_wanted = |name: &str, index| wanted.as_ref().is_none_or(|wanted| wanted.contains(&(name, index)));
    let topics = snapshot.sorted().into_iter().filter_map(|topic| {
        let here = topic.partitions.iter().filter(|one| one.is_on(directory));
        let here = here.filter(|partition| is_wanted(&topic.name, partition.index));
        let partitions: Vec<_> = here
            .map(|partition| DescribeLogDirsPartition {
                partition_index: partition.index,
                partition_size: size(partition.log().map_or(0, |log| log.size_bytes())),
                ..Default::default()
            })
            .collect();
        (!partitions.is_empty()).then(|| DescribeLogDirsTopic { name: topic.name.clone(), partitions })
    });
    let topics = topics.collect();
    let log_dir = KStr::from(directory.path.display().to_string());
    match directory.disk.space(&directory.path) {
        Ok(space) => DescribeLogDirsResult {
            log_dir,
            topics,
            total_bytes: size(space.total_bytes),
            usable_bytes: size(space.free_bytes),
            ..Default::default()
        },
        Err(_) => {
            let error_code = ErrorCode::KafkaStorageError.code();
            DescribeLogDirsResult { error_code, log_dir, topics, ..Default::default() }
        }
    }
}

fn describe_missing(missing: &Missing) -> DescribeLogDirsResult {
    DescribeLogDirsResult {
        error_code: ErrorCode::KafkaStorageError.code(),
        log_dir: KStr::from(missing.path.display().to_string()),
        ..Default::default()
    }
}

fn size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
