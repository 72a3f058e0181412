//! Client, producer and consumer against a real broker: by default one inside this process; with
//! `MILLSTREAM_TEST_BOOTSTRAP=host:port` whichever listens there, Apache Kafka included.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use millstream_broker::Broker;
use millstream_client::protocol::ErrorCode;
use millstream_client::protocol::messages::ListOffsetsRequest;
use millstream_client::{
    Address, Backoff, Client, ClientError, ConfigResource, Connecting, CreateTopicError, DeleteRecordsError,
    DeleteTopicError, DeleteUpTo, DescribeTopicError, NewTopic, OffsetAt, Stream, Tcp, To, Transport,
};
use millstream_consumer::{ConsumeError, Consumer, ConsumerRecord, OutOfRange, StartAt, StopAt};
use millstream_producer::{Acks, Compression, Idempotence, ProduceError, Producer, Record, SendError};
use millstream_tests::port::Port;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio::io::{AsyncRead, ReadBuf};

/// A broker to test against; its data goes when it does.
struct Peer {
    bootstrap: String,
    _own: Option<(Broker, tempfile::TempDir)>,
}

impl Peer {
    fn start() -> Self {
        if let Ok(bootstrap) = std::env::var("MILLSTREAM_TEST_BOOTSTRAP") {
            return Self { bootstrap, _own: None };
        }
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::builder()
            .data_dir(dir.path())
            .listen("127.0.0.1:0")
            .no_http()
            .set("log.retention.ms", "-1")
            .start()
            .unwrap();
        Self { bootstrap: broker.kafka_address().to_string(), _own: Some((broker, dir)) }
    }

    async fn client(&self) -> Client {
        Client::builder(&self.bootstrap).client_id("clients-test").connect().await.unwrap()
    }

    /// A client, and a fresh topic for this test alone.
    async fn topic(&self, name: &str, partitions: i32) -> (Client, String) {
        let client = self.client().await;
        let topic = format!("{name}-{}", rand::rng().next_u64());
        client.admin().create_topic(NewTopic::new(topic.as_str()).partitions(partitions)).await.unwrap();
        (client, topic)
    }
}

/// Everything that the topic holds now.
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

#[tokio::test]
async fn records_come_back_as_they_were_sent_with_every_codec() {
    let peer = Peer::start();
    for compression in Compression::ALL {
        let (client, topic) = peer.topic("codec", 2).await;
        let producer = Producer::builder(client.clone()).compression(compression).build();
        let mut deliveries = Vec::new();
        for n in 0..500_i64 {
            let value = format!("value {n} ").repeat((n % 7) as usize);
            let record = Record::to(&topic).partition((n % 2) as i32).timestamp(1_700_000_000_000 + n);
            let record = record.value(&value).header("n", &n.to_string()).header("n", "again");
            let key = n.to_string();
            let record = if n % 3 == 0 { record } else { record.key(&key) };
            deliveries.push(producer.send(record).await.unwrap());
        }
        for (delivery, n) in deliveries.into_iter().zip(0..) {
            let written = delivery.await.unwrap();
            assert_eq!((written.partition, written.offset), ((n % 2) as i32, Some(n / 2)), "{compression}");
        }
        producer.close().await.unwrap();

        let records = read_all(&client, &topic).await;
        assert_eq!(records.len(), 500, "{compression}");
        for record in &records {
            let n = record.offset * 2 + i64::from(record.partition);
            assert_eq!(record.timestamp, 1_700_000_000_000 + n);
            assert_eq!(
                record.value.as_deref(),
                Some(format!("value {n} ").repeat((n % 7) as usize).as_bytes())
            );
            assert_eq!(
                record.key.as_deref(),
                (n % 3 != 0).then(|| n.to_string()).as_deref().map(str::as_bytes)
            );
            let headers: Vec<_> = record.headers.iter().map(|h| (&*h.key, h.value.as_deref())).collect();
            assert_eq!(headers, [("n", Some(n.to_string().as_bytes())), ("n", Some(&b"again"[..]))]);
        }
    }
}

