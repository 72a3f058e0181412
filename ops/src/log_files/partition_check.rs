//! One partition: its segments batch by batch, against each other, against its snapshots, and what else lies
//! in its folder.

use std::path::Path;

use millstream_protocol::records::{self, BatchError, BatchView};

use super::dump::DECOMPRESSED_BYTES_MAX;
use super::folder::{Kind, PartitionFiles};
use super::index_check::Indexes;
use super::report::{Finding, Remedy, Report, Severity};
use super::segment_file::{Broken, Located, SegmentFile};
use super::snapshot_file::{SnapshotFile, SwapFile, read_small};
use super::verify::Depth;
use crate::text::{human_bytes, plural};

/// Checks one partition.
///
/// # Errors
/// When a file cannot be read.
pub(super) fn check(files: &PartitionFiles, depth: Depth, report: &mut Report) -> anyhow::Result<()> {
    report.counts.partitions += 1;
    let snapshot = check_snapshots(files, report)?;
    let swap = check_swaps(files, report)?;
    check_leftovers(files, report)?;
    let durable = files.of_kind(Kind::Snapshot).map(|(durable, _)| durable).max();
    if let Some(snapshot) = &snapshot {
        check_presence(files, snapshot, swap.as_ref(), report)?;
    }
    let snapshot = snapshot.as_ref();
    let first = files.segments.keys().next().copied().unwrap_or_default();
    let mut walk = Walk {
        report,
        depth,
        snapshot,
        durable,
        next_offset: first,
        leader_epoch: i32::MIN,
        gaps_below: files.of_kind(Kind::Gaps).map(|(below, _)| below).max().unwrap_or(0),
        gap_is_fine: true,
        after_damage: false,
    };
    let last = files.segments.keys().next_back().copied();
    for (base, path) in &files.segments {
        walk.segment(*base, path, Some(*base) == last)?;
    }
    let log_start = log_start(files, snapshot);
    if let Some(start) = log_start.filter(|start| *start < first) {
        let text = format!("offsets {start} to {} are missing: no segment holds them", first - 1);
        report.say(Finding::problem(&files.dir, text).offsets(start..first))?;
    }
    Ok(())
}

fn log_start(files: &PartitionFiles, snapshot: Option<&SnapshotFile>) -> Option<i64> {
    let named = files.of_kind(Kind::Start).map(|(start, _)| start).max();
    named.max(snapshot.map(|snapshot| snapshot.log_start))
}

/// The newest snapshot that is whole.
fn check_snapshots(files: &PartitionFiles, report: &mut Report) -> anyhow::Result<Option<SnapshotFile>> {
    let mut newest = None;
    for (durable, path) in files.of_kind(Kind::Snapshot).rev() {
        match SnapshotFile::decode(&read_small(path)?) {
            Ok(found) if found.durable != durable => {
                let text = format!("it says that it is of offset {}", found.durable);
                report.say(Finding::problem(path, text))?;
            }
            Ok(found) => newest = newest.or(Some(found)),
            Err(fault) => {
                let text = format!("{fault}; an older one is used, or the segments are walked");
                report.say(Finding::problem(path, text))?;
            }
        }
    }
    Ok(newest)
}

/// The exchange of segments that the next start will finish.
fn check_swaps(files: &PartitionFiles, report: &mut Report) -> anyhow::Result<Option<SwapFile>> {
    let mut found = None;
    for (_, path) in files.of_kind(Kind::Swap) {
        match SwapFile::decode(&read_small(path)?) {
            Ok(swap) => {
                let count = swap.replaced.len() as u64;
                let text = format!(
                    "compaction was about to replace {count} {}",
                    plural(count, "segment", "segments")
                );
                report.say(Finding::note(path, text).remedy(Remedy::NextStart))?;
                found = Some(swap);
            }
            Err(fault) => report.say(Finding::problem(path, fault.to_string()))?,
        }
    }
    Ok(found)
}

