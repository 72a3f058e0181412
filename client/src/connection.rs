//! One connection to one broker: requests are pipelined, replies come back in the order of the requests.
//!
//! ```text
//! callers -- commands (bounded) --> driver task -- outbox --> socket
//!         <- one oneshot per call --            <- inbox  --
//! ```
//! The driver task owns both halves of the socket and is the only one that touches them; a caller encodes
//! its request and decodes its reply in its own task. A caller that goes away leaves nothing behind but a
//! reply that is read and dropped. A connection is never repaired: the first thing that is wrong ends it,
//! and everything in flight is told whether it may have arrived. Whoever holds it opens another.

mod authentication;
mod driver;
mod metering;
mod negotiation;

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use millstream_protocol::messages::ProduceRequest;
use millstream_protocol::{ApiKey, Chunk, Request, decode_response, encode_request};
use tokio::sync::{mpsc, oneshot};

use crate::address::Address;
use crate::error::{Attempt, ClientError, Progress};
use crate::transport::Transport;
pub use authentication::{Authenticating, AuthenticationError, Authenticator};
use driver::{Command, Driver, Expect};
use negotiation::ApiVersions;

/// Limits of a connection.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionSettings {
    pub(crate) client_id: Option<String>,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) max_reply_bytes: usize,
    pub(crate) max_in_flight: usize,
    pub(crate) authenticator: Option<Arc<dyn Authenticator>>,
}

/// How one request is to be sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct CallOptions {
    /// Use no newer version than this.
    pub newest_version: Option<i16>,
    /// How long the broker may work before it answers, on top of the client's request timeout: what a long
    /// poll asks for.
    pub broker_may_take: Duration,
}

/// An open connection. Clones share it; it closes when the last one is gone and nothing is in flight.
#[derive(Clone)]
pub struct Connection {
    link: Link,
    versions: Arc<ApiVersions>,
}

impl Connection {
    /// Connects and agrees on versions.
    pub(crate) async fn open(
        transport: &dyn Transport,
        address: &Address,
        settings: &Arc<ConnectionSettings>,
    ) -> Result<Self, ClientError> {
        let shown = address.to_string();
        let unreachable = |reason: String| ClientError::Unreachable {
            attempts: vec![Attempt { address: shown.clone(), reason }],
        };
        let stream = tokio::time::timeout(settings.connect_timeout, transport.connect(address))
            .await
            .map_err(|_| unreachable(format!("no connection within {:?}", settings.connect_timeout)))?
            .map_err(|error| unreachable(error.to_string()))?;
        let (commands, receiver) = mpsc::channel(settings.max_in_flight);
        let shown: Arc<str> = shown.into();
        tokio::spawn(Driver::new(stream, receiver, shown.clone(), settings).run());
        let link = Link {
            shared: Arc::new(LinkShared {
                address: shown,
                commands,
                next_correlation_id: AtomicI32::new(0),
                settings: settings.clone(),
            }),
        };
        let versions = negotiation::negotiate(&link).await?;
        let connection = Self { link, versions: Arc::new(versions) };
        if let Some(authenticator) = &settings.authenticator {
            connection.introduce(&**authenticator, settings.connect_timeout).await?;
        }
        Ok(connection)
    }

    /// Says who we are.
    async fn introduce(
        &self,
        authenticator: &dyn Authenticator,
        timeout: Duration,
    ) -> Result<(), ClientError> {
        let address = || self.address().to_owned();
        let late = |_| ClientError::Unreachable {
            attempts: vec![Attempt {
                address: address(),
                reason: format!("not authenticated within {timeout:?}"),
            }],
        };
        let known = tokio::time::timeout(timeout, authenticator.authenticate(self)).await.map_err(late)?;
        known.map_err(|error| match error {
            AuthenticationError::Refused(reason) => {
                ClientError::Unauthenticated { address: address(), reason }
            }
            AuthenticationError::Request(error) if error.is_retriable() => ClientError::Unreachable {
                attempts: vec![Attempt { address: address(), reason: error.to_string() }],
            },
            AuthenticationError::Request(error) => {
                ClientError::Unauthenticated { address: address(), reason: error.to_string() }
            }
        })
    }

