//! Producers over bad networks and with brokers that change under them: nothing lost, doubled or out of order.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use millstream_broker::Broker;
use millstream_client::{
    Address, Authenticating, AuthenticationError, Authenticator, Backoff, Client, ClientError, Connecting,
    Connection, NewTopic, Stream, Tcp, Transport,
};
use millstream_consumer::{Consumer, ConsumerRecord, StartAt, StopAt};
use millstream_producer::{Producer, Record, SendError};
use millstream_tests::proxy::{Proxy, Weather};

struct Peer {
    broker: Broker,
    _data: tempfile::TempDir,
}

impl Peer {
    fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let broker = Broker::builder().data_dir(data.path()).listen("127.0.0.1:0").no_http().start().unwrap();
        Self { broker, _data: data }
    }

    async fn client(&self) -> Client {
        Client::builder(self.broker.kafka_address().to_string()).connect().await.unwrap()
    }
}

async fn read_all(client: &Client, topic: &str) -> Vec<ConsumerRecord> {
    let consumer = Consumer::builder(client.clone()).assign_topic(topic, StartAt::Beginning);
    let mut consumer = consumer.stop(StopAt::CurrentEnd).build().await.unwrap();
    let mut all = Vec::new();
    loop {
        match consumer.recv_batch().await.unwrap() {
            records if records.is_empty() => return all,
            records => all.extend(records),
        }
    }
}

/// Every connection goes to one place, wherever the broker says that it is.
#[derive(Debug)]
struct Through(Address);

