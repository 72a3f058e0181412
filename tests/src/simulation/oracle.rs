//! What was promised, and whether it was kept.
//!
//! Per partition the oracle knows which record is where, and how safe it must be there: on the disk, or only
//! written. A power cut makes doubtful what was only written; a doubtful record may be gone, but then another
//! may take its offset only under a higher leader epoch. Everything else is held to what was acknowledged.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::ops::Range;

use millstream_protocol::Uuid;

use super::records::Sent;

/// What a topic promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Only the last record of each key is kept for sure.
    pub compacts: bool,
    /// Records older than this may go.
    pub retention_ms: Option<i64>,
    /// `acks=all` means on the disk.
    pub is_durable: bool,
    /// A record is on the disk after twice this at the latest.
    pub flush_ms: Option<i64>,
}

/// One partition of one topic: a topic that was created anew is another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    /// The topic.
    pub topic: Uuid,
    /// The partition.
    pub index: i32,
}

impl fmt::Debug for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", &self.topic.simple().to_string()[..6], self.index)
    }
}

/// What an acknowledgement promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// `acks=1`, or `acks=all` of a topic that promises no more.
    Written,
    /// `acks=all`.
    Durable,
}

/// A record where the broker says it is.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    /// Its number.
    pub number: u64,
    /// Where.
    pub offset: i64,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    number: u64,
    /// May be gone: a power cut or a failed disk came after it was written.
    is_doubtful: bool,
    /// The leader epoch of its batch, or one that was not later.
    epoch: i32,
    /// When it was acknowledged, if it was, and when it became doubtful first.
    acked_at_ms: Option<i64>,
    doubted_at_ms: i64,
    /// How many losses there had been when it was seen last, and with the one that made it doubtful.
    seen_in: u64,
    doubted_in: u64,
}

#[derive(Debug, Default)]
struct Partition {
    held: BTreeMap<i64, Held>,
    places: HashMap<u64, i64>,
    /// Below it everything is on the disk.
    durable_to: i64,
    /// The highest leader epoch that was read.
    epoch: i32,
    /// The largest offset that DeleteRecords was asked for, and the largest it was answered for.
    trim_asked: i64,
    trimmed: i64,
    rotten: Vec<Range<i64>>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    sent: Sent,
    partition: PartitionId,
    /// By the steady clock.
    sent_at_ms: i64,
    /// Its producer's number and its place among that producer's records.
    order: Option<(u64, u64)>,
}

/// What a read of a whole partition found.
#[derive(Debug)]
pub struct Whole<'a> {
    /// Where the log starts and ends.
    pub bounds: Range<i64>,
    /// All records in it, in order.
    pub records: &'a [Placed],
    /// By the steady clock.
    pub now_ms: i64,
}

/// Knows everything that clients know together.
#[derive(Debug, Default)]
pub struct Oracle {
    policies: HashMap<Uuid, Policy>,
    partitions: BTreeMap<PartitionId, Partition>,
    known: HashMap<u64, Known>,
    /// Since the last start a disk call has failed: what is only written may be lost without a crash.
    in_trouble: bool,
    /// Times that something may have been lost.
    losses: u64,
    /// Acknowledged records that a power cut has lost, and the greatest age.
    lost: u64,
    oldest_lost_ms: u64,
    /// Nothing but power cuts happens: what is lost must be young.
    judges_ages: bool,
}

type Verdict = Result<(), String>;

impl Oracle {
    /// From now on lost records must be young, where a topic says so.
    pub(super) fn judge_ages(&mut self) {
        self.judges_ages = true;
    }

    pub(super) fn topic(&mut self, topic: Uuid, policy: Policy) {
        self.policies.insert(topic, policy);
    }

    pub(super) fn policy(&self, topic: Uuid) -> Option<Policy> {
        self.policies.get(&topic).copied()
    }

    /// Logs may be reopened at any time, and what was only written be lost by that.
    pub(super) fn is_in_trouble(&self) -> bool {
        self.in_trouble
    }

    pub(super) fn losses(&self) -> u64 {
        self.losses
    }

