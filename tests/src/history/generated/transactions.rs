//! Histories with transactions as a correct broker leaves them: producers that commit, abort, die, are fenced, or do not learn
//! what became of a commit; transactions that time out; readers of both kinds.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::crc;
use crate::history::{
    Action, Ending, Isolation, Key, Marker, Name, Op, Outcome, Polled, Process, Sent, Transaction, Value,
};

/// How many keys there are.
pub const KEYS: u32 = 2;
const STEPS: usize = 260;
const NAMES: u32 = 3;
/// How long a transaction may be open.
pub const TIMEOUT_MS: u64 = 2_000;

/// A history, and how long each key's log is at the end.
#[derive(Debug)]
pub struct Generated {
    /// What the clients did and saw.
    pub history: Vec<Op>,
    /// The end of each key.
    pub ends: Vec<i64>,
}

/// Generates a history without anything wrong in it.
#[must_use]
pub fn clean(seed: u64) -> Generated {
    let mut world = World {
        chance: StdRng::seed_from_u64(seed),
        history: Vec::new(),
        logs: (0..KEYS).map(|_| Vec::new()).collect(),
        fates: BTreeMap::new(),
        producers: Vec::new(),
        zombies: Vec::new(),
        readers: Vec::new(),
        next_process: 0,
        next_value: 0,
        now_us: 0,
    };
    for name in 0..NAMES {
        world.claim(name);
    }
    for isolation in [Isolation::Committed, Isolation::Uncommitted, Isolation::Committed] {
        world.new_reader(isolation);
    }
    for _ in 0..STEPS {
        world.step();
    }
    world.finish();
    let ends = world.logs.iter().map(|log| log.len() as i64).collect();
    Generated { history: world.history, ends }
}

#[derive(Debug, Clone, Copy)]
enum Entry {
    Record { value: Value, of: Option<Transaction> },
    Marker,
}

/// A transaction that the broker knows.
#[derive(Debug, Clone, Copy)]
struct Fate {
    began_us: u64,
    /// How it ended.
    ending: Option<Ending>,
}

#[derive(Debug, Clone)]
struct Producer {
    name: Name,
    process: Process,
    open: Option<Transaction>,
}

#[derive(Debug)]
struct Reader {
    process: Process,
    isolation: Isolation,
    positions: Vec<usize>,
}

struct World {
    chance: StdRng,
    history: Vec<Op>,
    logs: Vec<Vec<Entry>>,
    fates: BTreeMap<Transaction, Fate>,
    producers: Vec<Producer>,
    /// Producers whose name another has claimed.
    zombies: Vec<Producer>,
    readers: Vec<Reader>,
    next_process: Process,
    next_value: u64,
    now_us: u64,
}

impl World {
    fn step(&mut self) {
        self.time_out();
        match self.chance.random_range(0..100) {
            0..35 => self.send(),
            35..50 => self.end(),
            50..75 => {
                let reader = self.chance.random_range(0..self.readers.len());
                self.poll(reader);
            }
            75..80 => self.plain(),
            80..84 => {
                let name = self.chance.random_range(0..NAMES);
                self.claim(name);
            }
            84..88 => self.zombie(),
            88..90 => self.now_us += self.chance.random_range(0..TIMEOUT_MS * 1000),
            90..93 => {
                let reader = self.chance.random_range(0..self.readers.len());
                let Reader { process, isolation, .. } = self.readers.remove(reader);
                self.note(process, Outcome::Info, Action::Crash);
                self.new_reader(isolation);
            }
            _ => {
                let key = self.chance.random_range(0..KEYS);
                self.mark(key);
            }
        }
    }

    fn note(&mut self, process: Process, outcome: Outcome, action: Action) {
        self.now_us += self.chance.random_range(1..200);
        let began_us = self.now_us.saturating_sub(self.chance.random_range(0..400));
        self.history.push(Op { process, began_us, ended_us: self.now_us, outcome, action });
    }

