//! A broker inside the program that uses it: in memory, in process, by a clock that stands still, with faults on demand.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::time::{Duration, Instant};

use millstream_broker::protocol::{ApiKey, ErrorCode};
use millstream_broker::{Broker, Fault};
use millstream_client::{Backoff, Client, ClientError, NewTopic, OffsetAt, embedded};
use millstream_consumer::{Consumer, StartAt};
use millstream_producer::{Idempotence, Producer, Record};

const HOUR: Duration = Duration::from_secs(3600);

/// What takes longer has waited for something.
const AT_ONCE: Duration = Duration::from_secs(5);

async fn client(broker: &Broker) -> Client {
    let backoff = Backoff { first: Duration::from_millis(1), most: Duration::from_millis(10) };
    embedded::client(broker).backoff(backoff).connect().await.unwrap()
}

async fn produce(client: &Client, topic: &str, values: &[&str]) {
    let producer = Producer::builder(client.clone()).build();
    for value in values {
        producer.send(Record::to(topic).value(*value)).await.unwrap().await.unwrap();
    }
    producer.close().await.unwrap();
}

async fn start_offset(client: &Client, topic: &str) -> i64 {
    client.admin().list_offsets(topic, &[(0, OffsetAt::Earliest)]).await.unwrap()[0].offset.unwrap()
}

fn in_memory() -> Broker {
    Broker::builder().in_memory().no_listener().start().unwrap()
}

#[tokio::test(start_paused = true)]
async fn hours_pass_at_once_for_the_broker_and_its_clients_where_the_clock_stands_still() {
    let began = Instant::now();
    let broker = Broker::builder().in_memory().no_listener().start_here().unwrap();
    let client = client(&broker).await;
    let hour_ms = HOUR.as_millis().to_string();
    let topic = NewTopic::new("t").partitions(1).config("retention.ms", hour_ms.as_str());
    client.admin().create_topic(topic).await.unwrap();
    produce(&client, "t", &["a", "b"]).await;
    let builder = Consumer::builder(client.clone()).assign_topic("t", StartAt::Beginning);
    let mut consumer = builder.max_wait(HOUR / 4).build().await.unwrap();
    assert_eq!(consumer.recv_batch().await.unwrap().len(), 2);
    assert_eq!(start_offset(&client, "t").await, 0);
    let nothing = tokio::time::timeout(2 * HOUR, consumer.recv()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    assert_eq!(start_offset(&client, "t").await, 2, "retention goes by the same clock");
    produce(&client, "t", &["c"]).await;
    assert_eq!(consumer.recv().await.unwrap().unwrap().offset, 2);
    broker.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(60), "took {:?}", began.elapsed());
}

#[tokio::test]
async fn what_is_deleted_gives_its_memory_back() {
    let broker = in_memory();
    let client = client(&broker).await;
    client.admin().create_topic(NewTopic::new("stays").partitions(1)).await.unwrap();
    let free = async || client.admin().describe_storage("stays").await.unwrap().directories[0].free_bytes;
    let before = free().await;
    client.admin().create_topic(NewTopic::new("t").partitions(1)).await.unwrap();
    let producer = Producer::builder(client.clone()).build();
    for _ in 0..16 {
        drop(producer.send(Record::to("t").value(&[1; 500_000])).await.unwrap());
    }
    producer.close().await.unwrap();
    // It is looked at once a second.
    let until = async |wanted: &dyn Fn(u64) -> bool| {
        let began = Instant::now();
        while !wanted(free().await) {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "{} bytes are free, {before} were",
                free().await
            );
            tokio::task::yield_now().await;
        }
    };
    until(&|free| free < before - 8_000_000).await;
    client.admin().delete_topic("t").await.unwrap();
    until(&|free| free > before - 1_000_000).await;
    broker.shutdown().await;
}

#[tokio::test]
async fn brokers_in_one_process_know_nothing_of_each_other() {
    let (first, second) = (in_memory(), in_memory());
    let (one, other) = (client(&first).await, client(&second).await);
    one.admin().create_topic(NewTopic::new("t").partitions(1)).await.unwrap();
    assert_eq!(one.admin().list_topics().await.unwrap().len(), 1);
    assert_eq!(other.admin().list_topics().await.unwrap().len(), 0);
    first.shutdown().await;
    produce(&other, "u", &["a"]).await;
}

#[tokio::test]
async fn a_client_that_uses_a_broker_that_was_dropped_is_told_so() {
    let broker = in_memory();
    let client = embedded::client(&broker).total_timeout(Duration::from_millis(10)).connect().await.unwrap();
    let transport = embedded::transport(&broker);
    let began = Instant::now();
    // Within a runtime of one thread, which serves the client's connection.
    drop(broker);
    assert!(began.elapsed() < AT_ONCE, "a drop takes {:?}", began.elapsed());
    // What serves the connection is a task of this runtime, and has not heard of it yet.
    tokio::task::yield_now().await;
    client.admin().list_topics().await.unwrap_err();
    let address = millstream_client::Address::new(embedded::ADDRESS, 9092);
    let refused = transport.connect(&address).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let elsewhere = transport.connect(&millstream_client::Address::new("localhost", 9092)).await.unwrap_err();
    assert_eq!(elsewhere.kind(), std::io::ErrorKind::Unsupported);
}

