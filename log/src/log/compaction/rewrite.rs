//! The two passes over segments: reads keys, then writes what stays into a new file.

use std::io::{self, IoSlice};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_protocol::records::{self, BatchView, Crc32c, EndMarker, RecordSpan};

use super::key_map::{Full, KeyMap, KeyMapBounds, OFFSETS_MAX};
use super::source::{BatchSource, Next};
use super::survivors::{Fate, Given, Survivors};
use super::{CompactLimits, CompactProgress, Compacted};
use crate::clock::Pace;
use crate::config::LogConfig;
use crate::disk::{Disk, DiskFile, IfMissing};
use crate::ids::{Offset, ProducerId};
use crate::partition::Aborted;
use crate::segment::{AbortedIndex, FileKind, FileName, LeftOut, Placed, Segment, SegmentIndex};
use crate::segment_list::Based;

/// What is written at a time, and how often the pace and whoever watches are asked.
const PIECE_BYTES: usize = if cfg!(test) { 1 << 10 } else { 128 << 10 };

/// What was let in under a larger limit must still be read.
const DECOMPRESSED_BYTES_MAX: usize = 1 << 30;

/// The file that a segment is rewritten to, before it takes the segment's name.
pub(crate) fn cleaned_path(dir: &Path, base: Offset) -> PathBuf {
    dir.join(format!("{}.cleaned", FileName { base, kind: FileKind::Log }))
}

/// Why a pass does not go on.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Whoever watches wants it to end.
    Asked,
    /// The new file cannot be written.
    Io(io::Error),
    /// Segment number so and so of the group cannot be read, or not be believed.
    Damaged { at: usize },
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Holds a run to its pace and tells how far it is.
pub(crate) struct Meter<'a> {
    pub(crate) pace: &'a Pace,
    pub(crate) watch: &'a mut dyn FnMut(CompactProgress) -> ControlFlow<()>,
    pub(crate) progress: CompactProgress,
    unpaid: u64,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(
        pace: &'a Pace,
        watch: &'a mut dyn FnMut(CompactProgress) -> ControlFlow<()>,
        total_bytes: u64,
    ) -> Self {
        Self { pace, watch, progress: CompactProgress { read_bytes: 0, total_bytes }, unpaid: 0 }
    }

    fn read(&mut self, bytes: usize) -> Result<(), Stop> {
        self.progress.read_bytes += bytes as u64;
        self.move_bytes(bytes)
    }

    fn move_bytes(&mut self, bytes: usize) -> Result<(), Stop> {
        self.unpaid += bytes as u64;
        if self.unpaid < PIECE_BYTES as u64 {
            return Ok(());
        }
        self.pace.wait_for(std::mem::take(&mut self.unpaid));
        match (self.watch)(self.progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Stop::Asked),
        }
    }
}

/// One run over a log: what it knows, and memory that it uses again and again.
pub(crate) struct Run<'a> {
    disk: &'a Arc<dyn Disk>,
    dir: &'a Arc<Path>,
    index_interval_bytes: u64,
    survivors: Survivors,
    pub(crate) meter: Meter<'a>,
    pub(crate) done: Compacted,
    /// The first segment that was left out before and can be read again.
    pub(crate) mended: Option<Offset>,
    spans: Vec<RecordSpan>,
    read_buffer: Vec<u8>,
}

/// What a run starts from.
pub(crate) struct RunStart<'a> {
    pub(crate) disk: &'a Arc<dyn Disk>,
    pub(crate) dir: &'a Arc<Path>,
    pub(crate) config: &'a LogConfig,
    pub(crate) limits: CompactLimits,
    pub(crate) dirty: std::ops::Range<Offset>,
    pub(crate) now_ms: i64,
    /// The latest time that was ever seen: a clock that is behind must not let tombstones go early.
    pub(crate) latest_ms: i64,
    pub(crate) last_batches: std::collections::HashMap<ProducerId, Offset>,
    /// What was aborted of all that is compacted.
    pub(crate) aborted: Vec<Aborted>,
}

