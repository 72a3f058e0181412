//! Decides which records stay: pure, by Kafka's rules.
//!
//! Of each key the record with the largest offset below the end of the run stays. A tombstone that was the last
//! of its key stays until its batch's delete horizon: the time of the first run that went through it, plus the
//! time that consumers have to see it. Records without a key go, and so do those of transactions that were aborted.
//! A marker stays until nothing of its transaction is left, and then until its delete horizon.

use std::collections::HashMap;

use millstream_protocol::records::{BatchHeader, RecordSpan};

use super::key_map::{Full, KeyHash, KeyMap};
use super::transactions::{Ended, MarkerNeed, Remains, Seen};
use crate::ids::{Offset, ProducerId};
use crate::partition::Aborted;

/// What a run knows when it decides.
#[derive(Debug)]
pub(super) struct Survivors {
    map: KeyMap,
    /// Offsets in the map are relative to it: the first dirty offset.
    base: Offset,
    /// What lies from here on is not judged.
    end: Offset,
    now_ms: i64,
    /// What a batch gets that is gone through first.
    new_horizon_ms: i64,
    /// Where the last batch of each producer begins that is still known.
    last_batches: HashMap<ProducerId, Offset>,
    ended: Ended,
    /// Something was left in place unread: an older record of any key may lie in it.
    left_unread: bool,
    hashes: Vec<Option<KeyHash>>,
}

/// What a run starts from.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) map: KeyMap,
    pub(super) dirty_from: Offset,
    pub(super) now_ms: i64,
    pub(super) new_horizon_ms: i64,
    pub(super) last_batches: HashMap<ProducerId, Offset>,
    /// The transactions that were aborted and have records in what is compacted.
    pub(super) aborted: Vec<Aborted>,
}

/// What becomes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays as it is.
    Stays,
    /// Some records stay, or it gets a delete horizon.
    Changes {
        delete_horizon_ms: Option<i64>,
    },
    /// No record stays, but its producer's last sequence has to.
    Empties,
    Goes,
}

impl Survivors {
    pub(super) fn new(given: Given) -> Self {
        let Given { map, dirty_from, now_ms, new_horizon_ms, last_batches, aborted } = given;
        Self {
            map,
            base: dirty_from,
            end: dirty_from,
            now_ms,
            new_horizon_ms,
            last_batches,
            ended: Ended::new(aborted),
            left_unread: false,
            hashes: Vec::new(),
        }
    }

    /// Whether the records of a batch are judged one by one.
    pub(super) fn looks_into(&self, header: &BatchHeader) -> bool {
        !header.is_control() && !self.ended.is_aborted(header)
    }

    /// What was seen of transactions so far, for a part of the second pass that has to be done again.
    pub(super) fn seen(&self) -> Seen {
        self.ended.seen()
    }

    /// A part of the second pass is done again.
    pub(super) fn go_back(&mut self, seen: Seen) {
        self.ended.go_back(seen);
    }

    /// First pass: takes up the keys of a batch of the dirty range, in order. The end of the run is moved
    /// behind each record, and stays before the first whose key has no room.
    pub(super) fn learn(
        &mut self,
        header: &BatchHeader,
        (body, spans): (&[u8], &[RecordSpan]),
    ) -> Result<(), Full> {
        self.hash_all(body, spans);
        for (span, hash) in spans.iter().zip(&self.hashes) {
            let offset = Offset::new(header.base_offset + i64::from(span.offset_delta));
            if offset < self.base {
                continue;
            }
            if let Some(hash) = hash {
                let relative = u32::try_from(offset.get() - self.base.get()).map_err(|_| Full)?;
                self.map.put(*hash, relative)?;
            }
            self.end = offset.advance(1);
        }
        Ok(())
    }

    /// First pass: all below was taken up, or can never be.
    pub(super) fn reach(&mut self, end: Offset) {
        self.end = self.end.max(end);
    }

    pub(super) fn end(&self) -> Offset {
        self.end
    }

    pub(super) fn keys(&self) -> usize {
        self.map.len()
    }

    pub(super) fn map_bytes(&self) -> usize {
        self.map.bytes()
    }

    /// Second pass: something is left as it is without having been read. A tombstone behind it must stay, or
    /// a value of its key in there would come to life again.
    pub(super) fn leave_unread(&mut self) {
        self.left_unread = true;
    }

