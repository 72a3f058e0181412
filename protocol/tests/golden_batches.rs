//! Batches that Kafka's own Java client (kafka-clients 4.3.1) built, byte for byte.
//!
//! The files hold hex of batches with the four records of [`theirs`]: base offset 42, leader epoch 7,
//! producer 4711 in epoch 3 from sequence 17.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use millstream_protocol::records::{
    self, BatchBuilder, BatchView, Compression, NewRecord, Record, RecordHeader, TimestampType,
};

const LIMIT: usize = 1 << 20;
const MAX_TIMESTAMP: i64 = 1_700_000_100_000;

fn golden(hex: &str) -> Bytes {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn batch(codec: Compression) -> Bytes {
    golden(match codec {
        Compression::None => include_str!("golden/java-none.hex"),
        Compression::Gzip => include_str!("golden/java-gzip.hex"),
        Compression::Snappy => include_str!("golden/java-snappy.hex"),
        Compression::Lz4 => include_str!("golden/java-lz4.hex"),
        #[cfg(feature = "zstd")]
        Compression::Zstd => include_str!("golden/java-zstd.hex"),
        other => panic!("no golden batch of {other}"),
    })
}

fn theirs() -> Vec<Record> {
    let record = |offset, timestamp, key, value: Option<Bytes>| Record {
        offset,
        timestamp,
        key,
        value,
        headers: Vec::new(),
    };
    let bytes = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
    let mut records = vec![
        record(42, 1_700_000_000_000, bytes("alpha"), bytes("one")),
        record(43, 1_699_999_999_000, None, Some(Bytes::from(vec![b'x'; 300]))),
        record(44, 1_700_000_000_005, bytes("gamma"), None),
        record(45, MAX_TIMESTAMP, bytes(""), bytes("")),
    ];
    records[2].headers = vec![
        RecordHeader { key: "h".into(), value: bytes("1") },
        RecordHeader { key: "h".into(), value: None },
        RecordHeader { key: "".into(), value: bytes("") },
    ];
    records
}

fn read(batch: &Bytes) -> Vec<Record> {
    records::records(batch, LIMIT).unwrap().collect::<Result<_, _>>().unwrap()
}

fn rebuilt(records: &[Record], codec: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    for record in records {
        builder.append(&NewRecord {
            timestamp: record.timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &record.headers,
        });
    }
    builder.producer(4711, 3, 17);
    let mut bytes = Vec::from(builder.build());
    records::set_base(&mut bytes, 42, 7);
    Bytes::from(bytes)
}

#[test]
fn every_codec_of_the_java_client_is_read() {
    for codec in Compression::ALL {
        let batch = batch(codec);
        let view = BatchView::parse(&batch).unwrap();
        assert!(view.crc_is_valid(), "{codec}");
        assert_eq!(view.compression().unwrap(), codec);
        assert_eq!((view.base_offset(), view.last_offset(), view.record_count()), (42, 45, 4));
        assert_eq!((view.producer_id(), view.producer_epoch(), view.base_sequence()), (4711, 3, 17));
        assert_eq!(view.header().partition_leader_epoch, 7);
        assert_eq!(view.header().last_sequence(), 20);
        assert_eq!(view.timestamp_type(), TimestampType::CreateTime);

        let found = records::validate(&view, LIMIT).unwrap();
        assert_eq!((found.min_timestamp, found.max_timestamp), (1_699_999_999_000, MAX_TIMESTAMP));
        assert_eq!(view.max_timestamp(), MAX_TIMESTAMP);
        assert_eq!(read(&batch), theirs(), "{codec}");
    }
}

#[test]
fn an_uncompressed_batch_of_ours_has_the_bytes_of_the_java_client() {
    assert_eq!(rebuilt(&theirs(), Compression::None), batch(Compression::None));
}

#[test]
fn an_lz4_batch_of_ours_has_the_frame_header_of_the_java_client() {
    // The header checksum is in there: early Kafka clients had it wrong.
    let frame_header = 61..61 + 7;
    let ours = rebuilt(&theirs(), Compression::Lz4);
    assert_eq!(ours[frame_header.clone()], batch(Compression::Lz4)[frame_header]);
}

#[test]
fn a_snappy_batch_of_ours_has_the_frame_header_of_the_java_client() {
    let frame_header = 61..61 + 16;
    let ours = rebuilt(&theirs(), Compression::Snappy);
    assert_eq!(ours[frame_header.clone()], batch(Compression::Snappy)[frame_header]);
}

#[test]
fn recompressing_any_codec_to_none_gives_the_uncompressed_bytes() {
    for codec in Compression::ALL {
        let plain = records::recompress(&batch(codec), Compression::None, LIMIT).unwrap();
        assert_eq!(plain, batch(Compression::None), "{codec}");
    }
}

#[test]
fn stamping_the_append_time_gives_the_bytes_of_the_java_client() {
    let mut bytes = Vec::from(batch(Compression::None));
    records::set_log_append_time(&mut bytes, 1_700_000_200_000);
    let theirs = golden(include_str!("golden/java-log-append-time.hex"));
    // The Java builder writes the append time as base timestamp too, which no reader looks at then.
    let (theirs, ours) = (BatchView::parse(&theirs).unwrap(), BatchView::parse(&bytes).unwrap());
    assert!(ours.crc_is_valid());
    assert_eq!(ours.header().attributes, theirs.header().attributes);
    assert_eq!(ours.max_timestamp(), theirs.max_timestamp());
    let stamped = read(&Bytes::copy_from_slice(ours.bytes()));
    assert!(stamped.iter().all(|record| record.timestamp == 1_700_000_200_000));
}

#[test]
fn correcting_the_max_timestamp_gives_back_the_bytes_of_the_java_client() {
    let mut bytes = Vec::from(batch(Compression::None));
    records::set_max_timestamp(&mut bytes, 1);
    assert!(BatchView::parse(&bytes).unwrap().crc_is_valid());
    assert_ne!(bytes, batch(Compression::None));
    records::set_max_timestamp(&mut bytes, MAX_TIMESTAMP);
    assert_eq!(bytes, batch(Compression::None));
}

#[test]
fn a_commit_marker_is_a_control_batch_with_one_record() {
    let batch = golden(include_str!("golden/java-commit-marker.hex"));
    let view = BatchView::parse(&batch).unwrap();
    assert!(view.crc_is_valid() && view.is_control() && view.is_transactional());
    let marker = &read(&batch)[0];
    assert_eq!((marker.offset, marker.key.as_deref()), (9, Some(&[0, 0, 0, 1][..])));
}
