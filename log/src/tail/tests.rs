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
    let end = Offset::new(end);
    Offsets { log_start: Offset::new(0), high_watermark: end, log_end: end }
}

#[cfg(not(loom))]
mod plain {
    use super::*;

    fn parked_at(tail: &Arc<Tail>, beyond: i64) -> (Arc<Bell>, Parked) {
        let bell = Arc::new(Bell::default());
        let parked = tail.park(&Waker::from(Arc::clone(&bell)), Offset::new(beyond));
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
        loom::model(|| {
            let tail = Arc::new(Tail::new(at(0)));
            let writer = {
                let tail = Arc::clone(&tail);
                thread::spawn(move || tail.publish(at(1)))
            };
            let bell = Arc::new(Bell::default());
            let parked = tail.park(&Waker::from(Arc::clone(&bell)), Offset::new(0));
            writer.join().unwrap();
            assert_eq!(bell.rung(), 1, "the high watermark is beyond the waiter and nobody woke it");
            drop(parked);
        });
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
            let parked = tail.park(&Waker::from(Arc::clone(&bell)), Offset::new(0));
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
                    thread::spawn(move || std::mem::forget(tail.park(&waker, Offset::new(9))))
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
