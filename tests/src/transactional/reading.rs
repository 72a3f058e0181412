//! What a reader makes of a fetched slice: markers, and records that a list of aborted transactions does not exclude.

use std::collections::HashSet;

use bytes::Bytes;
use millstream_protocol::messages::fetch_response::AbortedTransaction;
use millstream_protocol::records::{BatchView, Record, batches, records};

const DECOMPRESSED_BYTES_MAX: usize = 1 << 24;

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Records from the position on, in order.
    pub(crate) records: Vec<Record>,
    /// Where transactions end.
    pub(crate) markers: Vec<i64>,
    /// The offset after the last whole batch.
    pub(crate) next: i64,
    /// The leader epoch of that batch; -1 without one.
    pub(crate) epoch: i32,
}

/// Reads a slice from a position on; with a list of aborted transactions only what is committed.
///
/// # Errors
/// In words, what no broker may serve.
pub(crate) fn read(
    bytes: Bytes,
    position: i64,
    aborted: Option<&[AbortedTransaction]>,
) -> Result<Seen, String> {
    let mut waiting = aborted.unwrap_or_default().to_vec();
    waiting.sort_unstable_by_key(|one| std::cmp::Reverse(one.first_offset));
    let mut excluded = HashSet::new();
    let mut seen = Seen { next: position, epoch: -1, ..Default::default() };
    for batch in batches(bytes) {
        // A slice may end in the middle of a batch.
        let Ok(batch) = batch else { break };
        let view = BatchView::parse(&batch).map_err(|error| format!("at {position}: {error}"))?;
        let header = view.header();
        let (base, last) = (header.base_offset, header.last_offset());
        if !view.crc_is_valid() {
            return Err(format!("the batch at {base} was served with a wrong checksum"));
        }
        if last < seen.next {
            return Err(format!("the batch {base} to {last} was served for {}", seen.next));
        }
        while waiting.last().is_some_and(|one| one.first_offset <= last) {
            excluded.extend(waiting.pop().map(|one| one.producer_id));
        }
        let is_excluded = header.is_transactional() && excluded.contains(&header.producer_id);
        for record in
            records(&batch, DECOMPRESSED_BYTES_MAX).map_err(|error| format!("at {base}: {error}"))?
        {
            let record = record.map_err(|error| format!("at {base}: {error}"))?;
            if header.is_control() {
                // The end of an aborted transaction; the producer's next one may be committed.
                if is_abort(&record) {
                    excluded.remove(&header.producer_id);
                }
                if record.offset >= position {
                    seen.markers.push(record.offset);
                }
            } else if record.offset >= position && !is_excluded {
                seen.records.push(record);
            }
        }
        seen.next = last + 1;
        seen.epoch = header.partition_leader_epoch;
    }
    Ok(seen)
}

/// The key of a control record: version, type; 0 aborts.
fn is_abort(record: &Record) -> bool {
    record.key.as_deref().is_some_and(|key| key.get(2..4) == Some(&[0, 0]))
}
