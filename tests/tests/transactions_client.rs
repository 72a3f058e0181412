//! Transactions of the producer against a real broker, with both protocols: all or nothing, once, also when answers are
//! lost, calls are dropped, and another instance takes over.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};
use std::time::Duration;

use millstream_broker::Broker;
use millstream_client::protocol::messages::UpdateFeaturesRequest;
use millstream_client::protocol::messages::update_features_request::FeatureUpdateKey;
use millstream_client::{
    Address, Backoff, Client, Connecting, GroupMetadata, NewOffset, NewTopic, OffsetAt, Source, Tcp, To,
    Transport,
};
use millstream_consumer::{Consumer, ConsumerExt, Isolation, StartAt, StopAt};
use millstream_producer::{
    Acks, Ending, Producer, ProducerExt, Record, SessionError, TransactionError, TransactionalProducer,
};
use millstream_tests::proxy::{Proxy, Weather};
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// A broker that speaks one of the two protocols.
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

    fn bootstrap(&self) -> String {
        self.broker.kafka_address().to_string()
    }

    async fn client(&self) -> Client {
        Client::builder(self.bootstrap()).connect().await.unwrap()
    }

    /// A network that loses 5 % of the answers and resets all connections each second.
    fn proxy(&self, seed: u64) -> Proxy {
        let weather = Weather { loses_one_in: 20, resets_each: Duration::from_secs(1) };
        let upstream: SocketAddr = self.broker.kafka_address();
        Proxy::open(&tokio::runtime::Handle::current(), upstream, weather, seed).unwrap()
    }

    /// A client behind it.
    async fn through(&self, proxy: &Proxy) -> Client {
        let through = Through(Address::new(proxy.address().ip().to_string(), proxy.address().port()));
        let builder = Client::builder(self.bootstrap())
            .transport(Arc::new(through))
            .request_timeout(Duration::from_millis(500))
            .backoff(Backoff { first: Duration::from_millis(1), most: Duration::from_millis(20) });
        // The first contact may be lost too, and is not repeated by itself.
        loop {
            if let Ok(client) = builder.clone().connect().await {
                return client;
            }
        }
    }

    /// Has the cluster fall back to the first protocol.
    async fn downgrade(&self) {
        let update = FeatureUpdateKey {
            feature: "transaction.version".into(),
            max_version_level: 0,
            upgrade_type: 2,
            ..Default::default()
        };
        let request = UpdateFeaturesRequest { feature_updates: vec![update], ..Default::default() };
        let answer = self.client().await.request(request, To::Controller).await.unwrap();
        assert_eq!(answer.error_code, 0, "{answer:?}");
    }

    /// One of each protocol, with topic `t` of so many partitions.
    async fn both(partitions: i32) -> [(Self, Client); 2] {
        let mut both = Vec::new();
        for is_first in [true, false] {
            let peer = Self::start();
            if is_first {
                peer.downgrade().await;
            }
            let client = peer.client().await;
            client.admin().create_topic(NewTopic::new("t").partitions(partitions)).await.unwrap();
            both.push((peer, client));
        }
        both.try_into().unwrap_or_else(|_| unreachable!())
    }
}

async fn producer(client: &Client, id: &str) -> TransactionalProducer {
    Producer::builder(client.clone()).transactional_id(id).build().await.unwrap()
}

/// The values that readers of committed records see, by partition.
async fn committed(client: &Client) -> BTreeMap<i32, Vec<String>> {
    let consumer = Consumer::builder(client.clone()).isolation(Isolation::ReadCommitted);
    let consumer = consumer.assign_topic("t", StartAt::Beginning).stop(StopAt::CurrentEnd);
    let mut consumer = consumer.build().await.unwrap();
    let mut values: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    loop {
        let records = consumer.recv_batch().await.unwrap();
        if records.is_empty() {
            return values;
        }
        for record in records {
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            values.entry(record.partition).or_default().push(value);
        }
    }
}

