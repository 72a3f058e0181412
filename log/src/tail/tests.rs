//! Nobody sleeps through what they wait for.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst as Counted;
use std::task::{Wake, Waker};

use super::*;

/// Counts how often it was woken.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Counted);
    }
}

impl Bell {
    fn rung(&self) -> usize {
        self.0.load(Counted)
    }
}

fn at(end: i64) -> Offsets {
    stable_to(end, end)
}

fn stable_to(last_stable: i64, end: i64) -> Offsets {
    let (last_stable, end) = (Offset::new(last_stable), Offset::new(end));
    Offsets { log_start: Offset::new(0), last_stable, high_watermark: end, log_end: end }
}

#[cfg(any(loom, shuttle))]
const BOTH: [Isolation; 2] = [Isolation::ReadUncommitted, Isolation::ReadCommitted];

#[cfg(not(any(loom, shuttle)))]
mod plain {
    use super::*;

    fn parked_at(tail: &Arc<Tail>, beyond: i64) -> (Arc<Bell>, Parked) {
        let bell = Arc::new(Bell::default());
        let parked =
            tail.park(&Waker::from(Arc::clone(&bell)), Offset::new(beyond), Isolation::ReadUncommitted);
        (bell, parked)
    }

    #[test]
    fn a_waiter_is_woken_once_by_the_first_publication_beyond_its_offset() {
        let tail = Arc::new(Tail::new(at(5)));
        let (bell, _parked) = parked_at(&tail, 5);
        tail.publish(at(5));
        assert_eq!(bell.rung(), 0);
        tail.publish(at(6));
        tail.publish(at(7));
        assert_eq!(bell.rung(), 1);
    }

    #[test]
    fn a_reader_of_committed_records_sleeps_until_they_are_stable() {
        let tail = Arc::new(Tail::new(at(5)));
        let bell = Arc::new(Bell::default());
        let park = || {
            let waker = Waker::from(Arc::clone(&bell));
            tail.park(&waker, Offset::new(5), Isolation::ReadCommitted)
        };
        let _parked = park();
        tail.publish(stable_to(5, 9));
        assert_eq!(bell.rung(), 0, "a transaction is open");
        tail.publish(stable_to(10, 10));
        assert_eq!(bell.rung(), 1);
        let _late = park();
        assert_eq!(bell.rung(), 2, "at once");
    }

    #[test]
    fn bounds_are_in_order() {
        let tail = Tail::new(stable_to(3, 7));
        assert_eq!(tail.offsets(), stable_to(3, 7));
        let offsets = tail.offsets();
        assert_eq!(offsets.visible_to(Isolation::ReadCommitted), Offset::new(3));
        assert_eq!(offsets.visible_to(Isolation::ReadUncommitted), Offset::new(7));
    }

    #[test]
    fn who_parks_behind_the_high_watermark_is_woken_at_once() {
        let tail = Arc::new(Tail::new(at(5)));
        let (bell, _parked) = parked_at(&tail, 4);
        assert_eq!(bell.rung(), 1);
    }

    #[test]
    fn closing_wakes_everybody_now_and_later() {
        let tail = Arc::new(Tail::new(at(5)));
        let (early, _early) = parked_at(&tail, 100);
        tail.close();
        let (late, _late) = parked_at(&tail, 100);
        assert_eq!((early.rung(), late.rung()), (1, 1));
    }

    #[test]
    fn a_dropped_waiter_is_forgotten() {
        let tail = Arc::new(Tail::new(at(5)));
        let (bell, parked) = parked_at(&tail, 5);
        drop(parked);
        tail.publish(at(6));
        assert_eq!(bell.rung(), 0);
        assert_eq!(Arc::strong_count(&bell), 1, "its waker is dropped with it");
    }
}

#[cfg(loom)]
mod modelled {
    use loom::thread;

    use super::*;
    use crate::segment_list::SegmentList;

    #[test]
    fn loom_a_publication_is_never_slept_through() {
        for isolation in BOTH {
            loom::model(move || {
                let tail = Arc::new(Tail::new(at(0)));
                let writer = {
                    let tail = Arc::clone(&tail);
                    thread::spawn(move || tail.publish(at(1)))
                };
                let bell = Arc::new(Bell::default());
                let parked = tail.park(&Waker::from(Arc::clone(&bell)), Offset::new(0), isolation);
                writer.join().unwrap();
                assert_eq!(bell.rung(), 1, "what {isolation:?} waits for is there and nobody woke it");
                drop(parked);
            });
        }
    }

