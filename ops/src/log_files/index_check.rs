//! The indexes of a segment, checked off against its batches as they pass.

use std::path::Path;

use millstream_protocol::records::{BatchView, EndMarker, TransactionOutcome};

use super::index_file::{
    OffsetEntry, TimeEntry, TxnEntry, read_offset_index, read_time_index, read_txn_index,
};
use super::report::{Finding, Remedy, Severity};
use super::segment_file::Located;

/// The entries of a segment's indexes, checked off against its batches as they pass.
pub(super) struct Indexes {
    offsets: Vec<OffsetEntry>,
    next_offset_entry: usize,
    times: Vec<TimeEntry>,
    next_time_entry: usize,
    largest_timestamp: i64,
    /// The first fault of each file: the others mostly follow from it.
    offset_fault: Option<String>,
    time_fault: Option<String>,
    aborted: Vec<TxnEntry>,
    next_aborted: usize,
    aborted_fault: Option<String>,
}

impl Indexes {
    pub(super) fn read(segment: &Path, base: i64) -> anyhow::Result<Self> {
        let mut indexes = Self {
            offsets: Vec::new(),
            next_offset_entry: 0,
            times: Vec::new(),
            next_time_entry: 0,
            largest_timestamp: i64::MIN,
            offset_fault: None,
            time_fault: None,
            aborted: Vec::new(),
            next_aborted: 0,
            aborted_fault: None,
        };
        let cut = |rest: usize| (rest > 0).then(|| format!("the last {rest} bytes are not a whole entry"));
        // An index that is missing is no fault: it is rebuilt at the next start.
        let path = segment.with_extension("index");
        if path.exists() {
            let index = read_offset_index(&path, base)?;
            let ascending = index.entries.is_sorted_by(|a, b| a.offset < b.offset && a.position < b.position);
            indexes.offset_fault =
                cut(index.rest).or((!ascending).then(|| "entries are not in order".into()));
            indexes.offsets = index.entries;
        }
        let path = segment.with_extension("timeindex");
        if path.exists() {
            let index = read_time_index(&path, base)?;
            let ascending =
                index.entries.is_sorted_by(|a, b| a.timestamp <= b.timestamp && a.offset <= b.offset);
            indexes.time_fault = cut(index.rest).or((!ascending).then(|| "entries are not in order".into()));
            indexes.times = index.entries;
        }
        let path = segment.with_extension("txnindex");
        if path.exists() {
            let index = read_txn_index(&path)?;
            let is_right = |entry: &TxnEntry| entry.version == 0 && entry.first_offset < entry.marker;
            let ascending = index.entries.is_sorted_by(|a, b| a.marker < b.marker);
            let right = ascending && index.entries.iter().all(is_right);
            indexes.aborted_fault = cut(index.rest).or((!right).then(|| "entries are not in order".into()));
            indexes.aborted = index.entries;
        }
        Ok(indexes)
    }

    pub(super) fn on_batch(&mut self, located: &Located) {
        let (first, last) = (located.header.base_offset, located.header.last_offset());
        while let Some(entry) = self.offsets.get(self.next_offset_entry) {
            if entry.position > located.position {
                break;
            }
            self.next_offset_entry += 1;
            if entry.position < located.position || !(first..=last).contains(&entry.offset) {
                let text =
                    || format!("offset {} is not at byte {} of the segment", entry.offset, entry.position);
                self.offset_fault.get_or_insert_with(text);
            }
        }
        while let Some(entry) = self.aborted.get(self.next_aborted) {
            if entry.marker > last {
                break;
            }
            self.next_aborted += 1;
            if entry.marker != first || !aborts(located, entry.producer) {
                let (marker, producer) = (entry.marker, entry.producer);
                let text = || format!("offset {marker} aborts no transaction of producer {producer}");
                self.aborted_fault.get_or_insert_with(text);
            }
        }
        self.largest_timestamp = self.largest_timestamp.max(located.header.max_timestamp);
        while let Some(entry) = self.times.get(self.next_time_entry) {
            if entry.offset > last {
                break;
            }
            self.next_time_entry += 1;
            if entry.offset < first || entry.timestamp > self.largest_timestamp {
                let text =
                    || format!("no batch up to offset {} has timestamp {}", entry.offset, entry.timestamp);
                self.time_fault.get_or_insert_with(text);
            }
        }
    }

    /// Where a batch begins behind `position`, as far as the index knows: a walk that has lost its way goes on
    /// there.
    pub(super) fn next_batch_behind(&self, position: u64) -> Option<u64> {
        let behind = self.offsets.partition_point(|entry| entry.position <= position);
        self.offsets.get(behind).map(|entry| entry.position)
    }

    /// What is wrong with which file. Entries behind the last batch of a partition are what a crash leaves when
    /// the index reached the disk before the records did.
    pub(super) fn finish(self, segment: &Path, is_last: bool) -> Vec<Finding> {
        let behind = if is_last { Severity::Note } else { Severity::Problem };
        let offset_behind = self.offsets.get(self.next_offset_entry).map(|entry| entry.offset);
        let time_behind = self.times.get(self.next_time_entry).map(|entry| entry.offset);
        let files =
            [("index", self.offset_fault, offset_behind), ("timeindex", self.time_fault, time_behind)];
        let mut found = Vec::new();
        let aborted = segment.with_extension("txnindex");
        let behind_marker = self.aborted.get(self.next_aborted).map(|entry| entry.marker);
        if let Some(fault) = self.aborted_fault {
            found.push(Finding::problem(&aborted, fault).remedy(Remedy::MoveAside));
        } else if let Some(offset) = behind_marker {
            let finding = Finding::note(&aborted, format!("offset {offset} is behind the last batch"));
            let remedy = if is_last { Remedy::NextStart } else { Remedy::MoveAside };
            found.push(Finding { severity: behind, ..finding }.remedy(remedy));
        }
        for (extension, fault, offset_behind) in files {
            let file = segment.with_extension(extension);
            if let Some(fault) = fault {
                found.push(Finding::problem(&file, fault).remedy(Remedy::RebuildIndexes));
            } else if let Some(offset) = offset_behind {
                let remedy = if is_last { Remedy::NextStart } else { Remedy::RebuildIndexes };
                let finding = Finding::note(&file, format!("offset {offset} is behind the last batch"));
                found.push(Finding { severity: behind, ..finding }.remedy(remedy));
            } else if !is_last && !file.exists() {
                found.push(Finding::note(&file, "it is missing").remedy(Remedy::RebuildIndexes));
            }
        }
        found
    }
}

/// Whether a batch is a marker that aborts a transaction of this producer.
fn aborts(located: &Located, producer: i64) -> bool {
    let view = BatchView::parse(&located.bytes).ok();
    let marker = view.as_ref().and_then(EndMarker::from_batch);
    located.header.producer_id == producer
        && marker.is_some_and(|marker| marker.outcome == TransactionOutcome::Abort)
}