    pub(super) fn sent(
        &mut self,
        partition: PartitionId,
        sent: Sent,
        now_ms: i64,
        order: Option<(u64, u64)>,
    ) {
        self.known.insert(sent.number, Known { sent, partition, sent_at_ms: now_ms, order });
        self.partitions.entry(partition).or_default();
    }

    pub(super) fn sent_as(&self, number: u64) -> Option<&Sent> {
        self.known.get(&number).map(|known| &known.sent)
    }

    pub(super) fn rotted(&mut self, partition: PartitionId, offsets: Range<i64>) {
        self.partitions.entry(partition).or_default().rotten.push(offsets);
    }

    pub(super) fn is_rotten(&self, partition: PartitionId, offset: i64) -> bool {
        let compacts = self.policies.get(&partition.topic).is_some_and(|policy| policy.compacts);
        let Some(partition) = self.partitions.get(&partition) else { return false };
        // Where compaction leaves gaps the next batch may be far behind the offset that is asked for.
        let is_in = |rotten: &Range<i64>| rotten.contains(&offset) || (compacts && offset < rotten.end);
        partition.rotten.iter().any(is_in)
    }

    pub(super) fn trim_asked(&mut self, partition: PartitionId, before: i64) {
        let partition = self.partitions.entry(partition).or_default();
        partition.trim_asked = partition.trim_asked.max(before);
    }

    pub(super) fn trimmed(&mut self, partition: PartitionId, before: i64) {
        let partition = self.partitions.entry(partition).or_default();
        partition.trimmed = partition.trimmed.max(before);
    }

    /// The power failed: what was only written may be gone.
    pub(super) fn power_cut(&mut self, now_ms: i64) {
        self.losses += 1;
        let losses = self.losses;
        for partition in self.partitions.values_mut() {
            for (_, held) in partition.held.range_mut(partition.durable_to..) {
                if !std::mem::replace(&mut held.is_doubtful, true) {
                    (held.doubted_at_ms, held.doubted_in) = (now_ms, losses);
                }
            }
        }
    }

    /// How many acknowledged records power cuts have lost, and how old the oldest of them was.
    pub(super) fn lost(&self) -> (u64, u64) {
        (self.lost, self.oldest_lost_ms)
    }

    /// Records are gone that power cuts may take: only young ones, where a topic says so.
    fn note_lost(&mut self, id: PartitionId, gone: &[Held]) -> Verdict {
        let flush_ms = self.policies[&id.topic].flush_ms;
        for held in gone {
            let Some(acked_at_ms) = held.acked_at_ms else { continue };
            let age_ms = held.doubted_at_ms - acked_at_ms;
            self.lost += 1;
            self.oldest_lost_ms = self.oldest_lost_ms.max(u64::try_from(age_ms).unwrap_or(0));
            if flush_ms.is_some_and(|flush_ms| age_ms >= 2 * flush_ms) && self.judges_ages {
                return Err(format!(
                    "record {} of {id:?} was acknowledged {age_ms} ms before the power failed, and is lost",
                    held.number
                ));
            }
        }
        Ok(())
    }

    /// A call to the disk failed: what was only written may be gone once the log is opened again.
    pub(super) fn disk_failed(&mut self, now_ms: i64) {
        self.power_cut(now_ms);
        self.in_trouble = true;
    }

    /// The broker has started over a disk that works.
    pub(super) fn restarted(&mut self, now_ms: i64) {
        if std::mem::take(&mut self.in_trouble) {
            self.power_cut(now_ms);
        }
    }

