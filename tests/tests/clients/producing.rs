//! Cases of the producer.

use std::time::Duration;

use millstream_client::NewTopic;
use millstream_client::protocol::ErrorCode;
use millstream_consumer::{Consumer, StartAt};
use millstream_producer::{Acks, Compression, Idempotence, ProduceError, Producer, Record, SendError};
use rand::RngExt;

use crate::bed::{Bed, read_all};

suite! {
    records_come_back_as_they_were_sent_with_every_codec,
    a_batch_that_is_too_large_fails_alone_and_what_follows_is_written,
    batches_that_are_too_large_for_their_topic_are_divided,
    every_kind_of_acknowledgement_delivers,
    what_was_accepted_is_sent_after_the_producer_is_dropped,
}

async fn records_come_back_as_they_were_sent_with_every_codec(bed: &Bed) {
    for compression in Compression::ALL {
        let (client, topic) = bed.topic("codec", 2).await;
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

async fn a_batch_that_is_too_large_fails_alone_and_what_follows_is_written(bed: &Bed) {
    let client = bed.client().await;
    let topic = bed.unique("large");
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

async fn batches_that_are_too_large_for_their_topic_are_divided(bed: &Bed) {
    let client = bed.client().await;
    for compression in [Compression::None, Compression::Zstd] {
        let topic = bed.unique("divided");
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

async fn every_kind_of_acknowledgement_delivers(bed: &Bed) {
    for (acks, idempotence) in [
        (Acks::None, Idempotence::On),
        (Acks::Leader, Idempotence::On),
        (Acks::Leader, Idempotence::Off),
        (Acks::All, Idempotence::Off),
    ] {
        let (client, topic) = bed.topic("acks", 1).await;
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

async fn what_was_accepted_is_sent_after_the_producer_is_dropped(bed: &Bed) {
    let (client, topic) = bed.topic("dropped", 1).await;
    let producer = Producer::builder(client.clone()).linger(Duration::from_secs(3600)).build();
    let delivery = producer.send(Record::to(&topic).value("last words")).await.unwrap();
    drop(producer);
    assert_eq!(delivery.await.unwrap().offset, Some(0));
}
