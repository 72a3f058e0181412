//! Group commit.
use std::sync::Arc;
/// A pool of threads that make logs durable; one for each data folder.
#[derive(Debug)]
pub struct Flusher {}
impl Flusher {
    /// Starts the pool.
    #[must_use]
    pub fn start(threads: usize) -> Arc<Self> {
        let _ = threads;
        unimplemented!()
    }
}