    #[test]
    #[should_panic(expected = "nobody woke it")]
    fn loom_a_publication_without_its_fence_is_caught() {
        loom::model(|| {
            let tail = Arc::new(Tail::new(at(0)));
            let writer = {
                let tail = Arc::clone(&tail);
                thread::spawn(move || {
                    tail.high_watermark.store(1, Release);
                    if tail.waiting.load(Relaxed) > 0 {
                        tail.wake_due();
                    }
                })
            };
            let bell = Arc::new(Bell::default());
            let parked =
                tail.park(&Waker::from(Arc::clone(&bell)), Offset::new(0), Isolation::ReadUncommitted);
            writer.join().unwrap();
            assert_eq!(bell.rung(), 1, "the high watermark is beyond the waiter and nobody woke it");
            drop(parked);
        });
    }

    #[test]
    fn loom_two_waiters_and_a_close() {
        loom::model(|| {
            let tail = Arc::new(Tail::new(at(0)));
            let bells: Vec<_> = (0..2).map(|_| Arc::new(Bell::default())).collect();
            let waiters: Vec<_> = bells
                .iter()
                .map(|bell| {
                    let (tail, waker) = (Arc::clone(&tail), Waker::from(Arc::clone(bell)));
                    thread::spawn(move || {
                        std::mem::forget(tail.park(&waker, Offset::new(9), Isolation::ReadUncommitted))
                    })
                })
                .collect();
            tail.close();
            for waiter in waiters {
                waiter.join().unwrap();
            }
            assert!(bells.iter().all(|bell| bell.rung() == 1), "a waiter sleeps on a closed log");
        });
    }

    #[test]
    fn loom_what_is_published_lies_in_a_segment_that_is_listed() {
        loom::model(|| {
            let tail = Arc::new(Tail::new(at(1)));
            let list = Arc::new(SegmentList::new(vec![Arc::new(Offset::new(0))]));
            let writer = {
                let (tail, list) = (Arc::clone(&tail), Arc::clone(&list));
                thread::spawn(move || {
                    list.push(Arc::new(Offset::new(1)));
                    tail.publish(at(2));
                })
            };
            let last = tail.high_watermark().get() - 1;
            let segment = list.holding(Offset::new(last)).unwrap();
            assert_eq!(segment.get(), last, "a reader was sent to the wrong segment");
            writer.join().unwrap();
        });
    }
}

#[cfg(shuttle)]
mod shuttled {
    use shuttle::sync::Mutex;
    use shuttle::thread::{self, Thread};

    use super::*;
    use crate::segment_list::SegmentList;
    use crate::sync::schedules::explore;

    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    type Publish = fn(&Tail, i64);
    type Park = fn(&Arc<Tail>, &Waker, Offset) -> Parked;

    fn uncommitted(tail: &Arc<Tail>, waker: &Waker, beyond: Offset) -> Parked {
        tail.park(waker, beyond, Isolation::ReadUncommitted)
    }

    /// Consumers that sleep until there is more, each with another place to start; one of them gives up and
    /// comes back. A consumer that sleeps for good is a deadlock, which shuttle reports.
    fn everybody_sees_the_end(publish: Publish, park: Park) {
        const END: i64 = 4;
        let tail = Arc::new(Tail::new(at(0)));
        let consumer = |starts: i64| {
            let tail = Arc::clone(&tail);
            thread::spawn(move || {
                let waker = Waker::from(Arc::new(Unpark(thread::current())));
                let mut next = starts;
                while next < END {
                    if next == 1 {
                        drop(park(&tail, &waker, Offset::new(next)));
                    }
                    let parked = park(&tail, &waker, Offset::new(next));
                    while tail.high_watermark().get() <= next && !tail.is_closed() {
                        thread::park();
                    }
                    drop(parked);
                    next = tail.high_watermark().get();
                }
            })
        };
        let consumers: Vec<_> = (0..3).map(consumer).collect();
        for end in 1..=END {
            publish(&tail, end);
        }
        consumers.into_iter().for_each(|consumer| consumer.join().unwrap());
        assert!(tail.waiters.lock().by_ticket.is_empty(), "somebody who left is still on the list");
        assert_eq!(tail.waiting.load(Relaxed), 0);
    }

