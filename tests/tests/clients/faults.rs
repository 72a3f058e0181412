//! Cases in which something goes wrong on the way: answers are lost, calls are given up, a broker restarts.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use millstream_broker::Broker;
use millstream_client::{Address, Backoff, Client, Connecting, NewTopic, Stream, Transport};
use millstream_consumer::{Consumer, StartAt, StopAt};
use millstream_producer::{Producer, Record};
use millstream_tests::port::Port;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio::io::{AsyncRead, ReadBuf};

use crate::bed::{Bed, read_all};

suite! {
    nothing_is_lost_doubled_or_reordered_when_answers_are_lost,
    calls_that_are_given_up_at_any_moment_lose_and_double_nothing,
}

/// Opens connections on which now and then an answer is lost together with the connection.
#[derive(Debug)]
struct Lossy {
    inner: Arc<dyn Transport>,
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
            let Stream { read, write } = self.inner.connect(address).await?;
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

async fn nothing_is_lost_doubled_or_reordered_when_answers_are_lost(bed: &Bed) {
    let seed = rand::rng().next_u64();
    println!("seed {seed}");
    let (client, topic) = bed.topic("lossy", 3).await;
    let lost = Arc::new(AtomicU64::new(0));
    let random = StdRng::seed_from_u64(seed).into();
    let lossy = bed
        .builder()
        .backoff(Backoff { first: Duration::from_millis(2), most: Duration::from_millis(20) })
        .transport(Arc::new(Lossy { inner: bed.transport(), random, lost: lost.clone(), one_in: 8 }));
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

/// What becomes of a future that is dropped when it has been pending so many times and is so once more.
async fn given_up_after<F: Future>(mut polls: u32, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if polls == 0 => Poll::Ready(None),
        Poll::Pending => {
            polls -= 1;
            Poll::Pending
        }
    })
    .await
}

async fn calls_that_are_given_up_at_any_moment_lose_and_double_nothing(bed: &Bed) {
    let seed = rand::rng().next_u64();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (client, topic) = bed.topic("given-up", 1).await;
    let producer = Producer::builder(client.clone()).buffer_bytes(2_000).batch_bytes(500).build();
    let mut accepted = Vec::new();
    for n in 0..2_000 {
        let value = format!("{n} {}", "x".repeat(random.random_range(0..400)));
        // By polls, not by time: how long a full buffer takes to drain depends on the broker.
        let polls = random.random_range(0..3);
        if let Some(sent) = given_up_after(polls, producer.send(Record::to(&topic).value(&value))).await {
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
            broker.shutdown().await;
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
