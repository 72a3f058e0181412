//! The task that owns a connection's socket.
//!
//! It writes frames as they come, reads replies, and matches them by order and correlation id. The request
//! at the front has a deadline: a broker answers in order, so if the first answer is late, all are.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use millstream_protocol::ApiKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::ConnectionSettings;
use super::metering::Meters;
use crate::error::{ClientError, Progress};
use crate::transport::{ReadHalf, Stream, WriteHalf};

/// The length that precedes every frame.
const LENGTH_BYTES: usize = 4;
/// Room that a read should find at least.
const READ_BYTES_MIN: usize = 4 * 1024;
/// The buffer that many small replies share.
const READ_BYTES: usize = 64 * 1024;
/// No more is taken from callers while this much waits for the socket.
const OUTBOX_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Slices handed to one vectored write.
const SLICES_MAX: usize = 32;

/// One request, encoded.
pub(super) struct Command {
    pub(super) frame: Vec<Bytes>,
    pub(super) correlation_id: i32,
    pub(super) api: ApiKey,
    pub(super) timeout: Duration,
    pub(super) expect: Expect,
    pub(super) reply: oneshot::Sender<Result<Option<Bytes>, ClientError>>,
}

/// Whether the broker will answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    Reply,
    Nothing,
}

/// A request whose outcome is open.
struct InFlight {
    correlation_id: i32,
    api: ApiKey,
    timeout: Duration,
    deadline: Instant,
    expect: Expect,
    /// How many bytes this connection has to write until the whole request is out.
    ends_at: u64,
    reply: oneshot::Sender<Result<Option<Bytes>, ClientError>>,
}

/// Why a connection ends.
enum End {
    /// Nobody needs it any more.
    Unused,
    /// The peer or the network ended it.
    Lost(String),
    /// The request at the front was not answered in time.
    Late,
    /// A frame that is larger than allowed.
    TooLarge(usize),
    /// The reply at the front is not the one that was expected.
    Confused(String),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Lost(error.to_string())
    }
}

pub(super) struct Driver {
    read: ReadHalf,
    write: WriteHalf,
    commands: mpsc::Receiver<Command>,
    has_callers: bool,
    inbox: BytesMut,
    outbox: VecDeque<Bytes>,
    in_flight: VecDeque<InFlight>,
    bytes_queued: u64,
    bytes_written: u64,
    address: Arc<str>,
    settings: Arc<ConnectionSettings>,
    meters: Meters,
}

impl Driver {
    pub(super) fn new(
        stream: Stream,
        commands: mpsc::Receiver<Command>,
        address: Arc<str>,
        settings: &Arc<ConnectionSettings>,
    ) -> Self {
        Self {
            read: stream.read,
            write: stream.write,
            commands,
            has_callers: true,
            inbox: BytesMut::new(),
            outbox: VecDeque::new(),
            in_flight: VecDeque::new(),
            bytes_queued: 0,
            bytes_written: 0,
            address,
            settings: settings.clone(),
            meters: Meters::default(),
        }
    }

