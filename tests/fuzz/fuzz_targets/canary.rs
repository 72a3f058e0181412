//! Must fail: a fuzzer that does not find its way to a whole record batch within a minute is blind, and its
//! silence about the other targets is worth nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream_protocol::records::{self, BatchView};

fuzz_target!(|input: &[u8]| {
    let Ok(batch) = BatchView::parse(input) else { return };
    let found = batch.record_count() > 0 && records::validate(&batch, 1 << 20).is_ok();
    assert!(!found, "a valid batch: the canary is found, as it must be");
});
