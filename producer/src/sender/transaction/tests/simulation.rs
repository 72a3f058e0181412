//! Many transactions against a model of a coordinator that loses, repeats and delays, by seed.
//!
//! Held against the model: what is told to be committed is, what is told to have had no effect has none, transactions do
//! not overlap, and without a rival nothing is fenced and everything ends.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Bench, failed, lost};
use crate::sender::transaction::*;

/// Small numbers from a seed (xorshift).
struct Chance(u64);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Empty,
    Ongoing,
    Complete(Ending),
}

/// The coordinator and the log in one.
struct Model {
    version: Version,
    identity: Identity,
    /// Whom the last claim with an identity was answered for (KIP-360).
    claimed_from: Option<i16>,
    status: Status,
    /// Numbers of transactions with something in the open one.
    pending: BTreeSet<Number>,
    joined: bool,
    committed: BTreeSet<Number>,
    has_rival: bool,
}

impl Model {
    fn new(version: Version) -> Self {
        let identity = Identity { id: 1, epoch: -1 };
        let (pending, committed) = (BTreeSet::new(), BTreeSet::new());
        let status = Status::Empty;
        Self {
            version,
            identity,
            claimed_from: None,
            status,
            pending,
            joined: false,
            committed,
            has_rival: false,
        }
    }

    fn end_open(&mut self, ending: Ending) {
        let pending = std::mem::take(&mut self.pending);
        if ending == Ending::Commit {
            self.committed.extend(pending);
        }
        self.joined = false;
        self.status = Status::Complete(ending);
    }

    /// Another instance claims the id, or the transaction took too long.
    fn rival(&mut self) {
        if self.status == Status::Ongoing {
            self.end_open(Ending::Abort);
        }
        self.identity.epoch += 1;
        self.claimed_from = None;
        self.status = Status::Empty;
        self.has_rival = true;
    }

    fn claim(&mut self, current: Option<Identity>) -> Answer {
        match current {
            Some(current) if current != self.identity => {
                if self.claimed_from == Some(current.epoch) && current.id == self.identity.id {
                    return Answer::Identified(self.identity);
                }
                return Answer::Refused(ErrorCode::ProducerFenced);
            }
            _ => {}
        }
        if self.status == Status::Ongoing {
            self.end_open(Ending::Abort);
        }
        self.claimed_from = current.map(|current| current.epoch);
        self.identity.epoch += 1;
        self.status = Status::Empty;
        Answer::Identified(self.identity)
    }

    fn join(&mut self, who: Identity, number: Number) -> bool {
        if who != self.identity {
            return false;
        }
        self.status = Status::Ongoing;
        self.joined = true;
        self.pending.insert(number);
        true
    }

    fn end(&mut self, who: Identity, ending: Ending) -> Answer {
        let done = |model: &Self| match model.version {
            Version::One => Answer::Done,
            Version::Two => Answer::Identified(model.identity),
        };
        let is_repeated = match self.version {
            Version::One => who == self.identity,
            Version::Two => {
                who.epoch + 1 == self.identity.epoch && self.claimed_from.is_none() && !self.has_rival
            }
        };
        if is_repeated && self.status == Status::Complete(ending) {
            return done(self);
        }
        if who != self.identity {
            return Answer::Refused(ErrorCode::ProducerFenced);
        }
        match (self.status, self.version, ending) {
            (Status::Ongoing, ..) | (_, Version::Two, Ending::Abort) => {
                self.end_open(ending);
                self.claimed_from = None;
                if self.version == Version::Two {
                    self.identity.epoch += 1;
                }
                done(self)
            }
            _ => Answer::Refused(ErrorCode::InvalidTxnState),
        }
    }

    fn carry_out(&mut self, ask: &Ask, who: Option<Identity>, number: Option<Number>) -> Answer {
        let who = who.unwrap_or(Identity { id: -1, epoch: -1 });
        let joined =
            |is_done| if is_done { Answer::Done } else { Answer::Refused(ErrorCode::ProducerFenced) };
        match ask {
            Ask::Claim { current } => self.claim(*current),
            Ask::Join(_) | Ask::JoinGroup(_) | Ask::Offsets(_) => {
                let number = number.expect("only an open transaction grows");
                joined(self.join(who, number))
            }
            Ask::End(ending) => self.end(who, *ending),
        }
    }
}

/// One run: a caller, the machine, and the model.
struct World {
    bench: Bench,
    model: Model,
    chance: Chance,
    held: Option<Number>,
    begun: bool,
    next: Number,
    /// With a batch that was acknowledged.
    written: BTreeSet<Number>,
    told_committed: BTreeSet<Number>,
    told_harmless: BTreeSet<Number>,
    is_calm: bool,
}

impl World {
    fn new(seed: u64, version: Version) -> Self {
        let mut machine = Machine::new("x");
        machine.learn(version);
        Self {
            bench: Bench { machine, now: Instant::now() },
            model: Model::new(version),
            chance: Chance::new(seed),
            held: None,
            begun: false,
            next: 0,
            written: BTreeSet::new(),
            told_committed: BTreeSet::new(),
            told_harmless: BTreeSet::new(),
            is_calm: false,
        }
    }

    fn call(&mut self) {
        let machine = &mut self.bench.machine;
        let Some(number) = self.held else {
            self.next += 1;
            self.held = Some(self.next);
            self.begun = false;
            return machine.begin(self.next);
        };
        match self.chance.below(8) {
            0..=3 if self.begun => self.write(number),
            4 if self.begun => {
                let group = GroupMetadata::new("g");
                if machine.is_open(number) {
                    machine.add_offsets(Offsets { ticket: self.next, group, offsets: Vec::new() });
                }
            }
            5 | 6 if self.begun => machine.commit(number),
            7 if self.chance.one_in(3) => {
                machine.abandon(number);
                self.held = None;
            }
            _ => {}
        }
    }

