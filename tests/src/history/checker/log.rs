//! What all clients together know of one key, and what is wrong with it whoever looked.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::transactions::{Fate, Transactions};
use super::{Anomaly, Kind, Verdict};
use crate::history::{Isolation, Key, Op, Outcome, Polled, Sent, Transaction, Value};

/// One key.
#[derive(Debug, Default)]
pub(super) struct KeyLog {
    pub(super) sends: HashMap<Value, Send>,
    pub(super) reads: Vec<Read>,
    pub(super) marks: Vec<Mark>,
    /// Where transactions end, as far as somebody saw it.
    markers: BTreeSet<i64>,
    /// Offsets at which a record was read, in order, each once. Known once settled.
    read_offsets: Vec<i64>,
    /// Those at which a reader of committed records read one that it was right to see.
    committed_offsets: BTreeSet<i64>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Send {
    pub(super) outcome: Outcome,
    crc: u32,
    pub(super) offset: Option<i64>,
    ended_us: u64,
    pub(super) transaction: Option<Transaction>,
    /// The lowest offset at which it was read, and when that first ended.
    pub(super) read: Option<(i64, u64)>,
    /// Whether a reader of committed records read it.
    pub(super) is_read_committed: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Read {
    pub(super) offset: i64,
    pub(super) value: Option<Value>,
    crc: u32,
    pub(super) ended_us: u64,
    pub(super) isolation: Isolation,
}

/// The bounds of a key, as the broker told them once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) began_us: u64,
    pub(super) ended_us: u64,
    pub(super) log_start: i64,
    pub(super) high_watermark: i64,
    pub(super) last_stable: Option<i64>,
    pub(super) leader_epoch: i32,
}

impl KeyLog {
    pub(super) fn sent(&mut self, record: &Sent, transaction: Option<Transaction>, op: &Op) {
        // An offset that a failed or unanswered send claims to have is no knowledge.
        let offset = record.offset.filter(|_| op.outcome == Outcome::Ok);
        let send = Send {
            outcome: op.outcome,
            crc: record.crc,
            offset,
            ended_us: op.ended_us,
            transaction,
            read: None,
            is_read_committed: false,
        };
        let before = self.sends.insert(record.value, send);
        assert!(before.is_none(), "value {:#x} was sent twice: the load is broken", record.value);
    }

    pub(super) fn polled(&mut self, record: &Polled, isolation: Isolation, op: &Op) {
        let Polled { offset, value, crc, .. } = *record;
        self.reads.push(Read { offset, value, crc, ended_us: op.ended_us, isolation });
    }

    /// A marker is here.
    pub(super) fn passed(&mut self, offset: i64) {
        self.markers.insert(offset);
    }

    pub(super) fn marked(&mut self, mark: Mark) {
        self.marks.push(mark);
    }

    /// Puts what was seen in order.
    pub(super) fn settle(&mut self, transactions: &Transactions) {
        self.reads.sort_unstable_by_key(|read| (read.offset, read.value, read.ended_us));
        for read in &self.reads {
            if let Some(send) = read.value.and_then(|value| self.sends.get_mut(&value)) {
                let (offset, first) = send.read.unwrap_or((read.offset, read.ended_us));
                send.read = Some((offset.min(read.offset), first.min(read.ended_us)));
                send.is_read_committed |= read.isolation == Isolation::Committed;
            }
        }
        self.read_offsets = self.reads.iter().map(|read| read.offset).collect();
        self.read_offsets.dedup();
        // What was not to be seen is missed by nobody else.
        let is_right = |read: &&Read| {
            let of = read.value.and_then(|value| self.sends.get(&value)?.transaction);
            of.is_none_or(|transaction| transactions.fate(transaction) != Fate::Aborted)
        };
        let committed = self.reads.iter().filter(|read| read.isolation == Isolation::Committed);
        self.committed_offsets = committed.filter(is_right).map(|read| read.offset).collect();
    }