    fn new_process(&mut self) -> Process {
        self.next_process += 1;
        self.next_process
    }

    fn new_reader(&mut self, isolation: Isolation) {
        let process = self.new_process();
        self.readers.push(Reader { process, isolation, positions: vec![0; KEYS as usize] });
    }

    /// A new instance of a name: who had it is fenced, and what it had open is aborted.
    fn claim(&mut self, name: Name) {
        let process = self.new_process();
        if let Some(at) = self.producers.iter().position(|producer| producer.name == name) {
            let old = self.producers.remove(at);
            if let Some(open) = old.open {
                self.settle(open, Ending::Abort);
            }
            self.zombies.push(old);
        }
        self.producers.push(Producer { name, process, open: None });
        self.note(process, Outcome::Ok, Action::Claim { name });
    }

    /// Markers are written, if the transaction is open still.
    fn settle(&mut self, transaction: Transaction, ending: Ending) {
        let Some(fate) = self.fates.get_mut(&transaction).filter(|fate| fate.ending.is_none()) else {
            return;
        };
        fate.ending = Some(ending);
        for log in &mut self.logs {
            let is_in = |entry: &Entry| matches!(entry, Entry::Record { of, .. } if *of == Some(transaction));
            if log.iter().any(is_in) {
                log.push(Entry::Marker);
            }
        }
    }

    fn time_out(&mut self) {
        let deadline = self.now_us.saturating_sub(TIMEOUT_MS * 1000);
        let late = self.fates.iter().filter(|(_, fate)| fate.ending.is_none() && fate.began_us < deadline);
        for transaction in late.map(|(transaction, _)| *transaction).collect::<Vec<_>>() {
            self.settle(transaction, Ending::Abort);
        }
    }

    fn is_open(&self, transaction: Transaction) -> bool {
        self.fates.get(&transaction).is_some_and(|fate| fate.ending.is_none())
    }

    fn send(&mut self) {
        let at = self.chance.random_range(0..self.producers.len());
        let Producer { name, process, open } = self.producers[at].clone();
        let transaction = match open {
            Some(open) => open,
            None => {
                let transaction = self.fates.len() as u64 + 1;
                self.fates.insert(transaction, Fate { began_us: self.now_us, ending: None });
                self.producers[at].open = Some(transaction);
                let begin = Action::Begin { transaction, name, timeout_ms: TIMEOUT_MS };
                self.note(process, Outcome::Ok, begin);
                transaction
            }
        };
        let outcome = match self.chance.random_range(0..12) {
            _ if !self.is_open(transaction) => Outcome::Fail,
            0 => Outcome::Fail,
            1 => Outcome::Info,
            _ => Outcome::Ok,
        };
        let count = self.chance.random_range(1..4);
        let applied = match outcome {
            Outcome::Ok => count,
            Outcome::Fail => 0,
            Outcome::Info => self.chance.random_range(0..=count),
        };
        let records = self.records(count, applied, Some(transaction));
        self.note(process, outcome, Action::Send { records, transaction: Some(transaction) });
    }

    fn plain(&mut self) {
        let process = self.new_process();
        let records = self.records(1, 1, None);
        self.note(process, Outcome::Ok, Action::sent(records));
    }

    /// So many records, of which so many are written.
    fn records(&mut self, count: usize, applied: usize, of: Option<Transaction>) -> Vec<Sent> {
        let mut records = Vec::new();
        for n in 0..count {
            let key = self.chance.random_range(0..KEYS);
            self.next_value += 1;
            let value = self.next_value;
            let log = &mut self.logs[key as usize];
            let mut offset = None;
            if n < applied {
                offset = Some(log.len() as i64).filter(|_| applied == count);
                log.push(Entry::Record { value, of });
            }
            records.push(Sent { key, value, crc: crc(value), offset });
        }
        records
    }

