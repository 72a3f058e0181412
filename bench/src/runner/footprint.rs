//! What a broker costs before it does anything: time to start, memory at rest, size on disk.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::durability::one_record;
use crate::meter::resident_bytes;
use crate::options::Acks;
use crate::peer::{How, Peer, Running};
use crate::sample::Figure;
use crate::wire::Connection;

/// Partitions that are added while nothing uses them.
const IDLE_PARTITIONS: i32 = 1000;

/// How long a broker is left alone before its memory is read.
const REST: Duration = Duration::from_millis(300);

/// Starts the broker twice: once against the clock, once to look at it at rest.
pub(crate) fn measure(peer: &dyn Peer, how: &How<'_>) -> Result<BTreeMap<Figure, f64>> {
    let mut figures = BTreeMap::new();
    let begun = Instant::now();
    let broker = peer.start(how)?;
    let mut connection = Connection::open(broker.address)?;
    connection.await_topic("first")?;
    connection.produce("first", one_record(5), Acks::Written)?;
    figures.insert(Figure::FirstProduceMs, begun.elapsed().as_secs_f64() * 1e3);
    drop(broker);

    let broker = peer.start(how)?;
    let idle = resident_at_rest(&broker)?;
    figures.insert(Figure::IdleMemoryBytes, idle as f64);
    if peer.creates_topics() {
        let mut connection = Connection::open(broker.address)?;
        connection.await_topic("in-use")?;
        let before = resident_at_rest(&broker)?;
        connection.create_topic("idle", IDLE_PARTITIONS, &[])?;
        let added = resident_at_rest(&broker)?.saturating_sub(before);
        figures.insert(Figure::PartitionsMemoryBytes, added as f64);
    }
    if let Some(binary) = peer.binary() {
        let size = binary.metadata().with_context(|| format!("cannot read {}", binary.display()))?.len();
        figures.insert(Figure::BinaryBytes, size as f64);
    }
    Ok(figures)
}

fn resident_at_rest(broker: &Running) -> Result<u64> {
    let end = Instant::now() + REST;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        // Rest is a length of time, there is nothing else to wait for.
        std::thread::park_timeout(left);
    }
    resident_bytes(broker.pid())
}
