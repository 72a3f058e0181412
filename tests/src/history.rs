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
//! ```
//!
//! A key is a partition: values are never the same twice in it. `crc` is that of the record's bytes, so that a record which
//! came back changed is seen even if its value can still be told. A send that failed for certain is `fail`; one that
//! may have happened is `info`, and so is everything that a client cannot tell.

pub mod checker;
pub mod generated;
pub mod planted;

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

/// A partition.
pub type Key = u32;
/// What a record says; no two sends of a key share one.
pub type Value = u64;
/// A client from its birth to its end.
pub type Process = u32;

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
    },
    /// Records were read, in this order.
    Poll {
        /// The records.
        records: Vec<Polled>,
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
        /// The epoch of the leader that said so.
        leader_epoch: i32,
    },
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
