//! Beside the copiers: writers whose transactions end in all ways, readers of both kinds, and questions about the bounds, all
//! of which go to a history.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use millstream_protocol::KStr;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::history::{
    Action, Ending, Isolation, Key, Marker, Name, Outcome, Process, Sent, Transaction, crc_of,
};
use crate::proof::bed::broker::pause;
use crate::proof::bed::payload;
use crate::proof::bed::recorder::Recorder;
use crate::proof::bed::way::{Way, at_once, insist};
use crate::proof::bed::wire::polled;
use crate::transactional::reading::Seen;
use crate::transactional::{Of, Place, Producer, Protocol, Told, Unanswered, find_coordinator};

/// Where these writers write.
pub(super) const WRITTEN: KStr = KStr::from_static("written");
pub(super) const PARTITIONS: u32 = 2;
/// How long a transaction of theirs may be open.
const TIMEOUT: Duration = Duration::from_secs(2);
const WRITERS: Name = 3;

/// What they share.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) recorder: Recorder,
    address: SocketAddr,
    enough: Arc<AtomicBool>,
    wrong: Arc<Mutex<Vec<String>>>,
}

fn place(key: Key) -> Place {
    Place { topic: WRITTEN, partition: key as i32 }
}

impl Load {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { recorder: Recorder::new(), address, enough: Arc::default(), wrong: Arc::default() }
    }

    pub(super) fn start(&self, chance: &mut StdRng) -> Vec<JoinHandle<()>> {
        let mut threads = Vec::new();
        for name in 0..WRITERS {
            let (load, seed) = (self.clone(), chance.random());
            threads.push(thread::spawn(move || write(&load, name, seed)));
        }
        for isolation in [Isolation::Committed, Isolation::Committed, Isolation::Uncommitted] {
            let load = self.clone();
            threads.push(thread::spawn(move || follow(&load, isolation)));
        }
        let load = self.clone();
        threads.push(thread::spawn(move || {
            let mut way = Way::to(load.address);
            while !load.is_enough() {
                mark(&load, &mut way);
                pause(Duration::from_millis(50));
            }
        }));
        threads
    }

    pub(super) fn finish(&self) {
        self.enough.store(true, Ordering::Relaxed);
    }

    fn is_enough(&self) -> bool {
        self.enough.load(Ordering::Relaxed)
    }

    fn wrong(&self, what: String) {
        self.wrong.lock().push(what);
    }

    pub(super) fn wrongs(&self) -> Vec<String> {
        self.wrong.lock().clone()
    }

    /// Waits until nothing is open, and reads all there is.
    pub(super) fn end(&self) {
        let mut way = Way::to(self.address);
        let patience = TIMEOUT + Duration::from_secs(60);
        let mut waited = Duration::ZERO;
        while !mark(self, &mut way) {
            if waited > patience {
                self.wrong(format!("a transaction is open still {waited:?} after the last client ended"));
                return;
            }
            pause(Duration::from_millis(50));
            waited += Duration::from_millis(50);
        }
        for isolation in [Isolation::Committed, Isolation::Uncommitted] {
            let process = self.recorder.process();
            for key in 0..PARTITIONS {
                let mut position = 0;
                loop {
                    let before = position;
                    poll(self, &mut way, process, isolation, (key, &mut position));
                    if position == before {
                        break;
                    }
                }
            }
        }
        mark(self, &mut way);
    }
}

/// One writer after the other under a name; some die in the middle, and their transactions wait for the timeout.
fn write(load: &Load, name: Name, seed: u64) {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut way = Way::to(load.address);
    while !load.is_enough() {
        let protocol = if name == 0 { Protocol::V1 } else { Protocol::V2 };
        let mut producer = Producer::new(&format!("writer-{name}"), protocol, TIMEOUT);
        let id = producer.id().clone();
        let is_enough = || load.is_enough();
        let (found, _) =
            insist(&mut way, is_enough, async |way| find_coordinator(way, Of::Transactions, &id).await);
        let process = load.recorder.process();
        let began_us = load.recorder.now_us();
        let (told, attempts) = insist(&mut way, is_enough, async |way| producer.claim(way).await);
        load.recorder.note(process, began_us, attempts.outcome(), Action::Claim { name });
        if let (Ok(Told::Refused(code)), _) | (_, Ok(Told::Refused(code) | Told::Fenced(code))) =
            (found, told)
        {
            load.wrong(format!("a claim of {id} was refused with {}", code.name()));
            return;
        }
        let mut writer = Writer { load, chance: &mut chance, way: &mut way, process, producer, sent: 0 };
        while told == Ok(Told::Done) && !load.is_enough() && writer.one_transaction(name) {}
        if chance.random_range(0..4) == 0 {
            pause(TIMEOUT + Duration::from_millis(500));
        }
    }
}

struct Writer<'a> {
    load: &'a Load,
    chance: &'a mut StdRng,
    way: &'a mut Way,
    process: Process,
    producer: Producer,
    sent: u32,
}

