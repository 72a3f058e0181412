//! Topics that come and go on a disk that loses its power at any change.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_log::{
    Acks, Append, CleanStart, Disk, Flusher, IfMissing, LeaderEpoch, ManualClock, Offset, PowerCut, SimDisk,
};
use millstream_protocol::KStr;
use millstream_protocol::records::{BatchBuilder, BatchView, Compression, NewRecord};

use super::*;
use crate::machine::{Machine, Uuids};
use crate::meta_store::LocalMetaStore;
use crate::metadata::topics::{Logs, Overrides, Topic};
use crate::settings::{BrokerSettings, Written};
use crate::storage::directory::{Directory, DirectoryParts};
use crate::storage::folders::FIRST;

const NAME: KStr = KStr::from_static("t");

fn data() -> &'static Path {
    Path::new("/data")
}

/// What a broker does at its start. `None` if the power is off.
fn start(disk: &SimDisk) -> Option<Topics> {
    let disk: Arc<dyn Disk> = Arc::new(disk.for_process());
    for folder in [data().to_owned(), data().join("topics")] {
        match disk.create_dir(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return None,
            _ => disk.sync_dir(folder.parent()?).ok()?,
        }
    }
    let settings = BrokerSettings::new(Written::new()).unwrap();
    let store = Arc::new(LocalMetaStore::open(Arc::clone(&disk), &data().join("meta")).ok()?);
    disk.sync_dir(data()).ok()?;
    let directory = Directory::new(DirectoryParts {
        id: FIRST,
        path: data().to_owned(),
        disk: Arc::clone(&disk),
        flusher: Flusher::inline(),
        clean: CleanStart::No,
        low_water: settings.low_water,
    });
    let clock = Arc::new(ManualClock::at(1_700_000_000_000));
    let machine = Machine { clock, uuids: Arc::new(Uuids::Random), threads: 1 };
    let (directories, missing) = (vec![directory], Vec::new());
    let logs = Logs { machine, leader_epoch: LeaderEpoch::new(1), directories, missing };
    let topics = Topics::load(store, logs, &settings.topic_defaults).ok()?;
    topics.recover(&|| false);
    Some(topics)
}

fn create(topics: &Topics) -> Option<Arc<Topic>> {
    topics.create(&NAME, 2, Overrides::new()).ok()
}

/// Appends one record, durably. Tells whether that was promised.
fn append(topic: &Topic) -> bool {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(&NewRecord { timestamp: 1, key: None, value: Some(b"v"), headers: &[] });
    let batch = builder.build();
    let header = BatchView::parse(&batch).unwrap().header();
    let (tell, told) = std::sync::mpsc::channel();
    let done = Box::new(move |result: Result<_, _>| tell.send(result.is_ok()).unwrap());
    let log = topic.partitions[0].log().unwrap();
    drop(log.append(Append { batch, header, acks: Acks::Durable, transaction: None }, done));
    told.recv().unwrap()
}

/// What was promised of a life: the topic, if any, and how many records are in it.
#[derive(Debug, Default)]
struct Told {
    topic: Option<Uuid>,
    records: i64,
    /// A creation or a deletion was begun and not answered.
    is_open: bool,
}

/// A topic is created, written to and deleted, and another one of its name takes its place.
fn live(disk: &SimDisk) -> Told {
    let mut told = Told::default();
    let Some(topics) = start(disk) else { return told };
    for round in 0..2 {
        told.is_open = true;
        let Some(topic) = create(&topics) else { return told };
        told = Told { topic: Some(topic.id), ..Told::default() };
        for _ in 0..=round {
            if !append(&topic) {
                return told;
            }
            told.records += 1;
        }
        if round == 0 {
            told.is_open = true;
            if topics.delete(&NAME).is_err() {
                return told;
            }
            told = Told::default();
        }
    }
    told
}

fn folders(disk: &SimDisk) -> Vec<PathBuf> {
    let mut names: Vec<_> =
        disk.list(&data().join("topics")).unwrap().into_iter().map(PathBuf::from).collect();
    names.sort();
    names
}

