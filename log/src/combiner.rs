//! A queue with one leader at a time: whoever pushes and finds no leader leads, appends what others have
//! queued along with its own, and hands the lead on.
//!
//! One of the three lock-free pieces. Appenders never wait for each other: the queue is a channel, the lead
//! is one flag. The receiving end sits in a mutex that only the leader takes, so nobody ever waits for it.

use crate::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use crate::sync::atomic::{AtomicBool, AtomicIsize, fence};
use crate::sync::{Mutex, mpsc};

/// Whether the one who pushed has to lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It leads: it must `take` and then `release`.
    Leader,
    /// Somebody else leads and will see the item.
    Follower,
}

#[derive(Debug)]
pub(crate) struct Combiner<T> {
    sender: mpsc::Sender<T>,
    receiver: Mutex<mpsc::Receiver<T>>,
    /// Items pushed less items taken. An item may be taken before it is counted, so this may be -1 for a
    /// moment; whoever is about to count it asks for the lead right after.
    queued: AtomicIsize,
    led: AtomicBool,
}

impl<T> Combiner<T> {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = mpsc::channel();
        let (queued, led) = (AtomicIsize::new(0), AtomicBool::new(false));
        Self { sender, receiver: Mutex::new(receiver), queued, led }
    }

    /// Queues an item.
    pub(crate) fn push(&self, item: T) -> Role {
        self.sender.send(item).expect("the receiver lives as long as the sender");
        self.queued.fetch_add(1, AcqRel);
        // Pairs with the fence in `release`: either we see that nobody leads, or the leader sees our item.
        fence(SeqCst);
        self.try_lead()
    }

    fn try_lead(&self) -> Role {
        match self.led.compare_exchange(false, true, Acquire, Relaxed) {
            Ok(_) => Role::Leader,
            Err(_) => Role::Follower,
        }
    }

    /// The next item. Only the leader calls this.
    pub(crate) fn take(&self) -> Option<T> {
        debug_assert!(self.led.load(Relaxed), "only the leader takes");
        let item = self.receiver.lock().try_recv().ok()?;
        self.queued.fetch_sub(1, AcqRel);
        Some(item)
    }

    /// Gives the lead back. `Leader` if items came meanwhile and nobody else took the lead: then the caller
    /// leads again.
    pub(crate) fn release(&self) -> Role {
        self.led.store(false, Release);
        fence(SeqCst);
        match self.queued.load(Acquire) > 0 {
            true => self.try_lead(),
            false => Role::Follower,
        }
    }
}

#[cfg(test)]
mod tests;
