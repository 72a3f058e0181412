//! Notes what clients do and see, by one clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use crate::history::{Action, Op, Outcome, Process};

/// Clones note into one history.
#[derive(Debug, Clone)]
pub(in crate::proof) struct Recorder {
    notes: Arc<Notes>,
}

#[derive(Debug)]
struct Notes {
    start: Instant,
    processes: AtomicU32,
    history: Mutex<Vec<Op>>,
}

impl Recorder {
    pub(in crate::proof) fn new() -> Self {
        let history = Mutex::new(Vec::new());
        Self { notes: Arc::new(Notes { start: Instant::now(), processes: AtomicU32::new(0), history }) }
    }

    /// A number that no client had before.
    pub(in crate::proof) fn process(&self) -> Process {
        self.notes.processes.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(in crate::proof) fn now_us(&self) -> u64 {
        self.notes.start.elapsed().as_micros() as u64
    }

    /// Notes what has just ended.
    pub(in crate::proof) fn note(&self, process: Process, began_us: u64, outcome: Outcome, action: Action) {
        let op = Op { process, began_us, ended_us: self.now_us(), outcome, action };
        self.notes.history.lock().push(op);
    }

    /// All that was noted.
    pub(in crate::proof) fn history(&self) -> Vec<Op> {
        self.notes.history.lock().clone()
    }
}
