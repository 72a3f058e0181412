//! The work on data folders that nobody asks for, away from the data plane and the control plane.
//!
//! Each folder has two threads of its own, so that a folder whose disk hangs keeps no other waiting: the
//! [`Keeper`] does what is short and has to be in time, the [`Cleaner`] what takes long and has time. Both are
//! plain values that are driven by calling `step` with the time that has passed; the threads are all that is
//! added here, and a simulation goes without them.

mod backoff;
mod cleaner;
mod keeper;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::process::setpriority_process;
use rustix::thread::gettid;

pub(crate) use cleaner::{Cleaner, Paces};
pub(crate) use keeper::Keeper;

use crate::node::Node;

/// Whether a thread gives way to those that answer requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Urgency {
    InTime,
    WhenIdle,
}

/// Of a thread, on Linux (`nice`).
const LOWEST_PRIORITY: i32 = 19;

/// Tells the threads to end.
#[derive(Debug, Default)]
struct Stop {
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Waits for so long, or until it is set, and tells whether it is.
    fn wait(&self, time: Duration) -> bool {
        let mut is_set = self.is_set.lock();
        // Nothing else wakes it, and a turn too early does no harm.
        if !*is_set {
            self.changed.wait_for(&mut is_set, time);
        }
        *is_set
    }
}

/// The threads of all data folders.
#[derive(Debug)]
pub(crate) struct Maintenance {
    stop: Arc<Stop>,
    paces: Vec<Paces>,
    threads: Vec<JoinHandle<()>>,
}

impl Maintenance {
    /// Starts the threads.
    pub(crate) fn start(node: &Arc<Node>) -> std::io::Result<Self> {
        let stop = Arc::new(Stop::default());
        let (mut paces, mut threads) = (Vec::new(), Vec::new());
        for directory in node.topics.directories() {
            let mut keeper = Keeper::new(Arc::clone(node), Arc::clone(directory));
            threads.push(run("millstream-keep", &stop, Urgency::InTime, move |now| keeper.step(now))?);
            let mut cleaner = Cleaner::new(Arc::clone(node), Arc::clone(directory));
            paces.push(cleaner.paces());
            threads.push(run("millstream-clean", &stop, Urgency::WhenIdle, move |now| cleaner.step(now))?);
        }
        Ok(Self { stop, paces, threads })
    }

    /// Ends them; what they are at comes to its end first, or is broken off where it can be.
    pub(crate) fn stop(self) {
        *self.stop.is_set.lock() = true;
        self.stop.changed.notify_all();
        self.paces.iter().for_each(Paces::hurry);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!(
                    "a thread that maintains a data folder panicked; the next start checks its logs"
                );
            }
        }
    }
}

/// Calls `step` again and again; it says how long it may be left alone.
fn run(
    name: &str,
    stop: &Arc<Stop>,
    urgency: Urgency,
    mut step: impl FnMut(Duration) -> Duration + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let stop = Arc::clone(stop);
    std::thread::Builder::new().name(name.into()).spawn(move || {
        if urgency == Urgency::WhenIdle {
            // Where it is refused, requests wait a little longer for a processor.
            let _ = setpriority_process(Some(gettid()), LOWEST_PRIORITY);
        }
        let began = Instant::now();
        let mut rest = Duration::ZERO;
        while !stop.wait(rest) {
            rest = step(began.elapsed());
        }
    })
}

#[cfg(test)]
mod tests;
