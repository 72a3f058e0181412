//! Histories as a correct broker leaves them: several writers and readers, unanswered and refused sends, clients that
//! end, readers that are moved, restarts that take away what nobody was promised, and a log start that rises.

pub mod transactions;

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Action, Key, Op, Outcome, Polled, Process, Sent, Value};

const KEYS: u32 = 3;
const STEPS: usize = 220;
const CLIENTS: u32 = 4;

/// A history, and the truth about it.
#[derive(Debug)]
pub struct Generated {
    /// What the clients did and saw.
    pub history: Vec<Op>,
    /// Each key's log as it is at the end.
    pub logs: Vec<Truth>,
}

/// A key's log.
#[derive(Debug, Default)]
pub struct Truth {
    /// The value at each offset.
    pub values: Vec<Value>,
    /// The first offset that is still there.
    pub log_start: usize,
    /// Before this offset, all was acknowledged or read, and may not be taken away.
    pub promised: usize,
    /// Its leader epoch.
    pub leader_epoch: i32,
}

/// A value's checksum in these histories: there are no bytes, so any function of the value will do.
#[must_use]
pub fn crc(value: Value) -> u32 {
    (value ^ (value >> 32)) as u32
}

/// Generates a history without anything wrong in it.
#[must_use]
pub fn clean(seed: u64) -> Generated {
    let mut world = World {
        chance: StdRng::seed_from_u64(seed),
        history: Vec::new(),
        logs: (0..KEYS).map(|_| Truth::default()).collect(),
        readers: Vec::new(),
        writers: Vec::new(),
        next_process: 0,
        now_us: 0,
    };
    for _ in 0..CLIENTS {
        let writer = world.new_process();
        world.writers.push(Writer { process: writer, sent: 0 });
        let reader = world.new_reader();
        world.readers.push(reader);
    }
    for _ in 0..STEPS {
        world.step();
    }
    world.read_all();
    Generated { history: world.history, logs: world.logs }
}

struct World {
    chance: StdRng,
    history: Vec<Op>,
    logs: Vec<Truth>,
    readers: Vec<Reader>,
    writers: Vec<Writer>,
    next_process: Process,
    now_us: u64,
}

struct Writer {
    process: Process,
    sent: u64,
}

struct Reader {
    process: Process,
    positions: BTreeMap<Key, usize>,
}

impl World {
    fn step(&mut self) {
        match self.chance.random_range(0..100) {
            0..45 => self.send(),
            45..75 => {
                let reader = self.chance.random_range(0..self.readers.len());
                self.poll(reader);
            }
            75..82 => {
                let reader = self.chance.random_range(0..self.readers.len());
                self.assign(reader);
            }
            82..86 => self.crash(),
            86..90 => self.restart(),
            90..92 => self.trim(),
            _ => {
                let key = self.chance.random_range(0..KEYS);
                self.mark(key);
            }
        }
    }

    fn new_process(&mut self) -> Process {
        self.next_process += 1;
        self.next_process
    }

    fn new_reader(&mut self) -> Reader {
        Reader { process: self.new_process(), positions: BTreeMap::new() }
    }

    /// Operations overlap: each may have begun before the last one ended.
    fn note(&mut self, process: Process, outcome: Outcome, action: Action) {
        self.now_us += self.chance.random_range(1..200);
        let began_us = self.now_us.saturating_sub(self.chance.random_range(0..400));
        self.history.push(Op { process, began_us, ended_us: self.now_us, outcome, action });
    }

    fn send(&mut self) {
        let writer = self.chance.random_range(0..self.writers.len());
        let outcome = match self.chance.random_range(0..20) {
            0 => Outcome::Fail,
            1..4 => Outcome::Info,
            _ => Outcome::Ok,
        };
        // Of a send without an answer the broker may have done all, some or nothing, but not the end without the beginning.
        let count = self.chance.random_range(1..7);
        let applied = match outcome {
            Outcome::Ok => count,
            Outcome::Fail => 0,
            Outcome::Info => self.chance.random_range(0..=count),
        };
        let is_told = self.chance.random_range(0..12) > 0;
        let mut records = Vec::new();
        for n in 0..count {
            let key = self.chance.random_range(0..KEYS);
            let writer = &mut self.writers[writer];
            let value = u64::from(writer.process) << 32 | writer.sent;
            writer.sent += 1;
            let log = &mut self.logs[key as usize];
            let mut offset = None;
            if n < applied {
                offset = Some(log.values.len() as i64).filter(|_| outcome == Outcome::Ok && is_told);
                log.values.push(value);
            }
            if outcome == Outcome::Ok {
                log.promised = log.values.len();
            }
            records.push(Sent { key, value, crc: crc(value), offset });
        }
        let process = self.writers[writer].process;
        self.note(process, outcome, Action::sent(records));
    }