/// A segment rewritten, on disk under a name of its own.
#[derive(Debug)]
pub(crate) struct Cleaned {
    pub(crate) base: Offset,
    pub(crate) bytes: u64,
    pub(crate) crc: u32,
    pub(crate) index: SegmentIndex,
    pub(crate) aborted: AbortedIndex,
}

impl<'a> Run<'a> {
    pub(crate) fn new(start: RunStart<'a>, meter: Meter<'a>) -> Self {
        let RunStart { disk, dir, config, limits, dirty, now_ms, latest_ms, last_batches, aborted } = start;
        // No more records than offsets: the range may have fewer, never more.
        let offsets = u64::try_from(dirty.end.get() - dirty.start.get()).unwrap_or(0);
        let map = KeyMap::new(KeyMapBounds { bytes_max: limits.dedupe_buffer_bytes, keys_max: offsets });
        let delete_retention_ms = i64::try_from(config.delete_retention.as_millis()).unwrap_or(i64::MAX);
        let new_horizon_ms = latest_ms.saturating_add(delete_retention_ms);
        let given = Given { map, dirty_from: dirty.start, now_ms, new_horizon_ms, last_batches, aborted };
        Self {
            disk,
            dir,
            index_interval_bytes: config.index_interval_bytes,
            survivors: Survivors::new(given),
            meter,
            done: Compacted { dirty_from: dirty.start, cleaned_to: dirty.start, ..Compacted::default() },
            mended: None,
            spans: Vec::new(),
            read_buffer: Vec::new(),
        }
    }

    /// First pass, over the segments of the dirty range. Returns where the run will end.
    pub(crate) fn learn(&mut self, segments: &[Arc<Segment>]) -> Result<Offset, Stop> {
        for segment in segments {
            // What is damaged will not be rewritten; what follows in other segments can still be learnt.
            let learnt = self.learn_segment(segment);
            // There may be a thousand of them.
            segment.close_files();
            let is_full = match learnt {
                Ok(is_full) => is_full,
                Err(Stop::Damaged { .. } | Stop::Io(_)) => false,
                Err(Stop::Asked) => return Err(Stop::Asked),
            };
            if is_full {
                self.done.more = true;
                break;
            }
            self.survivors.reach(segment.extent().end);
        }
        self.done.cleaned_to = self.survivors.end();
        self.done.keys = self.survivors.keys() as u64;
        self.done.key_map_bytes = self.survivors.map_bytes() as u64;
        Ok(self.survivors.end())
    }

    fn learn_segment(&mut self, segment: &Segment) -> Result<bool, Stop> {
        let dirty_from = self.done.dirty_from.get();
        let mut source = BatchSource::new(segment, &mut self.read_buffer)?;
        loop {
            let batch = match source.next()? {
                Next::Batch { batch, .. } => batch,
                Next::End => return Ok(false),
                Next::Damaged => return Err(Stop::Damaged { at: 0 }),
            };
            self.meter.read(batch.size_in_bytes())?;
            let header = batch.header();
            if header.last_offset() < dirty_from || !self.survivors.looks_into(&header) {
                continue;
            }
            if header.last_offset() - dirty_from > OFFSETS_MAX {
                return Ok(true);
            }
            let survivors = &mut self.survivors;
            let learnt =
                records::with_spans(&batch, DECOMPRESSED_BYTES_MAX, &mut self.spans, |body, spans| {
                    survivors.learn(&header, (body, spans))
                });
            match learnt {
                Ok(Ok(())) => self.survivors.reach(Offset::new(header.last_offset() + 1)),
                Ok(Err(Full)) => return Ok(true),
                Err(_) => return Err(Stop::Damaged { at: 0 }),
            }
        }
    }

