//! A producer on a bare connection, idempotent or transactional: producer id, epoch and sequences, and nothing that retries.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use millstream_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millstream_protocol::messages::{
    EndTxnRequest, FindCoordinatorRequest, InitProducerIdRequest, ProduceRequest,
};
use millstream_protocol::records::{BatchBuilder, Compression, NewRecord};
use millstream_protocol::{Chunk, ErrorCode, KStr};

use crate::wire::Connection;

const FIND_VERSION: i16 = 3;
/// The transactional id's, as `FindCoordinator` numbers them.
const TRANSACTION: i8 = 1;
const INIT_VERSION: i16 = 4;
/// The first version whose partitions join the transaction by being written.
const PRODUCE_VERSION: i16 = 12;
/// The first version that answers with the next transaction's epoch.
const END_VERSION: i16 = 5;
/// Every transaction here is over long before.
const TIMEOUT_MS: i32 = 600_000;
/// Tries, a few milliseconds apart, until a coordinator is there.
const TRIES: u32 = 5_000;

/// Records to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) records: u32,
    pub(super) value_bytes: usize,
}

/// Writes to one partition.
#[derive(Debug)]
pub(super) struct Writer {
    connection: Connection,
    transactional_id: Option<KStr>,
    topic: KStr,
    partition: i32,
    producer_id: i64,
    epoch: i16,
    sequence: i32,
    /// Requests that are not answered yet.
    in_flight: VecDeque<i32>,
}

impl Writer {
    /// One that writes without transactions.
    pub(super) fn idempotent(address: SocketAddr, topic: &str, partition: i32) -> Result<Self> {
        Self::open(address, None, topic, partition)
    }

    /// One whose records all belong to transactions.
    pub(super) fn transactional(address: SocketAddr, id: &str, topic: &str, partition: i32) -> Result<Self> {
        Self::open(address, Some(KStr::from(id)), topic, partition)
    }

    fn open(address: SocketAddr, id: Option<KStr>, topic: &str, partition: i32) -> Result<Self> {
        let mut connection = Connection::open(address)?;
        if let Some(id) = &id {
            let request =
                FindCoordinatorRequest { key: id.clone(), key_type: TRANSACTION, ..Default::default() };
            until_there(|| Ok((connection.call(FIND_VERSION, &request)?.error_code, ())))?;
        }
        let request = InitProducerIdRequest {
            transactional_id: id.clone(),
            transaction_timeout_ms: TIMEOUT_MS,
            ..Default::default()
        };
        let (producer_id, epoch) = until_there(|| {
            let answer = connection.call(INIT_VERSION, &request)?;
            Ok((answer.error_code, (answer.producer_id, answer.producer_epoch)))
        })?;
        let in_flight = VecDeque::new();
        let topic = KStr::from(topic);
        Ok(Self {
            connection,
            transactional_id: id,
            topic,
            partition,
            producer_id,
            epoch,
            sequence: 0,
            in_flight,
        })
    }

    /// Sends a batch without waiting for its answer.
    pub(super) fn send(&mut self, load: Load) -> Result<()> {
        let records = Some(Chunk::Bytes(self.batch(load)));
        let request = ProduceRequest {
            transactional_id: self.transactional_id.clone(),
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![TopicProduceData {
                name: self.topic.clone(),
                partition_data: vec![PartitionProduceData { index: self.partition, records }],
                ..Default::default()
            }],
        };
        self.in_flight.push_back(self.connection.send(PRODUCE_VERSION, &request)?);
        Ok(())
    }

    /// Waits until at most so many batches are not answered.
    pub(super) fn settle(&mut self, left: usize) -> Result<()> {
        while self.in_flight.len() > left {
            let id = self.in_flight.pop_front().context("nothing is in flight")?;
            let answer = self.connection.receive::<ProduceRequest>(PRODUCE_VERSION, id)?;
            let partition = answer.responses.first().and_then(|topic| topic.partition_responses.first());
            let code = partition.context("an answer without the partition")?.error_code;
            ensure!(code == ErrorCode::None.code(), "a batch was refused with error {code}");
        }
        Ok(())
    }

    /// Commits the transaction.
    pub(super) fn commit(&mut self) -> Result<()> {
        let request = EndTxnRequest {
            transactional_id: self.transactional_id.clone().context("an idempotent writer")?,
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            committed: true,
        };
        let answer = self.connection.call(END_VERSION, &request)?;
        ensure!(
            answer.error_code == ErrorCode::None.code(),
            "a commit was refused with error {}",
            answer.error_code
        );
        (self.producer_id, self.epoch, self.sequence) = (answer.producer_id, answer.producer_epoch, 0);
        Ok(())
    }

    fn batch(&mut self, load: Load) -> Bytes {
        let value = vec![b'm'; load.value_bytes];
        let capacity = load.records as usize * (load.value_bytes + 16);
        let mut batch = BatchBuilder::with_capacity(Compression::None, capacity);
        batch.producer(self.producer_id, self.epoch, self.sequence);
        if self.transactional_id.is_some() {
            batch.transactional();
        }
        for _ in 0..load.records {
            batch.append(&NewRecord { timestamp: 1, value: Some(&value), ..Default::default() });
        }
        self.sequence = self.sequence.wrapping_add_unsigned(load.records) & i32::MAX;
        batch.build()
    }
}

/// Asks again while a coordinator is made, found or loaded.
fn until_there<T>(mut ask: impl FnMut() -> Result<(i16, T)>) -> Result<T> {
    for _ in 0..TRIES {
        let (code, answer) = ask()?;
        match ErrorCode::from_code(code) {
            Some(ErrorCode::None) => return Ok(answer),
            Some(error) if error.is_retriable() => std::thread::park_timeout(Duration::from_millis(2)),
            Some(error) => bail!("the coordinator refuses: {}", error.name()),
            None => bail!("the coordinator refuses with error {code}"),
        }
    }
    bail!("no coordinator after {TRIES} requests")
}
