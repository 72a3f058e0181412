//! A whole producer against a broker that plays a script, on a paused clock.

use std::sync::Mutex;

use millstream_client::fake::{self, Answer, Call, FakeBroker, NODE, PRODUCER_ID};
use millstream_protocol::messages::MetadataRequest;
use millstream_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use millstream_protocol::records::{self, BatchView};
use millstream_protocol::{ApiKey, ErrorCode};

use super::*;
use crate::builder::ProducerBuilder;
use crate::error::FlushError;
use crate::producer::Producer;
use crate::record::Record;

/// A batch as the broker saw it.
#[derive(Debug, Clone, PartialEq)]
struct Arrived {
    connection: usize,
    partition: i32,
    producer_id: i64,
    sequence: i32,
    records: i32,
}

type Seen = Arc<Mutex<Vec<Arrived>>>;

/// What the broker does with the n-th Produce.
type React = Box<dyn FnMut(usize) -> Reaction + Send>;

enum Reaction {
    Acknowledge,
    Refuse(ErrorCode),
    Hang,
    Close,
}

fn look(call: &Call) -> Vec<Arrived> {
    let request: ProduceRequest = call.decode();
    let data = request.topic_data.into_iter().flat_map(|topic| topic.partition_data);
    let arrived = data.map(|data| {
        let bytes = data.records.expect("records").into_bytes();
        let view = BatchView::parse(&bytes).unwrap();
        assert!(view.crc_is_valid() && view.size_in_bytes() == bytes.len());
        Arrived {
            connection: call.connection,
            partition: data.index,
            producer_id: view.producer_id(),
            sequence: view.base_sequence(),
            records: view.record_count(),
        }
    });
    arrived.collect()
}

fn answer(call: &Call, arrived: &[Arrived], code: ErrorCode) -> Answer {
    let partition = |batch: &Arrived| PartitionProduceResponse {
        index: batch.partition,
        error_code: code.code(),
        base_offset: if code == ErrorCode::None { i64::from(batch.sequence.max(0)) } else { -1 },
        log_append_time_ms: -1,
        ..Default::default()
    };
    let responses = vec![TopicProduceResponse {
        topic_id: fake::topic_id("t"),
        partition_responses: arrived.iter().map(partition).collect(),
        ..Default::default()
    }];
    call.answer::<ProduceRequest>(&ProduceResponse { responses, ..Default::default() })
}

async fn client(script: impl FnMut(&Call) -> Answer + Send + 'static) -> Client {
    let broker = FakeBroker::start(2, script);
    Client::builder("fake").transport(broker).connect().await.unwrap()
}

async fn start(mut react: React) -> (ProducerBuilder, Seen) {
    let seen = Seen::default();
    let all = seen.clone();
    let mut count = 0;
    let client = client(move |call| {
        if call.api != ApiKey::Produce {
            return Answer::Usual;
        }
        let arrived = look(call);
        all.lock().unwrap().extend(arrived.clone());
        count += 1;
        match react(count) {
            Reaction::Acknowledge => answer(call, &arrived, ErrorCode::None),
            Reaction::Refuse(code) => answer(call, &arrived, code),
            Reaction::Hang => Answer::Never,
            Reaction::Close => Answer::Close,
        }
    });
    (Producer::builder(client.await), seen)
}

fn to_first(value: &str) -> Record<'_> {
    Record::to("t").partition(0).value(value)
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_answer_is_lost_is_sent_again_with_the_same_sequence() {
    let react = |n| if n == 2 { Reaction::Close } else { Reaction::Acknowledge };
    let (builder, seen) = start(Box::new(react)).await;
    let producer = builder.build();
    for n in 0..4 {
        let written = producer.send(to_first("x")).await.unwrap().await.unwrap();
        assert_eq!(written.offset, Some(n));
    }
    let seen = seen.lock().unwrap().clone();
    let sequences: Vec<_> = seen.iter().map(|batch| batch.sequence).collect();
    assert_eq!(sequences, [0, 1, 1, 2, 3]);
    assert_ne!(seen[1].connection, seen[2].connection);
    assert!(seen.iter().all(|batch| batch.producer_id == PRODUCER_ID));
}