    /// A segment is left in place unread.
    pub(crate) fn leave_unread(&mut self, segment: &Segment) {
        self.survivors.leave_unread();
        segment.set_left_out(LeftOut::Yes);
        self.done.damaged.push(segment.base());
    }

    /// Looks whether a segment that was left out can be read now. What replaces its records was learnt in
    /// runs before this one, so it is left in place once more, and the next run begins with it.
    pub(crate) fn look_again(&mut self, segment: &Segment) -> Result<(), Stop> {
        self.survivors.leave_unread();
        match self.read_through(segment) {
            Ok(()) => {
                segment.set_left_out(LeftOut::No);
                self.done.more = true;
                self.mended.get_or_insert(segment.base());
                Ok(())
            }
            Err(Stop::Asked) => Err(Stop::Asked),
            Err(Stop::Damaged { .. } | Stop::Io(_)) => {
                self.leave_unread(segment);
                Ok(())
            }
        }
    }

    fn read_through(&mut self, segment: &Segment) -> Result<(), Stop> {
        let mut source = BatchSource::new(segment, &mut self.read_buffer)?;
        loop {
            match source.next()? {
                Next::Batch { batch, .. } => self.meter.read(batch.size_in_bytes())?,
                Next::End => return Ok(()),
                Next::Damaged => return Err(Stop::Damaged { at: 0 }),
            }
        }
    }

    /// Second pass, over a group of segments that becomes one. `None` if it stays as it is. What was written
    /// is synced; its name is not.
    pub(crate) fn rewrite(&mut self, group: &[Arc<Segment>]) -> Result<Option<Cleaned>, Stop> {
        let base = group[0].base();
        let mut output = Output::new(base, self.index_interval_bytes);
        let seen = self.survivors.seen();
        let outcome = match group.len() {
            1 => Ok(()),
            // Several change by becoming one.
            _ => self.begin(&mut output, &group[0]),
        };
        let outcome = outcome.and_then(|()| self.rewrite_into(group, &mut output));
        let finished = outcome.and_then(|counts| {
            let cleaned = output.finish()?;
            self.done.records_before += counts.before;
            self.done.records_removed += counts.removed;
            let bytes: u64 = group.iter().map(|segment| segment.extent().bytes).sum();
            self.done.bytes_before += bytes;
            self.done.written_bytes += cleaned.as_ref().map_or(0, |cleaned| cleaned.bytes);
            self.done.bytes_after += cleaned.as_ref().map_or(bytes, |cleaned| cleaned.bytes);
            Ok(cleaned)
        });
        if finished.is_err() {
            self.survivors.go_back(seen);
            // Without an intent it is nothing, and the next start removes it if this does not.
            let _ = self.disk.remove_file(&cleaned_path(self.dir, base));
        }
        finished
    }

    fn begin(&mut self, output: &mut Output, from: &Segment) -> Result<(), Stop> {
        output.changed = true;
        let file = self.disk.open(&cleaned_path(self.dir, output.base), IfMissing::Create)?;
        output.begin(file, from, &mut self.meter)
    }

    fn rewrite_into(&mut self, group: &[Arc<Segment>], output: &mut Output) -> Result<Counts, Stop> {
        let mut counts = Counts::default();
        for (at, segment) in group.iter().enumerate() {
            let mut buffer = std::mem::take(&mut self.read_buffer);
            let rewritten = self.rewrite_segment(segment, &mut buffer, output, &mut counts);
            self.read_buffer = buffer;
            segment.close_files();
            match rewritten {
                Ok(()) => {}
                Err(Stop::Damaged { .. }) => return Err(Stop::Damaged { at }),
                Err(stop) => return Err(stop),
            }
        }
        Ok(counts)
    }

