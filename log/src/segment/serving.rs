//! Finds what a reader may have.
//!
//! The newest batches are found in memory. Others through the index and by walking headers, which is quick,
//! and right where the bytes were verified before. Where they were not, or have left memory since, they are
//! proven batch by batch on the way, which needs the device and is refused to those who must not wait.

use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

use millstream_protocol::records::{BatchHeader, EndMarker};

use super::index::OffsetEntry;
use super::prove::{Damage, DamageCause, Density, Piece, Prover, Rules, Step};
use super::trust::News;
use super::{FileKind, HeaderWalk, Placed, Segment, WalkError};
use crate::disk::Patience;
use crate::ids::Offset;
use crate::partition::{EpochHistory, SharedEpochs};

/// A slice that begins so near to the end of the active segment is taken to be in memory.
const HOT_BYTES: u64 = 32 << 20;

/// Half of such a batch is more work to send for nothing than to look up where it begins.
const CUT_BYTES_MIN: u64 = 32 << 10;

/// A slice that has to be proven first is no longer, but for its first batch: the reader waits for it.
const PROVEN_BYTES_MAX: u64 = 4 << 20;

/// What is read at a time while a slice is proven, at least.
pub(crate) const PROVE_AHEAD_MIN: usize = 64 << 10;

/// The same for all that lies behind each other.
pub(crate) const PROVE_AHEAD: usize = 1 << 20;

/// What a reader wants of a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) from: Offset,
    /// Nothing at or beyond this offset is returned.
    pub(crate) below: Offset,
    pub(crate) max_bytes: usize,
    /// Whether the first batch may exceed `max_bytes`.
    pub(crate) whole_first: bool,
    /// Whether finding it may wait for the device.
    pub(crate) patience: Patience,
}

/// A range of a segment's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) position: u64,
    pub(crate) bytes: usize,
    /// It was written so recently that it is in memory.
    pub(crate) recent: bool,
}

#[derive(Clone, Copy, Debug)]
struct Found {
    position: u64,
    bytes: u64,
    recent: bool,
    /// Where the walk began that led here: all from there on has to be right.
    walked_from: u64,
}

#[derive(Debug)]
enum SearchError {
    IndexIsWrong,
    Walk(WalkError),
}

impl From<WalkError> for SearchError {
    fn from(error: WalkError) -> Self {
        Self::Walk(error)
    }
}

impl From<io::Error> for SearchError {
    fn from(error: io::Error) -> Self {
        Self::Walk(error.into())
    }
}

/// A slice, and what it rests on.
struct Candidate {
    slice: Slice,
    rests_on: Range<u64>,
}

impl Segment {
    /// Finds what a reader may have. `None` if the segment holds nothing from `wanted.from` on.
    pub(crate) fn slice(&self, wanted: Wanted, epochs: &SharedEpochs) -> Result<Option<Slice>, WalkError> {
        if self.trust.is_damaged()
            && let Some(damage) = self.trust.damage_at(wanted.from)
        {
            return Err(WalkError::Damaged(damage));
        }
        let extent = self.extent();
        if wanted.from >= extent.end.min(wanted.below) {
            return Ok(None);
        }
        // Without waiting, whoever asks: to look is to read, and what was read just now looks like memory.
        let (found, is_cold) = match self.candidate(wanted) {
            Ok(found) => (found.filter(|found| self.is_trusted(&found.slice, &found.rests_on)), false),
            Err(SearchError::Walk(WalkError::Io(error))) => (None, error.kind() == io::ErrorKind::WouldBlock),
            Err(_) => (None, false),
        };
        match (found, wanted.patience) {
            (Some(Candidate { slice, .. }), Patience::Never) => return Ok(Some(slice)),
            (Some(Candidate { slice, .. }), Patience::Waits) => {
                if slice.recent || self.file()?.is_resident(slice.position, slice.bytes) {
                    return Ok(Some(slice));
                }
                self.trust.distrust(extent.bytes);
            }
            (None, Patience::Never) => return Err(WalkError::Io(io::ErrorKind::WouldBlock.into())),
            (None, Patience::Waits) if is_cold => self.trust.distrust(extent.bytes),
            (None, Patience::Waits) => {}
        }
        self.prove_slice(wanted, &epochs.get())
    }

