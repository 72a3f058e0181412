//! Replies that wait for the disk.
//!
//! A reply rests on everything that its machine has appended before it: nobody is told what a crash could take
//! back. The log calls [`Held::settle`] for each batch, from whatever thread; its lock is held for a few
//! instructions and nothing is done under it.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

/// Somebody who waits.
pub(super) type Waiter<R> = oneshot::Sender<R>;

/// The batches of one machine on their way to the disk, counted, and who waits for them.
#[derive(Debug)]
pub(super) struct Held<R> {
    state: Mutex<State<R>>,
    /// Told of a failure.
    failed: Arc<Notify>,
}

#[derive(Debug)]
struct State<R> {
    appended: u64,
    durable: u64,
    has_failed: bool,
    replies: VecDeque<(u64, Waiter<R>, R)>,
}

impl<R> Held<R> {
    pub(super) fn new(failed: Arc<Notify>) -> Self {
        let state = State { appended: 0, durable: 0, has_failed: false, replies: VecDeque::new() };
        Self { state: Mutex::new(state), failed }
    }

    /// A batch is about to be appended; gives its number.
    pub(super) fn begin(&self) -> u64 {
        let mut state = self.state.lock();
        state.appended += 1;
        state.appended
    }

    /// A batch is durable, or will never be: then nobody who waits gets the answer that was meant.
    pub(super) fn settle(&self, batch: u64, is_durable: bool) {
        let mut state = self.state.lock();
        if !is_durable {
            state.has_failed = true;
            let dropped = std::mem::take(&mut state.replies);
            drop(state);
            drop(dropped);
            self.failed.notify_one();
            return;
        }
        state.durable = state.durable.max(batch);
        let count = state.replies.partition_point(|(until, ..)| *until <= state.durable);
        let ready: Vec<_> = state.replies.drain(..count).collect();
        drop(state);
        send(ready.into_iter().map(|(_, waiter, reply)| (waiter, reply)));
    }

    /// Sends replies once everything appended so far is durable.
    pub(super) fn hold(&self, replies: impl Iterator<Item = (Waiter<R>, R)>) {
        let mut state = self.state.lock();
        if state.has_failed {
            return;
        }
        if state.durable >= state.appended {
            drop(state);
            return send(replies);
        }
        let until = state.appended;
        state.replies.extend(replies.map(|(waiter, reply)| (until, waiter, reply)));
    }

    /// Whether a batch could not be made durable: the machine knows what the log does not.
    pub(super) fn has_failed(&self) -> bool {
        self.state.lock().has_failed
    }
}

fn send<R>(replies: impl Iterator<Item = (Waiter<R>, R)>) {
    for (waiter, reply) in replies {
        // Nobody listens when the connection is gone.
        let _ = waiter.send(reply);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter() -> (Waiter<&'static str>, oneshot::Receiver<&'static str>) {
        oneshot::channel()
    }

    fn reply() -> &'static str {
        "done"
    }

    #[test]
    fn a_reply_waits_for_every_batch_that_was_appended_before_it() {
        let held = Held::new(Arc::default());
        let (now, mut at_once) = waiter();
        held.hold([(now, reply())].into_iter());
        assert!(at_once.try_recv().is_ok(), "nothing was appended");
        let (first, second) = (held.begin(), held.begin());
        let (late, mut later) = waiter();
        held.hold([(late, reply())].into_iter());
        held.settle(first, true);
        assert!(later.try_recv().is_err());
        held.settle(second, true);
        assert!(later.try_recv().is_ok());
    }

    #[test]
    fn nobody_is_answered_after_a_batch_was_lost() {
        let held = Held::new(Arc::default());
        let batch = held.begin();
        let (before, mut waits) = waiter();
        held.hold([(before, reply())].into_iter());
        held.settle(batch, false);
        assert!(held.has_failed());
        assert_eq!(waits.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        let (after, mut comes_later) = waiter();
        held.hold([(after, reply())].into_iter());
        assert_eq!(comes_later.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }
}