impl Transport for Through {
    fn connect<'a>(&'a self, _address: &'a Address) -> Connecting<'a> {
        Tcp.connect(&self.0)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_loses_5_percent_of_replies_and_resets_each_second_costs_only_time() {
    let seed: u64 = std::env::var("MILLSTREAM_TEST_SEED").map_or(5, |seed| seed.parse().unwrap());
    println!("seed {seed}");
    let peer = Peer::start();
    let direct = peer.client().await;
    direct.admin().create_topic(NewTopic::new("t").partitions(3)).await.unwrap();
    let weather = Weather { loses_one_in: 20, resets_each: Duration::from_secs(1) };
    let upstream = peer.broker.kafka_address();
    let proxy = Proxy::open(&tokio::runtime::Handle::current(), upstream, weather, seed).unwrap();
    let through = Through(Address::new(proxy.address().ip().to_string(), proxy.address().port()));
    let builder = Client::builder(upstream.to_string())
        .transport(Arc::new(through))
        .request_timeout(Duration::from_millis(300))
        .backoff(Backoff { first: Duration::from_millis(2), most: Duration::from_millis(50) });
    let client = loop {
        if let Ok(client) = builder.clone().connect().await {
            break client;
        }
    };
    let producer = Producer::builder(client).batch_bytes(2_000).build();
    let met = proxy.met();
    let mut sent = 0_i64;
    // As long as it takes for the harm to be done.
    while met.lost_of_produce.load(Ordering::Relaxed) < 20 || met.reset.load(Ordering::Relaxed) < 4 {
        let mut deliveries = Vec::new();
        for n in sent..sent + 300 {
            let value = (n / 3).to_string();
            let record = Record::to("t").partition((n % 3) as i32).value(&value);
            deliveries.push(producer.send(record).await.unwrap());
        }
        sent += 300;
        for delivery in deliveries {
            delivery.await.unwrap();
        }
    }
    let mut next: HashMap<i32, i64> = HashMap::new();
    for record in read_all(&direct, "t").await {
        let expected = next.entry(record.partition).or_default();
        assert_eq!(record.value.as_deref(), Some(expected.to_string().as_bytes()), "seed {seed}: {record:?}");
        *expected += 1;
    }
    assert_eq!(next.into_values().collect::<Vec<_>>(), [sent / 3; 3], "seed {seed}");
}

#[tokio::test]
async fn a_topic_that_is_made_anew_under_a_producer_gets_what_comes_after() {
    let peer = Peer::start();
    let client = peer.client().await;
    let producer = Producer::builder(client.clone()).delivery_timeout(Duration::from_secs(20)).build();
    for round in 0..3 {
        client.admin().create_topic(NewTopic::new("t").partitions(2)).await.unwrap();
        for n in 0..20 {
            let value = format!("{round}-{n}");
            let record = Record::to("t").partition(n % 2).value(&value);
            producer.send(record).await.unwrap().await.unwrap();
        }
        let seen = read_all(&client, "t").await;
        assert_eq!(seen.len(), 20, "round {round}");
        client.admin().delete_topic("t").await.unwrap();
    }
    // With fewer partitions the last one is gone, and says so; the others serve.
    client.admin().create_topic(NewTopic::new("t").partitions(1)).await.unwrap();
    drop(producer);
    let producer = Producer::builder(client.clone()).delivery_timeout(Duration::from_millis(500)).build();
    producer.send(Record::to("t").partition(0).value("x")).await.unwrap().await.unwrap();
    let gone = producer.send(Record::to("t").partition(1).value("x")).await.unwrap_err();
    assert!(matches!(gone, SendError::UnknownPartition { partition: 1, partitions: 1, .. }), "{gone}");
}

#[tokio::test]
async fn a_partition_that_vanishes_under_a_producer_fails_its_records_in_their_time_and_no_others() {
    let peer = Peer::start();
    let client = peer.client().await;
    client.admin().create_topic(NewTopic::new("t").partitions(2)).await.unwrap();
    let producer = Producer::builder(client.clone()).delivery_timeout(Duration::from_secs(2)).build();
    for partition in [0, 1] {
        producer.send(Record::to("t").partition(partition).value("x")).await.unwrap().await.unwrap();
    }
    client.admin().delete_topic("t").await.unwrap();
    client.admin().create_topic(NewTopic::new("t").partitions(1)).await.unwrap();
    let gone = producer.send(Record::to("t").partition(1).value("y")).await.unwrap();
    let kept = producer.send(Record::to("t").partition(0).value("y")).await.unwrap();
    kept.await.unwrap();
    let before = producer.stats().requests;
    let error = gone.await.unwrap_err();
    assert!(error.is_retriable() && error.had_no_effect(), "{error}");
    assert!(producer.stats().requests - before < 50, "it does not ask without pause");
}

/// Connections that are opened and never say a word, for a while.
#[derive(Debug)]
struct HalfOpen {
    left: AtomicUsize,
}

impl Transport for HalfOpen {
    fn connect<'a>(&'a self, address: &'a Address) -> Connecting<'a> {
        let is_mute =
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok();
        Box::pin(async move {
            let Stream { read, write } = Tcp.connect(address).await?;
            Ok(match is_mute {
                // What is written is lost, what is read never comes.
                true => Stream {
                    read: Box::new(Mute(Stream { read, write })),
                    write: Box::new(tokio::io::sink()),
                },
                false => Stream { read, write },
            })
        })
    }
}

struct Mute(#[expect(dead_code, reason = "it stays open")] Stream);

impl tokio::io::AsyncRead for Mute {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
        _buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Pending
    }
}

#[tokio::test]
async fn connections_that_never_answer_are_given_up_and_records_arrive_over_the_next() {
    let peer = Peer::start();
    peer.client().await.admin().create_topic(NewTopic::new("t")).await.unwrap();
    let half_open = Arc::new(HalfOpen { left: AtomicUsize::new(0) });
    let client = Client::builder(peer.broker.kafka_address().to_string())
        .transport(half_open.clone())
        .request_timeout(Duration::from_millis(200))
        .connect()
        .await
        .unwrap();
    half_open.left.store(2, Ordering::Relaxed);
    let producer = Producer::builder(client).build();
    let written = producer.send(Record::to("t").value("x")).await.unwrap().await.unwrap();
    assert_eq!(written.offset, Some(0));
    assert_eq!(half_open.left.load(Ordering::Relaxed), 0, "the harm was done");
}

#[derive(Debug)]
struct Refused;

impl Authenticator for Refused {
    fn authenticate<'a>(&'a self, _connection: &'a Connection) -> Authenticating<'a> {
        Box::pin(async { Err(AuthenticationError::Refused("wrong password".to_owned())) })
    }
}

#[tokio::test]
async fn who_is_not_let_in_is_told_at_once_and_why() {
    let peer = Peer::start();
    let builder = Client::builder(peer.broker.kafka_address().to_string()).authenticator(Arc::new(Refused));
    let error = builder.connect().await.unwrap_err();
    let ClientError::Unauthenticated { reason, .. } = &error else { panic!("{error}") };
    assert!(reason == "wrong password" && !error.is_retriable() && error.had_no_effect());
}
