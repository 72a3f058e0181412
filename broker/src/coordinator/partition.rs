//! One partition of an internal topic: its machine, its log, and who waits.
//!
//! Two locks: `state` for one event after the other, across the write of its records but never across a sync or
//! an await; and that of [`Held`], which the log's callback takes, inside it or alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::RandomState;
use millstream_log::{Acks, Append, AppendError, Appended, FirstSequence, InTransaction, Log, Marker};
use millstream_protocol::records::{BatchBuilder, BatchView, Compression, NewRecord};
use millstream_protocol::wire::EncodeError;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::held::{Held, Waiter, Waits};
use super::turn::{Author, BatchNumber, Millis, Moment, Ticket};
use super::{Durable, NotReady, StateMachine, load};
use crate::node::Node;

/// Records go in one batch, unless they are more than this together.
const BATCH_BYTES: usize = 1 << 20;

/// A coordinator's batches have none: what comes again is judged before it is written.
const NO_SEQUENCE: i32 = -1;

/// How soon a machine whose log failed is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// One partition.
#[derive(Debug)]
pub(super) struct Coordinator<M: StateMachine> {
    index: i32,
    state: Mutex<State<M>>,
    /// When it is to be looked at next, on the steady clock.
    due: AtomicI64,
    /// A batch was lost since it was looked at last.
    is_lost: Arc<AtomicBool>,
}

#[derive(Debug)]
enum State<M: StateMachine> {
    /// Not read yet, or thrown away.
    Cold,
    Loading,
    Warm(Box<Warm<M>>),
    Closed,
}

#[derive(Debug)]
struct Warm<M: StateMachine> {
    machine: M,
    log: Arc<Log>,
    held: Arc<Held<M::Reply, M::Deed>>,
    /// Who asked and was not answered yet.
    waiting: HashMap<Ticket, Waiter<M::Reply>, RandomState>,
    tickets: u64,
}

impl<M: StateMachine> Coordinator<M> {
    pub(super) fn new(index: i32) -> Arc<Self> {
        let (state, due) = (Mutex::new(State::Cold), AtomicI64::new(i64::MAX));
        Arc::new(Self { index, state, due, is_lost: Arc::default() })
    }

    pub(super) fn due(&self) -> Millis {
        Millis(self.due.load(Acquire))
    }

    /// Whether it is to be looked at, though it has no timer if its machine was lost.
    pub(super) fn is_due(&self, now: Millis) -> bool {
        self.due() <= now || self.is_lost.load(Acquire)
    }

    /// Runs an event now; the receiver gets the answer once it may be given.
    pub(super) fn submit(
        self: &Arc<Self>,
        node: &Arc<Node>,
        event: impl FnOnce(&mut M, &mut M::Turn<'_>, Ticket),
    ) -> Result<oneshot::Receiver<M::Reply>, NotReady> {
        let mut state = self.state.lock();
        let warm = self.serving(node, &mut state)?;
        let (waiter, answer) = oneshot::channel();
        let ticket = warm.admit(waiter);
        warm.turn(node, |machine, turn| event(machine, turn, ticket));
        self.set_due(node, warm.machine.next_due());
        Ok(answer)
    }

    /// Runs an event now and gives what it says at once, with the number of the batch on which that rests.
    pub(super) fn decide<R>(
        self: &Arc<Self>,
        node: &Arc<Node>,
        event: impl FnOnce(&mut M, &mut M::Turn<'_>) -> (R, BatchNumber),
    ) -> Result<(R, Durable), NotReady> {
        let mut state = self.state.lock();
        let warm = self.serving(node, &mut state)?;
        let mut said = None;
        warm.turn(node, |machine, turn| said = Some(event(machine, turn)));
        self.set_due(node, warm.machine.next_due());
        let (said, rests_on) = said.expect("an event is run");
        Ok((said, Durable(warm.held.wait_for(rests_on.0))))
    }

    /// Writes a marker; the receiver is told when it is durable, or why it is refused.
    pub(super) fn append_marker(
        self: &Arc<Self>,
        node: &Arc<Node>,
        marker: Marker,
    ) -> Result<oneshot::Receiver<Result<(), AppendError>>, NotReady> {
        let mut state = self.state.lock();
        Ok(self.serving(node, &mut state)?.append_marker(marker))
    }

    /// Looks at the machine, if it is there and can be believed.
    pub(super) fn look_at<R>(&self, look: impl FnOnce(&M) -> R) -> Option<R> {
        match &*self.state.lock() {
            State::Warm(warm) if !warm.held.has_failed() => Some(look(&warm.machine)),
            State::Warm(_) | State::Cold | State::Loading | State::Closed => None,
        }
    }

    /// The machine, if it can answer now.
    fn serving<'a>(
        self: &Arc<Self>,
        node: &Arc<Node>,
        state: &'a mut State<M>,
    ) -> Result<&'a mut Warm<M>, NotReady> {
        if let State::Cold = state {
            self.heat(node, state);
        }
        if let State::Warm(warm) = state
            && warm.held.has_failed()
        {
            self.cool(state);
            self.heat(node, state);
            return Err(NotReady::Lost);
        }
        match state {
            State::Warm(warm) => Ok(warm),
            State::Cold | State::Loading => Err(NotReady::Loading),
            State::Closed => Err(NotReady::Stopping),
        }
    }

