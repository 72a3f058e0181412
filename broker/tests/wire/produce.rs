//! Produce: what is written, what is refused, and that a refusal writes nothing.

use bytes::Bytes;
use millstream_protocol::messages::produce_response::PartitionProduceResponse;
use millstream_protocol::messages::{InitProducerIdRequest, ProduceRequest, ProduceResponse};
use millstream_protocol::records::{BatchView, Compression, NewRecord, TimestampType, crc32c};
use millstream_protocol::{Chunk, ErrorCode, KStr, Uuid};

use super::bed::{Bed, Client, batch, batch_with, builder_of, bytes, produce, values};

fn only(response: &ProduceResponse) -> PartitionProduceResponse {
    response.responses[0].partition_responses[0].clone()
}

/// Changes a batch and makes its CRC right again.
fn altered(batch: &Bytes, change: impl FnOnce(&mut [u8])) -> Bytes {
    let mut bytes = batch.to_vec();
    change(&mut bytes);
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(bytes)
}

#[test]
fn every_version_appends_and_tells_the_offset() {
    let bed = Bed::new();
    let (mut client, id) = bed.with_topic("t");
    for (version, end) in (3..=13).zip(0..) {
        let mut request = produce("t", 0, batch(&["v"]), if version % 2 == 0 { 1 } else { -1 });
        if version >= 13 {
            request.topic_data[0].name = KStr::default();
            request.topic_data[0].topic_id = id;
        }
        let told = only(&client.call(version, &request));
        assert_eq!((told.error_code, told.base_offset, told.log_append_time_ms), (0, end, -1), "{version}");
    }
    assert_eq!(client.log_end("t"), 11);
}

#[test]
fn bad_batches_get_kafkas_code_and_nothing_is_written() {
    let bed = Bed::with(&[("message.max.bytes", "10000")]);
    let (mut client, _) = bed.with_topic("t");
    let good = batch(&["a", "b"]);
    let large = "x".repeat(11_000);
    let future = {
        let mut builder = builder_of(Compression::None, &[]);
        builder.append(&NewRecord { timestamp: i64::MAX / 2, key: None, value: None, headers: &[] });
        builder.build()
    };
    let mut damaged = good.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let table = [
        ("wrong crc", Bytes::from(damaged), ErrorCode::CorruptMessage),
        ("magic 1", altered(&good, |b| b[16] = 1), ErrorCode::InvalidRecord),
        ("two batches", Bytes::from([&good[..], &good[..]].concat()), ErrorCode::InvalidRecord),
        ("cut off", good.slice(..good.len() - 1), ErrorCode::InvalidRecord),
        ("only a header", good.slice(..61), ErrorCode::InvalidRecord),
        ("nothing", Bytes::new(), ErrorCode::InvalidRecord),
        ("batch length of zero", altered(&good, |b| b[8..12].fill(0)), ErrorCode::InvalidRecord),
        ("batch length of -1", altered(&good, |b| b[8..12].fill(0xff)), ErrorCode::InvalidRecord),
        ("count lies high", altered(&good, |b| (b[60], b[26]) = (3, 2)), ErrorCode::InvalidRecord),
        ("count lies low", altered(&good, |b| (b[60], b[26]) = (1, 0)), ErrorCode::InvalidRecord),
        ("count of zero", altered(&good, |b| (b[60], b[26]) = (0, 0xff)), ErrorCode::InvalidRecord),
        ("negative count", altered(&good, |b| b[57..61].fill(0xff)), ErrorCode::InvalidRecord),
        ("last delta lies", altered(&good, |b| b[26] = 9), ErrorCode::InvalidRecord),
        ("base offset of 1", altered(&good, |b| b[7] = 1), ErrorCode::InvalidRecord),
        ("stamped by the producer", altered(&good, |b| b[22] |= 0x08), ErrorCode::InvalidTimestamp),
        ("control batch", altered(&good, |b| b[22] |= 0x20), ErrorCode::InvalidRecord),
        ("transactional", altered(&good, |b| b[22] |= 0x10), ErrorCode::TransactionalIdAuthorizationFailed),
        ("unknown codec", altered(&good, |b| b[22] |= 7), ErrorCode::UnsupportedCompressionType),
        ("not what the codec says", altered(&good, |b| b[22] |= 4), ErrorCode::InvalidRecord),
        ("too large", batch(&[&large]), ErrorCode::MessageTooLarge),
        ("in the future", future, ErrorCode::InvalidTimestamp),
    ];
    for (what, bytes, code) in table {
        let told = client.produce("t", bytes, -1);
        let found = ErrorCode::from_code(told.error_code);
        assert_eq!(found, Some(code), "{what}: {:?}", told.error_message);
        assert!(told.error_message.is_some_and(|message| message.len() > 10), "{what}");
        assert_eq!(told.base_offset, -1, "{what}");
        assert_eq!(client.log_end("t"), 0, "{what}");
    }
    assert_eq!(client.produce("t", good, -1).base_offset, 0);
}

