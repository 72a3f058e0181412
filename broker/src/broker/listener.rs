//! Ports: claimed early, served once everything behind them is ready.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::StartError;
use crate::connection::Connection;
use crate::dispatch::Peer;
use crate::metadata::cluster_view::Dialled;
use crate::node::Node;

/// Connections that the system holds until they are accepted.
const BACKLOG: i32 = 1024;

/// How long accepting rests when the system is out of files or memory: trying at once would spin.
const REST: Duration = Duration::from_millis(200);

/// A port that is ours, but not yet open.
#[derive(Debug)]
pub(super) struct Listener {
    setting: &'static str,
    written: String,
    socket: Socket,
    address: SocketAddr,
}

impl Listener {
    /// Claims the address, so that a port in use is known before anything is recovered.
    pub(super) fn bind(setting: &'static str, written: &str) -> Result<Self, StartError> {
        let failed = |error| StartError::Listen { setting, address: written.to_owned(), error };
        let plain = written.strip_prefix("PLAINTEXT://").unwrap_or(written);
        let mut addresses = plain.to_socket_addrs().map_err(failed)?;
        let none = || failed(io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address"));
        let wanted = addresses.next().ok_or_else(none)?;
        let bind = || {
            let socket = Socket::new(Domain::for_address(wanted), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&wanted.into())?;
            let address = socket.local_addr()?.as_socket().unwrap_or(wanted);
            Ok((socket, address))
        };
        let (socket, address) = bind().map_err(failed)?;
        Ok(Self { setting, written: written.to_owned(), socket, address })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Opens the port; `runtime` is told when somebody connects.
    pub(super) fn listen(self, runtime: &Runtime) -> Result<tokio::net::TcpListener, StartError> {
        let Self { setting, written, socket, .. } = self;
        let _within = runtime.enter();
        let listen = || {
            socket.listen(BACKLOG)?;
            tokio::net::TcpListener::from_std(TcpListener::from(socket))
        };
        listen().map_err(|error| StartError::Listen { setting, address: written, error })
    }

    /// Opens the port for Kafka clients.
    pub(super) fn serve(
        self,
        runtime: &Runtime,
        node: Arc<Node>,
        connections: Arc<Semaphore>,
    ) -> Result<(), StartError> {
        let listener = self.listen(runtime)?;
        runtime.spawn(accept(listener, node, connections));
        Ok(())
    }
}

/// The most connections that could ever be allowed. Taking all of their slots waits for the end of all.
pub(super) const SLOTS: usize = i32::MAX as usize;

/// Ready once nobody has a slot.
pub(super) async fn all_returned(slots: &Semaphore) {
    let all = u32::try_from(SLOTS).expect("it came from an i32");
    // A closed semaphore gives no permits, and nobody closes this one.
    let _ = slots.acquire_many(all).await;
}

async fn accept(listener: tokio::net::TcpListener, node: Arc<Node>, connections: Arc<Semaphore>) {
    let stop = node.stopped();
    tokio::pin!(stop);
    let mut was_refused = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                was_refused = false;
                admit(&node, &connections, stream, address);
            }
            // The peer gave up before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !was_refused {
                    tracing::error!(%error, "connections cannot be accepted; if files ran out, raise the limit (ulimit -n)");
                }
                was_refused = true;
                tokio::time::sleep(REST).await;
            }
        }
    }
}

fn admit(node: &Arc<Node>, connections: &Arc<Semaphore>, stream: TcpStream, address: SocketAddr) {
    let most = node.settings().connections_max;
    // Nobody but this task takes slots, so that there is one if it says so.
    let slot = match SLOTS - connections.available_permits() < most {
        true => Arc::clone(connections).try_acquire_owned().ok(),
        false => None,
    };
    let Some(slot) = slot else {
        node.metrics.connection_refused();
        tracing::warn!(peer = %address, "connection closed: there are {most} already (max.connections)");
        return;
    };
    let dialled = match stream.local_addr().and_then(|dialled| stream.set_nodelay(true).map(|()| dialled)) {
        Ok(dialled) => dialled,
        Err(error) => {
            tracing::debug!(peer = %address, %error, "connection lost");
            return;
        }
    };
    let open = Open::new(Arc::clone(node), slot);
    let dialled = Dialled::Socket(dialled);
    let connection = Connection::new(Arc::clone(node), Peer { address, dialled }, stream);
    tokio::spawn(async move {
        connection.serve().await;
        drop(open);
    });
}

/// Counts a connection for as long as it lives, also when its task panics.
pub(super) struct Open {
    node: Arc<Node>,
    _slot: OwnedSemaphorePermit,
}

impl Open {
    pub(super) fn new(node: Arc<Node>, slot: OwnedSemaphorePermit) -> Self {
        node.metrics.connection_opened();
        Self { node, _slot: slot }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.node.metrics.connection_closed();
    }
}
