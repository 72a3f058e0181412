//! The same producers and batches with and without transactions, in turn.
//!
//! Each producer keeps up to five batches in flight, as clients do. With transactions it waits for all of them and for its commit
//! before it goes on, which clients have to do as well.

use std::net::SocketAddr;
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow};

use super::writer::{Load, Writer};
use super::{RECORDS, Stage, median, told, verdict};
use crate::bars::Verdict;
use crate::wire::Connection;

const PRODUCERS: i32 = 8;
const IN_FLIGHT: usize = 5;
const VALUE_BYTES: usize = 1024;
const AT_LEAST: f64 = 0.7;
const BATCH: Load = Load { records: RECORDS / IN_FLIGHT as u32, value_bytes: VALUE_BYTES };

/// Whether the load is transactional.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Idempotent,
    Transactional,
}

pub(super) fn measure(stage: &Stage) -> Result<Vec<Verdict>> {
    let mut verdicts = Vec::new();
    for producers in [PRODUCERS, 1] {
        let (mut plain, mut transactional) = (Vec::new(), Vec::new());
        for round in 0..stage.rounds {
            let broker = stage.start()?;
            Connection::open(broker.address)?.create_topic("load", producers, &[])?;
            // Who comes second meets a device that has more to do: each kind comes first as often.
            let mut kinds = [Kind::Idempotent, Kind::Transactional];
            if round % 2 == 1 {
                kinds.reverse();
            }
            for kind in kinds {
                let figures = match kind {
                    Kind::Idempotent => &mut plain,
                    Kind::Transactional => &mut transactional,
                };
                figures.push(run(stage, broker.address, producers, kind)?);
            }
        }
        let (ours, floor) = (median(transactional), median(plain));
        let bar = format!("msgs/s, {producers} producers, {RECORDS} a transaction (floor: idempotent)");
        verdicts.push(if producers == PRODUCERS {
            let met = ours >= AT_LEAST * floor;
            verdict(bar, ours, Some(floor), (format!(">= {AT_LEAST}x"), met))
        } else {
            Verdict { floor: Some(floor), ratio: Some(ours / floor), ..told(bar, ours) }
        });
    }
    Ok(verdicts)
}

/// Messages per second of all producers together.
fn run(stage: &Stage, address: SocketAddr, producers: i32, kind: Kind) -> Result<f64> {
    let writers: Vec<Writer> = (0..producers)
        .map(|at| match kind {
            Kind::Idempotent => Writer::idempotent(address, "load", at),
            Kind::Transactional => Writer::transactional(address, &format!("load-{at}"), "load", at),
        })
        .collect::<Result<_>>()?;
    let began = Instant::now();
    let end = began + stage.window;
    let sent: Result<Vec<u64>> = thread::scope(|scope| {
        let threads: Vec<_> =
            writers.into_iter().map(|writer| scope.spawn(move || keep_writing(writer, kind, end))).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a producer panicked"))?).collect()
    });
    let sent: u64 = sent?.iter().sum();
    Ok(sent as f64 / began.elapsed().as_secs_f64())
}

/// Records that were acknowledged, and with transactions committed, until the end.
fn keep_writing(mut writer: Writer, kind: Kind, end: Instant) -> Result<u64> {
    let mut sent = 0;
    while Instant::now() < end {
        for _ in 0..IN_FLIGHT {
            writer.settle(IN_FLIGHT - 1)?;
            writer.send(BATCH)?;
        }
        if let Kind::Transactional = kind {
            writer.settle(0)?;
            writer.commit()?;
        }
        sent += u64::from(RECORDS);
    }
    writer.settle(0)?;
    Ok(sent)
}
