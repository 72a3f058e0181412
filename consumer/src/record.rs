//! A record as it is handed out.

mod typed;

use bytes::Bytes;
use millstream_protocol::KStr;
use millstream_protocol::records::RecordHeader;

pub use typed::{Typed, Undecodable};

/// A record that was read. It owns what it holds: keep it, send it to another task, as you like.
///
/// Key, value and headers are slices of the bytes that arrived, or of what they decompress to, and keep those
/// in memory. Whoever keeps a few records of many for long calls [`detach`](Self::detach).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerRecord {
    /// Its topic.
    pub topic: KStr,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp in milliseconds since 1970; -1 for none.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; null deletes the key from a compacted topic.
    pub value: Option<Bytes>,
    /// Its headers, in order; names may repeat.
    pub headers: Vec<RecordHeader>,
    /// The epoch of the leader that wrote it; -1 if unknown.
    pub leader_epoch: i32,
}

impl ConsumerRecord {
    /// A copy that keeps nothing else in memory.
    #[must_use]
    pub fn detach(&self) -> Self {
        let own = |bytes: &Option<Bytes>| bytes.as_deref().map(Bytes::copy_from_slice);
        let header =
            |header: &RecordHeader| RecordHeader { key: header.key.detach(), value: own(&header.value) };
        Self {
            key: own(&self.key),
            value: own(&self.value),
            headers: self.headers.iter().map(header).collect(),
            ..self.clone()
        }
    }
}
