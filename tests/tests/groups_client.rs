//! Consumers in groups against a real broker, in both protocols: by default a broker inside this process; with
//! `MILLSTREAM_TEST_BOOTSTRAP=host:port` whichever listens there, Apache Kafka included.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_broker::Broker;
use millstream_client::{Client, NewTopic};
use millstream_consumer::{
    Assignor, CommitError, ConsumeError, Consumer, ConsumerBuilder, ConsumerExt, GroupError, GroupProtocol,
    LossReason, MemberState, Offsets, Rebalance, StartAt, TopicPartition,
};
use millstream_producer::{Producer, Record};
use millstream_tests::port::Port;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio::runtime::Runtime;
use tokio::sync::watch;

const PROTOCOLS: [GroupProtocol; 2] = [GroupProtocol::Classic, GroupProtocol::Consumer];
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker whose groups are quick; its data goes when it does.
struct Peer {
    bootstrap: String,
    _own: Option<(Broker, tempfile::TempDir)>,
}

fn begin(dir: &std::path::Path, address: &str) -> Broker {
    Broker::builder()
        .data_dir(dir)
        .listen(address)
        .no_http()
        .set("log.retention.ms", "-1")
        .set("group.initial.rebalance.delay.ms", "0")
        .set("group.min.session.timeout.ms", "500")
        .set("group.consumer.min.session.timeout.ms", "500")
        .set("group.consumer.session.timeout.ms", "3000")
        .set("group.consumer.min.heartbeat.interval.ms", "50")
        .set("group.consumer.heartbeat.interval.ms", "200")
        .start()
        .unwrap()
}

impl Peer {
    fn start() -> Self {
        if let Ok(bootstrap) = std::env::var("MILLSTREAM_TEST_BOOTSTRAP") {
            return Self { bootstrap, _own: None };
        }
        let dir = tempfile::tempdir().unwrap();
        let broker = begin(dir.path(), "127.0.0.1:0");
        Self { bootstrap: broker.kafka_address().to_string(), _own: Some((broker, dir)) }
    }

    async fn client(&self) -> Client {
        connect(&self.bootstrap).await
    }

    /// A client, and the name of a fresh topic; it serves as the name of a fresh group as well.
    async fn topic(&self, name: &str, partitions: i32) -> (Client, String) {
        let client = self.client().await;
        let topic = format!("{name}-{}", rand::rng().next_u64());
        client.admin().create_topic(NewTopic::new(topic.as_str()).partitions(partitions)).await.unwrap();
        (client, topic)
    }
}

async fn connect(bootstrap: &str) -> Client {
    Client::builder(bootstrap).client_id("groups-test").connect().await.unwrap()
}

/// A member whose sessions are short, as far as it has a say.
fn member(client: &Client, group: &str, protocol: GroupProtocol) -> ConsumerBuilder {
    let builder = client.consumer(group).protocol(protocol).start_at(StartAt::Beginning);
    let builder =
        builder.session_timeout(Duration::from_secs(6)).heartbeat_interval(Duration::from_millis(100));
    builder.max_wait(Duration::from_millis(50)).topics_every(Duration::from_millis(200))
}

/// Writes numbers to partitions in turn.
async fn write(client: &Client, topic: &str, partitions: i32, numbers: std::ops::Range<i32>) {
    let producer = Producer::builder(client.clone()).build();
    for n in numbers {
        let value = n.to_string();
        drop(producer.send(Record::to(topic).partition(n % partitions).value(&value)).await.unwrap());
    }
    producer.close().await.unwrap();
}

async fn offset(consumer: &mut Consumer) -> i64 {
    tokio::time::timeout(PATIENCE, consumer.recv()).await.unwrap().unwrap().unwrap().offset
}

