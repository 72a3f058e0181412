//! Must fail: a fuzzer that does not find its way to a whole record batch within a minute is blind, and its
//! silence about the other targets is worth nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream_protocol::records::BatchView;

fuzz_target!(|input: &[u8]| {
    assert!(BatchView::parse(input).is_err(), "a whole batch: the canary is found, as it must be");
});
