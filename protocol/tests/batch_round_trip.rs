//! Whatever a producer puts into a batch, a consumer gets out of it, under every codec.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use millstream_protocol::records::{
    self, BatchBuilder, BatchView, Compression, NewRecord, Record, RecordHeader,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const LIMIT: usize = 16 << 20;

fn bytes(most: usize) -> impl Strategy<Value = Bytes> {
    prop_oneof![
        vec(any::<u8>(), 0..most).prop_map(Bytes::from),
        // Something that compresses, beyond the block size of every codec.
        (any::<u8>(), 0..most * 100).prop_map(|(byte, count)| Bytes::from(vec![byte; count])),
    ]
}

fn header() -> impl Strategy<Value = RecordHeader> {
    // Few keys, so that they repeat.
    ("[a-c]{0,2}|\\PC{3}", option::of(bytes(8)))
        .prop_map(|(key, value)| RecordHeader { key: key.into(), value })
}

fn record() -> impl Strategy<Value = Record> {
    let timestamp = prop_oneof![
        Just(-1),
        1_700_000_000_000..1_800_000_000_000i64,
        // Varints of every size; the deltas of two such timestamps still fit.
        any::<i64>().prop_map(|ms| ms / 4),
    ];
    (timestamp, option::of(bytes(40)), option::of(bytes(1500)), vec(header(), 0..4))
        .prop_map(|(timestamp, key, value, headers)| Record { offset: 0, timestamp, key, value, headers })
}

fn codec() -> impl Strategy<Value = Compression> {
    proptest::sample::select(&Compression::ALL[..])
}

fn build(records: &[Record], codec: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    for (index, record) in records.iter().enumerate() {
        let record = NewRecord {
            timestamp: record.timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &record.headers,
        };
        let bound = builder.size_with(&record);
        assert_eq!(builder.append(&record), index as i32);
        assert!(
            builder.size_in_bytes() <= bound,
            "{} bytes, announced at most {bound}",
            builder.size_in_bytes()
        );
        assert!(bound - builder.size_in_bytes() <= 21);
    }
    builder.build()
}

fn read(batch: &Bytes) -> Vec<Record> {
    records::records(batch, LIMIT).unwrap().collect::<Result<_, _>>().unwrap()
}

fn at_offsets_from(base: i64, records: &[Record]) -> Vec<Record> {
    let numbered = records.iter().zip(base..);
    numbered.map(|(record, offset)| Record { offset, ..record.clone() }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn records_come_back_as_they_were_appended(records in vec(record(), 0..20), codec in codec()) {
        let batch = build(&records, codec);
        let view = BatchView::parse(&batch).unwrap();
        prop_assert!(view.crc_is_valid());
        prop_assert_eq!(view.size_in_bytes(), batch.len());
        let found = records::validate(&view, LIMIT).unwrap();
        let timestamps = records.iter().map(|record| record.timestamp);
        prop_assert_eq!(found.max_timestamp, timestamps.clone().max().unwrap_or(-1));
        prop_assert_eq!(found.min_timestamp, timestamps.min().unwrap_or(-1));
        prop_assert_eq!(found.max_timestamp, view.max_timestamp());
        prop_assert_eq!(read(&batch), at_offsets_from(0, &records));
    }

    #[test]
    fn recompressing_changes_nothing_but_the_codec(
        records in vec(record(), 1..10), from in codec(), to in codec(),
    ) {
        let mut placed = Vec::from(build(&records, from));
        records::set_base(&mut placed, 1 << 40, 9);
        let batch = records::recompress(&Bytes::from(placed), to, LIMIT).unwrap();
        let view = BatchView::parse(&batch).unwrap();
        prop_assert!(view.crc_is_valid());
        prop_assert_eq!(view.compression().unwrap(), to);
        prop_assert_eq!(view.header().partition_leader_epoch, 9);
        records::validate(&view, LIMIT).unwrap();
        prop_assert_eq!(read(&batch), at_offsets_from(1 << 40, &records));
    }

    #[test]
    fn placing_and_stamping_keep_the_crc_right(records in vec(record(), 1..5), codec in codec(), now in 0..i64::MAX) {
        let mut batch = Vec::from(build(&records, codec));
        records::set_base(&mut batch, now / 2, 3);
        prop_assert!(BatchView::parse(&batch).unwrap().crc_is_valid());
        records::set_log_append_time(&mut batch, now);
        let view = BatchView::parse(&batch).unwrap();
        prop_assert!(view.crc_is_valid());
        prop_assert_eq!(view.base_offset(), now / 2);
        let batch = Bytes::from(batch);
        prop_assert!(read(&batch).iter().all(|record| record.timestamp == now));
    }

    #[test]
    fn batches_are_cut_where_they_end(
        sizes in vec(0..5usize, 1..6), cut in 0..60usize,
    ) {
        let one = |count| build(&vec![Record {
            offset: 0, timestamp: 1, key: None, value: Some(Bytes::from_static(b"v")), headers: Vec::new(),
        }; count], Compression::None);
        let whole: Vec<Bytes> = sizes.iter().map(|&count| one(count)).collect();
        let mut run = whole.concat();
        run.extend_from_slice(&one(1)[..cut]);
        let found: Vec<Bytes> = records::batches(Bytes::from(run)).collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(found, whole);
    }

    #[test]
    fn the_checksum_is_crc32c(bytes in vec(any::<u8>(), 0..5000)) {
        prop_assert_eq!(records::crc32c(&bytes), crc32c::crc32c(&bytes));
    }
}

#[test]
fn the_last_sequence_wraps_to_zero() {
    let mut builder = BatchBuilder::new(Compression::None);
    for _ in 0..3 {
        builder.append(&NewRecord::default());
    }
    builder.producer(1, 0, i32::MAX - 1);
    let batch = builder.build();
    assert_eq!(BatchView::parse(&batch).unwrap().header().last_sequence(), 0);
}