#[tokio::test]
async fn a_group_goes_on_where_it_committed_and_says_so_when_it_did_not() {
    let peer = Peer::start();
    for protocol in PROTOCOLS {
        let (client, topic) = peer.topic("resume", 1).await;
        write(&client, &topic, 1, 0..20).await;
        let strict = client.consumer(topic.as_str()).protocol(protocol).subscribe([topic.as_str()]);
        let mut strict = strict.build().await.unwrap();
        let error = tokio::time::timeout(PATIENCE, strict.recv()).await.unwrap().unwrap_err();
        assert!(
            matches!(error, ConsumeError::NoCommittedOffset { partition: 0, .. }),
            "{protocol:?}: {error}"
        );
        strict.close().await.unwrap();

        let mut first = member(&client, &topic, protocol).subscribe([topic.as_str()]).build().await.unwrap();
        for wanted in 0..10 {
            assert_eq!(offset(&mut first).await, wanted, "{protocol:?}");
        }
        assert_eq!(first.positions().get(&topic, 0), Some(10));
        let mut offsets = Offsets::new();
        offsets.insert(topic.as_str(), 0, 7);
        offsets.note(topic.as_str(), 0, "seven");
        first.commit(offsets).await.unwrap();
        // What it has read beyond that is nobody's business: closing commits nothing.
        first.close().await.unwrap();
        let committed = client.admin().committed_offsets(&topic).await.unwrap();
        assert_eq!((committed[0].offset, &*committed[0].metadata), (7, "seven"), "{protocol:?}");

        let mut second = member(&client, &topic, protocol).subscribe([topic.as_str()]).build().await.unwrap();
        let record = tokio::time::timeout(PATIENCE, second.recv()).await.unwrap().unwrap().unwrap();
        assert_eq!(record.offset, 7, "{protocol:?}");
        second.commit(&record).await.unwrap();
        let status = second.status().unwrap();
        assert_eq!((status.protocol, status.state), (protocol, MemberState::Stable));
        drop(second);
        // By hand, without being a member: the group is empty once the dropped one has left.
        let assigned = client.consumer(topic.as_str()).assign(topic.as_str(), 0, StartAt::Committed);
        let mut assigned = assigned.build().await.unwrap();
        assert_eq!(offset(&mut assigned).await, 8);
    }
}

/// What several members have in common.
#[derive(Default)]
struct Seen {
    owners: BTreeMap<i32, String>,
    records: BTreeMap<(i32, i64), Vec<String>>,
    wrong: Vec<String>,
    changes: BTreeMap<String, usize>,
}

struct World {
    seen: Mutex<Seen>,
    changed: watch::Sender<()>,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self { seen: Mutex::default(), changed: watch::Sender::default() })
    }

    fn with<T>(&self, change: impl FnOnce(&mut Seen) -> T) -> T {
        let result = change(&mut self.seen.lock().unwrap());
        self.changed.send_replace(());
        result
    }

    /// Waits until something is so.
    async fn until(&self, what: &str, is_so: impl Fn(&Seen) -> bool) {
        let mut changed = self.changed.subscribe();
        let wait = async {
            while !is_so(&self.seen.lock().unwrap()) {
                changed.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            let seen = self.seen.lock().unwrap();
            panic!("not in time: {what}; owners {:?}, wrong {:?}", seen.owners, seen.wrong);
        }
    }

    fn take(&self, name: &str, partitions: &[TopicPartition]) {
        self.with(|seen| {
            *seen.changes.entry(name.to_owned()).or_default() += 1;
            for TopicPartition { partition, .. } in partitions {
                if let Some(other) = seen.owners.insert(*partition, name.to_owned()) {
                    seen.wrong.push(format!("{name} was given {partition}, which {other} has"));
                }
            }
        });
    }

    fn give(&self, name: &str, partitions: &[TopicPartition]) {
        self.with(|seen| {
            *seen.changes.entry(name.to_owned()).or_default() += 1;
            for TopicPartition { partition, .. } in partitions {
                if seen.owners.get(partition).is_some_and(|owner| owner == name) {
                    seen.owners.remove(partition);
                }
            }
        });
    }

    /// How many partitions each has.
    fn loads(seen: &Seen) -> Vec<usize> {
        let mut loads = BTreeMap::<&String, usize>::new();
        seen.owners.values().for_each(|owner| *loads.entry(owner).or_default() += 1);
        loads.into_values().collect()
    }
}