    fn is_trusted(&self, slice: &Slice, rests_on: &Range<u64>) -> bool {
        (slice.recent && !self.trust.is_damaged()) || self.trust.covers(rests_on, self.written_from())
    }

    /// What lies from here on was written, or proven, by this process.
    fn written_from(&self) -> u64 {
        self.recent.get().map_or(u64::MAX, |recent| recent.since)
    }

    /// What the index and the headers say, without proof.
    fn candidate(&self, wanted: Wanted) -> Result<Option<Candidate>, SearchError> {
        let extent = self.extent();
        let limit = match wanted.below >= extent.end {
            true => extent.bytes,
            false => {
                let behind = self.locate(wanted.below, extent.bytes)?;
                behind.map_or(extent.bytes, |found| found.position)
            }
        };
        let Some(first) = self.locate(wanted.from, extent.bytes)? else { return Ok(None) };
        let damage = match self.trust.is_damaged() {
            true => self.trust.damage_behind(first.position),
            false => None,
        };
        let limit = damage.map_or(limit, |damage| damage.min(limit));
        if first.position >= limit {
            return Ok(None);
        }
        let whole = limit - first.position;
        let max = wanted.max_bytes as u64;
        let first_bytes = first.bytes.min(whole);
        let bytes = if whole <= max {
            whole
        } else if first_bytes <= max {
            // A cut batch at the end is legal, but it is sent for nothing.
            let end = first.position + max;
            self.boundary(&first, end).unwrap_or(end) - first.position
        } else if wanted.whole_first {
            first_bytes
        } else {
            0
        };
        let rests_on = first.walked_from..first.position + bytes;
        let recent = first.recent && first.position >= self.hot_from();
        let bytes = usize::try_from(bytes).expect("a segment fits in memory");
        Ok(Some(Candidate { slice: Slice { position: first.position, bytes, recent }, rests_on }))
    }

    /// The last beginning of a batch at or below `end` and behind `first`, where that costs less than to send
    /// a part of a batch.
    fn boundary(&self, first: &Found, end: u64) -> Option<u64> {
        let behind_first = first.position + first.bytes;
        let recent = self.recent.get().and_then(|recent| recent.boundary_at_or_below(end));
        if let Some(at) = recent.filter(|at| *at >= behind_first) {
            return Some(at);
        }
        let patience = (first.bytes >= CUT_BYTES_MIN).then_some(Patience::Never);
        // Whatever is wrong with the index, a slice without it is right.
        let at = self.index.boundary(self, end, patience).ok().flatten();
        at.filter(|at| *at >= behind_first)
    }

    /// The first batch that ends at or behind `offset`, as far as memory, index and headers say.
    fn locate(&self, offset: Offset, end: u64) -> Result<Option<Found>, SearchError> {
        let target = u32::try_from((offset.get() - self.base.get()).max(0)).unwrap_or(u32::MAX);
        // What is remembered takes each batch to end where the next one begins.
        let is_dense = !self.is_compacted && !self.trust.is_damaged();
        let recent = self.recent.get().filter(|_| is_dense);
        let Some(found) = recent.and_then(|recent| recent.holding(target)) else {
            return self.search(offset, end);
        };
        // The newest batch has no successor: it ends where the segment does.
        if found.position >= end || (found.next.is_none() && offset >= self.extent().end) {
            return Ok(None);
        }
        let position = found.position;
        let bytes = found.next.unwrap_or(end).min(end) - position;
        Ok(Some(Found { position, bytes, recent: true, walked_from: position }))
    }

