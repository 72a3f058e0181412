//! A Fetch that waits is woken by what it waits for, and by whatever makes waiting pointless.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use millstream_protocol::messages::delete_topics_request::DeleteTopicState;
use millstream_protocol::messages::{DeleteTopicsRequest, FetchRequest};
use millstream_protocol::{ErrorCode, KStr};

use super::bed::{Bed, batch, bytes, fetch, produce, values};

const LONG: i32 = 600_000;
/// Far less than `LONG`: whoever answers within it was woken.
const SOON: Duration = Duration::from_secs(120);

fn waiting(offset: i64) -> FetchRequest {
    FetchRequest { max_wait_ms: LONG, ..fetch("t", 0, offset) }
}

/// Waits until the broker has read more than the `before` bytes of requests.
fn until_received(bed: &Bed, before: u64) {
    let started = Instant::now();
    while received(bed) <= before {
        assert!(started.elapsed() < SOON, "the broker did not read the request");
        std::thread::yield_now();
    }
}

/// Bytes of requests that the broker has read.
fn received(bed: &Bed) -> u64 {
    let mut http = TcpStream::connect(bed.broker().http_address().unwrap()).unwrap();
    http.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    http.read_to_string(&mut page).unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix("millstream_bytes_received_total "));
    line.unwrap().parse().unwrap()
}

#[test]
fn an_append_wakes_it() {
    let bed = Bed::with(&[("http.listener", "127.0.0.1:0")]);
    let (mut reader, _) = bed.with_topic("t");
    let before = received(&bed);
    let started = Instant::now();
    reader.send(12, &waiting(0));
    until_received(&bed, before);
    bed.client().produce("t", batch(&["news"]), 1);
    let (_, response) = reader.receive::<FetchRequest>(12);
    assert_eq!(values(&response.responses[0].partitions[0]), [(0, "news".to_owned())]);
    assert!(started.elapsed() < SOON);
}

#[test]
fn it_waits_for_as_many_bytes_as_it_asked_for() {
    let bed = Bed::new();
    let (mut reader, _) = bed.with_topic("t");
    let one = batch(&["a value"]);
    let mut request = waiting(0);
    request.min_bytes = i32::try_from(3 * one.len()).unwrap();
    reader.send(12, &request);
    let mut writer = bed.client();
    for _ in 0..3 {
        writer.produce("t", one.clone(), 1);
    }
    let (_, response) = reader.receive::<FetchRequest>(12);
    assert_eq!(bytes(&response.responses[0].partitions[0]).len(), 3 * one.len());
}

#[test]
fn its_time_runs_out() {
    let bed = Bed::new();
    let (mut reader, _) = bed.with_topic("t");
    let started = Instant::now();
    let response = reader.call(12, &FetchRequest { max_wait_ms: 50, ..fetch("t", 0, 0) });
    assert!(started.elapsed() >= Duration::from_millis(50));
    assert_eq!(response.responses[0].partitions[0].error_code, 0);
    assert_eq!(bytes(&response.responses[0].partitions[0]).len(), 0);
}

#[test]
fn an_error_does_not_wait() {
    let bed = Bed::new();
    let (mut reader, _) = bed.with_topic("t");
    let started = Instant::now();
    let response = reader.call(12, &waiting(99));
    assert_eq!(response.responses[0].partitions[0].error_code, ErrorCode::OffsetOutOfRange.code());
    assert!(started.elapsed() < SOON);
}

#[test]
fn deleting_the_topic_wakes_it() {
    let bed = Bed::new();
    let (mut reader, _) = bed.with_topic("t");
    let started = Instant::now();
    reader.send(12, &waiting(0));
    let topics = vec![DeleteTopicState { name: Some(KStr::from_static("t")), ..Default::default() }];
    bed.client().call(6, &DeleteTopicsRequest { topics, ..Default::default() });
    let (_, response) = reader.receive::<FetchRequest>(12);
    let code = response.responses[0].partitions[0].error_code;
    assert_eq!(code, ErrorCode::UnknownTopicOrPartition.code());
    assert!(started.elapsed() < SOON);
}

#[test]
fn stopping_the_broker_answers_it() {
    let mut bed = Bed::with(&[("http.listener", "127.0.0.1:0")]);
    let (mut reader, _) = bed.with_topic("t");
    let before = received(&bed);
    reader.send(12, &waiting(0));
    until_received(&bed, before);
    let started = Instant::now();
    bed.stop();
    let (_, response) = reader.receive::<FetchRequest>(12);
    assert_eq!(response.responses[0].partitions[0].error_code, 0);
    assert!(reader.is_closed());
    assert!(started.elapsed() < SOON);
}

#[test]
fn requests_behind_it_are_carried_out_and_answered_after_it() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    let waits = client.send(12, &waiting(0));
    // Were it not read, the Fetch before it would wait for ever.
    let writes = client.send(9, &produce("t", 0, batch(&["mine"]), -1));
    let (first, response) = client.receive::<FetchRequest>(12);
    assert_eq!(values(&response.responses[0].partitions[0]), [(0, "mine".to_owned())]);
    let (second, _) = client.receive::<millstream_protocol::messages::ProduceRequest>(9);
    assert_eq!((first, second), (waits, writes));
}
