//! A writer on one bare connection: what it is told is all that is done, nothing is sent again.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use millstream_protocol::ErrorCode;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::Load;
use crate::history::{Action, Outcome, Sent};
use crate::proof::broker::pause;
use crate::proof::payload;
use crate::proof::wire::{Target, Wire, batch};

/// The writer.
#[derive(Debug)]
pub(in crate::proof) struct RawWriter {
    pub(in crate::proof) load: Load,
    pub(in crate::proof) seed: u64,
}

impl RawWriter {
    /// Writes until it is enough. Each lost connection is the end of a client, and a new one comes.
    pub(in crate::proof) fn write(self) -> Result<()> {
        let Self { load, seed } = self;
        let address: SocketAddr = load.bootstrap.parse().context("the broker's address")?;
        let mut chance = StdRng::seed_from_u64(seed);
        while !load.is_enough() {
            if let Ok(mut wire) = Wire::connect(address) {
                one_client(&load, &mut wire, &mut chance);
            }
            pause(Duration::from_millis(2));
        }
        Ok(())
    }
}

fn one_client(load: &Load, wire: &mut Wire, chance: &mut StdRng) {
    let process = load.recorder.process();
    let mut sent = 0;
    while !load.is_enough() {
        let key = chance.random_range(0..load.partitions);
        let acks = if chance.random() { 1 } else { -1 };
        let count = chance.random_range(1..6);
        let values: Vec<_> = (sent..sent + count).map(|n| payload::value(process, n)).collect();
        sent += count;
        let began_us = load.recorder.now_us();
        let answer = wire.produce(Target { topic: &load.topic, partition: key as i32, acks }, batch(&values));
        let outcome = outcome(&answer.as_ref().map(|answer| answer.code));
        let base = answer.as_ref().ok().map(|answer| answer.base_offset);
        let base = base.filter(|_| outcome == Outcome::Ok);
        let records = values.iter().zip(0..).map(|(value, n)| {
            let (name, bytes) = payload::record(*value);
            let offset = base.map(|base| base + n);
            Sent { key, value: *value, crc: payload::crc(&name, &bytes), offset }
        });
        load.recorder.note(process, began_us, outcome, Action::Send { records: records.collect() });
        if answer.is_err() {
            load.recorder.note(process, began_us, Outcome::Info, Action::Crash);
            return;
        }
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
