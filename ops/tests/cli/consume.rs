//! `millstream produce` and `millstream consume`, one reading what the other wrote.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

use millstream_client::{Client, Missing, To};
use millstream_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millstream_protocol::messages::{
    EndTxnRequest, FindCoordinatorRequest, InitProducerIdRequest, ProduceRequest,
};
use millstream_protocol::records::{BatchBuilder, Compression, NewRecord};
use millstream_protocol::{Chunk, KStr};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::server::{Ran, Server};

fn started() -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    (folder, server)
}

#[test]
fn lines_come_back_as_they_were() {
    let (_folder, server) = started();
    let input: String = (0..20_000).map(|line| format!("{}\n", "x".repeat(line % 300))).collect();
    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let sent = server
            .run_with_input(&["produce", compression, "-z", compression, "--json"], input.as_bytes())
            .ok();
        assert_eq!(
            (&sent.json()[0]["records"], &sent.json()[0]["bytes"]),
            (&20_000.into(), &input.len().into())
        );
        let read = server.run(&["consume", compression, "--exit-at-end"]).ok();
        assert!(read.stdout == input, "{compression}: {} bytes of {}", read.stdout.len(), input.len());
    }
}

#[test]
fn every_level_of_acknowledgement_delivers() {
    let (_folder, server) = started();
    for (at, acks) in ["0", "1", "all"].iter().enumerate() {
        server.run_with_input(&["produce", "t", "--acks", acks], format!("{acks}\n").as_bytes()).ok();
        // With acks=0 nobody knows when it is there, but the reader waits for it.
        let read = server.run(&["consume", "t", "--from", &at.to_string(), "--count", "1"]).ok();
        assert_eq!(read.stdout, format!("{acks}\n"));
    }
    server.run_with_input(&["produce", "t", "--no-idempotence", "--linger", "5ms"], b"plain\n").ok();
    assert_eq!(server.run(&["consume", "t", "--exit-at-end"]).ok().stdout, "0\n1\nall\nplain\n");
}

#[test]
fn keys_headers_and_separators_are_kept() {
    let (_folder, server) = started();
    let produce = [
        "produce",
        "t",
        "--key-separator",
        ":",
        "--header",
        "a=1",
        "--header",
        "a=x=y",
        "--record-separator",
        r"\0",
    ];
    server.run_with_input(&produce, b"k:v:w\0no key\0:empty key").ok();
    let shown =
        server.run(&["consume", "t", "--exit-at-end", "--format", r"%p/%o %K[%k]%S[%v] %h %t%%\n"]).ok();
    assert_eq!(
        shown.stdout,
        "0/0 1[k]3[v:w] a=1,a=x=y t%\n0/1 -1[]6[no key] a=1,a=x=y t%\n0/2 0[]9[empty key] a=1,a=x=y t%\n"
    );
    let records = server.run(&["consume", "t", "--exit-at-end", "--json"]).ok().json();
    assert_eq!(records[0]["key"], "k");
    assert!(records[1]["key"].is_null());
    assert_eq!(records[2]["headers"], json!([{"key": "a", "value": "1"}, {"key": "a", "value": "x=y"}]));
    assert!(records[0]["timestamp"].as_i64().unwrap() > 1_700_000_000_000);
}

#[test]
fn bytes_that_are_no_text_survive() {
    let (_folder, server) = started();
    server.run_with_input(&["produce", "t"], b"\xff\x00\xfe\n").ok();
    assert_eq!(
        server.run(&["consume", "t", "--exit-at-end", "--json"]).ok().json()[0]["value_base64"],
        "/wD+"
    );
}