#[test]
fn a_broker_starts_and_stops_outside_of_a_runtime_and_outlives_those_of_its_clients() {
    let folder = tempfile::tempdir().unwrap();
    let start = || Broker::builder().data_dir(folder.path()).no_listener().start().unwrap();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let broker = start();
    for value in ["a", "b"] {
        runtime().block_on(async { produce(&client(&broker).await, "t", &[value]).await });
    }
    drop(broker);
    let broker = start();
    let end = runtime().block_on(async {
        let listed = client(&broker).await.admin().list_offsets("t", &[(0, OffsetAt::Latest)]).await;
        listed.unwrap()[0].offset
    });
    assert_eq!(end, Some(2));
}

#[tokio::test]
async fn a_shutdown_answers_what_was_read() {
    let broker = in_memory();
    let client = client(&broker).await;
    client.admin().create_topic(NewTopic::new("t").partitions(1)).await.unwrap();
    let builder = Consumer::builder(client.clone()).assign_topic("t", StartAt::Beginning);
    let mut consumer = builder.max_wait(HOUR).build().await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(20), consumer.recv()).await.is_err());
    let began = Instant::now();
    broker.shutdown().await;
    assert!(began.elapsed() < AT_ONCE, "a long poll holds a shutdown up for {:?}", began.elapsed());
}

#[tokio::test]
async fn a_request_is_delayed_refused_cut_or_lost_as_its_hook_says() {
    let broker = in_memory();
    let client = client(&broker).await;
    client.admin().create_topic(NewTopic::new("t").partitions(1)).await.unwrap();
    let producer = Producer::builder(client.clone()).build();
    let faults = broker.faults();
    for (sent, fault) in (0..).zip([
        Fault::Refuse(ErrorCode::NotLeaderOrFollower),
        Fault::Disconnect,
        Fault::LoseAnswer,
        Fault::Delay(Duration::from_millis(30)),
    ]) {
        let (count, counted) = std::sync::mpsc::channel();
        let mut left = 2;
        faults.on(ApiKey::Produce, move |request| {
            assert_eq!(request.api, ApiKey::Produce);
            let _ = count.send(());
            match left {
                0 => Fault::None,
                _ => {
                    left -= 1;
                    fault
                }
            }
        });
        let began = Instant::now();
        let written = producer.send(Record::to("t").value("v")).await.unwrap().await.unwrap();
        assert_eq!(written.offset, Some(sent), "{fault:?}: once, and in its place");
        match fault {
            Fault::Delay(delay) => assert!(began.elapsed() >= delay),
            _ => assert_eq!(counted.try_iter().count(), 3, "{fault:?}"),
        }
    }
    faults.clear();
    producer.send(Record::to("t").value("v")).await.unwrap().await.unwrap();
}

#[tokio::test]
async fn an_answer_that_never_comes_is_given_up_and_may_have_been_written() {
    let broker = in_memory();
    let client =
        embedded::client(&broker).request_timeout(Duration::from_millis(50)).connect().await.unwrap();
    client.admin().create_topic(NewTopic::new("t").partitions(1)).await.unwrap();
    broker.faults().on(ApiKey::Produce, |_| Fault::Swallow);
    let producer = Producer::builder(client.clone()).idempotence(Idempotence::Off).build();
    let error = producer.send(Record::to("t").value("v")).await.unwrap().await.unwrap_err();
    assert!(error.possibly_written(), "{error}");
    let end = client.admin().list_offsets("t", &[(0, OffsetAt::Latest)]).await.unwrap()[0].offset;
    assert_eq!(end, Some(1), "it was handled");
    broker.faults().on(ApiKey::ListOffsets, |_| Fault::Refuse(ErrorCode::InvalidRequest));
    client.admin().list_offsets("t", &[(0, OffsetAt::Latest)]).await.unwrap_err();
}

#[test]
fn a_broker_without_threads_has_neither_a_port_nor_a_folder_nor_no_runtime() {
    let refused = |builder: millstream_broker::BrokerBuilder| builder.start_here().unwrap_err().to_string();
    assert!(refused(Broker::builder().in_memory()).contains("a port for Kafka clients"));
    assert!(refused(Broker::builder().no_listener()).contains("a data folder"));
    let http = Broker::builder().in_memory().no_listener().http("127.0.0.1:0");
    assert!(refused(http).contains("a port for HTTP"));
    assert!(refused(Broker::builder().in_memory().no_listener()).contains("there is none"));
}

#[tokio::test]
async fn an_unknown_topic_is_as_unknown_in_process() {
    let broker = in_memory();
    let error = client(&broker).await.metadata(&["nowhere"]).await.unwrap_err();
    assert!(matches!(error, ClientError::UnknownTopic { .. }), "{error}");
}
