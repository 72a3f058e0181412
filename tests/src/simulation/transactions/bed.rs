//! What all clients of one run share: the broker, time, the history, and the first thing that went wrong.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use millstream_broker::{SimBroker, SimOptions, StartError};
use millstream_log::{Clock, ManualClock, SimDisk};
use millstream_protocol::KStr;

use super::{COPIERS, TransactionPlan, TransactionReport, WRITERS};
use crate::history::{Action, Key, Op, Outcome, Process, Transaction, Value};
use crate::simulation::Failure;
use crate::simulation::trace::Trace;
use crate::simulation::world::Phase;
use crate::transactional::Place;

const START_MS: i64 = 1_767_225_600_000;

/// Where writers write.
pub(super) const WRITTEN: KStr = KStr::from_static("written");
/// What copiers read, and where they put it; partition by partition.
pub(super) const INPUT: KStr = KStr::from_static("input");
pub(super) const OUTPUT: KStr = KStr::from_static("output");
/// Each topic has so many.
pub(super) const PARTITIONS: i32 = 2;
/// Records in each partition of the input.
pub(super) const INPUT_RECORDS: i64 = 40;

/// Everything, for one thread.
pub(super) struct Bed {
    pub(super) plan: TransactionPlan,
    pub(super) disk: SimDisk,
    pub(super) clock: Arc<ManualClock>,
    pub(super) broker: RefCell<Option<SimBroker>>,
    pub(super) history: RefCell<Vec<Op>>,
    pub(super) report: RefCell<TransactionReport>,
    pub(super) phase: Cell<Phase>,
    pub(super) busy: Cell<usize>,
    /// How often each name was claimed.
    pub(super) claims: RefCell<Vec<u64>>,
    trace: RefCell<Trace>,
    failure: RefCell<Option<String>>,
    last_us: Cell<u64>,
    next_number: Cell<u64>,
}

impl Bed {
    pub(super) fn new(plan: TransactionPlan) -> Rc<Self> {
        Rc::new(Self {
            plan,
            disk: SimDisk::new(),
            clock: Arc::new(ManualClock::at(START_MS)),
            broker: RefCell::default(),
            history: RefCell::default(),
            report: RefCell::default(),
            phase: Cell::new(Phase::Working),
            busy: Cell::new(0),
            claims: RefCell::new(vec![0; (WRITERS + COPIERS) as usize]),
            trace: RefCell::new(Trace::new(plan.whole_trace)),
            failure: RefCell::default(),
            last_us: Cell::new(0),
            next_number: Cell::new(1),
        })
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.clock.steady_ms()
    }

    /// Never the same twice: what happened later has a later time.
    pub(super) fn now_us(&self) -> u64 {
        let now_us = (self.now_ms().unsigned_abs() * 1000).max(self.last_us.get() + 1);
        self.last_us.set(now_us);
        now_us
    }

    fn fresh(&self) -> u64 {
        let number = self.next_number.get();
        self.next_number.set(number + 1);
        number
    }

    pub(super) fn process(&self) -> Process {
        Process::try_from(self.fresh()).expect("few clients")
    }

    pub(super) fn transaction(&self) -> Transaction {
        self.fresh()
    }

    pub(super) fn value(&self) -> Value {
        self.fresh()
    }

    /// Notes what has just ended.
    pub(super) fn note(&self, process: Process, began_us: u64, outcome: Outcome, action: Action) {
        self.trace(&format!("{process} {outcome:?} {action:?}"));
        let op = Op { process, began_us, ended_us: self.now_us(), outcome, action };
        self.history.borrow_mut().push(op);
    }

    pub(super) fn trace(&self, line: &str) {
        let line = format!("{:>6} {line}", self.now_ms());
        self.trace.borrow_mut().note(line);
    }

    /// The first broken promise counts.
    pub(super) fn fail(&self, what: String) {
        self.trace(&format!("BROKEN: {what}"));
        self.failure.borrow_mut().get_or_insert(what);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    pub(super) fn is_over(&self) -> bool {
        self.phase.get() == Phase::Over || self.has_failed()
    }

    pub(super) fn outcome(&self) -> Result<TransactionReport, Failure> {
        let trace = self.trace.borrow();
        match self.failure.borrow().clone() {
            Some(what) => Err(Failure { seed: self.plan.seed, what, trace: trace.lines() }),
            None => Ok(TransactionReport { trace_hash: trace.hash(), ..*self.report.borrow() }),
        }
    }

    pub(super) fn start_broker(&self, seed: u64) -> Result<(), StartError> {
        let settings = [("auto.create.topics.enable", "false"), ("log.segment.bytes", "16384")];
        let broker = SimBroker::start(SimOptions {
            disk: self.disk.clone(),
            clock: Arc::clone(&self.clock),
            settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            seed,
        })?;
        *self.broker.borrow_mut() = Some(broker);
        Ok(())
    }
}

/// The history's name of a partition that transactions write to.
pub(super) fn key_of(place: &Place) -> Key {
    let first = if place.topic == WRITTEN { 0 } else { PARTITIONS };
    Key::try_from(first + place.partition).expect("partitions count from 0")
}

/// All of those.
pub(super) fn places() -> Vec<Place> {
    let all = [WRITTEN, OUTPUT].into_iter();
    all.flat_map(|topic| (0..PARTITIONS).map(move |partition| Place { topic: topic.clone(), partition }))
        .collect()
}
