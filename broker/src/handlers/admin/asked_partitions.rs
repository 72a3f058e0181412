//! Topics and partitions as our own administrative requests name them: no partition means all of them.

use std::sync::Arc;

use millstream_protocol::ErrorCode;

use crate::metadata::topics::{Partition, Topic};

/// The partitions that were asked for, by their numbers; those that are not there as errors.
pub(super) fn partitions<'a>(
    topic: &'a Topic,
    asked: &[i32],
) -> Vec<(i32, Result<&'a Arc<Partition>, ErrorCode>)> {
    if asked.is_empty() {
        return topic.partitions.iter().map(|partition| (partition.index, Ok(partition))).collect();
    }
    let find = |index: &i32| (*index, topic.partition(*index).ok_or(ErrorCode::UnknownTopicOrPartition));
    asked.iter().map(find).collect()
}
