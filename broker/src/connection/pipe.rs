//! A connection's bytes in memory, to a client in this process: no socket, no system call, and no copy of what is
//! handed over whole.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use millstream_protocol::FileSlice;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;

use super::transport::{More, Transport};

/// What a direction holds before its writer has to wait; a piece that is handed over whole may exceed it.
const PIPE_BYTES: usize = 256 * 1024;

/// Bytes of a file that are read at a time.
const FILE_BYTES: usize = 64 * 1024;

/// One end of a connection within this process, see [`crate::Broker::in_process`]. Dropping it closes the connection.
#[derive(Debug)]
pub struct InProcessStream {
    incoming: Arc<Mutex<Direction>>,
    outgoing: Arc<Mutex<Direction>>,
}

/// One direction, from the one who writes to the one who reads.
#[derive(Debug, Default)]
struct Direction {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    /// Nothing more is written, or nothing more is read.
    is_closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Direction {
    fn has_room(&self) -> bool {
        self.bytes < PIPE_BYTES
    }

    fn put(&mut self, piece: Bytes) -> Option<Waker> {
        self.bytes += piece.len();
        self.pieces.push_back(piece);
        self.reader.take()
    }

    /// Fills the buffer with what is there.
    fn take(&mut self, buffer: &mut ReadBuf<'_>) -> Option<Waker> {
        while let Some(piece) = self.pieces.front_mut()
            && buffer.remaining() > 0
        {
            let bytes = piece.len().min(buffer.remaining());
            buffer.put_slice(&piece[..bytes]);
            piece.advance(bytes);
            self.bytes -= bytes;
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
        if self.has_room() { self.writer.take() } else { None }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn broken() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl InProcessStream {
    /// Both ends of a connection.
    pub(crate) fn pair() -> (Self, Self) {
        let (one, other) = (Arc::default(), Arc::default());
        let swapped = Self { incoming: Arc::clone(&other), outgoing: Arc::clone(&one) };
        (Self { incoming: one, outgoing: other }, swapped)
    }

    /// Fails with `WouldBlock` while there is no room. Nobody but this end takes any.
    fn room(&self) -> io::Result<()> {
        let outgoing = self.outgoing.lock();
        match (outgoing.is_closed, outgoing.has_room()) {
            (true, _) => Err(broken()),
            (false, true) => Ok(()),
            (false, false) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Hands a piece over, for which there is room.
    fn put(&self, piece: Bytes) -> usize {
        let bytes = piece.len();
        let mut outgoing = self.outgoing.lock();
        let reader = if bytes > 0 { outgoing.put(piece) } else { None };
        drop(outgoing);
        wake(reader);
        bytes
    }

    fn poll_room(&self, context: &Context<'_>) -> Poll<io::Result<()>> {
        let mut outgoing = self.outgoing.lock();
        if outgoing.is_closed {
            return Poll::Ready(Err(broken()));
        }
        if outgoing.has_room() {
            return Poll::Ready(Ok(()));
        }
        outgoing.writer = Some(context.waker().clone());
        Poll::Pending
    }

    fn close(direction: &Mutex<Direction>) {
        let mut direction = direction.lock();
        direction.is_closed = true;
        let (reader, writer) = (direction.reader.take(), direction.writer.take());
        drop(direction);
        wake(reader);
        wake(writer);
    }
}

impl Transport for InProcessStream {
    fn try_send(&mut self, bytes: &[u8], _more: More) -> io::Result<usize> {
        self.room()?;
        Ok(self.put(Bytes::copy_from_slice(bytes)))
    }

    fn try_send_piece(&mut self, piece: &Bytes, sent: usize, _more: More) -> io::Result<usize> {
        self.room()?;
        Ok(self.put(piece.slice(sent..)))
    }

    fn try_send_file(&mut self, slice: &FileSlice, sent: usize) -> io::Result<usize> {
        self.room()?;
        let mut bytes = vec![0; (slice.length - sent).min(FILE_BYTES)];
        let read = slice.file.read_at(&mut bytes, slice.offset + sent as u64)?;
        bytes.truncate(read);
        Ok(self.put(Bytes::from(bytes)))
    }

    async fn writable(&mut self) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll_room(context)).await
    }

    fn cork(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn uncork(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for InProcessStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A peer that always has more would keep the thread otherwise.
        let turn = ready!(coop::poll_proceed(context));
        let mut incoming = self.incoming.lock();
        if incoming.pieces.is_empty() && !incoming.is_closed {
            incoming.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        turn.made_progress();
        let writer = incoming.take(buffer);
        drop(incoming);
        wake(writer);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for InProcessStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let turn = ready!(coop::poll_proceed(context));
        ready!(self.poll_room(context))?;
        turn.made_progress();
        let mut piece = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
        parts.iter().for_each(|part| piece.extend_from_slice(part));
        Poll::Ready(Ok(self.put(Bytes::from(piece))))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::close(&self.outgoing);
        Poll::Ready(Ok(()))
    }
}

impl Drop for InProcessStream {
    fn drop(&mut self) {
        Self::close(&self.incoming);
        Self::close(&self.outgoing);
    }
}

#[cfg(test)]
mod tests;