    /// Runs something that nobody asked for, if the machine is there.
    pub(super) fn tell(self: &Arc<Self>, node: &Arc<Node>, event: impl FnOnce(&mut M, &mut M::Turn<'_>)) {
        let mut state = self.state.lock();
        if let State::Warm(warm) = &mut *state {
            if warm.held.has_failed() {
                self.cool(&mut state);
                // Not at once: what was lost may be lost again as soon as it is there.
                self.look_again(node);
            } else {
                warm.turn(node, event);
                self.set_due(node, warm.machine.next_due());
            }
        }
    }

    /// Does what is due; begins to read the machine, if it is not there or was lost, and its log is.
    pub(super) fn look(self: &Arc<Self>, node: &Arc<Node>) {
        // Before the look: what is lost from here on calls for another one.
        self.is_lost.store(false, Release);
        let mut state = self.state.lock();
        if let State::Cold = &*state {
            self.heat(node, &mut state);
        }
        drop(state);
        self.tell(node, M::tick);
    }

    /// Tells everybody who waits to go elsewhere, for good. What is on its way to the disk is still answered.
    pub(super) fn close(&self) {
        *self.state.lock() = State::Closed;
    }

    /// Throws the machine away: it knows what its log does not.
    fn cool(&self, state: &mut State<M>) {
        let (topic, partition) = (M::TOPIC, self.index);
        tracing::warn!(topic, partition, "records could not be made durable; their log is read again");
        *state = State::Cold;
    }

    fn heat(self: &Arc<Self>, node: &Arc<Node>, state: &mut State<M>) {
        let snapshot = node.topics.snapshot();
        let partition = snapshot.named(M::TOPIC).and_then(|topic| topic.partition(self.index));
        let log = partition.and_then(|partition| partition.log().ok()).filter(|log| !log.is_failed());
        let Some(log) = log.cloned() else {
            self.look_again(node);
            return;
        };
        if log.offsets().log_start == log.offsets().log_end {
            *state = self.warm(node, log, M::default());
            return;
        }
        *state = State::Loading;
        self.due.store(i64::MAX, Release);
        let (coordinator, node) = (Arc::clone(self), Arc::clone(node));
        drop(node.control.clone().spawn_blocking(move || coordinator.load(&node, log)));
    }

    fn load(self: &Arc<Self>, node: &Arc<Node>, log: Arc<Log>) {
        let began = M::coordinators(node).now(node).steady;
        let loaded = load::load(&log, node.settings().decompressed_bytes_max);
        let mut state = self.state.lock();
        if !matches!(*state, State::Loading) {
            return;
        }
        match loaded {
            Ok(loaded) => {
                let took_ms = M::coordinators(node).now(node).steady.0 - began.0;
                let (partition, records) = (self.index, loaded.records);
                tracing::debug!(topic = M::TOPIC, partition, records, took_ms, "loaded");
                *state = self.warm(node, log, loaded.machine);
            }
            Err(error) => {
                let (topic, partition) = (M::TOPIC, self.index);
                tracing::error!(topic, partition, %error, "records cannot be loaded; trying again");
                *state = State::Cold;
                self.look_again(node);
            }
        }
    }

    fn warm(&self, node: &Arc<Node>, log: Arc<Log>, machine: M) -> State<M> {
        let held = Arc::new(M::coordinators(node).hold(&self.is_lost));
        let mut warm = Warm { machine, log, held, waiting: HashMap::default(), tickets: 0 };
        warm.turn(node, M::on_loaded);
        self.set_due(node, warm.machine.next_due());
        State::Warm(Box::new(warm))
    }

    fn look_again(&self, node: &Node) {
        self.set_due(node, Some(M::coordinators(node).now(node).steady.after(LOOK_AGAIN)));
    }

    fn set_due(&self, node: &Node, due: Option<Millis>) {
        let due = due.map_or(i64::MAX, |due| due.0);
        if due < self.due.swap(due, AcqRel) {
            M::coordinators(node).alarm().notify_one();
        }
    }
}

impl<M: StateMachine> Warm<M> {
    fn admit(&mut self, waiter: Waiter<M::Reply>) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.waiting.insert(ticket, waiter);
        ticket
    }