    fn poll(&mut self, reader: usize) {
        let most = self.chance.random_range(1..12);
        let outcome = if self.chance.random_range(0..15) == 0 { Outcome::Fail } else { Outcome::Ok };
        let mut records = Vec::new();
        let Reader { process, positions } = &mut self.readers[reader];
        for (key, position) in positions {
            let log = &mut self.logs[*key as usize];
            let end = log.values.len().min(*position + most);
            for offset in *position..end {
                let value = log.values[offset];
                let (key, offset) = (*key, offset as i64);
                records.push(Polled { key, offset, value: Some(value), crc: crc(value) });
            }
            // A poll that failed handed nothing out and is repeated from where it began.
            if outcome == Outcome::Ok {
                *position = (*position).max(end);
                log.promised = log.promised.max(end);
            }
        }
        if outcome != Outcome::Ok {
            records.clear();
        }
        let process = *process;
        self.note(process, outcome, Action::polled(records));
    }

    fn assign(&mut self, reader: usize) {
        let mut kept = BTreeMap::new();
        for key in 0..KEYS {
            let log = &self.logs[key as usize];
            let anywhere = self.chance.random_range(log.log_start..=log.promised);
            match self.readers[reader].positions.get(&key) {
                Some(position) if self.chance.random_range(0..3) > 0 => drop(kept.insert(key, *position)),
                None if self.chance.random_range(0..3) > 0 => drop(kept.insert(key, anywhere)),
                Some(_) | None => {}
            }
        }
        self.readers[reader].positions = kept;
        self.note_assignment(reader);
    }

    fn note_assignment(&mut self, reader: usize) {
        let Reader { process, positions } = &self.readers[reader];
        let (process, keys) = (*process, positions.keys().copied().collect());
        self.note(process, Outcome::Ok, Action::Assign { keys });
    }

    fn crash(&mut self) {
        if self.chance.random_range(0..2) == 0 {
            let reader = self.chance.random_range(0..self.readers.len());
            let new = self.new_reader();
            let old = std::mem::replace(&mut self.readers[reader], new);
            self.note(old.process, Outcome::Info, Action::Crash);
        } else {
            let writer = self.chance.random_range(0..self.writers.len());
            let new = Writer { process: self.new_process(), sent: 0 };
            let old = std::mem::replace(&mut self.writers[writer], new);
            self.note(old.process, Outcome::Info, Action::Crash);
        }
    }

    /// An unclean start: what was promised to nobody may be gone, and then the epoch is higher.
    fn restart(&mut self) {
        for key in 0..KEYS as usize {
            let kept = self.chance.random_range(self.logs[key].promised..=self.logs[key].values.len());
            self.logs[key].values.truncate(kept);
            self.logs[key].leader_epoch += 1;
            for reader in &mut self.readers {
                let position = reader.positions.get_mut(&(key as u32));
                assert!(
                    position.is_none_or(|position| *position <= kept),
                    "a reader stands beyond a promise"
                );
            }
        }
    }

    fn trim(&mut self) {
        let key = self.chance.random_range(0..KEYS);
        let log = &mut self.logs[key as usize];
        log.log_start = self.chance.random_range(log.log_start..=log.promised);
        let start = log.log_start;
        self.mark(key);
        for reader in 0..self.readers.len() {
            if self.readers[reader].positions.get(&key).is_some_and(|position| *position < start) {
                self.readers[reader].positions.remove(&key);
                self.note_assignment(reader);
                self.readers[reader].positions.insert(key, start);
                self.note_assignment(reader);
            }
        }
    }

    fn mark(&mut self, key: Key) {
        let log = &mut self.logs[key as usize];
        let (log_start, high_watermark) = (log.log_start as i64, log.values.len() as i64);
        let leader_epoch = log.leader_epoch;
        let process = self.new_process();
        self.note(
            process,
            Outcome::Ok,
            Action::Mark { key, log_start, high_watermark, last_stable: None, leader_epoch },
        );
    }

    /// The last phase: a new reader reads all there is.
    fn read_all(&mut self) {
        let mut reader = self.new_reader();
        reader.positions = (0..KEYS).map(|key| (key, self.logs[key as usize].log_start)).collect();
        self.readers.push(reader);
        let last = self.readers.len() - 1;
        while (0..KEYS).any(|key| self.readers[last].positions[&key] < self.logs[key as usize].values.len()) {
            self.poll(last);
        }
        for key in 0..KEYS {
            self.mark(key);
        }
    }
}
