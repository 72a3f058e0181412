//! The topics of this node: a snapshot that every request reads without a lock, and the few operations
//! that change it, one at a time.
//!
//! Order of a creation: empty logs, then the store, then the snapshot. The entry in the store is what makes
//! a topic exist. A crash in between leaves folders that no topic owns, without a byte in them; the next start
//! removes these. A deletion goes the other way (`deleting`).

mod configuring;
mod deleting;
mod logs;
mod partition;
mod recovering;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use foldhash::fast::RandomState;
use millstream_log::{FlushError, LeaderEpoch, Log, OpenError};
use millstream_protocol::{KStr, Uuid};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::topic_name::{self, TopicNameError};
use crate::machine::Uuids;
use crate::meta_store::{Entry, Expect, MetaError, MetaStore};
use crate::settings::{SettingError, TopicSettings};
use crate::storage::directory::{Directory, Home};
use crate::storage::folders::{FIRST, Missing};

pub(crate) use configuring::Overrides;
pub(crate) use deleting::Leftover;
pub(crate) use logs::Logs;
pub(crate) use partition::{Partition, Unavailable};
pub(crate) use recovering::RecoveryProgress;
pub use recovering::RecoverySummary;

const KEY_PREFIX: &str = "topics/";

/// Partitions that one topic may have.
pub(crate) const PARTITIONS_MAX: usize = 10_000;

/// One topic. Replaced as a whole when it changes; its partitions are shared between the versions.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) id: Uuid,
    pub(crate) name: KStr,
    pub(crate) settings: TopicSettings,
    /// What was set for this topic, as it was written.
    pub(crate) configs: Overrides,
    pub(crate) partitions: Vec<Arc<Partition>>,
    /// The store's version of this topic's entry.
    version: u64,
}

impl Topic {
    pub(crate) fn partition(&self, index: i32) -> Option<&Arc<Partition>> {
        self.partitions.get(usize::try_from(index).ok()?)
    }
}

/// All topics at one moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    by_name: HashMap<KStr, Arc<Topic>, RandomState>,
    by_id: HashMap<Uuid, Arc<Topic>, RandomState>,
}

impl Snapshot {
    pub(crate) fn named(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name)
    }

    pub(crate) fn identified(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.by_id.get(&id)
    }

    /// All topics in the order of their names.
    pub(crate) fn sorted(&self) -> Vec<&Arc<Topic>> {
        let mut topics: Vec<_> = self.by_name.values().collect();
        topics.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        topics
    }

    fn with(&self, topic: Arc<Topic>) -> Self {
        let mut next = Self { by_name: self.by_name.clone(), by_id: self.by_id.clone() };
        next.by_id.insert(topic.id, Arc::clone(&topic));
        next.by_name.insert(topic.name.clone(), topic);
        next
    }

    fn without(&self, topic: &Topic) -> Self {
        let mut next = Self { by_name: self.by_name.clone(), by_id: self.by_id.clone() };
        next.by_name.remove(&topic.name);
        next.by_id.remove(&topic.id);
        next
    }
}

/// A topic as the store keeps it.
#[derive(Debug, Serialize, Deserialize)]
struct StoredTopic {
    id: Uuid,
    partitions: usize,
    #[serde(default)]
    configs: Overrides,
    /// The data folder of each partition; those that are not named are in the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    homes: Vec<Uuid>,
}

impl StoredTopic {
    fn read(key: &str, entry: &Entry) -> Result<Self, MetaError> {
        serde_json::from_slice(&entry.value).map_err(|error| MetaError::corrupt(key, &error.to_string()))
    }
}

/// The data folders in which the store says that partitions lie.
pub(crate) fn homes_in_use(store: &dyn MetaStore) -> Result<HashSet<Uuid>, MetaError> {
    let mut homes = HashSet::new();
    for (key, entry) in store.list(KEY_PREFIX)? {
        homes.extend(StoredTopic::read(&key, &entry)?.homes);
    }
    Ok(homes)
}