    /// Where a value is: where its sender was told it is, or else where it was read.
    pub(super) fn position(&self, value: Value) -> Option<i64> {
        let send = self.sends.get(&value)?;
        send.offset.or(send.read.map(|(offset, _)| offset))
    }

    /// Whether somebody read a record between two offsets, both excluded, that a reader of this kind is to see.
    pub(super) fn has_record_between(&self, before: i64, after: i64, isolation: Isolation) -> bool {
        match isolation {
            Isolation::Uncommitted => {
                let next = self.read_offsets.partition_point(|offset| *offset <= before);
                self.read_offsets.get(next).is_some_and(|offset| *offset < after)
            }
            Isolation::Committed => {
                let next = self.committed_offsets.range(before + 1..).next();
                next.is_some_and(|offset| *offset < after)
            }
        }
    }

    /// The last offset at which somebody read a record who was to see only what is certain, if there is such a reader.
    pub(super) fn bound(&self) -> Option<i64> {
        self.committed_offsets.last().or(self.read_offsets.last()).copied()
    }

    /// Whether a send is seen by those who are to see it: readers of committed records, if there are any.
    pub(super) fn is_seen(&self, send: &Send) -> bool {
        if self.committed_offsets.is_empty() { send.read.is_some() } else { send.is_read_committed }
    }

    /// Whether retention took what was here; of an offset that was not told that may be so as well.
    pub(super) fn is_deleted(&self, offset: Option<i64>) -> bool {
        self.log_start().is_some_and(|start| offset.map_or(start > 0, |offset| offset < start))
    }

    pub(super) fn judge(&self, key: Key, verdict: &mut Verdict) {
        let mut found = Found { key, anomalies: &mut verdict.anomalies };
        self.judge_offsets(&mut found);
        self.judge_reads(&mut found);
        self.judge_sends(&mut found);
        self.judge_holes(&mut found);
        self.judge_watermarks(&mut found);
        let figures = &mut verdict.figures;
        figures.readings += self.reads.len();
        for send in self.sends.values() {
            match send.outcome {
                Outcome::Ok => {
                    figures.acknowledged += 1;
                    let lag = send.read.map_or(0, |(_, first)| first.saturating_sub(send.ended_us));
                    figures.worst_lag_us = figures.worst_lag_us.max(lag);
                }
                Outcome::Fail => figures.failed += 1,
                Outcome::Info => {
                    figures.unknown += 1;
                    figures.unknown_read += usize::from(send.read.is_some());
                }
            }
        }
    }

    /// An offset has one value, and a value one offset; what is known of both by sends and by reads.
    fn judge_offsets(&self, found: &mut Found<'_>) {
        let told = self.sends.iter().filter_map(|(value, send)| Some((send.offset?, *value)));
        let read = self.reads.iter().filter_map(|read| Some((read.offset, read.value?)));
        let mut places: Vec<_> = told.chain(read).collect();
        places.sort_unstable();
        places.dedup();
        for pair in places.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
            found.add(Kind::InconsistentOffsets, Some(pair[1].0), None);
        }
        places.sort_unstable_by_key(|(offset, value)| (*value, *offset));
        for pair in places.windows(2).filter(|pair| pair[0].1 == pair[1].1) {
            found.add(Kind::Duplicate, Some(pair[1].0), Some(pair[1].1));
        }
    }

    fn judge_reads(&self, found: &mut Found<'_>) {
        for read in &self.reads {
            let kind = match read.value.map(|value| self.sends.get(&value)) {
                None => Kind::Damaged,
                Some(None) => Kind::Phantom,
                Some(Some(send)) if send.crc != read.crc => Kind::Damaged,
                Some(Some(Send { outcome: Outcome::Fail, .. })) => Kind::G1a,
                Some(Some(_)) => continue,
            };
            found.add(kind, Some(read.offset), read.value);
        }
    }

