//! Peers that do not speak Kafka, or speak it badly: the connection is closed, nothing is written, and the
//! broker goes on serving everybody else.

use std::io::{Read, Write};

use bytes::Bytes;
use millstream_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use millstream_protocol::messages::{InitProducerIdRequest, JoinGroupRequest, MetadataRequest};
use millstream_protocol::{ErrorCode, KStr};

use super::bed::{Bed, Client, batch};

fn is_alive(bed: &Bed) -> bool {
    let request = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
    bed.client().call(12, &request).brokers.len() == 1
}

#[test]
fn absurd_lengths_close_the_connection() {
    let bed = Bed::new();
    for length in [0, 1, 9, -1, i32::MIN, i32::MAX, 104_857_601] {
        let mut client = bed.client();
        client.stream.write_all(&length.to_be_bytes()).unwrap();
        assert!(client.is_closed(), "{length}");
    }
    assert!(is_alive(&bed));
}

#[test]
fn unknown_apis_and_broken_headers_close_the_connection() {
    let bed = Bed::new();
    let frames: [&[u8]; 5] = [
        &[0x7f, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff],
        &[0xff, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff],
        &[0, 3, 0xff, 0xff, 0, 0, 0, 1, 0xff, 0xff],
        &[0, 3, 0, 1, 0, 0, 0, 1, 0x7f, 0xff],
        &[0, 3, 0, 1, 0, 0, 0, 1, 0, 1, 0xff, 0, 0, 0, 0],
    ];
    for frame in frames {
        let mut client = bed.client();
        client.stream_write(frame);
        assert!(client.is_closed(), "{frame:x?}");
    }
    assert!(is_alive(&bed));
}

#[test]
fn truncated_and_garbage_bodies_close_the_connection() {
    let bed = Bed::new();
    bed.with_topic("t");
    // Header of a Metadata request in version 1; then a body.
    let header = [0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff];
    let bodies: [&[u8]; 5] =
        [&[], &[0, 0, 0, 1], &[0, 0, 0, 1, 0, 9, b't'], &[0x7f, 0xff, 0xff, 0xff], &[0, 0, 0, 1, 0, 1, 0xff]];
    for body in bodies {
        let mut client = bed.client();
        client.stream_write(&[&header[..], body].concat());
        assert!(client.is_closed(), "{body:x?}");
    }
    assert!(is_alive(&bed));
}

#[test]
fn bytes_behind_a_request_are_ignored_as_librdkafka_needs_it() {
    let bed = Bed::new();
    bed.with_topic("t");
    let mut client = bed.client();
    // Metadata in version 9 with a null list of topics written as four zeros, no flags, no tags.
    client.stream_write(&[0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    let (_, all) = client.receive::<MetadataRequest>(9);
    assert_eq!(all.topics.len(), 1);
}

#[test]
fn garbage_behind_every_served_header_harms_nobody() {
    let bed = Bed::new();
    let (mut honest, _) = bed.with_topic("t");
    honest.produce("t", batch(&["v"]), -1);
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        u8::try_from(seed & 0xff).unwrap()
    };
    for key in [0, 1, 2, 3, 18, 19, 20, 21, 22, 23, 32, 37, 60, 75] {
        for version in 0..=18 {
            let mut client = bed.client();
            let mut frame = vec![0, key, 0, version, 0, 0, 0, 1, 0xff, 0xff];
            frame.extend((0..random()).map(|_| random()));
            client.stream_write(&frame);
            client.stream.shutdown(std::net::Shutdown::Write).unwrap();
            // Answered or closed: both are fine, as long as it ends.
            let mut rest = Vec::new();
            let _ = client.stream.read_to_end(&mut rest);
        }
    }
    assert_eq!(honest.log_end("t"), 1);
    assert!(is_alive(&bed));
}

#[test]
fn a_frame_that_ends_early_is_dropped() {
    let bed = Bed::new();
    bed.with_topic("t");
    let mut client = bed.client();
    client.stream.write_all(&[0, 1, 0, 0, 0, 3]).unwrap();
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(client.is_closed());
}

#[test]
fn a_browser_gets_a_page_and_a_tls_client_is_hung_up_on() {
    let bed = Bed::with(&[("http.listener", "127.0.0.1:0")]);
    let mut browser = bed.client();
    browser.stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut page = String::new();
    browser.stream.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.1 400 "), "{page}");
    assert!(page.contains("Kafka port"), "{page}");
    assert!(page.contains(&bed.broker().http_address().unwrap().to_string()), "{page}");
    let mut tls = bed.client();
    tls.stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).unwrap();
    assert!(tls.is_closed());
}

#[test]
fn connections_beyond_the_limit_are_closed_and_make_room_when_others_leave() {
    let bed = Bed::with(&[("max.connections", "2")]);
    let (mut first, _) = bed.with_topic("t");
    let mut second = bed.client();
    assert_eq!(second.log_end("t"), 0);
    let mut third = bed.client();
    assert!(third.is_closed());
    drop(second);
    // The broker learns of the end of a connection in its own time.
    let address = bed.broker().kafka_address();
    let request = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
    let mut fourth = loop {
        let mut client = Client::connect(address);
        if client.try_call(12, &request) {
            break client;
        }
    };
    assert_eq!(fourth.log_end("t"), 0);
    assert_eq!(first.log_end("t"), 0);
}

#[test]
fn a_request_larger_than_the_limit_is_not_read() {
    let bed = Bed::with(&[("socket.request.max.bytes", "20000"), ("message.max.bytes", "10000")]);
    let mut client = bed.client();
    client.stream.write_all(&20_001_i32.to_be_bytes()).unwrap();
    assert!(client.is_closed());
    let mut client = bed.client();
    let name = "x".repeat(249);
    let topic = millstream_protocol::messages::metadata_request::MetadataRequestTopic {
        name: Some(KStr::from(name.as_str())),
        ..Default::default()
    };
    let request = MetadataRequest { topics: Some(vec![topic; 70]), ..Default::default() };
    assert_eq!(client.call(12, &request).topics.len(), 1, "one of more than 8 KiB and less than the limit");
}

/// What its coordinator could not store: it would have to be thrown away and read again, for all who use it.
#[test]
fn names_that_no_record_can_have_are_refused() {
    let bed = Bed::with(&[("group.initial.rebalance.delay.ms", "0")]);
    let mut client = bed.client();
    let long = KStr::from("n".repeat(40_000));
    let begin = InitProducerIdRequest {
        transactional_id: Some(long.clone()),
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
    };
    assert_eq!(client.call(5, &begin).error_code, ErrorCode::InvalidRequest.code());
    let join = JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        group_instance_id: Some("i".into()),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol { name: long, metadata: Bytes::new() }],
        ..JoinGroupRequest::default()
    };
    assert_eq!(client.call(9, &join).error_code, ErrorCode::InvalidRequest.code());
}
