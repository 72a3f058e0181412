//! Settings of topics, and the defaults of all of them, changed while their logs are open.
//!
//! A log that is being opened meanwhile is told once it is open: whoever opens it and whoever changes settings
//! meet at `changing`.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::MutexGuard;

use super::{KEY_PREFIX, Partition, Snapshot, StoredTopic, Topic, TopicError, Topics, encode, home_ids};
use crate::meta_store::Expect;
use crate::metadata::live_settings::{ChangeError, Intent};
use crate::settings::{SettingError, TopicSettings};
use crate::storage::directory::Home;

/// What is set for one topic, as it was written.
pub(crate) type Overrides = BTreeMap<String, String>;

/// Other defaults for all topics, which were found to go with what each of them sets. Nothing else changes before this
/// is finished or dropped.
pub(crate) struct DefaultsSwap<'a> {
    topics: &'a Topics,
    changing: MutexGuard<'a, TopicSettings>,
    defaults: TopicSettings,
    next: Snapshot,
}

impl Topics {
    /// Changes what a topic sets for itself: durable, and known to its logs, when this returns. Blocks on the
    /// disk.
    pub(crate) fn configure(
        &self,
        name: &str,
        intent: Intent,
        edit: impl FnOnce(&Overrides) -> Result<Overrides, SettingError>,
    ) -> Result<(), TopicError> {
        let defaults = self.changing.lock();
        let snapshot = self.snapshot();
        let unknown = || TopicError::Unknown(name.to_owned().into());
        let topic = snapshot.named(name).ok_or_else(unknown)?;
        let configs = edit(&topic.configs)?;
        let settings = defaults.with_overrides(&configs)?;
        if intent == Intent::Check || configs == topic.configs {
            return Ok(());
        }
        let homes: Vec<Home> = topic.partitions.iter().map(|partition| partition.home.clone()).collect();
        let stored = StoredTopic { id: topic.id, partitions: homes.len(), configs, homes: home_ids(&homes) };
        let key = format!("{KEY_PREFIX}{name}");
        let version = self.store.put(&key, encode(&stored), Expect::Version(topic.version))?;
        let next = topic.configured(settings, stored.configs, version);
        self.snapshot.store(Arc::new(snapshot.with(Arc::clone(&next))));
        next.tell_logs();
        tracing::info!(topic = name, configs = ?next.configs, "a topic's settings changed");
        Ok(())
    }

    /// Looks whether other defaults go with every topic.
    pub(crate) fn swap_defaults(&self, defaults: &TopicSettings) -> Result<DefaultsSwap<'_>, ChangeError> {
        let changing = self.changing.lock();
        let mut next = Snapshot::default();
        for topic in self.snapshot().sorted() {
            let settings = defaults.with_overrides(&topic.configs);
            let settings =
                settings.map_err(|error| ChangeError::Topic { topic: topic.name.to_string(), error })?;
            let topic = topic.configured(settings, topic.configs.clone(), topic.version);
            next.by_id.insert(topic.id, Arc::clone(&topic));
            next.by_name.insert(topic.name.clone(), topic);
        }
        Ok(DefaultsSwap { topics: self, changing, defaults: defaults.clone(), next })
    }

    /// Tells a log that was just opened what its topic's settings are by now.
    pub(super) fn tell_settings(&self, topic: &Topic, partition: &Partition) {
        let _changing = self.changing.lock();
        if let Some(now) = self.snapshot().identified(topic.id)
            && let Ok(log) = partition.log()
        {
            log.reconfigure(now.settings.log_config());
        }
    }
}

impl DefaultsSwap<'_> {
    /// From now on they hold.
    pub(crate) fn finish(mut self) {
        *self.changing = self.defaults;
        self.topics.snapshot.store(Arc::new(self.next));
        for topic in self.topics.snapshot().sorted() {
            topic.tell_logs();
        }
    }
}

impl Topic {
    /// The same topic with other settings.
    fn configured(&self, settings: TopicSettings, configs: Overrides, version: u64) -> Arc<Self> {
        let (id, name, partitions) = (self.id, self.name.clone(), self.partitions.clone());
        Arc::new(Self { id, name, settings, configs, partitions, version })
    }

    fn tell_logs(&self) {
        for log in self.partitions.iter().filter_map(|partition| partition.log().ok()) {
            log.reconfigure(self.settings.log_config());
        }
    }
}
