//! A client that hides nothing: one connection, one request at a time, no retries.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use millstream_log::{Clock as _, SystemClock};
use millstream_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use millstream_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use millstream_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use millstream_protocol::messages::metadata_request::MetadataRequestTopic;
use millstream_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millstream_protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, FetchRequest, ListOffsetsRequest, MetadataRequest,
    ProduceRequest,
};
use millstream_protocol::records::{BatchBuilder, Compression, NewRecord, batches, records};
use millstream_protocol::{Chunk, ErrorCode, KStr, Request, decode_response, encode_request};

use super::payload;
use crate::history::{Key, Polled, Value, crc_of};

/// Longer than any answer takes; it is cut off then.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection.
#[derive(Debug)]
pub(in crate::proof) struct Wire {
    stream: TcpStream,
    last_id: i32,
}

/// Where a batch goes.
#[derive(Debug, Clone, Copy)]
pub(in crate::proof) struct Target<'a> {
    pub(in crate::proof) topic: &'a str,
    pub(in crate::proof) partition: i32,
    pub(in crate::proof) acks: i16,
}

/// What was said about a batch.
#[derive(Debug, Clone)]
pub(in crate::proof) struct Answer {
    pub(in crate::proof) code: ErrorCode,
    pub(in crate::proof) base_offset: i64,
    pub(in crate::proof) message: Option<String>,
}

/// What was read.
#[derive(Debug, Clone)]
pub(in crate::proof) struct Fetched {
    pub(in crate::proof) code: ErrorCode,
    pub(in crate::proof) high_watermark: i64,
    pub(in crate::proof) records: Vec<Polled>,
}

