//! Data folders: several of them, one that is missing, one of another version, one that is nearly full; and
//! what is told of them.

use std::path::PathBuf;

use millstream_broker::{Broker, BrokerBuilder, DataDirError, StartError};
use millstream_protocol::messages::compact_logs_request::CompactLogsTopic;
use millstream_protocol::messages::describe_storage_request::DescribeStorageTopic;
use millstream_protocol::messages::describe_storage_response::DescribeStoragePartition;
use millstream_protocol::messages::{
    CompactLogsRequest, DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeStorageRequest,
    DescribeStorageResponse,
};
use millstream_protocol::{CompactionState, ErrorCode, KStr, StorageState};
use tempfile::TempDir;

use super::bed::{Bed, Client, batch, produce, values};

const STORAGE_ERROR: i16 = ErrorCode::KafkaStorageError.code();

/// Two data folders, `a` and `b`.
struct Two {
    folder: TempDir,
}

impl Two {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn builder(&self, names: &[&str]) -> BrokerBuilder {
        let paths: Vec<_> = names.iter().map(|name| self.path(name).display().to_string()).collect();
        let builder = Broker::builder().listen("127.0.0.1:0").set("log.retention.ms", "-1");
        builder.set("log.dirs", paths.join(","))
    }

    fn start(&self) -> (Broker, Client) {
        let broker = self.builder(&["a", "b"]).start().unwrap();
        let client = Client::connect(broker.kafka_address());
        (broker, client)
    }

    /// A folder's name and the error of each partition of `t`.
    fn homes(client: &mut Client) -> Vec<(String, i8)> {
        let told = storage(client, "t");
        let name = |partition: &DescribeStoragePartition| {
            (partition.directory.rsplit('/').next().unwrap().to_owned(), partition.state)
        };
        told.iter().map(name).collect()
    }
}

fn storage(client: &mut Client, topic: &'static str) -> Vec<DescribeStoragePartition> {
    let topics = vec![DescribeStorageTopic { name: KStr::from_static(topic), partitions: Vec::new() }];
    let told = client.call(0, &DescribeStorageRequest { topics: Some(topics) });
    assert_eq!(told.topics[0].error_code, 0);
    told.topics[0].partitions.clone()
}

fn write(client: &mut Client, partition: i32) -> i16 {
    let response = client.call(9, &produce("t", partition, batch(&["v"]), -1));
    response.responses[0].partition_responses[0].error_code
}

fn told(client: &mut Client) -> DescribeStorageResponse {
    client.call(0, &DescribeStorageRequest { topics: Some(Vec::new()) })
}

#[test]
fn partitions_are_spread_over_the_folders_and_found_again() {
    let two = Two::new();
    let (broker, mut client) = two.start();
    client.create_topic("t", 4, &[]);
    for partition in 0..4 {
        assert_eq!(write(&mut client, partition), 0);
    }
    let homes = Two::homes(&mut client);
    let on = |name: &str| homes.iter().filter(|(home, _)| home == name).count();
    assert_eq!((on("a"), on("b")), (2, 2));
    drop(broker);
    assert!(two.path("a/clean").exists() && two.path("b/clean").exists());
    let (_broker, mut client) = two.start();
    assert_eq!(Two::homes(&mut client), homes);
    for partition in 0..4 {
        assert_eq!(write(&mut client, partition), 0);
    }
}

#[test]
fn partitions_of_a_folder_that_is_missing_are_refused_and_not_made_elsewhere() {
    let two = Two::new();
    let (broker, mut client) = two.start();
    client.create_topic("t", 2, &[]);
    for partition in 0..2 {
        assert_eq!(write(&mut client, partition), 0);
    }
    let homes = Two::homes(&mut client);
    let there = i32::try_from(homes.iter().position(|(home, _)| home == "b").unwrap()).unwrap();
    drop(broker);
    std::fs::rename(two.path("b"), two.path("away")).unwrap();
    for empty_mount_point in [false, true] {
        if empty_mount_point {
            std::fs::create_dir(two.path("b")).unwrap();
        }
        let (broker, mut client) = two.start();
        assert_eq!(broker.wait_recovered().failed, 1);
        assert_eq!(write(&mut client, there), STORAGE_ERROR);
        assert_eq!(write(&mut client, 1 - there), 0);
        let states = Two::homes(&mut client);
        let state = states[usize::try_from(there).unwrap()].clone();
        assert_eq!(state, ("b".to_owned(), StorageState::Unavailable.code()));
        let folder = told(&mut client).directories.into_iter().find(|one| one.path.ends_with("/b")).unwrap();
        assert!(folder.error_message.unwrap().contains("mounted?"));
        assert!(!two.path("b/topics").exists(), "nothing was made there");
        drop(broker);
    }
    std::fs::remove_dir_all(two.path("b")).unwrap();
    std::fs::rename(two.path("away"), two.path("b")).unwrap();
    let (_broker, mut client) = two.start();
    assert_eq!(Two::homes(&mut client), homes);
    let end = client.call(0, &DescribeStorageRequest { topics: None }).topics[0].partitions.clone();
    assert_eq!(end[usize::try_from(there).unwrap()].log_end, 1, "all of it is there");
}

