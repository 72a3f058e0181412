//! Goes from batch to batch and believes nothing: what recovery does with a tail, a read with bytes that
//! this process did not write, and a scrub with all of them.
//!
//! A batch is proven when it is whole, has its CRC, and belongs where it lies. The CRC does not cover base
//! offset, length and leader epoch, so those are held against what comes before and against the history of
//! epochs: a valid batch in the wrong place is damage too. Where that fails the search goes on for the next
//! batch that can be proven, so that everything else stays readable: first where the damaged batch says that
//! it ends, which is right if its records are what is damaged, then byte by byte.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use millstream_protocol::records::{BatchHeader, BatchView, CRC_COVERS_FROM, EndMarker, HEADER_BYTES};

use super::Placed;
use super::window::{Source, Window};
use crate::disk::DiskFile;
use crate::ids::{LeaderEpoch, Offset};
use crate::partition::EpochHistory;

/// Bytes that are searched for a header at a time.
const SEARCH_BYTES: usize = 64 << 10;

/// A search for the next batch sums up at most so many times what it searches: bytes that look like
/// headers must not keep it busy for ever.
const SEARCH_FACTOR: u64 = 16;

/// So many batches, or so many bytes of them, tell whether the first of them is where it belongs.
const WITNESSES: usize = 256;
const WITNESS_BYTES: u64 = 16 << 20;

/// Where the magic byte of a header is, and its value.
const MAGIC_AT: usize = 16;
const MAGIC: u8 = 2;

/// Markers of transactions have 78 bytes; they may grow a little.
const MARKER_BATCH_BYTES_MAX: usize = 4 << 10;

/// Why bytes cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageCause {
    /// They are not the batches that belong there.
    Rotten,
    /// The device cannot read them.
    Unreadable,
}

impl fmt::Display for DamageCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rotten => "what lies there is not what was written",
            Self::Unreadable => "the device cannot read it",
        })
    }
}

/// A part of a segment that cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) positions: Range<u64>,
    /// Offsets that were there.
    pub(crate) offsets: Range<Offset>,
    pub(crate) cause: DamageCause,
}

/// Whether offsets may be missing between batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Density {
    /// Each batch begins where the one before ended.
    Dense,
    /// Compaction took some away.
    Gaps,
}

/// What a batch is held against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) density: Density,
    /// No batch ends beyond it.
    pub(crate) end: Offset,
    /// Who led when; `None` while that is being found out.
    pub(crate) epochs: Option<&'a EpochHistory>,
}

/// What lies next.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Batch(Placed, BatchHeader),
    /// No batch that belongs here; `resync` tells how far that goes.
    Bad,
    End,
}

/// A whole batch, or what is between two.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    Batch(Placed, BatchHeader),
    Damage(Damage),
}

#[derive(Debug)]
pub(crate) struct Prover<'a> {
    window: Window,
    rules: Rules<'a>,
    at: u64,
    /// Where the bytes should end; the file may end before.
    end: u64,
    /// The offset that should come next.
    expected: Offset,
    /// What the last batch says if it ends a transaction.
    marker: Option<EndMarker>,
}

impl<'a> Prover<'a> {
    /// Goes through `range`, where a batch with the offset `expected` should begin, reading so much at a time.
    pub(crate) fn new(
        file: Arc<dyn DiskFile>,
        range: Range<u64>,
        expected: Offset,
        rules: Rules<'a>,
        ahead: usize,
    ) -> io::Result<Self> {
        let window = Window::new(file, range.end, ahead)?;
        Ok(Self { window, rules, at: range.start, end: range.end, expected, marker: None })
    }

    /// The same, but reads from `source`.
    pub(crate) fn reading(mut self, source: Source) -> Self {
        self.window.source = source;
        self
    }

    /// Whether the device gave all that was read so far.
    pub(crate) fn has_read_all(&self) -> bool {
        self.window.has_read_all()
    }

    /// Position of what comes next.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// The offset that should come next.
    pub(crate) fn expected(&self) -> Offset {
        self.expected
    }

    /// What the last batch says if it ends a transaction.
    pub(crate) fn marker(&self) -> Option<EndMarker> {
        self.marker
    }

    /// Goes on from `position` if a batch lies there that ends with `last`.
    pub(super) fn anchor(&mut self, position: u64, last: Offset) -> io::Result<bool> {
        let least = Offset::default();
        let batch = self.judge(position, least, Density::Gaps)?;
        let Some(batch) = batch.filter(|batch| batch.last_offset() == last.get()) else { return Ok(false) };
        self.start_at(position, Offset::new(batch.base_offset));
        Ok(true)
    }

