//! What clients did and saw while a broker was harmed, as lines of JSON, and the judge of it.
//!
//! One line is one operation of one process, written when it ended. A process is one client from its birth to its
//! end; whoever starts anew is a new process. The lines of a process are in the order in which it began them.
//!
//! ```text
//! {"process":1,"began_us":10,"ended_us":90,"outcome":"ok","op":"send","records":[{"key":0,"value":7,"crc":1,"offset":5}]}
//! {"process":2,"began_us":20,"ended_us":95,"outcome":"ok","op":"poll","records":[{"key":0,"offset":5,"value":7,"crc":1}]}
//! {"process":2,"began_us":96,"ended_us":96,"outcome":"ok","op":"assign","keys":[0,3]}
//! {"process":2,"began_us":97,"ended_us":97,"outcome":"info","op":"crash"}
//! {"process":9,"began_us":98,"ended_us":99,"outcome":"ok","op":"mark","key":0,"log_start":0,"high_watermark":6,"leader_epoch":2}
//! {"process":3,"began_us":1,"ended_us":2,"outcome":"ok","op":"claim","name":4}
//! {"process":3,"began_us":2,"ended_us":2,"outcome":"ok","op":"begin","transaction":7,"name":4,"timeout_ms":1000}
//! {"process":3,"began_us":3,"ended_us":5,"outcome":"ok","op":"send","transaction":7,"records":[]}
//! {"process":3,"began_us":6,"ended_us":9,"outcome":"info","op":"end","transaction":7,"ending":"commit"}
//! {"process":5,"began_us":6,"ended_us":9,"outcome":"ok","op":"poll","isolation":"committed","records":[]}
//! ```
//!
//! A key is a partition: values are never the same twice in it. `crc` is that of the record's bytes, so that a record which
//! came back changed is seen even if its value can still be told. A send that failed for certain is `fail`; one that
//! may have happened is `info`, and so is everything that a client cannot tell.
//!
//! A transaction is the sends that name it. It is committed if a commit was acknowledged, undecided if one may have happened,
//! and aborted otherwise; tries of one client to end it are one operation. Who claims a name fences who claimed it before.

pub mod checker;
pub mod generated;
pub mod planted;

use std::io::{self, BufRead, Write};

use millstream_protocol::records::crc32c;
use serde::{Deserialize, Serialize};

/// A partition.
pub type Key = u32;
/// What a record says; no two sends of a key share one.
pub type Value = u64;
/// A client from its birth to its end.
pub type Process = u32;
/// A transaction; no two of a history share a number.
pub type Transaction = u64;
/// A transactional id.
pub type Name = u32;

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Op {
    /// Who did it.
    pub process: Process,
    /// When it began, in microseconds of one clock for the whole history.
    pub began_us: u64,
    /// When it ended.
    pub ended_us: u64,
    /// What is known of its effect.
    pub outcome: Outcome,
    /// What it was.
    #[serde(flatten)]
    pub action: Action,
}

/// What is known of the effect of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It happened.
    Ok,
    /// It did certainly not happen: refused for a reason that excludes it.
    Fail,
    /// It may have happened: timeout, lost connection, unknown error, and NOT_LEADER_OR_FOLLOWER (KAFKA-13574).
    Info,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Action {
    /// Records were sent, in this order.
    Send {
        /// The records.
        records: Vec<Sent>,
        /// The transaction that they belong to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        transaction: Option<Transaction>,
    },
    /// Records were read, in this order.
    Poll {
        /// The records.
        records: Vec<Polled>,
        /// What the reader wants to see.
        #[serde(default)]
        isolation: Isolation,
        /// Ends of transactions that it passed, if it can see them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        markers: Vec<Marker>,
    },
    /// A transactional id was claimed.
    Claim {
        /// Which one.
        name: Name,
    },
    /// A transaction was begun; nobody but the client knows of it yet.
    Begin {
        /// The transaction.
        transaction: Transaction,
        /// Under which transactional id.
        name: Name,
        /// After so long the broker ends it.
        timeout_ms: u64,
    },
    /// A transaction was to end.
    End {
        /// The transaction.
        transaction: Transaction,
        /// In which way.
        ending: Ending,
    },
    /// From now on the process reads these keys. One that it reads already goes on where it was; any other begins anywhere.
    Assign {
        /// The keys.
        keys: Vec<Key>,
    },
    /// The process is no more.
    Crash,
    /// The broker was asked for the bounds of a key.
    Mark {
        /// The key.
        key: Key,
        /// Its first offset.
        log_start: i64,
        /// The end of what may be read.
        high_watermark: i64,
        /// The end of what a reader of committed records may be handed, if that was asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_stable: Option<i64>,
        /// The epoch of the leader that said so.
        leader_epoch: i32,
    },
}

impl Action {
    /// A send outside of any transaction.
    #[must_use]
    pub fn sent(records: Vec<Sent>) -> Self {
        Self::Send { records, transaction: None }
    }

    /// A poll by a reader of everything that does not see markers.
    #[must_use]
    pub fn polled(records: Vec<Polled>) -> Self {
        Self::Poll { records, isolation: Isolation::Uncommitted, markers: Vec::new() }
    }
}

/// What a reader wants to see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Everything.
    #[default]
    Uncommitted,
    /// Nothing of a transaction that is open or aborted.
    Committed,
}

/// How a transaction was to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// All of it is to be seen.
    Commit,
    /// Nothing of it is to be seen.
    Abort,
}

/// The end of a transaction, as it lies in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// Where.
    pub key: Key,
    /// At which offset.
    pub offset: i64,
}

/// A record that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Where to.
    pub key: Key,
    /// What it says.
    pub value: Value,
    /// CRC-32C of its key and value.
    pub crc: u32,
    /// Where the broker says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
}

/// A record that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Polled {
    /// Where from.
    pub key: Key,
    /// Where it was.
    pub offset: i64,
    /// What it says; none if that can no longer be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// CRC-32C of its key and value.
    pub crc: u32,
}

/// The checksum of a record's key and value.
pub(crate) fn crc_of(key: &[u8], value: &[u8]) -> u32 {
    crc32c(&[key, value].concat())
}

/// Writes a history, a line for each operation.
///
/// # Errors
/// Those of `to`.
pub fn write<'a>(mut to: impl Write, history: impl IntoIterator<Item = &'a Op>) -> io::Result<()> {
    for op in history {
        serde_json::to_writer(&mut to, op)?;
        to.write_all(b"\n")?;
    }
    to.flush()
}

/// Reads a history.
///
/// # Errors
/// Those of `from`, and lines that are no operation, with their number.
pub fn read(from: impl BufRead) -> io::Result<Vec<Op>> {
    let mut history = Vec::new();
    for (line, number) in from.lines().zip(1..) {
        let op = serde_json::from_str(&line?);
        let wrong = |error| io::Error::new(io::ErrorKind::InvalidData, format!("line {number}: {error}"));
        history.push(op.map_err(wrong)?);
    }
    Ok(history)
}
