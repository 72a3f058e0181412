//! Settings of a producer.

use std::sync::Arc;
use std::time::Duration;

use millstream_client::Client;
use millstream_protocol::records::Compression;

use crate::buffer::{Buffer, BufferSettings};
use crate::producer::Producer;
use crate::sender::{Sender, SenderSettings};

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
                compression: Compression::None,
                batch_bytes: 256 * 1024,
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

    /// How batches are compressed. Default: not at all.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.buffer.compression = compression;
        self
    }

    /// How long a batch waits for more records, whatever else happens.
    ///
    /// Without this setting it waits for nothing unless its partition has a batch in flight; then it gathers
    /// records until that one is answered. So a lone record leaves at once, and batches grow with the load.
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
        let buffer = Arc::new(Buffer::new(self.buffer));
        let settings = SenderSettings {
            acks: self.acks,
            is_idempotent: self.idempotence == Idempotence::On && self.acks != Acks::None,
            delivery_timeout: self.delivery_timeout,
        };
        tokio::spawn(Sender::new(self.client.clone(), buffer.clone(), settings).run());
        Producer::new(self.client, buffer)
    }
}
