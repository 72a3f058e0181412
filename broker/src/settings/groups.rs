//! What the group coordinator needs of the broker's settings.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::broker::millis;
use super::group_times::{GroupOverrides, GroupTimes, Pace};
use super::{Written, in_force, number, size};
use crate::groups::{Assignor, MigrationPolicy};

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
    /// How long a group with members may commit nothing while more and more records wait, before it is stuck.
    pub(crate) stuck_after: Duration,
    /// How often it is looked for what has expired.
    pub(crate) clean_up_each: Duration,
    /// How long the first members of a classic group wait for others.
    pub(crate) initial_rebalance_delay: Duration,
    /// The most members of a classic group.
    pub(crate) members_max: usize,
    /// Session timeouts that a classic member may have, in milliseconds.
    pub(crate) session_ms: RangeInclusive<i32>,
    /// Of groups of the new protocol.
    pub(crate) consumer: ConsumerSettings,
    /// What single groups set for themselves.
    pub(crate) own: Arc<GroupOverrides>,
}

/// Settings of groups of the new protocol (KIP-848).
#[derive(Debug, Clone)]
pub(crate) struct ConsumerSettings {
    /// What a group may set for itself as well.
    pub(crate) times: GroupTimes,
    pub(crate) members_max: usize,
    /// Those that members may ask for; the first is everybody's who does not.
    pub(crate) assignors: Vec<Assignor>,
    pub(crate) migration: MigrationPolicy,
}

impl ConsumerSettings {
    fn new(written: &Written) -> Self {
        let assignors = in_force(written, "group.consumer.assignors").split(',');
        let policy = in_force(written, "group.consumer.migration.policy");
        Self {
            times: GroupTimes::new(written),
            members_max: size(written, "group.consumer.max.size"),
            assignors: assignors.filter_map(|name| Assignor::named(name.trim())).collect(),
            migration: MigrationPolicy::named(policy).expect("words are checked when they are written"),
        }
    }
}

impl GroupSettings {
    /// The defaults.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self::new(&Written::new())
    }

    /// The defaults, but for the least time between two targets of a group.
    #[cfg(test)]
    pub(crate) fn assigning_each(interval: Duration) -> Self {
        let name = "group.consumer.assignment.interval.ms";
        Self::new(&Written::from([(name, interval.as_millis().to_string())]))
    }

    pub(super) fn new(written: &Written) -> Self {
        Self {
            partitions: number(written, "offsets.topic.num.partitions"),
            segment_bytes: number(written, "offsets.topic.segment.bytes"),
            offset_metadata_max: size(written, "offset.metadata.max.bytes"),
            offsets_retention: u64::try_from(number(written, "offsets.retention.minutes"))
                .ok()
                .map(|minutes| Duration::from_secs(minutes.saturating_mul(60))),
            stuck_after: Duration::from_millis(size(written, "group.stuck.after.ms") as u64),
            clean_up_each: Duration::from_millis(size(written, "offsets.retention.check.interval.ms") as u64),
            initial_rebalance_delay: millis(written, "group.initial.rebalance.delay.ms"),
            members_max: size(written, "group.max.size"),
            session_ms: milliseconds(written, "group.min.session.timeout.ms")
                ..=milliseconds(written, "group.max.session.timeout.ms"),
            consumer: ConsumerSettings::new(written),
            own: Arc::default(),
        }
    }

    /// The times of one group of the new protocol.
    pub(crate) fn pace(&self, group: &str) -> Pace {
        self.consumer.times.pace(self.own.get(group))
    }
}

/// As the protocol carries it.
fn milliseconds(written: &Written, name: &'static str) -> i32 {
    i32::try_from(number(written, name)).expect("bounded by its knob")
}
