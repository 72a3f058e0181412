//! A whole broker on one thread, over a simulated disk, clock and network: the same seed gives the same run.
//!
//! Everything from a connection's bytes down to the disk is the code that serves real clients. Left out are
//! the ports, the threads and the lock of the data folder; their work is done by whoever drives the
//! simulation, one step at a time: [`SimBroker::flush_step`] is a turn of a flusher thread.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millstream_log::{Clock, CompactLimits, Demand, Disk, Flusher, ManualClock, Pace, PowerCut, SimDisk};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::StartError;
use crate::connection::Connection;
use crate::connection::pipe::InProcessStream;
use crate::dispatch::Peer;
use crate::groups;
use crate::machine::{Control, Machine, Uuids};
use crate::meta_store::LocalMetaStore;
use crate::metadata::believed_time::REMEMBER_EACH;
use crate::metadata::cluster_view::Dialled;
use crate::metadata::identity;
use crate::node::{Node, NodeParts};
use crate::settings::{self, BrokerSettings, Written};
use crate::storage::data_dir::DataDir;
use crate::storage::directory::{Directory, DirectoryParts};
use crate::storage::folders::FIRST;
use crate::storage::maintenance::{Cleaner, Keeper};
use crate::transactions;

const FOLDER: &str = "/data";

/// What a simulated broker runs on.
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// Outlives the broker.
    pub disk: SimDisk,
    /// The wall clock, and the steady one.
    pub clock: Arc<ManualClock>,
    /// As [`crate::BrokerBuilder::set`] takes them.
    pub settings: Vec<(String, String)>,
    /// Where ids come from.
    pub seed: u64,
}

/// A broker in a simulation. To be used within a runtime of one thread whose time is paused.
#[derive(Debug)]
pub struct SimBroker {
    node: Arc<Node>,
    disk: SimDisk,
    data_dir: DataDir,
    flusher: Arc<Flusher>,
    connections: Mutex<JoinSet<()>>,
    clock: Arc<ManualClock>,
    upkeep: Mutex<Upkeep>,
}

/// What the maintenance threads have.
#[derive(Debug)]
struct Upkeep {
    keepers: Vec<Keeper>,
    cleaners: Vec<Cleaner>,
    began_ms: i64,
    /// When the time was remembered last.
    remembered_ms: i64,
}

impl SimBroker {
    /// Starts a broker over what is on the disk; when this returns its partitions are recovered.
    ///
    /// # Errors
    /// As for [`crate::BrokerBuilder::start`].
    pub fn start(options: SimOptions) -> Result<Self, StartError> {
        let SimOptions { disk, clock, settings: set, seed } = options;
        let mut written = Written::new();
        for (name, value) in &set {
            settings::write(&mut written, name, value)?;
        }
        let settings = BrokerSettings::new(written)?;
        let flusher = Flusher::stepped(clock.clone());
        let shared: Arc<dyn Disk> = Arc::new(disk.for_process());
        let machine =
            Machine { clock: clock.clone(), uuids: Arc::new(Uuids::Seeded(Mutex::new(seed))), threads: 1 };
        let folder = Path::new(FOLDER);
        let mut data_dir = DataDir::unlocked(Arc::clone(&shared), folder)?;
        data_dir.prepare(None)?;
        let clean = data_dir.take_clean_mark()?;
        let store = Arc::new(LocalMetaStore::open(Arc::clone(&shared), &data_dir.meta())?);
        let identity = identity::claim(&*store, &machine.uuids, clean)?;
        data_dir.settle(clean)?;
        let directory = Directory::new(DirectoryParts {
            id: FIRST,
            path: folder.to_owned(),
            disk: Arc::clone(&shared),
            flusher: Arc::clone(&flusher),
            clean: identity.clean,
            low_water: settings.low_water,
        });
        let parts = NodeParts {
            machine,
            control: Control::Tasks(Handle::current()),
            identity,
            store,
            directories: vec![directory],
            missing: Vec::new(),
            http_address: None,
        };
        let node = Arc::new(Node::open(settings, parts)?);
        node.topics.recover(&|| false);
        node.groups.warm_up(&node);
        node.transactions.warm_up(&node);
        drop(tokio::spawn(groups::keep_time(Arc::clone(&node))));
        drop(tokio::spawn(transactions::keep_time(Arc::clone(&node))));
        drop(tokio::spawn(transactions::orphans::keep_watch(Arc::clone(&node))));
        drop(tokio::spawn(transactions::write_markers(Arc::clone(&node))));
        node.time.remember();
        let directories = node.topics.directories();
        let began_ms = clock.steady_ms();
        let upkeep = Mutex::new(Upkeep {
            keepers: directories.iter().map(|one| Keeper::new(Arc::clone(&node), Arc::clone(one))).collect(),
            cleaners: directories
                .iter()
                .map(|one| Cleaner::new(Arc::clone(&node), Arc::clone(one)))
                .collect(),
            began_ms,
            remembered_ms: began_ms,
        });
        Ok(Self { node, disk, data_dir, flusher, connections: Mutex::default(), clock, upkeep })
    }

