//! One task per connection: reads frames, hands them to `dispatch`, sends replies in request order.
//!
//! Several requests may be in flight; those that answer at once are answered in the same turn of the task
//! that read them, without a hop, and the replies of one turn leave together. While a peer does not take
//! its replies nothing more is read from it.

pub(crate) mod frame;
mod outbox;
pub(crate) mod pipe;
pub(crate) mod session;
mod transport;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, StreamExt};
use millstream_protocol::ApiKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing::{debug, info, warn};

#[cfg(not(feature = "fault-hooks"))]
use crate::dispatch::dispatch;
#[cfg(feature = "fault-hooks")]
use crate::dispatch::faults::dispatch;
use crate::dispatch::{Boxed, Meanwhile, Outcome, Peer};
use crate::node::Node;

use frame::{FrameError, FrameReader};
use outbox::Outbox;
use session::{Refusal, Session, http_page};
use transport::{More, Transport};

/// Requests of one connection that may wait for their answer at a time.
const IN_FLIGHT_MAX: usize = 128;

/// How often a connection is looked at for having fallen silent in the middle of a frame.
const CHECK_EACH: Duration = Duration::from_secs(30);

/// Bytes of a frame that a peer must manage to send between two checks, once the first has passed.
const BYTES_PER_CHECK: usize = 2 * 1024 * 1024;

/// How long, and how often, the rest of a request that is not Kafka's is read.
const FOREIGN_PATIENCE: Duration = Duration::from_secs(1);
const FOREIGN_READS_MAX: usize = 64;

/// An answer on its way: which API it belongs to, when its request came, and the outcome.
struct Settled {
    api: ApiKey,
    arrived: Instant,
    outcome: Outcome,
}

pub(crate) struct Connection<T> {
    node: Arc<Node>,
    peer: Arc<Peer>,
    stream: T,
    session: Session,
    reader: FrameReader,
    in_flight: FuturesOrdered<Boxed<Settled>>,
    outbox: Outbox,
}

/// Why a connection ended.
enum End {
    /// The peer or we closed it in order.
    Closed,
    Idle,
    /// A frame has begun and does not come to its end.
    Slow,
    Refused(Refusal),
    Lost(io::Error),
    /// A request could not be answered; the text says why.
    Unanswerable(String),
}

impl From<FrameError> for End {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Refused(refusal) => Self::Refused(refusal),
            FrameError::Io(error) => Self::Lost(error),
        }
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

impl<T: Transport> Connection<T> {
    pub(crate) fn new(node: Arc<Node>, peer: Peer, stream: T) -> Self {
        let session = Session::new(node.settings().frame_bytes_max);
        let reader = FrameReader::new(Arc::clone(&node.frames));
        let (in_flight, outbox) = (FuturesOrdered::new(), Outbox::default());
        Self { node, peer: Arc::new(peer), stream, session, reader, in_flight, outbox }
    }

    /// Serves the connection until either side closes it or the broker stops; requests that were read
    /// before that are answered.
    pub(crate) async fn serve(mut self) {
        let end = match self.exchange().await {
            Ok(end) | Err(end) => end,
        };
        let peer = self.peer.address;
        match end {
            End::Closed => debug!(%peer, "connection closed"),
            End::Idle => debug!(%peer, "connection closed: idle"),
            End::Slow => info!(%peer, "connection closed: a request has begun and does not arrive"),
            End::Lost(error) if error.kind() == io::ErrorKind::TimedOut => {
                info!(%peer, "connection closed: {error}");
            }
            End::Lost(error) => debug!(%peer, %error, "connection lost"),
            End::Unanswerable(reason) => warn!(%peer, "connection closed: {reason}"),
            End::Refused(refusal) => {
                warn!(%peer, "connection closed: {refusal}");
                if refusal == Refusal::Http {
                    self.show_page().await;
                }
            }
        }
    }

