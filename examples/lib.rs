//! Where the examples get their broker from: `cargo run -p millstream-examples --example NAME [HOST:PORT]`.
//!
//! Without an address each starts one in its own process and in memory, asserts what it shows, and ends.

use anyhow::Result;
use millstream_broker::Broker;
use millstream_client::{Client, embedded};

/// A client, and the broker that was started for it, which has to be kept for as long.
#[derive(Debug)]
pub struct Place {
    /// Connected.
    pub client: Client,
    /// In this process, if no address was given.
    pub broker: Option<Broker>,
}

impl Place {
    /// Connects to the address that is the program's first argument, or to a broker of its own.
    ///
    /// # Errors
    /// There is no broker at that address, or none can be started.
    pub async fn from_arguments() -> Result<Self> {
        if let Some(address) = std::env::args().nth(1) {
            return Ok(Self { client: Client::builder(address).connect().await?, broker: None });
        }
        let broker = Broker::builder().in_memory().no_listener().start()?;
        let client = embedded::client(&broker).connect().await?;
        Ok(Self { client, broker: Some(broker) })
    }

    /// Stops the broker, if it is ours.
    pub async fn leave(self) {
        if let Some(broker) = self.broker {
            broker.shutdown().await;
        }
    }
}

/// A topic's name that nobody else has: brokers that somebody else started may know an earlier run.
#[must_use]
pub fn unique(prefix: &str) -> String {
    format!("{prefix}-{}", std::process::id())
}

/// The programs of the tutorial are tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/RUST.md")]
struct Tutorial;
