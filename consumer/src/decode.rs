//! From fetched batches to records.

use millstream_protocol::records::{self, BatchError, BatchHeader, BatchView};

use crate::consumer::Consumer;
use crate::error::ConsumeError;
use crate::fetching::Fetched;
use crate::record::ConsumerRecord;
use crate::session::Place;

/// The records of one batch that are to be handed out, in order.
pub(crate) struct Decoded {
    pub(crate) place: Place,
    /// The offset behind the batch. Its last records may be missing: compaction leaves holes.
    pub(crate) end: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) records: std::vec::IntoIter<ConsumerRecord>,
}

impl Decoded {
    pub(crate) fn is_empty(&self) -> bool {
        self.records.len() == 0
    }
}

impl Consumer {
    /// Decodes the next batch that was fetched, if there is one.
    ///
    /// A batch that cannot be read keeps the partition where it is: what follows is dropped, and fetched
    /// again after a pause, unless the program seeks elsewhere.
    pub(crate) fn decode_next(&mut self) -> Option<Result<Decoded, ConsumeError>> {
        loop {
            let fetched = self.fetched.pop_front()?;
            self.fetched_bytes -= fetched.batch.len();
            let partition = &self.partitions[fetched.place];
            if partition.generation != fetched.generation {
                continue;
            }
            let decoded = self.decode(&fetched);
            if decoded.is_err() {
                self.back_off(fetched.place);
                self.partitions[fetched.place].rewind();
            }
            return Some(decoded);
        }
    }

    fn decode(&self, fetched: &Fetched) -> Result<Decoded, ConsumeError> {
        let Fetched { place, batch, is_aborted, .. } = fetched;
        let place = *place;
        let partition = &self.partitions[place];
        let position = partition.position().unwrap_or_default();
        let malformed = |source: BatchError| ConsumeError::Malformed {
            topic: partition.topic.to_string(),
            partition: partition.index,
            offset: position,
            source,
        };
        let view = BatchView::parse(batch).map_err(malformed)?;
        let header = view.header();
        let end = header.last_offset().saturating_add(1);
        let leader_epoch = header.partition_leader_epoch;
        if !view.crc_is_valid() {
            return Err(ConsumeError::Checksum {
                topic: partition.topic.to_string(),
                partition: partition.index,
                offset: header.base_offset,
                next_offset: end,
            });
        }
        if header.is_control() || *is_aborted {
            return Ok(Decoded { place, end, leader_epoch, records: Vec::new().into_iter() });
        }
        let mut decoded = Vec::with_capacity(capacity(&header, position));
        for record in records::records(batch, self.settings.max_decompressed_bytes).map_err(malformed)? {
            let record = record.map_err(malformed)?;
            // A broker answers with whole batches, whichever of their offsets was asked for.
            let is_wanted =
                record.offset >= position && partition.stop_at.is_none_or(|stop| record.offset < stop);
            if is_wanted {
                decoded.push(ConsumerRecord {
                    topic: partition.topic.clone(),
                    partition: partition.index,
                    offset: record.offset,
                    timestamp: record.timestamp,
                    key: record.key,
                    value: record.value,
                    headers: record.headers,
                    leader_epoch,
                });
            }
        }
        Ok(Decoded { place, end, leader_epoch, records: decoded.into_iter() })
    }
}

/// Room for the records to come. The count is the batch's own word, so it is not believed beyond a point.
fn capacity(header: &BatchHeader, position: i64) -> usize {
    let wanted = header.last_offset().saturating_add(1).saturating_sub(position.max(header.base_offset));
    usize::try_from(wanted.min(i64::from(header.record_count))).unwrap_or_default().min(16 * 1024)
}
