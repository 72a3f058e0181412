//! The runner against a real broker in this process: what is committed is finished, whatever handlers do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_broker::Broker;
use millstream_client::{Backoff, Client, NewTopic};
use millstream_consumer::{
    Consumer, ConsumerExt, ConsumerRecord, Failure, RetryPolicy, RunError, StartAt, StopAt, parked,
};
use millstream_producer::{Producer, Record};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{oneshot, watch};

/// A broker whose data goes when it does, and a topic in it.
struct Bed {
    client: Client,
    _broker: (Broker, tempfile::TempDir),
}

const ORDERS: &str = "orders";
const PARKED: &str = "orders-parked";
const GROUP: &str = "workers";

impl Bed {
    async fn new(partitions: i32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let builder = Broker::builder().data_dir(dir.path()).listen("127.0.0.1:0").no_http();
        let broker = builder.set("log.retention.ms", "-1").start().unwrap();
        let address = broker.kafka_address().to_string();
        let client = Client::builder(address).client_id("runner-test").connect().await.unwrap();
        for topic in [ORDERS, PARKED] {
            client.admin().create_topic(NewTopic::new(topic).partitions(partitions)).await.unwrap();
        }
        Self { client, _broker: (broker, dir) }
    }

    /// Values are numbers, keys are these numbers modulo `keys`.
    async fn write(&self, values: std::ops::Range<u64>, keys: u64) {
        let producer = Producer::builder(self.client.clone()).build();
        for n in values {
            let (key, value) = ((n % keys).to_string(), n.to_string());
            drop(producer.send(Record::to(ORDERS).key(&key).value(&value)).await.unwrap());
        }
        producer.close().await.unwrap();
    }

    async fn member(&self) -> Consumer {
        let consumer = self.client.consumer(GROUP).subscribe([ORDERS]).start_at(StartAt::Beginning);
        consumer.build().await.unwrap()
    }

    /// Everything up to the end, without a group.
    async fn all(&self, topic: &str) -> Consumer {
        let builder = Consumer::builder(self.client.clone()).assign_topic(topic, StartAt::Beginning);
        builder.stop(StopAt::CurrentEnd).build().await.unwrap()
    }

    async fn committed(&self) -> i64 {
        let committed = self.client.admin().committed_offsets(GROUP).await.unwrap();
        committed.iter().map(|committed| committed.offset).sum()
    }
}

fn number(record: &ConsumerRecord) -> u64 {
    std::str::from_utf8(record.value.as_deref().unwrap()).unwrap().parse().unwrap()
}

fn quickly() -> RetryPolicy {
    let backoff = Backoff { first: Duration::from_millis(1), most: Duration::from_millis(5) };
    RetryPolicy::attempts(3).backoff(backoff)
}

/// What handlers have seen, and a way to wait for so much of it.
#[derive(Clone)]
struct Seen {
    numbers: Arc<Mutex<Vec<u64>>>,
    count: Arc<watch::Sender<usize>>,
}

impl Seen {
    fn new() -> Self {
        Self { numbers: Arc::default(), count: Arc::new(watch::channel(0).0) }
    }

    fn note(&self, number: u64) {
        self.numbers.lock().unwrap().push(number);
        self.count.send_modify(|count| *count += 1);
    }