#[tokio::test]
async fn a_transaction_is_all_or_nothing_over_partitions_and_the_next_goes_on() {
    for (peer, client) in Peer::both(3).await {
        let producer = producer(&client, "x").await;
        for round in 0..6 {
            let transaction = producer.begin().await.unwrap();
            for partition in 0..3 {
                let value = format!("{round}-{partition}");
                let record = Record::to("t").partition(partition).value(&value);
                let delivery = transaction.send(record).await.unwrap();
                if partition == round % 3 {
                    assert!(delivery.await.unwrap().offset.is_some());
                }
            }
            match round % 3 {
                0 => transaction.commit().await.unwrap(),
                1 => transaction.abort().await.unwrap(),
                // The next begin waits until this is aborted.
                _ => drop(transaction),
            }
        }
        assert_eq!(producer.last_ending().await.unwrap(), Some(Ending::Abort));
        let seen = committed(&client).await;
        for partition in 0..3 {
            assert_eq!(seen[&partition], [format!("0-{partition}"), format!("3-{partition}")]);
        }
        drop(peer);
    }
}

#[tokio::test]
async fn offsets_hold_if_and_only_if_the_transaction_does() {
    for (_peer, client) in Peer::both(1).await {
        let producer = producer(&client, "x").await;
        let group = GroupMetadata::new("copier");
        let at = |offset| NewOffset { topic: "t".into(), partition: 0, offset, metadata: "m".into() };
        for (offset, ending) in [(5, Ending::Commit), (9, Ending::Abort)] {
            let transaction = producer.begin().await.unwrap();
            drop(transaction.send(Record::to("t").value("v")).await.unwrap());
            transaction.send_offsets(&group, [at(offset)]).await.unwrap();
            match ending {
                Ending::Commit => transaction.commit().await.unwrap(),
                Ending::Abort => transaction.abort().await.unwrap(),
            }
            let found = client.admin().committed_offsets("copier").await.unwrap();
            assert_eq!((found[0].offset, &*found[0].metadata), (5, "m"));
        }
        // Offsets alone are a transaction, too.
        let transaction = producer.begin().await.unwrap();
        transaction.send_offsets(&group, [at(7)]).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(client.admin().committed_offsets("copier").await.unwrap()[0].offset, 7);
    }
}

#[tokio::test]
async fn a_member_that_is_none_cannot_add_offsets_and_the_producer_goes_on() {
    for (_peer, client) in Peer::both(1).await {
        let producer = producer(&client, "x").await;
        let transaction = producer.begin().await.unwrap();
        drop(transaction.send(Record::to("t").value("lost")).await.unwrap());
        let stranger = GroupMetadata::new("copier").member("nobody", 3);
        let offset = NewOffset { topic: "t".into(), partition: 0, offset: 1, metadata: String::new() };
        let error = transaction.send_offsets(&stranger, [offset]).await.unwrap_err();
        assert!(!error.is_fatal() && error.had_no_effect(), "{error}");
        let again = transaction.commit().await.unwrap_err();
        assert_eq!(again.to_string(), error.to_string(), "the reason stays");
        let transaction = producer.begin().await.unwrap();
        drop(transaction.send(Record::to("t").value("kept")).await.unwrap());
        transaction.commit().await.unwrap();
        assert_eq!(committed(&client).await[&0], ["kept"]);
    }
}

#[tokio::test]
async fn a_new_instance_fences_the_old_one_which_is_told_so() {
    for (_peer, client) in Peer::both(1).await {
        let old = producer(&client, "x").await;
        let open = old.begin().await.unwrap();
        open.send(Record::to("t").value("old")).await.unwrap().await.unwrap();
        let new = producer(&client, "x").await;
        let transaction = new.begin().await.unwrap();
        drop(transaction.send(Record::to("t").value("new")).await.unwrap());
        transaction.commit().await.unwrap();
        let error = open.commit().await.unwrap_err();
        assert!(error.is_fenced() && error.is_fatal() && !error.possibly_committed(), "{error}");
        assert!(old.begin().await.unwrap_err().is_fenced());
        assert_eq!(committed(&client).await[&0], ["new"]);
        // The new one is none the worse for it.
        let transaction = new.begin().await.unwrap();
        drop(transaction.send(Record::to("t").value("newer")).await.unwrap());
        transaction.commit().await.unwrap();
        assert_eq!(committed(&client).await[&0], ["new", "newer"]);
    }
}

