//! Transactions while the disk fails, the power fails, the broker is killed, answers get lost, requests arrive twice or far too
//! late, and producers die or do not know that they are dead. What clients did and saw becomes a history, and the judge of
//! histories judges it; what was copied from one topic to another in transactions is there once, in order.

mod bed;
mod copier;
mod link;
mod orphan;
mod reader;
mod writer;

use std::num::NonZero;
use std::rc::Rc;
use std::time::Duration;

use millstream_broker::SimBroker;
use tokio::task::LocalSet;

use super::Failure;
use super::chance::Chance;
use super::faults::some_cut;
use super::world::Phase;
use crate::history::checker::judge;
use crate::transactional::Protocol;
use bed::Bed;
pub use orphan::{Comes, OrphanReport, orphan};

const TICK: Duration = Duration::from_millis(1);
const FIVE: NonZero<u64> = NonZero::new(5).expect("five");
/// How long the transactions of these producers may be open.
const TIMEOUT: Duration = Duration::from_millis(150);
/// Simulated time in which everything must be resolved once nothing is wrong any more.
const PATIENCE_MS: i64 = 12_000;
/// Writers, and who copies which partition.
const WRITERS: u32 = 4;
const COPIERS: u32 = 2;

/// A bug to plant: a run that finds nothing in the broker must find this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// One sync in five makes nothing durable.
    OneSyncInFive,
    /// What the coordinator decides is never durable, so markers are written before their decision is.
    Decisions,
}

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct TransactionPlan {
    /// Decides everything else.
    pub seed: u64,
    /// Simulated milliseconds with faults, before they heal.
    pub millis: u64,
    /// A bug to plant, to see that it is found.
    pub planted: Option<Lie>,
    /// Keep every line of the trace, not only the last ones.
    pub whole_trace: bool,
}

impl TransactionPlan {
    /// The usual form.
    #[must_use]
    pub fn short(seed: u64) -> Self {
        Self { seed, millis: 500, planted: None, whole_trace: false }
    }
}

/// What runs did, so that ones that did nothing are noticed.
#[derive(Clone, Copy, Debug, Default)]
pub struct TransactionReport {
    /// Of everything that happened, in order: the same seed gives the same.
    pub trace_hash: u64,
    /// Transactions that were committed, as far as anybody knows.
    pub committed: u64,
    /// Transactions that were aborted.
    pub aborted: u64,
    /// Transactions of which nobody can tell.
    pub undecided: u64,
    /// Records that were copied.
    pub copied: u64,
    /// Attempts of zombies, all of them fenced.
    pub fenced: u64,
    /// EndTxn that arrived when its transaction was over.
    pub held_back: u64,
    /// Answers that clients did not wait for.
    pub lost_answers: u64,
    /// Requests that arrived twice.
    pub doubled: u64,
    /// Ends of the broker by a power cut or a kill.
    pub ends: u64,
    /// Calls to the disk that failed, and power cuts that lost something.
    pub bites: u64,
}

impl TransactionReport {
    /// Adds another run's numbers.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            trace_hash: self.trace_hash.rotate_left(1) ^ other.trace_hash,
            committed: self.committed + other.committed,
            aborted: self.aborted + other.aborted,
            undecided: self.undecided + other.undecided,
            copied: self.copied + other.copied,
            fenced: self.fenced + other.fenced,
            held_back: self.held_back + other.held_back,
            lost_answers: self.lost_answers + other.lost_answers,
            doubled: self.doubled + other.doubled,
            ends: self.ends + other.ends,
            bites: self.bites + other.bites,
        }
    }
}

/// Runs a plan from beginning to end.
///
/// # Errors
/// The first promise that was broken.
pub fn transactions(plan: TransactionPlan) -> Result<TransactionReport, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without threads needs nothing");
    LocalSet::new().block_on(&runtime, async {
        let bed = Bed::new(plan);
        let mut driver = Driver { bed: Rc::clone(&bed), chance: Chance::of(plan.seed), end: None };
        driver.run().await;
        bed.outcome()
    })
}

/// How the broker ends once its disk is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    PowerCut,
    Kill,
    Shutdown,
}

struct Driver {
    bed: Rc<Bed>,
    chance: Chance,
    end: Option<End>,
}

impl Driver {
    async fn run(&mut self) {
        self.start();
        let bed = Rc::clone(&self.bed);
        if !self.drive(reader::prepare(&bed)).await {
            return;
        }
        let planted = self.bed.plan.planted;
        match planted {
            Some(Lie::OneSyncInFive) => self.bed.disk.make_some_syncs_lie(FIVE),
            Some(Lie::Decisions) if !self.drive(reader::lie_about_decisions(&bed)).await => return,
            Some(Lie::Decisions) | None => {}
        }
        self.spawn_clients();
        let until = self.bed.now_ms() + i64::try_from(self.bed.plan.millis).expect("short");
        while self.bed.now_ms() < until && !self.bed.has_failed() {
            self.tick().await;
            self.trouble().await;
        }
        self.finish().await;
    }

