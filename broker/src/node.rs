//! What all requests of one broker share. Made once at start; every field is read without a lock of its
//! own or guards itself.

use std::net::SocketAddr;
use std::sync::Arc;

use millstream_log::Clock;

use crate::fetch_session::FetchSessions;
use crate::frame::FrameMemory;
use crate::metadata::cluster_view::ClusterView;
use crate::metadata::producer_ids::ProducerIds;
use crate::metadata::topics::Topics;
use crate::metrics::Metrics;
use crate::settings::BrokerSettings;

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) settings: BrokerSettings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) view: Box<dyn ClusterView>,
    pub(crate) topics: Topics,
    pub(crate) producer_ids: ProducerIds,
    pub(crate) fetch_sessions: FetchSessions,
    pub(crate) frames: Arc<FrameMemory>,
    pub(crate) metrics: Metrics,
    /// Where HTTP is served, if it is.
    pub(crate) http_address: Option<SocketAddr>,
    /// The control plane: whatever may wait for the disk runs here, away from the data plane.
    pub(crate) control: tokio::runtime::Handle,
    /// Turns true when the broker stops: long polls answer at once.
    pub(crate) stopping: tokio::sync::watch::Receiver<bool>,
}

impl Node {
    /// Ready once the broker stops.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + use<> {
        let mut stopping = self.stopping.clone();
        async move {
            // An error means that the broker is gone: that is a stop, too.
            let _ = stopping.wait_for(|stop| *stop).await;
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }
}