    /// Where it leads, as `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.link.shared.address
    }

    /// Whether requests can still be sent. It may end at any moment afterwards.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.link.shared.commands.is_closed()
    }

    /// The version in which a request of this kind would be sent.
    pub fn version_of<R: Request>(&self, options: CallOptions) -> Result<i16, ClientError> {
        self.versions.choose(R::KEY, options.newest_version, &self.link.shared.address)
    }

    /// The level that the cluster has agreed on for a feature, such as `transaction.version`, as of when the
    /// connection was opened. `None`: the broker does not say.
    #[must_use]
    pub fn feature(&self, name: &str) -> Option<i16> {
        self.versions.feature(name)
    }

    /// Queues a request, once fewer than `max_in_flight` are under way; what one caller sends in sequence
    /// leaves in that order. The reply is awaited separately, so that more can follow at once.
    ///
    /// Cancel safe: a call that is dropped before it returns has sent nothing.
    pub async fn send<R: Request>(&self, request: &R, options: CallOptions) -> Result<Reply<R>, ClientError> {
        let version = self.version_of::<R>(options)?;
        self.link.send(request, version, options.broker_may_take).await
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("address", &self.address()).finish_non_exhaustive()
    }
}

/// The sending end towards a driver, before versions are known.
#[derive(Clone)]
struct Link {
    shared: Arc<LinkShared>,
}

struct LinkShared {
    address: Arc<str>,
    commands: mpsc::Sender<Command>,
    next_correlation_id: AtomicI32,
    settings: Arc<ConnectionSettings>,
}

impl Link {
    async fn send<R: Request>(
        &self,
        request: &R,
        version: i16,
        broker_may_take: Duration,
    ) -> Result<Reply<R>, ClientError> {
        let shared = &*self.shared;
        let correlation_id = shared.next_correlation_id.fetch_add(1, Ordering::Relaxed) & i32::MAX;
        let frame = encode_request(version, correlation_id, shared.settings.client_id.as_deref(), request)
            .map_err(|source| ClientError::Encode { api: R::KEY, version, source })?;
        let (reply, receiver) = oneshot::channel();
        let command = Command {
            frame: frame.into_iter().map(Chunk::into_bytes).collect(),
            correlation_id,
            api: R::KEY,
            timeout: shared.settings.request_timeout + broker_may_take,
            expect: if is_unanswered(request) { Expect::Nothing } else { Expect::Reply },
            reply,
        };
        shared.commands.send(command).await.map_err(|_| ClientError::Disconnected {
            address: shared.address.to_string(),
            reason: "it was already closed".to_owned(),
            progress: Progress::NotSent,
        })?;
        Ok(Reply { receiver, version, address: shared.address.clone(), request: PhantomData })
    }
}

/// A Produce with `acks=0` is the one request that Kafka does not answer.
fn is_unanswered<R: Request>(request: &R) -> bool {
    (request as &dyn std::any::Any).downcast_ref::<ProduceRequest>().is_some_and(|produce| produce.acks == 0)
}

/// A reply on its way. Dropping it gives up the reply, not the request.
///
/// For a request that Kafka does not answer (Produce with `acks=0`) it resolves to an empty response once the
/// request has been handed to the operating system.
#[must_use = "the outcome of the request is only known from its reply"]
pub struct Reply<R> {
    receiver: oneshot::Receiver<Result<Option<Bytes>, ClientError>>,
    version: i16,
    address: Arc<str>,
    request: PhantomData<fn() -> R>,
}

impl<R> Reply<R> {
    /// The version in which the request was sent.
    #[must_use]
    pub fn version(&self) -> i16 {
        self.version
    }
}

impl<R: Request> Reply<R> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ClientError>> {
        let outcome = ready!(Pin::new(&mut self.receiver).poll(cx));
        Poll::Ready(outcome.unwrap_or_else(|_| Err(self.orphaned())))
    }

    /// The driver died without a word: the runtime is going down.
    fn orphaned(&self) -> ClientError {
        ClientError::Disconnected {
            address: self.address.to_string(),
            reason: "the runtime was shut down".to_owned(),
            progress: Progress::MaybeSent,
        }
    }

    fn undecodable(&self, api: ApiKey) -> impl FnOnce(millstream_protocol::wire::DecodeError) -> ClientError {
        let (address, version) = (self.address.to_string(), self.version);
        move |source| ClientError::Decode { address, api, version, source }
    }
}

impl<R: Request> Future for Reply<R> {
    type Output = Result<R::Response, ClientError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = match ready!(self.poll_frame(cx)) {
            Ok(None) => Ok(R::Response::default()),
            Ok(Some(frame)) => decode_response::<R>(&frame, self.version)
                .map(|(_, response)| response)
                .map_err(self.undecodable(R::KEY)),
            Err(error) => Err(error),
        };
        Poll::Ready(response)
    }
}

impl<R> fmt::Debug for Reply<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("version", &self.version).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