    fn rewrite_segment(
        &mut self,
        segment: &Segment,
        buffer: &mut Vec<u8>,
        output: &mut Output,
        counts: &mut Counts,
    ) -> Result<(), Stop> {
        let mut source = BatchSource::new(segment, buffer).map_err(|_| Stop::Damaged { at: 0 })?;
        loop {
            let (position, batch) = match source.next() {
                Ok(Next::Batch { position, batch }) => (position, batch),
                Ok(Next::End) => return Ok(()),
                Ok(Next::Damaged) | Err(_) => return Err(Stop::Damaged { at: 0 }),
            };
            self.meter.read(batch.size_in_bytes())?;
            let fate = self.rewrite_batch(&batch, output, counts)?;
            match fate {
                Fate::Stays => output.keep(&batch, position),
                Fate::Changes { .. } | Fate::Empties => output.take_changed(),
                Fate::Goes => output.changed = true,
            }
            // The first change: what stayed so far lies in front of it.
            if output.changed && output.file.is_none() {
                self.begin(output, segment)?;
            }
            if output.buffer.len() >= PIECE_BYTES {
                self.meter.move_bytes(output.buffer.len())?;
                output.write()?;
            }
        }
    }

    fn rewrite_batch(
        &mut self,
        batch: &BatchView<'_>,
        output: &mut Output,
        counts: &mut Counts,
    ) -> Result<Fate, Stop> {
        let header = batch.header();
        if header.is_control() {
            return self.rewrite_control(batch, output, counts);
        }
        if header.base_offset >= self.survivors.end().get() || !self.survivors.looks_into(&header) {
            let records = u64::try_from(header.record_count).unwrap_or(0);
            let fate = self.survivors.judge_whole(&header);
            counts.before += records;
            counts.removed += if fate == Fate::Stays { 0 } else { records };
            if fate == Fate::Empties {
                output.staged.clear();
                records::without_records(&header, &mut output.staged);
            }
            return Ok(fate);
        }
        let survivors = &mut self.survivors;
        let staged = &mut output.staged;
        staged.clear();
        records::with_spans(batch, DECOMPRESSED_BYTES_MAX, &mut self.spans, |body, spans| {
            let fate = survivors.judge(&header, (body, spans));
            counts.before += spans.len() as u64;
            match fate {
                Fate::Stays => {}
                Fate::Changes { delete_horizon_ms } => {
                    counts.removed += spans.iter().filter(|span| !span.stays).count() as u64;
                    records::retain(&header, (body, spans), delete_horizon_ms, staged);
                }
                Fate::Empties => {
                    counts.removed += spans.len() as u64;
                    records::without_records(&header, staged);
                }
                Fate::Goes => counts.removed += spans.len() as u64,
            }
            fate
        })
        .map_err(|_| Stop::Damaged { at: 0 })
    }

    fn rewrite_control(
        &mut self,
        batch: &BatchView<'_>,
        output: &mut Output,
        counts: &mut Counts,
    ) -> Result<Fate, Stop> {
        let header = batch.header();
        let ends = header.record_count == 0 || EndMarker::from_batch(batch).is_some();
        let (fate, aborted) = self.survivors.judge_control(&header, ends);
        output.aborted.note(aborted.as_slice());
        let records = u64::try_from(header.record_count).unwrap_or(0);
        counts.before += records;
        match fate {
            Fate::Stays => {}
            Fate::Goes => counts.removed += records,
            Fate::Changes { .. } if header.record_count == 0 => return Ok(Fate::Goes),
            Fate::Changes { delete_horizon_ms } => {
                let staged = &mut output.staged;
                staged.clear();
                let limit = DECOMPRESSED_BYTES_MAX;
                let changed = records::with_spans(batch, limit, &mut self.spans, |body, spans| {
                    spans.iter_mut().for_each(|span| span.stays = true);
                    records::retain(&header, (body, spans), delete_horizon_ms, staged);
                });
                changed.map_err(|_| Stop::Damaged { at: 0 })?;
            }
            Fate::Empties => unreachable!("a marker without its record says nothing"),
        }
        Ok(fate)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    before: u64,
    removed: u64,
}

/// The new segment while it is written. Nothing is written before the first change.
#[derive(Debug)]
struct Output {
    base: Offset,
    file: Option<Arc<dyn DiskFile>>,
    /// Bytes in the file and in the buffer; before the first change, bytes that stay.
    bytes: u64,
    buffer: Vec<u8>,
    /// A batch that was made anew.
    staged: Vec<u8>,
    changed: bool,
    crc: Crc32c,
    index: SegmentIndex,
    /// What the markers that stay have aborted, as far as something is left of it.
    aborted: AbortedIndex,
}

impl Output {
    fn new(base: Offset, index_interval_bytes: u64) -> Self {
        Self {
            base,
            file: None,
            bytes: 0,
            buffer: Vec::new(),
            staged: Vec::new(),
            changed: false,
            crc: Crc32c::default(),
            index: SegmentIndex::new(base, index_interval_bytes),
            aborted: AbortedIndex::default(),
        }
    }

