//! Batches whose lengths and counts lie: each is refused with the right reason, none panics.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use millstream_protocol::records::{
    self, BatchBuilder, BatchError, BatchView, Compression, HEADER_BYTES, NewRecord, RecordFlaw, RecordHeader,
};
use proptest::prelude::*;

const LIMIT: usize = 1 << 20;
const COUNT_AT: usize = 57;
const LAST_DELTA_AT: usize = 23;
const ATTRIBUTES_AT: usize = 21;

fn good(codec: Compression) -> Vec<u8> {
    let headers = [RecordHeader { key: "trace".into(), value: Some(Bytes::from_static(b"1")) }];
    let mut builder = BatchBuilder::new(codec);
    for timestamp in 0..3 {
        builder.append(&NewRecord { timestamp, key: Some(b"key"), value: Some(b"value"), headers: &headers });
    }
    Vec::from(builder.build())
}

/// A batch that announces `count` records and has `body`.
fn batch(count: i32, body: &[u8]) -> Vec<u8> {
    let mut batch = good(Compression::None);
    batch.truncate(HEADER_BYTES);
    batch.extend_from_slice(body);
    put(&mut batch, 8, i32::try_from(HEADER_BYTES - 12 + body.len()).unwrap());
    put(&mut batch, LAST_DELTA_AT, count.wrapping_sub(1));
    put(&mut batch, COUNT_AT, count);
    batch
}

