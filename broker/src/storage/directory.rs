//! A data folder while its node runs: where logs are opened, and what they share.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use millstream_log::{CleanStart, Clock, Disk, Flusher, LeaderEpoch, Log, OpenError, OpenOptions, Recovery};
use millstream_protocol::Uuid;

use super::folders::Missing;
use super::space::{LowWater, SpaceGuard, Turn};
use super::strangers::{PartitionsOf, Strangers};
use crate::metadata::topics::Leftover;
use crate::settings::TopicSettings;

/// A data folder that is used.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) id: Uuid,
    pub(crate) path: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    /// Makes its logs durable.
    pub(crate) flusher: Arc<Flusher>,
    /// How the last broker here ended.
    pub(crate) clean: CleanStart,
    pub(crate) space: SpaceGuard,
}

/// Where a partition lies.
#[derive(Debug, Clone)]
pub(crate) enum Home {
    On(Arc<Directory>),
    /// In a folder that is not used.
    Missing(Arc<Missing>),
}

impl Home {
    pub(crate) fn id(&self) -> Uuid {
        match self {
            Self::On(directory) => directory.id,
            Self::Missing(missing) => missing.id,
        }
    }

    pub(crate) fn path(&self) -> &PathBuf {
        match self {
            Self::On(directory) => &directory.path,
            Self::Missing(missing) => &missing.path,
        }
    }
}

/// What a directory is made of.
pub(crate) struct DirectoryParts {
    pub(crate) id: Uuid,
    pub(crate) path: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) flusher: Arc<Flusher>,
    pub(crate) clean: CleanStart,
    pub(crate) low_water: LowWater,
}

/// Which log to open, and how.
pub(crate) struct LogOrder<'a> {
    pub(crate) topic: Uuid,
    pub(crate) index: i32,
    pub(crate) settings: &'a TopicSettings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) clean: CleanStart,
}

impl Directory {
    pub(crate) fn new(parts: DirectoryParts) -> Arc<Self> {
        let DirectoryParts { id, path, disk, flusher, clean, low_water } = parts;
        Arc::new(Self { id, path, disk, flusher, clean, space: SpaceGuard::new(low_water) })
    }

    /// The folder of all topics.
    fn topics(&self) -> PathBuf {
        self.path.join("topics")
    }

    fn folder_of_topic(&self, topic: Uuid) -> PathBuf {
        self.topics().join(topic.to_string())
    }

    pub(crate) fn folder_of(&self, topic: Uuid, index: i32) -> PathBuf {
        self.folder_of_topic(topic).join(index.to_string())
    }

    pub(crate) fn open(&self, order: LogOrder<'_>) -> Result<(Arc<Log>, Recovery), OpenError> {
        let LogOrder { topic, index, settings, clock, leader_epoch, clean } = order;
        Log::open(OpenOptions {
            disk: Arc::clone(&self.disk),
            clock,
            flusher: Arc::clone(&self.flusher),
            dir: self.folder_of(topic, index),
            config: settings.log_config(),
            leader_epoch,
            clean,
        })
    }

    /// The partitions of a topic that have a folder here.
    pub(crate) fn partitions_of(&self, topic: Uuid) -> HashSet<usize> {
        let names = self.disk.list(&self.folder_of_topic(topic)).unwrap_or_default();
        names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect()
    }

    /// Removes the folder of a topic that is not, or no longer, in the store, durably.
    pub(crate) fn forget(&self, topic: Uuid) -> Result<(), Leftover> {
        let folder = self.folder_of_topic(topic);
        let removed = match self.disk.remove_dir(&folder) {
            // None of its partitions was here, or it was removed before, maybe not durably.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        };
        removed.and_then(|()| self.disk.sync_dir(&self.topics())).map_err(|error| Leftover { folder, error })
    }

    /// Makes a topic's folder if it is missing.
    pub(crate) fn make_folder(&self, topic: Uuid) -> Result<(), OpenError> {
        let path = self.folder_of_topic(topic);
        match self.disk.create_dir(&path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(OpenError::Io { action: "make the folder", path, error }),
        }
    }

    /// Makes the names of topics' folders durable.
    pub(crate) fn sync_folder(&self) -> Result<(), OpenError> {
        let path = self.topics();
        self.disk.sync_dir(&path).map_err(|error| OpenError::Io { action: "sync the folder", path, error })
    }

    /// Names what lies here and is not ours, and removes the folders of topics that never were.
    pub(crate) fn look_for_strangers(&self, partitions_of: PartitionsOf<'_>) {
        let Strangers { named, count, unborn } = match Strangers::of(&*self.disk, &self.path, partitions_of) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(folder = %self.path.display(), %error, "this folder cannot be looked through");
                return;
            }
        };
        for path in &named {
            tracing::warn!(path = %path.display(), "this is not ours, or belongs to no topic, and is left alone");
        }
        if count > named.len() {
            tracing::warn!(folder = %self.path.display(), more = count - named.len(), "and others");
        }
        for folder in unborn {
            match self.disk.remove_dir(&folder) {
                Ok(()) => {
                    tracing::info!(folder = %folder.display(), "a creation that was cut short is cleared away");
                }
                Err(error) => {
                    tracing::warn!(folder = %folder.display(), %error, "a folder without a topic is left behind");
                }
            }
        }
    }

    /// Looks how much room there is, and says so when that changes what is taken.
    pub(crate) fn watch_space(&self) {
        let space = match self.disk.space(&self.path) {
            Ok(space) => space,
            Err(error) => {
                tracing::debug!(folder = %self.path.display(), %error, "the file system does not tell its room");
                return;
            }
        };
        let (folder, free_bytes, must_stay_free) = (self.path.display(), space.free_bytes, self.space.mark());
        match self.space.look(space) {
            Turn::Same => {}
            Turn::Low => tracing::error!(
                %folder, free_bytes, must_stay_free,
                "the disk is nearly full: records are refused until there is room (log.disk.free.min.bytes)"
            ),
            Turn::Enough => {
                tracing::info!(%folder, free_bytes, "there is room on the disk: records are taken again");
            }
        }
    }
}
