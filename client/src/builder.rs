//! Settings of a client.

mod properties;

use std::sync::Arc;
use std::time::Duration;

use crate::address::Address;
use crate::backoff::Backoff;
use crate::client::Client;
use crate::connection::{Authenticator, ConnectionSettings};
use crate::error::ClientError;
use crate::transport::{Tcp, Transport};

pub use properties::{Properties, PropertyError};

/// Builds a [`Client`]. Every setting has a default that suits a cluster nearby.
#[derive(Debug, Clone)]
#[must_use = "call connect()"]
pub struct ClientBuilder {
    bootstrap: String,
    transport: Arc<dyn Transport>,
    connection: ConnectionSettings,
    retry: RetrySettings,
}

/// When to try again and when to give up.
#[derive(Debug, Clone)]
pub(crate) struct RetrySettings {
    pub(crate) total_timeout: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) metadata_max_age: Duration,
}

impl ClientBuilder {
    pub(crate) fn new(bootstrap: &str) -> Self {
        Self {
            bootstrap: bootstrap.to_owned(),
            transport: Arc::new(Tcp),
            connection: ConnectionSettings {
                client_id: Some("millstream".to_owned()),
                connect_timeout: Duration::from_secs(5),
                request_timeout: Duration::from_secs(30),
                max_reply_bytes: 128 * 1024 * 1024,
                max_in_flight: 32,
                authenticator: None,
            },
            retry: RetrySettings {
                total_timeout: Duration::from_secs(60),
                backoff: Backoff::default(),
                metadata_max_age: Duration::from_secs(300),
            },
        }
    }

    /// What the broker's logs, metrics and quotas call this client. Default: `millstream`.
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.connection.client_id = Some(client_id.into());
        self
    }

    /// How long a connection may take to open, for each address. Default: 5 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connection.connect_timeout = timeout;
        self
    }

    /// How long one request waits for its answer before its connection is given up. Default: 30 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.connection.request_timeout = timeout;
        self
    }

    /// How long a call goes on trying, all attempts and waits together. Default: 60 s.
    pub fn total_timeout(mut self, timeout: Duration) -> Self {
        self.retry.total_timeout = timeout;
        self
    }

    /// Waits between attempts. Default: 20 ms, doubling up to 1 s, with jitter.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.retry.backoff = backoff;
        self
    }

    /// How old metadata may be before it is asked for again; errors that point to stale metadata refresh it
    /// at once. Default: 5 min.
    pub fn metadata_max_age(mut self, age: Duration) -> Self {
        self.retry.metadata_max_age = age;
        self
    }

    /// The largest reply that is accepted; a larger one ends its connection before anything is allocated for
    /// it. Default: 128 MiB.
    pub fn max_reply_bytes(mut self, bytes: usize) -> Self {
        self.connection.max_reply_bytes = bytes;
        self
    }

    /// Requests under way on one connection; further ones wait. Default: 32.
    pub fn max_in_flight(mut self, requests: usize) -> Self {
        self.connection.max_in_flight = requests.max(1);
        self
    }

    /// How connections are opened. Default: [`Tcp`].
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = transport;
        self
    }

    /// Says to each broker who we are. Default: nothing is said.
    pub fn authenticator(mut self, authenticator: Arc<dyn Authenticator>) -> Self {
        self.connection.authenticator = Some(authenticator);
        self
    }

    /// Connects to the first address that answers.
    ///
    /// One round over all addresses, no more: at start-up a wrong address should be told at once. Later, a
    /// broker that is away for a moment is waited for.
    ///
    /// # Errors
    /// [`ClientError::InvalidAddress`], or [`ClientError::Unreachable`] with what went wrong at each address.
    pub async fn connect(self) -> Result<Client, ClientError> {
        let bootstrap = Address::parse_list(&self.bootstrap)?;
        let client = Client::new(bootstrap, self.transport, self.connection, self.retry);
        client.introduce().await?;
        Ok(client)
    }
}
