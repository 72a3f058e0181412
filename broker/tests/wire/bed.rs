//! What all these tests stand on: a broker with a folder of its own, and a client of few words.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use millstream_broker::{Broker, BrokerBuilder};
use millstream_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use millstream_protocol::messages::create_topics_response::CreatableTopicResult;
use millstream_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use millstream_protocol::messages::fetch_response::PartitionData;
use millstream_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use millstream_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millstream_protocol::messages::produce_response::PartitionProduceResponse;
use millstream_protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, FetchRequest, ListOffsetsRequest, ProduceRequest,
};
use millstream_protocol::records::{BatchBuilder, Compression, NewRecord, batches, records};
use millstream_protocol::{Chunk, KStr, Request, Uuid, decode_response, encode_request};
use tempfile::TempDir;

/// Longer than anything here takes; a test that hangs fails instead.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Bed {
    pub(crate) folder: TempDir,
    settings: Vec<(&'static str, String)>,
    broker: Option<Broker>,
}

impl Bed {
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    pub(crate) fn with(settings: &[(&'static str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let broker = builder(folder.path(), &settings).start().unwrap();
        Self { folder, settings, broker: Some(broker) }
    }

    pub(crate) fn broker(&self) -> &Broker {
        self.broker.as_ref().unwrap()
    }

    pub(crate) fn builder(&self) -> BrokerBuilder {
        builder(self.folder.path(), &self.settings)
    }

    pub(crate) fn stop(&mut self) {
        drop(self.broker.take().unwrap());
    }

    pub(crate) fn start(&mut self) {
        self.broker = Some(self.builder().start().unwrap());
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.broker().kafka_address())
    }

    /// A client, and a topic of one partition.
    pub(crate) fn with_topic(&self, name: &'static str) -> (Client, Uuid) {
        let mut client = self.client();
        let id = client.create_topic(name, 1, &[]).topic_id;
        (client, id)
    }
}

fn builder(folder: &Path, settings: &[(&'static str, String)]) -> BrokerBuilder {
    let base = Broker::builder().data_dir(folder.join("data")).listen("127.0.0.1:0");
    // Batches here are of 1970.
    let base = base.set("log.retention.ms", "-1");
    settings.iter().fold(base, |builder, (name, value)| builder.set(*name, value))
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    last_id: i32,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, last_id: 0 }
    }

    pub(crate) fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        self.last_id += 1;
        let chunks = encode_request(version, self.last_id, Some("test"), request).unwrap();
        let frame: Vec<u8> = chunks.into_iter().flat_map(|chunk| chunk.into_bytes().to_vec()).collect();
        self.stream.write_all(&frame).unwrap();
        self.last_id
    }

    /// Sends a frame as it is, with its length before it.
    pub(crate) fn stream_write(&mut self, frame: &[u8]) {
        let length = u32::try_from(frame.len()).unwrap();
        self.stream.write_all(&[&length.to_be_bytes(), frame].concat()).unwrap();
    }

