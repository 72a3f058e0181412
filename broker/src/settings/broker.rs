//! The broker's settings, narrowed to what its parts need.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::storage::space::LowWater;

use super::{
    GroupOverrides, GroupSettings, Layers, SettingError, TopicSettings, TransactionSettings, Written, flag,
    in_force, number, parse_address, size,
};

/// What a Produce request needs besides its batch: header, topic name, array lengths.
pub(super) const REQUEST_AROUND_BATCH_BYTES: usize = 1024;

/// What happens to topics that ask for more replicas than there are brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplicationPolicy {
    Strict,
    Virtual,
}

/// Settings of this broker, checked together.
#[derive(Debug, Clone)]
pub(crate) struct BrokerSettings {
    /// What was set where, as it was written: DescribeConfigs tells it from the defaults.
    pub(crate) layers: Layers,
    /// The same put over each other.
    written: Written,
    /// What topics get that set nothing of their own.
    pub(crate) topic_defaults: TopicSettings,
    pub(crate) partitions: i32,
    pub(crate) auto_create_topics: bool,
    pub(crate) delete_topics: bool,
    pub(crate) replication_policy: ReplicationPolicy,
    pub(crate) frame_bytes_max: usize,
    pub(crate) frames_in_flight_bytes: usize,
    pub(crate) decompressed_bytes_max: usize,
    pub(crate) connections_max: usize,
    pub(crate) idle_after: Duration,
    pub(crate) fetch_bytes_max: usize,
    pub(crate) fetch_session_slots: usize,
    pub(crate) flusher_threads: usize,
    /// How long a wall clock that jumped is not believed.
    pub(crate) clock_hold: Duration,
    /// Threads of the data plane; 0: one for each processor.
    pub(crate) data_threads: usize,
    pub(crate) advertised: Option<(String, u16)>,
    pub(crate) low_water: LowWater,
    pub(crate) retention_check_interval: Duration,
    /// Memory for the keys of one run of compaction.
    pub(crate) dedupe_buffer_bytes: usize,
    /// `None`: compaction goes as fast as it can.
    pub(crate) cleaner_bytes_per_second: Option<NonZeroU64>,
    /// How long the cleaner rests when there is nothing to compact.
    pub(crate) cleaner_backoff: Duration,
    /// `None`: nothing is scrubbed.
    pub(crate) scrub_bytes_per_second: Option<NonZeroU64>,
    pub(crate) groups: GroupSettings,
    pub(crate) transactions: TransactionSettings,
}

impl BrokerSettings {
    /// The settings of a broker for which nothing was set while it ran.
    ///
    /// # Errors
    /// Two settings contradict each other.
    pub(crate) fn new(at_start: Written) -> Result<Self, SettingError> {
        Self::of(Layers { at_start, ..Layers::default() })
    }

    /// # Errors
    /// Two settings contradict each other.
    pub(crate) fn of(layers: Layers) -> Result<Self, SettingError> {
        let written = layers.flat();
        let topic_defaults = TopicSettings::new(&written);
        let frame_bytes_max = size(&written, "socket.request.max.bytes");
        let frames_in_flight_bytes = size(&written, "queued.max.request.bytes");
        let batch = topic_defaults.max_message_bytes;
        if frame_bytes_max < batch.saturating_add(REQUEST_AROUND_BATCH_BYTES) {
            return Err(SettingError::FrameBelowBatch { frame: frame_bytes_max, batch });
        }
        if frames_in_flight_bytes < frame_bytes_max {
            let (budget, frame) = (frames_in_flight_bytes, frame_bytes_max);
            return Err(SettingError::BudgetBelowFrame { budget, frame });
        }
        check_data_dirs(&written)?;
        topic_defaults.check_lags()?;
        let groups = GroupSettings::new(&written);
        groups.consumer.times.check()?;
        let replication_policy = match in_force(&written, "replication.factor.policy") {
            "virtual" => ReplicationPolicy::Virtual,
            _ => ReplicationPolicy::Strict,
        };
        Ok(Self {
            topic_defaults,
            partitions: i32::try_from(number(&written, "num.partitions")).expect("bounded by its knob"),
            auto_create_topics: flag(&written, "auto.create.topics.enable"),
            delete_topics: flag(&written, "delete.topic.enable"),
            replication_policy,
            frame_bytes_max,
            frames_in_flight_bytes,
            decompressed_bytes_max: size(&written, "decompressed.batch.max.bytes"),
            connections_max: size(&written, "max.connections"),
            idle_after: millis(&written, "connections.max.idle.ms"),
            fetch_bytes_max: size(&written, "fetch.max.bytes"),
            fetch_session_slots: size(&written, "max.incremental.fetch.session.cache.slots"),
            clock_hold: millis(&written, "log.retention.clock.hold.ms"),
            flusher_threads: size(&written, "log.flusher.threads"),
            data_threads: size(&written, "num.network.threads"),
            advertised: parse_address(in_force(&written, "advertised.listeners")),
            low_water: match u64::try_from(number(&written, "log.disk.free.min.bytes")) {
                Ok(bytes) => LowWater::Bytes(bytes),
                Err(_) => LowWater::Chosen,
            },
            retention_check_interval: millis(&written, "log.retention.check.interval.ms"),
            dedupe_buffer_bytes: size(&written, "log.cleaner.dedupe.buffer.size"),
            cleaner_bytes_per_second: match number(&written, "log.cleaner.io.max.bytes.per.second") {
                i64::MAX => None,
                rate => u64::try_from(rate).ok().and_then(NonZeroU64::new),
            },
            cleaner_backoff: millis(&written, "log.cleaner.backoff.ms"),
            scrub_bytes_per_second: NonZeroU64::new(size(&written, "log.scrub.max.bytes.per.second") as u64),
            groups,
            transactions: TransactionSettings::new(&written),
            layers,
            written,
        })
    }

    /// The same, with what single groups set for themselves.
    pub(crate) fn with_groups(mut self, own: Arc<GroupOverrides>) -> Self {
        self.groups.own = own;
        self
    }

    /// The data folders, the one with the metadata first.
    pub(crate) fn data_dirs(&self) -> Vec<PathBuf> {
        match self.text("log.dirs") {
            "" => vec![self.text("log.dir").into()],
            listed => listed.split(',').map(|path| path.trim().into()).collect(),
        }
    }

    pub(crate) fn text(&self, name: &'static str) -> &str {
        in_force(&self.written, name)
    }
}

fn check_data_dirs(written: &Written) -> Result<(), SettingError> {
    let listed = in_force(written, "log.dirs");
    if listed.is_empty() {
        return Ok(());
    }
    if written.contains_key("log.dir") {
        return Err(SettingError::TwoForOne { one: "log.dir", other: "log.dirs" });
    }
    let paths: Vec<&str> = listed.split(',').map(str::trim).collect();
    let is_wrong = |(at, path): (usize, &&str)| path.is_empty() || paths[..at].contains(path);
    match paths.iter().enumerate().any(is_wrong) {
        true => Err(SettingError::NotAListOfPaths { name: "log.dirs", value: listed.to_owned() }),
        false => Ok(()),
    }
}

pub(super) fn millis(written: &Written, name: &'static str) -> Duration {
    Duration::from_millis(u64::try_from(number(written, name)).expect("bounded below by zero"))
}
