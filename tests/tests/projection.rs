//! Projections against a real broker in this process: what counts counts once, whatever is dropped, cut or broken when.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use millstream_broker::Broker;
use millstream_client::protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millstream_client::protocol::messages::{EndTxnRequest, InitProducerIdRequest, ProduceRequest};
use millstream_client::protocol::records::{BatchBuilder, Compression, NewRecord};
use millstream_client::protocol::{Chunk, KStr};
use millstream_client::{CallOptions, Client, DeleteUpTo, NewTopic, To};
use millstream_consumer::ConsumerRecord;
use millstream_consumer::projection::{
    Batch, CatchUpError, History, Phase, Positions, Projection, ProjectionError, ProjectionHandle, Sink,
    Snapshot, SnapshotError, SnapshotReader, View,
};
use millstream_producer::{Producer, Record};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Notify;

/// A broker whose data goes when it does, and a topic in it.
struct Bed {
    client: Client,
    topic: String,
    _broker: (Broker, tempfile::TempDir),
}

impl Bed {
    async fn new(partitions: i32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let builder = Broker::builder().data_dir(dir.path()).listen("127.0.0.1:0").no_http();
        let broker = builder.set("log.retention.ms", "-1").start().unwrap();
        let address = broker.kafka_address().to_string();
        let client = Client::builder(address).client_id("projection-test").connect().await.unwrap();
        let bed = Self { client, topic: "events".to_owned(), _broker: (broker, dir) };
        bed.create(partitions).await;
        bed
    }

    async fn create(&self, partitions: i32) {
        let topic = NewTopic::new(self.topic.as_str()).partitions(partitions);
        self.client.admin().create_topic(topic).await.unwrap();
    }

    async fn write(&self, values: std::ops::Range<u64>) {
        let producer = Producer::builder(self.client.clone()).build();
        for n in values {
            let value = n.to_string();
            drop(producer.send(Record::to(&self.topic).key(&value).value(&value)).await.unwrap());
        }
        producer.close().await.unwrap();
    }
}

/// Everything that was ever applied, as a database that has transactions would have it.
#[derive(Debug, Default, Clone)]
struct Tables {
    rows: Vec<(i32, i64, String)>,
    positions: Positions,
}

/// When to stand still, as if the process had died there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crash {
    BeforeCommit,
    BehindCommit,
}

#[derive(Debug, Clone, Default)]
struct Database {
    tables: Arc<Mutex<Tables>>,
    crash: Option<(Crash, u32)>,
    crashed: Arc<Notify>,
}

impl Database {
    async fn crash_if_due(&self, here: Crash) {
        if self.crash == Some((here, 0)) {
            self.crashed.notify_one();
            std::future::pending::<()>().await;
        }
    }

    fn tables(&self) -> Tables {
        self.tables.lock().unwrap().clone()
    }

    /// Every record of every partition once, in its order.
    fn assert_complete(&self, records: usize, context: &str) {
        let mut partitions: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
        let tables = self.tables();
        for (partition, offset, _) in &tables.rows {
            partitions.entry(*partition).or_default().push(*offset);
        }
        for (partition, offsets) in &partitions {
            let wanted: Vec<i64> = (0..offsets.len() as i64).collect();
            assert_eq!(offsets, &wanted, "partition {partition}, {context}");
            assert_eq!(tables.positions.next("events", *partition), Some(offsets.len() as i64), "{context}");
        }
        assert_eq!(tables.rows.len(), records, "{context}");
    }
}

impl Sink for Database {
    type Error = Infallible;

    async fn load(&mut self) -> Result<Positions, Infallible> {
        Ok(self.tables().positions)
    }

    async fn apply(&mut self, batch: &Batch, positions: &Positions) -> Result<(), Infallible> {
        let mut transaction = self.tables();
        for record in batch.iter() {
            let value = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned();
            transaction.rows.push((record.partition, record.offset, value));
        }
        transaction.positions = positions.clone();
        tokio::task::yield_now().await;
        self.crash_if_due(Crash::BeforeCommit).await;
        *self.tables.lock().unwrap() = transaction;
        self.crash_if_due(Crash::BehindCommit).await;
        if let Some((_, left)) = &mut self.crash {
            *left -= 1;
        }
        Ok(())
    }

