//! Nothing that is queued stays queued.

use super::*;

#[cfg(not(any(loom, shuttle)))]
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

#[cfg(loom)]
mod modelled {
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

#[cfg(shuttle)]
mod shuttled {
    use std::sync::Arc;

    use shuttle::sync::Mutex;
    use shuttle::thread;

    use super::*;
    use crate::sync::schedules::explore;

    type Release = fn(&Combiner<(usize, usize)>) -> Role;

    /// Takes at most two items a turn, like a leader that does not want to work for others for ever, and
    /// hands the lead on to a thread of its own, as the broker does.
    fn lead(
        combiner: &Arc<Combiner<(usize, usize)>>,
        taken: &Arc<Mutex<Vec<(usize, usize)>>>,
        release: Release,
    ) {
        {
            let mut taken = taken.try_lock().expect("there are two leaders");
            (0..2).for_each(|_| taken.extend(combiner.take()));
        }
        if release(combiner) == Role::Leader {
            let (combiner, taken) = (Arc::clone(combiner), Arc::clone(taken));
            thread::spawn(move || lead(&combiner, &taken, release)).join().unwrap();
        }
    }

    fn every_item_is_taken_once_in_its_order(release: Release) {
        const PUSHERS: usize = 4;
        const ITEMS: usize = 3;
        let combiner = Arc::new(Combiner::new());
        let taken = Arc::new(Mutex::new(Vec::new()));
        let push = |pusher| {
            let (combiner, taken) = (Arc::clone(&combiner), Arc::clone(&taken));
            thread::spawn(move || {
                for item in 0..ITEMS {
                    if combiner.push((pusher, item)) == Role::Leader {
                        lead(&combiner, &taken, release);
                    }
                }
            })
        };
        let pushers: Vec<_> = (0..PUSHERS).map(push).collect();
        pushers.into_iter().for_each(|pusher| pusher.join().unwrap());
        let taken = taken.lock().unwrap();
        for pusher in 0..PUSHERS {
            let own: Vec<_> = taken.iter().filter(|(by, _)| *by == pusher).map(|(_, item)| *item).collect();
            assert_eq!(own, [0, 1, 2], "an item was left in the queue, or came twice, or too early");
        }
    }

    #[test]
    fn shuttle_four_pushers_and_a_lead_that_is_handed_on() {
        explore(3_000, || every_item_is_taken_once_in_its_order(Combiner::release));
    }

    #[test]
    #[should_panic(expected = "an item was left in the queue")]
    fn shuttle_a_release_without_a_second_look_is_caught() {
        explore(3_000, || {
            every_item_is_taken_once_in_its_order(|combiner| {
                let more = combiner.queued.load(Acquire) > 0;
                match more {
                    true => Role::Leader,
                    false => {
                        combiner.led.store(false, std::sync::atomic::Ordering::Release);
                        Role::Follower
                    }
                }
            });
        });
    }

    #[test]
    #[should_panic(expected = "there are two leaders")]
    fn shuttle_a_lead_that_is_taken_without_asking_is_caught() {
        explore(3_000, || {
            every_item_is_taken_once_in_its_order(|combiner| {
                combiner.led.store(false, std::sync::atomic::Ordering::Release);
                match combiner.queued.load(Acquire) > 0 {
                    true => {
                        combiner.led.store(true, std::sync::atomic::Ordering::Release);
                        Role::Leader
                    }
                    false => Role::Follower,
                }
            });
        });
    }
}
