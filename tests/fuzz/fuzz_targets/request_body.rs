//! Bodies of every API and version, requests and responses: what decodes must come back the same.
//!
//! The first three bytes of an input choose API, version and side, so that no input is wasted on a header.
#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use millstream_tests::codec::{ApiCodec, api_codecs};

static APIS: LazyLock<Vec<ApiCodec>> = LazyLock::new(api_codecs);

fuzz_target!(|input: &[u8]| {
    let Some(([api, version, side], body)) = input.split_first_chunk() else { return };
    let api = &APIS[usize::from(*api) % APIS.len()];
    let (message, codec) = match side % 2 {
        0 => (&api.api.request, api.request),
        _ => (&api.api.response, api.response),
    };
    let count = message.versions.last - message.versions.first + 1;
    let version = message.versions.first + i16::from(*version) % count;
    let _ = (codec.recode)(&Bytes::copy_from_slice(body), version);
});
