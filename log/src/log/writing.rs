//! Appending: one leader at a time takes what is queued, judges it and writes it with one `pwritev`.

use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::records::BatchHeader;

use super::{AppendError, FlushHere, Log};
use crate::combiner::Role;
use crate::config::DurabilityMode;
use crate::ids::{Offset, ProducerId};
use crate::partition::{
    Aborted, InTransaction, Marker, NO_TIMESTAMP, Partition, Rejection, SharedEpochs, TransactionGuard,
    Verdict, append_time,
};
use crate::segment::{OFFSET_ENTRY_BYTES, Placed, Segment};
use crate::segment_list::{Based, SegmentList};
use crate::snapshot::{SegmentRecord, Snapshot};
use crate::sync::atomic::Ordering::{Relaxed, Release};
use crate::tail::Offsets;

/// A turn of the leader ends after this many batches or bytes: it appends for others, but not for ever.
const TURN_BATCHES: usize = 64;
const TURN_BYTES: usize = 4 << 20;

/// Bytes at the front of a batch that the log writes itself: base offset, length, leader epoch. The CRC
/// does not cover them.
const PREFIX_BYTES: usize = 16;

/// When an append is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// After `write`: a killed process loses nothing, a power cut may.
    Written,
    /// After `fdatasync`, unless the log is told that written is enough ([`DurabilityMode`]).
    Durable,
}

/// One batch to append.
#[derive(Debug)]
pub struct Append {
    /// Exactly one batch, checked; its base offset and leader epoch are replaced on the way to the disk.
    pub batch: Bytes,
    /// Its header.
    pub header: BatchHeader,
    /// When it is answered.
    pub acks: Acks,
    /// What the batch was let in by, if it belongs to a transaction: exactly those that say so have it.
    pub transaction: Option<InTransaction>,
}

/// Where a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record; of the original's, if it was a duplicate.
    pub base_offset: Offset,
    /// The log append time in milliseconds, or -1 if the records keep their producer's.
    pub timestamp: i64,
    /// Where the log starts.
    pub log_start: Offset,
}

/// Called once when an append is settled, on whatever thread settled it. It must
/// not call back into the log.
pub type Done = Box<dyn FnOnce(Result<Appended, AppendError>) + Send>;

/// What a batch is to the log.
#[derive(Debug)]
pub(super) enum What {
    Data(Option<InTransaction>),
    /// Boxed because there are few: what is moved for each batch should be small.
    Marker(Box<Marker>),
}

impl What {
    fn guard(&self) -> Option<TransactionGuard> {
        match self {
            Self::Data(transaction) => transaction.map(|transaction| transaction.guard),
            Self::Marker(marker) => marker.only_if,
        }
    }
}

/// A batch that waits for a leader.
pub(super) struct Queued {
    pub(super) batch: Bytes,
    pub(super) header: BatchHeader,
    pub(super) acks: Acks,
    pub(super) what: What,
    pub(super) done: Done,
}

impl fmt::Debug for Queued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queued")
            .field("header", &self.header)
            .field("what", &self.what)
            .finish_non_exhaustive()
    }
}

/// An append that was judged. Its answer rests on batches that end at `until`: it may not be given before
/// those are as safe as `acks` says, or a crash could leave an answer without its evidence.
pub(super) struct Settled {
    pub(super) until: Offset,
    pub(super) acks: Acks,
    pub(super) result: Result<Appended, AppendError>,
    pub(super) done: Done,
}

/// The right, and the duty, to append what others have queued. Dropping it does the duty on the spot.
#[derive(Debug)]
pub struct Leadership {
    log: Option<Arc<Log>>,
}

impl Leadership {
    /// Takes one bounded turn. `Some` if there is more to do.
    #[must_use]
    pub fn lead(mut self) -> Option<Self> {
        self.log.take().and_then(|log| log.lead_on())
    }
}

impl Drop for Leadership {
    fn drop(&mut self) {
        while let Some(log) = self.log.take() {
            let mut more = log.lead_on();
            self.log = more.as_mut().and_then(|leadership| leadership.log.take());
        }
    }
}

/// What an append leaves to be done. Dropping it is safe: it is done all the same.
#[derive(Debug)]
pub enum Left {
    /// Others have queued more than one turn's worth.
    Lead(Leadership),
    /// One batch waits for the disk, and nothing else does.
    Flush(FlushHere),
}

/// What is left of a turn.
struct Budget {
    batches: usize,
    bytes: usize,
}

impl Budget {
    const TURN: Self = Self { batches: TURN_BATCHES, bytes: TURN_BYTES };

    fn is_spent(&self) -> bool {
        self.batches == 0 || self.bytes == 0
    }

