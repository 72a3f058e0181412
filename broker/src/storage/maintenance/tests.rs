//! A node over a simulated disk, maintained step by step.

use std::collections::BTreeMap;

use millstream_log::{
    Acks, Append, AppendError, Appended, CleanStart, Damage, Disk, Flusher, IfMissing, LeaderEpoch,
    ManualClock, SimDisk,
};
use millstream_protocol::records::{BatchBuilder, BatchView, Compression, NewRecord};
use millstream_protocol::{KStr, Uuid};

use super::*;
use crate::machine::{Control, Machine, Uuids};
use crate::meta_store::LocalMetaStore;
use crate::metadata::identity::Identity;
use crate::metadata::topics::{Partition, Topic};
use crate::node::NodeParts;
use crate::settings::{self, BrokerSettings, Written};
use crate::storage::data_dir::DataDir;
use crate::storage::directory::{Directory, DirectoryParts};
use crate::storage::folders::FIRST;
use crate::transactions::{self, Begin, EnlistPartition, TopicPartition, Version};

/// The clock of these tests, in seconds.
fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

struct Stage {
    disk: SimDisk,
    clock: Arc<ManualClock>,
    node: Arc<Node>,
    keeper: Keeper,
    cleaner: Cleaner,
}

impl Stage {
    fn on(disk: &SimDisk, settings: &[(&str, &str)]) -> Self {
        let mut written = Written::new();
        settings::write(&mut written, "log.retention.ms", "-1").unwrap();
        settings.iter().for_each(|(name, value)| settings::write(&mut written, name, value).unwrap());
        let settings = BrokerSettings::new(written).unwrap();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let path = std::path::Path::new("/data");
        if shared.list(path).is_err() {
            shared.create_dir(path).unwrap();
            shared.create_dir(&path.join("topics")).unwrap();
        }
        let store = Arc::new(LocalMetaStore::open(Arc::clone(&shared), &path.join("meta")).unwrap());
        let directory = Directory::new(DirectoryParts {
            id: FIRST,
            path: path.to_owned(),
            disk: Arc::clone(&shared),
            flusher: Flusher::inline(),
            clean: CleanStart::No,
            low_water: settings.low_water,
        });
        let clock = Arc::new(ManualClock::at(1_000_000));
        let machine = Machine { clock: clock.clone(), uuids: Arc::new(Uuids::Random), threads: 1 };
        let identity =
            Identity { cluster_id: "c".into(), leader_epoch: LeaderEpoch::new(3), clean: CleanStart::No };
        let parts = NodeParts {
            machine,
            control: Control::Threads(tokio::runtime::Handle::current()),
            identity,
            store,
            directories: vec![Arc::clone(&directory)],
            missing: Vec::new(),
            http_address: None,
        };
        let node = Arc::new(Node::open(settings, parts).unwrap());
        let keeper = Keeper::new(Arc::clone(&node), Arc::clone(&directory));
        let cleaner = Cleaner::new(Arc::clone(&node), directory);
        Self { disk: disk.clone(), clock, node, keeper, cleaner }
    }

    fn create(&self, name: &'static str) -> Arc<Topic> {
        self.node.topics.create(&KStr::from_static(name), 1, BTreeMap::new()).unwrap()
    }

    fn topic(&self, name: &str) -> Arc<Topic> {
        Arc::clone(self.node.topics.snapshot().named(name).unwrap())
    }