    pub(super) async fn run(mut self) {
        let end = match self.drive().await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            self.enqueue(command);
        }
        for (place, request) in std::mem::take(&mut self.in_flight).into_iter().enumerate() {
            let error = self.failure(&end, place, &request);
            self.meters.failed(request.api);
            // A caller that went away does not mind.
            let _ = request.reply.send(Err(error));
        }
    }

    async fn drive(&mut self) -> Result<std::convert::Infallible, End> {
        let alarm = tokio::time::sleep(self.settings.request_timeout);
        tokio::pin!(alarm);
        loop {
            if self.is_unused() {
                return Err(End::Unused);
            }
            self.make_room();
            if let Some(front) = self.in_flight.front()
                && front.deadline < alarm.deadline()
            {
                alarm.as_mut().reset(front.deadline);
            }
            let takes_more = self.has_callers && self.has_capacity();
            tokio::select! {
                written = write_some(&mut self.write, &self.outbox), if !self.outbox.is_empty() => {
                    self.on_written(written?);
                }
                read = self.read.read_buf(&mut self.inbox) => {
                    if read? == 0 {
                        return Err(End::Lost("the broker closed it".to_owned()));
                    }
                    self.on_bytes()?;
                }
                command = self.commands.recv(), if takes_more => match command {
                    Some(command) => self.enqueue_all(command),
                    None => self.has_callers = false,
                },
                () = &mut alarm, if !self.in_flight.is_empty() => {
                    // The alarm is moved only when it rings: most requests are answered long before.
                    let deadline = self.in_flight[0].deadline;
                    if deadline <= Instant::now() {
                        return Err(End::Late);
                    }
                    alarm.as_mut().reset(deadline);
                }
            }
        }
    }

    fn has_capacity(&self) -> bool {
        let waiting = self.bytes_queued - self.bytes_written;
        self.in_flight.len() < self.settings.max_in_flight && waiting < OUTBOX_BYTES_MAX as u64
    }

    /// No caller can send any more, and nobody waits for what is still under way.
    fn is_unused(&self) -> bool {
        let nobody_waits = |request: &InFlight| request.expect == Expect::Reply && request.reply.is_closed();
        !self.has_callers && self.outbox.is_empty() && self.in_flight.iter().all(nobody_waits)
    }

    fn enqueue_all(&mut self, first: Command) {
        self.enqueue(first);
        while self.has_capacity() {
            let Ok(command) = self.commands.try_recv() else { break };
            self.enqueue(command);
        }
    }

    fn enqueue(&mut self, command: Command) {
        self.bytes_queued += command.frame.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
        self.outbox.extend(command.frame);
        self.in_flight.push_back(InFlight {
            correlation_id: command.correlation_id,
            api: command.api,
            timeout: command.timeout,
            deadline: Instant::now() + command.timeout,
            expect: command.expect,
            ends_at: self.bytes_queued,
            reply: command.reply,
        });
    }

    fn on_written(&mut self, bytes: usize) {
        self.bytes_written += bytes as u64;
        let mut left = bytes;
        while left > 0 {
            let front = self.outbox.front_mut().expect("no more is written than was waiting");
            let taken = left.min(front.len());
            front.advance(taken);
            left -= taken;
            if front.is_empty() {
                self.outbox.pop_front();
            }
        }
        self.settle_unanswered();
    }

    /// A request that is not answered is done once it is out, and everything before it is answered.
    fn settle_unanswered(&mut self) {
        let is_out = |request: &mut InFlight| {
            request.expect == Expect::Nothing && request.ends_at <= self.bytes_written
        };
        while let Some(request) = self.in_flight.pop_front_if(is_out) {
            let _ = request.reply.send(Ok(None));
        }
    }

    fn on_bytes(&mut self) -> Result<(), End> {
        while let Some(length) = self.frame_length()? {
            if self.inbox.len() < LENGTH_BYTES + length {
                break;
            }
            self.inbox.advance(LENGTH_BYTES);
            let frame = self.inbox.split_to(length).freeze();
            self.on_frame(frame)?;
        }
        Ok(())
    }

    /// The length of the frame that starts the inbox, bounded; nothing is allocated by it before that.
    fn frame_length(&self) -> Result<Option<usize>, End> {
        let Some(prefix) = self.inbox.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length > self.settings.max_reply_bytes {
            return Err(End::TooLarge(length));
        }
        Ok(Some(length))
    }

    fn on_frame(&mut self, frame: Bytes) -> Result<(), End> {
        let Some(id) = frame.first_chunk::<4>().map(|bytes| i32::from_be_bytes(*bytes)) else {
            return Err(End::Confused(format!("a reply of {} bytes", frame.len())));
        };
        let expected =
            |request: &mut InFlight| request.correlation_id == id && request.expect == Expect::Reply;
        let Some(request) = self.in_flight.pop_front_if(expected) else {
            let wanted = self.in_flight.front().map(|request| request.correlation_id);
            return Err(End::Confused(format!("a reply to request {id}, expected {wanted:?}")));
        };
        let queued_at = request.deadline - request.timeout;
        self.meters.answered(request.api, Instant::now().saturating_duration_since(queued_at));
        let _ = request.reply.send(Ok(Some(frame)));
        self.settle_unanswered();
        Ok(())
    }

    /// Room for the rest of a frame whose length is known, or for a good number of small ones.
    fn make_room(&mut self) {
        let missing = match self.frame_length() {
            Ok(Some(length)) => (LENGTH_BYTES + length).saturating_sub(self.inbox.len()),
            Ok(None) | Err(_) => 0,
        };
        if self.inbox.capacity() - self.inbox.len() < missing.max(READ_BYTES_MIN) {
            self.inbox.reserve(missing.max(READ_BYTES));
        }
    }

    fn failure(&self, end: &End, place: usize, request: &InFlight) -> ClientError {
        let address = self.address.to_string();
        let is_out = request.ends_at <= self.bytes_written;
        let progress = if is_out { Progress::MaybeSent } else { Progress::NotSent };
        let lost = |reason: &str| ClientError::Disconnected {
            address: address.clone(),
            reason: reason.to_owned(),
            progress,
        };
        match end {
            End::Unused => lost("it was closed"),
            End::Lost(reason) | End::Confused(reason) => lost(reason),
            End::Late if place == 0 => ClientError::TimedOut {
                address: address.clone(),
                api: request.api,
                after: request.timeout,
                progress,
            },
            End::Late => lost("a request before this one was not answered in time"),
            End::TooLarge(bytes) if place == 0 => ClientError::ReplyTooLarge {
                address: address.clone(),
                bytes: *bytes,
                limit: self.settings.max_reply_bytes,
            },
            End::TooLarge(_) => lost("the reply to a request before this one is too large"),
        }
    }
}

/// One vectored write of what waits. Cancel safe: either it wrote and says so, or it wrote nothing.
async fn write_some(write: &mut WriteHalf, outbox: &VecDeque<Bytes>) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    let mut count = 0;
    for (slice, chunk) in slices.iter_mut().zip(outbox) {
        *slice = IoSlice::new(chunk);
        count += 1;
    }
    match write.write_vectored(&slices[..count]).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        written => Ok(written),
    }
}
