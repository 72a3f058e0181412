//! One caller who rests between two batches: how far does its acknowledgement lie behind what the device
//! itself takes to make as many bytes durable? What the way takes without the disk is told beside it, and what
//! `kideal`, a thread that reads, writes, syncs and answers, takes for all of it.

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::{Stage, one_record, pause, verdict};
use crate::bars::Verdict;
use crate::latency::Latencies;
use crate::options::Acks;
use crate::peer::{How, Peer as _};
use crate::wire::Connection;

const RECORD_BYTES: usize = 1024;
const REST: Duration = Duration::from_millis(2);
/// What the way through the broker may add.
const MARGIN_US: f64 = 60.0;
/// So many of one kind before as many of the other: the device's mood changes slowly.
const TURN: u32 = 50;

pub(super) fn measure(stage: &Stage) -> Result<Verdict> {
    let how = How { parent: &stage.parent, partitions: 1, acks: Acks::Flushed };
    let broker = stage.millstream()?.start(&how)?;
    let mut caller = Connection::open(broker.address)?;
    caller.await_topic("alone")?;
    let ideal_broker = stage.floor.as_ref().map(|floor| floor.start(&how)).transpose()?;
    let mut ideal_caller = ideal_broker.as_ref().map(|ideal| Connection::open(ideal.address)).transpose()?;
    let batch = one_record(RECORD_BYTES);
    let folder = tempfile::tempdir_in(&stage.parent).context("cannot make a folder beside the broker's")?;
    let mut file = File::create(folder.path().join("device")).context("cannot make a file")?;
    let (mut acks, mut way) = (Latencies::new(), Latencies::new());
    let (mut device, mut ideal) = (Latencies::new(), Latencies::new());
    let end = Instant::now() + stage.window * stage.rounds;
    while Instant::now() < end {
        for (asked, latencies) in [(Acks::Flushed, &mut acks), (Acks::Written, &mut way)] {
            for _ in 0..TURN {
                let sent = Instant::now();
                caller.produce("alone", batch.clone(), asked)?;
                latencies.record(sent.elapsed());
                pause(REST);
            }
        }
        if let Some(caller) = &mut ideal_caller {
            for _ in 0..TURN {
                let sent = Instant::now();
                caller.produce("alone", batch.clone(), Acks::Flushed)?;
                ideal.record(sent.elapsed());
                pause(REST);
            }
        }
        for _ in 0..TURN {
            let begun = Instant::now();
            file.write_all(&batch).and_then(|()| file.sync_data()).context("the device refuses")?;
            device.record(begun.elapsed());
            pause(REST);
        }
    }
    let p50 = |latencies: &Latencies| latencies.percentiles().map_or(f64::NAN, |told| told.p50_us);
    let (ours, way, floor) = (p50(&acks), p50(&way), p50(&device));
    let beside = match ideal.percentiles() {
        Some(told) => format!("acks=1 takes {way:.0} us, kideal {:.0}", told.p50_us),
        None => format!("acks=1 takes {way:.0} us"),
    };
    let bar = format!("ack p50 us at a low rate, acks=all (floor: write + fdatasync; {beside})");
    let met = (format!("<= device + {MARGIN_US} us"), ours <= floor + MARGIN_US);
    Ok(verdict(&bar, ours, Some(floor), met))
}
