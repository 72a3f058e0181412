//! Many callers, each of which waits for its own `acks=all`: how many of them does one `fdatasync` serve?

use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};

use super::{Stage, median, one_record, verdict};
use crate::bars::Verdict;
use crate::meter::scrape::Scrape;
use crate::options::Acks;
use crate::peer::{How, Peer as _};
use crate::wire::Connection;

const CALLERS: usize = 64;
const AT_LEAST: f64 = 16.0;

pub(super) fn measure(stage: &Stage) -> Result<Verdict> {
    let mut shares = Vec::new();
    for _ in 0..stage.rounds {
        shares.push(round(stage)?);
    }
    let share = median(shares);
    let met = (format!(">= {AT_LEAST}"), share >= AT_LEAST);
    Ok(verdict(&format!("batches per fdatasync, {CALLERS} callers"), share, None, met))
}

fn round(stage: &Stage) -> Result<f64> {
    let how = How { parent: &stage.parent, partitions: 1, acks: Acks::Flushed };
    let broker = stage.millstream()?.start(&how)?;
    Connection::open(broker.address)?.await_topic("group")?;
    let http = broker.http.context("the broker told no address for its metrics")?;
    let callers: Vec<Connection> =
        (0..CALLERS).map(|_| Connection::open(broker.address)).collect::<Result<_>>()?;
    let before = Scrape::of(http)?;
    let end = Instant::now() + stage.window;
    let sent: Result<Vec<u64>> = thread::scope(|scope| {
        let run = |mut caller: Connection| {
            move || {
                let batch = one_record(1024);
                let mut sent = 0;
                while Instant::now() < end {
                    caller.produce("group", batch.clone(), Acks::Flushed)?;
                    sent += 1;
                }
                anyhow::Ok(sent)
            }
        };
        let threads: Vec<_> = callers.into_iter().map(|caller| scope.spawn(run(caller))).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a caller panicked"))?).collect()
    });
    let sent: u64 = sent?.iter().sum();
    let after = Scrape::of(http)?;
    let flushes = after.grown(&before, "millstream_flushes_total")?;
    anyhow::ensure!(flushes > 0.0, "{sent} batches were acknowledged without a flush");
    Ok(sent as f64 / flushes)
}
