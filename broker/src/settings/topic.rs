//! A topic's settings, narrowed to what produce and the log need.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_log::{CleanupPolicy, DurabilityMode, LogConfig};
use millstream_protocol::records::{Compression, TimestampType};

use super::{Knob, REGISTRY, SettingError, Written, in_force, number, ppm, topic_knob, words};

/// Settings of one topic, or the defaults of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicSettings {
    pub(crate) max_message_bytes: usize,
    /// `None`: as the producer sent it.
    pub(crate) compression: Option<Compression>,
    pub(crate) timestamp_type: TimestampType,
    pub(crate) timestamp_before_max_ms: i64,
    pub(crate) timestamp_after_max_ms: i64,
    log: LogConfig,
}

impl TopicSettings {
    /// What the broker's settings make the default of all topics.
    pub(super) fn new(written: &Written) -> Self {
        let mut settings = Self {
            max_message_bytes: 0,
            compression: None,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: 0,
            timestamp_after_max_ms: 0,
            log: LogConfig {
                producer_expiration: millis(number(written, "producer.id.expiration.ms")),
                ..LogConfig::default()
            },
        };
        for knob in REGISTRY.iter().filter(|knob| knob.topic_name().is_some()) {
            settings.set(knob, in_force(written, knob.name));
        }
        settings
    }

    /// These settings with what one topic sets for itself, by the topic's names.
    ///
    /// # Errors
    /// A name or a value is not legal for a topic.
    pub(crate) fn with_overrides(&self, overrides: &BTreeMap<String, String>) -> Result<Self, SettingError> {
        let mut settings = self.clone();
        for (name, value) in overrides {
            let knob = topic_knob(name)?;
            knob.check_as(knob.topic_name().unwrap_or(knob.name), value)?;
            settings.set(knob, value);
        }
        settings.check_lags()?;
        Ok(settings)
    }

    /// Both lags may come from different places: relations are checked once all is known.
    pub(super) fn check_lags(&self) -> Result<(), SettingError> {
        let (min, max) = (self.log.min_compaction_lag, self.log.max_compaction_lag);
        match min <= max {
            true => Ok(()),
            false => Err(SettingError::LagsCross { min: min.as_millis(), max: max.as_millis() }),
        }
    }

    /// How the logs of this topic store.
    pub(crate) fn log_config(&self) -> LogConfig {
        self.log.clone()
    }

    /// What becomes of old records.
    pub(crate) fn cleanup(&self) -> CleanupPolicy {
        self.log.cleanup
    }

    /// Takes over a value that has been checked.
    fn set(&mut self, knob: &Knob, value: &str) {
        let number = || value.parse::<i64>().expect("numbers are checked when they are written");
        let bytes = || u64::try_from(number()).expect("sizes are bounded below by zero");
        match knob.name {
            // Below zero: none.
            "log.retention.bytes" => self.log.retention_bytes = u64::try_from(number()).ok(),
            "log.retention.ms" => {
                self.log.retention_age = u64::try_from(number()).ok().map(Duration::from_millis);
            }
            "log.cleaner.delete.retention.ms" => self.log.delete_retention = millis(number()),
            "log.cleaner.max.compaction.lag.ms" => {
                self.log.max_compaction_lag = match number() {
                    i64::MAX => Duration::MAX,
                    lag => millis(lag),
                }
            }
            "log.cleaner.min.cleanable.ratio" => {
                self.log.min_dirty_ppm = ppm(value).expect("ratios are checked when they are written");
            }
            "log.cleaner.min.compaction.lag.ms" => self.log.min_compaction_lag = millis(number()),
            "log.cleanup.policy" => self.log.cleanup = cleanup(value),
            "compression.type" => self.compression = codec(value),
            "log.durability" => {
                self.log.durability = match value {
                    "written" => DurabilityMode::Written,
                    _ => DurabilityMode::Fsync,
                }
            }
            "log.flush.interval.messages" => self.log.flush_records = bytes(),
            "log.flush.interval.ms" => {
                self.log.flush_interval = Some(millis(number())).filter(|_| number() < i64::MAX);
            }
            "log.index.interval.bytes" => self.log.index_interval_bytes = bytes(),
            "log.index.size.max.bytes" => self.log.index_bytes_max = bytes(),
            "log.message.timestamp.after.max.ms" => self.timestamp_after_max_ms = number(),
            "log.message.timestamp.before.max.ms" => self.timestamp_before_max_ms = number(),
            "log.message.timestamp.type" => {
                self.timestamp_type = match value {
                    "LogAppendTime" => TimestampType::LogAppendTime,
                    _ => TimestampType::CreateTime,
                }
            }
            "log.preallocate" => self.log.preallocate = value == "true",
            "log.roll.ms" => self.log.segment_age = millis(number()),
            "log.segment.bytes" => self.log.segment_bytes = bytes(),
            // One value is legal, and it is what happens.
            "log.roll.jitter.ms"
            | "log.segment.delete.delay.ms"
            | "min.insync.replicas"
            | "unclean.leader.election.enable" => {}
            "message.max.bytes" => {
                self.max_message_bytes = usize::try_from(number()).expect("sizes are bounded below by zero");
            }
            other => unreachable!("{other} is a topic's knob without a field"),
        }
    }
}

fn cleanup(list: &str) -> CleanupPolicy {
    let names = |policy: &str| words(list).any(|word| word == policy);
    match (names("compact"), names("delete")) {
        (true, true) => CleanupPolicy::CompactAndDelete,
        (true, false) => CleanupPolicy::Compact,
        (false, true) => CleanupPolicy::Delete,
        (false, false) => CleanupPolicy::Keep,
    }
}

fn codec(name: &str) -> Option<Compression> {
    match name {
        "uncompressed" => Some(Compression::None),
        "gzip" => Some(Compression::Gzip),
        "snappy" => Some(Compression::Snappy),
        "lz4" => Some(Compression::Lz4),
        "zstd" => Some(Compression::Zstd),
        _ => None,
    }
}

fn millis(number: i64) -> Duration {
    Duration::from_millis(u64::try_from(number).expect("ages are bounded below by zero"))
}