#[test]
fn a_power_cut_at_any_change_leaves_the_topic_or_no_trace_of_it() {
    let disk = SimDisk::new();
    let told = live(&disk);
    assert_eq!((told.records, told.is_open, folders(&disk).len()), (2, false, 1));
    let changes = disk.changes();
    let mut finished = 0;
    for at in 0..=changes {
        for seed in 0..8 {
            let disk = SimDisk::new();
            disk.fail_power_at(at);
            let told = live(&disk);
            let cut = match seed {
                0 => PowerCut::LosesUnsynced,
                seed => PowerCut::KeepsSome { seed: seed << 32 | at },
            };
            disk.power_cut(cut);
            let before = if disk.list(&data().join("topics")).is_ok() { folders(&disk).len() } else { 0 };
            let topics = start(&disk).unwrap();
            let snapshot = topics.snapshot();
            let found = snapshot.named(&NAME);
            let says =
                format!("change {at} of {changes}, {cut:?}: {told:?}, found {:?}", found.map(|t| t.id));
            assert!(told.is_open || found.map(|topic| topic.id) == told.topic, "{says}");
            if let Some(topic) = found {
                let log_end = topic.partitions[0].log().unwrap().offsets().log_end;
                let records = if Some(topic.id) == told.topic { told.records } else { 0 };
                assert!(log_end >= Offset::new(records), "{says}: ends at {log_end}");
            }
            let expected: Vec<PathBuf> = found.iter().map(|topic| topic.id.to_string().into()).collect();
            assert_eq!(folders(&disk), expected, "{says}");
            assert!(topics.store.list(NOTES).unwrap().is_empty(), "{says}");
            finished += usize::from(before > expected.len());
            // The name is free, or taken by what is there.
            assert_eq!(create(&topics).is_some(), found.is_none(), "{says}");
        }
    }
    assert!(finished > 20, "only {finished} starts had something to finish: the power cuts bit too little");
}

#[test]
fn a_folder_that_belongs_to_no_topic_and_holds_a_byte_stays() {
    let disk = SimDisk::new();
    drop(start(&disk).unwrap());
    let (full, empty) = (Uuid::new_v4(), Uuid::new_v4());
    for (id, bytes) in [(full, &b"x"[..]), (empty, b"")] {
        let topic = data().join("topics").join(id.to_string());
        disk.create_dir(&topic).unwrap();
        disk.create_dir(&topic.join("0")).unwrap();
        let file = disk.open(&topic.join("0/00000000000000000000.log"), IfMissing::Create).unwrap();
        file.write_at(&mut [std::io::IoSlice::new(bytes)], 0).unwrap();
    }
    disk.open(&data().join("topics/notes.txt"), IfMissing::Create).unwrap();
    disk.open(&data().join("readme"), IfMissing::Create).unwrap();
    drop(start(&disk).unwrap());
    assert_eq!(folders(&disk), [PathBuf::from(full.to_string()), PathBuf::from("notes.txt")]);
    assert!(disk.content(&data().join("readme")).is_some());
}

#[test]
fn a_folder_that_cannot_be_removed_is_told_and_removed_at_the_next_start() {
    let disk = SimDisk::new();
    let topics = start(&disk).unwrap();
    let topic = create(&topics).unwrap();
    assert!(append(&topic));
    // Two changes of the note's entry, two of the topic's; then a folder for each partition, and the topic's.
    let before = disk.changes();
    disk.fail_change(4 + 2);
    let refused = topics.delete(&NAME).unwrap_err();
    assert!(!disk.fault_is_pending(), "{} changes", disk.changes() - before);
    assert!(matches!(refused, TopicError::Leftover(_)), "{refused}");
    assert!(topics.snapshot().named(&NAME).is_none(), "it is deleted all the same");
    assert_ne!(create(&topics).unwrap().id, topic.id);
    assert_eq!(folders(&disk).len(), 2);
    let topics = start(&disk).unwrap();
    assert_eq!(folders(&disk).len(), 1);
    assert_ne!(topics.snapshot().named(&NAME).unwrap().id, topic.id);
}
