//! Group commit: a few threads make all logs of a data folder durable, one log at a time each.
//!
//! A log that needs flushing is queued once, however many wait for it; when its turn comes one `fdatasync`
//! serves everybody who waited by then. Several threads because one `fdatasync` at a time leaves the
//! device idle. Checkpoints, for which nobody waits, have a queue of their own: when those of a thousand
//! logs come due together, an append must not wait for them all.

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
    /// Makes durable what somebody waits for; blocks on the disk.
    fn flush_turn(&self) -> Again;
    /// Moves the durable point; blocks on the disk.
    fn checkpoint_turn(&self);
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
    /// Logs for which somebody waits.
    flushes: VecDeque<Arc<dyn Flush>>,
    checkpoints: VecDeque<Arc<dyn Flush>>,
    /// Flushes that were preferred to a checkpoint since the last one.
    preferred: usize,
    timers: BinaryHeap<Timer>,
    stopping: bool,
}

/// Flushes are preferred, but every so many turns a checkpoint gets one too.
const PREFERRED_MAX: usize = 8;

impl State {
    fn pop(&mut self) -> Option<Next> {
        if (self.preferred < PREFERRED_MAX || self.checkpoints.is_empty())
            && let Some(target) = self.flushes.pop_front()
        {
            self.preferred += 1;
            return Some(Next::Flush(target));
        }
        self.preferred = 0;
        self.checkpoints.pop_front().map(Next::Checkpoint)
    }
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

    /// Queues a log for which somebody waits. It must not be queued for this already.
    pub(crate) fn schedule_flush(&self, target: Arc<dyn Flush>) {
        if self.shared.inline {
            while target.flush_turn() == Again::Yes {}
            return;
        }
        self.shared.state.lock().flushes.push_back(target);
        self.shared.changed.notify_one();
    }

    /// Queues a log whose durable point has to move. It must not be queued for this already.
    pub(crate) fn schedule_checkpoint(&self, target: Arc<dyn Flush>) {
        if self.shared.inline {
            target.checkpoint_turn();
            return;
        }
        self.shared.state.lock().checkpoints.push_back(target);
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
    Checkpoint(Arc<dyn Flush>),
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
                        self.state.lock().flushes.push_back(target);
                    }
                }
                Next::Checkpoint(target) => target.checkpoint_turn(),
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
            if let Some(next) = state.pop() {
                return next;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Nothing;

    impl Flush for Nothing {
        fn flush_turn(&self) -> Again {
            Again::No
        }

        fn checkpoint_turn(&self) {}

        fn on_due(self: Arc<Self>) {}
    }

    #[test]
    fn waiters_come_first_and_checkpoints_are_not_forgotten() {
        let mut state = State::default();
        for _ in 0..12 {
            state.flushes.push_back(Arc::new(Nothing));
        }
        for _ in 0..3 {
            state.checkpoints.push_back(Arc::new(Nothing));
        }
        let order: String = std::iter::from_fn(|| state.pop())
            .map(|next| if matches!(next, Next::Flush(_)) { 'f' } else { 'c' })
            .collect();
        assert_eq!(order, "ffffffffcffffcc");
    }

    #[test]
    fn what_is_done_once_for_a_folder_is_done_again_after_names_were_made_in_it() {
        let flusher = Flusher::inline();
        let mut syncs = 0;
        let mut ask = |flusher: &Flusher, outcome: io::Result<()>| {
            flusher.once_for(Path::new("/data"), || {
                syncs += 1;
                outcome
            })
        };
        assert!(ask(&flusher, Err(io::Error::other("failed"))).is_err());
        ask(&flusher, Ok(())).unwrap();
        ask(&flusher, Ok(())).unwrap();
        flusher.forget(Path::new("/data"));
        ask(&flusher, Ok(())).unwrap();
        assert_eq!(syncs, 3);
    }
}
