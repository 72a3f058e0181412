//! A broker in this process: built, started, stopped.

mod http;
mod listener;
mod opening;
#[cfg(feature = "sim")]
mod sim;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::groups;
use crate::machine::Control;
use crate::meta_store::MetaError;
use crate::metadata::believed_time::REMEMBER_EACH;
use crate::metadata::topics::RecoverySummary;
use crate::node::{Node, NodeParts};
use crate::settings::{self, BrokerSettings, SettingError, Written};
use crate::storage::data_dir::{DataDir, DataDirError};
use crate::storage::maintenance::Maintenance;
use crate::transactions;

use listener::{Listener, SLOTS};
use opening::Opened;
#[cfg(feature = "sim")]
pub use sim::{SimBroker, SimOptions};

/// How long a stopping broker waits for the answers to requests that it has read.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a stopping broker waits for its connections' tasks once they are answered or given up.
const DATA_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a stopping broker waits for administrative work that has begun.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(10);

/// Threads on which the control plane may wait for the disk at a time.
const BLOCKING_THREADS: usize = 16;

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting is wrong.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The data folder cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The metadata cannot be read or written.
    #[error(transparent)]
    Metadata(#[from] MetaError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({setting}): {error}{}", hint(error))]
    Listen {
        /// The setting that named it.
        setting: &'static str,
        /// The address as it was written.
        address: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// The system gives no threads.
    #[error("the system refuses to start threads: {0}")]
    Threads(std::io::Error),
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "; another program has this port, maybe another broker: choose another port"
        }
        std::io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges: choose a higher port",
        std::io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        _ => "",
    }
}

/// What a broker is to be like. Settings are checked by `start`.
#[derive(Debug, Clone, Default)]
pub struct BrokerBuilder {
    data_dir: Option<PathBuf>,
    settings: Vec<(String, String)>,
}

impl BrokerBuilder {
    /// The folder in which everything durable is kept; made if it is missing. The same as setting
    /// `log.dir`, for paths of any kind.
    #[must_use]
    pub fn data_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(folder.into());
        self
    }

    /// HOST:PORT for Kafka clients; port 0 takes a free one. The same as setting `listeners`.
    #[must_use]
    pub fn listen(self, address: impl Into<String>) -> Self {
        self.set("listeners", address)
    }

    /// HOST:PORT for metrics and health. The same as setting `http.listener`.
    #[must_use]
    pub fn http(self, address: impl Into<String>) -> Self {
        self.set("http.listener", address)
    }

    /// No HTTP port; this is the default.
    #[must_use]
    pub fn no_http(self) -> Self {
        self.set("http.listener", "")
    }

    /// Sets anything that [`settings::REGISTRY`] names. The last value of a name holds.
    #[must_use]
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Starts the broker and waits until its partitions are recovered: when this returns, everything that
    /// can be served is. Clients that connect earlier are answered, too, see [`begin`](Self::begin). Blocks on the
    /// disk.
    ///
    /// # Errors
    /// See [`StartError`]; nothing keeps running after one. A partition that cannot be opened is none: it is refused
    /// to clients, and counted by [`Broker::wait_recovered`].
    pub fn start(self) -> Result<Broker, StartError> {
        let broker = self.begin()?;
        broker.wait_recovered();
        Ok(broker)
    }

    /// Starts the broker and returns as soon as clients may connect. Its partitions are being recovered then;
    /// one that is not yet is refused with an error on which every client tries again.
    /// [`Broker::wait_recovered`] waits for them. Blocks on the disk, briefly.
    ///
    /// # Errors
    /// See [`StartError`]; nothing keeps running after one.
    pub fn begin(self) -> Result<Broker, StartError> {
        let mut written = Written::new();
        for (name, value) in &self.settings {
            settings::write(&mut written, name, value)?;
        }
        if let Some(folder) = &self.data_dir {
            settings::write(&mut written, "log.dir", &folder.to_string_lossy())?;
        }
        let settings = BrokerSettings::new(written)?;
        let folders = match self.data_dir {
            Some(folder) => vec![folder],
            None => settings.data_dirs(),
        };
        Broker::begin(settings, &folders)
    }
}

/// A running broker. Dropping it stops it gracefully, as [`shutdown`](Self::shutdown) does.
///
/// ```no_run
/// let folder = std::env::temp_dir().join("orders");
/// let broker = millstream_broker::Broker::builder().data_dir(folder).listen("127.0.0.1:0").start()?;
/// println!("bootstrap.servers={}", broker.kafka_address());
/// # Ok::<(), millstream_broker::StartError>(())
/// ```
#[derive(Debug)]
pub struct Broker {
    kafka_address: SocketAddr,
    http_address: Option<SocketAddr>,
    advertised: Option<String>,
    /// Taken when the broker stops.
    running: Option<Running>,
}

/// What a stop has to end, in this order.
#[derive(Debug)]
struct Running {
    connections: Arc<Semaphore>,
    data_plane: Runtime,
    control_plane: Runtime,
    node: Arc<Node>,
    /// Opens what was there at the start.
    recovery: std::thread::JoinHandle<()>,
    /// In the order of the node's directories.
    data_dirs: Vec<DataDir>,
    maintenance: Maintenance,
}

impl Broker {
    /// Where everything starts.
    #[must_use]
    pub fn builder() -> BrokerBuilder {
        BrokerBuilder::default()
    }

    /// Where Kafka clients are served.
    #[must_use]
    pub fn kafka_address(&self) -> SocketAddr {
        self.kafka_address
    }