#[test]
fn unknown_partitions_and_acks_are_refused_and_topics_are_not_created() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    let code = |told: PartitionProduceResponse| ErrorCode::from_code(told.error_code).unwrap();
    let unknown = ErrorCode::UnknownTopicOrPartition;
    assert_eq!(code(client.produce("other", batch(&["v"]), 1)), unknown);
    assert_eq!(code(only(&client.call(9, &produce("t", 1, batch(&["v"]), 1)))), unknown);
    assert_eq!(code(only(&client.call(9, &produce("t", -1, batch(&["v"]), 1)))), unknown);
    assert_eq!(
        code(only(&client.call(9, &produce("t", 0, batch(&["v"]), 2)))),
        ErrorCode::InvalidRequiredAcks
    );
    let mut by_id = produce("t", 0, batch(&["v"]), 1);
    by_id.topic_data[0].name = KStr::default();
    by_id.topic_data[0].topic_id = Uuid::from_u128(7);
    assert_eq!(code(only(&client.call(13, &by_id))), ErrorCode::UnknownTopicId);
    let zstd = produce("t", 0, batch_with(Compression::Zstd, &["v"]), 1);
    assert_eq!(code(only(&client.call(6, &zstd))), ErrorCode::UnsupportedCompressionType);
    let mut null = produce("t", 0, Bytes::new(), 1);
    null.topic_data[0].partition_data[0].records = None;
    assert_eq!(code(only(&client.call(9, &null))), ErrorCode::InvalidRecord);
    assert_eq!(client.log_end("t"), 0);
    assert_eq!(code(client.produce("other", batch(&["v"]), 1)), unknown, "still not created");
}

#[test]
fn one_bad_partition_does_not_keep_the_others_from_being_written() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    let mut request = produce("t", 0, batch(&["v"]), -1);
    request.topic_data[0].partition_data.push(
        millstream_protocol::messages::produce_request::PartitionProduceData {
            index: 5,
            records: Some(Chunk::Bytes(batch(&["w"]))),
        },
    );
    let told = client.call(9, &request).responses[0].partition_responses.clone();
    assert_eq!((told[0].index, told[0].error_code, told[0].base_offset), (0, 0, 0));
    assert_eq!((told[1].index, told[1].error_code), (5, ErrorCode::UnknownTopicOrPartition.code()));
}

#[test]
fn a_repeated_batch_of_an_idempotent_producer_is_written_once() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    let init = InitProducerIdRequest { transactional_id: None, ..Default::default() };
    let producer = client.call(4, &init);
    assert_eq!((producer.error_code, producer.producer_epoch), (0, 0));
    let numbered = |sequence| {
        let mut builder = builder_of(Compression::None, &["a", "b"]);
        builder.producer(producer.producer_id, 0, sequence);
        builder.build()
    };
    assert_eq!(client.produce("t", numbered(0), -1).base_offset, 0);
    assert_eq!(client.produce("t", numbered(2), -1).base_offset, 2);
    let again = client.produce("t", numbered(0), -1);
    assert_eq!((again.error_code, again.base_offset), (0, 0), "the original's offset");
    let gap = client.produce("t", numbered(9), -1);
    assert_eq!(gap.error_code, ErrorCode::OutOfOrderSequenceNumber.code());
    assert_eq!(client.log_end("t"), 4);
    assert_ne!(client.call(4, &init).producer_id, producer.producer_id);
}

#[test]
fn without_acks_there_is_no_reply_and_an_error_closes_the_connection() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    client.send(9, &produce("t", 0, batch(&["silent"]), 0));
    assert_eq!(client.log_end("t"), 1, "the next reply is that of the next request");
    client.send(9, &produce("missing", 0, batch(&["v"]), 0));
    assert!(client.is_closed());
}

#[test]
fn a_topic_may_stamp_and_recompress_what_it_stores() {
    let bed = Bed::new();
    let mut client = bed.client();
    client.create_topic("t", 1, &[("compression.type", "gzip"), ("message.timestamp.type", "LogAppendTime")]);
    let told = client.produce("t", batch_with(Compression::Lz4, &["a", "b"]), 1);
    assert!(told.log_append_time_ms > 1_600_000_000_000, "{told:?}");
    let data = client.fetch("t", 0);
    assert_eq!(values(&data), [(0, "a".to_owned()), (1, "b".to_owned())]);
    let stored = bytes(&data);
    let stored = BatchView::parse(&stored).unwrap();
    assert!(stored.crc_is_valid());
    assert_eq!(stored.compression().unwrap(), Compression::Gzip);
    assert_eq!(stored.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(stored.max_timestamp(), told.log_append_time_ms);
}

#[test]
fn what_a_producer_sent_is_stored_byte_for_byte_but_for_offset_and_epoch() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    for (compression, end) in Compression::ALL.iter().zip(0..) {
        let sent = batch_with(*compression, &["some text, some text, some text"]);
        assert_eq!(client.produce("t", sent.clone(), 1).base_offset, end);
        let stored = bytes(&client.fetch("t", end));
        assert_eq!(stored[16..], sent[16..], "{compression}");
        assert_eq!(stored[..8], end.to_be_bytes(), "{compression}");
    }
}

#[test]
fn many_connections_write_to_one_partition_without_loss() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    let address = bed.broker().kafka_address();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(move || {
                let mut client = Client::connect(address);
                let request: ProduceRequest = produce("t", 0, batch(&["v"]), -1);
                for _ in 0..50 {
                    client.send(9, &request);
                }
                for _ in 0..50 {
                    let (_, told) = client.receive::<ProduceRequest>(9);
                    assert_eq!(only(&told).error_code, 0);
                }
            });
        }
    });
    assert_eq!(client.log_end("t"), 200);
}

#[test]
fn a_header_that_lies_about_its_latest_record_is_repaired() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    let lying = altered(&batch(&["v"]), |b| b[35..43].fill(0x11));
    assert_eq!(client.produce("t", lying, 1).error_code, 0);
    let stored = bytes(&client.fetch("t", 0));
    let stored = BatchView::parse(&stored).unwrap();
    assert!(stored.crc_is_valid());
    assert_eq!(stored.max_timestamp(), 1_000_000);
    assert_eq!(client.offset_at("t", 1_000_001), -1);
}
