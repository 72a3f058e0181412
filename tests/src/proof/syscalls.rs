//! SIGKILL at every system call that changes a file, in a short script of starts, appends, rolls and deletions. Whatever the
//! call, what was acknowledged is there after the next start, and that start may be killed in the same way.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use millstream_protocol::ErrorCode;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::bed::broker::{Setup, pause};
use super::bed::recorder::Recorder;
use super::bed::scribe::{Scribe, read_all};
use super::bed::tracer::Tracer;
use super::bed::verdict::verdict;
use super::bed::wire::{Target, Wire, batch};
use super::{Failure, Options, Proven, say};

const TOPIC: &str = "syscalls";
/// A topic that comes and goes.
const PASSING: &str = "passing";
const KEYS: u32 = 2;
const SETTINGS: &[&str] =
    &["log.flusher.threads=1", "log.segment.bytes=16384", "log.index.interval.bytes=1024"];
/// Calls that change what is on the disk.
const CALLS: &[&str] = &[
    "pwritev",
    "pwrite64",
    "write",
    "fdatasync",
    "fsync",
    "ftruncate",
    "fallocate",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "openat",
];
/// Kills of a short run.
const SAMPLE: usize = 14;

pub(super) fn run(options: &Options) -> Proven {
    let seed = options.seed();
    let mut chance = StdRng::seed_from_u64(seed);
    let mut points = survey(options)?;
    let all = points.len();
    points.shuffle(&mut chance);
    points.truncate(options.either(SAMPLE, usize::MAX));
    let setup = Setup::new(&options.broker, &options.folder, SETTINGS)?;
    let recorder = Recorder::new();
    prepare(&setup, &recorder)?;
    let (mut killed, mut at_start) = (0, 0);
    for (done, (call, when)) in points.iter().enumerate() {
        let harm = format!("{call}:signal=SIGKILL:when={when}");
        let tracer = Tracer::harm(&setup, call, &harm)?;
        match setup.start_under(&tracer.words()) {
            Ok(mut broker) => {
                // The end of the connection is the end of the script.
                let _ = script(setup.address(), &recorder);
                // Background work may come to the call a little later.
                killed += usize::from(broker.ends_within(Duration::from_millis(300)));
            }
            Err(_) => {
                killed += 1;
                at_start += 1;
            }
        }
        let broker = setup.start().with_context(|| format!("after a kill at {call} number {when}"))?;
        read_all(setup.address(), TOPIC, KEYS, &recorder)?;
        broker.kill()?;
        if done % 25 == 24 {
            verdict(&recorder, &[], options)?;
            say(&format!("  {} of {} points", done + 1, points.len()));
        }
    }
    let figures = verdict(&recorder, &[], options)?;
    // Counts differ a little from run to run, so a few points at the end of the script are not reached.
    if killed * 2 < points.len() {
        return Err(Failure::Invalid(format!("only {killed} of {} kills happened", points.len())));
    }
    Ok(format!(
        "0 anomalies after {killed} kills at system calls ({at_start} of them while starting) of {all} points, {} acknowledged, \
         {} unanswered, seed {seed}",
        figures.acknowledged, figures.unknown,
    ))
}

fn prepare(setup: &Setup, recorder: &Recorder) -> Result<()> {
    let broker = setup.start()?;
    Wire::connect(setup.address())?.create_topic(TOPIC, KEYS as i32, &[])?;
    script(setup.address(), recorder).context("the script does not run without a kill")?;
    // Unclean, so that every start of the script has something to recover.
    broker.kill()?;
    Ok(())
}

/// How often the script comes to each call, by its busiest thread: strace counts for each thread.
fn survey(options: &Options) -> Result<Vec<(&'static str, usize)>, Failure> {
    let setup = Setup::new(&options.broker, &options.folder, SETTINGS)?;
    prepare(&setup, &Recorder::new())?;
    let tracer = Tracer::follow(&setup, &CALLS.join(","))?;
    let broker = setup.start_under(&tracer.words())?;
    script(setup.address(), &Recorder::new())?;
    broker.stop()?;
    let mut points = Vec::new();
    for call in CALLS {
        let mut by_thread = BTreeMap::new();
        for line in tracer.calls() {
            let Some((thread, rest)) = line.split_once(' ') else { continue };
            if rest.trim_start().strip_prefix(call).is_some_and(|rest| rest.starts_with('(')) {
                *by_thread.entry(thread.to_owned()).or_insert(0) += 1;
            }
        }
        let most = by_thread.into_values().max().unwrap_or(0);
        points.extend((1..=most).map(|when| (*call, when)));
    }
    Ok(points)
}

/// Appends with every kind of acknowledgement, enough for some rolls; a topic that comes and goes.
fn script(address: SocketAddr, recorder: &Recorder) -> Result<()> {
    let mut scribe = Scribe::connect(address, recorder)?;
    for turn in 0..12 {
        let to =
            Target { topic: TOPIC, partition: turn % KEYS as i32, acks: if turn % 3 == 2 { -1 } else { 1 } };
        loop {
            let answer = scribe.send(to, 40)?;
            match answer.code {
                ErrorCode::None => break,
                ErrorCode::NotLeaderOrFollower => pause(Duration::from_millis(1)),
                code => bail!("{} {:?}", code.name(), answer.message),
            }
        }
    }
    // A kill may have left it.
    let _ = scribe.wire.delete_topic(PASSING);
    scribe.wire.create_topic(PASSING, 1, &[])?;
    scribe.wire.produce(Target { topic: PASSING, partition: 0, acks: -1 }, batch(&[1]))?;
    scribe.wire.delete_topic(PASSING)?;
    Ok(())
}
