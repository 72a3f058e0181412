//! Bar 7: from SIGKILL to the first produce that is accepted. The work follows what is not on the disk yet, neither the
//! number of partitions nor the size of the data.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use millstream_protocol::ErrorCode;

use super::bed::broker::{Broker, Setup, pause};
use super::bed::payload;
use super::bed::wire::{Answer, Target, Wire, batch};
use super::{Failure, Options, Proven, say};

const TOPIC: &str = "recovery";
const MANY: i32 = 1_000;
/// The bars.
const MANY_MOST: Duration = Duration::from_millis(300);
const LARGE_MOST: Duration = Duration::from_secs(2);
const DOUBLE_MOST: f64 = 1.2;
/// Two times that differ by less differ by where the scheduler put the broker.
const DIFFERENCE_LEAST: Duration = Duration::from_millis(20);
/// Kills of which the middle one counts: the machine has other work.
const KILLS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(180);

pub(super) fn run(options: &Options) -> Proven {
    let many = many(options)?;
    say(&format!("  {MANY} partitions: {many:.0?} from SIGKILL to the first accepted produce"));
    let mebibytes = options.either(512, 4_096);
    let (half, whole) = large(options, mebibytes)?;
    let ratio = whole.as_secs_f64() / half.as_secs_f64();
    let [many_most, large_most, difference] =
        [MANY_MOST, LARGE_MOST, DIFFERENCE_LEAST].map(|bar| options.at_most(bar));
    let figure = format!(
        "{MANY} partitions {:.0} ms (at most {many_most:.0?}); 1 partition of {mebibytes} MiB {:.0} ms (at most {large_most:.0?}), of \
         half of it {:.0} ms: {ratio:.2} times as long (at most {DOUBLE_MOST}, or {difference:.0?} more); each the middle of {KILLS} \
         kills",
        many.as_secs_f64() * 1e3,
        whole.as_secs_f64() * 1e3,
        half.as_secs_f64() * 1e3,
    );
    let follows_the_data = ratio > DOUBLE_MOST && whole.saturating_sub(half) > difference;
    if many > many_most || whole > large_most || follows_the_data {
        return Err(Failure::Broken(figure));
    }
    Ok(figure)
}

/// A thousand partitions with a little in each, all of it written since the start.
fn many(options: &Options) -> Result<Duration, Failure> {
    let setup = Setup::new(&options.broker, &options.folder, &[])?;
    let broker = setup.start()?;
    let mut wire = Wire::connect(setup.address()).context("connecting")?;
    wire.create_topic(TOPIC, MANY, &[]).context("creating")?;
    for partition in 0..MANY {
        accepted(wire.produce(Target { topic: TOPIC, partition, acks: 1 }, batch(&[0, 1, 2])))?;
    }
    Ok(middle(&setup, broker, MANY)?.0)
}

/// One partition, measured when half of the data is there and when all of it is.
fn large(options: &Options, mebibytes: usize) -> Result<(Duration, Duration), Failure> {
    let setup = Setup::new(&options.broker, &options.folder, &[])?;
    let mut broker = setup.start()?;
    Wire::connect(setup.address())
        .and_then(|mut wire| wire.create_topic(TOPIC, 1, &[]))
        .context("creating")?;
    let mut times = Vec::new();
    for _ in 0..2 {
        fill(setup.address(), mebibytes / 2)?;
        let (time, now) = middle(&setup, broker, 1)?;
        broker = now;
        times.push(time);
    }
    broker.stop()?;
    Ok((times[0], times[1]))
}

/// Writes so much, and sees to it that the last of it is on the disk.
fn fill(address: SocketAddr, mebibytes: usize) -> Result<()> {
    let values: Vec<_> = (0..3_400).map(|n| payload::value(7, n)).collect();
    let batch = batch(&values);
    let mut wire = Wire::connect(address)?;
    for sent in 0..(mebibytes << 20) / batch.len() + 1 {
        let acks = if sent % 64 == 63 { -1 } else { 1 };
        accepted(wire.produce(Target { topic: TOPIC, partition: 0, acks }, batch.clone()))?;
    }
    accepted(wire.produce(Target { topic: TOPIC, partition: 0, acks: -1 }, batch))
}

fn accepted(answer: std::io::Result<Answer>) -> Result<()> {
    match answer? {
        Answer { code: ErrorCode::None, .. } => Ok(()),
        answer => bail!("a produce was refused: {answer:?}"),
    }
}

/// Kills the broker some times; answers the middle time until a produce was accepted, and the broker.
fn middle(setup: &Setup, mut broker: Broker, partitions: i32) -> Result<(Duration, Broker)> {
    let mut times = Vec::new();
    for kill in 0..KILLS {
        // Something that is written and not yet synced is what a kill leaves to do.
        let mut wire = Wire::connect(setup.address())?;
        for partition in (0..partitions).step_by(50) {
            accepted(wire.produce(Target { topic: TOPIC, partition, acks: 1 }, batch(&[0; 100])))?;
        }
        drop(wire);
        let began = broker.kill()?;
        broker = setup.start()?;
        let partition = kill as i32 * 211 % partitions;
        first_accepted(setup.address(), partition)?;
        times.push(began.elapsed());
        all_accept(setup.address(), partitions)?;
    }
    times.sort_unstable();
    Ok((times[KILLS / 2], broker))
}

fn first_accepted(address: SocketAddr, partition: i32) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let to = Target { topic: TOPIC, partition, acks: -1 };
    while Instant::now() < deadline {
        if let Ok(mut wire) = Wire::connect(address)
            && accepted(wire.produce(to, batch(&[0]))).is_ok()
        {
            return Ok(());
        }
        pause(Duration::from_millis(1));
    }
    Err(anyhow!("no produce was accepted within {PATIENCE:?}"))
}

/// Waits until every partition takes writes, so that the next kill meets a broker that has done all its work.
fn all_accept(address: SocketAddr, partitions: i32) -> Result<()> {
    for partition in (0..partitions).step_by(7) {
        first_accepted(address, partition)?;
    }
    Ok(())
}