#[tokio::test(start_paused = true)]
async fn without_idempotence_a_lost_answer_is_told_and_nothing_is_sent_twice() {
    let react = |n| if n == 1 { Reaction::Close } else { Reaction::Acknowledge };
    let (builder, seen) = start(Box::new(react)).await;
    let producer = builder.idempotence(crate::Idempotence::Off).build();
    let error = producer.send(to_first("x")).await.unwrap().await.unwrap_err();
    assert!(error.possibly_written() && error.is_retriable(), "{error}");
    producer.send(to_first("y")).await.unwrap().await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), 2);
    let FlushError { failed, possibly_written, first } = producer.close().await.unwrap_err();
    assert!(failed == 1 && possibly_written == 1 && first.possibly_written());
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_moved_is_looked_up_and_gets_what_the_old_one_refused() {
    let seen = Seen::default();
    let (all, moved) = (seen.clone(), Arc::new(Mutex::new(false)));
    let client = client(move |call| {
        let mut moved = moved.lock().unwrap();
        match call.api {
            ApiKey::Metadata => {
                let asked: MetadataRequest = call.decode();
                let names = asked.topics.into_iter().flatten().filter_map(|topic| topic.name);
                let leader = if *moved { NODE + 1 } else { NODE };
                call.answer::<MetadataRequest>(&fake::metadata(names, 1, |_| leader))
            }
            ApiKey::Produce => {
                let arrived = look(call);
                all.lock().unwrap().extend(arrived.clone());
                let code = if *moved { ErrorCode::None } else { ErrorCode::NotLeaderOrFollower };
                *moved = true;
                answer(call, &arrived, code)
            }
            _ => Answer::Usual,
        }
    });
    let producer = Producer::builder(client.await).build();
    let written = producer.send(to_first("x")).await.unwrap().await.unwrap();
    assert_eq!(written.offset, Some(0));
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert_ne!(seen[0].connection, seen[1].connection, "the other node has a connection of its own");
    assert_eq!(seen[0].sequence, seen[1].sequence);
}