    /// Second pass: decides about a batch as a whole that is not looked into, and is no marker.
    pub(super) fn judge_whole(&mut self, header: &BatchHeader) -> Fate {
        let fate = if header.base_offset >= self.end.get() || !self.ended.is_aborted(header) {
            Fate::Stays
        } else {
            self.empty(header, usize::try_from(header.record_count).unwrap_or(0))
        };
        self.note(header, fate)
    }

    /// Second pass: decides about a control batch, and says what readers have to know as long as it is there.
    /// `ends` is whether it ends a transaction, as all do that we write, or is empty.
    pub(super) fn judge_control(&mut self, header: &BatchHeader, ends: bool) -> (Fate, Option<Aborted>) {
        let MarkerNeed { is_needed, aborted } = self.ended.on_marker(header);
        // Batches of it may lie in what was not read.
        let aborted = if self.left_unread { self.ended.aborted_at(header).copied() } else { aborted };
        let is_beyond = header.base_offset >= self.end.get();
        if is_needed || !ends || is_beyond || self.left_unread || self.holds_last_sequence(header) {
            return (Fate::Stays, aborted);
        }
        match header.delete_horizon_ms() {
            None => (Fate::Changes { delete_horizon_ms: Some(self.new_horizon_ms) }, aborted),
            Some(at) if self.now_ms < at => (Fate::Stays, aborted),
            Some(_) => (Fate::Goes, None),
        }
    }

    /// Second pass: decides about a batch and marks the records that stay.
    pub(super) fn judge(&mut self, header: &BatchHeader, records: (&[u8], &mut [RecordSpan])) -> Fate {
        let fate = self.judge_records(header, records);
        self.note(header, fate)
    }

    fn note(&mut self, header: &BatchHeader, fate: Fate) -> Fate {
        let remains = if fate == Fate::Goes { Remains::No } else { Remains::Yes };
        self.ended.on_data(header, remains);
        fate
    }

    /// What becomes of a batch of which no record stays.
    fn empty(&self, header: &BatchHeader, records: usize) -> Fate {
        match self.holds_last_sequence(header) {
            true if records == 0 => Fate::Stays,
            true => Fate::Empties,
            false => Fate::Goes,
        }
    }

    fn judge_records(&mut self, header: &BatchHeader, (body, spans): (&[u8], &mut [RecordSpan])) -> Fate {
        self.hash_all(body, spans);
        let tombstones_stay =
            self.left_unread || header.delete_horizon_ms().is_none_or(|at| self.now_ms < at);
        let (mut staying, mut staying_tombstones) = (0, 0);
        for (span, hash) in spans.iter_mut().zip(&self.hashes) {
            let offset = header.base_offset + i64::from(span.offset_delta);
            let is_last = match hash {
                Some(hash) => match self.map.get(*hash) {
                    Some(last) => self.base.get() + i64::from(last) <= offset,
                    None => true,
                },
                None => false,
            };
            span.stays = offset >= self.end.get() || (is_last && (!span.is_tombstone || tombstones_stay));
            staying += usize::from(span.stays);
            staying_tombstones += usize::from(span.stays && span.is_tombstone);
        }
        if staying == 0 {
            return self.empty(header, spans.len());
        }
        // Only a run that has been through the whole batch starts the time that its tombstones have left.
        let was_gone_through = header.last_offset() < self.end.get();
        let starts = staying_tombstones > 0 && was_gone_through && header.delete_horizon_ms().is_none();
        match starts {
            true => Fate::Changes { delete_horizon_ms: Some(self.new_horizon_ms) },
            false if staying == spans.len() => Fate::Stays,
            false => Fate::Changes { delete_horizon_ms: None },
        }
    }

    fn holds_last_sequence(&self, header: &BatchHeader) -> bool {
        let last = self.last_batches.get(&ProducerId::new(header.producer_id));
        last.is_some_and(|base| base.get() == header.base_offset)
    }

    /// All keys before any lookup: the lookups then wait for memory together, not one after the other.
    fn hash_all(&mut self, body: &[u8], spans: &[RecordSpan]) {
        self.hashes.clear();
        self.hashes.extend(spans.iter().map(|span| span.key(body).map(|key| self.map.hash(key))));
    }
}