    /// The next reply's frame without its length; `None` if the broker closed the connection.
    pub(crate) fn frame(&mut self) -> Option<Bytes> {
        let mut length = [0; 4];
        match self.stream.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("no reply in time"),
            Err(_) => return None,
        }
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame).unwrap();
        Some(Bytes::from(frame))
    }

    pub(crate) fn receive<R: Request>(&mut self, version: i16) -> (i32, R::Response) {
        let frame = self.frame().expect("the broker closed the connection instead of answering");
        decode_response::<R>(&frame, version).unwrap()
    }

    pub(crate) fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let id = self.send(version, request);
        let (answered, response) = self.receive::<R>(version);
        assert_eq!(answered, id);
        response
    }

    /// Whether a request is answered rather than the connection closed.
    pub(crate) fn try_call<R: Request>(&mut self, version: i16, request: &R) -> bool {
        self.last_id += 1;
        let chunks = encode_request(version, self.last_id, Some("test"), request).unwrap();
        let sent = chunks.into_iter().try_for_each(|chunk| self.stream.write_all(&chunk.into_bytes()));
        sent.is_ok() && self.frame().is_some()
    }

    pub(crate) fn is_closed(&mut self) -> bool {
        self.frame().is_none()
    }

    pub(crate) fn create_topic(
        &mut self,
        name: &'static str,
        partitions: i32,
        configs: &[(&'static str, &'static str)],
    ) -> CreatableTopicResult {
        let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
            name: KStr::from_static(name),
            value: Some(KStr::from_static(value)),
        });
        let topic = CreatableTopic {
            name: KStr::from_static(name),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.collect(),
            ..Default::default()
        };
        let response = self.call(7, &CreateTopicsRequest { topics: vec![topic], ..Default::default() });
        response.topics[0].clone()
    }

    /// Whether it worked.
    pub(crate) fn delete_topic(&mut self, name: &'static str) -> bool {
        let request = DeleteTopicsRequest {
            topic_names: vec![KStr::from_static(name)],
            timeout_ms: 10_000,
            ..Default::default()
        };
        self.call(4, &request).responses[0].error_code == 0
    }

    /// Produces a batch to partition 0 by name and returns what is said about it.
    pub(crate) fn produce(
        &mut self,
        topic: &'static str,
        batch: Bytes,
        acks: i16,
    ) -> PartitionProduceResponse {
        let response = self.call(9, &produce(topic, 0, batch, acks));
        response.responses[0].partition_responses[0].clone()
    }

    pub(crate) fn fetch(&mut self, topic: &'static str, offset: i64) -> PartitionData {
        let response = self.call(12, &fetch(topic, 0, offset));
        response.responses[0].partitions[0].clone()
    }

    pub(crate) fn offset_at(&mut self, topic: &'static str, timestamp: i64) -> i64 {
        let partition = ListOffsetsPartition { timestamp, ..Default::default() };
        let topic = ListOffsetsTopic { name: KStr::from_static(topic), partitions: vec![partition] };
        let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
        self.call(7, &request).topics[0].partitions[0].offset
    }

    pub(crate) fn log_end(&mut self, topic: &'static str) -> i64 {
        self.offset_at(topic, -1)
    }
}

pub(crate) fn batch(values: &[&str]) -> Bytes {
    batch_with(Compression::None, values)
}

pub(crate) fn batch_with(compression: Compression, values: &[&str]) -> Bytes {
    builder_of(compression, values).build()
}

pub(crate) fn builder_of(compression: Compression, values: &[&str]) -> BatchBuilder {
    let mut builder = BatchBuilder::new(compression);
    for value in values {
        let value = Some(value.as_bytes());
        builder.append(&NewRecord { timestamp: 1_000_000, key: Some(b"k"), value, headers: &[] });
    }
    builder
}

pub(crate) fn produce(topic: &'static str, partition: i32, batch: Bytes, acks: i16) -> ProduceRequest {
    let data = PartitionProduceData { index: partition, records: Some(Chunk::Bytes(batch)) };
    let topic =
        TopicProduceData { name: KStr::from_static(topic), partition_data: vec![data], ..Default::default() };
    ProduceRequest { acks, timeout_ms: 10_000, topic_data: vec![topic], ..Default::default() }
}

/// Answered at once with whatever there is.
pub(crate) fn fetch(topic: &'static str, partition: i32, offset: i64) -> FetchRequest {
    let topic = FetchTopic {
        topic: KStr::from_static(topic),
        partitions: vec![want(partition, offset)],
        ..Default::default()
    };
    FetchRequest { max_wait_ms: 0, min_bytes: 1, topics: vec![topic], ..Default::default() }
}

pub(crate) fn want(partition: i32, fetch_offset: i64) -> FetchPartition {
    FetchPartition { partition, fetch_offset, partition_max_bytes: 1 << 20, ..Default::default() }
}

/// Offsets and values of all records in a partition's reply.
pub(crate) fn values(data: &PartitionData) -> Vec<(i64, String)> {
    let mut values = Vec::new();
    for batch in batches(bytes(data)) {
        for record in records(&batch.unwrap(), 1 << 30).unwrap() {
            let record = record.unwrap();
            let value = String::from_utf8(record.value.unwrap_or_default().to_vec()).unwrap();
            values.push((record.offset, value));
        }
    }
    values
}

pub(crate) fn bytes(data: &PartitionData) -> Bytes {
    data.records.clone().map(Chunk::into_bytes).unwrap_or_default()
}