    fn spend(&mut self, bytes: usize) {
        self.batches -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// Accepted batches that go to the disk together.
#[derive(Debug, Default)]
struct Group {
    prefixes: Vec<[u8; PREFIX_BYTES]>,
    batches: Vec<Bytes>,
    placed: Vec<Placed>,
    /// What the markers among them abort.
    aborted: Vec<Aborted>,
}

impl Group {
    fn clear(&mut self) {
        self.aborted.clear();
        self.prefixes.clear();
        self.batches.clear();
        self.placed.clear();
    }
}

/// The partition's state and the segment that grows.
#[derive(Debug)]
pub(super) struct Writer {
    partition: Partition,
    /// Its epochs, for readers.
    epochs: Arc<SharedEpochs>,
    active: Arc<Segment>,
    /// When the active segment got its first batch.
    active_since_ms: i64,
    /// Compaction has been through what lies below.
    cleaned_to: Offset,
    /// Bytes since the last checkpoint.
    unsaved_bytes: u64,
    /// Empty between turns; kept because a turn should not allocate what the last one had.
    group: Group,
}

/// What recovery hands to the writer.
#[derive(Debug)]
pub(super) struct WriterState {
    pub(super) partition: Partition,
    pub(super) active: Arc<Segment>,
    pub(super) active_since_ms: i64,
    pub(super) cleaned_to: Offset,
}

impl Writer {
    /// Takes over, and shows readers in `epochs` who led when.
    pub(super) fn new(found: WriterState, epochs: Arc<SharedEpochs>) -> Self {
        let WriterState { partition, active, active_since_ms, cleaned_to } = found;
        epochs.set(partition.epochs().clone());
        let (unsaved_bytes, group) = (0, Group::default());
        Self { partition, epochs, active, active_since_ms, cleaned_to, unsaved_bytes, group }
    }

    pub(super) fn partition(&self) -> &Partition {
        &self.partition
    }

    /// Compaction has been through what lies below.
    pub(super) fn cleaned_to(&self) -> Offset {
        self.cleaned_to
    }

    /// Compaction has been through what lies below `to`, and may have to go back a little.
    pub(super) fn set_cleaned_to(&mut self, to: Offset) {
        assert!(to <= self.partition.log_end(), "clean up to {to}, beyond the end");
        self.cleaned_to = to;
    }

    pub(super) fn partition_mut(&mut self) -> &mut Partition {
        &mut self.partition
    }

    pub(super) fn active(&self) -> &Segment {
        &self.active
    }

    /// When the active segment got its first batch; -1 if it has none.
    pub(super) fn active_since_ms(&self) -> i64 {
        self.active_since_ms
    }

    fn write_group(&mut self, now_ms: i64) -> io::Result<()> {
        let Group { prefixes, batches, placed, aborted: _ } = &self.group;
        let mut parts = Vec::with_capacity(2 * batches.len());
        for (prefix, batch) in prefixes.iter().zip(batches) {
            parts.push(IoSlice::new(prefix));
            parts.push(IoSlice::new(&batch[PREFIX_BYTES..]));
        }
        self.active.append(&mut parts, placed, now_ms)?;
        self.active.aborted().note(&self.group.aborted);
        self.unsaved_bytes += placed.iter().map(|batch| batch.bytes as u64).sum::<u64>();
        Ok(())
    }

    /// What a snapshot says if it is taken now. It is valid once all that is written now is durable.
    pub(super) fn snapshot(&mut self, segments: &SegmentList<Segment>) -> Snapshot {
        self.unsaved_bytes = 0;
        let record = |segment: &Arc<Segment>| SegmentRecord {
            base: segment.base(),
            bytes: segment.extent().bytes,
            past: segment.past(),
            index: segment.index().mark(),
            aborted: segment.aborted().mark(),
        };
        Snapshot {
            segments: segments.all().iter().map(record).collect(),
            active_since_ms: self.active_since_ms,
            cleaned_to: self.cleaned_to,
            partition: self.partition.clone(),
        }
    }

    /// Starts over with what recovery found.
    pub(super) fn replace(&mut self, found: WriterState) {
        *self = Self::new(found, Arc::clone(&self.epochs));
    }

    /// No batch will follow in the active segment.
    pub(super) fn seal(&self) {
        self.active.seal();
    }
}

impl Log {
    /// Queues a batch; if nobody leads, appends it and whatever else is queued. `done` is called when the
    /// batch is as safe as it asks, maybe before this returns. `Some` if there is work left, which the caller may
    /// hand to another thread, or do.
    pub fn append(self: &Arc<Self>, append: Append, done: Done) -> Option<Left> {
        let Append { batch, header, acks, transaction } = append;
        assert!(header.is_transactional() == transaction.is_some(), "a batch and its append disagree");
        assert!(!header.is_control(), "markers are appended as such");
        self.enqueue(Queued { batch, header, acks, what: What::Data(transaction), done })
    }

    pub(super) fn enqueue(self: &Arc<Self>, queued: Queued) -> Option<Left> {
        match self.queue.push(queued) {
            Role::Leader => self.lead(),
            Role::Follower => None,
        }
    }

    /// Leads for those who are not here to be given the rest.
    fn lead_on(self: &Arc<Self>) -> Option<Leadership> {
        match self.lead()? {
            Left::Lead(leadership) => Some(leadership),
            Left::Flush(for_the_pool) => {
                drop(for_the_pool);
                None
            }
        }
    }

    fn lead(self: &Arc<Self>) -> Option<Left> {
        let mut budget = Budget::TURN;
        let _unless_it_panics = Lead { log: self };
        loop {
            let flush = self.turn(&mut budget);
            match (self.queue.release(), budget.is_spent()) {
                (Role::Follower, _) => return flush.map(Left::Flush),
                (Role::Leader, true) => return Some(Left::Lead(Leadership { log: Some(Arc::clone(self)) })),
                (Role::Leader, false) => {}
            }
        }
    }

    /// Appends what is queued, as far as the budget goes, and answers what can be answered.
    fn turn(self: &Arc<Self>, budget: &mut Budget) -> Option<FlushHere> {
        let now_ms = self.clock.latest_ms();
        let mut settled = Vec::new();
        let (checkpoint_is_due, generation) = {
            let mut writer = self.writer.lock();
            while !budget.is_spent() {
                let Some(queued) = self.queue.take() else { break };
                budget.spend(queued.batch.len());
                settled.push(self.judge(&mut writer, queued, now_ms));
            }
            self.write(&mut writer, now_ms);
            (writer.unsaved_bytes >= self.config().checkpoint_bytes, self.generation.load(Relaxed))
        };
        let flush = self.settle(settled, generation);
        if checkpoint_is_due {
            self.request_checkpoint();
        }
        self.bound_unflushed();
        flush
    }

    fn judge(&self, writer: &mut Writer, queued: Queued, now_ms: i64) -> Settled {
        let Queued { batch, header, acks, what, done } = queued;
        let acks = self.acks(acks);
        let refuse = |error| (Offset::default(), Err(error));
        let log_start = writer.partition.log_start();
        let (until, result) = if let Err(error) = self.admit(&batch, &header, &what) {
            refuse(error)
        } else {
            let (verdict, aborted) = match &what {
                What::Data(transaction) => (writer.partition.on_append(&header, *transaction, now_ms), None),
                What::Marker(marker) => writer.partition.on_marker(&header, marker, now_ms),
            };
            match verdict {
                Verdict::Accept { base_offset } => {
                    self.place(writer, (batch, &header, base_offset), now_ms);
                    writer.group.aborted.extend(aborted);
                    let timestamp = append_time(&header);
                    (writer.partition.log_end(), Ok(Appended { base_offset, timestamp, log_start }))
                }
                Verdict::Duplicate { base_offset, timestamp, end } => {
                    (end, Ok(Appended { base_offset, timestamp, log_start }))
                }
                Verdict::Reject { why, seen } => (seen, Err(why.into())),
            }
        };
        Settled { until, acks, result, done }
    }

    /// Refuses what has no place in the log as it is, whatever it holds.
    fn admit(&self, batch: &Bytes, header: &BatchHeader, what: &What) -> Result<(), AppendError> {
        let segment_bytes = self.config().segment_bytes;
        let bytes = batch.len() as u64;
        assert!(bytes == header.size_in_bytes() as u64, "an append is exactly one batch");
        self.takes_writes()?;
        if bytes > segment_bytes {
            return Err(AppendError::LargerThanSegment { bytes, segment_bytes });
        }
        match what.guard() {
            Some(guard) if guard.generation != self.generation.load(Relaxed) => {
                let producer = ProducerId::new(header.producer_id);
                Err(AppendError::TransactionMoved { producer })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// When an append that asks for this is answered here.
    pub(super) fn acks(&self, asked: Acks) -> Acks {
        match self.config().durability {
            DurabilityMode::Fsync => asked,
            DurabilityMode::Written => Acks::Written,
        }
    }

    /// Finds room for an accepted batch, in a new segment if need be.
    fn place(
        &self,
        writer: &mut Writer,
        (batch, header, base_offset): (Bytes, &BatchHeader, Offset),
        now_ms: i64,
    ) {
        let behind = writer.group.placed.last().map(|last| last.position + last.bytes as u64);
        let position = behind.unwrap_or_else(|| writer.active.extent().bytes);
        let mut placed = Placed::new(header, base_offset, position);
        if self.must_roll(writer, &placed, now_ms) {
            self.write(writer, now_ms);
            self.roll(writer, base_offset);
            placed.position = 0;
        }
        if placed.position == 0 {
            writer.active_since_ms = now_ms;
        }
        let mut prefix = [0; PREFIX_BYTES];
        prefix[..8].copy_from_slice(&base_offset.get().to_be_bytes());
        prefix[8..12].copy_from_slice(&header.batch_length.to_be_bytes());
        prefix[12..].copy_from_slice(&writer.partition.leader_epoch().get().to_be_bytes());
        writer.group.prefixes.push(prefix);
        writer.group.batches.push(batch);
        writer.group.placed.push(placed);
    }

    fn must_roll(&self, writer: &Writer, next: &Placed, now_ms: i64) -> bool {
        let config = self.config();
        let age_ms = now_ms.saturating_sub(writer.active_since_ms);
        let oldest_ms = i64::try_from(config.segment_age.as_millis()).unwrap_or(i64::MAX);
        let entries = (writer.group.placed.len() + 1) * OFFSET_ENTRY_BYTES;
        next.position > 0
            && (next.position + next.bytes as u64 > config.segment_bytes
                || (writer.active_since_ms != NO_TIMESTAMP && age_ms >= oldest_ms)
                || writer.active.index().offset_index_bytes() + entries as u64 > config.index_bytes_max
                || !writer.active.can_index(next.last_offset))
    }

    /// Writes what was placed, and shows it.
    fn write(&self, writer: &mut Writer, now_ms: i64) {
        if let Some(last) = writer.group.placed.last()
            && !self.is_failed()
        {
            let end = last.last_offset.advance(1);
            match writer.write_group(now_ms) {
                Ok(()) => {
                    if !writer.group.aborted.is_empty() {
                        self.has_aborted.store(true, Release);
                    }
                    self.batches.fetch_add(writer.group.placed.len() as u64, Relaxed);
                    self.show(writer, end);
                }
                Err(error) => self.note_failure("write to", &error),
            }
        }
        writer.group.clear();
    }

    fn show(&self, writer: &mut Writer, log_end: Offset) {
        // One node: what is written may be read. A cluster raises it when the others have it.
        writer.partition.raise_high_watermark(log_end);
        self.tail.publish(Offsets { log_end, ..writer.partition.offsets() });
    }

    /// Closes the active segment, if it holds a batch, and starts a new one.
    pub(super) fn roll_active(&self) {
        let mut writer = self.writer.lock();
        if writer.active.extent().bytes > 0 && self.takes_writes().is_ok() {
            let end = writer.partition.log_end();
            self.roll(&mut writer, end);
        }
    }

    /// Starts a new segment. The flusher finishes the old one.
    pub(super) fn roll(&self, writer: &mut Writer, base: Offset) {
        writer.seal();
        match self.new_segment(base) {
            Ok(segment) => {
                self.unsynced.lock().made_in.push(self.dir.to_path_buf());
                writer.active = Arc::new(segment);
                writer.active_since_ms = NO_TIMESTAMP;
                // Due now, whatever was written.
                writer.unsaved_bytes = self.config().checkpoint_bytes;
                self.segments.push(Arc::clone(&writer.active));
            }
            Err(error) => self.note_failure("start a segment in", &error),
        }
    }

    pub(super) fn new_segment(&self, base: Offset) -> io::Result<Segment> {
        Segment::create(&self.disk, &self.dir, base, self.config().index_interval_bytes)
    }
}

/// A leader that panics must not keep the lead: nobody would ever append again, or hear of it.
struct Lead<'a> {
    log: &'a Log,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.log.note_failure("append to", &io::Error::other("a broken invariant, reported above"));
            self.log.queue.release();
        }
    }
}

impl From<Rejection> for AppendError {
    fn from(why: Rejection) -> Self {
        match why {
            Rejection::OutOfOrderSequence { producer, expected, found } => {
                Self::OutOfOrderSequence { producer, expected, found }
            }
            Rejection::InvalidProducerEpoch { producer, current, found } => {
                Self::InvalidProducerEpoch { producer, current, found }
            }
            Rejection::TransactionMoved { producer } => Self::TransactionMoved { producer },
            Rejection::TransactionOpen { producer, current, found } => {
                Self::TransactionOpen { producer, current, found }
            }
            Rejection::NotTransactional { producer } => Self::NotTransactional { producer },
            Rejection::CoordinatorFenced { producer, current, found } => {
                Self::CoordinatorFenced { producer, current, found }
            }
        }
    }
}
