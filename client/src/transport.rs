//! How bytes get to a broker: TCP, unless somebody puts another way in its place.
//!
//! The seam for TLS, for a broker inside the same process, and for tests that play the broker. Knows no
//! frame and no request.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::address::Address;

/// The reading half of a connection.
pub type ReadHalf = Box<dyn AsyncRead + Send + Unpin>;
/// The writing half of a connection.
pub type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;
/// What [`Transport::connect`] gives back.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send + 'a>>;

/// Both halves of an open connection.
pub struct Stream {
    /// What the broker sends.
    pub read: ReadHalf,
    /// What the broker gets.
    pub write: WriteHalf,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}

/// Opens connections. The caller bounds the time it may take.
pub trait Transport: Send + Sync + fmt::Debug {
    /// Opens one connection to `address`.
    fn connect<'a>(&'a self, address: &'a Address) -> Connecting<'a>;
}

/// Plain TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

impl Transport for Tcp {
    fn connect<'a>(&'a self, address: &'a Address) -> Connecting<'a> {
        Box::pin(async move {
            let stream = TcpStream::connect((address.host(), address.port())).await?;
            // Requests are whole when they are written: waiting for more would only add latency.
            stream.set_nodelay(true)?;
            let (read, write) = stream.into_split();
            Ok(Stream { read: Box::new(read), write: Box::new(write) })
        })
    }
}
