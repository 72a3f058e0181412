//! Cases of the consumer.

use std::time::Duration;

use millstream_client::{DeleteRecordsError, DeleteUpTo};
use millstream_consumer::{ConsumeError, Consumer, OutOfRange, StartAt};
use millstream_producer::{Producer, Record};

use crate::bed::Bed;

suite! {
    reading_starts_at_a_time_at_an_offset_within_a_batch_or_at_the_end,
    an_offset_that_is_gone_is_an_error_first_and_skipped_only_if_asked,
    many_partitions_are_read_in_one_session_while_they_are_written,
}

async fn reading_starts_at_a_time_at_an_offset_within_a_batch_or_at_the_end(bed: &Bed) {
    let (client, topic) = bed.topic("start", 1).await;
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

async fn an_offset_that_is_gone_is_an_error_first_and_skipped_only_if_asked(bed: &Bed) {
    let (client, topic) = bed.topic("gone", 1).await;
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

async fn many_partitions_are_read_in_one_session_while_they_are_written(bed: &Bed) {
    let (client, topic) = bed.topic("many", 20).await;
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
