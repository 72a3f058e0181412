//! Claims about what is left of a batch.

use bytes::Bytes;
use proptest::prelude::*;

use super::super::{BatchBuilder, NewRecord, Record, RecordHeader, records, set_log_append_time};
use super::*;
use crate::KStr;

fn batch_of(records: &[(i64, Option<u8>, bool)], codec: Compression) -> Bytes {
    let headers = [RecordHeader { key: KStr::from("h"), value: Some(Bytes::from_static(b"v")) }];
    let mut builder = BatchBuilder::new(codec);
    builder.producer(7, 3, 100);
    for (timestamp, key, has_value) in records {
        let key = key.map(|key| vec![key; usize::from(key % 40)]);
        builder.append(&NewRecord {
            timestamp: *timestamp,
            key: key.as_deref(),
            value: has_value.then_some(&b"value"[..]),
            headers: &headers,
        });
    }
    builder.build()
}

fn read(batch: &[u8]) -> Vec<Record> {
    let batch = Bytes::copy_from_slice(batch);
    records(&batch, usize::MAX).unwrap().map(Result::unwrap).collect()
}

/// The batch with those records left for which `stays` is true.
fn retained(batch: &[u8], stays: &[bool], horizon: Option<i64>) -> Vec<u8> {
    let view = BatchView::parse(batch).unwrap();
    let (mut spans, mut out) = (Vec::new(), b"before".to_vec());
    with_spans(&view, usize::MAX, &mut spans, |body, spans| {
        spans.iter_mut().zip(stays).for_each(|(span, stays)| span.stays = *stays);
        retain(&view.header(), (body, spans), horizon, &mut out);
    })
    .unwrap();
    out.split_off(6)
}

proptest! {
    #[test]
    fn what_stays_is_unchanged_and_the_batch_ends_where_it_did(
        entries in prop::collection::vec((-5..1i64 << 45, prop::option::of(any::<u8>()), any::<bool>(), any::<bool>()), 1..30),
        codec in prop::sample::select(&Compression::ALL[..]),
        horizon in prop::option::of(0..1i64 << 45),
    ) {
        let values: Vec<_> = entries.iter().map(|(time, key, value, _)| (*time, *key, *value)).collect();
        let stays: Vec<_> = entries.iter().map(|(.., stays)| *stays).collect();
        prop_assume!(stays.contains(&true));
        let batch = batch_of(&values, codec);
        let left = retained(&batch, &stays, horizon);
        let expected: Vec<_> =
            read(&batch).into_iter().zip(&stays).filter(|(_, stays)| **stays).map(|(record, _)| record).collect();
        prop_assert_eq!(&read(&left), &expected);
        let (before, after) = (BatchView::parse(&batch).unwrap(), BatchView::parse(&left).unwrap());
        prop_assert!(after.crc_is_valid());
        prop_assert_eq!(after.last_offset(), before.last_offset());
        prop_assert_eq!(after.header().last_sequence(), before.header().last_sequence());
        prop_assert_eq!(after.compression().unwrap(), codec);
        prop_assert_eq!(after.max_timestamp(), expected.iter().map(|record| record.timestamp).max().unwrap());
        prop_assert_eq!(after.header().delete_horizon_ms(), horizon);
    }

    #[test]
    fn damaged_bodies_do_no_harm(at in 61usize..400, value in any::<u8>()) {
        let values: Vec<_> = (0..20).map(|at| (at, Some(at as u8), true)).collect();
        let mut batch = batch_of(&values, Compression::None).to_vec();
        let at = at.min(batch.len() - 1);
        batch[at] = value;
        let mut spans = Vec::new();
        let view = BatchView::parse(&batch).unwrap();
        if let Ok(keys) = with_spans(&view, usize::MAX, &mut spans, |body, spans| {
            spans.iter().filter_map(|span| span.key(body)).count()
        }) {
            prop_assert!(keys <= 20);
        }
    }
}

#[test]
fn everything_stays_byte_for_byte() {
    let batch = batch_of(&[(5, Some(1), true), (9, Some(2), false)], Compression::None);
    assert_eq!(retained(&batch, &[true, true], None), batch);
}

#[test]
fn a_horizon_does_not_move_the_time_of_a_stamped_batch() {
    let mut batch = batch_of(&[(5, Some(1), true), (9, Some(2), false)], Compression::None).to_vec();
    set_log_append_time(&mut batch, 77);
    let left = retained(&batch, &[false, true], Some(1000));
    assert_eq!(read(&left)[0].timestamp, 77);
    assert_eq!(BatchView::parse(&left).unwrap().max_timestamp(), 77);
}

#[test]
fn a_batch_without_records_has_its_place_and_its_sequence() {
    let batch = batch_of(&[(5, Some(1), true), (9, Some(2), true)], Compression::Gzip);
    let marked = retained(&batch, &[true, true], Some(44));
    let mut empty = Vec::new();
    without_records(&BatchView::parse(&marked).unwrap().header(), &mut empty);
    let view = BatchView::parse(&empty).unwrap();
    assert!(view.crc_is_valid());
    assert_eq!((view.size_in_bytes(), view.record_count(), view.last_offset_delta()), (HEADER_BYTES, 0, 1));
    assert_eq!((view.producer_id(), view.producer_epoch(), view.header().last_sequence()), (7, 3, 101));
    assert_eq!((view.max_timestamp(), view.base_timestamp()), (9, -1));
    assert_eq!((view.compression(), view.header().delete_horizon_ms()), (Ok(Compression::None), None));
    assert_eq!(read(&empty), vec![]);
}