#[test]
fn an_empty_folder_is_used_once_nothing_should_lie_in_it() {
    let two = Two::new();
    let (broker, mut client) = two.start();
    client.create_topic("t", 2, &[]);
    drop(broker);
    std::fs::remove_dir_all(two.path("b")).unwrap();
    std::fs::create_dir(two.path("b")).unwrap();
    let (broker, mut client) = two.start();
    assert!(told(&mut client).directories.iter().any(|one| one.error_message.is_some()));
    assert!(client.delete_topic("t"));
    drop(broker);
    let (_broker, mut client) = two.start();
    assert!(told(&mut client).directories.iter().all(|one| one.error_message.is_none()));
    client.create_topic("t", 2, &[]);
    let homes = Two::homes(&mut client);
    assert_ne!(homes[0], homes[1]);
}

#[test]
fn a_folder_that_is_mounted_elsewhere_is_the_same() {
    let two = Two::new();
    let (broker, mut client) = two.start();
    client.create_topic("t", 2, &[]);
    drop(broker);
    std::fs::rename(two.path("b"), two.path("c")).unwrap();
    let broker = two.builder(&["a", "c"]).start().unwrap();
    let mut client = Client::connect(broker.kafka_address());
    assert_eq!((write(&mut client, 0), write(&mut client, 1)), (0, 0));
    drop(broker);
    let broker = two.builder(&["a"]).start().unwrap();
    let mut client = Client::connect(broker.kafka_address());
    let errors = [write(&mut client, 0), write(&mut client, 1)];
    assert_eq!(errors.iter().filter(|error| **error == STORAGE_ERROR).count(), 1, "nobody named it");
}

#[test]
fn the_folder_with_the_metadata_must_be_the_first() {
    let two = Two::new();
    drop(two.start());
    let refused = two.builder(&["b", "a"]).start().unwrap_err();
    assert!(matches!(refused, StartError::DataDir(DataDirError::NotFirst { .. })), "{refused}");
    let twice = two.builder(&["a", "a"]).start().unwrap_err().to_string();
    assert!(twice.contains("different paths"), "{twice}");
    let both = two.builder(&["a"]).set("log.dir", "x").start().unwrap_err().to_string();
    assert!(both.contains("'log.dir' and 'log.dirs' are both set"), "{both}");
}

#[test]
fn a_folder_of_a_newer_version_keeps_the_broker_from_starting() {
    let bed = Bed::new();
    let format = bed.folder.path().join("data/format");
    assert_eq!(std::fs::read_to_string(&format).unwrap(), "millstream data folder\nversion 1\n");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("format"), "millstream data folder\nversion 2\n").unwrap();
    let refused = Broker::builder().data_dir(folder.path()).listen("127.0.0.1:0").start().unwrap_err();
    assert!(matches!(refused, StartError::DataDir(DataDirError::Newer { found: 2, .. })), "{refused}");
    assert!(refused.to_string().contains("knows version 1"), "{refused}");
}

#[test]
fn records_are_refused_on_a_disk_that_is_nearly_full_and_everything_else_goes_on() {
    let mut bed = Bed::with(&[]);
    let (mut client, _) = bed.with_topic("t");
    client.produce("t", batch(&["v"]), -1);
    bed.stop();
    // No disk has as much.
    let full = bed.builder().set("log.disk.free.min.bytes", i64::MAX.to_string());
    let broker = full.start().unwrap();
    let mut client = Client::connect(broker.kafka_address());
    let mut refused = client.produce("t", batch(&["v"]), -1);
    while refused.error_code == 0 {
        refused = client.produce("t", batch(&["v"]), -1);
    }
    assert_eq!(refused.error_code, STORAGE_ERROR);
    let message = refused.error_message.unwrap();
    assert!(message.contains("log.disk.free.min.bytes"), "{message}");
    assert!(told(&mut client).directories[0].is_refusing);
    assert_eq!(client.fetch("t", 0).error_code, 0);
    assert!(client.log_end("t") >= 1);
    assert_eq!(client.create_topic("other", 1, &[]).error_code, 0);
    assert!(client.delete_topic("t"));
}

