//! A broker with threads of its own: two runtimes, the flusher's threads and those that look after its folders.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use super::in_process::InProcess;
use super::listener::{Listener, SLOTS, all_returned};
use super::opening::{self, Ground, Opened};
use super::{Addresses, DRAIN_TIMEOUT, StartError, close, http};
use crate::groups;
use crate::machine::{Control, Machine};
use crate::metadata::believed_time::REMEMBER_EACH;
use crate::node::{Node, NodeParts};
use crate::settings::BrokerSettings;
use crate::storage::data_dir::DataDir;
use crate::storage::maintenance::Maintenance;
use crate::transactions;

/// How long a stopping broker waits for its connections' tasks once they are answered or given up.
const DATA_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a stopping broker waits for administrative work that has begun.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(10);

/// Threads on which the control plane may wait for the disk at a time.
const BLOCKING_THREADS: usize = 16;

/// What a stop has to end, in this order.
#[derive(Debug)]
pub(super) struct Running {
    connections: Arc<Semaphore>,
    pub(super) in_process: InProcess,
    data_plane: Runtime,
    control_plane: Runtime,
    pub(super) node: Arc<Node>,
    /// Opens what was there at the start.
    recovery: std::thread::JoinHandle<()>,
    /// In the order of the node's directories.
    data_dirs: Vec<DataDir>,
    maintenance: Maintenance,
}

/// Whose answers a stop waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Those that this broker's threads serve. Others are served by the thread that waits, perhaps.
    OverSockets,
    Everybody,
}

/// The ports that are to be opened.
pub(super) struct Ports {
    pub(super) kafka: Option<Listener>,
    pub(super) http: Option<Listener>,
}

impl Ports {
    /// Claims them, so that a port in use is known before anything is recovered.
    pub(super) fn bind(settings: &BrokerSettings, listens: bool) -> Result<Self, StartError> {
        let bind = |name| Listener::bind(name, settings.text(name));
        let kafka = if listens { Some(bind("listeners")?) } else { None };
        let http =
            if settings.text("http.listener").is_empty() { None } else { Some(bind("http.listener")?) };
        Ok(Self { kafka, http })
    }

    fn addresses(&self) -> Addresses {
        let address = |listener: &Option<Listener>| listener.as_ref().map(Listener::address);
        Addresses { kafka: address(&self.kafka), http: address(&self.http) }
    }
}

impl Running {
    /// Starts everything; partitions are being recovered when this returns.
    pub(super) fn start(
        settings: BrokerSettings,
        ground: &Ground,
        folders: &[PathBuf],
        listens: bool,
    ) -> Result<(Self, Addresses), StartError> {
        let (first_path, further_paths) = folders.split_first().expect("there is always one");
        let first = ground.take(first_path)?;
        let ports = Ports::bind(&settings, listens)?;
        let addresses = ports.addresses();
        let Opened { machine, store, identity, directories, missing, data_dirs } =
            opening::open(&settings, ground, Machine::of_the_system(), (first, further_paths))?;
        // Without a port it has little to do: who connects from within the process brings a thread.
        let data_threads = if listens { data_threads(&settings) } else { 1 };
        let data_plane = runtime("millstream-data", data_threads).map_err(StartError::Threads)?;
        let control_plane = runtime("millstream-ctl", 1).map_err(StartError::Threads)?;
        let control = Control::Threads(control_plane.handle().clone());
        let http_address = addresses.http;
        let parts = NodeParts { machine, control, identity, store, directories, missing, http_address };
        let node = Arc::new(Node::open(settings, parts)?);
        let connections = Arc::new(Semaphore::new(SLOTS));
        if let Some(kafka) = ports.kafka {
            kafka.serve(&data_plane, Arc::clone(&node), Arc::clone(&connections))?;
        }
        if let Some(http) = ports.http {
            let listener = http.listen(&control_plane)?;
            control_plane.spawn(http::serve(listener, Arc::clone(&node)));
        }
        control_plane.spawn(upkeep(Arc::clone(&node)));
        control_plane.spawn(groups::keep_time(Arc::clone(&node)));
        control_plane.spawn(groups::seen::watch(Arc::clone(&node)));
        control_plane.spawn(transactions::keep_time(Arc::clone(&node)));
        control_plane.spawn(transactions::orphans::keep_watch(Arc::clone(&node)));
        data_plane.spawn(transactions::write_markers(Arc::clone(&node)));
        tell(addresses.kafka, first_path);
        let recovery = recover(&node).map_err(StartError::Threads)?;
        let maintenance = Maintenance::start(&node).map_err(StartError::Threads)?;
        let in_process = InProcess::new(&node);
        let running = Self {
            connections,
            in_process,
            data_plane,
            control_plane,
            node,
            recovery,
            data_dirs,
            maintenance,
        };
        Ok((running, addresses))
    }