impl Writer<'_> {
    /// False if this writer has no future.
    fn one_transaction(&mut self, name: Name) -> bool {
        let recorder = &self.load.recorder;
        let transaction = u64::from(self.process) << 32 | u64::from(self.sent);
        let timeout_ms = TIMEOUT.as_millis() as u64;
        let begin = Action::Begin { transaction, name, timeout_ms };
        recorder.note(self.process, recorder.now_us(), Outcome::Ok, begin);
        for _ in 0..self.chance.random_range(1..6) {
            if !self.send(transaction) {
                // The next instance ends it, or time does.
                return false;
            }
            pause(Duration::from_millis(self.chance.random_range(0..15)));
            if self.chance.random_range(0..40) == 0 {
                return false;
            }
        }
        let ending = if self.chance.random_range(0..4) == 0 { Ending::Abort } else { Ending::Commit };
        self.end(transaction, ending)
    }

    fn send(&mut self, transaction: Transaction) -> bool {
        let key = self.chance.random_range(0..PARTITIONS);
        let count = self.chance.random_range(1..20);
        let values: Vec<_> =
            (self.sent..self.sent + count).map(|n| payload::value(self.process, n)).collect();
        self.sent += count;
        let records: Vec<_> = values
            .iter()
            .map(|value| payload::record(*value))
            .map(|(key, value)| (key.to_vec(), value))
            .collect();
        let recorder = &self.load.recorder;
        let began_us = recorder.now_us();
        let (producer, mut base, to) = (&mut self.producer, -1, place(key));
        let (told, attempts) = insist(
            self.way,
            || self.load.is_enough(),
            async |way| {
                let (told, offset) = producer.write(way, &to, &records).await?;
                base = offset;
                Ok(told)
            },
        );
        let outcome = attempts.outcome();
        let sent = values.iter().zip(&records).zip(0..).map(|((value, (name, bytes)), n)| Sent {
            key,
            value: *value,
            crc: crc_of(name, bytes),
            offset: Some(base + n).filter(|_| outcome == Outcome::Ok),
        });
        let action = Action::Send { records: sent.collect(), transaction: Some(transaction) };
        recorder.note(self.process, began_us, outcome, action);
        told == Ok(Told::Done)
    }

    fn end(&mut self, transaction: Transaction, ending: Ending) -> bool {
        let recorder = &self.load.recorder;
        let began_us = recorder.now_us();
        let is_held_back = self.producer.protocol() == Protocol::V2 && self.chance.random_range(0..6) == 0;
        if is_held_back {
            // A first EndTxn stays in the network until the next transaction has begun.
            let (closing, address) = (self.producer.closing(ending), self.load.address);
            let delay = Duration::from_millis(self.chance.random_range(1..150));
            thread::spawn(move || {
                pause(delay);
                // What it is told is nobody's business: it comes from a client that has given up on it.
                let _ = at_once(closing.arrive(&mut Way::to(address)));
            });
        }
        let producer = &mut self.producer;
        let (told, mut attempts) =
            insist(self.way, || self.load.is_enough(), async |way| producer.end(way, ending).await);
        if is_held_back {
            attempts.note(Err(Unanswered));
        }
        recorder.note(self.process, began_us, attempts.outcome(), Action::End { transaction, ending });
        told == Ok(Told::Done)
    }
}

fn follow(load: &Load, isolation: Isolation) {
    let mut way = Way::to(load.address);
    let process = load.recorder.process();
    let mut positions = vec![0; PARTITIONS as usize];
    while !load.is_enough() {
        for (key, position) in (0..).zip(&mut positions) {
            poll(load, &mut way, process, isolation, (key, position));
        }
        pause(Duration::from_millis(5));
    }
}

fn poll(
    load: &Load,
    way: &mut Way,
    process: Process,
    isolation: Isolation,
    (key, position): (Key, &mut i64),
) {
    let began_us = load.recorder.now_us();
    match way.fetch(&place(key), *position, isolation) {
        Ok(Ok(Ok(seen))) => {
            *position = seen.next;
            note(load, process, began_us, isolation, (key, &seen));
        }
        Ok(Ok(Err(what))) => load.wrong(format!("partition {key} {what}")),
        Ok(Err(code)) if !code.is_retriable() => {
            load.wrong(format!("a Fetch of partition {key} at {position} was answered with {}", code.name()));
        }
        Ok(Err(_)) | Err(Unanswered) => {}
    }
}

fn note(load: &Load, process: Process, began_us: u64, isolation: Isolation, (key, seen): (Key, &Seen)) {
    if seen.records.is_empty() && seen.markers.is_empty() {
        return;
    }
    let records = seen.records.iter().map(|record| {
        let (name, value) = (record.key.as_deref(), record.value.as_deref());
        polled(key, record.offset, name.unwrap_or_default(), value.unwrap_or_default())
    });
    let markers = seen.markers.iter().map(|offset| Marker { key, offset: *offset });
    let action = Action::Poll { records: records.collect(), isolation, markers: markers.collect() };
    load.recorder.note(process, began_us, Outcome::Ok, action);
}

/// Notes the bounds; tells whether nothing is open.
fn mark(load: &Load, way: &mut Way) -> bool {
    let mut is_all_stable = true;
    for key in 0..PARTITIONS {
        let began_us = load.recorder.now_us();
        let end = way.end_of(&place(key), Isolation::Uncommitted);
        let stable = way.end_of(&place(key), Isolation::Committed);
        let (Ok(Ok((high_watermark, epoch))), Ok(Ok((stable, leader_epoch)))) = (end, stable) else {
            is_all_stable = false;
            continue;
        };
        is_all_stable &= stable >= high_watermark;
        if epoch == leader_epoch {
            let last_stable = Some(stable);
            let mark = Action::Mark { key, log_start: 0, high_watermark, last_stable, leader_epoch };
            load.recorder.note(load.recorder.process(), began_us, Outcome::Ok, mark);
        }
    }
    is_all_stable
}
