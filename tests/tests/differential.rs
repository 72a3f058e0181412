//! Our messages against those of the `kafka-protocol` crate, which was generated from Kafka 4.1's own
//! definitions: each reads what the other writes, in every version that both know.
//!
//! The other crate aborts on hostile counts, so it sees only bytes that our side has read and written.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestKind, ResponseKind};
use millstream_tests::any_message::any_message;
use millstream_tests::codec::{Codec, api_codecs};

const SEEDS: std::ops::Range<u64> = 1000..1030;

/// The other crate lists a few newest versions that it does not generate.
const NOT_KNOWN: &str = "specified version not supported";

type Oracle = fn(ApiKey, &Bytes, i16) -> Result<Bytes, String>;

fn recode_request(api: ApiKey, body: &Bytes, version: i16) -> Result<Bytes, String> {
    let (mut left, mut out) = (body.clone(), BytesMut::new());
    let request = RequestKind::decode(api, &mut left, version).map_err(|error| format!("{error:#}"))?;
    assert!(left.is_empty(), "{api:?} v{version}: {} bytes are left", left.len());
    request.encode(&mut out, version).map_err(|error| format!("{error:#}"))?;
    Ok(out.freeze())
}

fn recode_response(api: ApiKey, body: &Bytes, version: i16) -> Result<Bytes, String> {
    let (mut left, mut out) = (body.clone(), BytesMut::new());
    let response = ResponseKind::decode(api, &mut left, version).map_err(|error| format!("{error:#}"))?;
    assert!(left.is_empty(), "{api:?} v{version}: {} bytes are left", left.len());
    response.encode(&mut out, version).map_err(|error| format!("{error:#}"))?;
    Ok(out.freeze())
}

#[test]
fn both_sides_read_and_write_the_same_bytes() {
    let (mut compared, mut not_known) = (0, 0);
    for ours in api_codecs().into_iter().filter(|ours| !ours.api.is_own()) {
        let theirs = ApiKey::try_from(ours.api.key).expect("the other crate knows every API of ours");
        let known = theirs.valid_versions();
        let sides: [(_, Codec, Oracle); 2] = [
            (&ours.api.request, ours.request, recode_request),
            (&ours.api.response, ours.response, recode_response),
        ];
        for (message, codec, oracle) in sides {
            for version in message.versions.first.max(known.min)..=message.versions.last.min(known.max) {
                for seed in SEEDS {
                    let case = format!("{} v{version}, seed {seed}", message.name);
                    let body = Bytes::from(any_message(message, version, seed));
                    let written = (codec.recode)(&body, version).expect(&case);
                    match oracle(theirs, &written, version) {
                        Err(error) if error.contains(NOT_KNOWN) => not_known += 1,
                        by_theirs => assert_eq!(by_theirs.as_ref(), Ok(&written), "{case}"),
                    }
                    compared += 1;
                }
            }
        }
    }
    let versions_not_known = not_known / SEEDS.count();
    println!("{compared} messages compared, {versions_not_known} versions not known to the other side");
    assert!(compared > 10_000 && versions_not_known < 10, "too little was compared");
}
