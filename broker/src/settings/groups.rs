//! What the group coordinator needs of the broker's settings.

use super::{Written, number, size};

/// Settings of groups.
#[derive(Debug, Clone)]
pub(crate) struct GroupSettings {
    /// Of `__consumer_offsets`, when it is made.
    pub(crate) partitions: i64,
    /// Of `__consumer_offsets`, when it is made.
    pub(crate) segment_bytes: i64,
    /// Characters that may be kept with an offset.
    pub(crate) offset_metadata_max: usize,
}

impl GroupSettings {
    pub(super) fn new(written: &Written) -> Self {
        Self {
            partitions: number(written, "offsets.topic.num.partitions"),
            segment_bytes: number(written, "offsets.topic.segment.bytes"),
            offset_metadata_max: size(written, "offset.metadata.max.bytes"),
        }
    }
}