fn check_leftovers(files: &PartitionFiles, report: &mut Report) -> anyhow::Result<()> {
    for (kind, base, path) in &files.others {
        let bytes = || human_bytes(path.metadata().map_or(0, |metadata| metadata.len()));
        match kind {
            Kind::Torn => {
                let text = format!("{} that a start cut off and kept", bytes());
                report.say(Finding::note(path, text))?;
            }
            Kind::Cleaned if files.of_kind(Kind::Swap).next().is_none() => {
                let text = "what an interrupted compaction has left; nothing refers to it";
                report.say(Finding::note(path, text).remedy(Remedy::MoveAside))?;
            }
            Kind::Unfinished => {
                let text = "it was never finished; nothing refers to it";
                report.say(Finding::note(path, text).remedy(Remedy::MoveAside))?;
            }
            Kind::Doubted => {
                let text = "a sync failed: the next start reads everything from the device, not from memory";
                report.say(Finding::note(path, text).remedy(Remedy::NextStart))?;
            }
            Kind::OffsetIndex | Kind::TimeIndex | Kind::TxnIndex if !files.segments.contains_key(base) => {
                let text = "an index of a segment that is not there";
                report.say(Finding::note(path, text).remedy(Remedy::MoveAside))?;
            }
            Kind::OffsetIndex
            | Kind::TimeIndex
            | Kind::TxnIndex
            | Kind::Cleaned
            | Kind::Snapshot
            | Kind::Start
            | Kind::Gaps
            | Kind::Swap
            | Kind::Segment
            | Kind::Foreign => {}
        }
    }
    for path in &files.foreign {
        report.say(Finding::note(path, "no file of Millstream's; it is left alone"))?;
    }
    Ok(())
}

/// What the snapshot says was there is there, at its full length.
fn check_presence(
    files: &PartitionFiles,
    snapshot: &SnapshotFile,
    swap: Option<&SwapFile>,
    report: &mut Report,
) -> anyhow::Result<()> {
    for (at, record) in snapshot.segments.iter().enumerate() {
        let end = snapshot.segments.get(at + 1).map_or(snapshot.durable, |next| next.base);
        if swap.is_some_and(|swap| swap.replaced.contains(&record.base)) {
            continue;
        }
        let name = format!("{:020}.log", record.base);
        let Some(path) = files.segments.get(&record.base) else {
            // An empty active segment may never have reached the disk.
            if record.bytes > 0 {
                let text =
                    format!("the segment is missing, and with it offsets {} to {}", record.base, end - 1);
                report.say(Finding::problem(&files.dir.join(name), text).offsets(record.base..end))?;
            }
            continue;
        };
        let held = path.metadata().map_or(0, |metadata| metadata.len());
        if held < record.bytes {
            let text = format!("{} bytes that were on disk are missing at its end", record.bytes - held);
            report.say(Finding::problem(path, text).at(held))?;
        }
        if record.is_left_out() {
            report.say(Finding::note(path, "compaction could not read it and leaves it as it is"))?;
        }
    }
    Ok(())
}

/// What the walk remembers from one batch to the next.
struct Walk<'a> {
    report: &'a mut Report,
    depth: Depth,
    snapshot: Option<&'a SnapshotFile>,
    /// Below it everything was once on disk.
    durable: Option<i64>,
    next_offset: i64,
    leader_epoch: i32,
    /// Compaction may have left gaps below it.
    gaps_below: i64,
    /// What comes next may lie further ahead.
    gap_is_fine: bool,
    /// What came last was damaged, and is told: nobody knows how far it went.
    after_damage: bool,
}