    fn judge_sends(&self, found: &mut Found<'_>) {
        let bound = self.read_offsets.last().copied();
        for (value, send) in &self.sends {
            if send.outcome != Outcome::Ok || send.read.is_some() || send.transaction.is_some() {
                continue;
            }
            match send.offset {
                offset if self.is_deleted(offset) => {}
                Some(offset) if bound.is_some_and(|bound| offset <= bound) => {
                    found.add(Kind::LostWrite, Some(offset), Some(*value));
                }
                offset => found.add(Kind::Unseen, offset, Some(*value)),
            }
        }
    }

    fn log_start(&self) -> Option<i64> {
        self.marks.iter().map(|mark| mark.log_start).max()
    }

    /// Offsets that must have a record, and of which nobody knows one. An acknowledged one is lost, not a hole.
    fn judge_holes(&self, found: &mut Found<'_>) {
        let has_markers = self.sends.values().any(|send| send.transaction.is_some());
        if has_markers && self.markers.is_empty() {
            // Nobody looked for what has no record.
            return;
        }
        let told: HashSet<i64> = self.sends.values().filter_map(|send| send.offset).collect();
        let first = self.log_start().or(self.read_offsets.first().copied());
        let last_mark = self.marks.iter().max_by_key(|mark| mark.ended_us);
        let last = self.read_offsets.last().max(self.markers.last());
        let end = last_mark.map(|mark| mark.high_watermark).max(last.map(|last| last + 1));
        let (Some(first), Some(end)) = (first, end) else { return };
        let mut known: Vec<i64> = self.read_offsets.iter().chain(&self.markers).copied().collect();
        known.sort_unstable();
        known.dedup();
        let known = known.into_iter().filter(|offset| (first..end).contains(offset));
        let mut expected = first;
        for offset in known.chain([end]) {
            for hole in (expected..offset).filter(|hole| !told.contains(hole)) {
                found.add(Kind::Hole, Some(hole), None);
            }
            expected = offset + 1;
        }
    }

    fn judge_watermarks(&self, found: &mut Found<'_>) {
        for fallen in fallen(&self.marks, |mark| Some(mark.high_watermark)) {
            found.add(Kind::WatermarkFell, Some(fallen), None);
        }
    }
}

/// Of one bound, what is lower than in a mark that ended before it began, unless its epoch is higher.
pub(super) fn fallen(marks: &[Mark], bound: impl Fn(&Mark) -> Option<i64>) -> Vec<i64> {
    let mut by_begin: Vec<(&Mark, i64)> =
        marks.iter().filter_map(|mark| Some((mark, bound(mark)?))).collect();
    let mut by_end = by_begin.clone();
    by_begin.sort_unstable_by_key(|(mark, _)| mark.began_us);
    by_end.sort_unstable_by_key(|(mark, _)| mark.ended_us);
    let mut ended = by_end.into_iter().peekable();
    let mut highest: BTreeMap<i32, i64> = BTreeMap::new();
    let mut fallen = Vec::new();
    for (mark, at) in by_begin {
        while let Some((earlier, was_at)) = ended.next_if(|(earlier, _)| earlier.ended_us < mark.began_us) {
            let high = highest.entry(earlier.leader_epoch).or_insert(i64::MIN);
            *high = (*high).max(was_at);
        }
        let before = highest.range(mark.leader_epoch..).map(|(_, high)| *high).max();
        if before.is_some_and(|before| at < before) {
            fallen.push(at);
        }
    }
    fallen
}

/// Where the findings of one key go.
struct Found<'a> {
    key: Key,
    anomalies: &'a mut Vec<Anomaly>,
}

impl Found<'_> {
    fn add(&mut self, kind: Kind, offset: Option<i64>, value: Option<Value>) {
        self.anomalies.push(Anomaly { kind, key: self.key, offset, value, process: None });
    }
}
