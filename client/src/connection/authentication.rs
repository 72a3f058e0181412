//! Saying who one is, before anything else: the seam for SASL.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use super::Connection;
use crate::error::ClientError;

/// What [`Authenticator::authenticate`] gives back.
pub type Authenticating<'a> = Pin<Box<dyn Future<Output = Result<(), AuthenticationError>> + Send + 'a>>;

/// Says to a broker who we are, on each new connection, after versions are agreed on and before anything else is sent.
/// The client's connect timeout bounds it.
///
/// ```
/// use millstream_client::{Authenticating, AuthenticationError, Authenticator, Connection};
///
/// /// Expects brokers to know us by our certificate, and refuses those on another port.
/// #[derive(Debug)]
/// struct ByCertificate;
///
/// impl Authenticator for ByCertificate {
///     fn authenticate<'a>(&'a self, connection: &'a Connection) -> Authenticating<'a> {
///         Box::pin(async move {
///             match connection.address().ends_with(":9093") {
///                 true => Ok(()),
///                 false => Err(AuthenticationError::Refused("only port 9093 has TLS".to_owned())),
///             }
///         })
///     }
/// }
/// ```
pub trait Authenticator: Send + Sync + fmt::Debug {
    /// Exchanges what is needed over the connection, by [`Connection::send`].
    fn authenticate<'a>(&'a self, connection: &'a Connection) -> Authenticating<'a>;
}

/// Why a broker does not know who we are.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AuthenticationError {
    /// It does not accept what we say. Trying again will not help.
    #[error("{0}")]
    Refused(String),
    /// A request got no usable answer.
    #[error(transparent)]
    Request(#[from] ClientError),
}