#[test]
fn reading_begins_and_ends_where_it_is_told() {
    let (_folder, server) = started();
    server.run(&["topic", "create", "t", "-p", "2"]).ok();
    server.run_with_input(&["produce", "t", "-p", "0"], b"a0\na1\na2\n").ok();
    server.run_with_input(&["produce", "t", "-p", "1"], b"b0\nb1\n").ok();
    let read = |arguments: &[&str]| -> Vec<String> {
        let read = server.run(&[&["consume", "t", "--exit-at-end"], arguments].concat()).ok();
        let mut lines: Vec<String> = read.stdout.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(read(&[]), ["a0", "a1", "a2", "b0", "b1"]);
    assert_eq!(read(&["-p", "1"]), ["b0", "b1"]);
    assert_eq!(read(&["--from", "1", "-p", "0", "-p", "1"]), ["a1", "a2", "b1"]);
    assert_eq!(read(&["--from", "1h"]).len(), 5);
    assert_eq!(read(&["--from", "2001-01-01"]).len(), 5);
    assert_eq!(read(&["--from", "2100-01-01T00:00:00Z"]), [""; 0]);
    assert_eq!(read(&["--from", "end"]), [""; 0]);
    assert_eq!(read(&["--count", "2", "-p", "0"]), ["a0", "a1"]);
    let timestamps =
        server.run(&["consume", "t", "--exit-at-end", "-p", "1", "--format", r"%T\n"]).ok().stdout;
    let last = timestamps.lines().last().unwrap();
    assert!(read(&["--from", last, "-p", "1"]).contains(&"b1".to_owned()));
    server.run(&["consume", "t", "-p", "2"]).failed(1, &["no partition 2", "it has 2"]);
    server.run(&["consume", "t", "-p", "0", "--from", "9"]).failed(1, &["offset 9", "topic describe t"]);
}

/// A transaction of one record that is taken back.
async fn abort_one(address: &str, value: &str) {
    let client = Client::builder(address).connect().await.unwrap();
    let topic = client.topic("t", Missing::Fail).await.unwrap();
    let id = KStr::from_static("writer");
    let find =
        FindCoordinatorRequest { key_type: 1, coordinator_keys: vec![id.clone()], ..Default::default() };
    let begin = InitProducerIdRequest {
        transactional_id: Some(id.clone()),
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
    };
    let (producer_id, producer_epoch) = loop {
        client.request(find.clone(), To::Any).await.unwrap();
        // The coordinator may still have to come up.
        let begun = client.request(begin.clone(), To::Any).await.unwrap();
        if begun.error_code == 0 {
            break (begun.producer_id, begun.producer_epoch);
        }
    };
    let mut batch = BatchBuilder::new(Compression::None);
    batch.producer(producer_id, producer_epoch, 0).transactional();
    batch.append(&NewRecord { timestamp: -1, key: None, value: Some(value.as_bytes()), headers: &[] });
    let data = PartitionProduceData { index: 0, records: Some(Chunk::Bytes(batch.build())) };
    let data = TopicProduceData { name: topic.name.clone(), topic_id: topic.id, partition_data: vec![data] };
    let write = ProduceRequest {
        transactional_id: Some(id.clone()),
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![data],
    };
    let written = client.request(write, To::Leader("t", 0)).await.unwrap();
    assert_eq!(written.responses[0].partition_responses[0].error_code, 0);
    let end = EndTxnRequest { transactional_id: id, producer_id, producer_epoch, committed: false };
    assert_eq!(client.request(end, To::Any).await.unwrap().error_code, 0);
}

#[test]
fn what_a_transaction_took_back_is_left_out_where_only_what_is_committed_is_asked_for() {
    let (_folder, server) = started();
    server.run(&["topic", "create", "t"]).ok();
    tokio::runtime::Runtime::new().unwrap().block_on(abort_one(server.address(), "taken back"));
    server.run_with_input(&["produce", "t"], b"kept\n").ok();
    let read = |more: &[&str]| server.run(&[&["consume", "t", "--exit-at-end"], more].concat()).ok().stdout;
    assert_eq!(read(&[]), "taken back\nkept\n");
    assert_eq!(read(&["--committed"]), "kept\n");
}

#[test]
fn names_that_do_not_exist_are_told_and_not_created_by_reading() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(folder.path(), &["--set", "auto.create.topics.enable=false"]);
    server.run(&["consume", "missing"]).failed(1, &["no topic \"missing\"", "topic create missing"]);
    server.run_with_input(&["produce", "missing"], b"x\n").failed(1, &["no topic \"missing\""]);
    assert!(server.run(&["topic", "list", "--json"]).ok().stdout.is_empty());
    server.run(&["topic", "create", "t"]).ok();
    server.run_with_input(&["produce", "t", "-p", "3"], b"x\n").failed(1, &["no partition 3", "it has 1"]);
}

#[test]
fn a_reader_waits_for_what_comes_and_ends_well_when_interrupted() {
    let (_folder, server) = started();
    server.run(&["topic", "create", "t"]).ok();
    let mut reader = server.command(&["consume", "t"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(reader.stdout.take().unwrap());
    for text in ["first\n", "second\n"] {
        server.run_with_input(&["produce", "t"], text.as_bytes()).ok();
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, text);
    }
    kill_process(Pid::from_child(&reader), Signal::INT).unwrap();
    let ran: Ran = reader.wait_with_output().unwrap().into();
    ran.ok();
}

#[test]
fn a_pipe_that_has_seen_enough_is_no_failure() {
    let (_folder, server) = started();
    let line = format!("{}\n", "x".repeat(1000));
    server.run_with_input(&["produce", "t"], line.repeat(2000).as_bytes()).ok();
    let mut reader = server
        .command(&["consume", "t", "--exit-at-end"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut some = [0; 10];
    // The pipe is dropped at the end of this statement, with most of the output unread.
    reader.stdout.take().unwrap().read_exact(&mut some).unwrap();
    let ran: Ran = reader.wait_with_output().unwrap().into();
    assert_eq!(ran.ok().stderr, "");
}

#[test]
fn an_output_that_is_full_is_a_failure() {
    let (_folder, server) = started();
    server.run_with_input(&["produce", "t"], b"x\n").ok();
    for arguments in [&["consume", "t", "--exit-at-end"][..], &["topic", "list"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let child = server.command(arguments).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        let ran: Ran = child.wait_with_output().unwrap().into();
        ran.failed(1, &["standard output cannot be written", "No space left"]);
    }
}

#[test]
fn a_broker_that_goes_away_ends_sending_although_the_input_goes_on() {
    let (_folder, server) = started();
    server.run(&["topic", "create", "t"]).ok();
    let mut sender = server
        .command(&["produce", "t", "--timeout", "5s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = sender.stdin.take().unwrap();
    stdin.write_all(b"first\n").unwrap();
    assert_eq!(server.run(&["consume", "t", "--count", "1"]).ok().stdout, "first\n");
    server.kill();
    stdin.write_all(b"second\n").unwrap();
    let ran: Ran = sender.wait_with_output().unwrap().into();
    // The first may or may not have been acknowledged before the broker went; the second was not.
    ran.failed(1, &["not acknowledged"]);
    drop(stdin);
}

#[test]
fn a_record_that_the_broker_refuses_is_a_failure_with_the_reason() {
    let (_folder, server) = started();
    server.run(&["topic", "create", "small", "--config", "max.message.bytes=1000"]).ok();
    let input = format!("{}\n", "x".repeat(5000));
    server
        .run_with_input(&["produce", "small"], input.as_bytes())
        .failed(1, &["1 record was not acknowledged", "max.message.bytes"]);
    assert_eq!(server.run(&["consume", "small", "--exit-at-end"]).ok().stdout, "");
}