    /// Looks up the index and walks from there, and notices when the index does not fit the log.
    fn search(&self, offset: Offset, end: u64) -> Result<Option<Found>, SearchError> {
        let around = self.index.around(self, offset, Patience::Never)?;
        let mut entry = around.at_or_below;
        let mut start = entry.map_or(0, |entry| u64::from(entry.position));
        if let Some(next) = around.next
            && u64::from(next.position).saturating_sub(start) >= 2 * self.index.interval()
            && let Some(found) = self.at_entry(next, offset, end)?
        {
            return Ok(Some(found));
        }
        if self.trust.is_damaged()
            && let Some((position, _)) = self.trust.resynced_before(offset).filter(|(at, _)| *at >= start)
        {
            (entry, start) = (None, position);
        }
        let file = self.file()?;
        let mut walk = HeaderWalk::new(&*file, start..end).with(Patience::Never);
        let mut at_entry = entry;
        loop {
            let (position, header) = match walk.next() {
                Ok(Some(batch)) => batch,
                // An entry that points behind the last batch.
                Ok(None) if at_entry.is_some() => return Err(SearchError::IndexIsWrong),
                Ok(None) => return Ok(None),
                // An entry that points between batches looks like damage of the log.
                Err(WalkError::Corrupt { position }) if entry.is_some() && position == start => {
                    return Err(SearchError::IndexIsWrong);
                }
                Err(error) => return Err(error.into()),
            };
            let last = Offset::new(header.last_offset());
            if at_entry.take().is_some_and(|entry| self.relative_or_max(last) != entry.offset) {
                return Err(SearchError::IndexIsWrong);
            }
            if last >= offset {
                let bytes = header.size_in_bytes() as u64;
                let recent = self.is_hot(position, end);
                return Ok(Some(Found { position, bytes, recent, walked_from: start }));
            }
            if position - start > self.index.interval() && self.index.may_be_rebuilt() {
                return Err(SearchError::IndexIsWrong);
            }
        }
    }

    /// Where batches are large each has an entry, and the one behind `offset` is its own.
    fn at_entry(&self, entry: OffsetEntry, offset: Offset, end: u64) -> Result<Option<Found>, WalkError> {
        let file = self.file()?;
        let batch = match HeaderWalk::new(&*file, u64::from(entry.position)..end).with(Patience::Never).next()
        {
            Ok(batch) => batch,
            // The walk from the entry before will tell what is wrong.
            Err(WalkError::Corrupt { .. } | WalkError::Damaged(_)) => None,
            Err(error @ WalkError::Io(_)) => return Err(error),
        };
        let holds = |header: &BatchHeader| {
            (header.base_offset..=header.last_offset()).contains(&offset.get())
                && self.relative_or_max(Offset::new(header.last_offset())) == entry.offset
        };
        Ok(batch.filter(|(_, header)| holds(header)).map(|(position, header)| Found {
            position,
            bytes: header.size_in_bytes() as u64,
            recent: self.is_hot(position, end),
            walked_from: position,
        }))
    }

    /// What was appended before here may have left memory.
    fn hot_from(&self) -> u64 {
        match self.is_sealed.load(Relaxed) {
            true => u64::MAX,
            false => self.hot_from.load(Relaxed),
        }
    }

    /// A while has passed: what was appended so far may leave memory, and who reads it has to ask.
    pub(crate) fn cool(&self) {
        self.hot_from.store(self.extent().bytes, Relaxed);
    }

    /// Whether what lies at `position` was in memory a moment ago.
    fn is_hot(&self, position: u64, end: u64) -> bool {
        position >= self.written_from() && end - position <= HOT_BYTES
    }

    fn relative_or_max(&self, offset: Offset) -> u32 {
        u32::try_from(offset.get() - self.base.get()).unwrap_or(u32::MAX)
    }