    /// Time passes until something is done; false if it is not.
    async fn drive(&mut self, work: impl Future<Output = Result<(), String>>) -> bool {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                outcome = &mut work => {
                    if let Err(what) = outcome {
                        self.bed.fail(what);
                    }
                    return !self.bed.has_failed();
                }
                () = self.tick() => {}
            }
        }
    }

    fn spawn_clients(&mut self) {
        for name in 0..WRITERS + COPIERS {
            let protocol = if self.chance.one_in(3) { Protocol::V1 } else { Protocol::V2 };
            let (bed, chance) = (Rc::clone(&self.bed), self.chance.fork());
            bed.busy.set(bed.busy.get() + 1);
            tokio::task::spawn_local(async move {
                if name < WRITERS {
                    writer::write(Rc::clone(&bed), chance, name, protocol).await;
                } else {
                    copier::copy(Rc::clone(&bed), chance, name, protocol).await;
                }
                bed.busy.set(bed.busy.get() - 1);
            });
        }
        for _ in 0..2 {
            tokio::task::spawn_local(reader::follow(Rc::clone(&self.bed), self.chance.fork()));
        }
        tokio::task::spawn_local(reader::mark(Rc::clone(&self.bed), self.chance.fork()));
    }

    async fn tick(&mut self) {
        tokio::time::sleep(TICK).await;
        self.bed.clock.advance(TICK);
        if let Some(broker) = &*self.bed.broker.borrow() {
            for _ in 0..self.chance.below(5) {
                broker.flush_step();
            }
            if self.chance.one_in(12) {
                broker.maintain();
            }
            if broker.has_panicked() {
                self.bed.fail("a connection's task panicked".to_owned());
            }
        }
    }

    async fn trouble(&mut self) {
        if self.bed.disk.is_off()
            && let Some(end) = self.end.take()
        {
            self.end(end).await;
        }
        if self.bed.broker.borrow().is_none() {
            if self.chance.one_in(8) {
                self.start();
            }
            return;
        }
        if !self.chance.one_in(40) {
            return;
        }
        let disk = &self.bed.disk;
        let soon = self.chance.below(10);
        match self.chance.below(14) {
            0 => self.end(End::Kill).await,
            1 => self.end(End::Shutdown).await,
            2 | 3 => self.end(End::PowerCut).await,
            4..8 if self.end.is_none() => {
                disk.fail_power_at(disk.changes() + 3 * soon);
                self.end = Some(if self.chance.one_in(3) { End::Kill } else { End::PowerCut });
                self.bed.trace(&format!("power fails after {} changes: {:?}", 3 * soon, self.end));
            }
            8 | 9 => disk.fail_sync(soon),
            10 => disk.fail_write(soon),
            _ => {}
        }
    }

    async fn end(&mut self, end: End) {
        let Some(broker) = self.bed.broker.borrow_mut().take() else { return };
        self.bed.trace(&format!("the broker ends: {end:?}"));
        self.end = None;
        match end {
            End::PowerCut => broker.crash(some_cut(&mut self.chance)).await,
            End::Kill => broker.kill().await,
            End::Shutdown => {
                self.shut_down(broker).await;
                return;
            }
        }
        self.bed.report.borrow_mut().ends += 1;
    }

    async fn shut_down(&mut self, broker: SimBroker) {
        let clean = broker.shutdown().await;
        self.bed.trace(&format!("shut down, clean: {clean}"));
        self.bed.disk.kill();
    }

    fn start(&mut self) {
        let bites = self.bed.disk.bites();
        match self.bed.start_broker(self.chance.next()) {
            Ok(()) => self.bed.trace("started"),
            Err(error) if self.bed.disk.bites() != bites || self.bed.disk.is_off() => {
                self.bed.trace(&format!("not started: {error}"));
                self.bed.disk.kill();
            }
            Err(error) => self.bed.fail(format!("the broker does not start: {error}")),
        }
    }

    /// The faults heal, clients finish, every transaction is resolved, and what is left is judged, twice.
    async fn finish(&mut self) {
        if self.bed.has_failed() {
            return;
        }
        self.bed.disk.heal();
        self.bed.disk.fail_power_at(u64::MAX);
        self.end(End::Kill).await;
        self.start();
        self.bed.trace("healed");
        self.bed.phase.set(Phase::Finishing);
        let until = self.bed.now_ms() + PATIENCE_MS;
        while self.bed.busy.get() > 0 && !self.bed.has_failed() {
            if self.bed.now_ms() > until {
                let what = format!("{} clients do not get on although nothing is wrong", self.bed.busy.get());
                self.bed.fail(what);
            }
            self.tick().await;
        }
        let bed = Rc::clone(&self.bed);
        if !self.drive(reader::settle(&bed)).await || !self.drive(reader::read_all(&bed)).await {
            return;
        }
        self.bed.phase.set(Phase::Over);
        if let Some(broker) = { self.bed.broker.borrow_mut().take() } {
            self.shut_down(broker).await;
        }
        self.start();
        if !self.drive(reader::read_all(&bed)).await {
            return;
        }
        let verdict = judge(&self.bed.history.borrow());
        if let Some(anomaly) = verdict.anomalies.first() {
            let what = format!("{anomaly} ({} anomalies: {:?})", verdict.anomalies.len(), verdict.counts());
            self.bed.fail(what);
        }
        let bites = self.bed.disk.bites();
        let mut report = self.bed.report.borrow_mut();
        report.committed = verdict.figures.committed as u64;
        report.aborted = verdict.figures.aborted as u64;
        report.undecided = verdict.figures.undecided as u64;
        report.bites = bites.power_cuts + bites.failed_calls;
    }
}
