//! Group commit: a few threads make all logs of a data folder durable, one log at a time each.
//!
//! A log that needs flushing is queued once, however many wait for it; when its turn comes one `fdatasync`
//! serves everybody who waited by then. Several threads because one `fdatasync` at a time leaves the
//! device idle.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashSet, VecDeque};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Whether a flush left something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    Yes,
    No,
}

/// Something that can be made durable.
pub(crate) trait Flush: Send + Sync + fmt::Debug {
    /// Takes one turn; blocks on the disk.
    fn flush_turn(&self) -> Again;
    /// The time that was asked for has come.
    fn on_due(self: Arc<Self>);
}

/// A pool of threads that make logs durable; one for each data folder. Dropping it lets the threads finish
/// what is queued and waits for them.
#[derive(Debug)]
pub struct Flusher {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// There are no threads: who asks for a flush does it.
    inline: bool,
    /// Folders that were synced since the start on behalf of all logs below them.
    synced: Mutex<HashSet<PathBuf>>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Arc<dyn Flush>>,
    timers: BinaryHeap<Timer>,
    stopping: bool,
}

/// Ordered so that the earliest is the largest, which is what the heap gives first.
#[derive(Debug)]
struct Timer {
    due: Instant,
    target: Weak<dyn Flush>,
}

impl Ord for Timer {
    fn cmp(&self, other: &Self) -> Ordering {
        other.due.cmp(&self.due)
    }
}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Timer {}

impl Flusher {
    /// Starts the pool; two to four threads suit one device.
    ///
    /// # Panics
    /// If the system has no thread left to give.
    #[must_use]
    pub fn start(threads: usize) -> Arc<Self> {
        let shared = Arc::new(Shared::default());
        let run = |index| {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name(format!("flusher-{index}"))
                .spawn(move || shared.run())
                .expect("the system has threads to give when a broker starts")
        };
        let threads = Mutex::new((0..threads.max(1)).map(run).collect());
        Arc::new(Self { shared, threads })
    }

    /// A pool without threads: a flush is done by the thread that asks for it, before the asking returns.
    /// Intervals never come due. For tests and simulation, which then repeat exactly.
    #[must_use]
    pub fn inline() -> Arc<Self> {
        let shared = Shared { inline: true, ..Shared::default() };
        Arc::new(Self { shared: Arc::new(shared), threads: Mutex::default() })
    }

    /// Queues a log. It must not be queued already.
    pub(crate) fn schedule(&self, target: Arc<dyn Flush>) {
        if self.shared.inline {
            while target.flush_turn() == Again::Yes {}
            return;
        }
        self.shared.state.lock().queue.push_back(target);
        self.shared.changed.notify_one();
    }

    /// Runs `sync` unless it has been run for this folder before, with success. Who asks meanwhile waits.
    pub(crate) fn once_for(&self, dir: &Path, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut synced = self.shared.synced.lock();
        if !synced.contains(dir) {
            sync()?;
            synced.insert(dir.to_owned());
        }
        Ok(())
    }

    /// Names were made in this folder: the next one who asks syncs it again.
    pub(crate) fn forget(&self, dir: &Path) {
        self.shared.synced.lock().remove(dir);
    }

    /// Calls `on_due` of a log after a while, if it is still there.
    pub(crate) fn schedule_after(&self, target: &Arc<dyn Flush>, delay: Duration) {
        if self.shared.inline {
            return;
        }
        let timer = Timer { due: Instant::now() + delay, target: Arc::downgrade(target) };
        self.shared.state.lock().timers.push(timer);
        self.shared.changed.notify_one();
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.shared.state.lock().stopping = true;
        self.shared.changed.notify_all();
        for thread in self.threads.lock().drain(..) {
            // The last log may be dropped by a flusher thread, and the pool with it.
            if thread.thread().id() != thread::current().id() {
                // A panic there was reported when it happened; there is nobody left to tell.
                let _ = thread.join();
            }
        }
    }
}

enum Next {
    Flush(Arc<dyn Flush>),
    Due(Weak<dyn Flush>),
    Stop,
}

impl Shared {
    fn run(&self) {
        loop {
            match self.next() {
                Next::Flush(target) => {
                    if target.flush_turn() == Again::Yes {
                        // To the back: other logs wait too.
                        self.state.lock().queue.push_back(target);
                    }
                }
                Next::Due(target) => {
                    if let Some(target) = target.upgrade() {
                        target.on_due();
                    }
                }
                Next::Stop => return,
            }
        }
    }

    fn next(&self) -> Next {
        let mut state = self.state.lock();
        loop {
            let due = state.timers.peek().map(|timer| timer.due);
            if due.is_some_and(|due| due <= Instant::now()) {
                let timer = state.timers.pop().expect("it was peeked at");
                return Next::Due(timer.target);
            }
            if let Some(target) = state.queue.pop_front() {
                return Next::Flush(target);
            }
            if state.stopping {
                return Next::Stop;
            }
            match due {
                None => self.changed.wait(&mut state),
                Some(due) => drop(self.changed.wait_until(&mut state, due)),
            }
        }
    }
}