/// What is stored of where partitions lie.
fn home_ids(homes: &[Home]) -> Vec<Uuid> {
    let mut ids: Vec<Uuid> = homes.iter().map(Home::id).collect();
    let named = ids.iter().rposition(|id| *id != FIRST).map_or(0, |last| last + 1);
    ids.truncate(named);
    ids
}

/// Why a topic could not be created, changed or opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TopicError {
    #[error(transparent)]
    Name(#[from] TopicNameError),
    #[error("topic '{0}' already exists")]
    Exists(KStr),
    #[error("topic '{0}' differs from '{1}' only in '.' and '_', which metrics cannot tell apart")]
    Collides(KStr, KStr),
    #[error(
        "topic '{0}' is kept by the broker itself; it can be read, but not made, grown or deleted by a client"
    )]
    Internal(KStr),
    #[error("topic '{0}' does not exist")]
    Unknown(KStr),
    #[error("{asked} partitions were asked for; 1 to {PARTITIONS_MAX} are possible")]
    PartitionCount { asked: i64 },
    #[error("topic '{name}' has {has} partitions; {asked} were asked for, and partitions can only be added")]
    NotMore { name: KStr, has: usize, asked: i64 },
    #[error(transparent)]
    Setting(#[from] SettingError),
    #[error(transparent)]
    Store(#[from] MetaError),
    #[error(transparent)]
    Log(#[from] OpenError),
    #[error(transparent)]
    Leftover(#[from] Leftover),
}

/// Why not every log was closed as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CloseError {
    #[error("{partitions} partitions were never opened")]
    Unopened { partitions: usize },
    #[error(transparent)]
    Log(#[from] FlushError),
}

/// The topics of this node.
pub(crate) struct Topics {
    snapshot: ArcSwap<Snapshot>,
    /// Rung for the group coordinator when the snapshot was replaced.
    changed: Notify,
    /// What topics get that set nothing of their own. Held while the snapshot is replaced; changes come one at a
    /// time.
    changing: Mutex<TopicSettings>,
    store: Arc<dyn MetaStore>,
    logs: Logs,
    progress: RecoveryProgress,
}

impl std::fmt::Debug for Topics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topics").field("snapshot", &self.snapshot).finish_non_exhaustive()
    }
}

impl Topics {
    /// Reads the topics that the store names. Their logs are opened by `recover`.
    pub(crate) fn load(
        store: Arc<dyn MetaStore>,
        logs: Logs,
        defaults: &TopicSettings,
    ) -> Result<Self, MetaError> {
        let mut snapshot = Snapshot::default();
        let mut count = 0;
        for (key, entry) in store.list(KEY_PREFIX)? {
            let mut stored = StoredTopic::read(&key, &entry)?;
            let settings = defaults
                .with_overrides(&stored.configs)
                .map_err(|error| MetaError::corrupt(&key, &error.to_string()))?;
            let homes = logs.homes(stored.id, &stored.homes, stored.partitions);
            let (ids, mut version) = (home_ids(&homes), entry.version);
            // Somebody has moved folders: should that disk be lost now, they have to be missed there.
            if ids != stored.homes {
                stored.homes = ids;
                version = store.put(&key, encode(&stored), Expect::Version(version))?;
            }
            let StoredTopic { id, partitions, configs, .. } = stored;
            let name = KStr::from(key[KEY_PREFIX.len()..].to_owned());
            count += partitions;
            let partitions = homes.into_iter().enumerate();
            let partitions = partitions.map(|(index, home)| Partition::unopened(index, home)).collect();
            let topic = Arc::new(Topic { id, name, settings, configs, partitions, version });
            snapshot.by_id.insert(topic.id, Arc::clone(&topic));
            snapshot.by_name.insert(topic.name.clone(), topic);
        }
        let snapshot = ArcSwap::from_pointee(snapshot);
        let progress = RecoveryProgress::of(count);
        let changing = Mutex::new(defaults.clone());
        Ok(Self { snapshot, changed: Notify::new(), changing, store, logs, progress })
    }

    /// The topics as they are now.
    pub(crate) fn snapshot(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    fn publish(&self, next: Snapshot) {
        self.snapshot.store(Arc::new(next));
        self.changed.notify_one();
    }

    /// Ready when topics have changed since this was ready last. For one who waits.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The epoch of this node, which is the least that a log of its has.
    pub(crate) fn leader_epoch(&self) -> LeaderEpoch {
        self.logs.leader_epoch
    }

    /// The data folders that are used.
    pub(crate) fn directories(&self) -> &[Arc<Directory>] {
        &self.logs.directories
    }

    /// The data folders that should be and cannot.
    pub(crate) fn missing_directories(&self) -> &[Arc<Missing>] {
        &self.logs.missing
    }

    /// Brings everything in a data folder to the disk and closes it; tries all logs even if one fails. Blocks
    /// on the disk.
    pub(crate) fn close(&self, directory: &Directory) -> Result<(), CloseError> {
        let _changing = self.changing.lock();
        let snapshot = self.snapshot();
        let all = snapshot.sorted().into_iter().flat_map(|topic| &topic.partitions);
        let partitions: Vec<&Arc<Partition>> = all.filter(|partition| partition.is_on(directory)).collect();
        let logs: Vec<&Arc<Log>> = partitions.iter().filter_map(|partition| partition.log().ok()).collect();
        let closed: Result<(), FlushError> =
            in_parallel(self.logs.machine.threads, &logs, |log| log.close()).into_iter().collect();
        closed?;
        match partitions.len() - logs.len() {
            0 => Ok(()),
            partitions => Err(CloseError::Unopened { partitions }),
        }
    }

    /// Checks whether a client could create a topic of this name and size now.
    pub(crate) fn check_new(&self, name: &KStr, partitions: i64) -> Result<usize, TopicError> {
        not_internal(name)?;
        self.check_room(name, partitions)
    }

    fn check_room(&self, name: &KStr, partitions: i64) -> Result<usize, TopicError> {
        topic_name::check(name)?;
        let snapshot = self.snapshot();
        if snapshot.named(name).is_some() {
            return Err(TopicError::Exists(name.clone()));
        }
        let flat = |name: &str| name.replace('.', "_");
        let twin = snapshot.by_name.keys().find(|other| flat(other) == flat(name));
        if let Some(other) = twin {
            return Err(TopicError::Collides(name.clone(), other.clone()));
        }
        partition_count(partitions)
    }

    /// Creates a topic for a client; it is durable and can be written to when this returns. Blocks on the disk.
    pub(crate) fn create(
        &self,
        name: &KStr,
        partitions: i64,
        configs: Overrides,
    ) -> Result<Arc<Topic>, TopicError> {
        not_internal(name)?;
        self.create_any(name, partitions, configs)
    }

    /// The same for a topic of any name.
    pub(crate) fn create_any(
        &self,
        name: &KStr,
        partitions: i64,
        configs: Overrides,
    ) -> Result<Arc<Topic>, TopicError> {
        let defaults = self.changing.lock();
        let settings = defaults.with_overrides(&configs)?;
        let count = self.check_room(name, partitions)?;
        let chosen = self.logs.choose(&self.snapshot(), count);
        let homes: Vec<Home> = chosen.iter().map(|home| Home::On(Arc::clone(home))).collect();
        let id = fresh_topic_id(&self.logs.machine.uuids);
        let stored = StoredTopic { id, partitions: count, configs, homes: home_ids(&homes) };
        let key = format!("{KEY_PREFIX}{name}");
        let made = self.logs.open_new(id, 0, chosen, &settings).map_err(TopicError::from);
        let made = made
            .and_then(|partitions| Ok((partitions, self.store.put(&key, encode(&stored), Expect::Absent)?)));
        let (partitions, version) = match made {
            Ok(made) => made,
            Err(error) => {
                if let Err(leftover) = self.logs.forget(stored.id) {
                    tracing::warn!(error = %leftover, "the folder of a topic that was not created is left behind");
                }
                return Err(error);
            }
        };
        let name = name.detach();
        let topic =
            Arc::new(Topic { id: stored.id, name, settings, configs: stored.configs, partitions, version });
        self.publish(self.snapshot.load().with(Arc::clone(&topic)));
        tracing::info!(topic = %topic.name, id = %topic.id, partitions = count, "topic created");
        Ok(topic)
    }

    /// Checks whether a topic could grow to `count` partitions now.
    pub(crate) fn check_growth(&self, name: &KStr, count: i64) -> Result<Arc<Topic>, TopicError> {
        let snapshot = self.snapshot();
        let topic = snapshot.named(name).ok_or_else(|| TopicError::Unknown(name.clone()))?;
        not_internal(name)?;
        let has = topic.partitions.len();
        let asked = partition_count(count)?;
        match asked > has {
            true => Ok(Arc::clone(topic)),
            false => Err(TopicError::NotMore { name: name.clone(), has, asked: count }),
        }
    }

    /// Adds partitions until the topic has `count`. Blocks on the disk.
    pub(crate) fn grow(&self, name: &KStr, count: i64) -> Result<(), TopicError> {
        let _changing = self.changing.lock();
        let topic = self.check_growth(name, count)?;
        let count = partition_count(count)?;
        let key = format!("{KEY_PREFIX}{name}");
        let mut partitions = topic.partitions.clone();
        let chosen = self.logs.choose(&self.snapshot(), count - partitions.len());
        partitions.extend(self.logs.open_new(topic.id, partitions.len(), chosen, &topic.settings)?);
        let homes: Vec<Home> = partitions.iter().map(|partition| partition.home.clone()).collect();
        let configs = topic.configs.clone();
        let stored = StoredTopic { id: topic.id, partitions: count, configs, homes: home_ids(&homes) };
        let version = self.store.put(&key, encode(&stored), Expect::Version(topic.version))?;
        let grown = Topic {
            id: topic.id,
            name: topic.name.clone(),
            settings: topic.settings.clone(),
            configs: stored.configs,
            partitions,
            version,
        };
        self.publish(self.snapshot.load().with(Arc::new(grown)));
        tracing::info!(topic = %topic.name, partitions = count, "partitions added");
        Ok(())
    }
}

fn encode(stored: &StoredTopic) -> Bytes {
    Bytes::from(serde_json::to_vec(stored).expect("names and numbers always serialise"))
}

fn not_internal(name: &KStr) -> Result<(), TopicError> {
    match topic_name::is_internal(name) {
        true => Err(TopicError::Internal(name.clone())),
        false => Ok(()),
    }
}

fn partition_count(asked: i64) -> Result<usize, TopicError> {
    let count = usize::try_from(asked).ok().filter(|count| (1..=PARTITIONS_MAX).contains(count));
    count.ok_or(TopicError::PartitionCount { asked })
}

/// Kafka prints ids in URL-safe base64; one that starts with '-' reads as a flag on a command line.
fn fresh_topic_id(uuids: &Uuids) -> Uuid {
    const DASH: u8 = 62;
    loop {
        let id = uuids.fresh();
        if id.as_bytes()[0] >> 2 != DASH {
            return id;
        }
    }
}

/// Does a piece of work for each item, on so many threads; results come in the order of the items.
fn in_parallel<T: Sync, R: Send>(threads: usize, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if threads <= 1 {
        return items.iter().map(work).collect();
    }
    let share = items.len().div_ceil(threads).max(1);
    let work = &work;
    std::thread::scope(|scope| {
        let running: Vec<_> = items
            .chunks(share)
            .map(|items| scope.spawn(move || items.iter().map(work).collect::<Vec<R>>()))
            .collect();
        running.into_iter().flat_map(|thread| thread.join().expect("the work does not panic")).collect()
    })
}
