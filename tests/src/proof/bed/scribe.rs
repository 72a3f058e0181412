//! A client on one bare connection that notes what it does: what it is told is all that is done, nothing is sent again.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use millstream_protocol::ErrorCode;

use super::broker::pause;
use super::payload;
use super::recorder::Recorder;
use super::wire::{Answer, Target, Wire, batch};
use crate::history::{Action, Key, Outcome, Process, Sent, crc_of};

/// How long a partition may take to be served after a start.
const PATIENCE: Duration = Duration::from_secs(120);

/// The client, from its connection to the loss of it.
#[derive(Debug)]
pub(in crate::proof) struct Scribe {
    pub(in crate::proof) wire: Wire,
    recorder: Recorder,
    process: Process,
    sent: u32,
}

impl Scribe {
    pub(in crate::proof) fn connect(address: SocketAddr, recorder: &Recorder) -> io::Result<Self> {
        let wire = Wire::connect(address)?;
        Ok(Self { wire, recorder: recorder.clone(), process: recorder.process(), sent: 0 })
    }

    /// Sends a batch of so many records. After an error the connection is of no more use.
    pub(in crate::proof) fn send(&mut self, to: Target<'_>, count: u32) -> io::Result<Answer> {
        let values: Vec<_> =
            (self.sent..self.sent + count).map(|n| payload::value(self.process, n)).collect();
        self.sent += count;
        let began_us = self.recorder.now_us();
        let answer = self.wire.produce(to, batch(&values));
        let outcome = outcome(&answer.as_ref().map(|answer| answer.code));
        let base = answer.as_ref().ok().filter(|_| outcome == Outcome::Ok).map(|answer| answer.base_offset);
        let records = values.iter().zip(0..).map(|(value, n)| {
            let (name, bytes) = payload::record(*value);
            let (key, offset) = (to.partition as Key, base.map(|base| base + n));
            Sent { key, value: *value, crc: crc_of(&name, &bytes), offset }
        });
        let action = Action::sent(records.collect());
        self.recorder.note(self.process, began_us, outcome, action);
        if answer.is_err() {
            self.recorder.note(self.process, began_us, Outcome::Info, Action::Crash);
        }
        answer
    }
}

/// After faults.md: only a refusal that excludes the effect is a failure.
fn outcome(answer: &std::result::Result<ErrorCode, &io::Error>) -> Outcome {
    match answer {
        Ok(ErrorCode::None) => Outcome::Ok,
        Ok(
            ErrorCode::UnknownTopicOrPartition
            | ErrorCode::OutOfOrderSequenceNumber
            | ErrorCode::InvalidProducerEpoch
            | ErrorCode::CorruptMessage
            | ErrorCode::MessageTooLarge
            | ErrorCode::InvalidRecord,
        ) => Outcome::Fail,
        Ok(_) | Err(_) => Outcome::Info,
    }
}

/// Reads everything of a topic as a new client, and asks for the bounds.
pub(in crate::proof) fn read_all(
    address: SocketAddr,
    topic: &str,
    keys: u32,
    recorder: &Recorder,
) -> Result<()> {
    let mut wire = Wire::connect(address)?;
    let process = recorder.process();
    for key in 0..keys {
        let log_start = patiently(|| wire.log_start(topic, key))?;
        let began_us = recorder.now_us();
        let leader_epoch = wire.leader_epoch(topic, key)?;
        let mut offset = log_start;
        let high_watermark = loop {
            let fetched = wire.fetch(topic, key, offset).context("reading all at the end")?;
            if fetched.code != ErrorCode::None {
                anyhow::bail!("reading partition {key} from {offset}: {}", fetched.code.name());
            }
            let next = fetched.records.last().map_or(offset, |record| record.offset + 1);
            let action = Action::polled(fetched.records);
            recorder.note(process, began_us, Outcome::Ok, action);
            if next == offset {
                break fetched.high_watermark;
            }
            offset = next;
        };
        let mark = Action::Mark { key, log_start, high_watermark, last_stable: None, leader_epoch };
        recorder.note(process, recorder.now_us(), Outcome::Ok, mark);
    }
    Ok(())
}

/// Partitions are recovered after the listener is open: asks until there is an answer.
fn patiently<T>(mut ask: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Err(error) if error.kind() == io::ErrorKind::Other && Instant::now() < deadline => {
                pause(Duration::from_millis(2));
            }
            answer => return answer,
        }
    }
}