    #[test]
    fn shuttle_three_consumers_that_sleep_see_the_end() {
        explore(2_000, || everybody_sees_the_end(|tail, end| tail.publish(at(end)), uncommitted));
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn shuttle_a_publication_that_looks_for_sleepers_first_is_caught() {
        let looks_first: Publish = |tail, end| {
            let somebody_waits = tail.waiting.load(Relaxed) > 0;
            tail.high_watermark.store(end, Release);
            if somebody_waits {
                tail.wake_due();
            }
        };
        explore(2_000, move || everybody_sees_the_end(looks_first, uncommitted));
    }

    /// The consumer does not look again after it is on the list, and relies on `park` for that.
    fn who_relies_on_park_is_woken(park: Park) {
        let tail = Arc::new(Tail::new(at(0)));
        let consumers: Vec<_> = (0..3)
            .map(|_| {
                let tail = Arc::clone(&tail);
                thread::spawn(move || {
                    let bell = Arc::new(Bell::default());
                    let waker = Waker::from(Arc::clone(&bell));
                    (park(&tail, &waker, Offset::new(1)), bell)
                })
            })
            .collect();
        tail.publish(at(1));
        tail.publish(at(2));
        // One of them may be about to wake another: they all have to be done.
        let parked: Vec<_> = consumers.into_iter().map(|consumer| consumer.join().unwrap()).collect();
        let rung: Vec<_> = parked.iter().map(|(_, bell)| bell.rung()).collect();
        drop(parked);
        assert_eq!(rung, [1, 1, 1], "the high watermark is beyond the waiter and nobody woke it");
    }

    #[test]
    fn shuttle_parking_looks_again() {
        explore(2_000, || who_relies_on_park_is_woken(uncommitted));
        explore(2_000, || {
            who_relies_on_park_is_woken(|tail, waker, beyond| tail.park(waker, beyond, BOTH[1]))
        });
    }

    #[test]
    #[should_panic(expected = "nobody woke it")]
    fn shuttle_parking_without_a_second_look_is_caught() {
        let no_second_look: Park = |tail, waker, beyond| {
            let mut waiters = tail.waiters.lock();
            let ticket = waiters.next;
            waiters.next += 1;
            waiters.by_ticket.insert(
                ticket,
                Waiter { beyond, isolation: Isolation::ReadUncommitted, waker: waker.clone() },
            );
            tail.waiting.store(waiters.by_ticket.len(), Relaxed);
            drop(waiters);
            Parked { tail: Arc::clone(tail), ticket }
        };
        explore(2_000, move || who_relies_on_park_is_woken(no_second_look));
    }

    type Look = fn(&Tail, &SegmentList<Offset>) -> (Arc<Offset>, i64);

    /// A writer that rolls at every batch while others delete from the front, and readers at the tail.
    fn what_is_published_is_listed(look: Look) {
        let tail = Arc::new(Tail::new(at(1)));
        let list = Arc::new(SegmentList::new(vec![Arc::new(Offset::new(0))]));
        let lists_are_replaced_one_at_a_time = Arc::new(Mutex::new(()));
        let deleter = {
            let (list, lock) = (Arc::clone(&list), Arc::clone(&lists_are_replaced_one_at_a_time));
            thread::spawn(move || {
                for _ in 0..2 {
                    let _alone = lock.lock().unwrap();
                    let all = list.all();
                    if all.len() > 1 {
                        list.replace(all[1..].to_vec());
                    }
                }
            })
        };
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (tail, list) = (Arc::clone(&tail), Arc::clone(&list));
                thread::spawn(move || {
                    for _ in 0..2 {
                        let (segment, last) = look(&tail, &list);
                        assert_eq!(segment.get(), last, "a reader was sent to the wrong segment");
                    }
                })
            })
            .collect();
        for base in 1..4 {
            let _alone = lists_are_replaced_one_at_a_time.lock().unwrap();
            list.push(Arc::new(Offset::new(base)));
            tail.publish(at(base + 1));
        }
        readers.into_iter().chain([deleter]).for_each(|thread| thread.join().unwrap());
        assert_eq!(list.all().last().map(|last| last.get()), Some(3), "the active segment is not listed");
    }

    #[test]
    fn shuttle_what_is_published_lies_in_a_segment_that_is_listed() {
        explore(2_000, || {
            what_is_published_is_listed(|tail, list| {
                let last = tail.high_watermark().get() - 1;
                // The deleter keeps the active segment, and readers of the one before hold a list of their own.
                let held = list.holding(Offset::new(last));
                held.map_or_else(|| (Arc::new(Offset::new(last)), last), |segment| (segment, last))
            });
        });
    }

    #[test]
    #[should_panic(expected = "sent to the wrong segment")]
    fn shuttle_a_reader_that_looks_up_the_segment_first_is_caught() {
        explore(2_000, || {
            what_is_published_is_listed(|tail, list| {
                let segment = Arc::clone(list.all().last().unwrap());
                (segment, tail.high_watermark().get() - 1)
            });
        });
    }

    #[test]
    #[should_panic(expected = "a segment was lost")]
    fn shuttle_two_writers_of_one_list_are_caught() {
        explore(2_000, || {
            let list = Arc::new(SegmentList::new(vec![Arc::new(Offset::new(0))]));
            let pusher = {
                let list = Arc::clone(&list);
                thread::spawn(move || list.push(Arc::new(Offset::new(1))))
            };
            list.replace(Vec::clone(&list.all()));
            pusher.join().unwrap();
            assert_eq!(list.all().len(), 2, "a segment was lost");
        });
    }
}
