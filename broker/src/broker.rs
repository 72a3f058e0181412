//! A broker in this process: built, started, stopped.

mod here;
mod http;
mod in_process;
mod listener;
mod opening;
mod running;
#[cfg(feature = "sim")]
mod sim;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::meta_store::MetaError;
use crate::metadata::topics::RecoverySummary;
use crate::node::Node;
use crate::settings::{self, BrokerSettings, SettingError, Written};
use crate::storage::data_dir::{DataDir, DataDirError};

use here::Here;
pub use in_process::InProcess;
use opening::Ground;
use running::{Answer, Running};
#[cfg(feature = "sim")]
pub use sim::{SimBroker, SimOptions};

/// How long a stopping broker waits for the answers to requests that it has read.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The data folder of a broker in memory, on a disk of its own.
const IN_MEMORY_FOLDER: &str = "/memory";

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
    /// [`BrokerBuilder::start_here`] was called outside of a tokio runtime.
    #[error("a broker without threads needs the tokio runtime that it is started in, and there is none")]
    NoRuntime,
    /// [`BrokerBuilder::start_here`] of a broker that would keep its runtime waiting.
    #[error("a broker without threads must be in memory and have no port: {0} is asked for")]
    NotHere(&'static str),
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
#[derive(Debug, Clone)]
pub struct BrokerBuilder {
    data: Data,
    listens: bool,
    settings: Vec<(String, String)>,
}

/// Where the data lies.
#[derive(Debug, Clone)]
enum Data {
    /// Where the settings say.
    AsSet,
    Folder(PathBuf),
    Memory,
}

impl Default for BrokerBuilder {
    fn default() -> Self {
        Self { data: Data::AsSet, listens: true, settings: Vec::new() }
    }
}

impl BrokerBuilder {
    /// The folder in which everything durable is kept; made if it is missing. The same as setting
    /// `log.dir`, for paths of any kind.
    #[must_use]
    pub fn data_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data = Data::Folder(folder.into());
        self
    }

    /// Keeps everything in the memory of this process, and nothing of it anywhere else: what the broker stores is gone
    /// when it stops, and memory of what is deleted or grows too old is given back. Everything that is acknowledged is
    /// as safe as the process, whatever `acks` asks for. Appends are refused before the machine's memory is full
    /// (`log.disk.free.min.bytes`). For tests, and for programs that need a broker for as long as they run.
    #[must_use]
    pub fn in_memory(mut self) -> Self {
        self.data = Data::Memory;
        self
    }

    /// HOST:PORT for Kafka clients; port 0 takes a free one. The same as setting `listeners`.
    #[must_use]
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listens = true;
        self.set("listeners", address)
    }

    /// No port for Kafka clients: only this process can connect, through [`Broker::in_process`].
    #[must_use]
    pub fn no_listener(mut self) -> Self {
        self.listens = false;
        self
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
        let listens = self.listens;
        let Checked { settings, ground, folders } = self.check()?;
        let advertised = settings.text("advertised.listeners").to_owned();
        let (running, addresses) = Running::start(settings, &ground, &folders, listens)?;
        let advertised = (!advertised.is_empty()).then_some(advertised);
        Ok(Broker { addresses, advertised, life: Some(Life::Threads(Box::new(running))) })
    }

    /// Starts a broker that has no threads: it is made of tasks of the tokio runtime in which this is called, and goes
    /// by the clock of that runtime. A test whose clock is paused thereby decides when sessions expire, long polls
    /// end and records grow old, and waits for none of it. For a broker that is [`in_memory`](Self::in_memory) and
    /// has [`no_listener`](Self::no_listener).
    ///
    /// It has what the runtime has: one processor, if the runtime has one thread, and no time while somebody
    /// blocks it. Times that a *client* writes into records are those of the system all the same.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), millstream_broker::StartError> {
    /// let broker = millstream_broker::Broker::builder().in_memory().no_listener().start_here()?;
    /// tokio::time::sleep(std::time::Duration::from_secs(3600)).await; // at once, for the broker as well
    /// broker.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`StartError`]; nothing keeps running after one.
    pub fn start_here(self) -> Result<Broker, StartError> {
        if self.listens {
            return Err(StartError::NotHere("a port for Kafka clients"));
        }
        if !matches!(self.data, Data::Memory) {
            return Err(StartError::NotHere("a data folder"));
        }
        let Checked { settings, ground, folders } = self.check()?;
        if !settings.text("http.listener").is_empty() {
            return Err(StartError::NotHere("a port for HTTP"));
        }
        let here = Here::start(settings, &ground, &folders[0])?;
        let addresses = Addresses { kafka: None, http: None };
        Ok(Broker { addresses, advertised: None, life: Some(Life::Here(here)) })
    }

    fn check(self) -> Result<Checked, StartError> {
        let mut written = Written::new();
        for (name, value) in &self.settings {
            settings::write(&mut written, name, value)?;
        }
        if let Data::Folder(folder) = &self.data {
            settings::write(&mut written, "log.dir", &folder.to_string_lossy())?;
        }
        let settings = BrokerSettings::new(written)?;
        let (ground, folders) = match self.data {
            Data::AsSet => (Ground::files(), settings.data_dirs()),
            Data::Folder(folder) => (Ground::files(), vec![folder]),
            Data::Memory => (Ground::memory(), vec![IN_MEMORY_FOLDER.into()]),
        };
        Ok(Checked { settings, ground, folders })
    }
}

