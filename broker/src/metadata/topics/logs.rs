//! Where logs come from: which data folder a partition lies in, and what is needed to open a log there.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use millstream_log::{CleanStart, LeaderEpoch, Log, OpenError, Recovery};
use millstream_protocol::Uuid;

use super::{Leftover, Partition, Snapshot};
use crate::machine::Machine;
use crate::settings::TopicSettings;
use crate::storage::directory::{Directory, Home, LogOrder};
use crate::storage::folders::{FIRST, Missing};

/// What is needed to open the logs of a node.
pub(crate) struct Logs {
    pub(crate) machine: Machine,
    pub(crate) leader_epoch: LeaderEpoch,
    /// Those that are used; the first has the metadata.
    pub(crate) directories: Vec<Arc<Directory>>,
    /// Those that should be and cannot.
    pub(crate) missing: Vec<Arc<Missing>>,
}

impl Logs {
    /// Where the partitions of a topic lie: where their folders are, or else where they were made.
    pub(super) fn homes(&self, topic: Uuid, recorded: &[Uuid], count: usize) -> Vec<Home> {
        let first = || Home::On(Arc::clone(&self.directories[0]));
        if let ([_], []) = (&self.directories[..], &self.missing[..]) {
            return (0..count).map(|_| first()).collect();
        }
        let found: Vec<(&Arc<Directory>, HashSet<usize>)> =
            self.directories.iter().map(|directory| (directory, directory.partitions_of(topic))).collect();
        let home = |index| {
            let recorded = recorded.get(index).copied().unwrap_or(FIRST);
            let mut holders = found.iter().filter(|(_, held)| held.contains(&index));
            let here = holders.clone().find(|(directory, _)| directory.id == recorded);
            if let Some((directory, _)) = here.or_else(|| holders.next()) {
                return Home::On(Arc::clone(directory));
            }
            let used = self.directories.iter().find(|directory| directory.id == recorded);
            let missing = || self.missing.iter().find(|missing| missing.id == recorded);
            match used {
                Some(directory) => Home::On(Arc::clone(directory)),
                None => missing().map_or_else(first, |missing| Home::Missing(Arc::clone(missing))),
            }
        };
        (0..count).map(home).collect()
    }

    /// Where new partitions go: to the folder that has the fewest, and of those to the one with the most room.
    /// Not to one whose disk is nearly full, if there is another.
    pub(super) fn choose(&self, snapshot: &Snapshot, count: usize) -> Vec<Arc<Directory>> {
        let [first, _, ..] = &self.directories[..] else {
            return vec![Arc::clone(&self.directories[0]); count];
        };
        let mut held: HashMap<Uuid, usize> = HashMap::new();
        for partition in snapshot.by_id.values().flat_map(|topic| &topic.partitions) {
            *held.entry(partition.home.id()).or_default() += 1;
        }
        let rooms: Vec<(&Arc<Directory>, u64)> = self
            .directories
            .iter()
            // One that does not answer is the last choice.
            .map(|one| (one, one.disk.space(&one.path).map_or(0, |space| space.free_bytes)))
            .collect();
        let choose = |_| {
            let by_use = |(directory, free): &&(&Arc<Directory>, u64)| {
                let has = held.get(&directory.id).copied().unwrap_or(0);
                (directory.space.is_refusing(), has, Reverse(*free))
            };
            let chosen = rooms.iter().min_by_key(by_use).map_or(first, |(directory, _)| directory);
            *held.entry(chosen.id).or_default() += 1;
            Arc::clone(chosen)
        };
        (0..count).map(choose).collect()
    }

    pub(super) fn open(
        &self,
        directory: &Directory,
        (topic, index): (Uuid, i32),
        settings: &TopicSettings,
        clean: CleanStart,
    ) -> Result<(Arc<Log>, Recovery), OpenError> {
        let clock = Arc::clone(&self.machine.clock);
        directory.open(LogOrder { topic, index, settings, clock, leader_epoch: self.leader_epoch, clean })
    }

    /// Makes logs that did not exist, from an index on; the names of their folders are durable.
    pub(super) fn open_new(
        &self,
        topic: Uuid,
        from: usize,
        homes: Vec<Arc<Directory>>,
        settings: &TopicSettings,
    ) -> Result<Vec<Arc<Partition>>, OpenError> {
        let mut made: Vec<Arc<Directory>> = Vec::new();
        for home in &homes {
            if !made.iter().any(|other| other.id == home.id) {
                home.make_folder(topic)?;
                made.push(Arc::clone(home));
            }
        }
        let open = |(home, index): (Arc<Directory>, usize)| {
            let partition = Partition::unopened(index, Home::On(Arc::clone(&home)));
            let name = (topic, partition.index);
            partition.open_with(|| self.open(&home, name, settings, CleanStart::Yes))?;
            Ok(partition)
        };
        let opened = homes.into_iter().zip(from..).map(open).collect::<Result<_, OpenError>>()?;
        made.iter().try_for_each(|directory| directory.sync_folder())?;
        Ok(opened)
    }

    /// Removes the folders of a topic that is not, or no longer, in the store; tries all even if one fails.
    pub(super) fn forget(&self, topic: Uuid) -> Result<(), Leftover> {
        let forgotten: Vec<_> = self.directories.iter().map(|directory| directory.forget(topic)).collect();
        forgotten.into_iter().collect()
    }
}
