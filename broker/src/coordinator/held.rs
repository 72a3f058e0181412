//! What waits for the disk: replies, and what is to be done elsewhere.
//!
//! A reply rests on everything that its machine has appended before it, unless the machine knows better: nobody is told
//! what a crash could take back. The log calls [`Held::settle`] for each batch, from whatever thread; its lock is held for a few
//! instructions and nothing is done under it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Release;

use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, oneshot};

use super::turn::BatchNumber;

/// Somebody who waits.
pub(super) type Waiter<R> = oneshot::Sender<R>;

/// The batches of one machine on their way to the disk, counted, and what waits for them.
#[derive(Debug)]
pub(super) struct Held<R, D> {
    state: Mutex<State<R, D>>,
    /// Set, and rung, when a batch is lost.
    lost: Lost,
    /// Where deeds go once they may be done.
    deeds: UnboundedSender<D>,
}

#[derive(Debug)]
struct State<R, D> {
    appended: u64,
    /// What lies at or below is settled.
    durable: u64,
    /// Batches that are not settled. They settle in order, but for those that the log did not take: those are early.
    on_their_way: BTreeSet<u64>,
    has_failed: bool,
    /// In the order of the batches.
    waiting: VecDeque<(u64, Waits<R, D>)>,
    /// Who was answered already, and only has to know; in no order.
    watching: Vec<(u64, Waiter<()>)>,
}

/// What is let go once what it rests on is durable; dropped if that is lost.
#[derive(Debug)]
pub(super) enum Waits<R, D> {
    Reply(Waiter<R>, R),
    Deed(D),
}

/// Tells whoever keeps time that a machine knows what its log does not. It stays set until somebody has looked.
#[derive(Clone, Debug, Default)]
pub(super) struct Lost {
    pub(super) is_set: Arc<AtomicBool>,
    pub(super) alarm: Arc<Notify>,
}

impl<R, D> Held<R, D> {
    pub(super) fn new(lost: Lost, deeds: UnboundedSender<D>) -> Self {
        let state = State {
            appended: 0,
            durable: 0,
            on_their_way: BTreeSet::new(),
            has_failed: false,
            waiting: VecDeque::new(),
            watching: Vec::new(),
        };
        Self { state: Mutex::new(state), lost, deeds }
    }

    /// The number that the next batch will have.
    pub(super) fn next(&self) -> u64 {
        self.state.lock().appended + 1
    }

    /// A batch is about to be appended; gives its number.
    pub(super) fn begin(&self) -> u64 {
        let mut state = self.state.lock();
        state.appended += 1;
        let number = state.appended;
        state.on_their_way.insert(number);
        number
    }

    /// A batch is durable, or will never be: then nobody who waits gets the answer that was meant.
    pub(super) fn settle(&self, batch: u64, is_durable: bool) {
        let mut state = self.state.lock();
        if !is_durable {
            state.has_failed = true;
            let dropped = (std::mem::take(&mut state.waiting), std::mem::take(&mut state.watching));
            drop(state);
            drop(dropped);
            self.lost.is_set.store(true, Release);
            self.lost.alarm.notify_one();
            return;
        }
        state.on_their_way.remove(&batch);
        let durable = state.on_their_way.first().map_or(state.appended, |first| first - 1);
        state.durable = durable;
        let count = state.waiting.partition_point(|(until, _)| *until <= durable);
        let ready: Vec<_> = state.waiting.drain(..count).collect();
        let told: Vec<_> = state.watching.extract_if(.., |(until, _)| *until <= durable).collect();
        drop(state);
        self.let_go(ready.into_iter().map(|(_, waits)| waits));
        for (_, waiter) in told {
            // Nobody listens when the connection is gone.
            let _ = waiter.send(());
        }
    }

    /// Lets things go once a batch and all before it are durable; `None`: everything appended so far.
    pub(super) fn hold(&self, until: Option<BatchNumber>, things: impl Iterator<Item = Waits<R, D>>) {
        let mut state = self.state.lock();
        if state.has_failed {
            return;
        }
        let until = until.map_or(state.appended, |batch| batch.0);
        assert!(until <= state.appended, "INV-66: a reply rests on batch {until} of {}", state.appended);
        if state.durable >= until {
            drop(state);
            return self.let_go(things);
        }
        let at = state.waiting.partition_point(|(other, _)| *other <= until);
        let later = state.waiting.split_off(at);
        state.waiting.extend(things.map(|waits| (until, waits)));
        state.waiting.extend(later);
    }

