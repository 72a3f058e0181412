//! The outcome of a batch, shared by all who wait for a record in it.
//!
//! One allocation for each batch; a record's handle is a reference to it and a number.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use millstream_protocol::KStr;

use crate::error::ProduceError;
use crate::record::RecordMetadata;

/// Where a batch was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    /// Offset of the first record, if known.
    pub(crate) base_offset: Option<i64>,
    /// The broker's timestamp for all records, if the topic keeps time by that.
    pub(crate) append_time: Option<i64>,
}

/// Open until the sender settles it, once and for all, or divides it. The lock is never held across an await.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) topic: KStr,
    pub(crate) partition: i32,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Open(Vec<Waker>),
    Settled(Result<Written, ProduceError>),
    /// The batch was too large and became two.
    Divided(Parts),
}

/// Two outcomes in the place of one.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    /// Records that belong to the first.
    at: i32,
    pub(crate) first: Arc<Outcome>,
    pub(crate) second: Arc<Outcome>,
}

/// What somebody who waits gets to see.
enum Seen<T> {
    Settled(T),
    Divided(Parts),
}

impl Outcome {
    pub(crate) fn open(topic: KStr, partition: i32) -> Arc<Self> {
        Arc::new(Self { topic, partition, state: Mutex::new(State::Open(Vec::new())) })
    }

    /// Sets the outcome; the first one stands. Whoever waits is told by [`Told::wake`], for which no lock should
    /// be held.
    pub(crate) fn settle(&self, result: Result<Written, ProduceError>) -> Told {
        let mut state = self.lock();
        match &mut *state {
            State::Settled(_) => Told::Before,
            State::Open(wakers) => {
                let wakers = std::mem::take(wakers);
                *state = State::Settled(result);
                Told::Now(wakers)
            }
            State::Divided(parts) => {
                let parts = parts.clone();
                drop(state);
                parts.first.settle(result.clone()).and(parts.second.settle(result))
            }
        }
    }

    /// Puts two open outcomes in the place of this one, the first for so many records. `None` if it is settled.
    pub(crate) fn divide(&self, at: i32) -> Option<Parts> {
        let part = || Self::open(self.topic.clone(), self.partition);
        let parts = Parts { at, first: part(), second: part() };
        let mut state = self.lock();
        let State::Open(wakers) = &mut *state else { return None };
        let wakers = std::mem::take(wakers);
        *state = State::Divided(parts.clone());
        drop(state);
        // They look again, and wait for their part from then on.
        wakers.into_iter().for_each(Waker::wake);
        Some(parts)
    }

    pub(crate) fn is_settled(&self) -> bool {
        let parts = match &*self.lock() {
            State::Open(_) => return false,
            State::Settled(_) => return true,
            State::Divided(parts) => parts.clone(),
        };
        parts.first.is_settled() && parts.second.is_settled()
    }

    /// Waits without looking at the result.
    pub(crate) async fn settled(self: Arc<Self>) {
        let mut waiting = vec![self];
        while let Some(outcome) = waiting.pop() {
            let mut slot = None;
            match std::future::poll_fn(|cx| outcome.poll(cx, &mut slot, |_| ())).await {
                Seen::Settled(()) => {}
                Seen::Divided(parts) => waiting.extend([parts.first, parts.second]),
            }
        }
    }