#[tokio::test(start_paused = true)]
async fn while_one_is_under_way_records_gather_and_leave_together() {
    let (builder, seen) = start(Box::new(|_| Reaction::Acknowledge)).await;
    let producer = builder.build();
    let mut deliveries = Vec::new();
    for _ in 0..100 {
        deliveries.push(producer.send(to_first("x")).await.unwrap());
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    let seen = seen.lock().unwrap();
    assert!(seen.len() <= 4, "{} batches for 100 records", seen.len());
    assert_eq!(seen.iter().map(|batch| batch.records).sum::<i32>(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_lingering_batch_leaves_on_time_or_at_a_flush() {
    let (builder, seen) = start(Box::new(|_| Reaction::Acknowledge)).await;
    let producer = builder.linger(Duration::from_millis(100)).build();
    let started = Instant::now();
    let (first, second) =
        (producer.send(to_first("a")).await.unwrap(), producer.send(to_first("b")).await.unwrap());
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(started.elapsed().as_millis(), 100);
    let third = producer.send(to_first("c")).await.unwrap();
    producer.flush().await.unwrap();
    assert!(third.is_settled() && started.elapsed().as_millis() == 100);
    assert_eq!(seen.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_hangs_makes_records_fail_when_their_time_is_up() {
    let (builder, _) = start(Box::new(|_| Reaction::Hang)).await;
    let producer = builder.delivery_timeout(Duration::from_secs(10)).build();
    let started = Instant::now();
    let sent = producer.send(to_first("sent")).await.unwrap();
    tokio::time::advance(Duration::from_millis(10)).await;
    let waiting = producer.send(to_first("waiting")).await.unwrap();
    let error = sent.await.unwrap_err();
    assert_eq!(started.elapsed().as_secs(), 10);
    assert!(error.possibly_written(), "{error}");
    let error = waiting.await.unwrap_err();
    assert!(error.had_no_effect() && matches!(error, ProduceError::TimedOut { .. }), "{error}");
    assert_eq!(producer.stats().failed_records, 2);
}

#[tokio::test(start_paused = true)]
async fn a_full_buffer_holds_send_back_and_dropping_the_producer_blocks_nobody() {
    let (builder, _) = start(Box::new(|_| Reaction::Hang)).await;
    let producer = builder.buffer_bytes(1000).delivery_timeout(Duration::from_secs(5)).build();
    let value = "v".repeat(400);
    let first = producer.send(to_first(&value)).await.unwrap();
    tokio::time::advance(Duration::from_millis(10)).await;
    let second = producer.send(to_first(&value)).await.unwrap();
    let third = producer.clone();
    let third = tokio::spawn(async move { third.send(to_first(&"v".repeat(400))).await.map(drop) });
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(!third.is_finished());
    third.abort();
    drop(producer);
    assert!(first.await.unwrap_err().possibly_written());
    assert!(second.await.unwrap_err().had_no_effect());
}

#[tokio::test]
async fn records_arrive_complete_and_in_order_whatever_the_codec() {
    for compression in millstream_protocol::records::Compression::ALL {
        let values: Arc<Mutex<Vec<Bytes>>> = Arc::default();
        let all = values.clone();
        let client = client(move |call| {
            if call.api != ApiKey::Produce {
                return Answer::Usual;
            }
            let request: ProduceRequest = call.decode();
            for data in request.topic_data.into_iter().flat_map(|topic| topic.partition_data) {
                let bytes = data.records.unwrap().into_bytes();
                let found = records::records(&bytes, 1 << 20).unwrap();
                all.lock().unwrap().extend(found.map(|record| record.unwrap().value.unwrap()));
            }
            answer(call, &look(call), ErrorCode::None)
        });
        let producer = Producer::builder(client.await).compression(compression).batch_bytes(500).build();
        for n in 0..200 {
            drop(producer.send(to_first(&format!("record {n}"))).await.unwrap());
        }
        producer.close().await.unwrap();
        let expected: Vec<_> = (0..200).map(|n| format!("record {n}")).collect();
        assert_eq!(*values.lock().unwrap(), expected, "{compression}");
        assert!(matches!(producer.send(to_first("late")).await, Err(crate::SendError::Closed)));
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_broker_refuses_for_good_fails_at_once_with_its_reason() {
    let react = |_| Reaction::Refuse(ErrorCode::MessageTooLarge);
    let (builder, seen) = start(Box::new(react)).await;
    let producer = builder.build();
    let error = producer.send(to_first("x")).await.unwrap().await.unwrap_err();
    let text = error.to_string();
    assert!(error.had_no_effect() && !error.is_retriable(), "{text}");
    assert!(text.contains("max.message.bytes") && text.contains("MESSAGE_TOO_LARGE"), "{text}");
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[test]
fn a_runtime_that_goes_down_leaves_nobody_waiting() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let builder = runtime.block_on(start(Box::new(|_| Reaction::Hang))).0;
    let producer = runtime.block_on(async { builder.build() });
    let delivery = runtime.block_on(producer.send(to_first("x"))).unwrap();
    drop(runtime);
    let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(matches!(other.block_on(delivery), Err(ProduceError::Abandoned)));
}

#[tokio::test(start_paused = true)]
async fn a_lone_caller_waits_for_nothing_but_the_answer() {
    let (builder, seen) = start(Box::new(|_| Reaction::Acknowledge)).await;
    let producer = builder.build();
    let begun = Instant::now();
    for _ in 0..20 {
        producer.send(to_first("x")).await.unwrap().await.unwrap();
    }
    assert_eq!(begun.elapsed(), Duration::ZERO, "time stands still while anything can be done");
    assert_eq!(seen.lock().unwrap().len(), 20);
}
