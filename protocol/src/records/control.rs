//! Control batches: what the broker writes between the records of producers, to say how transactions ended.
//!
//! A marker is a batch of one record with the transactional and the control bit, the producer's id and epoch
//! and no sequence. Key and value of the record, big-endian:
//!
//! ```text
//! key    0  2  version, 0        value  0  2  version, 0
//!        2  2  0 abort,                 2  4  epoch of the coordinator that decided
//!              1 commit
//! ```
//!
//! Later versions may be longer: what is known comes first. Types that are not known are of no concern to a log.

use bytes::Bytes;

use super::batch::{CONTROL_BIT, TRANSACTIONAL_BIT};
use super::{BatchBuilder, BatchView, Compression, NewRecord, with_spans};

/// A marker is not compressed, and has no more than this.
const MARKER_BYTES_MAX: usize = 1 << 10;

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransactionOutcome {
    /// Its records do not count.
    Abort,
    /// Its records count.
    Commit,
}

/// What a marker says, beside who wrote and in which epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndMarker {
    /// How the transaction ended.
    pub outcome: TransactionOutcome,
    /// Epoch of the coordinator that decided so.
    pub coordinator_epoch: i32,
}

impl EndMarker {
    /// The batch that says it, for the producer of this id and epoch.
    #[must_use]
    pub fn to_batch(self, producer: i64, epoch: i16, timestamp: i64) -> Bytes {
        let kind: i16 = match self.outcome {
            TransactionOutcome::Abort => 0,
            TransactionOutcome::Commit => 1,
        };
        let (mut key, mut value) = ([0; 4], [0; 6]);
        key[2..].copy_from_slice(&kind.to_be_bytes());
        value[2..].copy_from_slice(&self.coordinator_epoch.to_be_bytes());
        let mut builder = BatchBuilder::new(Compression::None);
        builder.producer(producer, epoch, -1).attributes(TRANSACTIONAL_BIT | CONTROL_BIT);
        builder.append(&NewRecord { timestamp, key: Some(&key), value: Some(&value), headers: &[] });
        builder.build()
    }

    /// What a control batch says; `None` if it is none, was emptied by compaction, or is of a type that ends no
    /// transaction. The CRC is not checked.
    #[must_use]
    pub fn from_batch(batch: &BatchView<'_>) -> Option<Self> {
        if !batch.is_control() {
            return None;
        }
        let mut spans = Vec::new();
        with_spans(batch, MARKER_BYTES_MAX, &mut spans, |body, spans| {
            let record = spans.first()?;
            let (key, value) = (record.key(body)?, record.value(body)?);
            let (version, kind) = (field(key, 0)?, field(key, 2)?);
            let outcome = match i16::from_be_bytes(kind) {
                0 => TransactionOutcome::Abort,
                1 => TransactionOutcome::Commit,
                _ => return None,
            };
            let is_known = i16::from_be_bytes(version) >= 0 && i16::from_be_bytes(field(value, 0)?) >= 0;
            let coordinator_epoch = i32::from_be_bytes(field(value, 2)?);
            is_known.then_some(Self { outcome, coordinator_epoch })
        })
        .ok()
        .flatten()
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_says_what_it_was_made_of() {
        for outcome in [TransactionOutcome::Abort, TransactionOutcome::Commit] {
            let marker = EndMarker { outcome, coordinator_epoch: 7 };
            let batch = marker.to_batch(4711, 3, 1_700_000_000_000);
            let view = BatchView::parse(&batch).unwrap();
            assert!(view.crc_is_valid() && view.is_control() && view.is_transactional());
            assert_eq!((view.producer_id(), view.producer_epoch(), view.base_sequence()), (4711, 3, -1));
            assert_eq!((view.record_count(), view.last_offset_delta()), (1, 0));
            assert_eq!(EndMarker::from_batch(&view), Some(marker));
        }
    }

    #[test]
    fn a_marker_has_the_bytes_that_kafka_writes() {
        let marker = EndMarker { outcome: TransactionOutcome::Commit, coordinator_epoch: 1 };
        let batch = marker.to_batch(1, 0, 0);
        assert_eq!(batch.len(), 78);
        assert_eq!(&batch[21..23], [0, 0x30], "transactional and control");
        assert_eq!(batch[61..], [32, 0, 0, 0, 8, 0, 0, 0, 1, 12, 0, 0, 0, 0, 0, 1, 0]);
    }

    #[test]
    fn what_is_no_marker_says_nothing() {
        let data = BatchBuilder::new(Compression::None).build();
        assert_eq!(EndMarker::from_batch(&BatchView::parse(&data).unwrap()), None, "no control batch");
        let control = |key: &[u8], value: &[u8]| {
            let mut builder = BatchBuilder::new(Compression::None);
            builder.attributes(CONTROL_BIT);
            builder.append(&NewRecord { key: Some(key), value: Some(value), ..NewRecord::default() });
            builder.build()
        };
        for (what, key, value) in [
            ("another type", &[0, 0, 0, 2][..], &[0; 6][..]),
            ("a short key", &[0, 0, 0], &[0; 6]),
            ("a short value", &[0; 4], &[0; 5]),
            ("a negative version", &[0xff; 4], &[0; 6]),
        ] {
            let batch = control(key, value);
            assert_eq!(EndMarker::from_batch(&BatchView::parse(&batch).unwrap()), None, "{what}");
        }
        let longer = control(&[0, 1, 0, 0, 9, 9], &[0, 1, 0, 0, 0, 5, 9]);
        let said = EndMarker::from_batch(&BatchView::parse(&longer).unwrap());
        let known = EndMarker { outcome: TransactionOutcome::Abort, coordinator_epoch: 5 };
        assert_eq!(said, Some(known), "a later version");
    }
}
