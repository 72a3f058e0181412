//! A broker without a thread: all of it are tasks of the runtime that it was started in, by whose clock it goes.
//!
//! What makes that possible is that memory does not keep anybody waiting: flushes, recovery and retention are done where
//! they come up. Where the clock of the runtime is paused, sessions expire, long polls end and records grow old
//! when the test says so.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millstream_log::{Clock, SystemClock};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::in_process::InProcess;
use super::opening::{self, Ground, Opened};
use super::running::upkeep;
use super::{DRAIN_TIMEOUT, StartError, close};
use crate::groups;
use crate::machine::{Control, Machine, Uuids};
use crate::node::{Node, NodeParts};
use crate::settings::BrokerSettings;
use crate::storage::data_dir::DataDir;
use crate::storage::maintenance::{Cleaner, Keeper};
use crate::transactions;

/// The time of the runtime, which begins at the time of the system.
#[derive(Debug)]
struct RuntimeClock {
    began: Instant,
    began_ms: i64,
}

impl RuntimeClock {
    fn start() -> Self {
        Self { began: Instant::now(), began_ms: SystemClock.now_ms() }
    }
}

impl Clock for RuntimeClock {
    fn now_ms(&self) -> i64 {
        self.began_ms.saturating_add(self.steady_ms())
    }

    fn steady_ms(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

/// What a stop has to end.
#[derive(Debug)]
pub(super) struct Here {
    pub(super) in_process: InProcess,
    pub(super) node: Arc<Node>,
    /// Aborted when this is dropped.
    tasks: JoinSet<()>,
    data_dirs: Vec<DataDir>,
}

impl Here {
    /// Starts everything in the current runtime.
    pub(super) fn start(
        settings: BrokerSettings,
        ground: &Ground,
        folder: &Path,
    ) -> Result<Self, StartError> {
        let runtime = Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        let clock = Arc::new(RuntimeClock::start());
        let machine = Machine { clock, uuids: Arc::new(Uuids::Random), threads: 1 };
        let first = ground.take(folder)?;
        let Opened { machine, store, identity, directories, missing, data_dirs } =
            opening::open(&settings, ground, machine, (first, &[]))?;
        let control = Control::Tasks(runtime.clone());
        let parts = NodeParts { machine, control, identity, store, directories, missing, http_address: None };
        let node = Arc::new(Node::open(settings, parts)?);
        node.topics.recover(&|| false);
        node.groups.warm_up(&node);
        node.transactions.warm_up(&node);
        let mut tasks = JoinSet::new();
        tasks.spawn_on(upkeep(Arc::clone(&node)), &runtime);
        tasks.spawn_on(groups::keep_time(Arc::clone(&node)), &runtime);
        tasks.spawn_on(groups::seen::watch(Arc::clone(&node)), &runtime);
        tasks.spawn_on(transactions::keep_time(Arc::clone(&node)), &runtime);
        tasks.spawn_on(transactions::orphans::keep_watch(Arc::clone(&node)), &runtime);
        tasks.spawn_on(transactions::write_markers(Arc::clone(&node)), &runtime);
        for directory in node.topics.directories() {
            let mut keeper = Keeper::new(Arc::clone(&node), Arc::clone(directory));
            tasks.spawn_on(again_and_again(move |now| keeper.step(now)), &runtime);
            let mut cleaner = Cleaner::new(Arc::clone(&node), Arc::clone(directory));
            tasks.spawn_on(again_and_again(move |now| cleaner.step(now)), &runtime);
        }
        let in_process = InProcess::new(&node);
        Ok(Self { in_process, node, tasks, data_dirs })
    }

    /// Answers what was read, then ends.
    pub(super) async fn shutdown(mut self) {
        self.node.stop();
        if tokio::time::timeout(DRAIN_TIMEOUT, self.in_process.drained()).await.is_err() {
            tracing::warn!("connections that did not take their answers in time are left to themselves");
        }
        self.tasks.shutdown().await;
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        self.node.stop();
        close(&self.node, &self.data_dirs);
    }
}

/// Calls `step` again and again; it says how long it may be left alone.
async fn again_and_again(mut step: impl FnMut(Duration) -> Duration) {
    let began = Instant::now();
    loop {
        let rest = step(began.elapsed());
        // Others have their turn in any case.
        tokio::task::yield_now().await;
        tokio::time::sleep(rest).await;
    }
}
