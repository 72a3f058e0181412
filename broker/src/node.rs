//! What all requests of one broker share. Made once at start; every field is read without a lock of its
//! own or guards itself.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};

use millstream_log::{CleanStart, Clock};
use tokio::sync::Notify;

use crate::connection::frame::FrameMemory;
use crate::fetch_session::FetchSessions;
use crate::groups::Groups;
use crate::machine::{Control, Machine, Uuids};
use crate::meta_store::{MetaError, MetaStore};
use crate::metadata::believed_time::BelievedTime;
use crate::metadata::cluster_view::{ClusterView, SingleNode};
use crate::metadata::features::Features;
use crate::metadata::identity::Identity;
use crate::metadata::live_settings::LiveSettings;
use crate::metadata::producer_ids::ProducerIds;
use crate::metadata::topics::{Logs, Topics};
use crate::metrics::Metrics;
use crate::settings::BrokerSettings;
use crate::storage::compactions::Compactions;
use crate::storage::directory::Directory;
use crate::storage::folders::Missing;
use crate::transactions::Transactions;

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) settings: LiveSettings,
    /// The wall clock, which stamps records.
    pub(crate) clock: Arc<dyn Clock>,
    /// The clock of the logs, by which ages are judged.
    pub(crate) time: BelievedTime,
    pub(crate) view: Box<dyn ClusterView>,
    /// What is kept of all this.
    pub(crate) store: Arc<dyn MetaStore>,
    pub(crate) features: Features,
    pub(crate) topics: Topics,
    pub(crate) groups: Groups,
    pub(crate) transactions: Transactions,
    pub(crate) producer_ids: ProducerIds,
    /// Where new ids come from.
    pub(crate) uuids: Arc<Uuids>,
    pub(crate) fetch_sessions: FetchSessions,
    pub(crate) frames: Arc<FrameMemory>,
    pub(crate) metrics: Metrics,
    pub(crate) compactions: Compactions,
    #[cfg(feature = "fault-hooks")]
    pub(crate) faults: crate::dispatch::faults::Faults,
    /// Where HTTP is served, if it is.
    pub(crate) http_address: Option<SocketAddr>,
    /// The control plane: whatever may wait for the disk runs here, away from the data plane.
    pub(crate) control: Control,
    pub(crate) stop: Arc<Stop>,
}

/// Whether the broker stops. Who waits for it is woken in the order of coming, so that a simulation repeats; a
/// `watch` wakes by chance.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    is_set: AtomicBool,
    set: Notify,
}

/// What a node is made of besides its settings.
pub(crate) struct NodeParts {
    pub(crate) machine: Machine,
    pub(crate) control: Control,
    pub(crate) identity: Identity,
    pub(crate) store: Arc<dyn MetaStore>,
    /// The data folders that are used; the first has the metadata.
    pub(crate) directories: Vec<Arc<Directory>>,
    /// Those that should be and cannot.
    pub(crate) missing: Vec<Arc<Missing>>,
    pub(crate) http_address: Option<SocketAddr>,
}

impl Node {
    /// Reads what is on disk; logs are opened later.
    pub(crate) fn open(settings: BrokerSettings, parts: NodeParts) -> Result<Self, MetaError> {
        let NodeParts { machine, control, identity, store, directories, missing, http_address } = parts;
        if identity.clean == CleanStart::No {
            tracing::info!(epoch = %identity.leader_epoch, "the last broker here did not stop cleanly; logs are checked");
        }
        let live = LiveSettings::load(settings, Arc::clone(&store))?;
        let settings = live.now();
        let (clock, uuids) = (Arc::clone(&machine.clock), Arc::clone(&machine.uuids));
        let time = BelievedTime::new(Arc::clone(&store), Arc::clone(&clock), settings.clock_hold)?;
        let machine = Machine { clock: time.clock(), ..machine };
        let logs = Logs { machine, leader_epoch: identity.leader_epoch, directories, missing };
        let topics = Topics::load(Arc::clone(&store), logs, &settings.topic_defaults)?;
        let metrics = Metrics::new(topics.directories());
        let view = SingleNode {
            cluster_id: identity.cluster_id,
            epoch: identity.leader_epoch,
            advertised: settings.advertised.clone(),
        };
        Ok(Self {
            clock,
            time,
            view: Box::new(view),
            features: Features::load(Arc::clone(&store))?,
            topics,
            groups: Groups::new(),
            transactions: Transactions::new(),
            producer_ids: ProducerIds::new(Arc::clone(&store)),
            store,
            uuids,
            fetch_sessions: FetchSessions::new(settings.fetch_session_slots),
            frames: FrameMemory::new(settings.frames_in_flight_bytes),
            metrics,
            compactions: Compactions::default(),
            #[cfg(feature = "fault-hooks")]
            faults: crate::dispatch::faults::Faults::default(),
            http_address,
            control,
            stop: Arc::default(),
            settings: live,
        })
    }

    /// The settings that are in force at this moment.
    pub(crate) fn settings(&self) -> impl Deref<Target = Arc<BrokerSettings>> + use<> {
        self.settings.now()
    }

    /// The broker stops: long polls answer at once, connections end.
    pub(crate) fn stop(&self) {
        self.stop.is_set.store(true, Release);
        self.stop.set.notify_waiters();
    }

    /// Ready once the broker stops.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + use<> {
        let stop = Arc::clone(&self.stop);
        async move {
            // Counts as waiting from here on, before the look.
            let set = stop.set.notified();
            if !stop.is_set.load(Acquire) {
                set.await;
            }
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.is_set.load(Acquire)
    }
}
