//! Judges a history after the rules of Jepsen's Kafka workload, and some of our own.
//!
//! One pass gathers what is known of each key; sorting it by offset gives the log as far as anybody saw it. The skips
//! and steps back of readers and writers are judged against that log, so an offset that nobody can have seen is never held
//! against a reader. Each wrong fact has one name: an acknowledged record that nobody read is `lost-write` (or
//! `unseen` behind the last one read), one that somebody else read is this reader's `poll-skip`, and an offset of which nothing
//! is known is a `hole`. A transaction is judged as a whole (`transactions`): what of it must be seen by readers of committed
//! records, what must not, and when.

mod clients;
mod log;
mod stable;
mod transactions;

use std::collections::BTreeMap;
use std::fmt;

use super::{Action, Key, Op, Outcome, Process, Value};
use clients::Clients;
use log::KeyLog;
use transactions::Transactions;

/// The ways in which a history can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An offset had two values.
    InconsistentOffsets,
    /// A value is at two offsets.
    Duplicate,
    /// Acknowledged, never read, though later offsets were.
    LostWrite,
    /// Acknowledged and never read, and nothing behind it either.
    Unseen,
    /// A send that failed was read.
    G1a,
    /// A value was read that nobody sent to this key.
    Phantom,
    /// A record's bytes are not those that were sent.
    Damaged,
    /// An offset between log start and high watermark without any record.
    Hole,
    /// A reader passed over records between two polls.
    PollSkip,
    /// A reader went back between two polls.
    NonmonotonicPoll,
    /// A reader passed over records within one poll.
    IntPollSkip,
    /// A reader went back within one poll.
    IntNonmonotonicPoll,
    /// A writer's later send is before an earlier one.
    NonmonotonicSend,
    /// A writer's later record is before an earlier one of the same send.
    IntNonmonotonicSend,
    /// The high watermark fell without a higher leader epoch.
    WatermarkFell,
    /// A reader of committed records saw one of a transaction that was aborted.
    AbortedRead,
    /// Readers of committed records saw all of a transaction that was aborted.
    Resurrected,
    /// A reader of committed records saw one before anybody asked for its commit.
    PrecommittedRead,
    /// Of a committed transaction, records that no reader of committed records saw, though others of it were seen.
    Torn,
    /// A committed transaction of which no reader of committed records saw anything.
    LostTransaction,
    /// A reader of committed records was handed one that was not stable later.
    ReadPastStable,
    /// The last stable offset stood still for longer than any transaction may be open.
    StableStalled,
    /// The last stable offset fell without a higher leader epoch.
    StableFell,
    /// A producer was acknowledged a record after another had claimed its transactional id.
    ZombieWrote,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 24] = [
        Self::InconsistentOffsets,
        Self::Duplicate,
        Self::LostWrite,
        Self::Unseen,
        Self::G1a,
        Self::Phantom,
        Self::Damaged,
        Self::Hole,
        Self::PollSkip,
        Self::NonmonotonicPoll,
        Self::IntPollSkip,
        Self::IntNonmonotonicPoll,
        Self::NonmonotonicSend,
        Self::IntNonmonotonicSend,
        Self::WatermarkFell,
        Self::AbortedRead,
        Self::Resurrected,
        Self::PrecommittedRead,
        Self::Torn,
        Self::LostTransaction,
        Self::ReadPastStable,
        Self::StableStalled,
        Self::StableFell,
        Self::ZombieWrote,
    ];

    /// Jepsen's name, where it has one.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InconsistentOffsets => "inconsistent-offsets",
            Self::Duplicate => "duplicate",
            Self::LostWrite => "lost-write",
            Self::Unseen => "unseen",
            Self::G1a => "G1a",
            Self::Phantom => "phantom",
            Self::Damaged => "damaged",
            Self::Hole => "hole",
            Self::PollSkip => "poll-skip",
            Self::NonmonotonicPoll => "nonmonotonic-poll",
            Self::IntPollSkip => "int-poll-skip",
            Self::IntNonmonotonicPoll => "int-nonmonotonic-poll",
            Self::NonmonotonicSend => "nonmonotonic-send",
            Self::IntNonmonotonicSend => "int-nonmonotonic-send",
            Self::WatermarkFell => "watermark-fell",
            Self::AbortedRead => "aborted-read",
            Self::Resurrected => "resurrected-transaction",
            Self::PrecommittedRead => "precommitted-read",
            Self::Torn => "torn-transaction",
            Self::LostTransaction => "lost-transaction",
            Self::ReadPastStable => "read-past-stable",
            Self::StableStalled => "stable-stalled",
            Self::StableFell => "stable-fell",
            Self::ZombieWrote => "zombie-wrote",
        }
    }
}

