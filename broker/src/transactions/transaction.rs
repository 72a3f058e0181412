//! One transactional id: who has it, and the transaction that it has open or had last.
//!
//! Only the steps from one state to the next are here, each of which leaves what is stored; whether a request may take
//! one is decided by the files of `shard`. The steps are Kafka's (KIP-98, KIP-360, KIP-890).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_log::ProducerId;
use millstream_protocol::KStr;

use crate::coordinator::{BatchNumber, Millis, Ticket};

/// The last epoch that a client is ever given: one more is left to fence it with.
pub(super) const LAST_EPOCH: i16 = i16::MAX - 1;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TopicPartition {
    pub(crate) topic: KStr,
    pub(crate) partition: i32,
}

/// What becomes of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Commit,
    Abort,
}

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// There was none yet in this epoch.
    Empty,
    Ongoing,
    /// It is decided; markers are on their way.
    Prepared(Outcome),
    /// Its markers are written.
    Complete(Outcome),
}

impl Status {
    /// As clients are told.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::Prepared(Outcome::Commit) => "PrepareCommit",
            Self::Prepared(Outcome::Abort) => "PrepareAbort",
            Self::Complete(Outcome::Commit) => "CompleteCommit",
            Self::Complete(Outcome::Abort) => "CompleteAbort",
        }
    }

    /// Whether nothing is open, and the id may expire.
    pub(super) fn is_idle(self) -> bool {
        match self {
            Self::Empty | Self::Complete(_) => true,
            Self::Ongoing | Self::Prepared(_) => false,
        }
    }
}

/// How the client counts epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    /// From transaction to transaction it keeps its epoch.
    One,
    /// It gets a new epoch after each transaction (KIP-890).
    Two,
}

/// Who writes, and which instance of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) producer: ProducerId,
    pub(crate) epoch: i16,
}

impl Identity {
    /// Whether no client may be given a later epoch of this producer.
    pub(super) fn is_exhausted(self) -> bool {
        self.epoch >= LAST_EPOCH
    }
}

/// Partitions, by topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Partitions(BTreeMap<KStr, BTreeSet<i32>>);

impl Partitions {
    pub(crate) fn contains(&self, wanted: &TopicPartition) -> bool {
        self.0.get(wanted.topic.as_str()).is_some_and(|partitions| partitions.contains(&wanted.partition))
    }

    pub(crate) fn insert(&mut self, topic: &KStr, partition: i32) {
        match self.0.get_mut(topic.as_str()) {
            Some(partitions) => drop(partitions.insert(partition)),
            // A name must not keep a frame alive.
            None => drop(self.0.insert(topic.detach(), BTreeSet::from([partition]))),
        }
    }

    pub(crate) fn by_topic(&self) -> impl Iterator<Item = (&KStr, &BTreeSet<i32>)> {
        self.0.iter()
    }

    pub(crate) fn to_vec(&self) -> Vec<TopicPartition> {
        let topics = self.0.iter();
        let all = topics.flat_map(|(topic, partitions)| {
            partitions.iter().map(|partition| TopicPartition { topic: topic.clone(), partition: *partition })
        });
        all.collect()
    }
}

/// What is stored of a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) identity: Identity,
    /// Who had the id before the last step, if another had.
    pub(crate) previous: Option<ProducerId>,
    /// Who has the id once the transaction that is decided is complete, if another will.
    pub(crate) next: Option<ProducerId>,
    pub(crate) timeout_ms: i32,
    pub(crate) status: Status,
    pub(crate) partitions: Partitions,
    pub(crate) updated_ms: i64,
    /// When the transaction began; -1 if there was none.
    pub(crate) started_ms: i64,
    /// How the client counted that took the last step of a transaction.
    pub(crate) version: Version,
}

impl Stored {
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.timeout_ms).unwrap_or(0))
    }

    /// Who writes once everything that is decided is done.
    pub(super) fn coming(&self) -> Identity {
        match (self.status, self.next) {
            (Status::Prepared(_), Some(producer)) => Identity { producer, epoch: 0 },
            (Status::Empty | Status::Ongoing | Status::Prepared(_) | Status::Complete(_), _) => self.identity,
        }
    }

    fn pass_to(&mut self, identity: Identity) {
        let before = self.identity.producer;
        self.previous = (before != identity.producer).then_some(before);
        self.identity = identity;
    }

    /// The epoch that the client had before this one, as far as it can be told from what is stored.
    fn last_epoch(&self) -> Option<i16> {
        match (self.version, self.status) {
            (Version::Two, Status::Prepared(_) | Status::Complete(_)) => Some(match self.identity.epoch {
                0 => LAST_EPOCH,
                epoch => epoch - 1,
            }),
            (Version::One | Version::Two, _) => None,
        }
    }
}