#[tokio::test]
async fn one_transaction_at_a_time_and_what_is_dropped_gives_way() {
    let peer = Peer::start();
    let client = peer.client().await;
    client.admin().create_topic(NewTopic::new("t")).await.unwrap();
    let producer = producer(&client, "x").await;
    let transaction = producer.begin().await.unwrap();
    assert!(matches!(producer.begin().await, Err(TransactionError::AlreadyOpen)));
    drop(transaction);
    // A begin that is dropped, at once or a little later, has begun nothing.
    for polls in 0..4 {
        let mut begin = pin!(producer.begin());
        for _ in 0..polls {
            if begin.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    producer.begin().await.unwrap().commit().await.unwrap();
    assert_eq!(producer.last_ending().await.unwrap(), Some(Ending::Commit));
}

#[tokio::test]
async fn settings_that_would_break_the_promise_are_refused() {
    let peer = Peer::start();
    let builder = Producer::builder(peer.client().await).acks(Acks::Leader);
    let error = builder.transactional_id("x").build().await.unwrap_err();
    assert!(error.to_string().contains("Acks::All"), "{error}");
    let error = Producer::builder(peer.client().await).transactional_id("x");
    let error = error.transaction_timeout(Duration::from_secs(24 * 3600)).build().await.unwrap_err();
    assert!(error.is_fatal() && error.to_string().contains("INVALID_TRANSACTION_TIMEOUT"), "{error}");
}

#[tokio::test]
async fn a_record_that_is_too_large_for_its_topic_aborts_and_says_why() {
    for (_peer, client) in Peer::both(1).await {
        client
            .admin()
            .create_topic(NewTopic::new("small").config("max.message.bytes", "1000"))
            .await
            .unwrap();
        let producer = producer(&client, "x").await;
        let transaction = producer.begin().await.unwrap();
        drop(transaction.send(Record::to("t").value("fits")).await.unwrap());
        drop(transaction.send(Record::to("small").value(&[0; 5000])).await.unwrap());
        let error = transaction.commit().await.unwrap_err();
        assert!(error.to_string().contains("MESSAGE_TOO_LARGE") && error.had_no_effect(), "{error}");
        assert!(!error.is_fatal());
        let transaction = producer.begin().await.unwrap();
        drop(transaction.send(Record::to("t").value("again")).await.unwrap());
        transaction.commit().await.unwrap();
        assert_eq!(committed(&client).await[&0], ["again"]);
    }
}

#[tokio::test]
async fn a_transaction_that_takes_too_long_is_ended_by_the_broker_and_the_producer_is_told() {
    let peer = Peer::start();
    let client = peer.client().await;
    client.admin().create_topic(NewTopic::new("t")).await.unwrap();
    let builder = Producer::builder(client.clone()).transactional_id("x");
    let producer = builder.transaction_timeout(Duration::from_millis(300)).build().await.unwrap();
    let transaction = producer.begin().await.unwrap();
    transaction.send(Record::to("t").value("late")).await.unwrap().await.unwrap();
    // Until the broker has ended it, nobody reads beyond it.
    let marker = async {
        while client.admin().list_offsets("t", &[(0, OffsetAt::Latest)]).await.unwrap()[0].offset < Some(2) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), marker).await.unwrap();
    let error = transaction.commit().await.unwrap_err();
    assert!(error.is_fatal() && error.had_no_effect(), "{error}");
    assert!(committed(&client).await.is_empty());
}

/// Every connection goes to one place.
#[derive(Debug)]
struct Through(Address);

impl Transport for Through {
    fn connect<'a>(&'a self, _address: &'a Address) -> Connecting<'a> {
        Tcp.connect(&self.0)
    }
}

/// Answers get lost, all connections are reset each second, and calls of every kind are dropped at random points. Every
/// transaction that is told to be committed is there once and whole; every one that is told to have had no effect is not
/// there.
#[tokio::test]
async fn nothing_is_torn_when_answers_are_lost_and_calls_are_dropped() {
    let seed: u64 = std::env::var("MILLSTREAM_TEST_SEED").map_or(11, |seed| seed.parse().unwrap());
    println!("seed {seed}");
    for (peer, reader) in Peer::both(2).await {
        let proxy = peer.proxy(seed);
        let client = peer.through(&proxy).await;
        let mut torn = Torn {
            seed,
            random: StdRng::seed_from_u64(seed),
            producer: producer(&client, "x").await,
            told: BTreeMap::new(),
            denied: 0,
        };
        let lost = || proxy.met().lost.load(Ordering::Relaxed);
        for n in (0..).take_while(|n| *n < 150 || lost() < 20) {
            torn.transact(n).await;
        }
        torn.producer.last_ending().await.unwrap();
        let seen = committed(&reader).await;
        for partition in 0..2 {
            let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
            for value in seen.get(&partition).into_iter().flatten() {
                *counts.entry(value.parse().unwrap()).or_default() += 1;
            }
            let told = torn.told.iter().map(|(n, sent)| (*n, sent[partition as usize]));
            let told: BTreeMap<_, _> = told.filter(|(_, sent)| *sent > 0).collect();
            assert_eq!(counts, told, "seed {seed}, partition {partition}");
        }
        let (told, denied) = (torn.told.len(), torn.denied);
        assert!(told > 50 && denied > 20, "seed {seed}: {told} told, {denied} denied");
    }
}

/// A caller who loses patience.
struct Torn {
    seed: u64,
    random: StdRng,
    producer: TransactionalProducer,
    /// How many records went to each partition in what is told to be committed.
    told: BTreeMap<u64, [u32; 2]>,
    denied: u32,
}

impl Torn {
    /// How often a call is polled; mostly until it is done.
    fn polls(&mut self, dropped: f64) -> usize {
        if self.random.random_bool(dropped) { self.random.random_range(0..40) } else { usize::MAX }
    }

    async fn transact(&mut self, n: u64) {
        let transaction = loop {
            let polls = self.polls(0.2);
            if let Some(begun) = drop_after(polls, self.producer.begin()).await {
                break begun.unwrap();
            }
        };
        let mut sent = [0; 2];
        let value = n.to_string();
        for partition in [0, 1, 0, 1, 0] {
            let record = Record::to("t").partition(partition).value(&value);
            let polls = self.polls(0.1);
            if let Some(delivery) = drop_after(polls, transaction.send(record)).await {
                drop(delivery.unwrap());
                sent[partition as usize] += 1;
            }
        }
        let polls = self.polls(0.3);
        let committed = match self.random.random_range(0..10) {
            0 => {
                drop(transaction);
                return self.denied += 1;
            }
            1 => {
                drop_after(polls, transaction.abort()).await.transpose().unwrap();
                return self.denied += 1;
            }
            _ => drop_after(polls, transaction.commit()).await,
        };
        let is_committed = match committed {
            Some(Ok(())) => true,
            Some(Err(error)) if error.had_no_effect() => false,
            Some(Err(_)) | None => match self.producer.last_ending().await.unwrap() {
                Some(ending) => ending == Ending::Commit,
                None => panic!("seed {}: transaction {n} never ended", self.seed),
            },
        };
        if is_committed {
            self.told.insert(n, sent);
        } else {
            self.denied += 1;
        }
    }
}

/// Polls so many times at most, and drops the call if it is not done by then.
async fn drop_after<T>(polls: usize, call: impl Future<Output = T>) -> Option<T> {
    let mut call = pin!(call);
    let mut polled = 0;
    std::future::poll_fn(|cx| {
        polled += 1;
        match call.as_mut().poll(cx) {
            std::task::Poll::Ready(done) => std::task::Poll::Ready(Some(done)),
            std::task::Poll::Pending if polled > polls => std::task::Poll::Ready(None),
            std::task::Poll::Pending => std::task::Poll::Pending,
        }
    })
    .await
}

/// Batches of numbers, and how far they are committed.
struct Numbers {
    at: i64,
    open: Option<i64>,
    end: i64,
}

impl Source for Numbers {
    type Batch = Vec<i64>;
    type Error = std::convert::Infallible;

    async fn next_batch(&mut self) -> Result<Option<Vec<i64>>, Self::Error> {
        assert_eq!(self.open, None, "what was handed out is settled first");
        let to = (self.at + 3).min(self.end);
        self.open = (self.at < to).then_some(to);
        Ok(self.open.map(|to| (self.at..to).collect()))
    }

    fn offsets(&self) -> Vec<NewOffset> {
        let offset = self.open.unwrap();
        vec![NewOffset { topic: "in".into(), partition: 0, offset, metadata: String::new() }]
    }

    fn group(&self) -> Option<GroupMetadata> {
        Some(GroupMetadata::new("copier"))
    }

    fn done(&mut self) {
        self.at = self.open.take().unwrap();
    }

    fn rewind(&mut self) {
        self.open = None;
    }
}

#[tokio::test]
async fn a_session_takes_each_record_of_its_input_through_once_whatever_is_lost() {
    let seed: u64 = std::env::var("MILLSTREAM_TEST_SEED").map_or(3, |seed| seed.parse().unwrap());
    println!("seed {seed}");
    for (peer, reader) in Peer::both(1).await {
        let proxy = peer.proxy(seed);
        let client = peer.through(&proxy).await;
        // Of the same name as a topic of the input, whose offsets can be committed.
        reader.admin().create_topic(NewTopic::new("in")).await.unwrap();
        let producer = producer(&client, "x").await;
        let mut numbers = Numbers { at: 0, open: None, end: 300 };
        let mut failed = 0;
        let mut chance = StdRng::seed_from_u64(seed + 1);
        while numbers.at < 300 {
            let ran = producer.run(&mut numbers, async |transaction, batch| {
                for number in batch {
                    let value = number.to_string();
                    let sent = transaction.send(Record::to("t").value(&value)).await;
                    drop(sent.map_err(|error| error.to_string())?);
                }
                if chance.random_bool(0.1) { Err("by chance".to_owned()) } else { Ok(()) }
            });
            match ran.await {
                Ok(()) => {}
                Err(SessionError::Process(words)) => {
                    assert_eq!(words, "by chance", "seed {seed}");
                    failed += 1;
                }
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        assert!(failed > 3, "only {failed} batches failed");
        let expected: Vec<_> = (0..300).map(|number| number.to_string()).collect();
        assert_eq!(committed(&reader).await[&0], expected, "seed {seed}");
        assert_eq!(reader.admin().committed_offsets("copier").await.unwrap()[0].offset, 300);
    }
}

/// A consumer of a group, a producer, and between them a program that is killed now and then.
#[tokio::test]
async fn a_copier_that_is_started_again_and_again_copies_each_record_once() {
    let seed: u64 = std::env::var("MILLSTREAM_TEST_SEED").map_or(9, |seed| seed.parse().unwrap());
    println!("seed {seed}");
    for (_peer, client) in Peer::both(1).await {
        client.admin().create_topic(NewTopic::new("in").partitions(2)).await.unwrap();
        let writer = client.producer().batch_records(5).build();
        for n in 0..300 {
            let value = format!("{n:03}");
            drop(writer.send(Record::to("in").partition(n % 2).value(&value)).await.unwrap());
        }
        writer.close().await.unwrap();
        let mut chance = StdRng::seed_from_u64(seed);
        let mut starts = 0;
        loop {
            starts += 1;
            // In this order: what an instance before has left open is aborted by the claim.
            let producer = producer(&client, "copier").await;
            let input = client.consumer("copier").assign_topic("in", StartAt::Committed);
            let input = input.start_at(StartAt::Beginning).max_batch_records(7).stop(StopAt::CurrentEnd);
            let mut input = input.build().await.unwrap();
            let copied = producer.run(&mut input, async |transaction, records| {
                for record in records {
                    let value = record.value.unwrap();
                    let sent = transaction.send(Record::to("t").value(&value)).await;
                    drop(sent.map_err(|error| error.to_string())?);
                }
                if chance.random_bool(0.15) { Err("killed".to_owned()) } else { Ok(()) }
            });
            match copied.await {
                Ok(()) => break,
                Err(SessionError::Process(words)) => assert_eq!(words, "killed", "seed {seed}"),
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        assert!(starts > 2, "seed {seed}: it was started only {starts} times");
        let mut seen = committed(&client).await.remove(&0).unwrap();
        seen.sort();
        let expected: Vec<_> = (0..300).map(|n| format!("{n:03}")).collect();
        assert_eq!(seen, expected, "seed {seed}");
    }
}