    /// `slot` is the caller's place among the wakers, so that polling again replaces its waker.
    fn poll<T>(
        &self,
        cx: &Context<'_>,
        slot: &mut Option<usize>,
        read: impl FnOnce(&Result<Written, ProduceError>) -> T,
    ) -> Poll<Seen<T>> {
        match &mut *self.lock() {
            State::Settled(result) => Poll::Ready(Seen::Settled(read(result))),
            State::Divided(parts) => Poll::Ready(Seen::Divided(parts.clone())),
            State::Open(wakers) => {
                match *slot {
                    Some(place) => wakers[place].clone_from(cx.waker()),
                    None => {
                        *slot = Some(wakers.len());
                        wakers.push(cx.waker().clone());
                    }
                }
                Poll::Pending
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an outcome is news.
#[must_use = "those who wait are woken by wake()"]
pub(crate) enum Told {
    /// It was known before.
    Before,
    /// It is known from now on, and these wait for it.
    Now(Vec<Waker>),
}

impl Told {
    pub(crate) fn is_news(&self) -> bool {
        matches!(self, Self::Now(_))
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Now(mut wakers), Self::Now(more)) => {
                wakers.extend(more);
                Self::Now(wakers)
            }
            (Self::Before, told) | (told, Self::Before) => told,
        }
    }

    pub(crate) fn wake(self) {
        if let Self::Now(wakers) = self {
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

/// The acknowledgement of one record, to be awaited or dropped as one likes.
///
/// Dropping it changes nothing for the record; a failure is then reported by
/// [`flush`](crate::Producer::flush) or [`close`](crate::Producer::close).
#[must_use = "await it to know that the record was written, or drop it and rely on flush()"]
pub struct Delivery {
    outcome: Arc<Outcome>,
    index: i32,
    timestamp: i64,
    slot: Option<usize>,
}

impl Delivery {
    pub(crate) fn new(outcome: Arc<Outcome>, index: i32, timestamp: i64) -> Self {
        Self { outcome, index, timestamp, slot: None }
    }

    fn follow(&mut self, parts: Parts) {
        self.slot = None;
        if self.index < parts.at {
            self.outcome = parts.first;
        } else {
            self.index -= parts.at;
            self.outcome = parts.second;
        }
    }

    /// The partition that was chosen.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.outcome.partition
    }

    /// Whether the outcome is known: awaiting it will not wait.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.outcome.is_settled()
    }
}

impl Future for Delivery {
    type Output = Result<RecordMetadata, ProduceError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            let outcome = &this.outcome;
            let seen = outcome.poll(cx, &mut this.slot, |result| {
                let written = result.clone()?;
                Ok(RecordMetadata {
                    topic: outcome.topic.clone(),
                    partition: outcome.partition,
                    offset: written.base_offset.map(|base| base.saturating_add(i64::from(this.index))),
                    timestamp: written.append_time.unwrap_or(this.timestamp),
                })
            });
            match std::task::ready!(seen) {
                Seen::Settled(result) => return Poll::Ready(result),
                Seen::Divided(parts) => this.follow(parts),
            }
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topic = &self.outcome.topic;
        write!(f, "Delivery({topic}-{}, record {})", self.outcome.partition, self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_for_a_batch_that_is_divided_learns_of_its_own_part() {
        let outcome = Outcome::open(KStr::from("t"), 0);
        let handles: Vec<_> = (0..4).map(|i| tokio::spawn(Delivery::new(outcome.clone(), i, 7))).collect();
        let flushed = tokio::spawn(outcome.clone().settled());
        tokio::task::yield_now().await;
        let parts = outcome.divide(1).unwrap();
        parts.second.settle(Ok(Written { base_offset: Some(50), append_time: None })).wake();
        tokio::task::yield_now().await;
        assert!(!flushed.is_finished() && !outcome.is_settled());
        // Whoever settles the whole settles what is open of it.
        outcome.settle(Err(ProduceError::Abandoned)).wake();
        flushed.await.unwrap();
        let mut offsets = Vec::new();
        for handle in handles {
            offsets.push(handle.await.unwrap().ok().and_then(|metadata| metadata.offset));
        }
        assert_eq!(offsets, [None, Some(50), Some(51), Some(52)]);
        assert!(outcome.divide(1).is_none());
    }

    #[tokio::test]
    async fn all_records_of_a_batch_learn_from_one_outcome_and_the_first_stands() {
        let outcome = Outcome::open(KStr::from("t"), 3);
        let handles: Vec<_> = (0..3).map(|i| tokio::spawn(Delivery::new(outcome.clone(), i, 7))).collect();
        tokio::task::yield_now().await;
        let told = outcome.settle(Ok(Written { base_offset: Some(100), append_time: None }));
        assert!(told.is_news());
        told.wake();
        assert!(!outcome.settle(Err(ProduceError::Abandoned)).is_news());
        for (handle, offset) in handles.into_iter().zip(100..) {
            let metadata = handle.await.unwrap().unwrap();
            assert_eq!((metadata.offset, metadata.partition, metadata.timestamp), (Some(offset), 3, 7));
        }
    }
}