impl Wire {
    pub(in crate::proof) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, last_id: 0 })
    }

    /// From now on an answer that takes longer is an error.
    pub(in crate::proof) fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(time))
    }

    /// Sends a request and waits for its answer.
    pub(in crate::proof) fn call<R: Request>(
        &mut self,
        version: i16,
        request: &R,
    ) -> io::Result<R::Response> {
        self.last_id += 1;
        let wrong =
            |error: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
        let chunks =
            encode_request(version, self.last_id, Some("proof"), request).map_err(|error| wrong(&error))?;
        let frame: Vec<u8> = chunks.into_iter().flat_map(|chunk| chunk.into_bytes().to_vec()).collect();
        self.stream.write_all(&frame)?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame)?;
        let (_, response) =
            decode_response::<R>(&Bytes::from(frame), version).map_err(|error| wrong(&error))?;
        Ok(response)
    }

    pub(in crate::proof) fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> io::Result<()> {
        let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
            name: KStr::from(*name),
            value: Some(KStr::from(*value)),
        });
        let topic = CreatableTopic {
            name: KStr::from(name),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.collect(),
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 60_000, ..Default::default() };
        let created = self.call(7, &request)?.topics.into_iter().next();
        match created {
            Some(topic) if topic.error_code == 0 => Ok(()),
            other => Err(io::Error::other(format!("topic {name} was not created: {other:?}"))),
        }
    }

    pub(in crate::proof) fn delete_topic(&mut self, name: &str) -> io::Result<()> {
        let request = DeleteTopicsRequest {
            topic_names: vec![KStr::from(name)],
            timeout_ms: 60_000,
            ..Default::default()
        };
        let deleted = self.call(5, &request)?.responses.into_iter().next();
        match deleted {
            Some(topic) if topic.error_code == 0 => Ok(()),
            other => Err(io::Error::other(format!("topic {name} was not deleted: {other:?}"))),
        }
    }

    /// Sends one batch. An error means that nobody knows whether it was written.
    pub(in crate::proof) fn produce(&mut self, to: Target<'_>, batch: Bytes) -> io::Result<Answer> {
        let data = PartitionProduceData { index: to.partition, records: Some(Chunk::Bytes(batch)) };
        let topic =
            TopicProduceData { name: KStr::from(to.topic), partition_data: vec![data], ..Default::default() };
        let request = ProduceRequest {
            acks: to.acks,
            timeout_ms: 10_000,
            topic_data: vec![topic],
            ..Default::default()
        };
        let response = self.call(9, &request)?;
        let mut answers = response.responses.into_iter().flat_map(|topic| topic.partition_responses);
        let answer = answers.next().ok_or_else(|| io::Error::other("an answer without a partition"))?;
        Ok(Answer {
            code: known(answer.error_code),
            base_offset: answer.base_offset,
            message: answer.error_message.map(|message| message.to_string()),
        })
    }

    /// The leader epoch of a partition.
    pub(in crate::proof) fn leader_epoch(&mut self, topic: &str, key: Key) -> io::Result<i32> {
        let topic = MetadataRequestTopic { name: Some(KStr::from(topic)), ..Default::default() };
        let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
        let topics = self.call(9, &request)?.topics;
        let mut partitions = topics.into_iter().flat_map(|topic| topic.partitions);
        let partition = partitions.find(|partition| partition.partition_index == key as i32);
        Ok(partition.ok_or_else(|| io::Error::other("metadata without the partition"))?.leader_epoch)
    }

    /// The first offset of a partition.
    pub(in crate::proof) fn log_start(&mut self, topic: &str, key: Key) -> io::Result<i64> {
        let partition =
            ListOffsetsPartition { partition_index: key as i32, timestamp: -2, ..Default::default() };
        let topic = ListOffsetsTopic { name: KStr::from(topic), partitions: vec![partition] };
        let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
        let topics = self.call(7, &request)?.topics;
        let mut partitions = topics.into_iter().flat_map(|topic| topic.partitions);
        let partition = partitions.next().ok_or_else(|| io::Error::other("an answer without a partition"))?;
        match known(partition.error_code) {
            ErrorCode::None => Ok(partition.offset),
            code => Err(io::Error::other(format!("no first offset of partition {key}: {}", code.name()))),
        }
    }

    /// Reads from an offset, with whatever is there at once.
    pub(in crate::proof) fn fetch(&mut self, topic: &str, key: Key, offset: i64) -> io::Result<Fetched> {
        let partition = FetchPartition {
            partition: key as i32,
            fetch_offset: offset,
            partition_max_bytes: 4 << 20,
            ..Default::default()
        };
        let topic =
            FetchTopic { topic: KStr::from(topic), partitions: vec![partition], ..Default::default() };
        let request = FetchRequest {
            max_wait_ms: 0,
            min_bytes: 1,
            max_bytes: 4 << 20,
            topics: vec![topic],
            ..Default::default()
        };
        let response = self.call(12, &request)?;
        let mut data = response.responses.into_iter().flat_map(|topic| topic.partitions);
        let data = data.next().ok_or_else(|| io::Error::other("an answer without a partition"))?;
        let mut fetched = Fetched {
            code: known(data.error_code),
            high_watermark: data.high_watermark,
            records: Vec::new(),
        };
        let wrong =
            |error| io::Error::new(io::ErrorKind::InvalidData, format!("a batch that is none: {error}"));
        for batch in batches(data.records.map(Chunk::into_bytes).unwrap_or_default()) {
            for record in records(&batch.map_err(wrong)?, 64 << 20).map_err(wrong)? {
                let record = record.map_err(wrong)?;
                let (name, value) = (record.key.unwrap_or_default(), record.value.unwrap_or_default());
                if record.offset >= offset {
                    fetched.records.push(polled(key, record.offset, &name, &value));
                }
            }
        }
        Ok(fetched)
    }
}

/// A record that was read, as the history notes it.
pub(in crate::proof) fn polled(key: Key, offset: i64, name: &[u8], value: &[u8]) -> Polled {
    Polled { key, offset, value: payload::value_of(value), crc: crc_of(name, value) }
}

/// A batch of the records that say this.
pub(in crate::proof) fn batch(values: &[Value]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for value in values {
        let (key, value) = payload::record(*value);
        let timestamp = SystemClock.now_ms();
        builder.append(&NewRecord { timestamp, key: Some(&key), value: Some(&value), headers: &[] });
    }
    builder.build()
}

pub(super) fn known(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError)
}
