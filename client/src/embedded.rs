//! A client of a broker inside the same process: no port, no socket, no system call.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use millstream_broker::Broker;
//! use millstream_client::{NewTopic, embedded};
//!
//! let broker = Broker::builder().in_memory().no_listener().start()?;
//! let client = embedded::client(&broker).connect().await?;
//! client.admin().create_topic(NewTopic::new("orders").partitions(3)).await?;
//! assert_eq!(client.admin().list_topics().await?.len(), 1);
//! broker.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! A request is handled by the runtime that sends it. Everything else is as over TCP: the same bytes, the same errors,
//! the same limits. A client whose clock is paused (`tokio::time::pause`) needs a broker that goes by the same clock:
//! `BrokerBuilder::start_here`. With any other, time that the broker takes looks like time in which nothing happens,
//! so the client's timeouts come due while it waits.

use std::io;
use std::sync::Arc;

use millstream_broker::{Broker, IN_PROCESS, InProcess};

use crate::address::Address;
use crate::builder::ClientBuilder;
use crate::client::Client;
use crate::transport::{Connecting, Stream, Transport};

/// The address that stands for the broker in this process, wherever one has to be named.
pub const ADDRESS: &str = IN_PROCESS;

/// A client of this broker, to be set up further and connected. Does not keep the broker running.
pub fn client(broker: &Broker) -> ClientBuilder {
    Client::builder(ADDRESS).transport(transport(broker))
}

/// Opens connections to this broker and to no other: for a transport that is put around this one. Its address is
/// [`ADDRESS`]; another one is refused with `Unsupported`, and once the broker has stopped all are with
/// `ConnectionRefused`.
#[must_use]
pub fn transport(broker: &Broker) -> Arc<dyn Transport> {
    Arc::new(Embedded { broker: broker.in_process() })
}

#[derive(Debug)]
struct Embedded {
    broker: InProcess,
}

impl Transport for Embedded {
    fn connect<'a>(&'a self, address: &'a Address) -> Connecting<'a> {
        Box::pin(async move {
            if address.host() != ADDRESS {
                let message = "this client reaches the broker in its own process, and no other";
                return Err(io::Error::new(io::ErrorKind::Unsupported, message));
            }
            let (read, write) = tokio::io::split(self.broker.connect()?);
            Ok(Stream { read: Box::new(read), write: Box::new(write) })
        })
    }
}
