//! Anomalies planted into clean histories, with what exactly is to be found.

mod transactions;

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::checker::{Kind, Verdict};
use super::generated::{Generated, Truth, clean, crc};
use super::{Action, Key, Op, Outcome, Polled, Process, Sent, Value};

/// Processes of planted clients, beyond those of any generated history.
const NEW: Process = 1_000_000;

/// What is wrong, where.
pub type Finding = (Kind, Key, Option<i64>);

/// A history with something wrong in it.
#[derive(Debug)]
pub struct Planted {
    /// The history.
    pub history: Vec<Op>,
    /// All that is wrong in it.
    pub expected: BTreeSet<Finding>,
}

/// What a verdict found, in the form of [`Planted::expected`].
#[must_use]
pub fn findings(verdict: &Verdict) -> BTreeSet<Finding> {
    verdict.anomalies.iter().map(|anomaly| (anomaly.kind, anomaly.key, anomaly.offset)).collect()
}

/// Plants an anomaly of this kind.
///
/// # Panics
/// If the generator made a history with too few records to plant it.
#[must_use]
pub fn plant(kind: Kind, seed: u64) -> Planted {
    if transactions::KINDS.contains(&kind) {
        return transactions::plant(kind, seed);
    }
    let Generated { history, logs } = clean(seed);
    let mut chance = StdRng::seed_from_u64(seed ^ 0x0070_6c61_6e74);
    let roomy = |log: &&(usize, Truth)| log.1.values.len() >= log.1.log_start + 6;
    let mut logs: Vec<_> = logs.into_iter().enumerate().filter(|log| roomy(&log)).collect();
    let chosen = chance.random_range(0..logs.len());
    let (key, log) = logs.swap_remove(chosen);
    let mut plot =
        Plot { history, key: key as Key, log, chance, planted: Vec::new(), expected: BTreeSet::new() };
    plot.plant(kind);
    plot.finish()
}

struct Plot {
    history: Vec<Op>,
    key: Key,
    log: Truth,
    chance: StdRng,
    /// Operations to insert somewhere.
    planted: Vec<Op>,
    expected: BTreeSet<Finding>,
}

impl Plot {
    fn plant(&mut self, kind: Kind) {
        match kind {
            Kind::InconsistentOffsets => self.inconsistent_offsets(),
            Kind::Duplicate => {
                let twin = self.some_offset(1);
                self.poll(NEW, &[(self.end(), self.log.values[twin])]);
                self.expect(kind, self.end());
            }
            Kind::LostWrite => {
                let told = self.offset_known_as(|outcome, offset| outcome == Outcome::Ok && offset.is_some());
                self.unread(told);
                self.expect(kind, told);
            }
            Kind::Unseen => {
                // Of a key whose beginning was deleted, only what has an offset can be missed.
                let is_told = self.log.log_start > 0 || self.chance.random();
                let offset = Some(self.end()).filter(|_| is_told);
                self.send(NEW, Outcome::Ok, &[(self.new_value(0), offset)]);
                self.expected.insert((kind, self.key, offset));
            }
            Kind::G1a => {
                let value = self.new_value(0);
                self.send(NEW, Outcome::Fail, &[(value, None)]);
                self.poll(NEW + 1, &[(self.end(), value)]);
                self.expect(kind, self.end());
            }
            Kind::Phantom => {
                // Nobody's, or one that was sent to another key.
                let elsewhere = self.value_of_another_key().filter(|_| self.chance.random());
                let value = elsewhere.unwrap_or_else(|| self.new_value(0));
                self.poll(NEW, &[(self.end(), value)]);
                self.expect(kind, self.end());
            }
            Kind::Damaged => self.damage(),
            Kind::Hole => {
                let value = self.new_value(0);
                self.send(NEW, Outcome::Info, &[(value, None)]);
                let missing = self.chance.random_range(1..4);
                self.poll(NEW + 1, &[(self.end() + missing, value)]);
                for n in 0..missing {
                    self.expect(kind, self.end() + n);
                }
            }
            Kind::PollSkip | Kind::IntPollSkip | Kind::NonmonotonicPoll | Kind::IntNonmonotonicPoll => {
                self.reader(kind);
            }
            Kind::NonmonotonicSend | Kind::IntNonmonotonicSend => self.writer(kind),
            Kind::WatermarkFell => self.watermark(),
            Kind::AbortedRead
            | Kind::Resurrected
            | Kind::PrecommittedRead
            | Kind::Torn
            | Kind::LostTransaction
            | Kind::ReadPastStable
            | Kind::StableStalled
            | Kind::StableFell
            | Kind::ZombieWrote => unreachable!("planted elsewhere"),
        }
    }

    fn end(&self) -> i64 {
        self.log.values.len() as i64
    }

    fn new_value(&self, n: u64) -> Value {
        u64::from(NEW) << 32 | n
    }

    fn expect(&mut self, kind: Kind, offset: i64) {
        self.expected.insert((kind, self.key, Some(offset)));
    }

    /// An offset with so many behind it.
    fn some_offset(&mut self, behind: usize) -> usize {
        self.chance.random_range(self.log.log_start..self.log.values.len() - behind)
    }

    /// An offset, not the last, whose value its sender knows of as asked.
    fn offset_known_as(&mut self, is_meant: impl Fn(Outcome, Option<i64>) -> bool) -> i64 {
        let mut offsets = Vec::new();
        for op in &self.history {
            let Action::Send { records, .. } = &op.action else { continue };
            let meant =
                records.iter().filter(|sent| sent.key == self.key && is_meant(op.outcome, sent.offset));
            for sent in meant {
                let at = self.log.values.iter().position(|value| *value == sent.value);
                offsets.extend(at.filter(|at| (self.log.log_start..self.log.values.len() - 1).contains(at)));
            }
        }
        offsets[self.chance.random_range(0..offsets.len())] as i64
    }