/// Opens TCP connections on which now and then an answer is lost together with the connection.
#[derive(Debug)]
struct Lossy {
    random: std::sync::Mutex<StdRng>,
    lost: Arc<AtomicU64>,
    one_in: u32,
}

struct LossyRead {
    inner: millstream_client::ReadHalf,
    /// Reads that still succeed.
    left: u32,
    lost: Arc<AtomicU64>,
}

impl Transport for Lossy {
    fn connect<'a>(&'a self, address: &'a Address) -> Connecting<'a> {
        Box::pin(async move {
            let Stream { read, write } = Tcp.connect(address).await?;
            let left = self.random.lock().unwrap().random_range(1..self.one_in);
            Ok(Stream { read: Box::new(LossyRead { inner: read, left, lost: self.lost.clone() }), write })
        })
    }
}

impl AsyncRead for LossyRead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        if self.left == 0 {
            buf.set_filled(before);
            self.lost.fetch_add(1, Ordering::Relaxed);
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        self.left -= 1;
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_doubled_or_reordered_when_answers_are_lost() {
    let seed = rand::rng().next_u64();
    println!("seed {seed}");
    let peer = Peer::start();
    let (client, topic) = peer.topic("lossy", 3).await;
    let lost = Arc::new(AtomicU64::new(0));
    let random = StdRng::seed_from_u64(seed).into();
    let lossy = Client::builder(&peer.bootstrap)
        .backoff(Backoff { first: Duration::from_millis(2), most: Duration::from_millis(20) })
        .transport(Arc::new(Lossy { random, lost: lost.clone(), one_in: 8 }));
    // The first contact may be lost too, and is not repeated by itself.
    let lossy = loop {
        if let Ok(client) = lossy.clone().connect().await {
            break client;
        }
    };
    let producer = Producer::builder(lossy).batch_bytes(400).build();
    const EACH: i64 = 4_000;
    let mut deliveries = Vec::new();
    for n in 0..EACH * 3 {
        let value = (n / 3).to_string();
        let record = Record::to(&topic).partition((n % 3) as i32).value(&value);
        deliveries.push(producer.send(record).await.unwrap());
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    producer.close().await.unwrap();
    assert!(lost.load(Ordering::Relaxed) > 8, "the test lost only {lost:?} answers");

    let mut next: HashMap<i32, i64> = HashMap::new();
    for record in read_all(&client, &topic).await {
        let expected = next.entry(record.partition).or_default();
        assert_eq!(record.value.as_deref(), Some(expected.to_string().as_bytes()), "seed {seed}: {record:?}");
        *expected += 1;
    }
    assert_eq!(next.into_values().collect::<Vec<_>>(), [EACH; 3], "seed {seed}");
}

#[tokio::test]
async fn reading_starts_at_a_time_at_an_offset_within_a_batch_or_at_the_end() {
    let peer = Peer::start();
    let (client, topic) = peer.topic("start", 1).await;
    let producer = Producer::builder(client.clone()).linger(Duration::from_millis(50)).build();
    for n in 0..100_i64 {
        let value = n.to_string();
        drop(producer.send(Record::to(&topic).value(&value).timestamp(1_000_000 + n * 10)).await.unwrap());
    }
    producer.flush().await.unwrap();
    for (start, first) in [
        (StartAt::Timestamp(1_000_405), 41),
        (StartAt::Timestamp(0), 0),
        (StartAt::Offset(57), 57),
        (StartAt::Beginning, 0),
    ] {
        let mut consumer =
            Consumer::builder(client.clone()).assign(topic.as_str(), 0, start).build().await.unwrap();
        assert_eq!(consumer.position(&topic, 0), Some(first), "{start:?}");
        let record = consumer.recv().await.unwrap().unwrap();
        assert_eq!((record.offset, consumer.position(&topic, 0)), (first, Some(first + 1)), "{start:?}");
        assert_eq!(consumer.recv_batch().await.unwrap().len() as i64, 99 - first);
        assert_eq!(consumer.end_offsets().await.unwrap()[0].offset, 100);
    }
    for start in [StartAt::End, StartAt::Timestamp(i64::MAX)] {
        let mut consumer =
            Consumer::builder(client.clone()).assign(topic.as_str(), 0, start).build().await.unwrap();
        drop(producer.send(Record::to(&topic).value("new")).await.unwrap().await.unwrap());
        let record = consumer.recv().await.unwrap().unwrap();
        assert_eq!(record.value.as_deref(), Some(&b"new"[..]), "{start:?}");
    }
}

#[tokio::test]
async fn an_offset_that_is_gone_is_an_error_first_and_skipped_only_if_asked() {
    let peer = Peer::start();
    let (client, topic) = peer.topic("gone", 1).await;
    let producer = Producer::builder(client.clone()).build();
    for n in 0..10 {
        drop(producer.send(Record::to(&topic).value(&n.to_string())).await.unwrap());
    }
    producer.flush().await.unwrap();
    let start = client.admin().delete_records(&topic, 0, DeleteUpTo::Offset(4)).await.unwrap();
    assert_eq!(start, 4);
    let beyond = client.admin().delete_records(&topic, 0, DeleteUpTo::Offset(11)).await.unwrap_err();
    assert!(matches!(beyond, DeleteRecordsError::OffsetOutOfRange { offset: 11, .. }), "{beyond}");

    let builder = Consumer::builder(client.clone()).assign(topic.as_str(), 0, StartAt::Offset(2));
    let mut strict = builder.clone().build().await.unwrap();
    for _ in 0..2 {
        let error = strict.recv().await.unwrap_err();
        assert!(matches!(error, ConsumeError::OutOfRange { offset: 2, .. }), "{error}");
    }
    strict.seek(&topic, 0, StartAt::Offset(7)).unwrap();
    assert_eq!(strict.recv().await.unwrap().unwrap().offset, 7);
    assert!(strict.seek(&topic, 1, StartAt::End).is_err());

    let mut lenient = builder.out_of_range(OutOfRange::Beginning).build().await.unwrap();
    assert_eq!(lenient.recv().await.unwrap().unwrap().offset, 4);
}

#[tokio::test]
async fn topics_are_created_described_grown_and_deleted() {
    let peer = Peer::start();
    let (client, topic) = peer.topic("admin", 2).await;
    let admin = client.admin();
    let again = admin.create_topic(NewTopic::new(topic.as_str())).await.unwrap_err();
    assert!(matches!(again, CreateTopicError::AlreadyExists { .. }) && again.had_no_effect(), "{again}");
    let invalid = admin.create_topic(NewTopic::new("no/slash")).await.unwrap_err();
    let is_invalid = |r: &millstream_client::Refusal| r.code == ErrorCode::InvalidTopicException;
    assert!(matches!(&invalid, CreateTopicError::Refused(refusal) if is_invalid(refusal)), "{invalid}");

    let described = admin.describe_topic(&topic).await.unwrap();
    assert_eq!((&*described.name, described.partitions.len()), (topic.as_str(), 2));
    assert!(described.partitions[1].leader.is_some() && !described.id.is_nil());
    assert!(admin.list_topics().await.unwrap().iter().any(|listed| listed.name == topic.as_str()));
    admin.add_partitions(&topic, 5).await.unwrap();
    // Kafka's controller answers before all of its brokers know.
    while admin.describe_topic(&topic).await.unwrap().partitions.len() < 5 {
        tokio::task::yield_now().await;
    }
    assert!(admin.add_partitions(&topic, 3).await.unwrap_err().had_no_effect());

    let configs = admin.describe_configs(ConfigResource::Topic(&topic)).await.unwrap();
    let size = configs.iter().find(|config| config.name == "max.message.bytes").unwrap();
    assert_eq!(size.value.as_deref(), Some("1048588"));
    let cluster = admin.describe_cluster().await.unwrap();
    assert!(!cluster.cluster_id.is_empty() && cluster.brokers.len() == 1);
    let broker = ConfigResource::Broker(cluster.brokers[0].id);
    assert!(!admin.describe_configs(broker).await.unwrap().is_empty());

    admin.delete_topic(&topic).await.unwrap();
    let gone = admin.delete_topic(&topic).await.unwrap_err();
    assert!(matches!(gone, DeleteTopicError::UnknownTopic { .. }), "{gone}");
    let gone = admin.describe_topic(&topic).await.unwrap_err();
    assert!(matches!(gone, DescribeTopicError::UnknownTopic { .. }), "{gone}");
}

#[tokio::test]
async fn offsets_are_found_by_every_kind_of_question() {
    let peer = Peer::start();
    let (client, topic) = peer.topic("offsets", 2).await;
    let producer = Producer::builder(client.clone()).build();
    for timestamp in [1000, 3000, 2000] {
        let record = Record::to(&topic).partition(1).value("x").timestamp(timestamp);
        producer.send(record).await.unwrap().await.unwrap();
    }
    let wanted = [
        (1, OffsetAt::Earliest),
        (0, OffsetAt::Latest),
        (1, OffsetAt::Latest),
        (1, OffsetAt::Timestamp(1500)),
        (1, OffsetAt::MaxTimestamp),
        (1, OffsetAt::Timestamp(9999)),
    ];
    let listed = client.admin().list_offsets(&topic, &wanted).await.unwrap();
    let offsets: Vec<_> = listed.iter().map(|listed| (listed.partition, listed.offset)).collect();
    let expected = [(1, Some(0)), (0, Some(0)), (1, Some(3)), (1, Some(1)), (1, Some(1)), (1, None)];
    assert_eq!(offsets, expected);
    assert_eq!(listed[3].timestamp, Some(3000));
}

#[tokio::test]
async fn a_batch_that_is_too_large_fails_alone_and_what_follows_is_written() {
    let peer = Peer::start();
    let client = peer.client().await;
    let topic = format!("large-{}", rand::rng().next_u64());
    let new = NewTopic::new(topic.as_str()).partitions(1).config("max.message.bytes", "2000");
    client.admin().create_topic(new).await.unwrap();
    let producer = Producer::builder(client.clone()).batch_bytes(100).max_record_bytes(10_000).build();
    let mut deliveries = Vec::new();
    let (small, large) = ([b's'; 150], [b'l'; 5000]);
    for n in 0..60 {
        let value: &[u8] = if n % 10 == 3 { &large } else { &small };
        deliveries.push(producer.send(Record::to(&topic).value(value)).await.unwrap());
    }
    for (n, delivery) in deliveries.into_iter().enumerate() {
        match delivery.await {
            Ok(_) => assert_ne!(n % 10, 3),
            Err(error) => {
                assert!(n % 10 == 3 && error.had_no_effect(), "{n}: {error}");
                assert!(matches!(error, ProduceError::Refused { code: ErrorCode::MessageTooLarge, .. }));
            }
        }
    }
    let lost = producer.flush().await.unwrap_err();
    assert_eq!(lost.failed, 6);
    assert_eq!(read_all(&client, &topic).await.len(), 54);
    let error = producer.send(Record::to(&topic).value(&[0; 10_000])).await.unwrap_err();
    assert!(matches!(error, SendError::TooLarge { limit: 10_000, .. }), "{error}");
}

#[tokio::test]
async fn batches_that_are_too_large_for_their_topic_are_divided() {
    let peer = Peer::start();
    let client = peer.client().await;
    for compression in [Compression::None, Compression::Zstd] {
        let topic = format!("divided-{}", rand::rng().next_u64());
        let new = NewTopic::new(topic.as_str()).partitions(1).config("max.message.bytes", "2000");
        client.admin().create_topic(new).await.unwrap();
        let builder = Producer::builder(client.clone()).compression(compression);
        let producer = builder.linger(Duration::from_millis(20)).build();
        let mut deliveries = Vec::new();
        for _ in 0..2_000 {
            let value: [u8; 32] = rand::rng().random();
            deliveries.push(producer.send(Record::to(&topic).value(&value)).await.unwrap());
        }
        for (delivery, offset) in deliveries.into_iter().zip(0..) {
            assert_eq!(delivery.await.unwrap().offset, Some(offset), "{compression}");
        }
        producer.close().await.unwrap();
        let stats = producer.stats();
        assert_eq!((stats.delivered_records, stats.buffered_bytes), (2_000, 0), "{stats:?}");
        assert_eq!(read_all(&client, &topic).await.len(), 2_000);
    }
}

#[tokio::test]
async fn every_kind_of_acknowledgement_delivers() {
    let peer = Peer::start();
    for (acks, idempotence) in [
        (Acks::None, Idempotence::On),
        (Acks::Leader, Idempotence::On),
        (Acks::Leader, Idempotence::Off),
        (Acks::All, Idempotence::Off),
    ] {
        let (client, topic) = peer.topic("acks", 1).await;
        let producer = Producer::builder(client.clone()).acks(acks).idempotence(idempotence).build();
        for n in 0..100 {
            let written =
                producer.send(Record::to(&topic).value(&n.to_string())).await.unwrap().await.unwrap();
            assert_eq!(written.offset, (acks != Acks::None).then_some(n), "{acks:?}");
        }
        let mut consumer =
            Consumer::builder(client).assign(topic.as_str(), 0, StartAt::Beginning).build().await.unwrap();
        for n in 0..100 {
            assert_eq!(consumer.recv().await.unwrap().unwrap().offset, n, "{acks:?}");
        }
    }
}

#[tokio::test]
async fn what_was_accepted_is_sent_after_the_producer_is_dropped() {
    let peer = Peer::start();
    let (client, topic) = peer.topic("dropped", 1).await;
    let producer = Producer::builder(client.clone()).linger(Duration::from_secs(3600)).build();
    let delivery = producer.send(Record::to(&topic).value("last words")).await.unwrap();
    drop(producer);
    assert_eq!(delivery.await.unwrap().offset, Some(0));
}

#[tokio::test]
async fn what_does_not_exist_is_told_at_once_and_by_name() {
    let peer = Peer::start();
    let client = peer.client().await;
    let error = client.metadata(&["nowhere"]).await.unwrap_err();
    assert!(matches!(&error, ClientError::UnknownTopic { topic } if topic == "nowhere"), "{error}");
    let consumer = Consumer::builder(client.clone()).assign("nowhere", 0, StartAt::Beginning);
    assert!(consumer.build().await.is_err());
    let (client, topic) = peer.topic("narrow", 1).await;
    let producer = Producer::builder(client.clone()).build();
    let error = producer.send(Record::to(&topic).partition(1).value("x")).await.unwrap_err();
    assert!(matches!(error, SendError::UnknownPartition { partition: 1, partitions: 1, .. }), "{error}");
    let error = client.request(ListOffsetsRequest::default(), To::Leader(&topic, 7)).await.unwrap_err();
    assert!(matches!(error, ClientError::UnknownPartition { partition: 7, .. }), "{error}");
}

#[tokio::test]
async fn many_partitions_are_read_in_one_session_while_they_are_written() {
    let peer = Peer::start();
    let (client, topic) = peer.topic("many", 20).await;
    let builder = Consumer::builder(client.clone()).assign_topic(topic.as_str(), StartAt::Beginning);
    let mut consumer = builder.max_wait(Duration::from_millis(50)).max_bytes(2_000).build().await.unwrap();
    let producer = Producer::builder(client).batch_bytes(300).build();
    let writer = tokio::spawn(async move {
        for n in 0..2_000 {
            let value = n.to_string();
            drop(producer.send(Record::to(&topic).key(&value).value(&value)).await.unwrap());
        }
        producer.close().await.unwrap();
    });
    let mut seen = vec![false; 2_000];
    for _ in 0..2_000 {
        let record = consumer.recv().await.unwrap().unwrap();
        let n: usize = std::str::from_utf8(&record.value.unwrap()).unwrap().parse().unwrap();
        assert!(!std::mem::replace(&mut seen[n], true), "{n} came twice");
    }
    writer.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_restarts_under_load_loses_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let start = |address: &str| {
        Broker::builder()
            .data_dir(dir.path())
            .listen(address)
            .no_http()
            .set("log.retention.ms", "-1")
            .start()
            .unwrap()
    };
    let port = Port::reserve().unwrap();
    let address = port.address().to_string();
    let mut broker = start(&address);
    let client = Client::builder(&address).connect().await.unwrap();
    client.admin().create_topic(NewTopic::new("t").partitions(2)).await.unwrap();
    let producer = Producer::builder(client.clone()).batch_bytes(2_000).build();
    let builder = Consumer::builder(client.clone()).assign_topic("t", StartAt::Beginning);
    let mut consumer = builder.max_wait(Duration::from_millis(50)).build().await.unwrap();
    const EACH: i64 = 20_000;
    let sending = producer.clone();
    let writer = tokio::spawn(async move {
        let producer = sending;
        for n in 0..EACH * 2 {
            let value = (n / 2).to_string();
            drop(producer.send(Record::to("t").partition((n % 2) as i32).value(&value)).await.unwrap());
        }
        producer.close().await.unwrap();
    });
    let mut next = [0; 2];
    let mut restarts = 0;
    while next != [EACH; 2] {
        let read = next[0] + next[1];
        if restarts < 3 && read > EACH / 3 * restarts {
            restarts += 1;
            tokio::task::block_in_place(|| broker.shutdown());
            broker = start(&address);
        }
        let polled = tokio::time::timeout(Duration::from_secs(120), consumer.recv_batch()).await;
        let Ok(polled) = polled else {
            panic!(
                "nothing comes: read {next:?}, {restarts} restarts, {consumer:?}, ends {:?}, {producer:?}",
                consumer.end_offsets().await
            );
        };
        for record in polled.unwrap() {
            let expected = &mut next[record.partition as usize];
            assert_eq!(record.value.as_deref(), Some(expected.to_string().as_bytes()), "{record:?}");
            *expected += 1;
        }
    }
    writer.await.unwrap();
    assert_eq!(restarts, 3);
}

#[tokio::test]
async fn calls_that_are_given_up_at_any_moment_lose_and_double_nothing() {
    let seed = rand::rng().next_u64();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let peer = Peer::start();
    let (client, topic) = peer.topic("given-up", 1).await;
    let producer = Producer::builder(client.clone()).buffer_bytes(2_000).batch_bytes(500).build();
    let mut accepted = Vec::new();
    for n in 0..2_000 {
        let value = format!("{n} {}", "x".repeat(random.random_range(0..400)));
        let patience = Duration::from_micros(random.random_range(0..300));
        let sent = tokio::time::timeout(patience, producer.send(Record::to(&topic).value(&value))).await;
        if let Ok(sent) = sent {
            drop(sent.unwrap());
            accepted.push(value);
        }
    }
    producer.flush().await.unwrap();
    assert!((100..2_000).contains(&accepted.len()), "{} of 2000 were accepted", accepted.len());

    let builder = Consumer::builder(client).assign(topic.as_str(), 0, StartAt::Beginning);
    let mut consumer = builder.stop(StopAt::CurrentEnd).max_bytes(3_000).build().await.unwrap();
    let mut read = Vec::new();
    loop {
        let patience = Duration::from_micros(random.random_range(0..300));
        let polled = match random.random_bool(0.5) {
            true => tokio::time::timeout(patience, consumer.recv_batch()).await,
            false => tokio::time::timeout(patience, consumer.recv())
                .await
                .map(|next| next.map(|record| record.into_iter().collect())),
        };
        match polled {
            Err(_) => continue,
            Ok(records) if records.as_ref().unwrap().is_empty() => break,
            Ok(records) => read.extend(records.unwrap().into_iter().map(|record| record.value.unwrap())),
        }
    }
    assert_eq!(read, accepted, "seed {seed}");
}