impl Walk<'_> {
    fn segment(&mut self, base: i64, path: &Path, is_last: bool) -> anyhow::Result<()> {
        self.report.counts.segments += 1;
        if base < self.next_offset {
            let text = format!("it begins at offset {base}; the one before it ends at {}", self.next_offset);
            self.report.say(Finding::problem(path, text))?;
        } else {
            self.check_gap(path, base, None)?;
        }
        self.next_offset = base;
        let record = self.snapshot.and_then(|snapshot| snapshot.segment(base));
        let is_compacted = base < self.gaps_below || record.is_some_and(|record| record.is_compacted());
        // The indexes before the segment: a running broker writes them after it.
        let mut indexes = Indexes::read(path, base)?;
        let mut segment = SegmentFile::open(path)?;
        while let Some(next) = segment.next()? {
            self.gap_is_fine = is_compacted;
            match next {
                Ok(located) => {
                    self.batch(path, &located)?;
                    indexes.on_batch(&located);
                }
                Err(broken) => {
                    let at = segment.position();
                    let resumes = indexes.next_batch_behind(at).filter(|next| *next < segment.length());
                    match resumes {
                        Some(next) => {
                            let text = format!("{broken}; the index knows a batch at byte {next}");
                            self.report.say(Finding::problem(path, text).at(at))?;
                            segment.seek(next)?;
                            self.after_damage = true;
                            continue;
                        }
                        None => self.end(path, &broken, at, is_last)?,
                    }
                    break;
                }
            }
        }
        // The offsets at the end of a compacted segment may have been those of older records.
        self.gap_is_fine = is_compacted;
        for finding in indexes.finish(path, is_last) {
            self.report.say(finding)?;
        }
        Ok(())
    }

    /// The walk cannot go on in this segment.
    fn end(&mut self, path: &Path, broken: &Broken, at: u64, is_last: bool) -> anyhow::Result<()> {
        let next = self.next_offset;
        let durable = self.durable.filter(|durable| next < *durable);
        let finding = match (durable, broken) {
            // Room that was set aside, as far as nothing was ever in it.
            (None, Broken::Zeros { left }) if is_last => {
                Finding::note(path, format!("{left} bytes of room behind the last batch"))
            }
            (None, _) if is_last && broken.is_torn_tail() => {
                Finding::note(path, broken.to_string()).remedy(Remedy::NextStart)
            }
            (None, _) if is_last => {
                let text = format!("{broken}; nothing says that they were ever whole");
                Finding::problem(path, text).remedy(Remedy::NextStart)
            }
            (Some(durable), _) if is_last => {
                let text = format!("{broken}; offsets {next} to {} were on disk", durable - 1);
                Finding::problem(path, text).offsets(next..durable)
            }
            _ => Finding::problem(path, broken.to_string()),
        };
        self.after_damage = finding.severity == Severity::Problem;
        self.report.say(finding.at(at))
    }

    fn check_gap(&mut self, path: &Path, offset: i64, position: Option<u64>) -> anyhow::Result<()> {
        if std::mem::take(&mut self.after_damage) || offset <= self.next_offset || self.gap_is_fine {
            return Ok(());
        }
        let missing = self.next_offset..offset;
        let text = format!("offsets {} to {} are missing before it", missing.start, missing.end - 1);
        let finding = Finding::problem(path, text).offsets(missing);
        self.report.say(Finding { position, ..finding })
    }

    fn batch(&mut self, path: &Path, located: &Located) -> anyhow::Result<()> {
        let header = &located.header;
        self.report.counts.batches += 1;
        self.report.counts.records += u64::try_from(header.record_count).unwrap_or(0);
        self.report.on_bytes(header.size_in_bytes() as u64);
        let (first, last) = (header.base_offset, header.last_offset());
        let mut wrong = Vec::new();
        if !located.crc_is_valid {
            wrong.push(format!("the checksum of the batch of offsets {first}..={last} is wrong"));
        } else if self.depth == Depth::Records {
            wrong.extend(check_records(located));
        }
        if first < self.next_offset {
            wrong.push(format!("offsets go back: {first} after {}", self.next_offset - 1));
        } else if located.crc_is_valid {
            self.check_gap(path, first, Some(located.position))?;
        }
        wrong.extend(self.check_epoch(first, header.partition_leader_epoch));
        if located.crc_is_valid {
            self.next_offset = last + 1;
            self.leader_epoch = header.partition_leader_epoch;
        }
        self.after_damage |= !located.crc_is_valid;
        for text in wrong {
            let finding = Finding::problem(path, text).at(located.position);
            self.report.say(finding.offsets(first.max(0)..last.saturating_add(1).max(first.max(0))))?;
        }
        Ok(())
    }

    fn check_epoch(&self, offset: i64, epoch: i32) -> Option<String> {
        if epoch < self.leader_epoch {
            return Some(format!("leader epochs go back: {epoch} after {}", self.leader_epoch));
        }
        let snapshot =
            self.snapshot.filter(|snapshot| (snapshot.log_start..snapshot.durable).contains(&offset))?;
        let known = snapshot.epoch_of(offset)?;
        (known != epoch)
            .then(|| format!("offset {offset} has leader epoch {epoch}; it was written in {known}"))
    }
}

fn check_records(located: &Located) -> Option<String> {
    let header = &located.header;
    let is_dense = i64::from(header.record_count) == i64::from(header.last_offset_delta) + 1;
    let checked = match is_dense {
        true => BatchView::parse(&located.bytes)
            .and_then(|view| records::validate(&view, DECOMPRESSED_BYTES_MAX))
            .map(|_| None),
        // Compaction took some away: what is left has to be readable, and in order.
        false => first_out_of_order(located),
    };
    match checked {
        Ok(None) => None,
        Ok(Some(offset)) => Some(format!("the records are wrong: offset {offset} is out of order")),
        Err(error) => Some(format!("the records are wrong: {error}")),
    }
}

fn first_out_of_order(located: &Located) -> Result<Option<i64>, BatchError> {
    let mut next = located.header.base_offset;
    for record in records::records(&located.bytes, DECOMPRESSED_BYTES_MAX)? {
        let offset = record?.offset;
        if !(next..=located.header.last_offset()).contains(&offset) {
            return Ok(Some(offset));
        }
        next = offset + 1;
    }
    Ok(None)
}