    /// A count or gauge as it is scraped.
    fn metric(&self, name: &str) -> f64 {
        let text = self.node.metrics.render(&self.node.topics);
        let is_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        let line = text.lines().find(is_it).unwrap_or_else(|| panic!("no {name} in\n{text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

fn only(topic: &Topic) -> &Arc<Partition> {
    &topic.partitions[0]
}

fn write(partition: &Partition) -> Result<Appended, AppendError> {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(&NewRecord { timestamp: 1, key: Some(b"k"), value: Some(&[7; 1000]), headers: &[] });
    let batch = builder.build();
    let header = BatchView::parse(&batch).unwrap().header();
    let (done, outcome) = std::sync::mpsc::channel();
    let log = partition.log().unwrap();
    let more = log.append(
        Append { batch, header, acks: Acks::Durable, transaction: None },
        Box::new(move |result| done.send(result).unwrap()),
    );
    drop(more);
    outcome.recv().unwrap()
}

#[tokio::test]
async fn a_partition_whose_flush_failed_takes_records_again_by_itself() {
    let disk = SimDisk::new();
    let mut stage = Stage::on(&disk, &[]);
    let (topic, other) = (stage.create("t"), stage.create("other"));
    write(only(&topic)).unwrap();
    let before = stage.node.view.leadership(topic.id, only(&topic)).epoch;
    disk.fail_sync(0);
    assert!(write(only(&topic)).is_err());
    assert!(!disk.fault_is_pending(), "the fault bit");
    assert!(write(only(&topic)).is_err(), "nothing is acknowledged after it");
    write(only(&other)).unwrap();
    assert_eq!(stage.metric("millstream_partitions_failed"), 1.0);
    stage.keeper.step(at(0));
    write(only(&topic)).unwrap();
    let after = stage.node.view.leadership(topic.id, only(&topic)).epoch;
    assert!(after > before, "{after} is not beyond {before}: who saw what is lost must be told");
    assert_eq!(stage.metric("millstream_partitions_failed"), 0.0);
    assert_eq!(stage.metric("millstream_partitions_reopened_total"), 1.0);
}

#[tokio::test]
async fn a_partition_that_fails_again_and_again_is_tried_ever_later() {
    let disk = SimDisk::new();
    let mut stage = Stage::on(&disk, &[]);
    let topic = stage.create("t");
    disk.fail_sync(0);
    assert!(write(only(&topic)).is_err());
    let mut tries = Vec::new();
    for second in 0..40 {
        disk.fail_change(0);
        stage.keeper.step(at(second));
        if !disk.fault_is_pending() {
            tries.push(second);
        }
        disk.heal();
    }
    assert_eq!(tries, [0, 1, 3, 7, 15, 31]);
    assert_eq!(stage.metric("millstream_partition_reopens_failed_total"), 6.0);
    stage.keeper.step(at(63));
    write(only(&topic)).unwrap();
}

#[tokio::test]
async fn a_partition_that_ran_out_of_room_comes_back_once_there_is_room() {
    let disk = SimDisk::new();
    let mut stage = Stage::on(&disk, &[("log.disk.free.min.bytes", "0")]);
    let topic = stage.create("t");
    write(only(&topic)).unwrap();
    disk.set_capacity(Some(disk.used_bytes() + 500));
    assert!(write(only(&topic)).is_err());
    assert!(disk.bites().refused_for_space > 0, "the fault bit");
    for second in 0..5 {
        stage.keeper.step(at(second));
        assert!(only(&topic).log().unwrap().is_failed());
    }
    assert_eq!(stage.metric("millstream_partition_reopens_failed_total"), 0.0, "it waits for room");
    disk.set_capacity(Some(disk.used_bytes() + (1 << 20)));
    stage.keeper.step(at(5));
    assert_eq!(write(only(&topic)).unwrap().base_offset.get(), 1);
}

#[tokio::test]
async fn room_is_watched_and_what_would_use_it_up_is_refused_before_it_is() {
    let disk = SimDisk::new();
    let mut stage = Stage::on(&disk, &[("log.disk.free.min.bytes", "10000")]);
    let topic = stage.create("t");
    let space = |stage: &Stage| stage.node.topics.directories()[0].space.take(1000).is_ok();
    disk.set_capacity(Some(disk.used_bytes() + 20_000));
    stage.keeper.step(at(0));
    let taken = (0..100).take_while(|_| space(&stage)).count();
    assert_eq!(taken, 10, "so many fit above the mark, and nobody has looked meanwhile");
    assert_eq!(stage.metric("millstream_disk_low"), 1.0);
    assert_eq!(stage.metric("millstream_disk_low_refused_total"), 1.0);
    disk.set_capacity(Some(disk.used_bytes() + 12_000));
    stage.keeper.step(at(1));
    assert!(!space(&stage), "it would be refused a moment later");
    disk.set_capacity(Some(disk.used_bytes() + 13_000));
    stage.keeper.step(at(2));
    assert!(space(&stage));
    write(only(&topic)).unwrap();
}

#[tokio::test]
async fn a_partition_that_could_not_be_opened_at_the_start_is_opened_later() {
    let disk = SimDisk::new();
    let stage = Stage::on(&disk, &[]);
    let topic = stage.create("t");
    write(only(&topic)).unwrap();
    let folder = stage.node.topics.directories()[0].folder_of(topic.id, 0);
    drop(stage);
    disk.remove_dir(&folder).unwrap();
    disk.open(&folder, IfMissing::Create).unwrap();
    let mut stage = Stage::on(&disk, &[]);
    let summary = stage.node.topics.recover(&|| false);
    assert_eq!((summary.partitions, summary.failed), (1, 1));
    let topic = stage.topic("t");
    stage.keeper.step(at(0));
    assert!(only(&topic).log().is_err(), "a file is where its folder should be");
    assert_eq!(stage.metric("millstream_partition_reopens_failed_total"), 1.0);
    disk.remove_file(&folder).unwrap();
    stage.keeper.step(at(1));
    write(only(&topic)).unwrap();
    assert_eq!(stage.metric("millstream_partitions_failed"), 0.0);
}

#[tokio::test]
async fn damage_is_found_by_the_scrub_and_costs_its_range_only() {
    let disk = SimDisk::new();
    let mut stage = Stage::on(&disk, &[("log.scrub.max.bytes.per.second", "1000000000")]);
    assert_eq!(stage.cleaner.step(at(0)), Duration::from_secs(1), "nothing is open yet: no pass is begun");
    stage.node.topics.recover(&|| false);
    let topic = stage.create("t");
    for _ in 0..3 {
        write(only(&topic)).unwrap();
    }
    only(&topic).log().unwrap().checkpoint().unwrap();
    let scrub_all = |stage: &mut Stage, from: u64| {
        let mut steps = 0;
        while stage.cleaner.step(at(from)) == Duration::ZERO {
            steps += 1;
            assert!(steps < 100, "a pass comes to its end");
        }
    };
    scrub_all(&mut stage, 0);
    assert!(stage.metric("millstream_scrubbed_bytes_total") > 3000.0);
    assert_eq!(stage.metric("millstream_quarantined_ranges"), 0.0);
    let path = stage.node.topics.directories()[0].folder_of(topic.id, 0).join(format!("{:020}.log", 0));
    assert!(stage.disk.damage(&path, Damage::FlippedBit { bit: 8 * 1500 + 3 }));
    stage.disk.evict(&path);
    scrub_all(&mut stage, 3600);
    assert_eq!(stage.metric("millstream_quarantined_ranges"), 0.0, "a day has not passed");
    scrub_all(&mut stage, 24 * 3600);
    assert_eq!(stage.metric("millstream_quarantined_ranges"), 1.0);
    let [range] = &only(&topic).log().unwrap().quarantined()[..] else { panic!("one range") };
    assert_eq!((range.offsets.start.get(), range.offsets.end.get()), (1, 2));
    write(only(&topic)).unwrap();
}

#[test]
fn a_folder_over_any_disk_has_its_format_and_its_mark() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new());
    let id = Some(Uuid::from_u128(7));
    let open = || DataDir::unlocked(Arc::clone(&disk), std::path::Path::new("/data")).unwrap();
    let mut folder = open();
    folder.prepare(id).unwrap();
    assert_eq!(folder.take_clean_mark().unwrap(), CleanStart::No);
    folder.settle(CleanStart::No).unwrap();
    folder.mark_clean().unwrap();
    let folder = open();
    assert_eq!((folder.id(), folder.is_new()), (id, false));
    assert_eq!(folder.take_clean_mark().unwrap(), CleanStart::Yes);
}

#[test]
fn a_thread_that_rests_ends_at_once_when_it_is_told() {
    let stop = Arc::new(Stop::default());
    let (stepped, steps) = std::sync::mpsc::channel();
    let thread = run("test", &stop, Urgency::WhenIdle, move |_| {
        stepped.send(()).unwrap();
        Duration::from_hours(1)
    });
    steps.recv().unwrap();
    let maintenance = Maintenance { stop, paces: Vec::new(), threads: vec![thread.unwrap()] };
    maintenance.stop();
    assert!(steps.recv().is_err(), "it stepped once");
}

/// Time goes by, for all that keeps it by tokio's clock; nobody waits for it.
async fn pass(time: Duration) {
    tokio::time::timeout(time, std::future::pending::<()>()).await.unwrap_err();
}

/// InitProducerId.
fn begin() -> Begin {
    Begin { id: KStr::from_static("tx"), timeout_ms: 60_000, expected: None, fresh: None }
}

/// A machine that knows what its log does not serves nobody, and a transaction that has to end waits for it.
#[tokio::test(start_paused = true)]
async fn a_coordinator_whose_log_failed_is_read_again_though_nobody_asks() {
    let disk = SimDisk::new();
    let mut stage = Stage::on(&disk, &[("transaction.state.log.num.partitions", "1")]);
    let node = Arc::clone(&stage.node);
    let keeping = tokio::spawn(transactions::keep_time(Arc::clone(&node)));
    let topic = stage.create("t");
    let by = node.transactions.begin(&node, begin()).await.unwrap();
    let partition = TopicPartition { topic: topic.name.clone(), partition: 0 };
    let wanted = vec![EnlistPartition { partition, is_open: false }];
    node.transactions.add(&node, &KStr::from_static("tx"), by, wanted, Version::Two).await.unwrap();
    disk.fail_sync(0);
    pass(at(61)).await;
    assert!(!disk.fault_is_pending(), "the fault bit when the transaction timed out");
    assert!(node.transactions.standing(&node).is_empty(), "it is not believed any more");
    stage.keeper.step(at(61));
    let again = async {
        while node.transactions.standing(&node).is_empty() {
            pass(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(at(10), again).await.expect("it is read again soon");
    node.stop();
    keeping.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_ahead_lets_no_transactional_id_expire() {
    let disk = SimDisk::new();
    let stage = Stage::on(&disk, &[("transactional.id.expiration.ms", "60000")]);
    let node = Arc::clone(&stage.node);
    let keeping = tokio::spawn(transactions::keep_time(Arc::clone(&node)));
    node.transactions.begin(&node, begin()).await.unwrap();
    let ids = || node.transactions.standing(&node).iter().map(|one| one.empty).sum::<usize>();
    stage.clock.set(1_000_000 + 3_600_000);
    pass(at(61)).await;
    assert_eq!(ids(), 1, "it is not an hour old");
    stage.clock.set(1_000_000);
    stage.clock.advance(at(61));
    pass(at(61)).await;
    assert_eq!(ids(), 0, "a minute has passed");
    node.stop();
    keeping.await.unwrap();
}