    /// Partitions that could not be opened at the start.
    #[must_use]
    pub fn unopened_partitions(&self) -> usize {
        self.node.topics.recovery().summary().failed
    }

    /// The client's end of a new connection.
    #[must_use]
    pub fn connect(&self) -> InProcessStream {
        let (ours, theirs) = InProcessStream::pair();
        let address = ([127, 0, 0, 1], 9092).into();
        let peer = Peer { address, dialled: Dialled::Socket(address) };
        let connection = Connection::new(Arc::clone(&self.node), peer, ours);
        self.connections.lock().spawn(connection.serve());
        theirs
    }

    /// Whether a connection's task has panicked since this was last asked.
    #[must_use]
    pub fn has_panicked(&self) -> bool {
        let mut connections = self.connections.lock();
        let ended = std::iter::from_fn(|| connections.try_join_next());
        ended.filter_map(Result::err).any(|error| error.is_panic())
    }

    /// One turn of a flusher thread. Tells whether there was anything to do.
    pub fn flush_step(&self) -> bool {
        self.flusher.step()
    }

    /// One round of what the maintenance threads do.
    pub fn maintain(&self) {
        let now_ms = self.clock.steady_ms();
        let since = |then_ms: i64| Duration::from_millis(u64::try_from(now_ms - then_ms).unwrap_or(0));
        let upkeep = &mut *self.upkeep.lock();
        if since(upkeep.remembered_ms) >= REMEMBER_EACH {
            upkeep.remembered_ms = now_ms;
            self.node.time.remember();
        }
        let now = since(upkeep.began_ms);
        for keeper in &mut upkeep.keepers {
            keeper.step(now);
        }
        for cleaner in &mut upkeep.cleaners {
            cleaner.step(now);
        }
        self.compact();
    }

    /// Compacts what is to be compacted, due or not.
    fn compact(&self) {
        let limits = CompactLimits { demand: Demand::Now, dedupe_buffer_bytes: 4096 };
        for topic in self.node.topics.snapshot().sorted() {
            if topic.settings.log_config().cleanup.compacts() {
                for log in topic.partitions.iter().filter_map(|partition| partition.log().ok()) {
                    // A run that fails leaves the log as it was; what is there is judged in the end.
                    let _ = log.compact(limits, &Pace::unlimited(), &mut |_| ControlFlow::Continue(()));
                }
            }
        }
    }

    /// The power fails: nothing more of this broker reaches the disk, and the disk loses what `cut` says.
    pub async fn crash(self, cut: PowerCut) {
        self.disk.power_cut(cut);
        self.end().await;
    }

    /// The process is killed: what it has written is there, synced or not.
    pub async fn kill(self) {
        self.disk.kill();
        self.end().await;
    }

    /// Stops as a real broker does: requests that were read are answered, logs are closed. Tells whether the next
    /// start finds everything in order.
    pub async fn shutdown(self) -> bool {
        self.node.stop();
        let mut connections = std::mem::take(&mut *self.connections.lock());
        // Answers may wait for a flush.
        while !connections.is_empty() {
            while self.flusher.step() {}
            tokio::select! {
                biased;
                _ = connections.join_next() => {}
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
            }
        }
        while self.flusher.step() {}
        self.node.time.remember();
        let closed = self.node.topics.directories().iter().all(|one| self.node.topics.close(one).is_ok());
        closed && self.data_dir.mark_clean().is_ok()
    }

    async fn end(self) {
        let mut connections = std::mem::take(&mut *self.connections.lock());
        connections.shutdown().await;
        self.flusher.abandon();
    }
}
