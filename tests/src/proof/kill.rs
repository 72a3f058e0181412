//! Bar 1: SIGKILL again and again while clients write and read. Nothing acknowledged may be lost, no offset may have two
//! values, nothing that a producer sent once may be there twice, and no reader may pass over anything.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use millstream_producer::{Acks, Compression, Idempotence};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::bed::broker::{Broker, Setup, pause};
use super::bed::load::{Load, Progress, RawWriter, Writer, follow, marks, read_all, wander, write};
use super::bed::verdict::verdict;
use super::{Failure, Options, Proven, say};

const TOPIC: &str = "kill";
const PARTITIONS: u32 = 4;
/// A segment holds some seconds of this load, so that kills hit rolls too.
const SETTINGS: &[&str] = &["log.segment.bytes=1048576", "num.partitions=4"];
/// How long acknowledgements may take to come after a restart.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) fn run(options: &Options) -> Proven {
    let seed = options.seed();
    let kills = options.either(30, 1_000);
    let setup = Setup::new(&options.broker, &options.folder, SETTINGS)?;
    let mut broker = setup.start()?;
    let runtime = Runtime::new().context("no runtime")?;
    let load = Load::new(&setup.address().to_string(), TOPIC, PARTITIONS);
    runtime.block_on(create(&load))?;

    let began = Instant::now();
    let mut chance = StdRng::seed_from_u64(seed);
    let mut clients = JoinSet::new();
    let progress = start(&load, &runtime, &mut clients, &mut chance);
    let mut hit = Hits::default();
    for kill in 0..kills {
        pause(Duration::from_millis(chance.random_range(50..900)));
        let before = await_load(&progress, &hit)?;
        broker.kill()?;
        hit.note(before);
        broker = setup.start()?;
        hit.down = hit.down.max(broker.took);
        if options.long && kill % 50 == 49 {
            say(&format!("  {} kills, {} records in flight at them", kill + 1, hit.in_flight));
        }
    }
    let lasted = began.elapsed();
    broker = end(broker, &setup, &load, &runtime, clients)?;
    broker.stop()?;

    let figures = verdict(&load.recorder, &load.wrongs(), options)?;
    Ok(format!(
        "0 anomalies after {kills} SIGKILLs in {:.0} s, {} records acknowledged, {} unanswered ({} of them read), {} readings, \
         {} in flight at the kills, longest start {:.0} ms, longest wait of a reader {:.1} s, seed {seed}",
        lasted.as_secs_f64(),
        figures.acknowledged,
        figures.unknown,
        figures.unknown_read,
        figures.readings,
        hit.in_flight,
        hit.down.as_secs_f64() * 1e3,
        figures.worst_lag_us as f64 / 1e6,
    ))
}

/// What the kills met.
#[derive(Debug, Default)]
struct Hits {
    acknowledged: Vec<usize>,
    in_flight: usize,
    down: Duration,
}

impl Hits {
    fn note(&mut self, (acknowledged, in_flight): (Vec<usize>, usize)) {
        self.acknowledged = acknowledged;
        self.in_flight += in_flight;
    }
}

async fn create(load: &Load) -> Result<()> {
    let topic = millstream_client::NewTopic::new(TOPIC).partitions(PARTITIONS as i32);
    load.client().await?.admin().create_topic(topic).await?;
    Ok(())
}

/// Starts all clients; answers how far the writers through our producer are.
fn start(
    load: &Load,
    runtime: &Runtime,
    clients: &mut JoinSet<Result<()>>,
    chance: &mut StdRng,
) -> Vec<Arc<Progress>> {
    let kinds = [
        (Acks::All, Idempotence::On, Compression::None),
        (Acks::Leader, Idempotence::On, Compression::Lz4),
        (Acks::All, Idempotence::Off, Compression::Zstd),
        (Acks::Leader, Idempotence::Off, Compression::None),
    ];
    let handle = runtime.handle();
    let mut all = Vec::new();
    for (acks, idempotence, compression) in kinds {
        let progress = Arc::new(Progress::default());
        let writer = Writer { acks, idempotence, compression, seed: chance.random() };
        clients.spawn_on(write(load.clone(), writer, progress.clone()), handle);
        all.push(progress);
    }
    let raw = RawWriter { load: load.clone(), seed: chance.random() };
    clients.spawn_blocking_on(move || raw.write(), handle);
    for _ in 0..2 {
        clients.spawn_on(follow(load.clone()), handle);
    }
    clients.spawn_on(wander(load.clone(), chance.random()), handle);
    clients.spawn_on(marks(load.clone()), handle);
    all
}

/// Waits until every writer was acknowledged something since the last kill and some have records under way: otherwise the
/// next kill proves nothing.
fn await_load(progress: &[Arc<Progress>], hit: &Hits) -> Result<(Vec<usize>, usize), Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let read = |part: fn(&Progress) -> usize| progress.iter().map(|progress| part(progress)).collect();
        let acknowledged: Vec<usize> = read(|progress| progress.acknowledged.load(Ordering::Relaxed));
        let in_flight: Vec<usize> = read(|progress| progress.in_flight.load(Ordering::Relaxed));
        let in_flight: usize = in_flight.iter().sum();
        let before = hit.acknowledged.iter().chain(std::iter::repeat(&0));
        if in_flight > 0 && acknowledged.iter().zip(before).all(|(now, before)| now > before) {
            return Ok((acknowledged, in_flight));
        }
        if Instant::now() > deadline {
            let what =
                format!("no acknowledgement for all within {PATIENCE:?} of a restart: {acknowledged:?}");
            return Err(Failure::Invalid(what));
        }
        pause(Duration::from_millis(1));
    }
}

/// Ends the load, kills once more, and reads what is left, which then comes from the files alone.
fn end(
    broker: Broker,
    setup: &Setup,
    load: &Load,
    runtime: &Runtime,
    mut clients: JoinSet<Result<()>>,
) -> Result<Broker> {
    load.finish();
    runtime.block_on(async {
        while let Some(ended) = clients.join_next().await {
            ended.context("a client panicked")??;
        }
        anyhow::Ok(())
    })?;
    broker.kill()?;
    let broker = setup.start()?;
    runtime.block_on(async {
        read_all(load).await?;
        marks(load.clone()).await
    })?;
    Ok(broker)
}
