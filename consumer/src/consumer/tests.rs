//! A consumer against a broker that plays a script, on a paused clock.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_client::fake::{self, Answer, Call, FakeBroker, NODE};
use millstream_client::protocol::messages::fetch_response::{
    AbortedTransaction, FetchableTopicResponse, PartitionData,
};
use millstream_client::protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use millstream_client::protocol::messages::{
    FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest,
};
use millstream_client::protocol::records::{
    BatchBuilder, Compression, EndMarker, NewRecord, TransactionOutcome, set_base,
};
use millstream_client::protocol::{ApiKey, Chunk, ErrorCode};

use super::*;
use crate::builder::{Isolation, StartAt};

/// A log of batches of ten records each, from offset 0.
fn batch(base_offset: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::Lz4);
    for offset in base_offset..base_offset + 10 {
        let value = offset.to_string();
        builder.append(&NewRecord { timestamp: offset, value: Some(value.as_bytes()), ..Default::default() });
    }
    let mut bytes = builder.build().to_vec();
    set_base(&mut bytes, base_offset, 3);
    bytes
}

/// What was asked of each partition in one Fetch, and in which session.
#[derive(Debug, Clone, PartialEq)]
struct Asked {
    session: (i32, i32),
    offsets: Vec<(i32, i64)>,
}

fn look(call: &Call) -> Asked {
    let request: FetchRequest = call.decode();
    let partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
    let offsets = partitions.map(|partition| (partition.partition, partition.fetch_offset)).collect();
    Asked { session: (request.session_id, request.session_epoch), offsets }
}

fn found(partition: i32, error: ErrorCode, records: Vec<u8>) -> PartitionData {
    PartitionData {
        partition_index: partition,
        error_code: error.code(),
        high_watermark: 1000,
        records: Some(Chunk::Bytes(records.into())),
        ..Default::default()
    }
}

fn answer(call: &Call, session_id: i32, partitions: Vec<PartitionData>) -> Answer {
    let topic_id = fake::topic_id("t");
    let responses = match partitions {
        partitions if partitions.is_empty() => Vec::new(),
        partitions => vec![FetchableTopicResponse { topic_id, partitions, ..Default::default() }],
    };
    call.answer::<FetchRequest>(&FetchResponse { session_id, responses, ..Default::default() })
}

/// A broker whose Fetch is scripted; every partition starts at 0 and ends at 20.
async fn start(
    partitions: i32,
    mut on_fetch: impl FnMut(&Call, &Asked) -> Answer + Send + 'static,
) -> (Client, Arc<Mutex<Vec<Asked>>>) {
    let seen: Arc<Mutex<Vec<Asked>>> = Arc::default();
    let all = seen.clone();
    let broker = FakeBroker::start(partitions, move |call| match call.api {
        ApiKey::Fetch => {
            let asked = look(call);
            all.lock().unwrap().push(asked.clone());
            on_fetch(call, &asked)
        }
        ApiKey::ListOffsets => list_offsets(call),
        _ => Answer::Usual,
    });
    (Client::builder("fake").transport(broker).connect().await.unwrap(), seen)
}

fn list_offsets(call: &Call) -> Answer {
    let request: ListOffsetsRequest = call.decode();
    let topics = request.topics.into_iter().map(|topic| ListOffsetsTopicResponse {
        name: topic.name,
        partitions: (topic.partitions.iter())
            .map(|partition| ListOffsetsPartitionResponse {
                partition_index: partition.partition_index,
                offset: if partition.timestamp == -1 { 20 } else { 0 },
                ..Default::default()
            })
            .collect(),
    });
    let response = ListOffsetsResponse { topics: topics.collect(), ..Default::default() };
    call.answer::<ListOffsetsRequest>(&response)
}

/// Serves batches of ten for every partition that is named, and nothing beyond offset 20.
fn serve(call: &Call, asked: &Asked, session_id: i32) -> Answer {
    let due = asked.offsets.iter().filter(|(_, offset)| *offset < 20);
    let data = due.map(|(partition, offset)| found(*partition, ErrorCode::None, batch(offset / 10 * 10)));
    answer(call, session_id, data.collect())
}

