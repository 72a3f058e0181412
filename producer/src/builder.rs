//! Settings of a producer.

mod properties;

use std::sync::Arc;
use std::time::Duration;

use millstream_client::Client;
use millstream_protocol::KStr;
use millstream_protocol::records::Codec;

use crate::buffer::{Buffer, BufferSettings};
use crate::partitioner::{Murmur2, Partitioner};
use crate::producer::Producer;
use crate::sender::{Sender, SenderSettings, Transactor};
use crate::transaction::{Desk, Patience, TransactionError, TransactionalProducer};

/// Largest batch that brokers accept by default (`max.message.bytes`), with some room for its header.
const BROKER_BATCH_BYTES: usize = 1_000_000;

/// Which copies of a batch must be written before it counts as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acks {
    /// None: the broker does not answer at all. A record counts as delivered once it is handed to the
    /// operating system, and may be lost without anybody noticing.
    None,
    /// The leader's, in its memory.
    Leader,
    /// Those of all replicas that are in sync; with Millstream on one node: on its disk.
    #[default]
    All,
}

impl Acks {
    pub(crate) fn wire(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// Whether batches carry sequence numbers, by which the broker recognises one that it has written already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Idempotence {
    /// They do. A batch whose answer was lost is sent again, and is there once, in its place.
    #[default]
    On,
    /// They do not. A batch whose answer was lost is not sent again, for it might then be there twice: its
    /// records fail, and say that they may be written.
    Off,
}

/// Builds a [`Producer`].
#[derive(Debug, Clone)]
#[must_use = "call build()"]
pub struct ProducerBuilder {
    client: Client,
    acks: Acks,
    idempotence: Idempotence,
    delivery_timeout: Duration,
    buffer: BufferSettings,
}

impl ProducerBuilder {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            acks: Acks::default(),
            idempotence: Idempotence::default(),
            delivery_timeout: Duration::from_secs(120),
            buffer: BufferSettings {
                codec: Codec::default(),
                partitioner: Arc::new(Murmur2),
                batch_bytes: 256 * 1024,
                batch_records: u32::MAX,
                buffer_bytes: 32 * 1024 * 1024,
                record_bytes_max: BROKER_BATCH_BYTES,
                linger: None,
            },
        }
    }

    /// When a record counts as written. Default: [`Acks::All`].
    pub fn acks(mut self, acks: Acks) -> Self {
        self.acks = acks;
        self
    }

    /// Whether a batch that may have been written is sent again without being written twice. Default:
    /// [`Idempotence::On`]; without acknowledgements there is nothing to repeat, and it has no effect.
    pub fn idempotence(mut self, idempotence: Idempotence) -> Self {
        self.idempotence = idempotence;
        self
    }

    /// How batches are compressed: a [`Compression`](crate::Compression), or
    /// [one at a level](crate::Compression::at_level). Default: not at all.
    pub fn compression(mut self, codec: impl Into<Codec>) -> Self {
        self.buffer.codec = codec.into();
        self
    }

    /// Which partition a record goes to that does not name one. Default: [`Murmur2`], as in Kafka's own producer.
    pub fn partitioner(mut self, partitioner: impl Partitioner + 'static) -> Self {
        self.buffer.partitioner = Arc::new(partitioner);
        self
    }

    /// How long a batch waits for more records, whatever else happens.
    ///
    /// Without this setting it waits for nothing unless its partition has a batch in flight; then it gathers
    /// records until that one is answered. So a lone record leaves at once, and batches grow with the load.
    ///
    /// With zero every record leaves at once, whatever is in flight: up to five requests for each partition, and after
    /// that batches of what has come meanwhile.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.buffer.linger = Some(linger);
        self
    }

    /// A batch that has grown to this size leaves at once. Counted before compression; one that turns out to be
    /// too large for its topic is divided. Default: 256 KiB.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.buffer.batch_bytes = bytes.clamp(1, i32::MAX as usize / 2);
        self
    }

    /// A batch that has so many records leaves at once. Default: no limit but [`batch_bytes`](Self::batch_bytes).
    pub fn batch_records(mut self, records: u32) -> Self {
        self.buffer.batch_records = records.max(1);
        self
    }

    /// Memory for records that are not settled; when it is full, sending waits. Default: 32 MiB.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer.buffer_bytes = bytes.clamp(1, tokio::sync::Semaphore::MAX_PERMITS);
        self
    }

    /// A larger record is refused. Raise it together with the topic's `max.message.bytes`. Default: 1 MB,
    /// a little less than brokers accept by default.
    pub fn max_record_bytes(mut self, bytes: usize) -> Self {
        self.buffer.record_bytes_max = bytes;
        self
    }

    /// How long a record may take from being accepted to being acknowledged, all attempts together; after
    /// that it fails. Default: 2 min.
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.delivery_timeout = timeout;
        self
    }

    /// Starts the producer: one task in the background, and connections of its own.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn build(self) -> Producer {
        self.start(|_| None)
    }

    fn start(self, transactor: impl FnOnce(&Arc<Buffer>) -> Option<Transactor>) -> Producer {
        let buffer = Arc::new(Buffer::new(self.buffer));
        let settings = SenderSettings {
            acks: self.acks,
            is_idempotent: self.idempotence == Idempotence::On && self.acks != Acks::None,
            delivery_timeout: self.delivery_timeout,
        };
        let transactor = transactor(&buffer);
        tokio::spawn(Sender::new(self.client.clone(), buffer.clone(), settings, transactor).run());
        Producer::new(self.client, buffer)
    }

    /// Goes on to a producer that owns this transactional id, and writes in transactions only. The id should be the
    /// same after a restart, and no two instances should have it at a time.
    pub fn transactional_id(self, id: impl Into<KStr>) -> TransactionalProducerBuilder {
        TransactionalProducerBuilder { producer: self, id: id.into(), timeout: Duration::from_secs(60) }
    }
}