    fn note(&mut self, batch: &BatchView<'_>) {
        let header = batch.header();
        self.index.note(&[Placed::new(&header, Offset::new(header.base_offset), self.bytes)]);
        self.bytes += batch.size_in_bytes() as u64;
    }

    fn keep(&mut self, batch: &BatchView<'_>, position: u64) {
        if self.changed {
            self.buffer.extend_from_slice(batch.bytes());
        } else {
            assert!(position == self.bytes, "what stays in front of the first change stays in place");
        }
        self.note(batch);
    }

    /// Takes the staged batch.
    fn take_changed(&mut self) {
        let staged = std::mem::take(&mut self.staged);
        let before = self.bytes;
        if !self.changed {
            // `begin` copies what lies before; the batch itself waits in the buffer.
            self.changed = true;
        }
        self.buffer.extend_from_slice(&staged);
        let batch = BatchView::parse(&staged).expect("it was just made");
        self.note(&batch);
        assert!(self.bytes == before + staged.len() as u64, "a staged batch is one batch");
        self.staged = staged;
    }

    /// Opens the new file, with what stayed so far in it.
    fn begin(&mut self, file: Arc<dyn DiskFile>, from: &Segment, meter: &mut Meter<'_>) -> Result<(), Stop> {
        file.truncate(0)?;
        let kept = self.bytes - self.buffer.len() as u64;
        let mut piece = vec![0; PIECE_BYTES.min(usize::try_from(kept).unwrap_or(PIECE_BYTES))];
        let mut at = 0;
        while at < kept {
            let wanted = piece.len().min(usize::try_from(kept - at).unwrap_or(usize::MAX));
            let read = from.file().and_then(|file| file.read_at(&mut piece[..wanted], at));
            if read.is_err() || read.is_ok_and(|read| read < wanted) {
                return Err(Stop::Damaged { at: 0 });
            }
            meter.move_bytes(wanted)?;
            self.crc.update(&piece[..wanted]);
            append(&*file, &piece[..wanted], at)?;
            at += wanted as u64;
        }
        self.file = Some(file);
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let position = self.bytes - self.buffer.len() as u64;
        self.crc.update(&self.buffer);
        append(&**file, &self.buffer, position)?;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<Option<Cleaned>, Stop> {
        self.write()?;
        let Some(file) = &self.file else { return Ok(None) };
        file.sync_data()?;
        self.index.seal();
        let Self { base, bytes, crc, index, aborted, .. } = self;
        Ok(Some(Cleaned { base, bytes, crc: crc.finish(), index, aborted }))
    }
}

/// Writes a piece of a new segment, to the device: one large sync at the end would keep it, for as long as it takes to
/// write it all, from those who wait for an acknowledgement.
fn append(file: &dyn DiskFile, piece: &[u8], position: u64) -> io::Result<()> {
    file.write_at(&mut [IoSlice::new(piece)], position)?;
    file.write_out(position..position + piece.len() as u64);
    Ok(())
}
