//! Where logs come from: the folder of all topics, and what is needed to open a log in it.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use millstream_log::{CleanStart, LeaderEpoch, Log, OpenError, OpenOptions, Recovery};
use millstream_protocol::Uuid;

use super::{Partition, Snapshot};
use crate::machine::Machine;
use crate::settings::TopicSettings;

/// What is needed to open a partition's log.
pub(crate) struct LogSource {
    pub(crate) machine: Machine,
    /// `<data>/topics`.
    pub(crate) folder: PathBuf,
    pub(crate) leader_epoch: LeaderEpoch,
    /// How the last broker here ended.
    pub(crate) clean: CleanStart,
}

impl LogSource {
    pub(super) fn folder_of(&self, topic: Uuid, index: i32) -> PathBuf {
        self.folder.join(topic.to_string()).join(index.to_string())
    }

    pub(super) fn open(
        &self,
        topic: Uuid,
        index: i32,
        settings: &TopicSettings,
        clean: CleanStart,
    ) -> Result<(Arc<Log>, Recovery), OpenError> {
        Log::open(OpenOptions {
            disk: Arc::clone(&self.machine.disk),
            clock: Arc::clone(&self.machine.clock),
            flusher: Arc::clone(&self.machine.flusher),
            dir: self.folder_of(topic, index),
            config: settings.log_config(),
            leader_epoch: self.leader_epoch,
            clean,
        })
    }

    /// Makes logs that did not exist; their folder's name is not durable yet.
    pub(super) fn open_new(
        &self,
        topic: Uuid,
        indexes: Range<usize>,
        settings: &TopicSettings,
    ) -> Result<Vec<Arc<Partition>>, OpenError> {
        self.make_folder(topic)?;
        let open = |index| {
            let partition = Partition::unopened(index);
            partition.open_with(|| self.open(topic, partition.index, settings, CleanStart::Yes))?;
            Ok(partition)
        };
        indexes.map(open).collect()
    }

    /// Removes the folder of a topic that is not, or no longer, in the store.
    pub(super) fn forget(&self, topic: Uuid) {
        let folder = self.folder.join(topic.to_string());
        if let Err(error) = self.machine.disk.remove_dir(&folder) {
            tracing::warn!(folder = %folder.display(), %error, "a topic's folder is left behind");
        }
    }

    /// Makes a topic's folder if it is missing.
    pub(super) fn make_folder(&self, topic: Uuid) -> Result<(), OpenError> {
        let path = self.folder.join(topic.to_string());
        match self.machine.disk.create_dir(&path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(OpenError::Io { action: "make the folder", path, error }),
        }
    }

    /// Makes the names of topics' folders durable.
    pub(super) fn sync_folder(&self) -> Result<(), OpenError> {
        let path = self.folder.clone();
        self.machine.disk.sync_dir(&path).map_err(|error| OpenError::Io {
            action: "sync the folder",
            path,
            error,
        })
    }

    /// Names folders that belong to no topic: what a crash in the middle of a deletion leaves.
    pub(super) fn report_strangers(&self, snapshot: &Snapshot) {
        for name in self.machine.disk.list(&self.folder).unwrap_or_default() {
            let id = name.to_str().and_then(|name| name.parse::<Uuid>().ok());
            if id.is_none_or(|id| snapshot.identified(id).is_none()) {
                let folder = self.folder.join(name);
                tracing::warn!(folder = %folder.display(), "this folder belongs to no topic and is left alone");
            }
        }
    }
}