    async fn reset(&mut self) -> Result<(), Infallible> {
        *self.tables.lock().unwrap() = Tables::default();
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_before_or_behind_the_commit_neither_loses_nor_doubles() {
    let bed = Bed::new(3).await;
    bed.write(0..2000).await;
    let seed: u64 = rand::random();
    let mut random = StdRng::seed_from_u64(seed);
    let mut database = Database::default();
    let builder = Projection::builder(bed.client.clone(), bed.topic.as_str()).batch_records(50);
    for _ in 0..20 {
        let place = if random.random() { Crash::BeforeCommit } else { Crash::BehindCommit };
        database.crash = Some((place, random.random_range(0..4)));
        let projection = builder.clone().open(database.clone()).await.unwrap();
        let handle = projection.handle();
        let crashed = database.crashed.clone();
        tokio::select! {
            ended = projection.run() => panic!("seed {seed}: {ended:?}"),
            () = crashed.notified() => {}
            () = async { handle.caught_up().await.unwrap() } => {}
        }
        assert!(
            matches!(handle.caught_up().await, Ok(()) | Err(CatchUpError::Stopped { .. })),
            "seed {seed}"
        );
    }
    database.crash = None;
    let projection = builder.open(database.clone()).await.unwrap();
    let handle = projection.handle();
    let running = tokio::spawn(projection.run());
    handle.caught_up().await.unwrap();
    handle.stop();
    running.await.unwrap().unwrap();
    assert_eq!(handle.progress().phase, Phase::Stopped);
    database.assert_complete(2000, &format!("seed {seed}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_projection_that_is_dropped_anywhere_goes_on_where_it_was() {
    let bed = Bed::new(2).await;
    let seed: u64 = rand::random();
    let mut random = StdRng::seed_from_u64(seed);
    let database = Database::default();
    let builder = Projection::builder(bed.client.clone(), bed.topic.as_str()).batch_records(7);
    let mut written = 0;
    for _ in 0..30 {
        let more = random.random_range(0..60);
        bed.write(written..written + more).await;
        written += more;
        let projection = builder.clone().open(database.clone()).await.unwrap();
        let time = Duration::from_micros(random.random_range(0..6000));
        drop(tokio::time::timeout(time, projection.run()).await);
    }
    let projection = builder.open(database.clone()).await.unwrap();
    let handle = projection.handle();
    let running = tokio::spawn(projection.run());
    handle.caught_up().await.unwrap();
    handle.stop();
    running.await.unwrap().unwrap();
    database.assert_complete(written as usize, &format!("seed {seed}"));
}

/// Adds numbers up.
#[derive(Debug, Default)]
struct Sum {
    records: u64,
    total: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotANumber(String);

impl View for Sum {
    const NAME: &'static str = "sum";
    const VERSION: u32 = 1;
    type Error = NotANumber;

    fn apply(&mut self, record: &ConsumerRecord) -> Result<(), NotANumber> {
        let text =
            std::str::from_utf8(record.value.as_deref().unwrap_or_default()).unwrap_or("not even UTF-8");
        assert_ne!(text, "panic", "asked to");
        self.records += 1;
        self.total += text.parse::<u64>().map_err(|_| NotANumber(format!("{text:?} is no number")))?;
        Ok(())
    }

    fn encode(&self) -> Vec<u8> {
        [self.records.to_be_bytes(), self.total.to_be_bytes()].concat()
    }

    fn decode(bytes: &[u8]) -> Result<Self, NotANumber> {
        let wrong = || NotANumber("16 bytes are expected".to_owned());
        let (records, rest) = bytes.split_first_chunk().ok_or_else(wrong)?;
        let total = rest.try_into().map_err(|_| wrong())?;
        Ok(Self { records: u64::from_be_bytes(*records), total: u64::from_be_bytes(total) })
    }
}

/// Opens, and says what it can be read and watched by.
async fn open(
    bed: &Bed,
    path: &std::path::Path,
) -> Result<(Projection<Snapshot<Sum>>, SnapshotReader<Sum>, ProjectionHandle), ProjectionError> {
    let snapshot = Snapshot::<Sum>::file(path).every_records(100);
    let reader = snapshot.reader();
    let projection =
        Projection::builder(bed.client.clone(), bed.topic.as_str()).batch_records(50).open(snapshot);
    let projection = projection.await?;
    let handle = projection.handle();
    Ok((projection, reader, handle))
}

async fn catch_up_and_stop(bed: &Bed, path: &std::path::Path) -> (u64, u64) {
    let (projection, sum, handle) = open(bed, path).await.unwrap();
    let running = tokio::spawn(projection.run());
    handle.caught_up().await.unwrap();
    handle.stop();
    running.await.unwrap().unwrap();
    sum.read(|sum| (sum.records, sum.total)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_where_the_next_start_goes_on() {
    let bed = Bed::new(2).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sum.snapshot");
    let total = |end: u64| (end, end * (end - 1) / 2);
    bed.write(0..1000).await;
    assert_eq!(catch_up_and_stop(&bed, &path).await, total(1000));
    bed.write(1000..1500).await;
    // What dies between two snapshots is read again.
    let (projection, sum, handle) = open(&bed, &path).await.unwrap();
    assert_eq!(sum.read(|sum| sum.records), Ok(1000), "restored before it runs");
    {
        let run = projection.run();
        tokio::select! {
            ended = run => panic!("{ended:?}"),
            caught_up = handle.caught_up() => caught_up.unwrap(),
        }
    }
    assert_eq!(catch_up_and_stop(&bed, &path).await, total(1500));
    assert!(matches!(handle.caught_up().await, Ok(())), "what it had, it had");

    // A file that is damaged, or of another version, is refused; rebuilt from zero it is right again.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = open(&bed, &path).await.err().unwrap();
    assert!(
        matches!(&error, ProjectionError::Sink { error, .. }
        if matches!(error.downcast_ref(), Some(SnapshotError::Damaged { .. }))),
        "{error}"
    );
    let snapshot = Snapshot::<Sum>::file(&path);
    let sum = snapshot.reader();
    let rebuilt =
        Projection::builder(bed.client.clone(), bed.topic.as_str()).rebuild().open(snapshot).await.unwrap();
    let handle = rebuilt.handle();
    let running = tokio::spawn(rebuilt.run());
    handle.caught_up().await.unwrap();
    let progress = handle.progress();
    assert_eq!((progress.phase, progress.lag, progress.records), (Phase::Live, 0, 1500));
    assert_eq!(progress.eta, Some(Duration::ZERO));
    handle.stop();
    running.await.unwrap().unwrap();
    assert_eq!(sum.read(|sum| (sum.records, sum.total)).unwrap(), total(1500));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_cannot_be_applied_ends_it_by_name_and_nothing_behind_it_is_stored() {
    for poison in ["poison", "panic"] {
        let bed = Bed::new(1).await;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sum.snapshot");
        bed.write(0..120).await;
        let producer = Producer::builder(bed.client.clone()).build();
        producer.send(Record::to(&bed.topic).value(poison)).await.unwrap().await.unwrap();
        bed.write(121..200).await;
        for _ in 0..2 {
            let (projection, sum, handle) = open(&bed, &path).await.unwrap();
            let error = projection.run().await.err().unwrap();
            let ProjectionError::Apply { topic, partition: 0, offset: 120, .. } = &error else {
                panic!("{error}")
            };
            assert_eq!(topic, "events");
            let told = handle.caught_up().await.unwrap_err().to_string();
            assert!(told.contains("offset 120"), "{told}");
            sum.read(|_| ()).unwrap_err();
            let kept = Snapshot::<Sum>::file(&path).load().await.unwrap().next("events", 0);
            assert!(kept.is_none_or(|next| next <= 120), "{kept:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caught_up_means_all_that_was_there_when_it_was_asked() {
    let bed = Arc::new(Bed::new(3).await);
    let dir = tempfile::tempdir().unwrap();
    let (projection, sum, handle) = open(&bed, &dir.path().join("sum.snapshot")).await.unwrap();
    let running = tokio::spawn(projection.run());
    // There is nothing, and there it is.
    handle.caught_up().await.unwrap();
    assert_eq!(sum.read(|sum| sum.records), Ok(0));
    let writer = bed.clone();
    let written = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let acknowledged = written.clone();
    let writer = tokio::spawn(async move {
        let producer = Producer::builder(writer.client.clone()).build();
        for n in 0..500_u64 {
            producer.send(Record::to(&writer.topic).value(&n.to_string())).await.unwrap().await.unwrap();
            acknowledged.store(n + 1, std::sync::atomic::Ordering::SeqCst);
        }
    });
    while !writer.is_finished() {
        let wanted = written.load(std::sync::atomic::Ordering::SeqCst);
        handle.caught_up().await.unwrap();
        let seen = sum.read(|sum| sum.records).unwrap();
        assert!(seen >= wanted, "{seen} of {wanted}");
    }
    writer.await.unwrap();
    handle.caught_up().await.unwrap();
    assert_eq!(sum.read(|sum| sum.records), Ok(500));
    handle.stop();
    running.await.unwrap().unwrap();
}

/// A transactional producer, request by request.
struct Transaction<'a> {
    bed: &'a Bed,
    id: KStr,
    producer: (i64, i16),
}

impl<'a> Transaction<'a> {
    async fn begin(bed: &'a Bed, id: &str) -> Self {
        let id = KStr::from(id);
        let request = InitProducerIdRequest {
            transactional_id: Some(id.clone()),
            transaction_timeout_ms: 60_000,
            ..Default::default()
        };
        // The coordinator may have to be made first.
        loop {
            let answer = bed.client.request(request.clone(), To::Any).await.unwrap();
            if answer.error_code == 0 {
                return Self { bed, id, producer: (answer.producer_id, answer.producer_epoch) };
            }
            tokio::task::yield_now().await;
        }
    }

    async fn write(&self, value: &str) {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.producer(self.producer.0, self.producer.1, 0).transactional();
        builder.append(&NewRecord { value: Some(value.as_bytes()), ..Default::default() });
        let batch: Bytes = builder.build();
        let data = PartitionProduceData { index: 0, records: Some(Chunk::Bytes(batch)) };
        let request = ProduceRequest {
            transactional_id: Some(self.id.clone()),
            acks: -1,
            timeout_ms: 10_000,
            topic_data: vec![TopicProduceData {
                name: KStr::from(self.bed.topic.as_str()),
                partition_data: vec![data],
                ..Default::default()
            }],
        };
        let options = CallOptions { newest_version: Some(12), ..Default::default() };
        loop {
            let connection = self.bed.client.connection(To::Any).await.unwrap();
            let answer = connection.send(&request, options).await.unwrap().await.unwrap();
            if answer.responses[0].partition_responses[0].error_code == 0 {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn end(self, committed: bool) {
        let request = EndTxnRequest {
            transactional_id: self.id.clone(),
            producer_id: self.producer.0,
            producer_epoch: self.producer.1,
            committed,
        };
        let answer = self.bed.client.request(request, To::Any).await.unwrap();
        assert_eq!(answer.error_code, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_transactions_caught_up_is_up_to_the_first_that_is_open() {
    let bed = Bed::new(1).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sum.snapshot");
    bed.write(0..3).await;
    let aborted = Transaction::begin(&bed, "aborted").await;
    aborted.write("not a number, but nobody will see it").await;
    aborted.end(false).await;
    let committed = Transaction::begin(&bed, "committed").await;
    committed.write("100").await;
    let (projection, sum, handle) = open(&bed, &path).await.unwrap();
    let running = tokio::spawn(projection.run());
    handle.caught_up().await.unwrap();
    assert_eq!(sum.read(|sum| (sum.records, sum.total)), Ok((3, 3)), "one is open");
    assert_eq!(handle.progress().phase, Phase::Live);
    assert!(handle.progress().lag > 0, "there is more, only not yet");
    committed.end(true).await;
    // The last thing in the log is a marker, and no record.
    handle.caught_up().await.unwrap();
    assert_eq!(sum.read(|sum| (sum.records, sum.total)), Ok((4, 103)));
    assert_eq!(handle.progress().lag, 0);
    handle.stop();
    running.await.unwrap().unwrap();
    assert_eq!(catch_up_and_stop(&bed, &path).await, (4, 103));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_does_not_go_on_where_the_result_ends_is_an_error() {
    let bed = Bed::new(1).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sum.snapshot");
    bed.write(0..10).await;
    assert_eq!(catch_up_and_stop(&bed, &path).await.0, 10);
    bed.write(10..20).await;

    // Deleted up to where it stands, nothing is missing; one further, and there is a gap.
    bed.client.admin().delete_records(&bed.topic, 0, DeleteUpTo::Offset(10)).await.unwrap();
    open(&bed, &path).await.unwrap();
    bed.client.admin().delete_records(&bed.topic, 0, DeleteUpTo::Offset(11)).await.unwrap();
    let error = open(&bed, &path).await.err().unwrap();
    assert!(matches!(error, ProjectionError::HistoryGone { position: 10, log_start: 11, .. }), "{error}");

    // A new result wants all of it, unless it is told to take what is left.
    let builder = || Projection::builder(bed.client.clone(), bed.topic.as_str());
    let error = builder().open(Database::default()).await.err().unwrap();
    assert!(matches!(error, ProjectionError::HistoryGone { position: 0, log_start: 11, .. }), "{error}");
    let database = Database::default();
    let projection = builder().history(History::Remaining).open(database.clone()).await.unwrap();
    let handle = projection.handle();
    let running = tokio::spawn(projection.run());
    handle.caught_up().await.unwrap();
    assert_eq!(database.tables().rows.first().map(|row| row.1), Some(11));
    assert_eq!(database.tables().rows.len(), 9);
    handle.stop();
    running.await.unwrap().unwrap();

    // Another topic of the same name: first too short, then as long, but with other records.
    bed.client.admin().delete_topic(&bed.topic).await.unwrap();
    bed.create(1).await;
    bed.client.invalidate(&bed.topic);
    let error = open(&bed, &path).await.err().unwrap();
    assert!(matches!(error, ProjectionError::LogShorter { position: 10, end: 0, .. }), "{error}");
    bed.write(500..530).await;
    let error = open(&bed, &path).await.err().unwrap();
    assert!(matches!(error, ProjectionError::LogReplaced { offset: 9, .. }), "{error}");
}