/// Builds a [`TransactionalProducer`]; from [`ProducerBuilder::transactional_id`].
#[derive(Debug, Clone)]
#[must_use = "call build()"]
pub struct TransactionalProducerBuilder {
    producer: ProducerBuilder,
    id: KStr,
    timeout: Duration,
}

impl TransactionalProducerBuilder {
    /// The broker aborts a transaction that takes longer than this, and fences its producer. Brokers allow 15 min by
    /// default. Default: 60 s.
    pub fn transaction_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Claims the transactional id: an earlier instance that has it is fenced, and what it had open is aborted. Starts
    /// the producer: one task in the background, and connections of its own.
    ///
    /// Cancel safe: the id may have been claimed, and nothing else has happened.
    ///
    /// # Errors
    /// That settings contradict each other (transactions need [`Acks::All`] and [`Idempotence::On`]), that the broker
    /// refuses, or that it could not be asked within the client's total timeout.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn build(self) -> Result<TransactionalProducer, TransactionError> {
        let Self { producer, id, timeout } = self;
        if producer.acks != Acks::All {
            return Err(TransactionError::Settings("transactions need acks from all replicas: Acks::All"));
        }
        if producer.idempotence == Idempotence::Off {
            return Err(TransactionError::Settings("transactions need idempotence: Idempotence::On"));
        }
        let patience =
            Patience { coordinator: producer.client.total_timeout(), delivery: producer.delivery_timeout };
        let mut desk = None;
        let producer = producer.start(|buffer| {
            let desk = desk.insert(Desk::new(buffer.clone()));
            Some(Transactor::new(id, timeout, desk.clone()))
        });
        let desk = desk.expect("it was made a moment ago");
        let producer = TransactionalProducer::new(producer, desk, patience);
        producer.claim().await?;
        Ok(producer)
    }
}
