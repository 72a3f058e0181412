//! Which data folders are used at a start.
//!
//! The first must be there: it has the metadata. Each other one is known by an id, which stands in the folder
//! and, with the path, in the metadata. So an empty mount point is not taken for the disk that was there
//! yesterday, a disk may be mounted elsewhere, and a partition's folder that is missing is told from one that
//! never was. A folder that cannot be used is left out; what lies there is refused, and not made again
//! somewhere else.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use millstream_log::Disk;
use millstream_protocol::Uuid;
use serde::{Deserialize, Serialize};

use super::data_dir::{DataDir, DataDirError};
use crate::machine::Uuids;
use crate::meta_store::{Expect, MetaError, MetaStore};

const KEY: &str = "storage/directories";

/// The id of the first folder: it needs none.
pub(crate) const FIRST: Uuid = Uuid::nil();

/// A folder beside the first, as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    id: Uuid,
    path: PathBuf,
}

/// A folder that is not used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) id: Uuid,
    pub(crate) path: PathBuf,
    pub(crate) reason: String,
}

/// What was found of the folders beside the first.
#[derive(Debug, Default)]
pub(crate) struct Further {
    pub(crate) used: Vec<(Uuid, DataDir)>,
    pub(crate) missing: Vec<Missing>,
}

/// Why the folders cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FoldersError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Store(#[from] MetaError),
}

/// What a folder says of itself.
#[derive(Debug, Clone, Copy)]
enum Found {
    /// It is not there.
    Nothing,
    /// It is there, and has no id.
    Unmarked,
    Marked(Uuid),
}

/// What becomes of a folder.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It is the one with this id.
    Use(Uuid),
    /// It becomes the one with this id, which nothing lies on.
    Make(Uuid),
    /// It is new.
    MakeNew,
    /// It is not used.
    Refuse(String),
}

/// Decides by what the store knows and what is there.
fn judge(known: &[Known], path: &Path, found: Found, lived_in: &HashSet<Uuid>) -> Verdict {
    let here = known.iter().find(|one| one.path == path).map(|one| one.id);
    match (found, here) {
        (Found::Marked(id), _) if known.iter().any(|one| one.id == id) => Verdict::Use(id),
        (Found::Marked(id), _) => {
            Verdict::Refuse(format!("it is marked as the data folder {id}, which belongs to another node"))
        }
        (Found::Nothing, Some(id)) if lived_in.contains(&id) => {
            Verdict::Refuse("the folder is not there; is its disk mounted?".to_owned())
        }
        (Found::Unmarked, Some(id)) if lived_in.contains(&id) => Verdict::Refuse(
            "this is not the folder that was here; is its disk mounted? If that is lost, delete the topics that \
             had partitions there, and start again to use this one"
                .to_owned(),
        ),
        (Found::Nothing | Found::Unmarked, Some(id)) => Verdict::Make(id),
        (Found::Nothing | Found::Unmarked, None) => Verdict::MakeNew,
    }
}

/// What the further folders are taken by.
pub(crate) struct Taking<'a> {
    pub(crate) disk: &'a Arc<dyn Disk>,
    pub(crate) store: &'a dyn MetaStore,
    pub(crate) uuids: &'a Uuids,
    /// The folders in which the store says that partitions lie.
    pub(crate) lived_in: &'a HashSet<Uuid>,
}

