//! A transactional id and its coordinator: what is asked next, and what follows from the answer. A state machine;
//! nothing here does I/O.
//!
//! ```text
//! Claiming -> Idle -> Open -> Flushing -> Ending(Commit) -> Idle
//!                       \        \----> Stopping -> Ending(Abort) -> Idle, or Claiming for a new epoch
//! ```
//! Rules:
//! - One request at a time. It is repeated until it is answered; what is asked bears being asked twice.
//! - A commit is asked for when every batch is acknowledged and every group has its offsets, and then it is final: nobody
//!   can turn it into an abort, though its answer may be long in coming.
//! - An abort is asked for when nothing of the transaction is under way any more.
//! - The next transaction begins when the one before it has ended and its end is known.
//! - With the first protocol (TV1) partitions and groups join by requests of their own, and the epoch stays; when
//!   batches were lost, the sequence of their partitions is in doubt, and a new epoch is asked for (KIP-360). With the
//!   second (TV2, KIP-890) what is written joins by itself, and each end brings a new epoch.
//! - Another instance with the same id is the end (Fenced). Which errors end a transaction and which end the producer
//!   follows Kafka's Java client, except that an id which the coordinator has forgotten is claimed anew, as in franz-go.

use std::collections::{BTreeSet, HashSet, VecDeque};

use millstream_client::{ClientError, GroupMetadata, NewOffset};
use millstream_protocol::ErrorCode;
use tokio::time::Instant;

use super::lane::Identity;
use crate::buffer::Place;
use crate::error::ProduceError;
use crate::transaction::{Ending, Harm, TransactionError};

/// A transaction of this producer, by number.
pub(crate) type Number = u64;

/// How partitions become part of a transaction (`transaction.version`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    One,
    Two,
}

/// Offsets to be committed with the transaction.
#[derive(Debug, Clone)]
pub(crate) struct Offsets {
    /// Who waits for them.
    pub(crate) ticket: u64,
    pub(crate) group: GroupMetadata,
    pub(crate) offsets: Vec<NewOffset>,
}

/// What to ask a coordinator.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    /// A producer id, or the next epoch of the one we have.
    Claim { current: Option<Identity> },
    /// That these partitions join.
    Join(Vec<Place>),
    /// That this group joins.
    JoinGroup(String),
    /// That the group's coordinator holds these for the end of the transaction.
    Offsets(Offsets),
    /// The end.
    End(Ending),
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Answer {
    Done,
    /// Done; this is who we are from now on.
    Identified(Identity),
    /// Some partitions joined; the rest did not, for this reason if there is a rest.
    Joined {
        joined: Vec<Place>,
        failed: Option<ErrorCode>,
    },
    Refused(ErrorCode),
    Failed(ClientError),
}

/// News for those who wait.
#[derive(Debug)]
pub(crate) enum Note {
    /// No transaction is open, and another can begin.
    Rests,
    Begun(Number),
    /// Offsets are part of the transaction.
    Taken {
        ticket: u64,
    },
    /// The transaction cannot be committed any more. It is being aborted.
    Broken(Number, TransactionError),
    Ended(Number, Ending),
    /// The producer cannot be used any more.
    Dead(TransactionError),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Claiming,
    Idle,
    Open,
    Flushing,
    Stopping,
    Ending(Ending),
    Dead,
}

/// Whether the coordinator knows of the open transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Known {
    No,
    Maybe,
    Yes,
}

/// What an error means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Ask again.
    Retry,
    /// The transaction cannot be committed.
    Abort,
    /// The coordinator has forgotten us, and with us the transaction: a new epoch is needed.
    Forgotten,
    /// Another instance has taken over.
    Fenced,
    /// Nothing can be done with this producer any more.
    Fatal,
}

#[derive(Debug)]
pub(crate) struct Machine {
    id: String,
    state: State,
    identity: Option<Identity>,
    /// That of the open transaction.
    version: Version,
    /// That of the next one.
    next_version: Version,
    current: Option<Number>,
    waiting: VecDeque<Number>,
    wanted: BTreeSet<Place>,
    joined: HashSet<Place>,
    groups: HashSet<String>,
    offsets: VecDeque<Offsets>,
    known: Known,
    needs_epoch: bool,
    is_asking: bool,
    /// An earlier attempt at what is asked now may have had its effect.
    may_be_done: bool,
    failures: u32,
    retry_at: Option<Instant>,
    trouble: Option<String>,
    notes: Vec<Note>,
}

