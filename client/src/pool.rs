//! The open connections of one client handle, by address.
//!
//! One connection per address. Whoever comes while it is being opened waits for the same one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Instrument;

use crate::address::Address;
use crate::connection::{Connection, ConnectionSettings};
use crate::error::ClientError;
use crate::transport::Transport;

/// At most one connection, and a queue of those who wait for it.
type Slot = Arc<tokio::sync::Mutex<Option<Connection>>>;

/// Bounded by the number of distinct addresses that metadata and bootstrap list name.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    slots: Mutex<HashMap<Address, Slot>>,
}

impl Pool {
    /// The connection to `address`, opened if there is none.
    pub(crate) async fn connection(
        &self,
        address: &Address,
        transport: &dyn Transport,
        settings: &Arc<ConnectionSettings>,
    ) -> Result<Connection, ClientError> {
        let slot = self.slot(address);
        let mut slot = slot.lock().await;
        if let Some(open) = slot.as_ref().filter(|connection| connection.is_open()) {
            return Ok(open.clone());
        }
        *slot = None;
        let span = tracing::debug_span!("connect", %address);
        let opened = Connection::open(transport, address, settings).instrument(span).await?;
        tracing::debug!(%address, "connected");
        metrics::counter!("millstream_client_connections_total").increment(1);
        *slot = Some(opened.clone());
        Ok(opened)
    }

    /// A connection that is open already, to whichever broker.
    pub(crate) fn any_open(&self) -> Option<Connection> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open = slots.values().filter_map(|slot| slot.try_lock().ok()?.clone());
        open.find(Connection::is_open)
    }

    fn slot(&self, address: &Address) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry(address.clone()).or_default().clone()
    }
}
