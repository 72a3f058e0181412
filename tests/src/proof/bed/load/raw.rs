//! A writer on one bare connection after the other.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::Load;
use crate::proof::bed::broker::pause;
use crate::proof::bed::scribe::Scribe;
use crate::proof::bed::wire::Target;

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
            if let Ok(mut scribe) = Scribe::connect(address, &load.recorder) {
                one_client(&load, &mut scribe, &mut chance);
            }
            pause(Duration::from_millis(2));
        }
        Ok(())
    }
}

fn one_client(load: &Load, scribe: &mut Scribe, chance: &mut StdRng) {
    while !load.is_enough() {
        let partition = chance.random_range(0..load.partitions) as i32;
        let acks = if chance.random() { 1 } else { -1 };
        let to = Target { topic: &load.topic, partition, acks };
        if scribe.send(to, chance.random_range(1..6)).is_err() {
            return;
        }
    }
}
