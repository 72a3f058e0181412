//! From locked folders to what a node is made of: metadata is read, the leader epoch claimed, each data folder
//! settled.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_log::{CleanStart, Disk, Flusher, MemoryDisk, RealDisk};
use millstream_protocol::Uuid;

use super::StartError;
use crate::machine::Machine;
use crate::meta_store::{LocalMetaStore, MetaStore};
use crate::metadata::identity::{self, Identity};
use crate::metadata::topics::homes_in_use;
use crate::settings::BrokerSettings;
use crate::storage::data_dir::{DataDir, DataDirError};
use crate::storage::directory::{Directory, DirectoryParts};
use crate::storage::folders::{FIRST, FoldersError, Missing, Taking};

/// The folders of a node that is about to start.
pub(super) struct Opened {
    pub(super) machine: Machine,
    pub(super) store: Arc<dyn MetaStore>,
    pub(super) identity: Identity,
    pub(super) directories: Vec<Arc<Directory>>,
    pub(super) missing: Vec<Arc<Missing>>,
    /// In the order of the directories.
    pub(super) data_dirs: Vec<DataDir>,
}

impl From<FoldersError> for StartError {
    fn from(error: FoldersError) -> Self {
        match error {
            FoldersError::DataDir(error) => Self::DataDir(error),
            FoldersError::Store(error) => Self::Metadata(error),
        }
    }
}

/// What the data lies on.
#[derive(Debug)]
pub(super) struct Ground {
    disk: Arc<dyn Disk>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The file systems of this machine.
    Files,
    /// Memory that nobody else can have. To make it durable takes no time, so nobody waits for it.
    Memory,
}

impl Ground {
    pub(super) fn files() -> Self {
        Self { disk: Arc::new(RealDisk), kind: Kind::Files }
    }

    pub(super) fn memory() -> Self {
        Self { disk: Arc::new(MemoryDisk::default()), kind: Kind::Memory }
    }

    /// Takes a data folder for this broker alone.
    pub(super) fn take(&self, folder: &Path) -> Result<DataDir, DataDirError> {
        let disk = Arc::clone(&self.disk);
        match self.kind {
            Kind::Files => DataDir::lock(disk, folder),
            Kind::Memory => DataDir::unlocked(disk, folder),
        }
    }

    fn flusher(&self, settings: &BrokerSettings, machine: &Machine) -> Arc<Flusher> {
        match self.kind {
            Kind::Files => Flusher::start(settings.flusher_threads),
            Kind::Memory => Flusher::on_clock(Arc::clone(&machine.clock)),
        }
    }
}

/// Opens the first folder, which is taken already, and those beside it.
pub(super) fn open(
    settings: &BrokerSettings,
    ground: &Ground,
    machine: Machine,
    (mut first, further): (DataDir, &[PathBuf]),
) -> Result<Opened, StartError> {
    let disk = Arc::clone(&ground.disk);
    first.prepare(None)?;
    let store: Arc<dyn MetaStore> = Arc::new(LocalMetaStore::open(Arc::clone(&disk), &first.meta())?);
    let lived_in = homes_in_use(&*store)?;
    let taking = Taking { disk: &disk, store: &*store, uuids: &machine.uuids, lived_in: &lived_in };
    let further = taking.take(further)?;
    let (mut ids, mut data_dirs) = (vec![FIRST], vec![first]);
    for (id, folder) in further.used {
        ids.push(id);
        data_dirs.push(folder);
    }
    let cleans = data_dirs.iter().map(DataDir::take_clean_mark).collect::<Result<Vec<_>, _>>()?;
    let identity = identity::claim(&*store, &machine.uuids, all_clean(&data_dirs, &cleans))?;
    data_dirs.iter().zip(&cleans).try_for_each(|(folder, clean)| folder.settle(*clean))?;
    let directory = |((folder, id), own): ((&DataDir, Uuid), &CleanStart)| {
        Directory::new(DirectoryParts {
            id,
            path: folder.path().to_owned(),
            disk: Arc::clone(&disk),
            flusher: ground.flusher(settings, &machine),
            // A new folder has no mark, and nothing to be checked.
            clean: if identity.clean == CleanStart::Yes { CleanStart::Yes } else { *own },
            low_water: settings.low_water,
        })
    };
    let directories = data_dirs.iter().zip(ids).zip(&cleans).map(directory).collect();
    let missing = further.missing.into_iter().map(Arc::new).collect();
    Ok(Opened { machine, store, identity, directories, missing, data_dirs })
}

/// Whether the last broker stopped cleanly in all folders that it had. Whether the first one is new, the
/// metadata knows better.
fn all_clean(data_dirs: &[DataDir], cleans: &[CleanStart]) -> CleanStart {
    let mut all = data_dirs.iter().zip(cleans).enumerate();
    let is_clean = |(at, (folder, own)): (usize, (&DataDir, &CleanStart))| {
        *own == CleanStart::Yes || (at > 0 && folder.is_new())
    };
    match all.all(is_clean) {
        true => CleanStart::Yes,
        false => CleanStart::No,
    }
}
