//! Every message in every version: what is decoded is encoded to the same bytes, and bytes that are not a
//! message are refused.

use bytes::Bytes;
use millstream_protocol_gen::schema::Message;
use millstream_tests::any_message::any_message;
use millstream_tests::codec::{Codec, api_codecs};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const SEEDS: std::ops::Range<u64> = 0..30;

/// Calls `check` with every message, version and seed.
fn for_each_message(mut check: impl FnMut(&Message, Codec, i16, u64)) {
    for api in api_codecs() {
        for (message, codec) in [(&api.api.request, api.request), (&api.api.response, api.response)] {
            for version in message.versions.first..=message.versions.last {
                SEEDS.for_each(|seed| check(message, codec, version, seed));
            }
        }
    }
}

#[test]
fn every_message_comes_back_byte_for_byte() {
    for_each_message(|message, codec, version, seed| {
        let body = Bytes::from(any_message(message, version, seed));
        let again = (codec.recode)(&body, version);
        assert_eq!(again.as_ref(), Ok(&body), "{} v{version}, seed {seed}", message.name);
    });
}

#[test]
fn a_message_that_is_cut_off_anywhere_is_an_error() {
    for_each_message(|message, codec, version, seed| {
        if seed > 3 {
            return;
        }
        let body = Bytes::from(any_message(message, version, seed));
        for end in 0..body.len() {
            let outcome = (codec.recode)(&body.slice(..end), version);
            assert!(outcome.is_err(), "{} v{version}, seed {seed}, cut at {end}", message.name);
        }
    });
}

#[test]
fn bytes_behind_a_message_are_an_error() {
    for_each_message(|message, codec, version, seed| {
        let mut body = any_message(message, version, seed);
        body.push(0);
        let outcome = (codec.recode)(&Bytes::from(body), version);
        assert!(outcome.is_err(), "{} v{version}, seed {seed}", message.name);
    });
}

#[test]
fn damaged_messages_are_refused_or_read_but_never_panic() {
    for_each_message(|message, codec, version, seed| {
        let mut body = any_message(message, version, seed);
        let mut rng = StdRng::seed_from_u64(seed);
        for _ in 0..4 {
            if !body.is_empty() {
                let at = rng.random_range(0..body.len());
                body[at] = rng.random();
            }
            // What still decodes must also be encodable; the codec checks that it comes back the same.
            let _ = (codec.recode)(&Bytes::copy_from_slice(&body), version);
        }
    });
}

#[test]
fn tags_that_are_not_known_are_passed_over() {
    for_each_message(|message, codec, version, seed| {
        let is_flexible = message.flexible_from.is_some_and(|from| version >= from);
        if !is_flexible || message.body.fields.iter().any(|field| field.tag.is_some()) {
            return;
        }
        let body = any_message(message, version, seed);
        let (count, rest) = body.split_last().expect("a flexible message ends with a count of tags");
        assert_eq!(*count, 0, "{} has no tags of its own", message.name);
        // No tags at the end of the body become one of a number that Kafka has not given out.
        let mut tagged = rest.to_vec();
        tagged.extend_from_slice(&[1, 0xe7, 0x07, 3, b'n', b'e', b'w']);
        let again = (codec.recode)(&Bytes::from(tagged), version);
        assert_eq!(again, Ok(Bytes::from(body)), "{} v{version}, seed {seed}", message.name);
    });
}

#[test]
fn a_message_that_nobody_filled_in_can_be_written_and_read() {
    for_each_message(|message, codec, version, seed| {
        if seed == 0 {
            let body = (codec.encode_default)(version);
            let again = (codec.recode)(&body, version);
            assert_eq!(again, Ok(body), "{} v{version}", message.name);
        }
    });
}

#[test]
fn a_version_that_a_message_lacks_is_an_error() {
    for_each_message(|message, codec, version, seed| {
        if seed == 0 && version == message.versions.last {
            let body = Bytes::from(any_message(message, version, seed));
            assert!((codec.recode)(&body, version + 1).is_err(), "{}", message.name);
            assert!((codec.recode)(&body, message.versions.first - 1).is_err(), "{}", message.name);
        }
    });
}