    /// Waits for so many different ones.
    fn until(&self, wanted: usize) -> impl Future<Output = ()> + Send + use<> {
        let (numbers, mut count) = (self.numbers.clone(), self.count.subscribe());
        async move {
            let is_enough =
                |_: &usize| numbers.lock().unwrap().iter().collect::<BTreeSet<_>>().len() >= wanted;
            count.wait_for(is_enough).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_panics_or_hangs_is_tried_again_and_then_parked_with_its_origin() {
    let bed = Bed::new(2).await;
    bed.write(0..100, 10).await;
    let seen = Seen::new();
    let noted = seen.clone();
    let attempts = Arc::new(AtomicUsize::new(0));
    let run = bed.member().await.run(move |record| {
        let (noted, attempts) = (noted.clone(), attempts.clone());
        async move {
            let number = number(&record);
            match number {
                10 => return Err(Failure::poison("never")),
                20 => return Err(Failure::passing("not today")),
                30 => panic!("a handler that panics"),
                40 => std::future::pending().await,
                // Works the third time.
                50 if attempts.fetch_add(1, Ordering::SeqCst) < 2 => Err("not yet")?,
                _ => {}
            }
            noted.note(number);
            Ok::<(), Failure>(())
        }
    });
    let run = run.concurrency(4).retry(quickly()).timeout(Duration::from_millis(50)).park_to(PARKED);
    let (client, handled) = (bed.client.clone(), seen.until(96));
    let report = run.until(async move {
        handled.await;
        let builder = Consumer::builder(client).assign_topic(PARKED, StartAt::Beginning);
        let mut parked = builder.build().await.unwrap();
        for _ in 0..4 {
            parked.recv().await.unwrap();
        }
    });
    let report = report.await.unwrap();
    assert_eq!((report.handled, report.parked), (96, 4));
    assert_eq!(report.failed_attempts, 1 + 3 + 3 + 3 + 2);
    assert_eq!(bed.committed().await, 100, "parked is finished, too");

    let mut told = BTreeMap::new();
    let mut consumer = bed.all(PARKED).await;
    while let Some(record) = consumer.recv().await.unwrap() {
        let header = |name| {
            let header = record.headers.iter().find(|header| &*header.key == name).unwrap();
            String::from_utf8(header.value.as_deref().unwrap().to_vec()).unwrap()
        };
        assert_eq!(header(parked::TOPIC), ORDERS);
        assert_eq!(record.key.as_deref(), Some(&b"0"[..]));
        let place = (header(parked::PARTITION).parse().unwrap(), header(parked::OFFSET).parse().unwrap());
        told.insert(number(&record), (header(parked::ATTEMPTS), header(parked::ERROR), place));
    }
    let error = |number| (told[&number].0.as_str(), told[&number].1.as_str());
    assert_eq!(error(10), ("1", "never"));
    assert_eq!(error(20), ("3", "not today"));
    assert_eq!(error(30), ("3", "panicked: a handler that panics"));
    assert_eq!(error(40), ("3", "no result within 50ms"));
    // The origin is where it says.
    let mut consumer = bed.all(ORDERS).await;
    let mut origins = BTreeMap::new();
    while let Some(record) = consumer.recv().await.unwrap() {
        origins.insert(number(&record), (record.partition, record.offset));
    }
    for (number, (_, _, place)) in &told {
        assert_eq!(origins[number], *place);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_place_to_park_the_run_ends_at_the_record_and_it_comes_again() {
    let bed = Bed::new(1).await;
    bed.write(0..50, 50).await;
    for _ in 0..2 {
        let run = bed.member().await.run(|record| async move {
            match number(&record) {
                17 => Err("broken"),
                _ => Ok(()),
            }
        });
        let error = run.retry(quickly()).concurrency(3).await.unwrap_err();
        let RunError::Failed { at, attempts: 3, reason } = &error else { panic!("{error}") };
        assert_eq!((at.offset, reason.as_str()), (17, "broken"));
        assert_eq!(bed.committed().await, 17);
    }
    let seen = Seen::new();
    let noted = seen.clone();
    let run = bed.member().await.run(move |record| {
        noted.note(number(&record));
        std::future::ready(Ok::<(), Failure>(()))
    });
    run.until(seen.until(33)).await.unwrap();
    let seen: BTreeSet<u64> = seen.numbers.lock().unwrap().iter().copied().collect();
    assert_eq!(seen, (17..50).collect::<BTreeSet<_>>());
    assert_eq!(bed.committed().await, 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_keys_keep_their_order_and_different_ones_run_side_by_side() {
    let bed = Bed::new(2).await;
    bed.write(0..600, 12).await;
    let seed: u64 = rand::random();
    let random = Arc::new(Mutex::new(StdRng::seed_from_u64(seed)));
    let handled: Arc<Mutex<BTreeMap<u64, Vec<u64>>>> = Arc::default();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (by_key, running, peak) = (handled.clone(), now.clone(), most.clone());
    let run = bed.all(ORDERS).await.run(move |record| {
        let (by_key, running, peak) = (by_key.clone(), running.clone(), peak.clone());
        let (yields, fails) = {
            let mut random = random.lock().unwrap();
            (random.random_range(0..20), random.random_ratio(1, 10))
        };
        async move {
            peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            for _ in 0..yields {
                tokio::task::yield_now().await;
            }
            running.fetch_sub(1, Ordering::SeqCst);
            if fails {
                return Err("again");
            }
            let number = number(&record);
            by_key.lock().unwrap().entry(number % 12).or_default().push(number);
            Ok(())
        }
    });
    let policy =
        RetryPolicy::forever().backoff(Backoff { first: Duration::ZERO, most: Duration::from_millis(1) });
    let report = run.concurrency(8).order_by_key().max_in_flight_records(64).retry(policy).await.unwrap();
    assert_eq!(report.handled, 600, "it ends by itself where its consumer stops, seed {seed}");
    assert_eq!(report.positions.offsets().map(|at| at.offset).sum::<i64>(), 600);
    for (key, numbers) in &*handled.lock().unwrap() {
        let wanted: Vec<u64> = (0..50).map(|n| n * 12 + key).collect();
        assert_eq!(numbers, &wanted, "key {key}, seed {seed}");
    }
    let most = most.load(Ordering::SeqCst);
    assert!((2..=8).contains(&most), "{most} at a time, seed {seed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_let_go_when_what_is_under_way_is_finished_and_committed() {
    let bed = Bed::new(4).await;
    bed.write(0..2000, 100).await;
    let seen = Seen::new();
    let worker = |seen: &Seen| {
        let seen = seen.clone();
        move |record: ConsumerRecord| {
            let seen = seen.clone();
            async move {
                for _ in 0..50 {
                    tokio::task::yield_now().await;
                }
                seen.note(number(&record));
                Ok::<(), Failure>(())
            }
        }
    };
    let first = bed.member().await.run(worker(&seen)).order_by_partition().until(seen.until(2000));
    let first = tokio::spawn(first.into_future());
    // The second comes while the first is busy, goes again, and the first takes over what it had.
    seen.until(200).await;
    let second = bed.member().await.run(worker(&seen)).order_by_partition().until(seen.until(1000));
    second.await.unwrap();
    first.await.unwrap().unwrap();
    let mut numbers = seen.numbers.lock().unwrap().clone();
    numbers.sort_unstable();
    // In the order of partitions there is nothing finished behind something that is not.
    let twice: Vec<_> = numbers.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    assert_eq!((twice, numbers.len()), (vec![], 2000), "each once: all were let go in order");
    assert_eq!(bed.committed().await, 2000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_dropped_anywhere_leaves_nothing_out() {
    let bed = Bed::new(2).await;
    bed.write(0..400, 40).await;
    let seed: u64 = rand::random();
    let mut random = StdRng::seed_from_u64(seed);
    let seen = Seen::new();
    let worker = |seen: &Seen| {
        let seen = seen.clone();
        move |record: ConsumerRecord| {
            let seen = seen.clone();
            async move {
                tokio::task::yield_now().await;
                seen.note(number(&record));
                Ok::<(), Failure>(())
            }
        }
    };
    let assigned = || {
        let consumer = bed.client.consumer(GROUP).start_at(StartAt::Beginning);
        consumer.assign(ORDERS, 0, StartAt::Committed).assign(ORDERS, 1, StartAt::Committed)
    };
    for _ in 0..12 {
        let run = assigned().build().await.unwrap().run(worker(&seen)).commit_every(Duration::from_millis(1));
        let time = Duration::from_micros(random.random_range(0..8000));
        drop(tokio::time::timeout(time, run.into_future()).await);
        let handled: BTreeSet<u64> = seen.numbers.lock().unwrap().iter().copied().collect();
        let committed = bed.committed().await;
        assert!(committed <= handled.len() as i64, "{committed} of {}, seed {seed}", handled.len());
    }
    // Up to the end, and not until all were seen: that they may be before it begins.
    assigned().stop(StopAt::CurrentEnd).build().await.unwrap().run(worker(&seen)).await.unwrap();
    let handled: BTreeSet<u64> = seen.numbers.lock().unwrap().iter().copied().collect();
    assert_eq!((handled.len(), bed.committed().await), (400, 400), "seed {seed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_lets_what_is_under_way_finish_and_begins_nothing_more() {
    let bed = Bed::new(1).await;
    bed.write(0..100, 100).await;
    let (begun, finished) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (tell, busy) = watch::channel(0_usize);
    let (go, gate) = watch::channel(false);
    let (starts, ends) = (begun.clone(), finished.clone());
    let run = bed.member().await.run(move |_| {
        let (starts, ends, tell, mut gate) = (starts.clone(), ends.clone(), tell.clone(), gate.clone());
        async move {
            starts.fetch_add(1, Ordering::SeqCst);
            tell.send_modify(|busy| *busy += 1);
            gate.wait_for(|is_open| *is_open).await.map_err(|_| Failure::passing("nobody opens"))?;
            ends.fetch_add(1, Ordering::SeqCst);
            Ok::<(), Failure>(())
        }
    });
    let (stop, stopped) = oneshot::channel::<()>();
    let run = run.concurrency(5).until(async { stopped.await.unwrap_or(()) });
    let run = tokio::spawn(run.into_future());
    busy.clone().wait_for(|busy| *busy == 5).await.unwrap();
    stop.send(()).unwrap();
    tokio::task::yield_now().await;
    go.send(true).unwrap();
    let report = run.await.unwrap().unwrap();
    let counts = (begun.load(Ordering::SeqCst), finished.load(Ordering::SeqCst));
    assert!(counts.0 == counts.1 && (5..100).contains(&counts.0), "{counts:?}");
    assert_eq!(report.handled, counts.1 as u64);
    assert_eq!(bed.committed().await, counts.1 as i64);
}