    /// What the batches of this segment are held against.
    pub(crate) fn rules<'a>(&self, epochs: &'a EpochHistory) -> Rules<'a> {
        let density = match self.is_compacted {
            true => Density::Gaps,
            false => Density::Dense,
        };
        let end = self.extent().end.min(self.index_end());
        Rules { density, end, epochs: Some(epochs) }
    }

    /// Proves the batches from the one that ends at or behind `offset`, or a little before, to the end.
    pub(crate) fn proven_from<'a>(
        &'a self,
        offset: Offset,
        epochs: &'a EpochHistory,
        ahead: usize,
    ) -> io::Result<Proving<'a>> {
        let prover = self.anchored(offset, epochs, ahead)?;
        let since = prover.at();
        Ok(Proving { segment: self, prover, since, anchor: since })
    }

    /// A prover that stands before `offset`, on ground that is proven.
    fn anchored<'a>(
        &'a self,
        offset: Offset,
        epochs: &'a EpochHistory,
        ahead: usize,
    ) -> io::Result<Prover<'a>> {
        let range = 0..self.extent().bytes;
        let mut prover = Prover::new(self.file()?, range, self.base, self.rules(epochs), ahead)?;
        let resynced = self.trust.resynced_before(offset);
        let floor = resynced.map_or(0, |(position, _)| position);
        let mut target = offset;
        // An entry that does not fit is wrong, or its batch is damaged: the one before it tells which.
        for _ in 0..2 {
            if target <= self.base {
                // Who makes the index anew comes this way.
                break;
            }
            // Whatever is wrong with the index, the log is right without it.
            let around = self.index.around(self, target, Patience::Waits);
            let entry = around.ok().and_then(|around| around.at_or_below);
            let Some(entry) = entry.filter(|entry| u64::from(entry.position) > floor) else { break };
            let last = self.base.advance(i64::from(entry.offset));
            if prover.anchor(u64::from(entry.position), last)? {
                return Ok(prover);
            }
            target = last.advance(-1);
        }
        if let Some((position, expected)) = resynced {
            prover.start_at(position, expected);
        }
        Ok(prover)
    }

    /// Proves what a reader wants before it gets it.
    fn prove_slice(&self, wanted: Wanted, epochs: &EpochHistory) -> Result<Option<Slice>, WalkError> {
        let ahead = wanted.max_bytes.clamp(PROVE_AHEAD_MIN, PROVE_AHEAD);
        let mut proving = self.proven_from(wanted.from, epochs, ahead)?;
        let max = (wanted.max_bytes as u64).min(PROVEN_BYTES_MAX);
        let mut first: Option<u64> = None;
        let mut end = 0;
        loop {
            match proving.step()? {
                Step::Batch(batch, _) if batch.last_offset < wanted.from => {
                    if proving.is_lost(&batch) {
                        // Entries are missing or wrong. Making them anew proves all there is.
                        self.index.rebuild(self, epochs)?;
                        proving = self.proven_from(wanted.from, epochs, ahead)?;
                    }
                }
                Step::Batch(batch, _) if batch.last_offset >= wanted.below => break,
                Step::Batch(batch, _) => {
                    let behind = batch.position + batch.bytes as u64;
                    let begin = *first.get_or_insert(batch.position);
                    let fits = behind - begin <= max;
                    if fits || (begin == batch.position && wanted.whole_first) {
                        end = behind;
                    }
                    if !fits {
                        break;
                    }
                }
                // Another read will find out how far it goes.
                Step::Bad if first.is_some() => break,
                Step::Bad => {
                    let damage = proving.resync()?;
                    // Where offsets may be missing it can be the next that there is; it is not passed over.
                    if damage.offsets.end > wanted.from {
                        return Err(WalkError::Damaged(damage));
                    }
                }
                Step::End => break,
            }
        }
        match (first, proving.missing()) {
            (Some(position), _) => {
                let bytes = usize::try_from(end.saturating_sub(position)).expect("a segment fits in memory");
                Ok(Some(Slice { position, bytes, recent: false }))
            }
            (None, Some(damage)) => {
                self.note_damage(&damage);
                Err(WalkError::Damaged(damage))
            }
            (None, None) => Ok(None),
        }
    }

    /// Reads a slice again that left memory, and proves it again on the way. `from` is what it was found by.
    pub(crate) fn prove_again(
        &self,
        slice: Slice,
        from: Offset,
        epochs: &EpochHistory,
    ) -> Result<(), WalkError> {
        let to = slice.position + slice.bytes as u64;
        let mut proving = self.proven_from(from, epochs, slice.bytes.min(PROVE_AHEAD))?;
        while proving.at() < to {
            match proving.piece()? {
                Some(Piece::Damage(damage)) if damage.positions.end > slice.position => {
                    return Err(WalkError::Damaged(damage));
                }
                Some(_) => {}
                None => break,
            }
        }
        Ok(())
    }

    /// Where the first batch that ends at or behind `offset` lies, or the damage that has it; the end of the
    /// segment if there is none.
    pub(crate) fn position_of(&self, offset: Offset, epochs: &EpochHistory) -> Result<u64, WalkError> {
        let mut proving = self.proven_from(offset, epochs, PROVE_AHEAD_MIN)?;
        while let Some(piece) = proving.piece()? {
            match piece {
                Piece::Batch(batch, _) if batch.last_offset >= offset => return Ok(batch.position),
                Piece::Damage(damage) if damage.offsets.end > offset => return Ok(damage.positions.start),
                _ => {}
            }
        }
        Ok(self.extent().bytes)
    }

    /// The offset behind a slice, or behind a little more of the segment.
    pub(crate) fn offset_behind(&self, slice: Slice, patience: Patience) -> Offset {
        let end = slice.position + slice.bytes as u64;
        let entry = self.index.offset_at(self, end, patience).ok().flatten();
        entry.unwrap_or_else(|| self.extent().end)
    }

    /// What is damaged from the batch on that ends at or behind `offset`, or from a little before.
    pub(crate) fn damage_from(&self, offset: Offset, epochs: &EpochHistory) -> io::Result<Vec<Damage>> {
        let mut proving = self.proven_from(offset, epochs, PROVE_AHEAD)?;
        let mut found = Vec::new();
        while let Some(piece) = proving.piece()? {
            if let Piece::Damage(damage) = piece {
                found.push(damage);
            }
        }
        Ok(found)
    }

    /// About where `offset` lies, without looking at the log.
    pub(crate) fn probable_position(&self, offset: Offset) -> u64 {
        let around = self.index.around(self, offset, Patience::Waits);
        let entry = around.ok().and_then(|around| around.at_or_below);
        entry.map_or(0, |entry| u64::from(entry.position).min(self.extent().bytes))
    }

    /// Remembers damage, and says so the first time.
    pub(crate) fn note_damage(&self, damage: &Damage) {
        if self.trust.note_damage(damage) != News::First {
            return;
        }
        let file = self.path(FileKind::Log);
        let Damage { positions, offsets, cause } = damage;
        let what = match cause {
            DamageCause::Rotten => "bytes on the disk are not the batches that were written there",
            DamageCause::Unreadable => "the device cannot read batches",
        };
        tracing::error!(
            file = %file.display(), from = positions.start, to = positions.end,
            first_offset = %offsets.start, next_offset = %offsets.end,
            "{what}; these offsets cannot be read, all others can"
        );
    }

    /// What is known to be damaged.
    pub(crate) fn damaged(&self) -> Vec<Damage> {
        self.trust.damaged()
    }
}

