//! Group commit: a few threads make all logs of a data folder durable, one log at a time each.
//!
//! A log that needs flushing is queued once, however many wait for it; when its turn comes one `fdatasync`
//! serves everybody who waited by then. Several threads because one `fdatasync` at a time leaves the
//! device idle. Checkpoints, for which nobody waits, have a queue of their own and never all the threads: when those of
//! a thousand logs come due together, or one takes long, an append must not wait for them.
//!
//! When nothing is being flushed at all, who asks for a flush is offered to do it itself ([`FlushHere`]): waking a
//! thread, and being woken by it, costs a third of what the device takes.
//!
//! What to do next is decided by [`State::next`] from the queues, the timers and the time alone; threads, or
//! a test with its own clock, only do it.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashSet, VecDeque};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use std::time::{Duration, Instant};

use crate::sync::{Condvar, Mutex, thread};

use crate::clock::Clock;

mod stats;

use stats::Counters;
pub use stats::FlushStats;

/// Whether a flush left something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    Yes,
    No,
}

/// Something that can be made durable.
pub(crate) trait Flush: Send + Sync + fmt::Debug {
    /// Has the device begin with what `flush_turn` will wait for.
    fn start_writing(&self);
    /// Makes durable what somebody waits for; blocks on the disk.
    fn flush_turn(&self) -> Again;
    /// Moves the durable point; blocks on the disk.
    fn checkpoint_turn(&self);
    /// The time that was asked for has come.
    fn on_due(self: Arc<Self>, what: Due);
}

/// What a log asked to be called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Flush,
    Checkpoint,
    /// Room in the file for what will be written.
    Room,
}

/// A pool of threads that make logs durable; one for each data folder. Dropping it lets the threads finish
/// what is queued and waits for them.
#[derive(Debug)]
pub struct Flusher {
    shared: Arc<Shared>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    pace: Pace,
    counters: Counters,
    /// Folders that were synced since the start on behalf of all logs below them.
    synced: Mutex<HashSet<PathBuf>>,
}

/// Who does the work, and what tells the time.
#[derive(Debug)]
enum Pace {
    /// Threads, by the machine's steady clock.
    Threads { since: Instant },
    /// Who asks for a flush does it. Timers are run by who has the clock, if there is one.
    Inline { clock: Option<Arc<dyn Clock>> },
    /// Who steps it, by this clock.
    #[cfg(any(test, feature = "sim"))]
    Stepped { clock: Arc<dyn Clock> },
}

impl Pace {
    /// Time since some moment.
    fn now(&self) -> Duration {
        match self {
            Self::Threads { since } => since.elapsed(),
            Self::Inline { clock: None } => Duration::ZERO,
            Self::Inline { clock: Some(clock) } => time_on(&**clock),
            #[cfg(any(test, feature = "sim"))]
            Self::Stepped { clock } => time_on(&**clock),
        }
    }
}

fn time_on(clock: &dyn Clock) -> Duration {
    Duration::from_millis(u64::try_from(clock.steady_ms()).unwrap_or_default())
}

#[derive(Debug)]
struct State {
    /// Logs for which somebody waits.
    flushes: VecDeque<Arc<dyn Flush>>,
    checkpoints: VecDeque<Arc<dyn Flush>>,
    /// Flushes that were preferred to a checkpoint since the last one.
    preferred: usize,
    /// Checkpoints that are under way, and how many may be.
    checkpointing: usize,
    checkpoints_max: usize,
    /// Flushes that are under way, by whomever.
    flushing: usize,
    timers: BinaryHeap<Timer>,
    stopping: bool,
}

/// Flushes are preferred, but every so many turns a checkpoint gets one too.
const PREFERRED_MAX: usize = 8;

impl State {
    /// For so many threads.
    fn of(threads: usize) -> Self {
        Self {
            flushes: VecDeque::new(),
            checkpoints: VecDeque::new(),
            preferred: 0,
            checkpointing: 0,
            checkpoints_max: threads.saturating_sub(1).max(1),
            flushing: 0,
            timers: BinaryHeap::new(),
            stopping: false,
        }
    }

    /// What to do now: a timer that is due comes first, for it only queues.
    fn next(&mut self, now: Duration) -> Option<Next> {
        if self.timers.peek().is_some_and(|timer| timer.due <= now) {
            let Timer { target, what, .. } = self.timers.pop().expect("it was peeked at");
            return Some(Next::Due(target, what));
        }
        let may_checkpoint = self.checkpointing < self.checkpoints_max && !self.checkpoints.is_empty();
        if (self.preferred < PREFERRED_MAX || !may_checkpoint)
            && let Some(target) = self.flushes.pop_front()
        {
            self.preferred += 1;
            self.flushing += 1;
            return Some(Next::Flush(target));
        }
        if !may_checkpoint {
            return None;
        }
        self.preferred = 0;
        self.checkpointing += 1;
        self.checkpoints.pop_front().map(Next::Checkpoint)
    }
}