/// A member in a runtime of its own, so that it can die without a word.
struct Life {
    name: String,
    world: Arc<World>,
    runtime: Option<Runtime>,
    stop: watch::Sender<bool>,
}

impl Life {
    /// Reads; commits each record; before a partition goes, what is done of it is committed.
    fn begin(
        bootstrap: &str,
        (topic, name): (&str, &str),
        protocol: GroupProtocol,
        world: &Arc<World>,
    ) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (stop, mut stopped) = watch::channel(false);
        let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
        let (own_name, own_world) = (name.to_owned(), world.clone());
        let (name, world) = (name.to_owned(), world.clone());
        runtime.spawn(async move {
            let client = connect(&bootstrap).await;
            let (seen, of) = (world.clone(), name.clone());
            let done: Arc<Mutex<BTreeMap<i32, i64>>> = Arc::default();
            let consumed = done.clone();
            let builder = member(&client, &topic, protocol).subscribe([topic.as_str()]);
            let builder = builder.on_rebalance(move |rebalance| {
                let (seen, of, consumed, topic) = (seen.clone(), of.clone(), consumed.clone(), topic.clone());
                async move {
                    match rebalance {
                        Rebalance::Assigned(assigned) => seen.take(&of, assigned.partitions()),
                        Rebalance::Revoked(revoked) => {
                            let mut offsets = Offsets::new();
                            for TopicPartition { partition, .. } in revoked.partitions() {
                                if let Some(next) = consumed.lock().unwrap().remove(partition) {
                                    offsets.insert(topic.as_str(), *partition, next);
                                }
                            }
                            if let Err(error) = revoked.committer().commit(offsets).await {
                                seen.with(|seen| seen.wrong.push(format!("{of} could not commit: {error}")));
                            }
                            seen.give(&of, revoked.partitions());
                        }
                        Rebalance::Lost(lost) => seen.give(&of, lost.partitions()),
                        _ => {}
                    }
                }
            });
            let mut consumer = builder.build().await.unwrap();
            loop {
                tokio::select! {
                    record = consumer.recv() => match record {
                        Ok(record) => {
                            let record = record.unwrap();
                            done.lock().unwrap().insert(record.partition, record.offset + 1);
                            world.with(|seen| {
                                seen.records.entry((record.partition, record.offset)).or_default().push(name.clone());
                            });
                        }
                        Err(error) => world.with(|seen| seen.wrong.push(format!("{name}: {error}"))),
                    },
                    _ = stopped.changed() => break,
                }
            }
            consumer.close().await.unwrap();
            world.with(|seen| seen.changes.remove(&name));
        });
        Self { name: own_name, world: own_world, runtime: Some(runtime), stop }
    }

    fn kill(mut self) {
        self.runtime.take().unwrap().shutdown_background();
        self.world.with(|seen| seen.owners.retain(|_, owner| *owner != self.name));
    }

    async fn close(mut self) {
        self.stop.send(true).unwrap();
        let name = self.name.clone();
        self.world.until("a member leaves", |seen| !seen.changes.contains_key(&name)).await;
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_come_go_and_die_share_partitions_and_skip_nothing() {
    let peer = Peer::start();
    for protocol in PROTOCOLS {
        let (client, topic) = peer.topic("share", 6).await;
        let world = World::new();
        let start = |name: &str| Life::begin(&peer.bootstrap, (&topic, name), protocol, &world);
        write(&client, &topic, 6, 0..600).await;
        let first = start("first");
        world.until("one has all", |seen| World::loads(seen) == [6]).await;
        let (second, third) = (start("second"), start("third"));
        world.until("three have two each", |seen| World::loads(seen) == [2, 2, 2]).await;
        write(&client, &topic, 6, 600..1200).await;
        world.until("all is read", |seen| seen.records.len() == 1200).await;
        world.with(|seen| {
            assert_eq!(seen.wrong, Vec::<String>::new(), "{protocol:?}");
            let doubled = seen.records.iter().find(|(_, readers)| readers.len() > 1);
            assert_eq!(doubled, None, "{protocol:?}: nobody died, and everybody committed");
        });
        second.kill();
        world.until("two have three each", |seen| World::loads(seen) == [3, 3]).await;
        write(&client, &topic, 6, 1200..1800).await;
        world.until("all is read", |seen| seen.records.len() == 1800).await;
        third.close().await;
        world.until("one has all again", |seen| World::loads(seen) == [6]).await;
        write(&client, &topic, 6, 1800..2400).await;
        world.until("all is read", |seen| seen.records.len() == 2400).await;
        first.close().await;
        world.with(|seen| assert_eq!(seen.wrong, Vec::<String>::new(), "{protocol:?}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_range_everything_is_given_up_and_shared_out_anew() {
    let peer = Peer::start();
    let (client, topic) = peer.topic("range", 4).await;
    write(&client, &topic, 4, 0..40).await;
    let eager = || {
        let builder = member(&client, &topic, GroupProtocol::Classic).subscribe([topic.as_str()]);
        builder.assignors([Assignor::Range]).auto_commit(Duration::ZERO)
    };
    let mut one = eager().build().await.unwrap();
    offset(&mut one).await;
    assert_eq!(one.assignment().count(), 4);
    let mut two = eager().build().await.unwrap();
    let mut counts = BTreeMap::<i32, usize>::new();
    let mut turns = 0;
    while one.assignment().count() != 2
        || two.assignment().count() != 2
        || counts.values().sum::<usize>() < 39
    {
        let either = async {
            tokio::select! { record = one.recv() => record, record = two.recv() => record }
        };
        if let Ok(record) = tokio::time::timeout(Duration::from_millis(200), either).await {
            *counts.entry(record.unwrap().unwrap().partition).or_default() += 1;
        }
        turns += 1;
        assert!(turns < 600, "{counts:?} {:?} {:?}", one.status(), two.status());
    }
    assert_eq!(counts.values().sum::<usize>(), 39, "what was done was committed before it was given up");
    one.close().await.unwrap();
    two.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_member_that_restarts_gets_back_what_it_had_and_nobody_else_notices() {
    let peer = Peer::start();
    for protocol in PROTOCOLS {
        let (client, topic) = peer.topic("static", 4).await;
        let world = World::new();
        let other = Life::begin(&peer.bootstrap, (&topic, "other"), protocol, &world);
        world.until("the other has all", |seen| World::loads(seen) == [4]).await;
        let builder = member(&client, &topic, protocol).subscribe([topic.as_str()]).instance_id("named");
        let mut named = builder.clone().build().await.unwrap();
        settle(&mut named, 2).await;
        world.until("the other has half", |seen| World::loads(seen) == [2]).await;
        let before: BTreeSet<i32> = named.assignment().map(|(_, partition)| partition).collect();
        let changes = world.with(|seen| seen.changes["other"]);
        named.close().await.unwrap();
        let mut again = builder.build().await.unwrap();
        settle(&mut again, 2).await;
        let after: BTreeSet<i32> = again.assignment().map(|(_, partition)| partition).collect();
        assert_eq!(before, after, "{protocol:?}");
        assert_eq!(world.with(|seen| seen.changes["other"]), changes, "{protocol:?}");
        // Two that fight for a name: one is out for good, and says so.
        let hasty =
            Client::builder(&peer.bootstrap).total_timeout(Duration::from_secs(2)).connect().await.unwrap();
        let twin = member(&hasty, &topic, protocol).subscribe([topic.as_str()]).instance_id("named");
        let mut twin = twin.build().await.unwrap();
        let fenced = async {
            loop {
                tokio::select! {
                    result = twin.recv() => if let Err(error) = result { break error },
                    result = again.recv() => if let Err(error) = result { break error },
                }
            }
        };
        let error = fenced.await;
        let is_fenced = matches!(&error, ConsumeError::Group(GroupError::Fenced { .. }));
        let is_lost = matches!(&error, ConsumeError::PartitionsLost { reason: LossReason::Failed, .. });
        assert!(is_fenced || is_lost, "{protocol:?}: {error}");
        other.close().await;
    }
}

/// Waits until a member has so many partitions.
async fn settle(consumer: &mut Consumer, count: usize) {
    let mut turns = 0;
    while consumer.assignment().count() != count {
        let _ = tokio::time::timeout(Duration::from_millis(100), consumer.recv()).await;
        turns += 1;
        assert!(turns < 600, "{:?} has {} partitions", consumer.status(), consumer.assignment().count());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_outlive_their_broker() {
    let port = Port::reserve().unwrap();
    for protocol in PROTOCOLS {
        let dir = tempfile::tempdir().unwrap();
        let address: SocketAddr = port.address();
        let mut broker = begin(dir.path(), &address.to_string());
        let client = connect(&address.to_string()).await;
        let topic = "t";
        client.admin().create_topic(NewTopic::new(topic).partitions(2)).await.unwrap();
        let builder =
            member(&client, "g", protocol).subscribe([topic]).session_timeout(Duration::from_secs(20));
        let mut consumer = builder.build().await.unwrap();
        let mut next = BTreeMap::from([(0, 0), (1, 0)]);
        for round in 0..3 {
            write(&client, topic, 2, round * 100..(round + 1) * 100).await;
            for _ in 0..100 {
                let record = tokio::time::timeout(PATIENCE, consumer.recv()).await.unwrap().unwrap().unwrap();
                let wanted = next.get_mut(&record.partition).unwrap();
                assert_eq!(record.offset, *wanted, "{protocol:?}");
                *wanted += 1;
            }
            let committing = consumer.commit(consumer.positions());
            broker.shutdown().await;
            // The commit finds nobody, or is cut off; it is made up for.
            let restarted = async { begin(dir.path(), &address.to_string()) };
            let (committed, started) = tokio::join!(committing, restarted);
            committed.unwrap();
            broker = started;
        }
        let committed = client.admin().committed_offsets("g").await.unwrap();
        assert_eq!(committed.iter().map(|of| of.offset).collect::<Vec<_>>(), [150, 150], "{protocol:?}");
        consumer.close().await.unwrap();
        drop(client);
        broker.shutdown().await;
    }
}

#[tokio::test]
async fn by_a_pattern_topics_are_read_that_come_later() {
    let peer = Peer::start();
    for protocol in PROTOCOLS {
        let (client, topic) = peer.topic("pattern", 1).await;
        let pattern = format!("{topic}.*");
        let mut consumer =
            member(&client, &topic, protocol).subscribe_pattern(pattern.as_str()).build().await.unwrap();
        write(&client, &topic, 1, 0..1).await;
        assert_eq!(offset(&mut consumer).await, 0);
        let later = format!("{topic}-later");
        client.admin().create_topic(NewTopic::new(later.as_str()).partitions(2)).await.unwrap();
        write(&client, &later, 2, 0..2).await;
        for _ in 0..2 {
            let record = tokio::time::timeout(PATIENCE, consumer.recv()).await.unwrap().unwrap().unwrap();
            assert_eq!(record.topic.as_str(), later, "{protocol:?}");
        }
        consumer.close().await.unwrap();
    }
    let client = peer.client().await;
    let wrong = client.consumer("g").subscribe_pattern("a[").build().await.unwrap_err();
    assert!(matches!(wrong, ConsumeError::Settings(_)), "{wrong}");
}

#[tokio::test]
async fn calls_that_are_dropped_at_any_time_lose_and_double_nothing() {
    let peer = Peer::start();
    let seed = rand::rng().next_u64();
    let mut chance = StdRng::seed_from_u64(seed);
    for protocol in PROTOCOLS {
        let (client, topic) = peer.topic("dropped", 3).await;
        write(&client, &topic, 3, 0..1500).await;
        let builder = member(&client, &topic, protocol).subscribe([topic.as_str()]);
        // A hook that takes some time belongs to the consumer too.
        let builder = builder.on_rebalance(|_| async {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        });
        let mut consumer = builder.max_bytes(2000).max_partition_bytes(1000).build().await.unwrap();
        let mut next = BTreeMap::<i32, i64>::new();
        let mut count = 0;
        while count < 1500 {
            let patience = Duration::from_micros(chance.random_range(0..3000));
            let records = match chance.random_bool(0.5) {
                true => tokio::time::timeout(patience, consumer.recv_batch()).await,
                false => tokio::time::timeout(patience, consumer.recv())
                    .await
                    .map(|record| record.map(|record| record.into_iter().collect())),
            };
            let Ok(records) = records else { continue };
            let records = records.unwrap();
            for record in &records {
                let wanted = next.entry(record.partition).or_default();
                assert_eq!(record.offset, *wanted, "{protocol:?}, seed {seed}");
                *wanted += 1;
                count += 1;
            }
            // A commit that is dropped may or may not be carried out; the last one is.
            let _ = tokio::time::timeout(patience, consumer.commit(&records)).await;
        }
        consumer.commit(consumer.positions()).await.unwrap();
        let committed = client.admin().committed_offsets(&topic).await.unwrap();
        assert_eq!(
            committed.iter().map(|of| of.offset).collect::<Vec<_>>(),
            [500; 3],
            "{protocol:?}, seed {seed}"
        );
        consumer.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_slow_program_does_not_give_up_in_time_is_taken_and_it_stays_in_its_group() {
    let peer = Peer::start();
    for protocol in PROTOCOLS {
        let (client, topic) = peer.topic("slow", 2).await;
        write(&client, &topic, 2, 0..2).await;
        let builder = member(&client, &topic, protocol).subscribe([topic.as_str()]);
        let builder = builder.rebalance_timeout(Duration::from_secs(3));
        let mut slow = builder.clone().build().await.unwrap();
        let mut records = Vec::new();
        for _ in 0..2 {
            records.push(tokio::time::timeout(PATIENCE, slow.recv()).await.unwrap().unwrap().unwrap());
        }
        // While it works on what it was handed another comes and waits.
        let mut quick = builder.build().await.unwrap();
        settle(&mut quick, 1).await;
        let taken: Vec<i32> = quick.assignment().map(|(_, partition)| partition).collect();
        let of = |partition: i32| records.iter().find(|record| record.partition == partition).unwrap();
        let late = slow.commit(of(taken[0])).await.unwrap_err();
        assert!(matches!(late, CommitError::NotOwned { .. }) && late.had_no_effect(), "{protocol:?}: {late}");
        slow.commit(of(1 - taken[0])).await.unwrap();
        let error = slow.recv().await.unwrap_err();
        let ConsumeError::PartitionsLost { partitions, reason: LossReason::Deadline, .. } = &error else {
            panic!("{protocol:?}: {error}");
        };
        assert_eq!(partitions, &[TopicPartition::new(topic.as_str(), taken[0])]);
        assert_eq!(slow.assignment().map(|(_, partition)| partition).collect::<Vec<_>>(), [1 - taken[0]]);
        slow.close().await.unwrap();
        quick.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_does_not_come_back_leaves_if_that_is_wanted_and_joins_again_when_it_does() {
    let peer = Peer::start();
    for protocol in PROTOCOLS {
        let (client, topic) = peer.topic("away", 1).await;
        write(&client, &topic, 1, 0..3).await;
        let builder = member(&client, &topic, protocol).subscribe([topic.as_str()]);
        let waiting = builder.clone();
        let mut consumer = builder.max_poll_interval(Duration::from_millis(500)).build().await.unwrap();
        let record = tokio::time::timeout(PATIENCE, consumer.recv()).await.unwrap().unwrap().unwrap();
        consumer.commit(&record).await.unwrap();
        let mut other = waiting.build().await.unwrap();
        settle(&mut other, 1).await;
        assert_eq!(consumer.status().unwrap().state, MemberState::Away, "{protocol:?}");
        other.close().await.unwrap();
        let mut errors = Vec::new();
        let next = loop {
            match tokio::time::timeout(PATIENCE, consumer.recv()).await.unwrap() {
                Ok(record) => break record.unwrap(),
                Err(error) => errors.push(error),
            }
        };
        assert_eq!(next.offset, 1, "{protocol:?}");
        let lapsed = |error: &ConsumeError| matches!(error, ConsumeError::Group(GroupError::Lapsed { .. }));
        assert!(errors.iter().any(lapsed), "{protocol:?}: {errors:?}");
        consumer.close().await.unwrap();
    }
}