    /// Tells when this batch is durable; `None` if it is.
    pub(super) fn wait_for(&self, batch: u64) -> Option<oneshot::Receiver<()>> {
        let mut state = self.state.lock();
        if batch <= state.durable {
            return None;
        }
        let (waiter, told) = oneshot::channel();
        if !state.has_failed {
            state.watching.push((batch, waiter));
        }
        Some(told)
    }

    /// Whether a batch could not be made durable: the machine knows what the log does not.
    pub(super) fn has_failed(&self) -> bool {
        self.state.lock().has_failed
    }

    fn let_go(&self, things: impl Iterator<Item = Waits<R, D>>) {
        for waits in things {
            // Nobody listens when the connection is gone, or the broker stops.
            match waits {
                Waits::Reply(waiter, reply) => drop(waiter.send(reply)),
                Waits::Deed(deed) => drop(self.deeds.send(deed)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc::unbounded_channel;

    type Held = super::Held<&'static str, &'static str>;

    fn waits() -> (Waits<&'static str, &'static str>, oneshot::Receiver<&'static str>) {
        let (waiter, answer) = oneshot::channel();
        (Waits::Reply(waiter, "done"), answer)
    }

    #[test]
    fn a_reply_waits_for_every_batch_that_was_appended_before_it() {
        let (deeds, mut done) = unbounded_channel();
        let held = Held::new(Lost::default(), deeds);
        let (now, mut at_once) = waits();
        held.hold(None, [now].into_iter());
        assert!(at_once.try_recv().is_ok(), "nothing was appended");
        let (first, second) = (held.begin(), held.begin());
        let (late, mut later) = waits();
        held.hold(None, [late, Waits::Deed("deed")].into_iter());
        let mut told = held.wait_for(first).expect("it is not durable");
        held.settle(first, true);
        assert!(told.try_recv().is_ok());
        assert!(held.wait_for(first).is_none());
        assert!(later.try_recv().is_err());
        assert!(done.try_recv().is_err());
        held.settle(second, true);
        assert!(later.try_recv().is_ok());
        assert_eq!(done.try_recv(), Ok("deed"));
    }

    #[test]
    fn a_reply_that_rests_on_less_waits_for_less_and_overtakes() {
        let (deeds, _done) = unbounded_channel();
        let held = Held::new(Lost::default(), deeds);
        let (first, second) = (held.begin(), held.begin());
        let (all, mut everything) = waits();
        held.hold(None, [all].into_iter());
        let (one, mut early) = waits();
        held.hold(Some(BatchNumber(first)), [one].into_iter());
        let (none, mut at_once) = waits();
        held.hold(Some(BatchNumber(0)), [none].into_iter());
        assert!(at_once.try_recv().is_ok());
        assert!(early.try_recv().is_err());
        held.settle(first, true);
        assert!(early.try_recv().is_ok());
        assert!(everything.try_recv().is_err());
        held.settle(second, true);
        assert!(everything.try_recv().is_ok());
    }

    #[test]
    fn nobody_is_answered_and_nothing_done_after_a_batch_was_lost() {
        let (deeds, mut done) = unbounded_channel();
        let held = Held::new(Lost::default(), deeds);
        let batch = held.begin();
        let (before, mut waiting) = waits();
        held.hold(None, [before, Waits::Deed("deed")].into_iter());
        let mut told = held.wait_for(batch).expect("it is not durable");
        held.settle(batch, false);
        assert!(held.has_failed());
        assert_eq!(waiting.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert_eq!(told.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        let (after, mut comes_later) = waits();
        held.hold(None, [after, Waits::Deed("deed")].into_iter());
        assert_eq!(comes_later.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert!(done.try_recv().is_err());
        let mut never = held.wait_for(batch).expect("it never will be");
        assert_eq!(never.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }
}
