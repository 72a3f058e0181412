//! Judges a history after the rules of Jepsen's Kafka workload, without transactions, and some of our own.
//!
//! One pass gathers what is known of each key; sorting it by offset gives the log as far as anybody saw it. The skips
//! and steps back of readers and writers are judged against that log, so an offset that nobody can have seen is never held
//! against a reader. Each wrong fact has one name: an acknowledged record that nobody read is `lost-write` (or
//! `unseen` behind the last one read), one that somebody else read is this reader's `poll-skip`, and an offset of which nothing
//! is known is a `hole`.

mod clients;
mod log;

use std::collections::BTreeMap;
use std::fmt;

use super::{Action, Key, Op, Outcome, Process, Value};
use clients::Clients;
use log::KeyLog;

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
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 15] = [
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
    let mut keys: BTreeMap<Key, KeyLog> = BTreeMap::new();
    for op in history {
        match &op.action {
            Action::Send { records } => {
                for record in records {
                    keys.entry(record.key).or_default().sent(record, op);
                }
            }
            Action::Poll { records } => {
                for record in records {
                    keys.entry(record.key).or_default().polled(record, op);
                }
            }
            Action::Mark { key, log_start, high_watermark, leader_epoch } if op.outcome == Outcome::Ok => {
                let mark = log::Mark {
                    began_us: op.began_us,
                    ended_us: op.ended_us,
                    log_start: *log_start,
                    high_watermark: *high_watermark,
                    leader_epoch: *leader_epoch,
                };
                keys.entry(*key).or_default().marked(mark);
            }
            Action::Mark { .. } | Action::Assign { .. } | Action::Crash => {}
        }
    }
    let mut verdict = Verdict::default();
    for (key, log) in &mut keys {
        log.settle();
        log.judge(*key, &mut verdict);
    }
    let mut clients = Clients::new(&keys);
    for op in history {
        clients.follow(op, &mut verdict);
    }
    verdict.anomalies.sort_unstable();
    verdict.anomalies.dedup();
    verdict
}
