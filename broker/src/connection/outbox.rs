//! Replies on their way out. Small ones are gathered and leave in one call; records leave straight from the
//! page cache. A peer that takes nothing for a while is given up.

use std::io;
use std::time::Duration;

use millstream_protocol::{Chunk, FileSlice};

use super::transport::{More, Transport};

/// File slices below this size are copied into the reply: `sendfile` costs more than it saves there.
const SENDFILE_BYTES_MIN: usize = 16 * 1024;

/// Gathered replies are sent when they reach this size, even if more are to come.
const GATHERED_BYTES_MAX: usize = 64 * 1024;

/// A peer that takes not a byte for this long is given up.
const STALLED_AFTER: Duration = Duration::from_secs(30);

/// Replies that were made and not sent yet, in order.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    gathered: Vec<u8>,
    sent: u64,
}

impl Outbox {
    /// Bytes sent since this was last asked.
    pub(super) fn take_sent(&mut self) -> u64 {
        std::mem::take(&mut self.sent)
    }

    /// Adds a reply, sending what is too large to be gathered. Not cancel-safe: a reply that is half sent
    /// ends the connection.
    pub(super) async fn push<T: Transport>(&mut self, stream: &mut T, chunks: Vec<Chunk>) -> io::Result<()> {
        if !chunks.iter().any(is_sent_from_file) {
            return self.push_parts(stream, chunks).await;
        }
        // A few bytes follow the records, and would travel in a packet of their own.
        stream.cork()?;
        self.push_parts(stream, chunks).await?;
        self.flush(stream, More::No).await?;
        stream.uncork()
    }

    async fn push_parts<T: Transport>(&mut self, stream: &mut T, chunks: Vec<Chunk>) -> io::Result<()> {
        for chunk in chunks {
            match chunk {
                Chunk::Bytes(bytes) if self.gathered.len() + bytes.len() > GATHERED_BYTES_MAX => {
                    self.flush(stream, More::Follows).await?;
                    let send = |stream: &mut T, sent| stream.try_send_piece(&bytes, sent, More::No);
                    self.send_all(stream, bytes.len(), send).await?;
                }
                Chunk::Bytes(bytes) => self.gathered.extend_from_slice(&bytes),
                Chunk::File(slice) if slice.length < SENDFILE_BYTES_MIN => self.gather_slice(&slice)?,
                Chunk::File(slice) => {
                    self.flush(stream, More::Follows).await?;
                    self.send_file(stream, &slice).await?;
                }
            }
        }
        if self.gathered.len() > GATHERED_BYTES_MAX {
            // Nothing may follow: promising more would hold the last packet back.
            self.flush(stream, More::No).await?;
        }
        Ok(())
    }

    /// Sends what has been gathered. Not cancel-safe, as `push`.
    pub(super) async fn flush<T: Transport>(&mut self, stream: &mut T, more: More) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let gathered = std::mem::take(&mut self.gathered);
        self.send(stream, &gathered, more).await?;
        self.gathered = gathered;
        self.gathered.clear();
        Ok(())
    }

    /// Gives back memory that a burst needed and a quiet connection does not.
    pub(super) fn release(&mut self) {
        if self.gathered.is_empty() {
            self.gathered = Vec::new();
        }
    }

    async fn send<T: Transport>(&mut self, stream: &mut T, bytes: &[u8], more: More) -> io::Result<()> {
        self.send_all(stream, bytes.len(), |stream, sent| stream.try_send(&bytes[sent..], more)).await
    }

    /// From the page cache. The slice holds the file, so a deleted segment stays readable.
    async fn send_file<T: Transport>(&mut self, stream: &mut T, slice: &FileSlice) -> io::Result<()> {
        let send = |stream: &mut T, sent: usize| match stream.try_send_file(slice, sent)? {
            0 => {
                let message = "a segment file is shorter than its log";
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, message))
            }
            sent => Ok(sent),
        };
        self.send_all(stream, slice.length, send).await
    }

    /// Calls `send` with how much is sent until it is `length`, waiting whenever the peer takes no more.
    async fn send_all<T: Transport>(
        &mut self,
        stream: &mut T,
        length: usize,
        send: impl Fn(&mut T, usize) -> io::Result<usize>,
    ) -> io::Result<()> {
        let mut written = 0;
        while written < length {
            match send(stream, written) {
                Ok(sent) => written += sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => writable(stream).await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.sent += length as u64;
        Ok(())
    }

    fn gather_slice(&mut self, slice: &FileSlice) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        let at = self.gathered.len();
        self.gathered.resize(at + slice.length, 0);
        slice.file.read_exact_at(&mut self.gathered[at..], slice.offset)
    }
}

fn is_sent_from_file(chunk: &Chunk) -> bool {
    matches!(chunk, Chunk::File(slice) if slice.length >= SENDFILE_BYTES_MIN)
}

async fn writable<T: Transport>(stream: &mut T) -> io::Result<()> {
    match tokio::time::timeout(STALLED_AFTER, stream.writable()).await {
        Ok(writable) => writable,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not take its replies")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::Arc;

    use bytes::Bytes;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (connected, accepted) = tokio::join!(connecting, listener.accept());
        (connected.unwrap(), accepted.unwrap().0)
    }

    fn file_of(bytes: &[u8]) -> Arc<std::fs::File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Arc::new(file)
    }

    #[tokio::test]
    async fn replies_of_any_mixture_arrive_as_they_were_made() {
        let (mut ours, mut theirs) = pair().await;
        let content: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
        let file = file_of(&content);
        let slice = |from: usize, length| {
            Chunk::File(FileSlice { file: Arc::clone(&file), offset: from as u64, length })
        };
        let text = |length: usize| Chunk::Bytes(Bytes::from(vec![b'x'; length]));
        let replies = [
            vec![text(75), slice(7, 200_000), text(3)],
            vec![text(10)],
            vec![text(20), slice(0, 100), text(2), slice(1000, SENDFILE_BYTES_MIN)],
            vec![text(GATHERED_BYTES_MAX), slice(5, SENDFILE_BYTES_MIN - 1), text(1)],
            vec![slice(0, 300_000), slice(0, 300_000)],
        ];
        let plain = |chunk: &Chunk| match chunk {
            Chunk::Bytes(bytes) => bytes.to_vec(),
            Chunk::File(slice) => {
                let from = usize::try_from(slice.offset).unwrap();
                content[from..from + slice.length].to_vec()
            }
        };
        let expected: Vec<u8> = replies.iter().flatten().flat_map(plain).collect();
        let mut outbox = Outbox::default();
        let sending = async {
            for reply in replies {
                outbox.push(&mut ours, reply).await.unwrap();
            }
            outbox.flush(&mut ours, More::No).await.unwrap();
        };
        let mut got = vec![0; expected.len()];
        let (_, read) = tokio::join!(sending, theirs.read_exact(&mut got));
        read.unwrap();
        assert!(got == expected);
        assert_eq!(outbox.take_sent(), expected.len() as u64);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (mut ours, _theirs) = pair().await;
        let mut outbox = Outbox::default();
        let refused = loop {
            if let Err(error) =
                outbox.push(&mut ours, vec![Chunk::Bytes(Bytes::from(vec![0; 1 << 20]))]).await
            {
                break error;
            }
        };
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_slice_that_reaches_beyond_its_file_ends_the_connection() {
        let (mut ours, _theirs) = pair().await;
        let slice = FileSlice { file: file_of(&[1; 20_000]), offset: 0, length: 30_000 };
        let refused = Outbox::default().push(&mut ours, vec![Chunk::File(slice)]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::UnexpectedEof);
    }
}
