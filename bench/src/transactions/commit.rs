//! One commit after another by one producer: how many flushes of the device does one take?

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::writer::{Load, Writer};
use super::{Stage, told, verdict};
use crate::bars::Verdict;
use crate::latency::Latencies;
use crate::wire::Connection;

const FLUSHES: f64 = 3.0;
const ONE: Load = Load { records: 1, value_bytes: 100 };
const REST: Duration = Duration::from_millis(2);
/// So many of one kind before as many of the other: the device's mood changes slowly.
const TURN: u32 = 50;

pub(super) fn measure(stage: &Stage) -> Result<Vec<Verdict>> {
    let broker = stage.start()?;
    Connection::open(broker.address)?.create_topic("committed", 1, &[])?;
    let mut writer = Writer::transactional(broker.address, "alone", "committed", 0)?;
    let folder = tempfile::tempdir_in(&stage.parent).context("cannot make a folder beside the broker's")?;
    let mut file = File::create(folder.path().join("device")).context("cannot make a file")?;
    let (mut writes, mut commits, mut device) = (Latencies::new(), Latencies::new(), Latencies::new());
    let end = Instant::now() + stage.window * stage.rounds;
    while Instant::now() < end {
        for _ in 0..TURN {
            let sent = Instant::now();
            writer.send(ONE)?;
            writer.settle(0)?;
            writes.record(sent.elapsed());
            let asked = Instant::now();
            writer.commit()?;
            commits.record(asked.elapsed());
            std::thread::park_timeout(REST);
        }
        for _ in 0..TURN {
            let begun = Instant::now();
            file.write_all(&[b'm'; 200]).and_then(|()| file.sync_data()).context("the device refuses")?;
            device.record(begun.elapsed());
            std::thread::park_timeout(REST);
        }
    }
    let p50 = |latencies: &Latencies| latencies.percentiles().map_or(f64::NAN, |told| told.p50_us);
    let (ours, floor) = (p50(&commits), p50(&device));
    let met = (format!("<= {FLUSHES}x"), ours <= FLUSHES * floor);
    Ok(vec![
        verdict("commit p50 us (floor: write + fdatasync)".to_owned(), ours, Some(floor), met),
        told("first write of a transaction p50 us".to_owned(), p50(&writes)),
    ])
}
