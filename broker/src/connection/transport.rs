//! What a connection needs of the thing that carries its bytes: a socket, or a pipe in memory (`pipe`).
//!
//! Generic, never `dyn`: for a socket it compiles to the system calls and nothing else.

use std::future::Future;
use std::io;
use std::os::fd::AsFd;

use bytes::Bytes;
use millstream_protocol::FileSlice;
use rustix::net::{SendFlags, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::TcpStream;

/// Whether bytes follow that had better share a packet with these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum More {
    Follows,
    No,
}

/// A byte stream in both directions. The `try_` calls fail with `WouldBlock` while the peer takes no more.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    fn try_send(&mut self, bytes: &[u8], more: More) -> io::Result<usize>;
    /// The same for what follows the first `sent` bytes of a piece, which may be kept instead of copied.
    fn try_send_piece(&mut self, piece: &Bytes, sent: usize, more: More) -> io::Result<usize> {
        self.try_send(&piece[sent..], more)
    }
    /// Sends what follows the first `sent` bytes of a slice, or a part of it; 0 if its file ends before.
    fn try_send_file(&mut self, slice: &FileSlice, sent: usize) -> io::Result<usize>;
    /// Ready when sending may be tried again.
    fn writable(&mut self) -> impl Future<Output = io::Result<()>> + Send;
    /// Holds packets back until they are full, or `uncork`.
    fn cork(&mut self) -> io::Result<()>;
    fn uncork(&mut self) -> io::Result<()>;
}

impl Transport for TcpStream {
    fn try_send(&mut self, bytes: &[u8], more: More) -> io::Result<usize> {
        let flags = match more {
            More::Follows => SendFlags::NOSIGNAL | SendFlags::MORE,
            More::No => SendFlags::NOSIGNAL,
        };
        self.try_io(Interest::WRITABLE, || Ok(rustix::net::send(self.as_fd(), bytes, flags)?))
    }

    fn try_send_file(&mut self, slice: &FileSlice, sent: usize) -> io::Result<usize> {
        let mut offset = slice.offset + sent as u64;
        let rest = slice.length - sent;
        self.try_io(Interest::WRITABLE, || {
            Ok(rustix::fs::sendfile(self.as_fd(), &*slice.file, Some(&mut offset), rest)?)
        })
    }

    fn writable(&mut self) -> impl Future<Output = io::Result<()>> + Send {
        TcpStream::writable(self)
    }

    fn cork(&mut self) -> io::Result<()> {
        Ok(sockopt::set_tcp_cork(self, true)?)
    }

    fn uncork(&mut self) -> io::Result<()> {
        Ok(sockopt::set_tcp_cork(self, false)?)
    }
}
