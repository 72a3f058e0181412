//! The settings that are in force, and those that were set while a broker ran: kept in the store, in force at
//! once, and again after a restart.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use parking_lot::Mutex;

use super::topics::Topics;
use crate::meta_store::{Expect, MetaError, MetaStore};
use crate::settings::{self, BrokerSettings, GroupOverrides, GroupOwn, Layer, Layers, SettingError, Written};

/// The entries of the store; what is set for one broker is told apart by its id.
const ALL_BROKERS: &str = "configs/brokers/";
const THIS_BROKER: &str = "configs/brokers/1";
/// The id of a group follows.
const GROUPS: &str = "configs/groups/";

/// Why settings were not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// What would be the default of all topics does not go with what one of them sets for itself.
    #[error("topic '{topic}' contradicts it: {error}")]
    Topic { topic: String, error: SettingError },
    #[error(transparent)]
    Store(#[from] MetaError),
}

/// Whether a change is made or only looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intent {
    Check,
    Change,
}

/// The settings of a running broker.
#[derive(Debug)]
pub(crate) struct LiveSettings {
    now: ArcSwap<BrokerSettings>,
    store: Arc<dyn MetaStore>,
    /// The store's versions of its entries. Changes come one at a time.
    changing: Mutex<Versions>,
}

#[derive(Debug)]
struct Versions {
    all_brokers: Expect,
    this_broker: Expect,
    /// Of those groups that have an entry.
    groups: BTreeMap<String, u64>,
}

impl LiveSettings {
    /// Puts what was set while earlier brokers ran over what this one was started with.
    pub(crate) fn load(settings: BrokerSettings, store: Arc<dyn MetaStore>) -> Result<Self, MetaError> {
        let (all_brokers, expect_all) = read(&*store, ALL_BROKERS)?;
        let (this_broker, expect_this) = read(&*store, THIS_BROKER)?;
        let layers = Layers { all_brokers, this_broker, ..settings.layers.clone() };
        // Only a running broker can take it back: it must not keep one from starting.
        let settings = BrokerSettings::of(layers).unwrap_or_else(|error| {
            tracing::error!(
                %error,
                "what was set while the broker ran contradicts what it was started with, and is left out until that \
                 is mended or it is set anew"
            );
            settings
        });
        let (own, groups) = read_groups(&*store)?;
        let settings = settings.with_groups(Arc::new(own));
        let changing = Mutex::new(Versions { all_brokers: expect_all, this_broker: expect_this, groups });
        Ok(Self { now: ArcSwap::from_pointee(settings), store, changing })
    }

    /// As they are at this moment.
    pub(crate) fn now(&self) -> Guard<Arc<BrokerSettings>> {
        self.now.load()
    }

    /// Changes what is set in one layer: durable, and in force, when this returns. Blocks on the disk.
    pub(crate) fn change(
        &self,
        layer: Layer,
        topics: &Topics,
        intent: Intent,
        edit: impl FnOnce(&BrokerSettings) -> Result<Written, SettingError>,
    ) -> Result<(), ChangeError> {
        let mut versions = self.changing.lock();
        let before = self.now.load_full();
        let written = edit(&before)?;
        let next = BrokerSettings::of(before.layers.with(layer, written))?;
        let next = next.with_groups(Arc::clone(&before.groups.own));
        let swap = topics.swap_defaults(&next.topic_defaults)?;
        if intent == Intent::Check {
            return Ok(());
        }
        let (key, expect) = match layer {
            Layer::AllBrokers => (ALL_BROKERS, &mut versions.all_brokers),
            Layer::ThisBroker => (THIS_BROKER, &mut versions.this_broker),
            Layer::AtStart => unreachable!("what a broker was started with is not changed"),
        };
        let value = serde_json::to_vec(next.layers.written(layer)).expect("text always serialises");
        *expect = Expect::Version(self.store.put(key, Bytes::from(value), *expect)?);
        swap.finish();
        self.now.store(Arc::new(next));
        tracing::info!(?layer, "settings changed");
        Ok(())
    }

    /// Changes what a group sets for itself: durable, and in force, when this returns. Whether there is such a group
    /// does not matter. Blocks on the disk.
    pub(crate) fn change_group(
        &self,
        group: &str,
        intent: Intent,
        edit: impl FnOnce(&BTreeMap<String, String>) -> Result<BTreeMap<String, String>, SettingError>,
    ) -> Result<(), ChangeError> {
        let mut versions = self.changing.lock();
        let before = self.now.load_full();
        let nothing = GroupOwn::default();
        let was = before.groups.own.get(group).unwrap_or(&nothing);
        let own = GroupOwn::new(edit(was.written())?)?;
        before.groups.consumer.times.check_own(&own)?;
        if intent == Intent::Check || own == *was {
            return Ok(());
        }
        let key = format!("{GROUPS}{group}");
        let expect = versions.groups.get(group).map_or(Expect::Absent, |version| Expect::Version(*version));
        let mut next = GroupOverrides::clone(&before.groups.own);
        if own.is_empty() {
            self.store.delete(&key, expect)?;
            versions.groups.remove(group);
            next.remove(group);
        } else {
            let value = serde_json::to_vec(own.written()).expect("text always serialises");
            let version = self.store.put(&key, Bytes::from(value), expect)?;
            versions.groups.insert(group.to_owned(), version);
            next.insert(group.to_owned(), own);
        }
        self.now.store(Arc::new(BrokerSettings::clone(&before).with_groups(Arc::new(next))));
        tracing::info!(group, "a group's settings changed");
        Ok(())
    }
}

/// What the store has of single groups.
fn read_groups(store: &dyn MetaStore) -> Result<(GroupOverrides, BTreeMap<String, u64>), MetaError> {
    let (mut own, mut versions) = (GroupOverrides::new(), BTreeMap::new());
    for (key, entry) in store.list(GROUPS)? {
        let group = key.strip_prefix(GROUPS).expect("it was asked for by this prefix").to_owned();
        let written: BTreeMap<String, String> = serde_json::from_slice(&entry.value)
            .map_err(|error| MetaError::corrupt(&key, &error.to_string()))?;
        // Bounds are not looked at: they may have moved since, and what is beyond them counts up to them.
        match GroupOwn::new(written) {
            Ok(of_group) => drop(own.insert(group.clone(), of_group)),
            Err(error) => tracing::error!(group, %error, "what was set for a group is left out"),
        }
        versions.insert(group, entry.version);
    }
    Ok((own, versions))
}

/// What the store has of one layer; what is not known any more, or not set while a broker runs, is left out.
fn read(store: &dyn MetaStore, key: &str) -> Result<(Written, Expect), MetaError> {
    let Some(entry) = store.get(key)? else { return Ok((Written::new(), Expect::Absent)) };
    let stored: BTreeMap<String, String> =
        serde_json::from_slice(&entry.value).map_err(|error| MetaError::corrupt(key, &error.to_string()))?;
    let mut written = Written::new();
    for (name, value) in &stored {
        if let Err(error) = settings::write_live(&mut written, name, value) {
            tracing::error!(%error, "what was set while an earlier broker ran is left out");
        }
    }
    Ok((written, Expect::Version(entry.version)))
}