    fn turn(&mut self, node: &Arc<Node>, event: impl FnOnce(&mut M, &mut M::Turn<'_>)) {
        let now = M::coordinators(node).now(node);
        let moment = Moment { now, next_batch: BatchNumber(self.held.next()) };
        let fx = self.machine.run(node, moment, event);
        let rests_on = fx.rests_on.filter(|_| fx.records.is_empty());
        if !fx.records.is_empty() {
            self.append(&fx.records, fx.author, now.wall_ms);
        }
        let waiting = &mut self.waiting;
        for (ticket, reply) in fx.safe_replies {
            if let Some(waiter) = waiting.remove(&ticket) {
                // Nobody listens when the connection is gone.
                let _ = waiter.send(reply);
            }
        }
        let replies = fx.replies.into_iter();
        let replies =
            replies.filter_map(|(ticket, reply)| Some(Waits::Reply(waiting.remove(&ticket)?, reply)));
        self.held.hold(rests_on, replies.chain(fx.deeds.into_iter().map(Waits::Deed)));
        for note in fx.notes {
            M::tell(node, &note, now);
        }
    }

    fn append(&mut self, records: &[M::Record], author: Option<Author>, timestamp: i64) {
        match batches::<M>(records, author, timestamp) {
            Ok(batches) => batches.into_iter().for_each(|batch| self.append_batch(batch, author)),
            Err(error) => {
                tracing::error!(%error, "a record of {} cannot be written", M::TOPIC);
                self.held.settle(0, false);
            }
        }
    }

    fn append_batch(&mut self, batch: Bytes, author: Option<Author>) {
        let number = self.held.begin();
        let held = Arc::clone(&self.held);
        let header = BatchView::parse(&batch).expect("it was just built").header();
        // Nobody else writes here: what holds now holds when it is appended.
        let transaction = author.map(|author| InTransaction {
            guard: self.log.transaction_guard(author.producer),
            first_sequence: FirstSequence::Any,
        });
        let append = Append { batch, header, acks: Acks::Durable, transaction };
        let done = Box::new(move |result: Result<_, _>| held.settle(number, result.is_ok()));
        // What is left to lead is our own, and goes at once.
        drop(self.log.append(append, done));
    }

    /// Whether the marker ended a transaction is seen in the log, which has judged it when this returns: one that is late
    /// or comes again ends nothing.
    fn append_marker(&mut self, marker: Marker) -> oneshot::Receiver<Result<(), AppendError>> {
        let was_open = self.log.transaction_guard(marker.producer).is_open();
        let number = self.held.begin();
        let held = Arc::clone(&self.held);
        let (tell, told) = oneshot::channel();
        let done = Box::new(move |result: Result<Appended, AppendError>| {
            let is_lost = matches!(result, Err(AppendError::StorageFailed { .. } | AppendError::Closed));
            held.settle(number, !is_lost);
            // Nobody listens when the broker stops.
            let _ = tell.send(result.map(drop));
        });
        drop(self.log.append_marker(marker, done));
        if was_open && !self.log.transaction_guard(marker.producer).is_open() {
            self.machine.on_transaction_ended(marker.producer, marker.outcome);
        }
        told
    }
}

/// The records in as few batches as may be.
fn batches<M: StateMachine>(
    records: &[M::Record],
    author: Option<Author>,
    timestamp: i64,
) -> Result<Vec<Bytes>, EncodeError> {
    let begin = || {
        let mut builder = BatchBuilder::new(Compression::None);
        if let Some(Author { producer, epoch }) = author {
            builder.producer(producer.get(), epoch, NO_SEQUENCE).transactional();
        }
        builder
    };
    let mut batches = Vec::new();
    let mut builder = begin();
    for record in records {
        let (key, value) = M::encode(record)?;
        let record = NewRecord { timestamp, key: Some(&key), value: value.as_deref(), headers: &[] };
        if !builder.is_empty() && builder.size_with(&record) > BATCH_BYTES {
            batches.push(std::mem::replace(&mut builder, begin()).build());
        }
        builder.append(&record);
    }
    batches.push(builder.build());
    Ok(batches)
}