/// A transactional id.
#[derive(Clone, Debug)]
pub(super) struct Transaction {
    pub(super) stored: Stored,
    /// The epoch that its client had before, if a repeated request of it may count.
    pub(super) last_epoch: Option<i16>,
    /// Who writes the markers.
    pub(super) job: Option<JobNumber>,
    /// Who waits for the end.
    pub(super) waiting: Vec<Ticket>,
    /// When those who wait are answered at the latest.
    pub(super) reply_by: Option<Millis>,
    /// When the transaction is aborted if it has not ended.
    pub(super) abort_at: Option<Millis>,
    /// The batch that has the last partition that was added.
    pub(super) enlisted_in: BatchNumber,
    /// When it is looked at next, as it stands among the timers.
    pub(super) due: Option<Millis>,
}

/// Tells those apart who write the markers of a transaction: never the same twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JobNumber(pub(crate) u64);

/// How the epoch changes at the end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bump {
    /// Not at all: the client keeps it.
    None,
    /// By one, and the client is told.
    One,
    /// By one, and whoever has the id by then is another producer: this one has no epochs left.
    Rotate(ProducerId),
}

impl Transaction {
    pub(super) fn new(stored: Stored) -> Self {
        Self {
            last_epoch: stored.last_epoch(),
            stored,
            job: None,
            waiting: Vec::new(),
            reply_by: None,
            abort_at: None,
            enlisted_in: BatchNumber::default(),
            due: None,
        }
    }

    /// Somebody has the id now, without a transaction.
    pub(super) fn begin_empty(&mut self, identity: Identity, last_epoch: Option<i16>, now_ms: i64) {
        let stored = &mut self.stored;
        assert!(stored.status.is_idle(), "an open transaction is ended before somebody else has its id");
        stored.pass_to(identity);
        stored.next = None;
        stored.status = Status::Empty;
        stored.partitions = Partitions::default();
        (stored.updated_ms, stored.started_ms) = (now_ms, -1);
        stored.version = Version::One;
        self.last_epoch = last_epoch;
    }

    /// Partitions belong to the transaction, which begins with them if there is none.
    pub(super) fn add(&mut self, partitions: &[TopicPartition], version: Version, now_ms: i64) {
        let stored = &mut self.stored;
        match stored.status {
            Status::Empty | Status::Complete(_) => stored.started_ms = now_ms,
            Status::Ongoing => {}
            Status::Prepared(outcome) => {
                unreachable!("a transaction takes nothing once it is decided: {outcome:?}")
            }
        }
        stored.status = Status::Ongoing;
        stored.previous = None;
        stored.next = None;
        partitions.iter().for_each(|one| stored.partitions.insert(&one.topic, one.partition));
        stored.updated_ms = now_ms;
        stored.version = version;
    }

    /// It is decided. From here on it ends like this, whatever happens.
    pub(super) fn prepare(&mut self, outcome: Outcome, version: Version, bump: Bump, now_ms: i64) {
        let stored = &mut self.stored;
        match stored.status {
            Status::Ongoing => {}
            Status::Empty | Status::Complete(_) => {
                assert!(outcome == Outcome::Abort, "nothing was written that could be committed");
                stored.started_ms = now_ms;
            }
            Status::Prepared(before) => unreachable!("it is decided already: {before:?}"),
        }
        stored.status = Status::Prepared(outcome);
        stored.previous = None;
        stored.updated_ms = now_ms;
        stored.version = version;
        stored.next = None;
        if let Bump::Rotate(next) = bump {
            stored.next = Some(next);
        }
        if bump != Bump::None {
            self.last_epoch = Some(stored.identity.epoch).filter(|_| version == Version::Two);
            // Nobody is given the last epoch, but records that came from elsewhere may have it.
            stored.identity.epoch = stored.identity.epoch.saturating_add(1);
        }
        self.abort_at = None;
    }

    /// Its markers are written.
    pub(super) fn complete(&mut self, now_ms: i64) {
        let stored = &mut self.stored;
        let Status::Prepared(outcome) = stored.status else {
            unreachable!("only what is decided completes: {:?}", stored.status)
        };
        stored.pass_to(stored.coming());
        stored.status = Status::Complete(outcome);
        stored.next = None;
        stored.partitions = Partitions::default();
        stored.updated_ms = now_ms;
        self.job = None;
    }
}
