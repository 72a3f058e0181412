//! Anomalies of transactions, planted behind the end of a clean history with transactions.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{NEW, Planted};
use crate::history::checker::Kind;
use crate::history::generated::crc;
use crate::history::generated::transactions::{KEYS, TIMEOUT_MS, clean};
use crate::history::{
    Action, Ending, Isolation, Key, Marker, Name, Op, Outcome, Polled, Process, Sent, Transaction, Value,
};

/// What is planted here.
pub(super) const KINDS: [Kind; 9] = [
    Kind::AbortedRead,
    Kind::Resurrected,
    Kind::PrecommittedRead,
    Kind::Torn,
    Kind::LostTransaction,
    Kind::ReadPastStable,
    Kind::StableStalled,
    Kind::StableFell,
    Kind::ZombieWrote,
];

/// A transactional id that no generated producer has.
const NAME: Name = 1_000;
const TRANSACTION: Transaction = 1_000_000;
/// The checker's grace, and a little more.
const TOO_LONG_US: u64 = (TIMEOUT_MS + 10_500) * 1_000;

pub(super) fn plant(kind: Kind, seed: u64) -> Planted {
    let generated = clean(seed);
    let mut chance = StdRng::seed_from_u64(seed ^ 0x0070_6c61_6e74);
    let key = chance.random_range(0..KEYS);
    let now_us = generated.history.last().map_or(0, |op| op.ended_us);
    let (end, history) = (generated.ends[key as usize], generated.history);
    let mut plot = Plot { history, chance, key, end, next: 0, now_us, expected: BTreeSet::new() };
    match kind {
        Kind::AbortedRead => plot.aborted(kind),
        Kind::Resurrected => plot.aborted(kind),
        Kind::PrecommittedRead => plot.precommitted(),
        Kind::Torn | Kind::LostTransaction => plot.incomplete(kind),
        Kind::ReadPastStable => plot.past_stable(),
        Kind::StableStalled => plot.stalled(),
        Kind::StableFell => plot.fell(),
        _ => plot.zombie(),
    }
    Planted {
        history: plot.history,
        expected: plot.expected.iter().map(|(kind, at)| (*kind, key, Some(*at))).collect(),
    }
}

struct Plot {
    history: Vec<Op>,
    chance: StdRng,
    key: Key,
    /// Where the next record comes to lie.
    end: i64,
    next: u64,
    now_us: u64,
    expected: BTreeSet<(Kind, i64)>,
}

impl Plot {
    fn note(&mut self, process: Process, outcome: Outcome, action: Action) {
        let began_us = self.now_us + 1;
        self.now_us += 2 + self.chance.random_range(0..50);
        self.history.push(Op { process, began_us, ended_us: self.now_us, outcome, action });
    }

    /// Records that are acknowledged, and where they are.
    fn send(&mut self, process: Process, count: u64, transaction: Option<Transaction>) -> Vec<(i64, Value)> {
        let mut places = Vec::new();
        for _ in 0..count {
            self.next += 1;
            places.push((self.end, u64::from(NEW) << 32 | self.next));
            self.end += 1;
        }
        let sent = |(offset, value): &(i64, Value)| Sent {
            key: self.key,
            value: *value,
            crc: crc(*value),
            offset: Some(*offset),
        };
        let records = places.iter().map(sent).collect();
        self.note(process, Outcome::Ok, Action::Send { records, transaction });
        places
    }

    /// A new producer, with so many records in its transaction.
    fn begin(&mut self, process: Process, count: u64) -> Vec<(i64, Value)> {
        self.note(process, Outcome::Ok, Action::Claim { name: NAME });
        let begin = Action::Begin { transaction: TRANSACTION, name: NAME, timeout_ms: TIMEOUT_MS };
        self.note(process, Outcome::Ok, begin);
        self.send(process, count, Some(TRANSACTION))
    }

    /// Its end; a marker takes the next place.
    fn finish(&mut self, process: Process, ending: Ending, outcome: Outcome) -> i64 {
        self.note(process, outcome, Action::End { transaction: TRANSACTION, ending });
        self.end += 1;
        self.end - 1
    }

    fn poll(&mut self, process: Process, isolation: Isolation, places: &[(i64, Value)], markers: &[i64]) {
        let polled = |(offset, value): &(i64, Value)| Polled {
            key: self.key,
            offset: *offset,
            value: Some(*value),
            crc: crc(*value),
        };
        let records = places.iter().map(polled).collect();
        let markers = markers.iter().map(|offset| Marker { key: self.key, offset: *offset }).collect();
        self.note(process, Outcome::Ok, Action::Poll { records, isolation, markers });
    }

