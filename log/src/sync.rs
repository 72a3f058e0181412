//! The primitives that threads meet at: the real ones, or those of a model checker.
//!
//! Under `--cfg loom` every schedule of the three lock-free pieces is tried, with the weak memory of the
//! language. Under `--cfg shuttle` whole logs run, appenders, flusher and readers, in schedules that a seed
//! chooses; it takes all atomics to be sequentially consistent, so what a fence is for only loom can tell.
//! Every lock in this crate that is held while another thread is met has to come from here, or shuttle
//! blocks for good.

#[cfg(any(loom, shuttle))]
mod modelled {
    use std::ops::{Deref, DerefMut};
    use std::sync::Arc;
    use std::time::Duration;

    #[cfg(loom)]
    use ::loom as model;
    #[cfg(shuttle)]
    use ::shuttle as model;

    pub(crate) use model::sync::{atomic, mpsc};
    pub(crate) use model::thread;

    /// The model's mutex with the interface of `parking_lot`.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(model::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(model::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(Some(self.0.lock().expect("a panic ends the model")))
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok().map(|held| MutexGuard(Some(held)))
        }
    }

    pub(crate) struct MutexGuard<'a, T>(Option<model::sync::MutexGuard<'a, T>>);

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.0.as_ref().expect("taken only while it waits")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().expect("taken only while it waits")
        }
    }

    /// The same for the condition variable. There is no time in a model: what is waited for until then comes
    /// by a notification or not at all.
    #[derive(Debug)]
    pub(crate) struct Condvar(model::sync::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self(model::sync::Condvar::new())
        }

        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            let held = guard.0.take().expect("taken only while it waits");
            guard.0 = Some(self.0.wait(held).expect("a panic ends the model"));
        }

        pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _at_most: Duration) {
            self.wait(guard);
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    pub(crate) struct Loaded<T>(Arc<T>);

    impl<T> Deref for Loaded<T> {
        type Target = Arc<T>;

        fn deref(&self) -> &Arc<T> {
            &self.0
        }
    }

    /// A model cannot see into `arc_swap`; a lock shows it the same order of loads and stores.
    #[derive(Debug)]
    pub(crate) struct ArcSwap<T>(Mutex<Arc<T>>);

    impl<T> ArcSwap<T> {
        pub(crate) fn from_pointee(value: T) -> Self {
            Self(Mutex::new(Arc::new(value)))
        }

        pub(crate) fn load(&self) -> Loaded<T> {
            Loaded(self.load_full())
        }

        pub(crate) fn load_full(&self) -> Arc<T> {
            Arc::clone(&self.0.lock())
        }

        pub(crate) fn store(&self, value: Arc<T>) {
            *self.0.lock() = value;
        }
    }
}

#[cfg(not(any(loom, shuttle)))]
mod modelled {
    pub(crate) use arc_swap::ArcSwap;
    pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
    pub(crate) use std::sync::{atomic, mpsc};
    pub(crate) use std::thread;
}

pub(crate) use modelled::*;

#[cfg(all(test, shuttle))]
pub(crate) mod schedules;