    /// Where HTTP is served, if it is.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http_address
    }

    /// HOST:PORT that clients are told to connect to; `None` if each is told the address that it dialled.
    #[must_use]
    pub fn advertised(&self) -> Option<&str> {
        self.advertised.as_deref()
    }

    /// Waits until every partition that was there at the start is open, or cannot be opened. Blocks; at once once it
    /// has returned.
    ///
    /// ```no_run
    /// let broker = millstream_broker::Broker::builder().listen("127.0.0.1:0").begin()?;
    /// println!("bootstrap.servers={}", broker.kafka_address());
    /// let recovered = broker.wait_recovered();
    /// assert_eq!(recovered.failed, 0, "the log says why");
    /// # Ok::<(), millstream_broker::StartError>(())
    /// ```
    pub fn wait_recovered(&self) -> RecoverySummary {
        let running = self.running.as_ref().expect("it is taken when the broker is dropped");
        running.node.topics.recovery().wait()
    }

    /// Stops: no new connections, answers to what was read, everything on disk. Blocks; may be called
    /// from asynchronous code, which it blocks as well.
    pub fn shutdown(self) {
        drop(self);
    }

    fn begin(settings: BrokerSettings, folders: &[PathBuf]) -> Result<Self, StartError> {
        let (first_path, further_paths) = folders.split_first().expect("there is always one");
        let first = DataDir::lock(opening::disk(), first_path)?;
        let kafka = Listener::bind("listeners", settings.text("listeners"))?;
        let http = match settings.text("http.listener") {
            "" => None,
            address => Some(Listener::bind("http.listener", address)?),
        };
        let Opened { machine, store, identity, directories, missing, data_dirs } =
            opening::open(&settings, first, further_paths)?;
        let data_plane = runtime("millstream-data", data_threads(&settings)).map_err(StartError::Threads)?;
        let control_plane = runtime("millstream-ctl", 1).map_err(StartError::Threads)?;
        let http_address = http.as_ref().map(Listener::address);
        let advertised = settings.text("advertised.listeners").to_owned();
        let control = Control::Threads(control_plane.handle().clone());
        let parts = NodeParts { machine, control, identity, store, directories, missing, http_address };
        let node = Arc::new(Node::open(settings, parts)?);
        let connections = Arc::new(Semaphore::new(SLOTS));
        let kafka_address = kafka.address();
        kafka.serve(&data_plane, Arc::clone(&node), Arc::clone(&connections))?;
        if let Some(http) = http {
            let listener = http.listen(&control_plane)?;
            control_plane.spawn(http::serve(listener, Arc::clone(&node)));
        }
        control_plane.spawn(upkeep(Arc::clone(&node)));
        control_plane.spawn(groups::keep_time(Arc::clone(&node)));
        control_plane.spawn(groups::seen::watch(Arc::clone(&node)));
        control_plane.spawn(transactions::keep_time(Arc::clone(&node)));
        control_plane.spawn(transactions::orphans::keep_watch(Arc::clone(&node)));
        data_plane.spawn(transactions::write_markers(Arc::clone(&node)));
        if !kafka_address.ip().is_loopback() {
            tracing::warn!(address = %kafka_address, "whoever can reach this address can read and write everything: there is no authentication");
        }
        tracing::info!(address = %kafka_address, folder = %first_path.display(), "serving Kafka clients");
        let recovery = recover(&node).map_err(StartError::Threads)?;
        let maintenance = Maintenance::start(&node).map_err(StartError::Threads)?;
        let running =
            Running { connections, data_plane, control_plane, node, recovery, data_dirs, maintenance };
        let advertised = (!advertised.is_empty()).then_some(advertised);
        Ok(Self { kafka_address, http_address, advertised, running: Some(running) })
    }
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
async fn upkeep(node: Arc<Node>) {
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

impl Drop for Broker {
    fn drop(&mut self) {
        let Some(running) = self.running.take() else { return };
        // A runtime may not be stopped from within another one; a thread of its own is within none.
        let stopping = std::thread::Builder::new().name("millstream-stop".into()).spawn(|| running.stop());
        match stopping.map(std::thread::JoinHandle::join) {
            Ok(Ok(())) => {}
            Ok(Err(_)) => {
                tracing::error!("the broker panicked while it stopped; the next start checks its logs");
            }
            Err(error) => {
                tracing::error!(%error, "no thread to stop the broker; the next start checks its logs");
            }
        }
    }
}

impl Running {
    fn stop(self) {
        self.node.stop();
        let all = self.connections.acquire_many(u32::try_from(SLOTS).expect("it came from an i32"));
        // Closed semaphores give no permits, and nobody closes this one: only time can run out.
        let drained =
            self.control_plane.block_on(async { tokio::time::timeout(DRAIN_TIMEOUT, all).await.is_ok() });
        if !drained {
            tracing::warn!("connections that did not take their answers in time are cut");
        }
        let Self { node, recovery, maintenance, data_dirs, data_plane, control_plane, .. } = self;
        if recovery.join().is_err() {
            tracing::error!("recovery panicked; the next start checks the logs");
        }
        maintenance.stop();
        data_plane.shutdown_timeout(DATA_TIMEOUT);
        control_plane.shutdown_timeout(CONTROL_TIMEOUT);
        node.time.remember();
        let mut all_clean = true;
        for (directory, data_dir) in node.topics.directories().iter().zip(&data_dirs) {
            let folder = directory.path.display();
            if let Err(error) = node.topics.close(directory) {
                tracing::error!(%folder, %error, "not every partition could be closed; the next start checks the logs");
                all_clean = false;
            } else if let Err(error) = data_dir.mark_clean() {
                tracing::error!(%folder, %error, "the data folder takes no mark; the next start checks the logs");
                all_clean = false;
            }
        }
        if all_clean {
            tracing::info!("stopped");
        }
    }
}