    fn end(&mut self) {
        let at = self.chance.random_range(0..self.producers.len());
        let Some(transaction) = self.producers[at].open.take() else { return };
        let process = self.producers[at].process;
        let ending = if self.chance.random_range(0..4) == 0 { Ending::Abort } else { Ending::Commit };
        let outcome = match self.chance.random_range(0..8) {
            _ if !self.is_open(transaction) => Outcome::Fail,
            0 => Outcome::Info,
            _ => Outcome::Ok,
        };
        // Without an answer it happens, or time or the next claim ends the transaction.
        if outcome == Outcome::Ok || outcome == Outcome::Info && self.chance.random() {
            self.settle(transaction, ending);
        }
        self.note(process, outcome, Action::End { transaction, ending });
        if outcome != Outcome::Ok {
            // Whoever does not know claims its name anew.
            let name = self.producers[at].name;
            self.claim(name);
        }
    }

    /// Somebody who was fenced goes on.
    fn zombie(&mut self) {
        if self.zombies.is_empty() {
            return;
        }
        let at = self.chance.random_range(0..self.zombies.len());
        let Producer { process, open, .. } = self.zombies[at].clone();
        let Some(transaction) = open else { return };
        if self.chance.random() {
            let records = self.records(1, 0, Some(transaction));
            self.note(process, Outcome::Fail, Action::Send { records, transaction: Some(transaction) });
        } else {
            self.note(process, Outcome::Fail, Action::End { transaction, ending: Ending::Commit });
        }
    }

    fn stable(&self, key: Key) -> usize {
        let log = &self.logs[key as usize];
        let is_open =
            |entry: &Entry| matches!(entry, Entry::Record { of: Some(of), .. } if self.is_open(*of));
        log.iter().position(is_open).unwrap_or(log.len())
    }

    fn poll(&mut self, reader: usize) {
        let most = self.chance.random_range(1..10);
        let (mut records, mut markers) = (Vec::new(), Vec::new());
        let isolation = self.readers[reader].isolation;
        for key in 0..KEYS {
            let log = &self.logs[key as usize];
            let bound = if isolation == Isolation::Committed { self.stable(key) } else { log.len() };
            let from = self.readers[reader].positions[key as usize];
            let to = bound.min(from + most).max(from);
            for (offset, entry) in (from..to).map(|at| (at as i64, log[at])) {
                match entry {
                    Entry::Marker => markers.push(Marker { key, offset }),
                    Entry::Record { of: Some(of), .. }
                        if isolation == Isolation::Committed
                            && self.fates[&of].ending == Some(Ending::Abort) => {}
                    Entry::Record { value, .. } => {
                        records.push(Polled { key, offset, value: Some(value), crc: crc(value) });
                    }
                }
            }
            self.readers[reader].positions[key as usize] = to;
        }
        let process = self.readers[reader].process;
        self.note(process, Outcome::Ok, Action::Poll { records, isolation, markers });
    }

    fn mark(&mut self, key: Key) {
        let high_watermark = self.logs[key as usize].len() as i64;
        let last_stable = Some(self.stable(key) as i64);
        let process = self.new_process();
        let mark = Action::Mark { key, log_start: 0, high_watermark, last_stable, leader_epoch: 0 };
        self.note(process, Outcome::Ok, mark);
    }

    /// What is open times out; new readers of both kinds read all there is.
    fn finish(&mut self) {
        self.now_us += 2 * TIMEOUT_MS * 1000;
        self.time_out();
        for isolation in [Isolation::Committed, Isolation::Uncommitted] {
            self.new_reader(isolation);
            let last = self.readers.len() - 1;
            let is_behind = |world: &Self| {
                (0..KEYS as usize).any(|key| world.readers[last].positions[key] < world.logs[key].len())
            };
            while is_behind(self) {
                self.poll(last);
            }
        }
        for key in 0..KEYS {
            self.mark(key);
        }
    }
}
