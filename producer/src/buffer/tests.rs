//! Batching, partitions and room, without a sender.

use std::future::Future;
use std::task::{Context, Waker};

use super::*;
use crate::partitioner::Murmur2;

fn settings() -> BufferSettings {
    BufferSettings {
        codec: Codec::default(),
        partitioner: Arc::new(Murmur2),
        batch_bytes: 1000,
        batch_records: u32::MAX,
        buffer_bytes: 10_000,
        record_bytes_max: 5000,
        linger: None,
    }
}

async fn buffer(settings: BufferSettings, partitions: i32) -> Buffer {
    use millstream_client::fake::{Answer, FakeBroker};
    use millstream_client::{Client, Missing};
    let broker = FakeBroker::start(partitions, |_| Answer::Usual);
    let client = Client::builder("fake").transport(broker).connect().await.unwrap();
    let buffer = Buffer::new(settings);
    buffer.learn(&client.topic("t", Missing::Fail).await.unwrap());
    buffer
}

async fn append(buffer: &Buffer, record: Record<'_>) -> Delivery {
    buffer.append(&record).await.unwrap().unwrap()
}

fn due(buffer: &Buffer, partition: i32, is_idle: bool) -> Option<Gathering> {
    match buffer.take_due((0, partition), is_idle, Instant::now()) {
        Due::Now(gathering) => Some(gathering),
        Due::Later(_) | Due::Nothing => None,
    }
}

fn settle(buffer: &Buffer, gathering: &Gathering) {
    let records = u64::from(gathering.builder.record_count().unsigned_abs());
    let held = Held { id: gathering.id, records, bytes: 0, room: gathering.room };
    buffer.settle(&gathering.outcome, held, Ok(Written { base_offset: Some(0), append_time: None }));
}