impl Machine {
    pub(crate) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            state: State::Claiming,
            identity: None,
            version: Version::One,
            next_version: Version::One,
            current: None,
            waiting: VecDeque::new(),
            wanted: BTreeSet::new(),
            joined: HashSet::new(),
            groups: HashSet::new(),
            offsets: VecDeque::new(),
            known: Known::No,
            needs_epoch: false,
            is_asking: false,
            may_be_done: false,
            failures: 0,
            retry_at: None,
            trouble: None,
            notes: Vec::new(),
        }
    }

    /// What the cluster has agreed on, for transactions that begin from now on.
    pub(crate) fn learn(&mut self, version: Version) {
        self.next_version = version;
    }

    /// Who we are.
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.identity
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// How often in a row something failed.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// What went wrong most recently and is being tried again.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Whether there is no transaction, open or ending.
    pub(crate) fn rests(&self) -> bool {
        self.state == State::Idle || self.is_dead()
    }

    /// Whether the id was never had, so that nothing can be open.
    pub(crate) fn is_unclaimed(&self) -> bool {
        self.identity.is_none()
    }

    /// Whether this transaction is open or ending.
    pub(crate) fn is_current(&self, number: Number) -> bool {
        self.current == Some(number)
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.state == State::Dead
    }

    /// Whether what was not sent is not to be sent any more.
    pub(crate) fn drops_batches(&self) -> bool {
        matches!(self.state, State::Stopping | State::Dead)
    }

    pub(crate) fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// Somebody wants to begin; told by [`Note::Begun`].
    pub(crate) fn begin(&mut self, number: Number) {
        self.waiting.push_back(number);
        self.open_next();
    }

    /// Whether this transaction is open.
    pub(crate) fn is_open(&self, number: Number) -> bool {
        self.current == Some(number) && self.state == State::Open
    }

    /// Takes offsets, for a transaction that is open.
    pub(crate) fn add_offsets(&mut self, offsets: Offsets) {
        self.offsets.push_back(offsets);
    }

    /// The transaction is complete: when everything of it is acknowledged it is committed.
    pub(crate) fn commit(&mut self, number: Number) {
        if self.is_open(number) {
            self.state = State::Flushing;
        }
    }

    /// Nobody wants this transaction any more. Too late when the commit was asked for.
    pub(crate) fn abandon(&mut self, number: Number) {
        self.waiting.retain(|waiting| *waiting != number);
        if self.current == Some(number) && matches!(self.state, State::Open | State::Flushing) {
            self.stop();
        }
    }

    fn stop(&mut self) {
        self.state = State::Stopping;
        self.wanted.clear();
        self.offsets.clear();
        self.retry_at = None;
    }

    /// As whom a batch for this partition can be sent now. A partition that has to join first does.
    pub(crate) fn admit(&mut self, place: Place) -> Option<Identity> {
        if !matches!(self.state, State::Open | State::Flushing) {
            return None;
        }
        if self.version == Version::One && !self.joined.contains(&place) {
            self.wanted.insert(place);
            return None;
        }
        self.identity
    }

    /// A batch is on its way.
    pub(crate) fn on_sent(&mut self) {
        if self.version == Version::Two && self.known == Known::No {
            self.known = Known::Maybe;
        }
    }

    /// A batch is acknowledged.
    pub(crate) fn on_written(&mut self) {
        self.known = Known::Yes;
    }

    /// A batch will not be acknowledged.
    pub(crate) fn on_batch_failed(&mut self, error: &ProduceError) {
        let Some(number) = self.current else { return };
        if self.version == Version::One && self.known != Known::No {
            self.needs_epoch = true;
        }
        if !matches!(self.state, State::Open | State::Flushing) {
            return;
        }
        match error.code() {
            Some(ErrorCode::ProducerFenced) => self.die(self.fenced()),
            Some(
                code @ (ErrorCode::ClusterAuthorizationFailed
                | ErrorCode::TransactionalIdAuthorizationFailed
                | ErrorCode::UnsupportedVersion),
            ) => self.die(TransactionError::refused("Produce", code, Harm::FATAL)),
            _ => self.break_off(number, TransactionError::Failed(error.clone())),
        }
    }

    fn break_off(&mut self, number: Number, error: TransactionError) {
        self.notes.push(Note::Broken(number, error));
        self.stop();
    }

    fn die(&mut self, error: TransactionError) {
        self.state = State::Dead;
        self.current = None;
        self.waiting.clear();
        self.wanted.clear();
        self.offsets.clear();
        self.notes.push(Note::Dead(error));
    }

    fn fenced(&self) -> TransactionError {
        let is_commit = self.state == State::Ending(Ending::Commit);
        let possibly_committed = is_commit && self.may_be_done;
        TransactionError::Fenced { transactional_id: self.id.clone(), possibly_committed }
    }

    /// The transaction that would be committed now, given that no batch is under way.
    pub(crate) fn ready_to_commit(&self) -> Option<Number> {
        let is_complete = self.state == State::Flushing
            && self.wanted.is_empty()
            && self.offsets.is_empty()
            && !self.is_asking;
        self.current.filter(|_| is_complete)
    }

    /// No batch is under way, and the commit is decided on.
    pub(crate) fn decide(&mut self) {
        if let Some(number) = self.ready_to_commit() {
            self.end(number, Ending::Commit);
        }
    }

    /// No batch is under way: what is to be aborted can be.
    pub(crate) fn on_quiet(&mut self) {
        if self.state == State::Stopping
            && !self.is_asking
            && let Some(number) = self.current
        {
            self.end(number, Ending::Abort);
        }
    }

    fn end(&mut self, number: Number, ending: Ending) {
        self.may_be_done = false;
        if self.known == Known::No {
            self.finish(number, ending);
        } else {
            self.state = State::Ending(ending);
        }
    }

    fn finish(&mut self, number: Number, ending: Ending) {
        self.notes.push(Note::Ended(number, ending));
        self.current = None;
        self.known = Known::No;
        self.joined.clear();
        self.groups.clear();
        self.state = if self.needs_epoch { State::Claiming } else { State::Idle };
        self.open_next();
    }

    fn open_next(&mut self) {
        if self.state != State::Idle {
            return;
        }
        self.notes.push(Note::Rests);
        if let Some(number) = self.waiting.pop_front() {
            self.state = State::Open;
            self.version = self.next_version;
            self.current = Some(number);
            self.notes.push(Note::Begun(number));
        }
    }

    /// What to ask now; or when, if it has to wait for time to pass.
    pub(crate) fn next(&mut self, now: Instant) -> Result<Ask, Option<Instant>> {
        if self.is_asking {
            return Err(None);
        }
        let ask = match &self.state {
            State::Claiming => Ask::Claim { current: self.identity },
            State::Open | State::Flushing => self.next_of_open().ok_or(None)?,
            State::Ending(ending) => Ask::End(*ending),
            State::Idle | State::Stopping | State::Dead => return Err(None),
        };
        if let Some(at) = self.retry_at.filter(|at| *at > now) {
            return Err(Some(at));
        }
        self.is_asking = true;
        let joins = match &ask {
            Ask::Join(_) | Ask::JoinGroup(_) => true,
            Ask::Offsets(_) => self.version == Version::Two,
            Ask::Claim { .. } | Ask::End(_) => false,
        };
        if joins && self.known == Known::No {
            self.known = Known::Maybe;
        }
        Ok(ask)
    }

    fn next_of_open(&self) -> Option<Ask> {
        if !self.wanted.is_empty() {
            return Some(Ask::Join(self.wanted.iter().copied().collect()));
        }
        let offsets = self.offsets.front()?;
        let group = &offsets.group.group;
        let must_join = self.version == Version::One && !self.groups.contains(group);
        Some(if must_join { Ask::JoinGroup(group.clone()) } else { Ask::Offsets(offsets.clone()) })
    }

    /// Takes an answer in.
    pub(crate) fn on_answer(&mut self, asked: &Ask, answer: Answer, retry_at: Instant) {
        self.is_asking = false;
        let request = asked.name();
        let (meaning, error) = match answer {
            Answer::Done => return self.on_done(asked, None),
            Answer::Identified(identity) => return self.on_done(asked, Some(identity)),
            Answer::Joined { joined, failed } => {
                self.known = Known::Yes;
                self.wanted.retain(|wanted| !joined.contains(wanted));
                self.joined.extend(joined);
                let Some(code) = failed else { return self.succeeded() };
                (asked.meaning(code), TransactionError::refused(request, code, Harm::NONE))
            }
            Answer::Refused(code) => {
                self.may_be_done |= tells_nothing(code);
                let meaning = asked.meaning(code);
                let is_fatal = meaning == Meaning::Fatal;
                let possibly_committed = self.possibly_committed(asked);
                (meaning, TransactionError::refused(request, code, Harm { is_fatal, possibly_committed }))
            }
            Answer::Failed(source) => {
                self.may_be_done |= !source.had_no_effect();
                let meaning = if source.is_retriable() { Meaning::Retry } else { Meaning::Fatal };
                let possibly_committed = self.possibly_committed(asked);
                (meaning, TransactionError::Request { request, source, possibly_committed })
            }
        };
        match meaning {
            Meaning::Retry => {
                self.failures += 1;
                self.retry_at = Some(retry_at);
                self.trouble = Some(error.to_string());
            }
            Meaning::Fenced => self.die(self.fenced()),
            Meaning::Fatal if self.is_needless_abort(asked) => {
                self.needs_epoch = true;
                self.on_done(asked, None);
            }
            Meaning::Fatal => self.die(error),
            Meaning::Abort | Meaning::Forgotten => self.on_lost_transaction(asked, meaning, error),
        }
    }

    fn possibly_committed(&self, asked: &Ask) -> bool {
        self.may_be_done && matches!(asked, Ask::End(Ending::Commit))
    }

    /// There was nothing to abort: what should have begun the transaction got lost.
    fn is_needless_abort(&self, asked: &Ask) -> bool {
        matches!(asked, Ask::End(Ending::Abort)) && self.known == Known::Maybe
    }

    /// The transaction is not to be had any more; the producer is.
    fn on_lost_transaction(&mut self, asked: &Ask, meaning: Meaning, error: TransactionError) {
        let Some(number) = self.current else { return self.die(error) };
        let is_forgotten = meaning == Meaning::Forgotten;
        self.needs_epoch |= is_forgotten;
        match asked {
            Ask::End(ending) => {
                if *ending == Ending::Commit {
                    self.notes.push(Note::Broken(number, error));
                }
                self.succeeded();
                if is_forgotten {
                    self.finish(number, Ending::Abort);
                } else {
                    self.end(number, Ending::Abort);
                }
            }
            _ if self.state == State::Stopping => {}
            _ => {
                if is_forgotten {
                    self.known = Known::Maybe;
                }
                self.break_off(number, error);
            }
        }
    }

    fn on_done(&mut self, asked: &Ask, identity: Option<Identity>) {
        self.succeeded();
        match asked {
            Ask::Claim { .. } => {
                self.identity = identity;
                self.needs_epoch = false;
                self.state = State::Idle;
                self.open_next();
            }
            Ask::Join(places) => {
                self.known = Known::Yes;
                self.wanted.retain(|wanted| !places.contains(wanted));
                self.joined.extend(places);
            }
            Ask::JoinGroup(group) => {
                self.known = Known::Yes;
                self.groups.insert(group.clone());
            }
            Ask::Offsets(offsets) => {
                self.known = Known::Yes;
                // Gone already if the transaction was stopped meanwhile.
                if self.offsets.front().is_some_and(|front| front.ticket == offsets.ticket) {
                    self.offsets.pop_front();
                    self.notes.push(Note::Taken { ticket: offsets.ticket });
                }
            }
            Ask::End(ending) => {
                self.identity = identity.or(self.identity);
                // A new epoch has come with the end.
                self.needs_epoch &= identity.is_none();
                if let Some(number) = self.current {
                    self.finish(number, *ending);
                }
            }
        }
    }

    fn succeeded(&mut self) {
        self.failures = 0;
        self.retry_at = None;
        self.trouble = None;
    }
}