fn put(batch: &mut [u8], at: usize, value: i32) {
    batch[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

fn outcome(batch: &[u8]) -> Result<(), BatchError> {
    BatchView::parse(batch).and_then(|view| records::validate(&view, LIMIT)).map(drop)
}

fn flaw(body: &[u8]) -> RecordFlaw {
    match outcome(&batch(1, body)) {
        Err(BatchError::Record { record: 0, flaw }) => flaw,
        other => panic!("expected a flaw of the first record, got {other:?}"),
    }
}

#[test]
fn a_batch_cut_at_any_byte_is_incomplete() {
    let batch = good(Compression::None);
    for end in 0..batch.len() {
        let error = BatchView::parse(&batch[..end]).map(drop).unwrap_err();
        let needed = if end < HEADER_BYTES { HEADER_BYTES } else { batch.len() };
        assert_eq!(error, BatchError::Incomplete { needed, present: end });
    }
}

#[test]
fn old_formats_and_impossible_lengths_are_named() {
    let mut old = good(Compression::None);
    old[16] = 1;
    assert_eq!(outcome(&old), Err(BatchError::Magic(1)));
    assert_eq!(outcome(&old[..30]), Err(BatchError::Magic(1)));
    for length in [i32::MIN, -1, 0, 48] {
        let mut batch = good(Compression::None);
        put(&mut batch, 8, length);
        assert_eq!(outcome(&batch), Err(BatchError::BatchLength(length)));
    }
    let mut batch = good(Compression::None);
    put(&mut batch, 8, i32::MAX);
    assert!(matches!(outcome(&batch), Err(BatchError::Incomplete { .. })));
}

#[test]
fn unknown_codecs_are_named() {
    for code in 5..8 {
        let mut batch = good(Compression::None);
        batch[ATTRIBUTES_AT + 1] = code;
        assert_eq!(outcome(&batch), Err(BatchError::UnknownCompression(i16::from(code))));
    }
}

#[test]
fn counts_that_lie_are_refused() {
    let body = good(Compression::None).split_off(HEADER_BYTES);
    assert_eq!(outcome(&batch(3, &body)), Ok(()));
    assert_eq!(outcome(&batch(-1, &body)), Err(BatchError::RecordCount(-1)));
    assert_eq!(outcome(&batch(2, &body)), Err(BatchError::Surplus { count: 2, bytes: body.len() / 3 }));
    let many = outcome(&batch(i32::MAX, &body)).unwrap_err();
    assert_eq!(many, BatchError::Record { record: 3, flaw: RecordFlaw::Varint });
    assert_eq!(many.record(), Some(3));
    let mut holes = batch(3, &body);
    put(&mut holes, LAST_DELTA_AT, 7);
    assert_eq!(outcome(&holes), Err(BatchError::LastOffsetDelta { count: 3, last: 7 }));
}

#[test]
fn each_lying_length_of_a_record_is_named() {
    // length, attributes, timestamp delta, offset delta, key, value, headers; all zigzag.
    assert_eq!(outcome(&batch(1, &[12, 0, 0, 0, 1, 1, 0])), Ok(()));
    assert_eq!(flaw(&[14, 0, 0, 0, 1, 1, 0]), RecordFlaw::Length(7));
    assert_eq!(flaw(&[1, 0, 0, 0, 1, 1, 0]), RecordFlaw::Length(-1));
    assert_eq!(flaw(&[0xfe, 0xff, 0xff, 0xff, 0x0f, 0]), RecordFlaw::Length(i32::MAX));
    assert_eq!(flaw(&[0]), RecordFlaw::Varint);
    assert_eq!(flaw(&[4, 0, 0x80]), RecordFlaw::Varint);
    assert_eq!(flaw(&[12, 0, 0, 0, 3, 1, 0]), RecordFlaw::Key(-2));
    assert_eq!(flaw(&[12, 0, 0, 0, 6, 1, 0]), RecordFlaw::Key(3));
    assert_eq!(flaw(&[12, 0, 0, 0, 1, 5, 0]), RecordFlaw::Value(-3));
    assert_eq!(flaw(&[12, 0, 0, 0, 1, 4, 0]), RecordFlaw::Value(2));
    assert_eq!(flaw(&[12, 0, 0, 0, 1, 1, 1]), RecordFlaw::HeaderCount(-1));
    assert_eq!(flaw(&[16, 0, 0, 0, 1, 1, 4, 0, 1]), RecordFlaw::HeaderCount(2));
    assert_eq!(flaw(&[16, 0, 0, 0, 1, 1, 2, 1, 1]), RecordFlaw::HeaderKey(-1));
    assert_eq!(flaw(&[16, 0, 0, 0, 1, 1, 2, 4, 1]), RecordFlaw::HeaderKey(2));
    assert_eq!(flaw(&[16, 0, 0, 0, 1, 1, 2, 0, 2]), RecordFlaw::HeaderValue(1));
    assert_eq!(flaw(&[16, 0, 0, 0, 1, 1, 0, 9, 9]), RecordFlaw::Surplus(2));
    assert_eq!(flaw(&[12, 0, 0, 2, 1, 1, 0]), RecordFlaw::OffsetDelta(1));
}

#[test]
fn timestamps_beyond_64_bits_are_refused() {
    let mut batch = batch(1, &[12, 0, 2, 0, 1, 1, 0]);
    batch[27..35].copy_from_slice(&i64::MAX.to_be_bytes());
    assert_eq!(outcome(&batch), Err(BatchError::Record { record: 0, flaw: RecordFlaw::Timestamp }));
}

#[test]
fn an_iterator_ends_after_its_first_error() {
    let mut body = good(Compression::None).split_off(HEADER_BYTES);
    let length = body.len();
    body.truncate(length - 1);
    let mut records = records::records(&Bytes::from(batch(3, &body)), LIMIT).unwrap();
    assert!(records.next().unwrap().is_ok() && records.next().unwrap().is_ok());
    assert!(records.next().unwrap().is_err());
    assert!(records.next().is_none());
}

#[test]
fn a_damaged_batch_ends_the_run_it_is_in() {
    let mut run = good(Compression::Lz4);
    let start = run.len();
    run.extend_from_slice(&good(Compression::None));
    run[start + 16] = 9;
    let mut batches = records::batches(Bytes::from(run));
    assert!(batches.next().unwrap().is_ok());
    assert_eq!(batches.next(), Some(Err(BatchError::Magic(9))));
    assert_eq!(batches.next(), None);
}

/// All that a broker or consumer does with bytes that it was sent.
fn exercise(bytes: &[u8]) {
    let Ok(view) = BatchView::parse(bytes) else { return };
    let batch = Bytes::copy_from_slice(bytes);
    let valid = records::validate(&view, LIMIT).is_ok();
    let read = records::records(&batch, LIMIT).and_then(|records| records.collect::<Result<Vec<_>, _>>());
    assert!(!valid || read.is_ok(), "valid for the broker, unreadable for the consumer: {read:?}");
    for codec in Compression::ALL {
        if let Ok(batch) = records::recompress(&batch, codec, LIMIT) {
            let again = BatchView::parse(&batch).unwrap();
            assert!(again.crc_is_valid() || view.compression() == Ok(codec));
            assert_eq!(records::validate(&again, LIMIT).is_ok(), valid);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        exercise(&bytes);
    }

    #[test]
    fn any_body_is_survived(
        count in -1..5i32, codec in 0..8u8, body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut batch = batch(count, &body);
        batch[ATTRIBUTES_AT + 1] = codec;
        exercise(&batch);
    }

    #[test]
    fn a_flipped_byte_is_survived_and_seen_by_the_crc(
        codec in proptest::sample::select(&Compression::ALL[..]), at in any::<prop::sample::Index>(), flip in 1..=255u8,
    ) {
        let mut batch = good(codec);
        let at = at.index(batch.len());
        batch[at] ^= flip;
        exercise(&batch);
        if at >= ATTRIBUTES_AT {
            prop_assert!(!BatchView::parse(&batch).unwrap().crc_is_valid());
        }
    }
}
