//! Record batches: what the broker takes, the consumer must be able to read, under every codec.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use millstream_protocol::records::{self, BatchView, Compression, EndMarker, Record};

/// Small beside the fuzzer's memory limit, large beside its inputs.
const LIMIT: usize = 8 << 20;

fuzz_target!(|input: &[u8]| {
    for batch in records::batches(Bytes::copy_from_slice(input)) {
        let Ok(batch) = batch else { return };
        let view = BatchView::parse(&batch).expect("a batch that was cut out is whole");
        let _ = view.crc_is_valid();
        if let Some(marker) = EndMarker::from_batch(&view) {
            assert!(view.is_control(), "data is taken for the end of a transaction");
            let again = marker.to_batch(view.producer_id(), view.producer_epoch(), 0);
            let again = BatchView::parse(&again).expect("just built");
            assert_eq!(EndMarker::from_batch(&again), Some(marker), "a marker says something else");
        }
        let valid = records::validate(&view, LIMIT).is_ok();
        let read = read(&batch);
        assert!(read.is_some() || !valid, "the broker takes what the consumer cannot read");
        for codec in Compression::ALL {
            let Ok(mut again) = records::recompress(&batch, codec, LIMIT).map(Vec::from) else { continue };
            records::set_base(&mut again, view.base_offset(), 1);
            let header = view.header();
            assert!(
                header.compression() == Ok(codec) || BatchView::parse(&again).is_ok_and(|b| b.crc_is_valid())
            );
            assert_eq!(self::read(&Bytes::from(again)), read, "{codec} reads otherwise");
        }
    }
});

fn read(batch: &Bytes) -> Option<Vec<Record>> {
    records::records(batch, LIMIT).and_then(Iterator::collect).ok()
}