    /// Answers an HTTP client in its own language. What it still sends is read first, or closing would reset
    /// the connection before the page has arrived. The peer may be gone at any step: it was told what we
    /// could tell it.
    async fn show_page(&mut self) {
        let page = http_page(self.node.http_address);
        let _ = self.stream.write_all(page.as_bytes()).await;
        let _ = self.stream.shutdown().await;
        let mut rest = [0; 1024];
        let drain = async {
            for _ in 0..FOREIGN_READS_MAX {
                match self.stream.read(&mut rest).await {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return,
                }
            }
        };
        let _ = tokio::time::timeout(FOREIGN_PATIENCE, drain).await;
    }

    async fn exchange(&mut self) -> Result<End, End> {
        let stop = self.node.stopped();
        let check = tokio::time::sleep(CHECK_EACH.min(self.node.settings().idle_after));
        tokio::pin!(stop, check);
        let mut silence = Silence::default();
        loop {
            self.answer_what_is_here(&mut silence).await?;
            // Not only below: a peer that always has a frame ready would keep the broker from stopping.
            if self.node.is_stopping() {
                return self.drain().await;
            }
            let may_read = self.in_flight.len() < IN_FLIGHT_MAX;
            tokio::select! {
                biased;
                Some(settled) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    self.answer(settled).await?;
                }
                frame = silence.seen_by(self.reader.next(&mut self.stream, &self.session)), if may_read => {
                    let Some(frame) = frame? else { return self.drain().await };
                    let meanwhile = silence.end(self.in_flight.is_empty());
                    self.on_frame(frame, meanwhile).await?;
                }
                () = &mut stop => return self.drain().await,
                () = &mut check => {
                    let idle_after = self.node.settings().idle_after;
                    let each = CHECK_EACH.min(idle_after);
                    if let Some(end) = silence.on_check(&self.reader, self.in_flight.is_empty(), idle_after) {
                        return Ok(end);
                    }
                    self.outbox.release();
                    check.as_mut().reset(tokio::time::Instant::now() + each);
                }
            }
        }
    }

    /// Serves frames that have been read already and answers that are ready already, then sends.
    async fn answer_what_is_here(&mut self, silence: &mut Silence) -> Result<(), End> {
        while let Some(Some(settled)) = self.ready() {
            self.answer(settled).await?;
        }
        while self.in_flight.len() < IN_FLIGHT_MAX {
            let Some(frame) = self.reader.buffered(&self.session).map_err(End::Refused)? else { break };
            let meanwhile = silence.end(self.in_flight.is_empty());
            self.on_frame(frame, meanwhile).await?;
        }
        self.outbox.flush(&mut self.stream, More::No).await?;
        self.node.metrics.sent(self.outbox.take_sent());
        Ok(())
    }

    fn ready(&mut self) -> Option<Option<Settled>> {
        match self.in_flight.is_empty() {
            true => None,
            false => self.in_flight.next().now_or_never(),
        }
    }

    async fn on_frame(&mut self, frame: Bytes, meanwhile: Meanwhile) -> Result<(), End> {
        let arrived = Instant::now();
        self.node.metrics.received(frame.len());
        let incoming = self.session.on_frame(frame).map_err(End::Refused)?;
        let api = incoming.api;
        let outcome = dispatch(&self.node, &self.peer, &incoming, meanwhile);
        drop(incoming);
        match outcome {
            Outcome::Later(work) => self
                .in_flight
                .push_back(Box::pin(async move { Settled { api, arrived, outcome: work.await } })),
            outcome if self.in_flight.is_empty() => self.answer(Settled { api, arrived, outcome }).await?,
            outcome => {
                self.in_flight.push_back(Box::pin(std::future::ready(Settled { api, arrived, outcome })));
            }
        }
        Ok(())
    }

    /// Answers what is in flight, in order, and ends.
    async fn drain(&mut self) -> Result<End, End> {
        while let Some(settled) = self.in_flight.next().await {
            self.answer(settled).await?;
        }
        self.outbox.flush(&mut self.stream, More::No).await?;
        Ok(End::Closed)
    }

    async fn answer(&mut self, settled: Settled) -> Result<(), End> {
        let Settled { api, arrived, outcome } = settled;
        self.node.metrics.answered(api, arrived);
        match outcome {
            Outcome::Reply(chunks) => Ok(self.outbox.push(&mut self.stream, chunks).await?),
            Outcome::Silent => Ok(()),
            Outcome::Close(reason) => {
                // Earlier requests were answered; their answers still go out.
                self.outbox.flush(&mut self.stream, More::No).await?;
                Err(End::Unanswerable(reason))
            }
            Outcome::Later(_) => unreachable!("a settled outcome is not a future"),
        }
    }
}