    /// Goes on from `position`, where a batch with the offset `expected` should begin.
    pub(super) fn start_at(&mut self, position: u64, expected: Offset) {
        self.at = position;
        self.expected = expected;
    }

    /// The next batch, or that there is none where one should be.
    pub(crate) fn step(&mut self) -> io::Result<Step> {
        if self.at >= self.end {
            return Ok(Step::End);
        }
        let Some(header) = self.judge(self.at, self.expected, self.rules.density)? else {
            return Ok(Step::Bad);
        };
        let placed = Placed::new(&header, Offset::new(header.base_offset), self.at);
        if placed.base_offset > self.expected && !self.gap_is_believable(&placed)? {
            return Ok(Step::Bad);
        }
        self.marker = match header.is_control() {
            true => self.marker_at(&placed)?,
            false => None,
        };
        self.start_at(self.at + placed.bytes as u64, placed.last_offset.advance(1));
        Ok(Step::Batch(placed, header))
    }

    /// What a control batch says. One that is too large to be a marker is none.
    fn marker_at(&mut self, batch: &Placed) -> io::Result<Option<EndMarker>> {
        if batch.bytes > MARKER_BATCH_BYTES_MAX {
            return Ok(None);
        }
        let bytes = self.window.hold(batch.position, batch.bytes)?;
        let view = bytes.and_then(|bytes| BatchView::parse(bytes).ok());
        Ok(view.as_ref().and_then(EndMarker::from_batch))
    }

    /// Goes on behind what is damaged: at the next batch that can be proven, or at the end.
    pub(crate) fn resync(&mut self) -> io::Result<Damage> {
        let (position, expected) = (self.at, self.expected);
        let found = match self.claimed_end()? {
            Claim::Next(next, offset) => Some((next, offset)),
            Claim::Last => None,
            Claim::Wrong => self.search(position + 1)?,
        };
        let (to, offset) = found.unwrap_or((self.end, self.rules.end.max(expected)));
        self.start_at(to, offset);
        let positions = position..to;
        let cause = match self.window.is_readable(&positions) {
            true => DamageCause::Rotten,
            false => DamageCause::Unreadable,
        };
        Ok(Damage { positions, offsets: expected..offset, cause })
    }

    /// The header at `position` of a batch that can be proven and has no offset below `least`.
    fn judge(&mut self, position: u64, least: Offset, density: Density) -> io::Result<Option<BatchHeader>> {
        let Some(bytes) = self.window.hold(position, HEADER_BYTES)? else { return Ok(None) };
        let Ok(header) = BatchHeader::decode(bytes) else { return Ok(None) };
        let end = position + header.size_in_bytes() as u64;
        if end > self.window.end() || !self.may_follow(&header, least, density) {
            return Ok(None);
        }
        let crc = self.window.crc(position + CRC_COVERS_FROM as u64..end)?;
        let readable = self.window.is_readable(&(position..end));
        Ok((crc == Some(header.crc) && readable).then_some(header))
    }

    fn may_follow(&self, header: &BatchHeader, least: Offset, density: Density) -> bool {
        let fits = match density {
            Density::Dense => header.base_offset == least.get(),
            Density::Gaps => header.base_offset >= least.get(),
        };
        // The order matters: what is huge is refused before it is added to.
        fits && header.base_offset < self.rules.end.get()
            && header.last_offset_delta >= 0
            && header.record_count >= 0
            && header.last_offset() < self.rules.end.get()
            && header.partition_leader_epoch >= 0
            && self.rules.epochs.is_none_or(|epochs| {
                let epoch = LeaderEpoch::new(header.partition_leader_epoch);
                epochs.allows(epoch, Offset::new(header.last_offset()))
            })
    }

    /// Offsets are missing before `batch`. If the batch behind it has some of those that it claims, its own
    /// are wrong.
    fn gap_is_believable(&mut self, batch: &Placed) -> io::Result<bool> {
        let behind = batch.position + batch.bytes as u64;
        let next = self.judge(behind, self.expected, Density::Gaps)?;
        Ok(next.is_none_or(|next| next.base_offset > batch.last_offset.get()))
    }