/// Whether the code leaves open if what was asked is done.
fn tells_nothing(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UnknownServerError
            | ErrorCode::RequestTimedOut
            | ErrorCode::NetworkException
            | ErrorCode::KafkaStorageError
    )
}

impl Ask {
    fn name(&self) -> &'static str {
        match self {
            Self::Claim { .. } => "InitProducerId",
            Self::Join(_) => "AddPartitionsToTxn",
            Self::JoinGroup(_) => "AddOffsetsToTxn",
            Self::Offsets(_) => "TxnOffsetCommit",
            Self::End(_) => "EndTxn",
        }
    }

    /// What an error code means in an answer to this.
    fn meaning(&self, code: ErrorCode) -> Meaning {
        match code {
            ErrorCode::ProducerFenced | ErrorCode::InvalidProducerEpoch => Meaning::Fenced,
            ErrorCode::InvalidProducerIdMapping | ErrorCode::UnknownProducerId => match self {
                // It is this very request that would mend it.
                Self::Claim { .. } => Meaning::Fatal,
                _ => Meaning::Forgotten,
            },
            ErrorCode::TransactionAbortable => match self {
                Self::Claim { .. } | Self::End(Ending::Abort) => Meaning::Retry,
                _ => Meaning::Abort,
            },
            ErrorCode::TransactionalIdAuthorizationFailed
            | ErrorCode::ClusterAuthorizationFailed
            | ErrorCode::UnsupportedVersion
            | ErrorCode::InvalidTxnState => Meaning::Fatal,
            code if code.is_retriable() => Meaning::Retry,
            _ => match self {
                Self::Claim { .. } | Self::End(_) => Meaning::Fatal,
                // What was asked for this partition or group cannot be had; others can.
                Self::Join(_) | Self::JoinGroup(_) | Self::Offsets(_) => Meaning::Abort,
            },
        }
    }
}

#[cfg(test)]
mod tests;