    fn value_of_another_key(&mut self) -> Option<Value> {
        let sends = self.history.iter().filter_map(|op| {
            if let Action::Send { records, .. } = &op.action { Some(records) } else { None }
        });
        sends.flatten().find(|sent| sent.key != self.key).map(|sent| sent.value)
    }

    fn note(&mut self, process: Process, outcome: Outcome, action: Action) {
        self.planted.push(Op { process, began_us: 0, ended_us: 0, outcome, action });
    }

    fn send(&mut self, process: Process, outcome: Outcome, records: &[(Value, Option<i64>)]) {
        let sent = |(value, offset): &(Value, Option<i64>)| Sent {
            key: self.key,
            value: *value,
            crc: crc(*value),
            offset: *offset,
        };
        let records = records.iter().map(sent).collect();
        self.note(process, outcome, Action::sent(records));
    }

    fn poll(&mut self, process: Process, records: &[(i64, Value)]) {
        let polled = |(offset, value): &(i64, Value)| Polled {
            key: self.key,
            offset: *offset,
            value: Some(*value),
            crc: crc(*value),
        };
        let records = records.iter().map(polled).collect();
        self.note(process, Outcome::Ok, Action::polled(records));
    }

    /// As the log has them.
    fn poll_true(&mut self, process: Process, offsets: &[usize]) {
        let records: Vec<_> = offsets.iter().map(|at| (*at as i64, self.log.values[*at])).collect();
        self.poll(process, &records);
    }

    fn inconsistent_offsets(&mut self) {
        let offset = self.some_offset(1) as i64;
        let value = self.new_value(0);
        if self.chance.random() {
            self.send(NEW, Outcome::Info, &[(value, None)]);
            self.poll(NEW + 1, &[(offset, value)]);
        } else {
            // Acknowledged, lost, and its offset given to another: two facts.
            self.send(NEW, Outcome::Ok, &[(value, Some(offset))]);
            self.expect(Kind::LostWrite, offset);
        }
        self.expect(Kind::InconsistentOffsets, offset);
    }

    /// Takes an offset out of every poll.
    fn unread(&mut self, offset: i64) {
        for op in &mut self.history {
            if let Action::Poll { records, .. } = &mut op.action {
                records.retain(|polled| (polled.key, polled.offset) != (self.key, offset));
            }
        }
    }

    fn damage(&mut self) {
        let offset = self.some_offset(0) as i64;
        let loses_its_value = self.chance.random();
        let at = |polled: &&mut Polled| (polled.key, polled.offset) == (self.key, offset);
        let mut readings: Vec<&mut Polled> = Vec::new();
        for op in &mut self.history {
            if let Action::Poll { records, .. } = &mut op.action {
                readings.extend(records.iter_mut().filter(at));
            }
        }
        let is_only = readings.len() == 1;
        let victim = self.chance.random_range(0..readings.len());
        readings[victim].crc ^= 1 << self.chance.random_range(0..32);
        // If nobody else can tell the value, it is lost besides.
        if loses_its_value && !is_only {
            readings[victim].value = None;
        }
        self.expect(Kind::Damaged, offset);
    }

    fn reader(&mut self, kind: Kind) {
        let first = self.some_offset(4);
        let (mut before, after) = match kind {
            Kind::PollSkip | Kind::IntPollSkip => (vec![first], vec![first + self.chance.random_range(2..4)]),
            _ => (vec![first, first + 1], vec![first + self.chance.random_range(0..2)]),
        };
        self.expect(kind, after[0] as i64);
        if matches!(kind, Kind::IntPollSkip | Kind::IntNonmonotonicPoll) {
            before.extend(after);
            self.poll_true(NEW, &before);
        } else {
            self.poll_true(NEW, &before);
            self.poll_true(NEW, &after);
        }
    }

    fn writer(&mut self, kind: Kind) {
        let (first, second) = (self.new_value(0), self.new_value(1));
        let (low, high) = (self.end(), self.end() + 1);
        // The order is known from acknowledgements or, for want of them, from what was read.
        let is_told = self.chance.random();
        let told = |offset| Some(offset).filter(|_| is_told);
        let outcome = if is_told { Outcome::Ok } else { Outcome::Info };
        if kind == Kind::IntNonmonotonicSend {
            self.send(NEW, outcome, &[(first, told(high)), (second, told(low))]);
        } else {
            self.send(NEW, outcome, &[(first, told(high))]);
            self.send(NEW, outcome, &[(second, told(low))]);
        }
        self.poll(NEW + 1, &[(low, second), (high, first)]);
        self.expect(kind, low);
    }

    fn watermark(&mut self) {
        let fallen = self.chance.random_range(self.log.log_start as i64..self.end());
        let began_us = self.history.last().map_or(0, |op| op.ended_us + 1);
        let action = Action::Mark {
            key: self.key,
            log_start: self.log.log_start as i64,
            high_watermark: fallen,
            last_stable: None,
            leader_epoch: self.log.leader_epoch,
        };
        let process = NEW;
        self.history.push(Op { process, began_us, ended_us: began_us + 1, outcome: Outcome::Ok, action });
        self.expect(Kind::WatermarkFell, fallen);
    }

    fn finish(mut self) -> Planted {
        let at = self.chance.random_range(0..=self.history.len());
        let now_us = self.history.get(at).map_or(0, |op| op.began_us);
        for op in &mut self.planted {
            (op.began_us, op.ended_us) = (now_us, now_us);
        }
        self.history.splice(at..at, self.planted);
        Planted { history: self.history, expected: self.expected }
    }
}