    /// What the header of a damaged batch says of its end, if the batch there says the same.
    fn claimed_end(&mut self) -> io::Result<Claim> {
        let Some(bytes) = self.window.hold(self.at, HEADER_BYTES)? else { return Ok(Claim::Wrong) };
        let Ok(header) = BatchHeader::decode(bytes) else { return Ok(Claim::Wrong) };
        if header.last_offset_delta < 0 {
            return Ok(Claim::Wrong);
        }
        let next = self.at + header.size_in_bytes() as u64;
        let offset = self.expected.advance(i64::from(header.last_offset_delta) + 1);
        if next == self.end && offset == self.rules.end {
            return Ok(Claim::Last);
        }
        // Not even where offsets may be missing is one let pass: a wrong length can end where a later batch does.
        let batch = self.judge(next, offset, Density::Dense)?;
        Ok(batch.map_or(Claim::Wrong, |_| Claim::Next(next, offset)))
    }

    /// The first batch from `position` on that can be proven and belongs there, by what follows it: blocks
    /// that went astray hold whole batches, too, from elsewhere.
    fn search(&mut self, position: u64) -> io::Result<Option<(u64, Offset)>> {
        let left = self.window.end().saturating_sub(position);
        let mut budget = left.saturating_mul(SEARCH_FACTOR);
        let mut found: Vec<Placed> = Vec::new();
        let mut at = position;
        while let Some(batch) = self.next_proven(at, &mut budget)? {
            at = batch.position + batch.bytes as u64;
            found.push(batch);
            let seen = at - found[0].position;
            if found.len() >= WITNESSES || (seen > WITNESS_BYTES && found.len() > 2) {
                break;
            }
        }
        Ok(longest_chain(&found).map(|first| (first.position, first.base_offset)))
    }

    /// The next batch from `position` on that can be proven.
    fn next_proven(&mut self, position: u64, budget: &mut u64) -> io::Result<Option<Placed>> {
        let end = self.window.end();
        let mut at = position;
        while at + HEADER_BYTES as u64 <= end {
            // Where one batch ended the next begins, most often.
            if let Some(batch) = self.judge(at, self.expected, Density::Gaps)? {
                return Ok(Some(Placed::new(&batch, Offset::new(batch.base_offset), at)));
            }
            at += 1;
            let bytes = usize::try_from(end - at).map_or(SEARCH_BYTES, |left| left.min(SEARCH_BYTES));
            let Some(last) = bytes.checked_sub(HEADER_BYTES) else { return Ok(None) };
            let Some(held) = self.window.hold(at, bytes)? else { return Ok(None) };
            let bases = self.expected.get()..self.rules.end.get();
            let may_begin = |from: &usize| {
                let base = held[*from..].first_chunk().map(|base| i64::from_be_bytes(*base));
                held[from + MAGIC_AT] == MAGIC && base.is_some_and(|base| bases.contains(&base))
            };
            let candidates: Vec<usize> = (0..=last).filter(may_begin).collect();
            for candidate in candidates {
                let position = at + candidate as u64;
                *budget = budget.saturating_sub(self.size_at(position)?);
                if *budget == 0 {
                    return Ok(None);
                }
                if let Some(batch) = self.judge(position, self.expected, Density::Gaps)? {
                    return Ok(Some(Placed::new(&batch, Offset::new(batch.base_offset), position)));
                }
            }
            at += last as u64 + 1;
        }
        Ok(None)
    }

    /// How many bytes a header at `position` asks to be summed up.
    fn size_at(&mut self, position: u64) -> io::Result<u64> {
        let left = self.window.end() - position;
        let header = self.window.hold(position, HEADER_BYTES)?.map(BatchHeader::decode);
        let size = header.and_then(Result::ok).map(|header| header.size_in_bytes() as u64);
        Ok(size.filter(|size| *size <= left).unwrap_or_default())
    }
}

/// The first of the most batches that are in order.
fn longest_chain(found: &[Placed]) -> Option<&Placed> {
    // From the last to the first: how many follow each in order, itself included.
    let mut follow: Vec<usize> = vec![1; found.len()];
    for at in (0..found.len()).rev() {
        let behind = (at + 1..found.len()).filter(|next| found[*next].base_offset > found[at].last_offset);
        follow[at] += behind.map(|next| follow[next]).max().unwrap_or(0);
    }
    let most = follow.iter().max()?;
    found.iter().zip(&follow).find(|(_, count)| *count == most).map(|(first, _)| first)
}

/// What a damaged batch says of its end.
enum Claim {
    /// A batch with this offset begins there, as it should.
    Next(u64, Offset),
    /// It is the last one.
    Last,
    /// Nothing that can be believed.
    Wrong,
}
