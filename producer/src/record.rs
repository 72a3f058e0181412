//! What is sent, and what is known of it once it has been written.

use bytes::Bytes;
use millstream_protocol::KStr;
use millstream_protocol::records::RecordHeader;

/// A record to send. It borrows what it carries; sending copies the bytes once, into their batch.
///
/// ```
/// use millstream_producer::Record;
///
/// let order = String::from("two apples");
/// let record = Record::to("orders").key("customer-7").value(&order).header("version", "1");
/// assert_eq!(record.topic(), "orders");
/// ```
#[derive(Debug, Clone)]
#[must_use = "a record is sent by Producer::send"]
pub struct Record<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: Option<i32>,
    pub(crate) timestamp: Option<i64>,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: Vec<RecordHeader>,
}

impl<'a> Record<'a> {
    /// An empty record for a topic: no key, and null as its value.
    pub fn to(topic: &'a str) -> Self {
        Self { topic, partition: None, timestamp: None, key: None, value: None, headers: Vec::new() }
    }

    /// Its topic.
    #[must_use]
    pub fn topic(&self) -> &'a str {
        self.topic
    }

    /// Its key.
    #[must_use]
    pub fn key_bytes(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// Its value.
    #[must_use]
    pub fn value_bytes(&self) -> Option<&'a [u8]> {
        self.value
    }

    /// Records with equal keys go to the same partition, in the order in which they are sent.
    pub fn key<T: AsRef<[u8]> + ?Sized>(mut self, key: &'a T) -> Self {
        self.key = Some(key.as_ref());
        self
    }

    /// What it says. Without a value it is a tombstone: a compacted topic forgets the key.
    pub fn value<T: AsRef<[u8]> + ?Sized>(mut self, value: &'a T) -> Self {
        self.value = Some(value.as_ref());
        self
    }

    /// Adds a header. Names may repeat, and their order is kept.
    pub fn header<T: AsRef<[u8]> + ?Sized>(mut self, name: impl Into<KStr>, value: &T) -> Self {
        let value = Some(Bytes::copy_from_slice(value.as_ref()));
        self.headers.push(RecordHeader { key: name.into(), value });
        self
    }

    /// Replaces all headers, for example with those of a record that was consumed.
    pub fn headers(mut self, headers: Vec<RecordHeader>) -> Self {
        self.headers = headers;
        self
    }

    /// Sends it to this partition, whatever its key.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// When it happened, in milliseconds since 1970. Default: when it is sent.
    pub fn timestamp(mut self, milliseconds: i64) -> Self {
        self.timestamp = Some(milliseconds);
        self
    }
}

/// Where a record was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordMetadata {
    /// Its topic.
    pub topic: KStr,
    /// Its partition.
    pub partition: i32,
    /// Its offset. Unknown with [`Acks::None`](crate::Acks::None), and for a batch that the broker had
    /// written so long before it was asked again that it no longer knows where.
    pub offset: Option<i64>,
    /// Its timestamp in milliseconds since 1970: the broker's, if the topic keeps time by that, else its own.
    pub timestamp: i64,
}