#[tokio::test]
async fn a_batch_leaves_when_it_is_full_and_the_record_that_did_not_fit_starts_the_next() {
    let buffer = buffer(settings(), 1).await;
    for _ in 0..3 {
        drop(append(&buffer, Record::to("t").partition(0).value(&[0; 400])).await);
    }
    assert_eq!(due(&buffer, 0, false).unwrap().builder.record_count(), 2);
    assert!(due(&buffer, 0, false).is_none(), "the other is not full, and something is under way");
    assert_eq!(due(&buffer, 0, true).unwrap().builder.record_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn with_a_linger_a_batch_leaves_when_its_time_has_come() {
    let linger = Duration::from_millis(20);
    let buffer = buffer(BufferSettings { linger: Some(linger), ..settings() }, 1).await;
    drop(append(&buffer, Record::to("t").partition(0).value("x")).await);
    let born = Instant::now();
    let Due::Later(Some(at)) = buffer.take_due((0, 0), true, born) else { panic!("it lingers") };
    assert_eq!(at, born + linger);
    tokio::time::advance(linger).await;
    assert!(due(&buffer, 0, false).is_some(), "whatever is under way");
}

#[tokio::test]
async fn without_a_key_a_partition_is_filled_before_the_next_has_its_turn() {
    let buffer = buffer(settings(), 3).await;
    let mut partitions = Vec::new();
    for _ in 0..9 {
        partitions.push(append(&buffer, Record::to("t").value(&[0; 400])).await.partition());
    }
    let runs: Vec<_> = partitions.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect();
    let first = partitions[0];
    // Two fit into a batch; the partition that comes round again has a batch waiting, and starts another.
    let expected: Vec<_> = (0..5).map(|step| ((first + step) % 3, if step < 4 { 2 } else { 1 })).collect();
    assert_eq!(runs, expected);
}

#[tokio::test]
async fn equal_keys_meet_and_a_partition_that_is_named_wins() {
    let buffer = buffer(settings(), 7).await;
    let of = async |record| append(&buffer, record).await.partition();
    assert_eq!(of(Record::to("t").key("k").value("1")).await, of(Record::to("t").key("k").value("2")).await);
    // As Kafka's producer has it.
    assert_eq!(of(Record::to("t").key("foobar")).await, (-790_332_482_i32 & 0x7fff_ffff) % 7);
    assert_eq!(of(Record::to("t").key("k").partition(6)).await, 6);
    let unknown = buffer.append(&Record::to("t").partition(7)).await.unwrap_err();
    assert!(matches!(unknown, SendError::UnknownPartition { partition: 7, partitions: 7, .. }), "{unknown}");
}

#[tokio::test]
async fn a_full_buffer_makes_senders_wait_in_turn_and_presses_what_lingers() {
    let linger = Some(Duration::from_secs(3600));
    let settings = BufferSettings { linger, batch_bytes: 100_000, ..settings() };
    let buffer = buffer(settings, 1).await;
    for _ in 0..2 {
        drop(append(&buffer, Record::to("t").partition(0).value(&[0; 4500])).await);
    }
    let large = Record::to("t").partition(0).value(&[0; 4500]);
    assert!(matches!(buffer.try_append(&large), Err(SendError::BufferFull { .. })));
    assert!(due(&buffer, 0, true).is_none(), "it lingers");

    let mut cx = Context::from_waker(Waker::noop());
    let mut waiting = Box::pin(buffer.append(&large));
    assert!(waiting.as_mut().poll(&mut cx).is_pending());
    let batch = due(&buffer, 0, true).expect("somebody waits for room, so nothing lingers");
    settle(&buffer, &batch);
    assert!(waiting.as_mut().poll(&mut cx).is_ready());
}

#[tokio::test]
async fn a_sender_that_gives_up_waiting_leaves_no_room_taken() {
    let buffer = buffer(BufferSettings { batch_bytes: 100_000, ..settings() }, 1).await;
    for _ in 0..2 {
        drop(append(&buffer, Record::to("t").partition(0).value(&[0; 4500])).await);
    }
    let large = Record::to("t").partition(0).value(&[0; 4500]);
    let mut waiting = Box::pin(buffer.append(&large));
    assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(waiting);
    assert!(!buffer.presses());
    settle(&buffer, &due(&buffer, 0, true).unwrap());
    assert_eq!(buffer.stats().buffered_records, 0);
    assert_eq!(buffer.room.available_permits(), 10_000);
}

#[tokio::test]
async fn a_record_that_can_never_fit_is_refused_with_the_limit() {
    let buffer = buffer(settings(), 1).await;
    let error = buffer.append(&Record::to("t").value(&[0; 5000])).await.unwrap_err();
    assert!(matches!(error, SendError::TooLarge { limit: 5000, bytes } if bytes > 5000), "{error}");
    assert_eq!(buffer.room.available_permits(), 10_000);
}

#[tokio::test]
async fn a_batch_leaves_when_it_has_so_many_records() {
    let buffer = buffer(BufferSettings { batch_records: 3, ..settings() }, 1).await;
    for _ in 0..7 {
        drop(append(&buffer, Record::to("t").value("x")).await);
    }
    let counts: Vec<_> =
        std::iter::from_fn(|| due(&buffer, 0, false)).map(|g| g.builder.record_count()).collect();
    assert_eq!(counts, [3, 3]);
}

#[tokio::test]
async fn a_partitioner_of_ones_own_decides_or_leaves_it_open() {
    #[derive(Debug)]
    struct ByLength;

    impl crate::Partitioner for ByLength {
        fn partition(&self, record: &Record<'_>, _partitions: usize) -> Option<usize> {
            record.key_bytes().map(<[u8]>::len)
        }
    }
    let buffer = buffer(BufferSettings { partitioner: Arc::new(ByLength), ..settings() }, 4).await;
    assert_eq!(append(&buffer, Record::to("t").key("abc")).await.partition(), 3);
    assert_eq!(append(&buffer, Record::to("t").key("abc").partition(1)).await.partition(), 1);
    let sticky = append(&buffer, Record::to("t").value("x")).await.partition();
    assert_eq!(append(&buffer, Record::to("t").value("x")).await.partition(), sticky);
    let error = buffer.append(&Record::to("t").key("abcd")).await.unwrap_err();
    assert!(matches!(error, SendError::UnknownPartition { partition: 4, partitions: 4, .. }), "{error}");
}