#[test]
fn our_own_requests_tell_of_each_partition() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    client.produce("t", batch(&["v"]), -1);
    let told = client.call(0, &DescribeStorageRequest { topics: None });
    assert_eq!(told.directories.len(), 1);
    assert!(told.directories[0].total_bytes > 0 && told.directories[0].free_bytes > 0);
    let partition = &told.topics[0].partitions[0];
    assert_eq!((partition.state, partition.error_code), (StorageState::Ok.code(), 0));
    assert_eq!((partition.log_start, partition.high_watermark, partition.durable_offset), (0, 1, 1));
    assert_eq!((partition.segments, partition.oldest_record_ms), (1, 1_000_000));
    assert!(partition.bytes > 0 && partition.quarantined.is_empty());
    assert!(partition.next_deletion_reason.as_ref().unwrap().contains("never"));
    let unknown = vec![DescribeStorageTopic { name: KStr::from_static("nope"), partitions: Vec::new() }];
    let told = client.call(0, &DescribeStorageRequest { topics: Some(unknown) });
    assert_eq!(told.topics[0].error_code, ErrorCode::UnknownTopicOrPartition.code());
}

#[test]
fn only_compacted_topics_can_be_compacted() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    let topics = vec![
        CompactLogsTopic { name: KStr::from_static("t"), partitions: Vec::new() },
        CompactLogsTopic { name: KStr::from_static("nope"), partitions: Vec::new() },
    ];
    let told = client.call(0, &CompactLogsRequest { topics, is_start: true });
    assert_eq!(told.topics[0].error_code, ErrorCode::PolicyViolation.code());
    assert!(told.topics[0].error_message.as_ref().unwrap().contains("cleanup.policy"));
    assert_eq!(told.topics[1].error_code, ErrorCode::UnknownTopicOrPartition.code());
}

#[test]
fn consoles_are_told_how_large_partitions_are() {
    let two = Two::new();
    let (_broker, mut client) = two.start();
    client.create_topic("t", 2, &[]);
    assert_eq!((write(&mut client, 0), write(&mut client, 1)), (0, 0));
    for version in 1..=4 {
        let told: DescribeLogDirsResponse = client.call(version, &DescribeLogDirsRequest { topics: None });
        assert_eq!((told.error_code, told.results.len()), (0, 2));
        for folder in &told.results {
            assert_eq!(folder.error_code, 0);
            let [topic] = &folder.topics[..] else { panic!("each has a partition of it") };
            assert!(topic.partitions[0].partition_size > 0);
            assert_eq!(folder.total_bytes > 0, version >= 4);
        }
    }
}

#[test]
fn a_compaction_that_somebody_asks_for_is_done_and_told_of() {
    let bed = Bed::new();
    let mut client = bed.client();
    client.create_topic("t", 1, &[("cleanup.policy", "compact")]);
    for _ in 0..20 {
        assert_eq!(client.produce("t", batch(&["old", "new"]), -1).error_code, 0);
    }
    let ask = |client: &mut Client, is_start| {
        let topics = vec![CompactLogsTopic { name: KStr::from_static("t"), partitions: Vec::new() }];
        let told = client.call(0, &CompactLogsRequest { topics, is_start });
        told.topics[0].partitions[0].clone()
    };
    assert_eq!(ask(&mut client, false).runs, 0);
    let asked = ask(&mut client, true);
    assert_eq!((asked.error_code, asked.state), (0, CompactionState::Waiting.code()));
    let mut told = asked;
    while told.state != CompactionState::Idle.code() {
        assert_ne!(told.state, CompactionState::Failed.code(), "{told:?}");
        std::thread::yield_now();
        told = ask(&mut client, false);
    }
    assert_eq!((told.runs, told.dirty_bytes), (1, 0), "{told:?}");
    assert!(told.last_end_ms > 0);
    let partition = &storage(&mut client, "t")[0];
    assert!(partition.is_compacted && partition.last_compaction_ms > 0);
    assert_eq!((partition.cleaned_to, partition.log_end), (40, 40));
    assert!(partition.next_deletion_reason.as_ref().unwrap().contains("only compacted"));
    // Fetch tells of one segment at a time: the last record of the only key is all that is left.
    assert_eq!(values(&client.fetch("t", 0)), [(39, "new".to_owned())]);
}
