//! The moving end of a log: its offsets, read by everybody without a lock, and those who wait for more.
//!
//! One of the three lock-free pieces. Publishing costs two stores, a fence and a load as long as nobody
//! waits. The list of waiters is behind a mutex that is taken only to park, to leave and to wake.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

use crate::ids::Offset;
use crate::sync::Mutex;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, fence};

/// The bounds of a log at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// First offset that can be read.
    pub log_start: Offset,
    /// Readers of committed records see what lies below it: of that is known whether it counts.
    pub last_stable: Offset,
    /// Readers see what lies below it.
    pub high_watermark: Offset,
    /// The next offset to be given.
    pub log_end: Offset,
}

/// What a reader wants to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Isolation {
    /// All that is there.
    #[default]
    ReadUncommitted,
    /// What belongs to no transaction, or to one that was committed. A log hands out aborted records as well, and
    /// says which they are.
    ReadCommitted,
}

impl Offsets {
    /// A reader of this isolation sees what lies below it.
    #[must_use]
    pub fn visible_to(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::ReadUncommitted => self.high_watermark,
            Isolation::ReadCommitted => self.last_stable,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Tail {
    log_start: AtomicI64,
    last_stable: AtomicI64,
    high_watermark: AtomicI64,
    log_end: AtomicI64,
    closed: AtomicBool,
    /// How many wait; read without the lock to find out that nobody does.
    waiting: AtomicUsize,
    waiters: Mutex<Waiters>,
}

#[derive(Debug, Default)]
struct Waiters {
    next: u64,
    by_ticket: BTreeMap<u64, Waiter>,
}

#[derive(Debug)]
struct Waiter {
    beyond: Offset,
    isolation: Isolation,
    waker: Waker,
}

impl Tail {
    pub(crate) fn new(offsets: Offsets) -> Self {
        Self {
            log_start: AtomicI64::new(offsets.log_start.get()),
            last_stable: AtomicI64::new(offsets.last_stable.get()),
            high_watermark: AtomicI64::new(offsets.high_watermark.get()),
            log_end: AtomicI64::new(offsets.log_end.get()),
            closed: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            waiters: Mutex::new(Waiters::default()),
        }
    }

    /// Loaded from the start up, and they rise, but when a log is cut: what comes out is in order.
    pub(crate) fn offsets(&self) -> Offsets {
        let log_start = Offset::new(self.log_start.load(Acquire));
        let last_stable = self.last_stable();
        let (high_watermark, log_end) = (self.high_watermark(), self.log_end());
        let high_watermark = high_watermark.min(log_end);
        Offsets { log_start, last_stable: last_stable.min(high_watermark), high_watermark, log_end }
    }

    pub(crate) fn last_stable(&self) -> Offset {
        Offset::new(self.last_stable.load(Acquire))
    }

    pub(crate) fn high_watermark(&self) -> Offset {
        Offset::new(self.high_watermark.load(Acquire))
    }

    pub(crate) fn log_end(&self) -> Offset {
        Offset::new(self.log_end.load(Acquire))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Acquire)
    }

    /// Shows new offsets and wakes who waited for them. Calls come one at a time.
    pub(crate) fn publish(&self, offsets: Offsets) {
        self.log_end.store(offsets.log_end.get(), Release);
        self.high_watermark.store(offsets.high_watermark.get(), Release);
        self.last_stable.store(offsets.last_stable.get(), Release);
        self.log_start.store(offsets.log_start.get(), Release);
        self.wake_if_waiting();
    }

    /// Nothing will come any more; everybody is woken.
    pub(crate) fn close(&self) {
        self.closed.store(true, Release);
        self.wake_if_waiting();
    }

    /// Wakes everybody, whatever they wait for: what they have seen may be gone.
    pub(crate) fn wake_all(&self) {
        let woken = {
            let mut waiters = self.waiters.lock();
            self.waiting.store(0, Relaxed);
            std::mem::take(&mut waiters.by_ticket)
        };
        for waiter in woken.into_values() {
            waiter.waker.wake();
        }
    }

    fn wake_if_waiting(&self) {
        // Pairs with the fence in `park`: either we see the waiter, or it sees what we stored.
        fence(SeqCst);
        if self.waiting.load(Relaxed) > 0 {
            self.wake_due();
        }
    }

    fn wake_due(&self) {
        let due = {
            let mut waiters = self.waiters.lock();
            let closed = self.is_closed();
            let is_due = |waiter: &Waiter| closed || self.visible_to(waiter.isolation) > waiter.beyond;
            let due: Vec<_> = waiters.by_ticket.extract_if(.., |_, waiter| is_due(waiter)).collect();
            self.waiting.store(waiters.by_ticket.len(), Relaxed);
            due
        };
        for (_, waiter) in due {
            waiter.waker.wake();
        }
    }

    fn visible_to(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::ReadUncommitted => self.high_watermark(),
            Isolation::ReadCommitted => self.last_stable(),
        }
    }

    /// Wakes `waker` once a reader of this isolation sees what lies at `beyond` or the log is closed; at once if
    /// it is so already.
    pub(crate) fn park(self: &Arc<Self>, waker: &Waker, beyond: Offset, isolation: Isolation) -> Parked {
        let ticket = {
            let mut waiters = self.waiters.lock();
            let ticket = waiters.next;
            waiters.next += 1;
            waiters.by_ticket.insert(ticket, Waiter { beyond, isolation, waker: waker.clone() });
            self.waiting.store(waiters.by_ticket.len(), Relaxed);
            ticket
        };
        fence(SeqCst);
        if self.visible_to(isolation) > beyond || self.is_closed() {
            self.wake_due();
        }
        Parked { tail: Arc::clone(self), ticket }
    }

    fn leave(&self, ticket: u64) {
        let mut waiters = self.waiters.lock();
        waiters.by_ticket.remove(&ticket);
        self.waiting.store(waiters.by_ticket.len(), Relaxed);
    }
}

/// Somebody who waits for a log to grow; waits no more when dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the wait"]
pub struct Parked {
    tail: Arc<Tail>,
    ticket: u64,
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.tail.leave(self.ticket);
    }
}

#[cfg(test)]
mod tests;