/// How long nothing whole has come from a peer.
#[derive(Debug, Default)]
struct Silence {
    checks: usize,
    /// More was asked for and was not there.
    is_seen: bool,
}

impl Silence {
    /// Waits for a frame, and notes whether that took waiting.
    async fn seen_by<F: Future>(&mut self, frame: F) -> F::Output {
        let mut frame = pin!(frame);
        std::future::poll_fn(|context| {
            let polled = frame.as_mut().poll(context);
            self.is_seen |= polled.is_pending();
            polled
        })
        .await
    }

    /// A frame has come. A peer that was silent while it waited for nothing waits for the answer to this one.
    fn end(&mut self, nothing_in_flight: bool) -> Meanwhile {
        match std::mem::take(self).is_seen && nothing_in_flight {
            true => Meanwhile::Waits,
            false => Meanwhile::Sends,
        }
    }

    /// Decides at each check whether the connection has been silent for too long.
    fn on_check(
        &mut self,
        reader: &FrameReader,
        nothing_in_flight: bool,
        idle_after: Duration,
    ) -> Option<End> {
        self.checks += 1;
        if let Some(length) = reader.incomplete_frame() {
            let allowed = 2 + length / BYTES_PER_CHECK;
            return (self.checks >= allowed).then_some(End::Slow);
        }
        let each = CHECK_EACH.min(idle_after);
        let silent = each.saturating_mul(u32::try_from(self.checks).unwrap_or(u32::MAX));
        (nothing_in_flight && silent >= idle_after).then_some(End::Idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::frame::FrameMemory;
    use tokio::io::duplex;

    const LONG: Duration = Duration::from_secs(600);

    fn reader() -> FrameReader {
        FrameReader::new(FrameMemory::new(1 << 30))
    }

    #[test]
    fn an_idle_connection_is_closed_after_its_time_unless_it_waits_for_us() {
        let (mut silence, mut waits) = (Silence::default(), Silence::default());
        let last = LONG.as_secs() / CHECK_EACH.as_secs();
        for check in 1..=last {
            let end = silence.on_check(&reader(), true, LONG);
            assert_eq!(matches!(end, Some(End::Idle)), check == last, "check {check}");
            assert!(waits.on_check(&reader(), false, LONG).is_none());
        }
    }

    #[tokio::test]
    async fn a_peer_waits_if_it_was_silent_while_nothing_was_in_flight() {
        let mut silence = Silence::default();
        silence.seen_by(std::future::ready(())).await;
        assert_eq!(silence.end(true), Meanwhile::Sends, "it had more to say at once");
        for (nothing_in_flight, meanwhile) in [(false, Meanwhile::Sends), (true, Meanwhile::Waits)] {
            silence.seen_by(tokio::task::yield_now()).await;
            assert_eq!(silence.end(nothing_in_flight), meanwhile);
        }
        assert_eq!(silence.end(true), Meanwhile::Sends, "the next frame was there with the last");
    }

    #[tokio::test]
    async fn a_frame_that_does_not_arrive_is_given_up_sooner_if_it_is_small() {
        for (length, checks) in [(100_i32, 2), (20 << 20, 12)] {
            let (mut ours, mut theirs) = duplex(1 << 10);
            let mut reader = reader();
            theirs.write_all(&length.to_be_bytes()).await.unwrap();
            let session = Session::new(100 << 20);
            assert!(reader.next(&mut ours, &session).now_or_never().is_none());
            let mut silence = Silence::default();
            for check in 1..=checks {
                let end = silence.on_check(&reader, true, LONG);
                assert_eq!(matches!(end, Some(End::Slow)), check == checks, "length {length}, check {check}");
            }
        }
    }
}
