//! The primitives under the three lock-free pieces: the real ones, or loom's when they are model checked.

#[cfg(loom)]
mod modelled {
    pub(crate) use loom::sync::{atomic, mpsc};
    use std::sync::Arc;

    /// loom's mutex with the interface of `parking_lot`.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().expect("a panic ends the model")
        }
    }

    /// loom cannot see into `arc_swap`; a lock shows it the same order of loads and stores.
    #[derive(Debug)]
    pub(crate) struct ArcSwap<T>(Mutex<Arc<T>>);

    impl<T> ArcSwap<T> {
        pub(crate) fn from_pointee(value: T) -> Self {
            Self(Mutex::new(Arc::new(value)))
        }

        pub(crate) fn load(&self) -> Arc<T> {
            self.load_full()
        }

        pub(crate) fn load_full(&self) -> Arc<T> {
            Arc::clone(&self.0.lock())
        }

        pub(crate) fn store(&self, value: Arc<T>) {
            *self.0.lock() = value;
        }
    }
}

#[cfg(not(loom))]
mod modelled {
    pub(crate) use arc_swap::ArcSwap;
    pub(crate) use parking_lot::Mutex;
    pub(crate) use std::sync::{atomic, mpsc};
}

pub(crate) use modelled::*;