/// What a builder comes to.
struct Checked {
    settings: BrokerSettings,
    ground: Ground,
    folders: Vec<PathBuf>,
}

/// Where a broker can be reached.
#[derive(Debug, Clone, Copy)]
struct Addresses {
    kafka: Option<SocketAddr>,
    http: Option<SocketAddr>,
}

/// A running broker. Dropping it stops it gracefully and blocks until it has stopped, also within asynchronous code;
/// [`shutdown`](Self::shutdown) does not block. Connections [`in_process`](Self::in_process) are not waited for by a
/// drop, which may block the very thread that serves them.
///
/// ```
/// let broker = millstream_broker::Broker::builder().in_memory().listen("127.0.0.1:0").start()?;
/// println!("bootstrap.servers={}", broker.kafka_address());
/// # Ok::<(), millstream_broker::StartError>(())
/// ```
#[derive(Debug)]
pub struct Broker {
    addresses: Addresses,
    advertised: Option<String>,
    /// Taken when the broker stops.
    life: Option<Life>,
}

#[derive(Debug)]
enum Life {
    Threads(Box<Running>),
    Here(Here),
}

impl Broker {
    /// Where everything starts.
    #[must_use]
    pub fn builder() -> BrokerBuilder {
        BrokerBuilder::default()
    }

    /// Where Kafka clients are served.
    ///
    /// # Panics
    /// If the broker was started with [`BrokerBuilder::no_listener`].
    #[must_use]
    pub fn kafka_address(&self) -> SocketAddr {
        self.addresses.kafka.expect("a broker that was started with no_listener() has no address")
    }

    /// Where HTTP is served, if it is.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.addresses.http
    }

    /// HOST:PORT that clients are told to connect to; `None` if each is told the address that it dialled.
    #[must_use]
    pub fn advertised(&self) -> Option<&str> {
        self.advertised.as_deref()
    }

    /// The way to this broker from within its process: no port, no system call. Clients of `millstream-client` take it
    /// with that crate's feature `embedded`.
    #[must_use]
    pub fn in_process(&self) -> InProcess {
        match self.life() {
            Life::Threads(running) => running.in_process.clone(),
            Life::Here(here) => here.in_process.clone(),
        }
    }

    /// The hooks that decide which requests go wrong (feature `fault-hooks`, for tests of clients).
    #[cfg(feature = "fault-hooks")]
    #[must_use]
    pub fn faults(&self) -> crate::Faults {
        self.node().faults.clone()
    }

    /// Waits until every partition that was there at the start is open, or cannot be opened. Blocks; at once once it
    /// has returned.
    ///
    /// ```
    /// let broker = millstream_broker::Broker::builder().in_memory().no_listener().begin()?;
    /// let recovered = broker.wait_recovered();
    /// assert_eq!(recovered.failed, 0, "the log says why");
    /// # Ok::<(), millstream_broker::StartError>(())
    /// ```
    pub fn wait_recovered(&self) -> RecoverySummary {
        self.node().topics.recovery().wait()
    }

    /// Stops: no new connections, answers to what was read, everything on disk. Takes as long as clients take their
    /// answers, 10 s at most, and the disk what is not on it yet. Whoever drops the future does not stop this, but a
    /// broker of [`BrokerBuilder::start_here`] then gives no more answers.
    pub async fn shutdown(mut self) {
        match self.life.take() {
            Some(Life::Threads(running)) => match running.stop_elsewhere(Answer::Everybody) {
                Ok(stopping) => stopping.wait().await,
                Err(error) => no_thread(&error),
            },
            Some(Life::Here(here)) => here.shutdown().await,
            None => {}
        }
    }

    fn node(&self) -> &Node {
        match self.life() {
            Life::Threads(running) => &running.node,
            Life::Here(here) => &here.node,
        }
    }

    fn life(&self) -> &Life {
        self.life.as_ref().expect("it is taken when the broker stops")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // The other kind stops by being dropped.
        if let Some(Life::Threads(running)) = self.life.take() {
            match running.stop_elsewhere(Answer::OverSockets) {
                Ok(stopping) => stopping.join(),
                Err(error) => no_thread(&error),
            }
        }
    }
}

fn no_thread(error: &std::io::Error) {
    tracing::error!(%error, "no thread to stop the broker; the next start checks its logs");
}

/// Closes what is open and says so in the data folders.
fn close(node: &Node, data_dirs: &[DataDir]) {
    node.time.remember();
    let mut all_clean = true;
    for (directory, data_dir) in node.topics.directories().iter().zip(data_dirs) {
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