/// One finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Anomaly {
    /// What is wrong.
    pub kind: Kind,
    /// In which partition.
    pub key: Key,
    /// At which offset, if that is known.
    pub offset: Option<i64>,
    /// The value that should not be there, or is not.
    pub value: Option<Value>,
    /// The client that saw it, where it is about one.
    pub process: Option<Process>,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in key {}", self.kind.name(), self.key)?;
        if let Some(offset) = self.offset {
            write!(f, ", offset {offset}")?;
        }
        if let Some(value) = self.value {
            write!(f, ", value {value:#x}")?;
        }
        if let Some(process) = self.process {
            write!(f, ", process {process}")?;
        }
        Ok(())
    }
}

/// What a history shows besides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Records acknowledged.
    pub acknowledged: usize,
    /// Records refused for certain.
    pub failed: usize,
    /// Records of which the sender does not know.
    pub unknown: usize,
    /// How many of those were read.
    pub unknown_read: usize,
    /// Records read, each time counted.
    pub readings: usize,
    /// Largest time from the acknowledgement of a record to the end of the first poll with it.
    pub worst_lag_us: u64,
    /// Records of one send with another's between them: allowed, nothing isolates them.
    pub send_skips: usize,
    /// Transactions that were committed, those that an undecided one turned out to be included.
    pub committed: usize,
    /// Transactions that were aborted, or never ended.
    pub aborted: usize,
    /// Transactions of which nobody can tell.
    pub undecided: usize,
}

/// What is to be said of a history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Everything wrong, sorted, each once.
    pub anomalies: Vec<Anomaly>,
    /// What was done.
    pub figures: Figures,
}

impl Verdict {
    /// How many findings there are of each kind that has any.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for anomaly in &self.anomalies {
            *counts.entry(anomaly.kind.name()).or_default() += 1;
        }
        counts
    }
}

/// Judges a history.
#[must_use]
pub fn judge(history: &[Op]) -> Verdict {
    let transactions = Transactions::of(history);
    let mut keys = logs(history);
    let mut verdict = Verdict::default();
    for (key, log) in &mut keys {
        log.settle(&transactions);
        log.judge(*key, &mut verdict);
    }
    transactions.judge(&keys, &mut verdict);
    transactions.judge_zombies(history, &mut verdict);
    for (key, log) in &keys {
        stable::judge(*key, log, transactions.longest_us(), &mut verdict);
    }
    let mut clients = Clients::new(&keys);
    for op in history {
        clients.follow(op, &mut verdict);
    }
    verdict.anomalies.sort_unstable();
    verdict.anomalies.dedup();
    verdict
}

/// What all clients together know of each key.
fn logs(history: &[Op]) -> BTreeMap<Key, KeyLog> {
    let mut keys: BTreeMap<Key, KeyLog> = BTreeMap::new();
    for op in history {
        match &op.action {
            Action::Send { records, transaction } => {
                for record in records {
                    keys.entry(record.key).or_default().sent(record, *transaction, op);
                }
            }
            Action::Poll { records, isolation, markers } => {
                for record in records {
                    keys.entry(record.key).or_default().polled(record, *isolation, op);
                }
                for marker in markers {
                    keys.entry(marker.key).or_default().passed(marker.offset);
                }
            }
            Action::Mark { key, log_start, high_watermark, last_stable, leader_epoch }
                if op.outcome == Outcome::Ok =>
            {
                let mark = log::Mark {
                    began_us: op.began_us,
                    ended_us: op.ended_us,
                    log_start: *log_start,
                    high_watermark: *high_watermark,
                    last_stable: *last_stable,
                    leader_epoch: *leader_epoch,
                };
                keys.entry(*key).or_default().marked(mark);
            }
            Action::Mark { .. }
            | Action::Assign { .. }
            | Action::Crash
            | Action::Claim { .. }
            | Action::Begin { .. }
            | Action::End { .. } => {}
        }
    }
    keys
}
