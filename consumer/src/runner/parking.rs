//! Puts records that cannot be handled into a topic of their own, with where they come from.
//!
//! One record, one Produce with `acks=all`, again until it is answered: at least once, as everything that a
//! runner does. A producer would add batching and idempotence, which neither the rate of poison nor that
//! guarantee asks for.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use millstream_client::{CallOptions, Client, ClientError, Missing, To};
use millstream_protocol::messages::ProduceRequest;
use millstream_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millstream_protocol::records::{BatchBuilder, Compression, NewRecord, RecordHeader};
use millstream_protocol::{Chunk, ErrorCode, KStr};
use tokio::time::Instant;

use crate::record::ConsumerRecord;

/// Names of the headers that a parked record has in addition to its own, behind them. Values are text.
pub mod header {
    /// The topic it was consumed from.
    pub const TOPIC: &str = "parked.topic";
    /// The partition.
    pub const PARTITION: &str = "parked.partition";
    /// The offset.
    pub const OFFSET: &str = "parked.offset";
    /// Its timestamp there, in milliseconds since 1970.
    pub const TIMESTAMP: &str = "parked.timestamp";
    /// What the handler said last, cut after 1 KiB.
    pub const ERROR: &str = "parked.error";
    /// How often it was tried.
    pub const ATTEMPTS: &str = "parked.attempts";
}

/// The newest Produce that names topics by name.
const BY_NAME_UP_TO: i16 = 12;
const ACKS_ALL: i16 = -1;
/// What a handler says may be as long as it likes, but a record may not.
const ERROR_BYTES_MAX: usize = 1024;

/// Why a record cannot be parked.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ParkError {
    /// The broker refuses it.
    #[error("topic {topic:?} refuses it: {message} ({})", code.name())]
    Refused {
        /// The topic to park in.
        topic: String,
        /// The broker's reason.
        code: ErrorCode,
        /// Its words, or the meaning of the code.
        message: String,
    },
    /// The broker gives no usable answer.
    #[error(transparent)]
    Request(#[from] ClientError),
}

impl ParkError {
    /// Whether trying again may help.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Refused { code, .. } => code.is_retriable(),
            Self::Request(error) => error.is_retriable(),
        }
    }
}

/// Writes to the topic in which records are parked.
#[derive(Debug, Clone)]
pub(super) struct Parking {
    client: Client,
    topic: KStr,
}

impl Parking {
    pub(super) fn new(client: &Client, topic: KStr) -> Self {
        Self { client: client.isolated(), topic }
    }

    /// Parks a record. When it returns it is on the broker's disk.
    ///
    /// Goes on trying for the client's total timeout. The record may be there twice if an answer was lost, and may be
    /// there although this fails.
    pub(super) async fn park(
        &self,
        record: &ConsumerRecord,
        (reason, attempts): (&str, u32),
    ) -> Result<(), ParkError> {
        let batch = batch(record, (reason, attempts), now_ms());
        let deadline = Instant::now() + self.client.total_timeout();
        let mut failures = 0;
        loop {
            let error = match self.write(record.partition, batch.clone()).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            failures += 1;
            let wait = self.client.backoff(failures);
            if !error.is_retriable() || Instant::now() + wait > deadline {
                return Err(error);
            }
            tracing::debug!(%error, ?wait, topic = %self.topic, "parking again");
            self.client.invalidate(&self.topic);
            tokio::time::sleep(wait).await;
        }
    }

    async fn write(&self, origin: i32, batch: Bytes) -> Result<(), ParkError> {
        let metadata = self.client.topic(&self.topic, Missing::Create).await?;
        // Records of one partition stay together, in their order.
        let count = i32::try_from(metadata.partitions.len()).unwrap_or(i32::MAX).max(1);
        let index = origin.rem_euclid(count);
        let timeout = self.client.request_timeout();
        let data = PartitionProduceData { index, records: Some(Chunk::Bytes(batch)) };
        let request = ProduceRequest {
            transactional_id: None,
            acks: ACKS_ALL,
            timeout_ms: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
            topic_data: vec![TopicProduceData {
                name: self.topic.clone(),
                topic_id: metadata.id,
                partition_data: vec![data],
            }],
        };
        let options = CallOptions { newest_version: Some(BY_NAME_UP_TO), ..Default::default() };
        let connection = self.client.connection(To::Leader(&self.topic, index)).await?;
        let response = connection.send(&request, options).await?.await?;
        let mut answers = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        let answer = answers.next();
        let code = answer.map(|answer| answer.error_code).map_or(ErrorCode::UnknownServerError, |code| {
            ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError)
        });
        if code == ErrorCode::None {
            return Ok(());
        }
        let words = answer.and_then(|answer| answer.error_message.as_deref());
        let message = words.unwrap_or(code.message()).to_owned();
        Err(ParkError::Refused { topic: self.topic.to_string(), code, message })
    }
}

/// The batch of one record that is parked.
fn batch(record: &ConsumerRecord, (reason, attempts): (&str, u32), now_ms: i64) -> Bytes {
    let mut headers = record.headers.clone();
    let mut add = |name: &'static str, value: String| {
        headers.push(RecordHeader { key: KStr::from(name), value: Some(Bytes::from(value)) });
    };
    add(header::TOPIC, record.topic.to_string());
    add(header::PARTITION, record.partition.to_string());
    add(header::OFFSET, record.offset.to_string());
    add(header::TIMESTAMP, record.timestamp.to_string());
    add(header::ERROR, reason[..reason.floor_char_boundary(ERROR_BYTES_MAX)].to_owned());
    add(header::ATTEMPTS, attempts.to_string());
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(&NewRecord {
        // When it was parked: with its own, old one retention might take it before anybody has looked.
        timestamp: now_ms,
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers: &headers,
    });
    builder.build()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the seam: millstream-log, which owns the clock, is not a client's"
)]
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use millstream_protocol::records::records;

    use super::*;

    #[test]
    fn a_parked_record_is_what_it_was_and_tells_where_it_was() {
        let header = |key: &'static str, value: &'static str| RecordHeader {
            key: KStr::from(key),
            value: Some(Bytes::from(value)),
        };
        let record = ConsumerRecord {
            topic: KStr::from("orders"),
            partition: 3,
            offset: 42,
            timestamp: 1_000,
            key: Some(Bytes::from("k")),
            value: None,
            headers: vec![header("version", "1")],
            leader_epoch: 0,
        };
        let long = "\u{e4}".repeat(2000);
        let batch = batch(&record, (&long, 7), 2_000);
        let parked = records(&batch, 1 << 20).unwrap().next().unwrap().unwrap();
        assert_eq!((&parked.key, &parked.value, parked.timestamp), (&record.key, &None, 2_000));
        let told: Vec<_> = parked.headers.iter().map(|header| (&*header.key, header.value.clone())).collect();
        let text = |value: &'static str| Some(Bytes::from(value));
        assert_eq!(told[0], ("version", text("1")));
        assert_eq!(told[1], ("parked.topic", text("orders")));
        assert_eq!(told[2], ("parked.partition", text("3")));
        assert_eq!(told[3], ("parked.offset", text("42")));
        assert_eq!(told[4], ("parked.timestamp", text("1000")));
        assert_eq!(told[5].1.as_ref().map(Bytes::len), Some(1024));
        assert_eq!(told[6], ("parked.attempts", text("7")));
    }
}