    /// Stops on a thread of its own: a runtime may not be stopped from within another one. `Err` if there is none.
    pub(super) fn stop_elsewhere(self, answer: Answer) -> std::io::Result<Stopping> {
        let (told, done) = oneshot::channel();
        let thread = std::thread::Builder::new().name("millstream-stop".into()).spawn(move || {
            self.stop(answer);
            // Nobody may wait for it.
            let _ = told.send(());
        })?;
        Ok(Stopping { thread, done })
    }

    fn stop(self, answer: Answer) {
        self.node.stop();
        let all = async {
            all_returned(&self.connections).await;
            if answer == Answer::Everybody {
                self.in_process.drained().await;
            }
        };
        let drained = async { tokio::time::timeout(DRAIN_TIMEOUT, all).await.is_ok() };
        if !self.control_plane.block_on(drained) {
            tracing::warn!("connections that did not take their answers in time are cut");
        }
        let Self { node, recovery, maintenance, data_dirs, data_plane, control_plane, .. } = self;
        if recovery.join().is_err() {
            tracing::error!("recovery panicked; the next start checks the logs");
        }
        maintenance.stop();
        data_plane.shutdown_timeout(DATA_TIMEOUT);
        control_plane.shutdown_timeout(CONTROL_TIMEOUT);
        close(&node, &data_dirs);
    }
}

/// A stop that is under way.
#[derive(Debug)]
pub(super) struct Stopping {
    thread: std::thread::JoinHandle<()>,
    done: oneshot::Receiver<()>,
}

impl Stopping {
    /// Blocks until it is done.
    pub(super) fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the broker panicked while it stopped; the next start checks its logs");
        }
    }

    /// Waits without blocking until it is done.
    pub(super) async fn wait(self) {
        let Self { thread, done } = self;
        // Fails only if the thread has panicked.
        let _ = done.await;
        Self { thread, done: oneshot::channel().1 }.join();
    }
}

fn tell(address: Option<SocketAddr>, folder: &Path) {
    let Some(address) = address else {
        tracing::info!(folder = %folder.display(), "serving clients in this process");
        return;
    };
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "whoever can reach this address can read and write everything: there is no authentication");
    }
    tracing::info!(%address, folder = %folder.display(), "serving Kafka clients");
}

fn data_threads(settings: &BrokerSettings) -> usize {
    match settings.data_threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}

/// One runtime of several threads, rather than one of each thread: on two cores, librdkafka's load and a
/// closed loop of single records showed no difference beyond noise, and no connection waits for another
/// one's thread.
fn runtime(name: &str, threads: usize) -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name(name)
        .enable_io()
        .enable_time()
        .build()
}

/// Opens the logs on a thread of its own, while clients are answered.
fn recover(node: &Arc<Node>) -> std::io::Result<std::thread::JoinHandle<()>> {
    let node = Arc::clone(node);
    std::thread::Builder::new().name("millstream-recovery".into()).spawn(move || {
        node.topics.recover(&|| node.is_stopping());
        node.groups.warm_up(&node);
        node.transactions.warm_up(&node);
    })
}

/// Folds what histograms have collected, so that they do not grow between two scrapes, and remembers the time.
pub(super) async fn upkeep(node: Arc<Node>) {
    let mut each_second = tokio::time::interval(Duration::from_secs(1));
    let mut remembered: Option<Instant> = None;
    loop {
        each_second.tick().await;
        node.metrics.upkeep();
        node.metrics.show_clock(node.time.state());
        if remembered.is_none_or(|at| at.elapsed() >= REMEMBER_EACH) {
            remembered = Some(Instant::now());
            let node = Arc::clone(&node);
            drop(node.control.clone().spawn_blocking(move || node.time.remember()));
        }
    }
}
