//! Commits that are on the disk when they are answered, as many as go.

use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow};
use millstream_protocol::KStr;
use millstream_protocol::messages::OffsetCommitRequest;

use super::{COMMIT_VERSION, Stage, check_commit, commit, verdict, wake_coordinator};
use crate::bars::Verdict;
use crate::meter::Meter;
use crate::wire::Connection;

const CONNECTIONS: usize = 8;
/// Commits on their way on each connection, of as many groups.
const IN_FLIGHT: usize = 64;
const PER_SECOND: f64 = 30_000.0;

pub(super) fn measure(stage: &Stage) -> Result<Vec<Verdict>> {
    let broker = stage.start()?;
    let topic = KStr::from_static("committed");
    let mut first = Connection::open(broker.address)?;
    first.create_topic(&topic, 1, &[])?;
    wake_coordinator(&mut first, &topic)?;
    let callers: Vec<Connection> =
        (0..CONNECTIONS).map(|_| Connection::open(broker.address)).collect::<Result<_>>()?;
    let meter = Meter::start(broker.pid())?;
    let began = Instant::now();
    let end = began + stage.window;
    let topic = &topic;
    let done: Result<Vec<u64>> = thread::scope(|scope| {
        let callers = callers.into_iter().enumerate();
        let threads: Vec<_> = callers
            .map(|(at, caller)| scope.spawn(move || keep_committing(caller, at, topic, end)))
            .collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a caller panicked"))?).collect()
    });
    let done: u64 = done?.iter().sum();
    let usage = meter.stop()?;
    let per_second = done as f64 / began.elapsed().as_secs_f64();
    let cpu_us = usage.broker_cpu.as_secs_f64() * 1e6 / done as f64;
    let met = per_second >= PER_SECOND;
    Ok(vec![
        verdict("durable commits per second", per_second, format!(">= {PER_SECOND}"), met),
        verdict("broker CPU us per commit", cpu_us, "told".to_owned(), true),
    ])
}

fn keep_committing(mut caller: Connection, at: usize, topic: &KStr, end: Instant) -> Result<u64> {
    let groups: Vec<String> = (0..IN_FLIGHT).map(|group| format!("group-{at}-{group}")).collect();
    let mut done = 0;
    let mut round = 0;
    while Instant::now() < end {
        round += 1;
        let requests: Vec<OffsetCommitRequest> =
            groups.iter().map(|group| commit(group, topic, 1, round)).collect();
        for response in caller.call_many(COMMIT_VERSION, &requests)? {
            check_commit(&response)?;
            done += 1;
        }
    }
    Ok(done)
}
