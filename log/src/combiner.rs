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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_first_leads_and_the_others_follow_until_it_releases() {
        let combiner = Combiner::new();
        assert_eq!(combiner.push(1), Role::Leader);
        assert_eq!(combiner.push(2), Role::Follower);
        assert_eq!(combiner.take(), Some(1));
        assert_eq!(combiner.release(), Role::Leader, "2 is still queued");
        assert_eq!(combiner.take(), Some(2));
        assert_eq!(combiner.take(), None);
        assert_eq!(combiner.release(), Role::Follower);
        assert_eq!(combiner.push(3), Role::Leader);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use loom::sync::atomic::AtomicUsize;
    use loom::thread;

    use super::*;

    type Release = fn(&Combiner<usize>) -> Role;

    fn push_and_lead(combiner: &Combiner<usize>, item: usize, appended: &AtomicUsize, release: Release) {
        let mut role = combiner.push(item);
        while role == Role::Leader {
            while let Some(item) = combiner.take() {
                appended.fetch_add(item, Relaxed);
            }
            role = release(combiner);
        }
    }

    fn every_item_is_taken_by(threads: usize, release: Release) {
        // Three threads have too many schedules to try them all; bugs of this kind show with few preemptions.
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(move || {
            let combiner = Arc::new(Combiner::new());
            let appended = Arc::new(AtomicUsize::new(0));
            let others: Vec<_> = (1..threads)
                .map(|item| {
                    let (combiner, appended) = (Arc::clone(&combiner), Arc::clone(&appended));
                    thread::spawn(move || push_and_lead(&combiner, item, &appended, release))
                })
                .collect();
            push_and_lead(&combiner, threads, &appended, release);
            for other in others {
                other.join().unwrap();
            }
            assert_eq!(appended.load(Relaxed), (1..=threads).sum::<usize>(), "an item was left in the queue");
        });
    }

    #[test]
    fn loom_no_item_is_left_behind_by_two() {
        every_item_is_taken_by(2, Combiner::release);
    }

    #[test]
    fn loom_no_item_is_left_behind_by_three() {
        every_item_is_taken_by(3, Combiner::release);
    }

    #[test]
    #[should_panic(expected = "an item was left in the queue")]
    fn loom_a_release_without_a_second_look_is_caught() {
        every_item_is_taken_by(2, |combiner| {
            combiner.led.store(false, Ordering::Release);
            Role::Follower
        });
    }
}
