//! What all parts of a run share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use millstream_broker::{SimBroker, SimOptions, StartError};
use millstream_log::{Clock, ManualClock, SimDisk};
use millstream_protocol::{KStr, Uuid};

use super::oracle::{Oracle, Policy};
use super::trace::Trace;
use super::wire::Wire;
use super::{Failure, Plan, Report};

/// 2026-01-01.
const START_MS: i64 = 1_767_225_600_000;

/// What is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Clients work, faults come.
    Working,
    /// No faults any more: clients finish what they have begun.
    Finishing,
    /// Clients are to end.
    Over,
}

/// A topic that the run uses.
#[derive(Clone, Debug)]
pub(super) struct Topic {
    pub(super) name: KStr,
    pub(super) partitions: i32,
    pub(super) configs: Vec<(&'static str, &'static str)>,
    pub(super) policy: Policy,
    /// Is deleted and created anew on the way.
    pub(super) churns: bool,
    /// Once it was created.
    pub(super) id: Option<Uuid>,
}

/// Everything, for one thread.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) disk: SimDisk,
    pub(super) clock: Arc<ManualClock>,
    pub(super) broker: RefCell<Option<SimBroker>>,
    pub(super) topics: RefCell<Vec<Topic>>,
    pub(super) oracle: RefCell<Oracle>,
    pub(super) report: RefCell<Report>,
    pub(super) phase: Cell<Phase>,
    pub(super) busy_clients: Cell<usize>,
    trace: RefCell<Trace>,
    failure: RefCell<Option<String>>,
    next_number: Cell<u64>,
    starts: Cell<u64>,
}

pub(super) type Shared = Rc<World>;

/// A connection, and how often something may have been lost before it was made.
pub(super) struct Connected {
    pub(super) wire: Wire,
    pub(super) losses: u64,
}

impl World {
    pub(super) fn new(plan: Plan, topics: Vec<Topic>) -> Shared {
        Rc::new(Self {
            plan,
            disk: SimDisk::new(),
            clock: Arc::new(ManualClock::at(START_MS)),
            broker: RefCell::default(),
            topics: RefCell::new(topics),
            oracle: RefCell::default(),
            report: RefCell::default(),
            phase: Cell::new(Phase::Working),
            busy_clients: Cell::new(0),
            trace: RefCell::new(Trace::new(plan.whole_trace)),
            failure: RefCell::default(),
            next_number: Cell::new(0),
            starts: Cell::new(0),
        })
    }

    pub(super) fn note(&self, line: &str) {
        let line = format!("{:>6} {line}", self.now_ms());
        self.trace.borrow_mut().note(line);
    }

    /// The first broken promise counts.
    pub(super) fn fail(&self, what: String) {
        self.note(&format!("BROKEN: {what}"));
        self.failure.borrow_mut().get_or_insert(what);
    }

    pub(super) fn check(&self, verdict: Result<(), String>) {
        if let Err(what) = verdict {
            self.fail(what);
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    pub(super) fn outcome(&self) -> Result<Report, Failure> {
        let trace = self.trace.borrow();
        match self.failure.borrow().clone() {
            Some(what) => Err(Failure { seed: self.plan.seed, what, trace: trace.lines() }),
            None => Ok(Report { trace_hash: trace.hash(), ..*self.report.borrow() }),
        }
    }

    /// Milliseconds since the run began, by the clock that is never set.
    pub(super) fn now_ms(&self) -> i64 {
        self.clock.steady_ms()
    }

    /// What a client with a right clock thinks the time is.
    pub(super) fn true_time_ms(&self) -> i64 {
        START_MS + self.now_ms()
    }

    /// Data rots in one half of the runs, and files that are not needed are spoilt in the other: both at once in
    /// one log is more than is promised.
    pub(super) fn rots(&self) -> bool {
        self.plan.seed.is_multiple_of(2)
    }

    pub(super) fn fresh_number(&self) -> u64 {
        let number = self.next_number.get();
        self.next_number.set(number + 1);
        number
    }

    /// Time passes, on all clocks.
    pub(super) fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    pub(super) fn start_broker(&self) -> Result<(), StartError> {
        let starts = self.starts.get() + 1;
        self.starts.set(starts);
        let settings = [("auto.create.topics.enable", "false"), ("producer.id.expiration.ms", "2147483647")];
        let broker = SimBroker::start(SimOptions {
            disk: self.disk.clone(),
            clock: Arc::clone(&self.clock),
            settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            seed: self.plan.seed.wrapping_mul(1000).wrapping_add(starts),
        })?;
        *self.broker.borrow_mut() = Some(broker);
        Ok(())
    }

    /// A new connection; `None` while there is no broker.
    pub(super) fn connect(&self) -> Option<Connected> {
        let broker = self.broker.borrow();
        let wire = Wire::new(broker.as_ref()?.connect());
        Some(Connected { wire, losses: self.oracle.borrow().losses() })
    }

    /// A new connection, as soon as there is a broker; `None` when clients are to end.
    pub(super) async fn connected(&self) -> Option<Connected> {
        loop {
            if self.phase.get() == Phase::Over || self.has_failed() {
                return None;
            }
            if let Some(connected) = self.connect() {
                return Some(connected);
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }
}
