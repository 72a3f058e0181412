//! A bare connection, for what no client library is needed or wanted: its own start-up would be measured.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use millstream_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use millstream_protocol::messages::metadata_request::MetadataRequestTopic;
use millstream_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millstream_protocol::messages::{CreateTopicsRequest, MetadataRequest, ProduceRequest};
use millstream_protocol::{Chunk, ErrorCode, KStr, Request, decode_response, encode_request};

use crate::options::Acks;

/// The longest answer that is expected here.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// One connection; answers come in the order of the requests.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    correlation_id: i32,
}

impl Connection {
    /// Connects.
    pub(crate) fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).context("cannot set a time limit")?;
        Ok(Self { stream, correlation_id: 0 })
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn call<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response> {
        let id = self.send(version, request)?;
        self.receive::<R>(version, id)
    }

    /// Sends a request; the number is what its answer is received by, in the order of the requests.
    pub(crate) fn send<R: Request>(&mut self, version: i16, request: &R) -> Result<i32> {
        let frame = self.frame(version, request)?;
        self.stream.write_all(&frame).context("cannot send")?;
        Ok(self.correlation_id)
    }

    fn frame<R: Request>(&mut self, version: i16, request: &R) -> Result<Vec<u8>> {
        self.correlation_id += 1;
        let frame = encode_request(version, self.correlation_id, Some("millstream-bench"), request);
        let chunks = frame.context("the request has no such version")?.into_iter();
        Ok(chunks.fold(Vec::new(), |mut frame, chunk| {
            frame.extend_from_slice(&chunk.into_bytes());
            frame
        }))
    }

    /// Waits for the answer to the request of this number.
    pub(crate) fn receive<R: Request>(&mut self, version: i16, expected: i32) -> Result<R::Response> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).context("no answer")?;
        let length = u32::from_be_bytes(length) as usize;
        ensure!(length <= ANSWER_BYTES_MAX, "an answer of {length} bytes");
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).context("half an answer")?;
        let (correlation_id, response) = decode_response::<R>(&Bytes::from(answer), version)?;
        ensure!(correlation_id == expected, "an answer to another request");
        Ok(response)
    }

    /// Sends requests, all before the first answer is read; answers come in their order.
    pub(crate) fn call_many<R: Request>(&mut self, version: i16, requests: &[R]) -> Result<Vec<R::Response>> {
        let first = self.correlation_id + 1;
        let mut frames = Vec::new();
        for request in requests {
            frames.extend_from_slice(&self.frame(version, request)?);
        }
        self.stream.write_all(&frames).context("cannot send")?;
        (first..).take(requests.len()).map(|id| self.receive::<R>(version, id)).collect()
    }

    /// Asks for a topic until it is there: a broker that creates topics does so meanwhile. Returns how many
    /// partitions it has.
    pub(crate) fn await_topic(&mut self, topic: &str) -> Result<usize> {
        const VERSION: i16 = 1;
        const TRIES: u32 = 10_000;
        let topics = vec![MetadataRequestTopic { name: Some(KStr::from(topic)), ..Default::default() }];
        let request = MetadataRequest { topics: Some(topics), ..Default::default() };
        for _ in 0..TRIES {
            let response = self.call(VERSION, &request)?;
            let found = response.topics.first().context("an answer without the topic asked for")?;
            match ErrorCode::from_code(found.error_code) {
                Some(ErrorCode::None) if !found.partitions.is_empty() => return Ok(found.partitions.len()),
                Some(error) if error != ErrorCode::None && !error.is_retriable() => {
                    bail!("topic {topic}: {}", error.name());
                }
                _ => {}
            }
            std::thread::park_timeout(Duration::from_micros(100));
        }
        bail!("topic {topic} is not there after {TRIES} requests for it")
    }

    /// Creates a topic with settings of its own.
    pub(crate) fn create_topic(
        &mut self,
        topic: &str,
        partitions: i32,
        settings: &[(&str, &str)],
    ) -> Result<()> {
        const VERSION: i16 = 5;
        let configs = settings.iter().map(|(name, value)| CreatableTopicConfig {
            name: KStr::from(*name),
            value: Some(KStr::from(*value)),
        });
        let topics = vec![CreatableTopic {
            name: KStr::from(topic),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.collect(),
            ..Default::default()
        }];
        let request = CreateTopicsRequest { topics, timeout_ms: 30_000, validate_only: false };
        let response = self.call(VERSION, &request)?;
        let created = response.topics.first().context("an answer without the topic")?;
        let why = created.error_message.as_deref().unwrap_or_default();
        let code = created.error_code;
        ensure!(code == ErrorCode::None.code(), "topic {topic} was refused with error {code} {why}");
        let found = self.await_topic(topic)?;
        ensure!(found == partitions as usize, "{found} partitions instead of {partitions}");
        Ok(())
    }

    /// Produces one batch to partition 0.
    pub(crate) fn produce(&mut self, topic: &str, batch: Bytes, acks: Acks) -> Result<()> {
        const VERSION: i16 = 7;
        let partition = PartitionProduceData { index: 0, records: Some(Chunk::Bytes(batch)) };
        let topic_data = TopicProduceData {
            name: KStr::from(topic),
            partition_data: vec![partition],
            ..Default::default()
        };
        let request = ProduceRequest {
            acks: match acks {
                Acks::Written => 1,
                Acks::Flushed => -1,
            },
            timeout_ms: 10_000,
            topic_data: vec![topic_data],
            ..Default::default()
        };
        let response = self.call(VERSION, &request)?;
        let partition = response.responses.first().and_then(|topic| topic.partition_responses.first());
        let code = partition.context("an answer without the partition")?.error_code;
        ensure!(code == ErrorCode::None.code(), "a batch was refused with error {code}");
        Ok(())
    }
}
