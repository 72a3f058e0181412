//! Bar 15: idempotent producers on a bad network, with the broker killed now and then. Of everything that they were told is
//! written each record is there once, none is missing, and each producer's are in its order.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use millstream_producer::{Acks, Compression, Idempotence};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::proof::bed::broker::{Setup, pause};
use crate::proof::bed::load::{Load, Progress, Writer, follow, marks, read_all, write};
use crate::proof::bed::verdict::verdict;
use crate::proof::{Failure, Options, Proven};
use crate::proxy::{Proxy, Weather};

const TOPIC: &str = "once";
const PARTITIONS: u32 = 4;
const WRITERS: usize = 6;
const WEATHER: Weather = Weather { loses_one_in: 20, resets_each: Duration::from_secs(1) };
/// Small segments, so that producers are known beyond the segment of their last batch.
const SETTINGS: &[&str] = &["log.segment.bytes=1048576", "num.partitions=4"];
/// How long a run may take on a slow machine.
const PATIENCE: Duration = Duration::from_mins(10);

pub(in crate::proof) fn run(options: &Options) -> Proven {
    let seed = options.seed();
    let (kills, wanted) = options.either((5, 100_000), (100, 2_000_000));
    let mut setup = Setup::new(&options.broker, &options.folder, SETTINGS)?;
    let runtime = Runtime::new().context("no runtime")?;
    let mut chance = StdRng::seed_from_u64(seed);
    let proxy = Proxy::open(runtime.handle(), setup.address(), WEATHER, chance.random())?;
    setup.set(format!("advertised.listeners={}", proxy.address()));
    let mut broker = setup.start()?;
    let load = Load::new(&proxy.address().to_string(), TOPIC, PARTITIONS).impatient();
    runtime.block_on(create(&load))?;

    let began = Instant::now();
    let mut clients = JoinSet::new();
    let progress = start(&load, &runtime, &mut clients, &mut chance);
    let acknowledged =
        || -> usize { progress.iter().map(|progress| progress.acknowledged.load(Ordering::Relaxed)).sum() };
    let patience = options.either(PATIENCE, 12 * PATIENCE);
    for kill in 0..=kills {
        while acknowledged() < wanted * kill / kills.max(1) + chance.random_range(0..wanted / 50) {
            if began.elapsed() > patience {
                return Err(Failure::Broken(format!(
                    "{} records acknowledged in {patience:?}",
                    acknowledged()
                )));
            }
            pause(Duration::from_millis(5));
        }
        if kill < kills {
            broker.kill()?;
            broker = setup.start()?;
        }
    }
    let lasted = began.elapsed();
    proxy.calm();
    load.finish();
    runtime.block_on(finish(&load, clients))?;
    broker.stop()?;

    let figures = verdict(&load.recorder, &load.wrongs(), options)?;
    let met = proxy.met();
    let read = |count: &std::sync::atomic::AtomicUsize| count.load(Ordering::Relaxed);
    let (lost, reset) = (read(&met.lost_of_produce), read(&met.reset));
    if lost < 50 || reset < 5 {
        return Err(Failure::Invalid(format!(
            "{lost} answers about records were lost, {reset} connections reset"
        )));
    }
    Ok(format!(
        "0 duplicates, 0 gaps, order kept: {} records acknowledged to {WRITERS} producers in {:.0} s, {} of {} answers lost \
         ({lost} of them about records), {reset} connections reset, {kills} SIGKILLs, {} readings, seed {seed}",
        figures.acknowledged,
        lasted.as_secs_f64(),
        read(&met.lost),
        read(&met.lost) + read(&met.passed),
        figures.readings,
    ))
}

async fn create(load: &Load) -> Result<()> {
    let topic = millstream_client::NewTopic::new(TOPIC).partitions(PARTITIONS as i32);
    let mut again = tokio::time::interval(Duration::from_millis(20));
    loop {
        again.tick().await;
        // Its answer may be lost as well.
        match load.client().await {
            Err(_) => {}
            Ok(client) => match client.admin().create_topic(topic.clone()).await {
                Ok(_) | Err(millstream_client::CreateTopicError::AlreadyExists { .. }) => return Ok(()),
                Err(_) => {}
            },
        }
    }
}

fn start(
    load: &Load,
    runtime: &Runtime,
    clients: &mut JoinSet<Result<()>>,
    chance: &mut StdRng,
) -> Vec<Arc<Progress>> {
    let handle = runtime.handle();
    let mut all = Vec::new();
    for n in 0..WRITERS {
        let progress = Arc::new(Progress::default());
        let compression = if n % 3 == 2 { Compression::Lz4 } else { Compression::None };
        let writer =
            Writer { acks: Acks::All, idempotence: Idempotence::On, compression, seed: chance.random() };
        clients.spawn_on(write(load.clone(), writer, progress.clone()), handle);
        all.push(progress);
    }
    clients.spawn_on(follow(load.clone()), handle);
    clients.spawn_on(marks(load.clone()), handle);
    all
}

/// Clients get their last answers; then all that is there is read.
async fn finish(load: &Load, mut clients: JoinSet<Result<()>>) -> Result<()> {
    while let Some(ended) = clients.join_next().await {
        ended.context("a client panicked")??;
    }
    read_all(load).await?;
    marks(load.clone()).await
}