impl Taking<'_> {
    /// Takes the folders beside the first that can be used.
    ///
    /// # Errors
    /// A folder is used by somebody else, is of another version, or is not where it should be: what a person
    /// has to set right. A disk that fails is no error.
    pub(crate) fn take(&self, paths: &[PathBuf]) -> Result<Further, FoldersError> {
        let entry = self.store.get(KEY)?;
        let mut known: Vec<Known> = match &entry {
            None => Vec::new(),
            Some(entry) => serde_json::from_slice(&entry.value)
                .map_err(|error| MetaError::corrupt(KEY, &error.to_string()))?,
        };
        let before = known.clone();
        let (mut further, mut to_prepare) = (Further::default(), Vec::new());
        for path in paths {
            match self.look_at(&mut known, path)? {
                Ok((id, _)) if to_prepare.iter().any(|(other, _)| *other == id) => {
                    let reason = "it is a copy of another data folder, which is used".to_owned();
                    further.missing.push(Missing { id, path: path.clone(), reason });
                }
                Ok(taken) => to_prepare.push(taken),
                Err(missing) => further.missing.push(missing),
            }
        }
        // Known before they are marked: a mark that nobody knows would be that of another node.
        if known != before {
            let expect = entry.map_or(Expect::Absent, |entry| Expect::Version(entry.version));
            let value = serde_json::to_vec(&known).expect("ids and paths always serialise");
            self.store.put(KEY, Bytes::from(value), expect)?;
        }
        for (id, mut folder) in to_prepare {
            match folder.prepare(Some(id)) {
                Ok(()) => further.used.push((id, folder)),
                Err(DataDirError::Unusable { folder: path, error }) => {
                    further.missing.push(Missing { id, path, reason: error.to_string() });
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.add_absent(&known, &mut further);
        for Missing { path, reason, .. } in &further.missing {
            tracing::error!(folder = %path.display(), reason, "a data folder is not used; partitions that lie there answer with a storage error");
        }
        Ok(further)
    }

    /// One folder: taken, with its id, or why not.
    fn look_at(
        &self,
        known: &mut Vec<Known>,
        path: &Path,
    ) -> Result<Result<(Uuid, DataDir), Missing>, DataDirError> {
        let here = known.iter().find(|one| one.path == path).map(|one| one.id);
        let missing = |reason| Missing { id: here.unwrap_or(FIRST), path: path.to_owned(), reason };
        if self.disk.list(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
            && let Verdict::Refuse(reason) = judge(known, path, Found::Nothing, self.lived_in)
        {
            return Ok(Err(missing(reason)));
        }
        let folder = match DataDir::lock(Arc::clone(self.disk), path) {
            Ok(folder) => folder,
            Err(DataDirError::Unusable { error, .. }) => return Ok(Err(missing(error.to_string()))),
            Err(error) => return Err(error),
        };
        if folder.has_metadata() {
            return Err(DataDirError::NotFirst { folder: path.to_owned() });
        }
        let found = folder.id().map_or(Found::Unmarked, Found::Marked);
        let id = match judge(known, path, found, self.lived_in) {
            Verdict::Use(id) | Verdict::Make(id) => id,
            Verdict::MakeNew => self.uuids.fresh(),
            Verdict::Refuse(reason) => return Ok(Err(missing(reason))),
        };
        match known.iter_mut().find(|one| one.id == id) {
            // Its disk may be mounted elsewhere now.
            Some(one) => path.clone_into(&mut one.path),
            None => known.push(Known { id, path: path.to_owned() }),
        }
        Ok(Ok((id, folder)))
    }

    /// Folders that hold partitions and that nobody named.
    fn add_absent(&self, known: &[Known], further: &mut Further) {
        let is_told = |id: &Uuid| {
            further.used.iter().any(|(used, _)| used == id) || further.missing.iter().any(|one| one.id == *id)
        };
        let mut absent: Vec<&Uuid> =
            self.lived_in.iter().filter(|id| **id != FIRST && !is_told(id)).collect();
        absent.sort_unstable();
        let missing = absent.into_iter().map(|id| {
            let path = known.iter().find(|one| one.id == *id).map(|one| one.path.clone());
            let reason = "it is not in log.dirs any more".to_owned();
            Missing { id: *id, path: path.unwrap_or_default(), reason }
        });
        let missing: Vec<_> = missing.collect();
        further.missing.extend(missing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_judged_by_its_mark_and_by_what_should_be_there() {
        let [a, b, stranger] = [1, 2, 3].map(Uuid::from_u128);
        let known = [Known { id: a, path: "/a".into() }, Known { id: b, path: "/b".into() }];
        let judge = |path: &str, found, lived_in: &[Uuid]| {
            judge(&known, Path::new(path), found, &lived_in.iter().copied().collect())
        };
        assert_eq!(judge("/a", Found::Marked(a), &[a]), Verdict::Use(a));
        assert_eq!(judge("/elsewhere", Found::Marked(a), &[a]), Verdict::Use(a), "mounted elsewhere");
        assert_eq!(judge("/a", Found::Marked(b), &[]), Verdict::Use(b), "the two have changed places");
        assert!(matches!(judge("/a", Found::Marked(stranger), &[]), Verdict::Refuse(_)));
        for found in [Found::Nothing, Found::Unmarked] {
            assert!(matches!(judge("/a", found, &[a]), Verdict::Refuse(_)), "{found:?}: not mounted");
            assert_eq!(judge("/a", found, &[b]), Verdict::Make(a), "nothing lies there");
            assert_eq!(judge("/new", found, &[a, b]), Verdict::MakeNew);
        }
    }
}