/// Ordered so that the earliest is the largest, which is what the heap gives first.
#[derive(Debug)]
struct Timer {
    due: Duration,
    target: Weak<dyn Flush>,
    what: Due,
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
        let shared = Arc::new(Shared::new(Pace::Threads { since: Instant::now() }, threads));
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
        Self::without_threads(None)
    }

    /// The same, but intervals come due by this clock, when [`Flusher::run_due`] is called.
    #[must_use]
    pub fn on_clock(clock: Arc<dyn Clock>) -> Arc<Self> {
        Self::without_threads(Some(clock))
    }

    /// A pool without threads that queues as one with threads does: whoever has it takes one step at a time.
    /// For simulation, where others act between two steps.
    #[cfg(any(test, feature = "sim"))]
    #[must_use]
    pub fn stepped(clock: Arc<dyn Clock>) -> Arc<Self> {
        let shared = Arc::new(Shared::new(Pace::Stepped { clock }, 1));
        Arc::new(Self { shared, threads: Mutex::default() })
    }

    /// Does one thing of what is queued or due. Tells whether there was any.
    #[cfg(any(test, feature = "sim"))]
    pub fn step(&self) -> bool {
        let next = self.next_due_now();
        next.map(|next| self.shared.act(next)).is_some()
    }

    /// Forgets what is queued, as the end of the process does.
    #[cfg(any(test, feature = "sim"))]
    pub fn abandon(&self) {
        *self.shared.state.lock() = State::of(1);
    }

    fn without_threads(clock: Option<Arc<dyn Clock>>) -> Arc<Self> {
        let shared = Arc::new(Shared::new(Pace::Inline { clock }, 1));
        Arc::new(Self { shared, threads: Mutex::default() })
    }

    /// Does everything that has come due, in the calling thread, if this pool is one of [`Flusher::on_clock`]: nobody
    /// else does. Blocks on the disk.
    pub fn run_due(&self) {
        if !self.is_inline() {
            return;
        }
        while let Some(next) = self.next_due_now() {
            self.shared.act(next);
        }
    }

    fn next_due_now(&self) -> Option<Next> {
        self.shared.state.lock().next(self.shared.pace.now())
    }

    /// What was flushed so far.
    #[must_use]
    pub fn stats(&self) -> FlushStats {
        self.shared.counters.stats()
    }

    /// Runs one `fdatasync` of a segment and counts it if it succeeds.
    pub(crate) fn timed(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let began = self.shared.pace.now();
        sync()?;
        self.shared.counters.note_flush(self.shared.pace.now().saturating_sub(began));
        Ok(())
    }

    /// So many batches became durable.
    pub(crate) fn note_flushed(&self, batches: u64) {
        self.shared.counters.note_batches(batches);
    }

    fn is_inline(&self) -> bool {
        matches!(self.shared.pace, Pace::Inline { .. })
    }

    /// Queues a log for which somebody waits. It must not be queued for this already.
    pub(crate) fn schedule_flush(&self, target: Arc<dyn Flush>) {
        if self.is_inline() {
            while target.flush_turn() == Again::Yes {}
            return;
        }
        self.shared.state.lock().flushes.push_back(target);
        self.shared.changed.notify_one();
    }

    /// The same, but if nothing else is flushed or waits to be, the caller may do it itself.
    pub(crate) fn offer_flush(&self, target: Arc<dyn Flush>) -> Option<FlushHere> {
        if matches!(self.shared.pace, Pace::Threads { .. }) {
            let mut state = self.shared.state.lock();
            if state.flushing == 0 && state.flushes.is_empty() {
                state.flushing += 1;
                return Some(FlushHere { shared: Arc::clone(&self.shared), target: Some(target) });
            }
        }
        self.schedule_flush(target);
        None
    }

    /// Queues a log whose durable point has to move. It must not be queued for this already.
    pub(crate) fn schedule_checkpoint(&self, target: Arc<dyn Flush>) {
        if self.is_inline() {
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
    pub(crate) fn schedule_after(&self, target: &Arc<dyn Flush>, delay: Duration, what: Due) {
        if matches!(self.shared.pace, Pace::Inline { clock: None }) {
            return;
        }
        let due = self.shared.pace.now().saturating_add(delay);
        let timer = Timer { due, target: Arc::downgrade(target), what };
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

/// The right, and the duty, to flush a log for which somebody waits. Dropping it leaves that to the pool; nobody else
/// flushes the log while it is held.
#[derive(Debug)]
#[must_use = "dropping it has a thread woken"]
pub struct FlushHere {
    shared: Arc<Shared>,
    target: Option<Arc<dyn Flush>>,
}

impl FlushHere {
    /// Has the device begin, while the caller sees to it that this thread may block.
    pub fn start(&self) {
        if let Some(target) = &self.target {
            target.start_writing();
        }
    }

    /// Flushes in this thread, and answers who waits from it. Blocks on the disk.
    pub fn run(mut self) {
        if let Some(target) = self.target.take()
            && self.shared.flush(target) == Again::Yes
        {
            self.shared.changed.notify_one();
        }
    }
}

impl Drop for FlushHere {
    fn drop(&mut self) {
        if let Some(target) = self.target.take() {
            self.shared.end_flush(Some(target));
            self.shared.changed.notify_one();
        }
    }
}

enum Next {
    Flush(Arc<dyn Flush>),
    Checkpoint(Arc<dyn Flush>),
    Due(Weak<dyn Flush>, Due),
}

impl Shared {
    fn new(pace: Pace, threads: usize) -> Self {
        Self {
            state: Mutex::new(State::of(threads)),
            changed: Condvar::new(),
            pace,
            counters: Counters::default(),
            synced: Mutex::default(),
        }
    }

    fn run(&self) {
        while let Some(next) = self.wait_for_next() {
            self.act(next);
        }
    }

    fn act(&self, next: Next) {
        match next {
            Next::Flush(target) => {
                self.flush(target);
            }
            Next::Checkpoint(target) => {
                target.checkpoint_turn();
                self.state.lock().checkpointing -= 1;
                // Whoever found that no more were allowed.
                self.changed.notify_one();
            }
            Next::Due(target, what) => {
                if let Some(target) = target.upgrade() {
                    target.on_due(what);
                }
            }
        }
    }

    fn flush(&self, target: Arc<dyn Flush>) -> Again {
        let again = target.flush_turn();
        self.end_flush((again == Again::Yes).then_some(target));
        again
    }

    /// A flush that was under way is not any more; what is to be flushed again goes to the back: others wait too.
    fn end_flush(&self, again: Option<Arc<dyn Flush>>) {
        let mut state = self.state.lock();
        state.flushing -= 1;
        state.flushes.extend(again);
    }

    /// `None` once the pool is dropped and nothing is left to do.
    fn wait_for_next(&self) -> Option<Next> {
        let mut state = self.state.lock();
        loop {
            let now = self.pace.now();
            if let Some(next) = state.next(now) {
                return Some(next);
            }
            if state.stopping {
                return None;
            }
            match state.timers.peek().map(|timer| timer.due - now) {
                None => self.changed.wait(&mut state),
                Some(wait) => drop(self.changed.wait_for(&mut state, wait)),
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
        fn start_writing(&self) {}

        fn flush_turn(&self) -> Again {
            Again::No
        }

        fn checkpoint_turn(&self) {}

        fn on_due(self: Arc<Self>, _what: Due) {}
    }

    #[test]
    fn waiters_come_first_and_checkpoints_are_not_forgotten() {
        let mut state = State::of(1);
        for _ in 0..12 {
            state.flushes.push_back(Arc::new(Nothing));
        }
        for _ in 0..3 {
            state.checkpoints.push_back(Arc::new(Nothing));
        }
        let mut next = || {
            let next = state.next(Duration::ZERO)?;
            state.checkpointing = 0;
            Some(if matches!(next, Next::Flush(_)) { 'f' } else { 'c' })
        };
        let order: String = std::iter::from_fn(&mut next).collect();
        assert_eq!(order, "ffffffffcffffcc");
    }

    #[test]
    fn checkpoints_leave_a_thread_to_those_who_wait() {
        let mut state = State::of(3);
        let target: Arc<dyn Flush> = Arc::new(Nothing);
        state.checkpoints.extend(std::iter::repeat_n(Arc::clone(&target), 3));
        for _ in 0..2 {
            assert!(matches!(state.next(Duration::ZERO), Some(Next::Checkpoint(_))));
        }
        assert!(state.next(Duration::ZERO).is_none());
        state.flushes.push_back(target);
        assert!(matches!(state.next(Duration::ZERO), Some(Next::Flush(_))));
        state.checkpointing -= 1;
        assert!(matches!(state.next(Duration::ZERO), Some(Next::Checkpoint(_))));
    }

    #[test]
    fn a_timer_is_not_early_and_comes_before_what_is_queued() {
        let mut state = State::of(1);
        let target: Arc<dyn Flush> = Arc::new(Nothing);
        for (millis, what) in [(7, Due::Checkpoint), (5, Due::Flush)] {
            let due = Duration::from_millis(millis);
            state.timers.push(Timer { due, target: Arc::downgrade(&target), what });
        }
        assert!(state.next(Duration::from_millis(4)).is_none());
        state.flushes.push_back(Arc::clone(&target));
        assert!(matches!(state.next(Duration::from_millis(7)), Some(Next::Due(_, Due::Flush))));
        assert!(matches!(state.next(Duration::from_millis(7)), Some(Next::Due(_, Due::Checkpoint))));
        assert!(matches!(state.next(Duration::from_millis(7)), Some(Next::Flush(_))));
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