    /// A batch, in one piece: admitted, sent, and acknowledged or not.
    fn write(&mut self, number: Number) {
        let Some(who) = self.bench.machine.admit((0, 0)) else { return };
        assert!(self.bench.machine.is_current(number), "a batch goes with its own transaction");
        self.bench.machine.on_sent();
        let is_lost_before = self.chance.one_in(12);
        let arrives = !is_lost_before
            && match self.model.version {
                Version::One => who == self.model.identity && self.model.joined,
                Version::Two => self.model.join(who, number),
            };
        if arrives {
            self.model.pending.insert(number);
            assert_eq!(self.model.pending.len(), 1, "transactions overlap");
        } else {
            assert!(is_lost_before || self.model.has_rival, "a batch of the owner is refused");
        }
        if arrives && !self.chance.one_in(12) {
            self.bench.machine.on_written();
            self.written.insert(number);
        } else {
            self.bench.machine.on_batch_failed(&failed(ErrorCode::RequestTimedOut));
        }
    }

    /// What the sender does in each pass.
    fn pump(&mut self) {
        if let Some(number) = self.bench.machine.ready_to_commit() {
            match self.held == Some(number) {
                true => self.bench.machine.decide(),
                false => self.bench.machine.abandon(number),
            }
        }
        self.bench.machine.on_quiet();
        let (number, who) = (self.bench.machine.current, self.bench.machine.identity());
        if let Ok(ask) = self.bench.machine.next(self.bench.now) {
            let answer = self.exchange(&ask, who, number);
            self.bench.machine.on_answer(&ask, answer, self.bench.now + Duration::from_millis(10));
        }
        self.bench.now += Duration::from_millis(20);
        self.hear();
    }

    fn exchange(&mut self, ask: &Ask, who: Option<Identity>, number: Option<Number>) -> Answer {
        if !self.is_calm {
            match self.chance.below(10) {
                0 => return lost(),
                1 => return Answer::Refused(ErrorCode::CoordinatorLoadInProgress),
                2 => {
                    self.model.carry_out(ask, who, number);
                    return lost();
                }
                // Twice: the second is late, or a repetition by the network.
                3 => drop(self.model.carry_out(ask, who, number)),
                _ => {}
            }
        }
        self.model.carry_out(ask, who, number)
    }

    fn hear(&mut self) {
        for note in self.bench.machine.take_notes() {
            match note {
                Note::Begun(number) => self.begun |= self.held == Some(number),
                Note::Ended(number, ending) => {
                    match ending {
                        Ending::Commit => drop(self.told_committed.insert(number)),
                        Ending::Abort => drop(self.told_harmless.insert(number)),
                    }
                    self.held.take_if(|held| *held == number);
                }
                Note::Broken(number, error) => {
                    if error.had_no_effect() {
                        self.told_harmless.insert(number);
                    }
                    self.held.take_if(|held| *held == number);
                }
                Note::Dead(error) => {
                    assert!(error.is_fenced() && self.model.has_rival, "{error}");
                    if let Some(number) = self.held.take()
                        && error.had_no_effect()
                    {
                        self.told_harmless.insert(number);
                    }
                }
                Note::Rests | Note::Taken { .. } => {}
            }
        }
    }

    fn check(&self) {
        let committed = &self.model.committed;
        let gone: Vec<_> =
            self.told_committed.intersection(&self.written).filter(|n| !committed.contains(n)).collect();
        assert!(gone.is_empty(), "told to be committed, and not: {gone:?}");
        let lied: Vec<_> = self.told_harmless.intersection(committed).collect();
        assert!(lied.is_empty(), "told to have had no effect, and committed: {lied:?}");
        let pending: Vec<_> = self.told_committed.intersection(&self.model.pending).collect();
        assert!(pending.is_empty(), "told to be committed, and open: {pending:?}");
    }
}

fn run(seed: u64, version: Version, with_rival: bool) -> (usize, usize) {
    let mut world = World::new(seed, version);
    for step in 0..600 {
        if with_rival && step > 100 && world.chance.one_in(150) {
            world.model.rival();
        }
        if !world.bench.machine.is_dead() && world.chance.one_in(2) {
            world.call();
        }
        world.pump();
    }
    world.is_calm = true;
    if let Some(number) = world.held.take() {
        world.bench.machine.abandon(number);
    }
    for _ in 0..20 {
        world.pump();
    }
    assert!(world.bench.machine.rests(), "everything ends");
    world.check();
    (world.told_committed.len(), world.told_harmless.len())
}

#[test]
fn whatever_is_lost_or_repeated_each_transaction_ends_as_it_was_told() {
    let mut ended = (0, 0);
    for seed in 0..400 {
        for version in [Version::One, Version::Two] {
            for with_rival in [false, true] {
                let run = std::panic::catch_unwind(|| run(seed, version, with_rival));
                let (committed, aborted) =
                    run.unwrap_or_else(|_| panic!("seed {seed}, {version:?}, rival {with_rival}: see above"));
                ended = (ended.0 + committed, ended.1 + aborted);
            }
        }
    }
    assert!(ended.0 > 10_000 && ended.1 > 10_000, "the runs are of no worth: {ended:?}");
}
