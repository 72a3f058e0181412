//! Nothing that is queued stays queued.

use super::*;

#[cfg(not(loom))]
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
