//! The handle that programs hold.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use millstream_client::{Client, Missing};

use crate::buffer::{Buffer, Pressing};
use crate::builder::ProducerBuilder;
use crate::delivery::Delivery;
use crate::error::{FlushError, SendError};
use crate::record::Record;

/// Sends records to the partitions of topics, in batches. Clones share buffer and connections.
///
/// When the last clone is dropped, what was accepted is still sent in the background as long as the runtime
/// lives; dropping never blocks. To know that everything arrived, [`close`](Self::close) it.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use millstream_client::Client;
/// use millstream_producer::{Producer, Record};
///
/// let client = Client::builder("127.0.0.1:9092").connect().await?;
/// let producer = Producer::builder(client).build();
///
/// // One record, acknowledged.
/// let delivery = producer.send(Record::to("orders").key("customer-7").value("two apples")).await?;
/// let written = delivery.await?;
/// println!("partition {}, offset {:?}", written.partition, written.offset);
///
/// // Many, and one look at the end.
/// for n in 0..1_000_000 {
///     drop(producer.send(Record::to("orders").value(&n.to_string())).await?);
/// }
/// producer.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Producer {
    handle: Arc<Handle>,
}

/// Makes a [`Client`] the start of a producer.
pub trait ProducerExt {
    /// Starts the settings of a producer, as [`Producer::builder`] does.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use millstream_client::Client;
    /// use millstream_producer::ProducerExt;
    ///
    /// let producer = Client::builder("127.0.0.1:9092").connect().await?.producer().build();
    /// # Ok(())
    /// # }
    /// ```
    fn producer(&self) -> ProducerBuilder;
}

impl ProducerExt for Client {
    fn producer(&self) -> ProducerBuilder {
        ProducerBuilder::new(self.clone())
    }
}

/// Closes the buffer when the last handle is gone.
struct Handle {
    client: Client,
    buffer: Arc<Buffer>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.buffer.close();
    }
}

/// Counts since the producer was built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProducerStats {
    /// Records accepted and not settled.
    pub buffered_records: u64,
    /// What they take of the buffer.
    pub buffered_bytes: u64,
    /// Records acknowledged.
    pub delivered_records: u64,
    /// Bytes of their batches as they were sent, compressed if they are.
    pub delivered_bytes: u64,
    /// Records that failed.
    pub failed_records: u64,
    /// Produce requests sent.
    pub requests: u64,
}

impl Producer {
    /// Starts with a client; the producer shares its metadata and opens connections of its own.
    pub fn builder(client: Client) -> ProducerBuilder {
        ProducerBuilder::new(client)
    }

    pub(crate) fn new(client: Client, buffer: Arc<Buffer>) -> Self {
        Self { handle: Arc::new(Handle { client, buffer }) }
    }

    /// Accepts a record. Waits while the buffer is full and, the first time a topic is used, for what the
    /// broker knows of it (which creates the topic, if the broker is set up to do that); not for the record
    /// to be sent. The returned handle resolves when the record is acknowledged.
    ///
    /// Records of one partition are written in the order in which their `send` calls complete.
    ///
    /// Cancel safe: a call that is dropped before it returns has accepted nothing.
    ///
    /// # Errors
    /// [`SendError`]: the record was not accepted.
    pub async fn send(&self, record: Record<'_>) -> Result<Delivery, SendError> {
        let Handle { client, buffer } = &*self.handle;
        // A loop that only sends must let the sender run too, on a runtime of one thread.
        tokio::task::coop::consume_budget().await;
        loop {
            if let Some(delivery) = buffer.append(&record).await? {
                return Ok(delivery);
            }
            let topic = client.topic(record.topic, Missing::Create).await;
            let topic =
                topic.map_err(|source| SendError::Topic { topic: record.topic.to_owned(), source })?;
            buffer.learn(&topic);
        }
    }

    /// Accepts a record if that is possible without waiting.
    ///
    /// # Errors
    /// As [`send`](Self::send); also [`SendError::BufferFull`], and [`SendError::TopicNotLoaded`] for a topic
    /// to which nothing has been sent yet.
    pub fn try_send(&self, record: &Record<'_>) -> Result<Delivery, SendError> {
        let delivery = self.handle.buffer.try_append(record)?;
        delivery.ok_or_else(|| SendError::TopicNotLoaded { topic: record.topic.to_owned() })
    }

    /// Sends what was accepted so far without lingering, and waits until all of it is acknowledged or failed.
    ///
    /// # Errors
    /// How many records failed since the last flush, and why the first of them did.
    pub async fn flush(&self) -> Result<(), FlushError> {
        self.handle.buffer.flush().await
    }

    /// Accepts nothing more, from any clone, and then does as [`flush`](Self::flush) does.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub async fn close(&self) -> Result<(), FlushError> {
        self.handle.buffer.close();
        self.handle.buffer.flush().await
    }

    /// How long to wait after so many failures in a row.
    pub(crate) fn backoff(&self, failures: u32) -> Duration {
        self.handle.client.backoff(failures)
    }

    /// Nothing lingers while the result lives.
    pub(crate) fn press(&self) -> Pressing<'_> {
        self.handle.buffer.press()
    }

    /// How much was sent so far.
    #[must_use]
    pub fn stats(&self) -> ProducerStats {
        self.handle.buffer.stats()
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
