//! Frames that foreign clients and Apache Kafka 4.3.1 sent each other: we read them and write the same bytes.
//!
//! `tests/golden` has a file per client. The clients' own records are in there too: each batch must be one that
//! our broker takes.

use bytes::Bytes;
use millstream_protocol::RequestHeader;
use millstream_protocol::messages::{FetchResponse, ProduceRequest};
use millstream_protocol::records::{self, BatchView, Compression};
use millstream_protocol::wire::{Chunk, Reader};
use millstream_protocol::{Message, Request, decode_response};
use millstream_tests::codec::{ApiCodec, api_codecs};

const DECOMPRESSED_MAX: usize = 1 << 20;

const CLIENTS: [(&str, &str); 5] = [
    ("kcat", include_str!("golden/kcat.txt")),
    ("librdkafka", include_str!("golden/librdkafka.txt")),
    ("java", include_str!("golden/java.txt")),
    ("kafka-python", include_str!("golden/kafka-python.txt")),
    ("franz-go", include_str!("golden/franz-go.txt")),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Request,
    Response,
}

struct Frame {
    name: String,
    side: Side,
    api: i16,
    version: i16,
    bytes: Bytes,
}

fn frames() -> Vec<Frame> {
    let lines = CLIENTS.into_iter().flat_map(|(client, text)| text.lines().map(move |line| (client, line)));
    lines.filter(|(_, line)| !line.starts_with('#')).map(|(client, line)| frame(client, line)).collect()
}

fn frame(client: &str, line: &str) -> Frame {
    let words: Vec<&str> = line.split(' ').collect();
    let [side, api, version, hex] = words[..] else { panic!("{client}: not a frame: {line}") };
    let digit = |byte: u8| (byte as char).to_digit(16).expect("hex digits") as u8;
    Frame {
        name: format!("{client}: {side} {api} v{version}"),
        side: if side == "request" { Side::Request } else { Side::Response },
        api: api.parse().expect("an API is a number"),
        version: version.parse().expect("a version is a number"),
        bytes: hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect(),
    }
}

fn codec<'a>(codecs: &'a [ApiCodec], frame: &Frame) -> &'a ApiCodec {
    codecs.iter().find(|codec| codec.api.key == frame.api).expect("only APIs of ours are kept")
}

#[test]
fn requests_of_foreign_clients_are_read_and_written_the_same() {
    let codecs = api_codecs();
    for frame in frames().iter().filter(|frame| frame.side == Side::Request) {
        let reframe = codec(&codecs, frame).reframe_request;
        assert_eq!(reframe(&frame.bytes).as_ref(), Ok(&frame.bytes), "{}", frame.name);
    }
}

#[test]
fn responses_of_kafka_are_read_and_written_the_same() {
    let codecs = api_codecs();
    for frame in frames().iter().filter(|frame| frame.side == Side::Response) {
        let reframe = codec(&codecs, frame).reframe_response;
        assert_eq!(reframe(&frame.bytes, frame.version).as_ref(), Ok(&frame.bytes), "{}", frame.name);
    }
}

#[test]
fn every_kind_of_client_and_many_apis_are_there() {
    let frames = frames();
    assert!(frames.len() > 200, "only {} frames", frames.len());
    let mut apis: Vec<i16> = frames.iter().map(|frame| frame.api).collect();
    apis.sort_unstable();
    apis.dedup();
    assert!(apis.len() > 35, "only the APIs {apis:?}");
}

/// The records of a Produce or of what a Fetch answered.
fn records_in(frame: &Frame) -> Vec<Bytes> {
    let chunks: Vec<Option<Chunk>> = match (frame.api, frame.side) {
        (0, Side::Request) => {
            let mut reader = Reader::new(&frame.bytes);
            RequestHeader::decode(&mut reader).expect(&frame.name);
            let request = ProduceRequest::decode(&mut reader, frame.version).expect(&frame.name);
            let topics = request.topic_data.into_iter();
            topics.flat_map(|topic| topic.partition_data).map(|partition| partition.records).collect()
        }
        (1, Side::Response) => {
            let response = fetch_response(frame);
            let topics = response.responses.into_iter();
            topics.flat_map(|topic| topic.partitions).map(|partition| partition.records).collect()
        }
        _ => Vec::new(),
    };
    chunks.into_iter().flatten().map(Chunk::into_bytes).collect()
}

fn fetch_response(frame: &Frame) -> FetchResponse {
    type Fetch = millstream_protocol::messages::FetchRequest;
    let answer: Result<(i32, <Fetch as Request>::Response), _> =
        decode_response::<Fetch>(&frame.bytes, frame.version);
    answer.expect(&frame.name).1
}

#[test]
fn batches_of_foreign_producers_are_valid_and_readable() {
    let (mut batches, mut codecs) = (0, Vec::new());
    for frame in frames() {
        for run in records_in(&frame) {
            for batch in records::batches(run) {
                let batch = batch.expect(&frame.name);
                let view = BatchView::parse(&batch).expect(&frame.name);
                assert!(view.crc_is_valid(), "{}", frame.name);
                records::validate(&view, DECOMPRESSED_MAX).expect(&frame.name);
                let count = records::records(&batch, DECOMPRESSED_MAX).expect(&frame.name).map(|record| {
                    record.expect(&frame.name);
                });
                assert_eq!(count.count(), view.record_count() as usize, "{}", frame.name);
                codecs.push(view.compression().expect(&frame.name));
                batches += 1;
            }
        }
    }
    assert!(batches > 10, "only {batches} batches");
    for codec in Compression::ALL {
        assert!(codecs.contains(&codec), "no batch with {codec}");
    }
}