    fn mark(&mut self, last_stable: i64) {
        let mark = Action::Mark {
            key: self.key,
            log_start: 0,
            high_watermark: self.end,
            last_stable: Some(last_stable),
            leader_epoch: 0,
        };
        self.note(NEW + 9, Outcome::Ok, mark);
    }

    fn expect(&mut self, kind: Kind, places: &[(i64, Value)]) {
        self.expected.extend(places.iter().map(|(offset, _)| (kind, *offset)));
    }

    fn aborted(&mut self, kind: Kind) {
        let count = self.chance.random_range(2..5);
        let places = self.begin(NEW, count);
        let marker = match self.chance.random_range(0..3) {
            0 => self.finish(NEW, Ending::Abort, Outcome::Ok),
            1 => self.finish(NEW, Ending::Commit, Outcome::Fail),
            // It died, and the broker ended it.
            _ => {
                self.end += 1;
                self.end - 1
            }
        };
        self.poll(NEW + 1, Isolation::Uncommitted, &places, &[marker]);
        let seen = match kind {
            Kind::Resurrected => &places[..],
            _ => &places[..self.chance.random_range(1..places.len())],
        };
        self.poll(NEW + 2, Isolation::Committed, seen, &[]);
        self.expect(kind, seen);
    }

    fn precommitted(&mut self) {
        let count = self.chance.random_range(1..4);
        let places = self.begin(NEW, count);
        let seen = &places[..self.chance.random_range(1..=places.len())];
        self.poll(NEW + 1, Isolation::Committed, seen, &[]);
        let outcome = if self.chance.random() { Outcome::Ok } else { Outcome::Info };
        let marker = self.finish(NEW, Ending::Commit, outcome);
        self.poll(NEW + 2, Isolation::Committed, &places, &[marker]);
        self.expect(Kind::PrecommittedRead, seen);
    }

    /// A committed transaction of which the log lost records.
    fn incomplete(&mut self, kind: Kind) {
        let count = self.chance.random_range(2..5);
        let places = self.begin(NEW, count);
        // That an undecided transaction was committed is seen only by what was read of it.
        let is_told = kind == Kind::LostTransaction || self.chance.random();
        let outcome = if is_told { Outcome::Ok } else { Outcome::Info };
        let marker = self.finish(NEW, Ending::Commit, outcome);
        let behind = self.send(NEW + 1, 1, None);
        let lost = match kind {
            Kind::LostTransaction => 0..places.len(),
            _ if self.chance.random() => 0..self.chance.random_range(1..places.len()),
            _ => self.chance.random_range(1..places.len())..places.len(),
        };
        let mut seen = places;
        let gone: Vec<_> = seen.drain(lost).collect();
        seen.extend(behind);
        self.poll(NEW + 2, Isolation::Uncommitted, &seen, &[marker]);
        self.poll(NEW + 3, Isolation::Committed, &seen, &[]);
        self.expect(kind, &gone);
    }

    fn past_stable(&mut self) {
        let stable = self.end;
        let count = self.chance.random_range(1..4);
        let places = self.send(NEW, count, None);
        self.poll(NEW + 1, Isolation::Committed, &places, &[]);
        self.mark(stable);
        self.expect(Kind::ReadPastStable, &places);
    }

    fn stalled(&mut self) {
        let places = self.begin(NEW, 1);
        self.poll(NEW + 1, Isolation::Uncommitted, &places, &[]);
        self.mark(places[0].0);
        for _ in 0..self.chance.random_range(1..4) {
            self.now_us += TOO_LONG_US / 2;
            self.mark(places[0].0);
        }
        self.now_us += TOO_LONG_US / 2 + 2;
        self.mark(places[0].0);
        self.expect(Kind::StableStalled, &places);
    }

    fn fell(&mut self) {
        let count = self.chance.random_range(2..6);
        let places = self.send(NEW, count, None);
        self.poll(NEW + 1, Isolation::Uncommitted, &places, &[]);
        self.mark(self.end);
        let fallen = places[self.chance.random_range(0..places.len())];
        self.mark(fallen.0);
        self.expect(Kind::StableFell, &[fallen]);
    }

    fn zombie(&mut self) {
        let mut places = self.begin(NEW, 1);
        self.note(NEW + 1, Outcome::Ok, Action::Claim { name: NAME });
        // The claim has aborted what was open.
        let marker = self.end;
        self.end += 1;
        let count = self.chance.random_range(1..3);
        let written = self.send(NEW, count, Some(TRANSACTION));
        self.expect(Kind::ZombieWrote, &written);
        places.extend(written);
        self.poll(NEW + 2, Isolation::Uncommitted, &places, &[marker]);
    }
}