    /// A record was acknowledged. `is_late`: something may have been lost since it was asked for.
    pub(super) fn acked(&mut self, placed: Placed, level: Level, is_late: bool, now_ms: i64) -> Verdict {
        let Placed { number, offset } = placed;
        let id = self.known.get(&number).expect("what is acknowledged was sent").partition;
        let in_trouble = self.in_trouble;
        let partition = self.partitions.entry(id).or_default();
        let is_doubtful = level == Level::Written && (is_late || in_trouble);
        if offset < partition.trim_asked && !partition.held.contains_key(&offset) {
            // Appended, and deleted before the answer arrived.
            return Ok(());
        }
        if let Some(held) = partition.held.get(&offset).copied().filter(|held| held.number != number) {
            if is_doubtful {
                return Ok(());
            }
            if !held.is_doubtful {
                return Err(format!(
                    "offset {offset} was acknowledged for record {number}, but it is {}'s",
                    held.number
                ));
            }
            let gone = partition.lose_from(offset);
            self.note_lost(id, &gone)?;
        }
        let partition = self.partitions.entry(id).or_default();
        let epoch = if is_late { -1 } else { partition.epoch };
        let (seen_in, doubted_in) = (self.losses, self.losses);
        let acked_at_ms = Some(now_ms);
        let held =
            Held { number, is_doubtful, epoch, acked_at_ms, doubted_at_ms: now_ms, seen_in, doubted_in };
        let gone = partition.place(placed, held)?;
        if level == Level::Durable {
            // What is doubtful below stays so: another record may be there.
            partition.durable_to = partition.durable_to.max(offset + 1);
        }
        self.note_lost(id, &gone)
    }

    /// A record was read in a batch of this epoch.
    pub(super) fn read(&mut self, from: PartitionId, placed: Placed, epoch: i32) -> Verdict {
        let Placed { number, offset } = placed;
        let Some(known) = self.known.get(&number) else {
            return Err(format!("offset {offset} of {from:?} holds record {number}, which nobody sent"));
        };
        if known.partition != from {
            return Err(format!("record {number} was sent to {:?} and read from {from:?}", known.partition));
        }
        let in_trouble = self.in_trouble;
        let partition = self.partitions.entry(from).or_default();
        match partition.held.get(&offset).copied() {
            Some(held) if held.number == number => {}
            Some(held) if !held.is_doubtful => {
                return Err(format!("offset {offset} holds record {number}; it held {}", held.number));
            }
            Some(held) if epoch <= held.epoch => {
                return Err(format!(
                    "offset {offset} holds record {number} of epoch {epoch}; it held {} of epoch {}",
                    held.number, held.epoch
                ));
            }
            Some(_) => {
                let gone = partition.lose_from(offset);
                self.note_lost(from, &gone)?;
            }
            None => {}
        }
        let partition = self.partitions.entry(from).or_default();
        partition.epoch = partition.epoch.max(epoch);
        let acked_at_ms = partition.held.get(&offset).and_then(|held| held.acked_at_ms);
        let (seen_in, doubted_in) = (self.losses, self.losses);
        let held = Held {
            number,
            is_doubtful: in_trouble,
            epoch,
            acked_at_ms,
            doubted_at_ms: 0,
            seen_in,
            doubted_in,
        };
        let gone = partition.place(placed, held)?;
        self.note_lost(from, &gone)
    }

    /// Judges what is left of a partition in the end, when nothing is in doubt any more.
    pub(super) fn judge(&mut self, id: PartitionId, whole: &Whole<'_>) -> Verdict {
        let gone = self.judge_places(id, whole)?;
        self.note_lost(id, &gone)?;
        self.judge_order(whole.records)
    }

