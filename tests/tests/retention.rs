//! Retention end to end: a broker's own maintenance deletes, and a client sees it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::time::{Duration, Instant};

use millstream_broker::{Broker, BrokerBuilder};
use millstream_client::{Client, DeleteUpTo, NewTopic, OffsetAt};
use millstream_consumer::{ConsumeError, Consumer, OutOfRange, StartAt};
use millstream_producer::{Producer, Record};

/// What is promised: within a minute of being due. A test that has to wait longer fails.
const A_MINUTE: Duration = Duration::from_secs(60);

fn builder(folder: &tempfile::TempDir) -> BrokerBuilder {
    let builder = Broker::builder().data_dir(folder.path()).listen("127.0.0.1:0").no_http();
    builder.set("log.retention.check.interval.ms", "100")
}

async fn client_of(broker: &Broker) -> Client {
    Client::builder(broker.kafka_address().to_string()).client_id("retention-test").connect().await.unwrap()
}

async fn offset(client: &Client, at: OffsetAt) -> i64 {
    client.admin().list_offsets("t", &[(0, at)]).await.unwrap()[0].offset.unwrap()
}

/// Asks where the topic starts until `holds` likes the answer.
async fn until_start(client: &Client, what: &str, holds: impl Fn(i64) -> bool) -> i64 {
    let began = Instant::now();
    loop {
        let start = offset(client, OffsetAt::Earliest).await;
        if holds(start) {
            return start;
        }
        assert!(began.elapsed() < A_MINUTE, "{what}: the topic still starts at {start}");
        tokio::task::yield_now().await;
    }
}

async fn produce(client: &Client, count: usize, value: &[u8]) {
    let producer = Producer::builder(client.clone()).build();
    for _ in 0..count {
        drop(producer.send(Record::to("t").partition(0).value(value)).await.unwrap());
    }
    producer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_an_idle_topic_are_gone_within_a_minute_of_their_time_and_stay_so() {
    let folder = tempfile::tempdir().unwrap();
    let broker = builder(&folder).start().unwrap();
    let client = client_of(&broker).await;
    let topic = NewTopic::new("t").partitions(1).config("retention.ms", "1500");
    client.admin().create_topic(topic).await.unwrap();
    let began = Instant::now();
    produce(&client, 100, b"short-lived").await;
    assert_eq!(until_start(&client, "100 records of 1.5 s", |start| start > 0).await, 100, "all of them");
    assert!(began.elapsed() >= Duration::from_millis(1500), "before their time");
    let consumer = Consumer::builder(client.clone()).out_of_range(OutOfRange::Fail);
    let mut consumer = consumer.assign_topic("t", StartAt::Offset(50)).build().await.unwrap();
    let refused = consumer.recv_batch().await.unwrap_err();
    assert!(matches!(refused, ConsumeError::OutOfRange { .. }), "{refused}");
    produce(&client, 1, b"next").await;
    assert_eq!(offset(&client, OffsetAt::Latest).await, 101);
    broker.shutdown().await;
    let broker = builder(&folder).start().unwrap();
    let client = client_of(&broker).await;
    assert!(offset(&client, OffsetAt::Earliest).await >= 100, "deleted records are back after a restart");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_held_to_its_size() {
    let folder = tempfile::tempdir().unwrap();
    let broker = builder(&folder).start().unwrap();
    let client = client_of(&broker).await;
    let topic = NewTopic::new("t").partitions(1).config("retention.bytes", "200000");
    client.admin().create_topic(topic.config("segment.bytes", "50000")).await.unwrap();
    for _ in 0..10 {
        produce(&client, 100, &[7; 1000]).await;
    }
    let start =
        until_start(&client, "a million bytes, of which 200,000 are kept", |start| start >= 700).await;
    assert!(start <= 800, "less than 200,000 bytes are left: the topic starts at {start} of 1000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_only_compacted_or_kept_for_ever_keeps_what_another_deletes() {
    let folder = tempfile::tempdir().unwrap();
    let broker = builder(&folder).set("log.retention.ms", "1").start().unwrap();
    let client = client_of(&broker).await;
    for (name, settings) in
        [("t", &[][..]), ("kept", &[("retention.ms", "-1")]), ("compacted", &[("cleanup.policy", "compact")])]
    {
        let topic = NewTopic::new(name).partitions(1);
        let topic = settings.iter().fold(topic, |topic, (name, value)| topic.config(*name, *value));
        client.admin().create_topic(topic).await.unwrap();
        let producer = Producer::builder(client.clone()).build();
        drop(producer.send(Record::to(name).partition(0).key("k").value("v")).await.unwrap());
        producer.close().await.unwrap();
    }
    until_start(&client, "a record of 1 ms", |start| start == 1).await;
    for name in ["kept", "compacted"] {
        let listed = client.admin().list_offsets(name, &[(0, OffsetAt::Earliest)]).await.unwrap();
        assert_eq!(listed[0].offset, Some(0), "{name}");
    }
    client.admin().delete_records("kept", 0, DeleteUpTo::HighWatermark).await.unwrap();
    client.admin().delete_records("compacted", 0, DeleteUpTo::HighWatermark).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_gets_the_name_of_a_deleted_one_has_nothing_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let broker = builder(&folder).start().unwrap();
    let client = client_of(&broker).await;
    let create = async || {
        let created = client.admin().create_topic(NewTopic::new("t").partitions(1)).await.unwrap();
        created.id
    };
    let mut ids = vec![create().await];
    for round in 1..4 {
        produce(&client, 10 * round, b"of this one").await;
        assert_eq!(offset(&client, OffsetAt::Latest).await, 10 * round as i64, "offsets start anew");
        client.admin().delete_topic("t").await.unwrap();
        let left = std::fs::read_dir(folder.path().join("topics")).unwrap().count();
        assert_eq!(left, 0, "files are left when the call returns");
        ids.push(create().await);
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}