async fn offsets(consumer: &mut Consumer) -> Vec<i64> {
    let mut offsets = Vec::new();
    while let Some(record) = consumer.recv().await.unwrap() {
        assert_eq!(record.value.as_deref(), Some(record.offset.to_string().as_bytes()));
        assert_eq!((record.timestamp, record.leader_epoch), (record.offset, 3));
        offsets.push(record.offset);
    }
    offsets
}

#[tokio::test]
async fn reading_starts_within_a_batch_and_stops_at_the_end_of_the_log() {
    let (client, seen) = start(1, |call, asked| serve(call, asked, 0)).await;
    let builder = Consumer::builder(client).assign("t", 0, StartAt::Offset(7)).stop(StopAt::CurrentEnd);
    let mut consumer = builder.build().await.unwrap();
    assert_eq!(offsets(&mut consumer).await, (7..20).collect::<Vec<_>>());
    assert_eq!(consumer.position("t", 0), Some(20));
    assert_eq!(consumer.recv().await.unwrap(), None);
    let asked: Vec<_> = seen.lock().unwrap().iter().map(|asked| asked.offsets.clone()).collect();
    assert_eq!(asked, [[(0, 7)], [(0, 10)]]);
}

#[tokio::test]
async fn within_a_session_only_what_changed_is_named() {
    let (client, seen) = start(3, |call, asked| {
        let first = &asked.offsets[..asked.offsets.len().min(1)];
        serve(call, &Asked { offsets: first.to_vec(), ..asked.clone() }, 5)
    })
    .await;
    let builder = Consumer::builder(client).assign_topic("t", StartAt::Beginning);
    let mut consumer = builder.build().await.unwrap();
    for _ in 0..2 {
        assert_eq!(consumer.recv_batch().await.unwrap().len(), 10);
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0], Asked { session: (0, 0), offsets: vec![(0, 0), (1, 0), (2, 0)] });
    assert_eq!(seen[1], Asked { session: (5, 1), offsets: vec![(0, 10)] });
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_forgotten_is_opened_again() {
    let mut count = 0;
    let (client, seen) = start(1, move |call, asked| {
        count += 1;
        if count != 2 {
            return serve(call, asked, 5);
        }
        let error_code = ErrorCode::FetchSessionIdNotFound.code();
        call.answer::<FetchRequest>(&FetchResponse { error_code, ..Default::default() })
    })
    .await;
    let builder = Consumer::builder(client).assign("t", 0, StartAt::Beginning).stop(StopAt::CurrentEnd);
    assert_eq!(offsets(&mut builder.build().await.unwrap()).await.len(), 20);
    let sessions: Vec<_> = seen.lock().unwrap().iter().map(|asked| asked.session).collect();
    assert_eq!(sessions, [(0, 0), (5, 1), (0, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_moved_is_looked_up_and_read_on_from_where_we_were() {
    let moved = Arc::new(Mutex::new(false));
    let broker = FakeBroker::start(1, move |call| {
        let mut moved = moved.lock().unwrap();
        match call.api {
            ApiKey::Metadata => {
                let asked: MetadataRequest = call.decode();
                let names = asked.topics.into_iter().flatten().filter_map(|topic| topic.name);
                let leader = if *moved { NODE + 1 } else { NODE };
                call.answer::<MetadataRequest>(&fake::metadata(names, 1, |_| leader))
            }
            ApiKey::Fetch => {
                let asked = look(call);
                if asked.offsets == [(0, 10)] && !*moved {
                    *moved = true;
                    return answer(call, 0, vec![found(0, ErrorCode::NotLeaderOrFollower, Vec::new())]);
                }
                serve(call, &asked, 0)
            }
            ApiKey::ListOffsets => list_offsets(call),
            _ => Answer::Usual,
        }
    });
    let client = Client::builder("fake").transport(broker).connect().await.unwrap();
    let builder = Consumer::builder(client).assign("t", 0, StartAt::Beginning).stop(StopAt::CurrentEnd);
    let read = offsets(&mut builder.build().await.unwrap()).await;
    assert_eq!(read, (0..20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_while_it_waits_loses_nothing() {
    let mut count = 0;
    let (client, seen) = start(1, move |call, asked| {
        count += 1;
        if count == 1 { Answer::Never } else { serve(call, asked, 0) }
    })
    .await;
    let client_timeout = client.request_timeout();
    let builder = Consumer::builder(client).assign("t", 0, StartAt::Beginning).stop(StopAt::CurrentEnd);
    let mut consumer = builder.build().await.unwrap();
    for _ in 0..50 {
        assert!(tokio::time::timeout(Duration::from_millis(10), consumer.recv()).await.is_err());
    }
    assert_eq!(seen.lock().unwrap().len(), 1, "the first fetch is still the one under way");
    tokio::time::advance(client_timeout).await;
    assert_eq!(offsets(&mut consumer).await.len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_damaged_is_told_and_may_be_passed_over() {
    let (client, _) = start(1, |call, asked| {
        let mut bytes = batch(asked.offsets[0].1);
        if asked.offsets[0].1 == 0 {
            *bytes.last_mut().unwrap() ^= 1;
        }
        answer(call, 0, vec![found(0, ErrorCode::None, bytes)])
    })
    .await;
    let builder = Consumer::builder(client).assign("t", 0, StartAt::Beginning).stop(StopAt::CurrentEnd);
    let mut consumer = builder.build().await.unwrap();
    for _ in 0..2 {
        let error = consumer.recv().await.unwrap_err();
        assert!(matches!(error, ConsumeError::Checksum { offset: 0, next_offset: 10, .. }), "{error}");
    }
    consumer.seek("t", 0, StartAt::Offset(10)).unwrap();
    assert_eq!(offsets(&mut consumer).await, (10..20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_unpacks_to_too_much_is_an_error() {
    let (client, _) = start(1, |call, asked| serve(call, asked, 0)).await;
    let builder = Consumer::builder(client).assign("t", 0, StartAt::Beginning).max_decompressed_bytes(50);
    let error = builder.build().await.unwrap().recv().await.unwrap_err();
    assert!(matches!(error, ConsumeError::Malformed { offset: 0, .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn trouble_that_does_not_pass_is_reported_and_other_partitions_are_read() {
    let (client, _) = start(2, |call, asked| {
        let data = asked.offsets.iter().filter(|(partition, offset)| *partition == 1 || *offset < 20);
        let data = data.map(|(partition, offset)| match partition {
            0 => found(0, ErrorCode::None, batch(*offset)),
            other => found(*other, ErrorCode::KafkaStorageError, Vec::new()),
        });
        answer(call, 0, data.collect())
    })
    .await;
    let builder = Consumer::builder(client).assign_topic("t", StartAt::Beginning).stop(StopAt::CurrentEnd);
    let mut consumer = builder.build().await.unwrap();
    let mut read = 0;
    let error = loop {
        match consumer.recv().await {
            Ok(record) => read += record.map_or(0, |_| 1),
            Err(error) => break error,
        }
    };
    assert_eq!(read, 20);
    assert!(
        matches!(error, ConsumeError::Unavailable { partition: 1, .. }) && error.is_retriable(),
        "{error}"
    );
    assert!(error.to_string().contains("KAFKA_STORAGE_ERROR"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn no_more_than_the_limit_is_fetched_ahead_of_a_program_that_reads_slowly() {
    let size = batch(0).len();
    let (client, seen) = start(1, move |call, asked| {
        let offset = asked.offsets[0].1;
        let two = [batch(offset), batch(offset + 10)].concat();
        answer(call, 0, vec![found(0, ErrorCode::None, two)])
    })
    .await;
    let builder = Consumer::builder(client).assign("t", 0, StartAt::Beginning).max_bytes(size + 1);
    let mut consumer = builder.build().await.unwrap();
    for read in 0..200 {
        consumer.recv().await.unwrap().unwrap();
        // On a paused clock time passes only when nothing is left to do.
        let quiet = tokio::time::timeout(Duration::from_millis(1), std::future::pending::<()>());
        assert!(quiet.await.is_err());
        let fetches = seen.lock().unwrap().len();
        assert!(fetches <= read / 20 + 2, "{fetches} fetches of 20 for {read} records");
    }
}

#[test]
fn a_record_that_is_detached_keeps_nothing_else_in_memory() {
    use bytes::Bytes;
    use millstream_client::protocol::records::RecordHeader;
    let frame = Bytes::from(vec![7; 1000]);
    let record = ConsumerRecord {
        topic: KStr::from("t"),
        partition: 0,
        offset: 1,
        timestamp: 2,
        key: None,
        value: Some(frame.slice(10..12)),
        headers: vec![RecordHeader { key: KStr::from("h"), value: Some(frame.slice(20..21)) }],
        leader_epoch: 0,
    };
    let kept = record.detach();
    assert_eq!(kept, record);
    drop(record);
    assert!(frame.is_unique());
}

#[test]
fn everything_that_is_awaited_can_run_in_a_spawned_task() {
    fn spawnable<T: Send>(_: fn(&mut Consumer) -> T) {}
    fn builds<T: Send>(_: fn(ConsumerBuilder) -> T) {}
    builds(|builder| builder.build());
    spawnable(|consumer| consumer.end_offsets());
    spawnable(|consumer| consumer.beginning_offsets());
}

/// A batch of one record of a transaction of this producer.
fn of_transaction(producer: i64, offset: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.producer(producer, 0, -1).transactional();
    builder.append(&NewRecord { timestamp: offset, value: Some(b"of a transaction"), ..Default::default() });
    based(&builder.build(), offset)
}

fn marker(producer: i64, outcome: TransactionOutcome, offset: i64) -> Vec<u8> {
    based(&EndMarker { outcome, coordinator_epoch: 0 }.to_batch(producer, 0, offset), offset)
}

fn based(batch: &[u8], offset: i64) -> Vec<u8> {
    let mut bytes = batch.to_vec();
    set_base(&mut bytes, offset, 3);
    bytes
}

#[tokio::test]
async fn of_transactions_only_what_was_committed_is_handed_out_if_asked_for() {
    use TransactionOutcome::{Abort, Commit};
    for (isolation, wanted) in
        [(Isolation::ReadCommitted, vec![1, 4, 6]), (Isolation::ReadUncommitted, vec![0, 1, 2, 4, 6])]
    {
        let log = [
            of_transaction(7, 0),
            of_transaction(8, 1),
            of_transaction(7, 2),
            marker(7, Abort, 3),
            of_transaction(7, 4),
            marker(8, Commit, 5),
            of_transaction(9, 6),
            marker(7, Commit, 7),
            marker(9, Commit, 8),
        ];
        let (client, _) = start(1, move |call, asked| {
            let request: FetchRequest = call.decode();
            let level = if isolation == Isolation::ReadCommitted { 1 } else { 0 };
            assert_eq!(request.isolation_level, level);
            let mut data = found(0, ErrorCode::None, log.concat());
            // What the broker tells need not be in order.
            let told = |producer_id, first_offset| AbortedTransaction { producer_id, first_offset };
            data.aborted_transactions = (level == 1).then(|| vec![told(9, 20), told(7, 0)]);
            match asked.offsets.first() {
                Some((_, 0)) => answer(call, 0, vec![data]),
                _ => answer(call, 0, vec![]),
            }
        })
        .await;
        let builder = Consumer::builder(client).assign("t", 0, StartAt::Beginning).isolation(isolation);
        let mut consumer = builder.max_wait(Duration::from_millis(5)).build().await.unwrap();
        let mut offsets = Vec::new();
        while offsets.len() < wanted.len() {
            offsets.push(consumer.recv().await.unwrap().unwrap().offset);
        }
        assert_eq!(offsets, wanted, "{isolation:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_paused_waits_and_is_read_on_from_where_it_was() {
    let (client, _) = start(2, |call, asked| serve(call, asked, 0)).await;
    let builder = Consumer::builder(client).assign_topic("t", StartAt::Beginning).stop(StopAt::CurrentEnd);
    let mut consumer = builder.build().await.unwrap();
    let first = consumer.recv().await.unwrap().unwrap();
    consumer.pause("t", first.partition).unwrap();
    assert_eq!(consumer.paused().map(|(_, partition)| partition).collect::<Vec<_>>(), [first.partition]);
    for offset in 0..20 {
        let record = consumer.recv().await.unwrap().unwrap();
        assert_eq!((record.partition, record.offset), (1 - first.partition, offset));
    }
    assert!(tokio::time::timeout(Duration::from_secs(60), consumer.recv()).await.is_err());
    assert_eq!(consumer.position("t", first.partition), Some(1));
    consumer.resume("t", first.partition).unwrap();
    assert_eq!(offsets(&mut consumer).await, (1..20).collect::<Vec<_>>());
    consumer.pause("t", 7).unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn partitions_come_and_go_while_reading() {
    let (client, _) = start(2, |call, asked| serve(call, asked, 0)).await;
    let mut consumer = Consumer::builder(client).build().await.unwrap();
    assert!(matches!(consumer.recv().await, Err(ConsumeError::NothingAssigned)));
    consumer.assign("t", 1, StartAt::Offset(15));
    assert_eq!(consumer.recv_batch().await.unwrap().len(), 5);
    consumer.unassign("t", 1).unwrap();
    assert_eq!((consumer.position("t", 1), consumer.assignment().count()), (None, 0));
    assert!(matches!(consumer.recv().await, Err(ConsumeError::NothingAssigned)));
    consumer.assign("t", 1, StartAt::Offset(3));
    assert_eq!(consumer.recv().await.unwrap().unwrap().offset, 3);
}

#[tokio::test]
async fn as_a_stream_the_same_records_come() {
    use futures_util::StreamExt;
    let (client, _) = start(1, |call, asked| serve(call, asked, 0)).await;
    let builder = Consumer::builder(client).assign("t", 0, StartAt::Beginning).stop(StopAt::CurrentEnd);
    let mut consumer = builder.build().await.unwrap();
    // Each stream goes on where the one before it was dropped.
    let first: Vec<_> = consumer.stream().take(3).map(|record| record.unwrap().offset).collect().await;
    let rest: Vec<_> = consumer.stream().map(|record| record.unwrap().offset).collect().await;
    assert_eq!([first, rest].concat(), (0..20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn what_is_buffered_and_under_way_stays_below_its_limit_over_all_brokers() {
    let size = batch(0).len();
    let asked_for: Arc<Mutex<Vec<i32>>> = Arc::default();
    let seen = asked_for.clone();
    let broker = FakeBroker::start(2, move |call| match call.api {
        ApiKey::Metadata => {
            let asked: MetadataRequest = call.decode();
            let names = asked.topics.into_iter().flatten().filter_map(|topic| topic.name);
            call.answer::<MetadataRequest>(&fake::metadata(names, 2, |partition| NODE + partition))
        }
        ApiKey::Fetch => {
            seen.lock().unwrap().push(call.decode::<FetchRequest>().max_bytes);
            // Whoever asks first is left waiting.
            Answer::Never
        }
        ApiKey::ListOffsets => list_offsets(call),
        _ => Answer::Usual,
    });
    let client = Client::builder("fake").transport(broker).connect().await.unwrap();
    let builder = Consumer::builder(client).assign_topic("t", StartAt::Beginning).max_bytes(size);
    let mut consumer = builder.max_buffered_bytes(size + size / 2).build().await.unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(5), consumer.recv()).await.is_err());
    assert_eq!(*asked_for.lock().unwrap(), [size as i32], "there is room for one answer, not for two");
}
