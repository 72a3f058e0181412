//! Deleting topics: finished when the call returns, or else by the next start.
//!
//! A note in the store comes first, then the topic's entry goes, then its folders, then the note. A crash in
//! between leaves a note: if the topic is still there its deletion never happened, and if it is not its
//! folders are rubbish that is known to be. Nothing else is ever removed, but for what a crash in the middle of
//! a creation leaves, in which there is not one byte: a folder that belongs to no topic may be all that is
//! left of a topic whose metadata was lost.

use std::path::PathBuf;

use bytes::Bytes;
use millstream_protocol::{KStr, Uuid};

use super::{KEY_PREFIX, TopicError, Topics, not_internal};
use crate::meta_store::{Expect, MetaError};
use crate::storage::directory::Home;

/// Notes of deletions that have begun.
const NOTES: &str = "deletions/";

fn note_of(topic: Uuid) -> String {
    format!("{NOTES}{topic}")
}

/// A folder that should be gone and is not.
#[derive(Debug, thiserror::Error)]
#[error("the topic is deleted, but {folder} cannot be removed ({error}); the next start tries again")]
pub(crate) struct Leftover {
    pub(crate) folder: PathBuf,
    pub(crate) error: std::io::Error,
}

impl Topics {
    /// Deletes a topic and its records; whoever waits on it is woken. When this returns its files are gone, and
    /// a topic that gets its name has nothing of it. Blocks on the disk.
    pub(crate) fn delete(&self, name: &KStr) -> Result<(), TopicError> {
        let _changing = self.changing.lock();
        let snapshot = self.snapshot();
        let topic = snapshot.named(name).ok_or_else(|| TopicError::Unknown(name.clone()))?;
        not_internal(name)?;
        let note = note_of(topic.id);
        let expect = self.store.get(&note)?.map_or(Expect::Absent, |entry| Expect::Version(entry.version));
        let version = self.store.put(&note, Bytes::new(), expect)?;
        self.store.delete(&format!("{KEY_PREFIX}{name}"), Expect::Version(topic.version))?;
        // Gone from the snapshot before anybody is woken: who looks again is told so.
        self.publish(snapshot.without(topic));
        for partition in &topic.partitions {
            partition.delete();
        }
        self.logs.forget(topic.id)?;
        if topic.partitions.iter().all(|partition| matches!(partition.home, Home::On(_))) {
            self.store.delete(&note, Expect::Version(version))?;
        } else {
            tracing::warn!(topic = %name, id = %topic.id, "a data folder of this topic is missing; what lies there is removed when it is back");
        }
        tracing::info!(topic = %topic.name, id = %topic.id, "topic deleted");
        Ok(())
    }

    /// Finishes deletions that a crash, or a disk, cut short. Blocks on the disk.
    pub(super) fn finish_deletions(&self) {
        let _changing = self.changing.lock();
        if let Err(error) = self.try_finish_deletions() {
            tracing::warn!(%error, "a deletion that was cut short is not finished; the next start tries again");
        }
    }

    fn try_finish_deletions(&self) -> Result<(), TopicError> {
        for (key, entry) in self.store.list(NOTES)? {
            let id = key[NOTES.len()..].parse::<Uuid>();
            let id = id.map_err(|error| MetaError::corrupt(&key, &error.to_string()))?;
            if self.snapshot().identified(id).is_none() {
                self.logs.forget(id)?;
                tracing::info!(%id, "the deletion of a topic that was cut short is finished");
                if !self.logs.missing.is_empty() {
                    continue;
                }
            }
            self.store.delete(&key, Expect::Version(entry.version))?;
        }
        Ok(())
    }

    /// Removes what a creation that was cut short left, and names what is not ours. Blocks on the disk.
    pub(super) fn look_for_strangers(&self) {
        // Nothing is being created meanwhile.
        let _changing = self.changing.lock();
        let topics = self.snapshot();
        for directory in self.directories() {
            directory.look_for_strangers(&|id| topics.identified(id).map(|topic| topic.partitions.len()));
        }
    }
}

#[cfg(test)]
mod tests;