/// Goes through a segment batch by batch, and remembers what it proved and what it could not.
#[derive(Debug)]
pub(crate) struct Proving<'a> {
    segment: &'a Segment,
    prover: Prover<'a>,
    /// All from here to where it stands is proven.
    since: u64,
    /// Where it began, or went on behind damage.
    anchor: u64,
}

impl Proving<'_> {
    /// Position of what comes next.
    pub(crate) fn at(&self) -> u64 {
        self.prover.at()
    }

    /// The offset that should come next.
    pub(crate) fn expected(&self) -> Offset {
        self.prover.expected()
    }

    /// The next batch or damaged range; `None` at the end.
    pub(crate) fn piece(&mut self) -> io::Result<Option<Piece>> {
        Ok(match self.step()? {
            Step::Batch(placed, header) => Some(Piece::Batch(placed, header)),
            Step::Bad => Some(Piece::Damage(self.resync()?)),
            Step::End => None,
        })
    }

    /// What the last batch says if it ends a transaction.
    pub(crate) fn marker(&self) -> Option<EndMarker> {
        self.prover.marker()
    }

    fn step(&mut self) -> io::Result<Step> {
        self.prover.step()
    }

    fn resync(&mut self) -> io::Result<Damage> {
        self.remember();
        let damage = self.prover.resync()?;
        self.segment.note_damage(&damage);
        self.since = self.prover.at();
        self.anchor = self.since;
        Ok(damage)
    }

    /// Offsets that should have come and did not, once the end is reached.
    fn missing(&self) -> Option<Damage> {
        let end = self.segment.extent();
        let rules_end = self.segment.index_end().min(end.end);
        let is_short = !self.segment.is_compacted && self.at() >= end.bytes && self.expected() < rules_end;
        is_short.then(|| Damage {
            positions: end.bytes..end.bytes,
            offsets: self.expected()..rules_end,
            cause: DamageCause::Rotten,
        })
    }

    /// Whether `batch` should have had an entry, and this should have begun there.
    fn is_lost(&self, batch: &Placed) -> bool {
        let index = self.segment.index();
        batch.position - self.anchor > index.interval() && index.may_be_rebuilt()
    }

    fn remember(&self) {
        self.segment.trust.note_verified(self.since..self.at());
    }
}

impl Drop for Proving<'_> {
    fn drop(&mut self) {
        self.remember();
    }
}

impl From<SearchError> for WalkError {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::Walk(error) => error,
            SearchError::IndexIsWrong => Self::Io(io::ErrorKind::WouldBlock.into()),
        }
    }
}
