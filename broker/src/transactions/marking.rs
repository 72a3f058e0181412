//! Writes a marker to a partition: to its log, or, where offsets are kept, through the coordinator of their groups.

use std::sync::Arc;

use millstream_log::Marker;

use super::TopicPartition;
use super::markers::append;
use crate::coordinator::MarkerError;
use crate::dispatch::Boxed;
use crate::metadata::topic_name::CONSUMER_OFFSETS;
use crate::node::Node;

/// Why a partition does not have its marker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MarkError {
    #[error("there is no such partition")]
    NoPartition,
    #[error("its log is not open: {0}")]
    NotOpen(String),
    #[error(transparent)]
    Refused(#[from] MarkerError),
}

/// Writes it at once. Ready when the marker is durable, or refused.
pub(crate) fn mark(
    node: &Arc<Node>,
    partition: &TopicPartition,
    marker: Marker,
) -> Boxed<Result<(), MarkError>> {
    if partition.topic == CONSUMER_OFFSETS {
        let marked = node.groups.append_marker(node, partition.partition, marker);
        return Box::pin(async move { Ok(marked.await?) });
    }
    let snapshot = node.topics.snapshot();
    let found = snapshot.named(&partition.topic).and_then(|topic| topic.partition(partition.partition));
    let log = match found.map(|partition| partition.log()) {
        None => return Box::pin(std::future::ready(Err(MarkError::NoPartition))),
        Some(Err(error)) => return Box::pin(std::future::ready(Err(MarkError::NotOpen(error.to_string())))),
        Some(Ok(log)) => log,
    };
    let written = append(log, marker);
    Box::pin(async move { written.await.map_err(|error| MarkError::Refused(MarkerError::Log(error))) })
}
