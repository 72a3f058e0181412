//! What a broker takes from the machine it runs on, so that a simulation can bring its own.
//!
//! Below this nothing makes a thread, asks the system for the time or for chance, or opens a file. What a
//! runtime tells (`tokio::time`) is virtual in a simulation, too.

use std::sync::Arc;

use millstream_log::{Clock, SystemClock};
use millstream_protocol::Uuid;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// Time, chance and threads. Its disk goes with the folders on it (`storage::Directory`).
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) uuids: Arc<Uuids>,
    /// Threads that may work side by side on many partitions. One is the calling thread itself.
    pub(crate) threads: usize,
}

impl Machine {
    /// What the system gives.
    pub(crate) fn of_the_system() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            uuids: Arc::new(Uuids::Random),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// Where work goes that may wait for the disk: away from the data plane.
#[derive(Debug, Clone)]
pub(crate) enum Control {
    /// The control plane's threads.
    Threads(Handle),
    /// A task like any other: memory does not wait, nor does a simulated disk.
    Tasks(Handle),
}

impl Control {
    /// Runs `work`, which may block on the disk, where it keeps nobody waiting.
    pub(crate) fn spawn_blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> JoinHandle<R> {
        match self {
            Self::Threads(runtime) => runtime.spawn_blocking(work),
            Self::Tasks(runtime) => runtime.spawn(async move { work() }),
        }
    }
}

/// Where ids come from.
#[derive(Debug)]
pub(crate) enum Uuids {
    /// The system's chance.
    Random,
    /// A seed's.
    #[cfg(feature = "sim")]
    Seeded(parking_lot::Mutex<u64>),
}

impl Uuids {
    /// An id that nobody had before.
    pub(crate) fn fresh(&self) -> Uuid {
        match self {
            Self::Random => Uuid::new_v4(),
            #[cfg(feature = "sim")]
            Self::Seeded(state) => {
                let mut state = state.lock();
                let mut bytes = [0; 16];
                for half in bytes.chunks_mut(8) {
                    *state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    half.copy_from_slice(&(*state ^ (*state >> 33)).to_be_bytes());
                }
                uuid::Builder::from_random_bytes(bytes).into_uuid()
            }
        }
    }
}
