//! A frame as a broker receives it: any header, then the body that the header announces.
#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use millstream_protocol::RequestHeader;
use millstream_protocol::wire::Reader;
use millstream_tests::codec::{ApiCodec, api_codecs};

static APIS: LazyLock<Vec<ApiCodec>> = LazyLock::new(api_codecs);

fuzz_target!(|input: &[u8]| {
    let frame = Bytes::copy_from_slice(input);
    let mut reader = Reader::new(&frame);
    let Ok(header) = RequestHeader::decode(&mut reader) else { return };
    let body = frame.slice(frame.len() - reader.remaining()..);
    if let Some(api) = APIS.iter().find(|api| api.api.key == header.api_key) {
        let _ = (api.request.recode)(&body, header.api_version);
    }
});
