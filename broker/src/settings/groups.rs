//! What the group coordinator needs of the broker's settings.

use std::time::Duration;

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
    /// How long offsets are kept that nobody uses; `None`: for ever.
    pub(crate) offsets_retention: Option<Duration>,
    /// How often it is looked for what has expired.
    pub(crate) clean_up_each: Duration,
}

impl GroupSettings {
    /// The defaults.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self::new(&Written::new())
    }

    pub(super) fn new(written: &Written) -> Self {
        Self {
            partitions: number(written, "offsets.topic.num.partitions"),
            segment_bytes: number(written, "offsets.topic.segment.bytes"),
            offset_metadata_max: size(written, "offset.metadata.max.bytes"),
            offsets_retention: u64::try_from(number(written, "offsets.retention.minutes"))
                .ok()
                .map(|minutes| Duration::from_secs(minutes.saturating_mul(60))),
            clean_up_each: Duration::from_millis(size(written, "offsets.retention.check.interval.ms") as u64),
        }
    }
}
