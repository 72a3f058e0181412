//! What a broker remembers of transactions that are open.

use std::time::Duration;

use anyhow::Result;

use super::writer::{Load, Writer};
use super::{Stage, verdict};
use crate::bars::Verdict;
use crate::meter::resident_bytes;
use crate::peer::Running;
use crate::wire::Connection;

const OPEN: u32 = 1_000;
const PARTITIONS: i32 = 10;
const MEGABYTES: f64 = 20.0;
const ONE: Load = Load { records: 1, value_bytes: 100 };

pub(super) fn measure(stage: &Stage) -> Result<Vec<Verdict>> {
    let broker = stage.start()?;
    Connection::open(broker.address)?.create_topic("open", PARTITIONS, &[])?;
    // What the first transactions cost is not what a thousand cost: partitions, coordinators and buffers are there then.
    for at in 0..PARTITIONS {
        let mut first = Writer::transactional(broker.address, &format!("first-{at}"), "open", at)?;
        write(&mut first)?;
        first.commit()?;
    }
    let before = at_rest(&broker)?;
    let open = OPEN / stage.divisor;
    // Each on a connection of its own, which is what a producer has; they stay open until memory was read.
    let writers: Result<Vec<Writer>> = (0..open)
        .map(|at| {
            let partition = at.cast_signed() % PARTITIONS;
            let mut writer = Writer::transactional(broker.address, &format!("open-{at}"), "open", partition)?;
            write(&mut writer)?;
            Ok(writer)
        })
        .collect();
    let writers = writers?;
    let added = at_rest(&broker)?.saturating_sub(before) as f64 / 1e6;
    drop(writers);
    let bar = format!("MB of {open} open transactions, their connections with them");
    Ok(vec![verdict(bar, added, None, (format!("<= {MEGABYTES}"), added <= MEGABYTES))])
}

fn write(writer: &mut Writer) -> Result<()> {
    writer.send(ONE)?;
    writer.settle(0)
}

fn at_rest(broker: &Running) -> Result<u64> {
    // Rest is a length of time, there is nothing else to wait for.
    std::thread::park_timeout(Duration::from_millis(300));
    resident_bytes(broker.pid())
}