    /// Judges where everything is, and tells what a power cut has taken.
    fn judge_places(&self, id: PartitionId, whole: &Whole<'_>) -> Result<Vec<Held>, String> {
        let mut gone = Vec::new();
        let Some(partition) = self.partitions.get(&id) else { return Ok(gone) };
        let policy = self.policies[&id.topic];
        let found: BTreeMap<i64, u64> =
            whole.records.iter().map(|placed| (placed.offset, placed.number)).collect();
        if whole.bounds.start < partition.trimmed {
            return Err(format!(
                "the log starts at {}; records before {} were deleted",
                whole.bounds.start, partition.trimmed
            ));
        }
        if whole.bounds.end < partition.durable_to {
            return Err(format!(
                "the log ends at {}; records before {} are durable",
                whole.bounds.end, partition.durable_to
            ));
        }
        // What rotted had done its work before: older records of its keys may be gone.
        let rotten = |offset: &i64| partition.rotten.iter().any(|rotten| rotten.contains(offset));
        let spoilt = partition.held.iter().filter(|(offset, _)| rotten(offset));
        let mut there = found.clone();
        there.extend(spoilt.map(|(offset, held)| (*offset, held.number)));
        let newest = self.newest_of_keys(&there);
        for (offset, held) in &partition.held {
            let known = &self.known[&held.number];
            let is_old = policy.retention_ms.is_some_and(|ms| whole.now_ms - known.sent_at_ms >= ms);
            // Tombstones stay for a day, which no run lasts.
            let newer = known.sent.key.and_then(|key| newest.get(&key));
            let is_superseded = policy.compacts && newer.is_some_and(|newer| newer > offset);
            let excused = held.is_doubtful
                || (*offset < whole.bounds.start && (*offset < partition.trim_asked || is_old))
                || is_superseded
                || rotten(offset);
            if held.is_doubtful
                && !is_superseded
                && found.get(offset) != Some(&held.number)
                && *offset >= whole.bounds.start
            {
                gone.push(*held);
            }
            if !excused && found.get(offset) != Some(&held.number) {
                let instead = found.get(offset);
                return Err(format!(
                    "record {} was acknowledged at offset {offset} of {id:?} and is lost; there is {instead:?}, the log is {:?}, durable to {}",
                    held.number, whole.bounds, partition.durable_to
                ));
            }
        }
        Ok(gone)
    }

    /// Where the newest record of each key is.
    fn newest_of_keys(&self, found: &BTreeMap<i64, u64>) -> HashMap<u64, i64> {
        let keyed =
            found.iter().filter_map(|(offset, number)| Some((self.known.get(number)?.sent.key?, *offset)));
        keyed.collect()
    }

    /// Each record once, and those of one producer in the order in which it sent them.
    fn judge_order(&self, records: &[Placed]) -> Verdict {
        let mut seen = HashSet::new();
        let mut last: HashMap<u64, (u64, u64)> = HashMap::new();
        for Placed { number, offset } in records {
            if !seen.insert(number) {
                return Err(format!("record {number} is there twice, the second time at offset {offset}"));
            }
            let Some((producer, place)) = self.known.get(number).and_then(|known| known.order) else {
                continue;
            };
            if let Some((before, before_number)) = last.insert(producer, (place, *number))
                && before > place
            {
                return Err(format!(
                    "record {number} at offset {offset} was sent before record {before_number}, which precedes it"
                ));
            }
        }
        Ok(())
    }
}

impl Partition {
    /// Puts a record in its place and tells what is gone because of that.
    fn place(&mut self, placed: Placed, held: Held) -> Result<Vec<Held>, String> {
        let Placed { number, offset } = placed;
        let mut gone = Vec::new();
        if let Some(before) = self.places.insert(number, offset).filter(|before| *before != offset) {
            let elsewhere = self.held.get(&before).filter(|held| held.number == number);
            if elsewhere.is_some_and(|held| !held.is_doubtful) {
                return Err(format!("record {number} is at offset {before} and at offset {offset}"));
            }
            if elsewhere.is_some() {
                gone = self.lose_from(before);
                // It was lost there, and sent again.
                gone.retain(|held| held.number != number);
                self.places.insert(number, offset);
            }
        }
        self.held.insert(offset, held);
        Ok(gone)
    }

    /// What is here is gone, and with it what followed when it was lost: a log loses its end, never its middle. What
    /// came later may be there.
    fn lose_from(&mut self, offset: i64) -> Vec<Held> {
        let doubted_in = self.held.get(&offset).map_or(0, |held| held.doubted_in);
        let is_gone = |held: &Held| held.is_doubtful && held.seen_in < doubted_in;
        let gone: Vec<i64> = self
            .held
            .range(offset..)
            .filter(|(at, held)| **at == offset || is_gone(held))
            .map(|(at, _)| *at)
            .collect();
        let gone = gone.into_iter().filter_map(|at| self.held.remove(&at));
        let gone: Vec<Held> = gone.collect();
        for held in &gone {
            self.places.remove(&held.number);
        }
        gone
    }
}
