//! Bar 16, in the shape of Kafka's own test: copiers take records from one topic to another in transactions of 750, with
//! their progress in them, while they and the broker are killed. Read committed, each record is there once and in order;
//! copiers that sleep through their own replacement are fenced; and what other transactions do beside is judged as a history.

use std::env;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::{Pid, Signal, kill_process};

use super::copier::{BATCHES, Copying, INPUT, OUTPUT};
use super::load::{Load, PARTITIONS as WRITTEN_PARTITIONS, WRITTEN};
use crate::history::Isolation;
use crate::proof::bed::broker::{Broker, Setup, pause};
use crate::proof::bed::payload;
use crate::proof::bed::verdict::verdict;
use crate::proof::bed::way::Way;
use crate::proof::bed::wire::{Target, Wire, batch};
use crate::proof::{Failure, Options, Proven, say};
use crate::transactional::{Place, Unanswered};

const PARTITIONS: i32 = 2;
/// Small segments, so that transactions reach over several.
const SETTINGS: &[&str] = &["log.segment.bytes=1048576"];
const SEED_BATCH: u32 = 500;
/// How long may pass without progress.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the next harm waits for copiers that do not get on.
const PROGRESS: Duration = Duration::from_secs(2);

/// How much is done to whom.
#[derive(Debug, Clone, Copy)]
struct Scale {
    records: u32,
    broker_kills: usize,
    copier_kills: usize,
    zombies: usize,
    /// Bounds of a copier's wait between two batches, in milliseconds: long enough that harm comes within each transaction, short
    /// enough that some come through between two harms.
    pace: (u64, u64),
}

const SHORT: Scale =
    Scale { records: 20_000, broker_kills: 12, copier_kills: 12, zombies: 4, pace: (80, 200) };
const LONG: Scale =
    Scale { records: 100_000, broker_kills: 200, copier_kills: 150, zombies: 50, pace: (40, 120) };

/// One kind of harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Broker,
    Copier,
    Zombie,
}

pub(in crate::proof) fn run(options: &Options) -> Proven {
    let seed = options.seed();
    let scale = options.either(SHORT, LONG);
    let setup = Setup::new(&options.broker, &options.folder, SETTINGS)?;
    let broker = setup.start()?;
    let each = i64::from(scale.records) / i64::from(PARTITIONS);
    seeds(setup.address(), each)?;
    let mut chance = StdRng::seed_from_u64(seed);
    let load = Load::new(setup.address());
    let threads = load.start(&mut chance);
    let began = Instant::now();
    let mut field = Field {
        setup: &setup,
        broker: Some(broker),
        copiers: Vec::new(),
        each,
        pace: scale.pace,
        chance,
        lost: Vec::new(),
    };
    let met = field.fight(scale)?;
    let lasted = began.elapsed();
    load.finish();
    for thread in threads {
        thread.join().map_err(|_| anyhow!("a client panicked"))?;
    }
    // Once more, so that what is read comes from the files.
    let broker = field.broker.take().context("the broker is there")?;
    broker.kill()?;
    let broker = setup.start()?;
    for partition in 0..PARTITIONS {
        judge_copy(setup.address(), partition, each)?;
    }
    load.end();
    broker.stop()?;
    let figures = verdict(&load.recorder, &load.wrongs(), options)?;
    if met.woken == 0 {
        return Err(Failure::Invalid(
            "every copier had ended before a zombie was to be made of it".to_owned(),
        ));
    }
    if met.fenced < met.woken {
        return Err(Failure::Broken(format!("{} of {} zombies were fenced", met.fenced, met.woken)));
    }
    Ok(format!(
        "{} records copied once and in order in {:.0} s, {} SIGKILLs of the broker, {} of copiers, {} of {} zombies fenced, \
         the last harm at {} copied, {} copiers gave up; beside them {} transactions committed, {} aborted, {} undecided, {} readings, 0 anomalies, seed {seed}",
        scale.records,
        lasted.as_secs_f64(),
        scale.broker_kills,
        scale.copier_kills,
        met.fenced,
        met.woken,
        met.copied,
        met.gave_up,
        figures.committed,
        figures.aborted,
        figures.undecided,
        figures.readings,
    ))
}

/// Makes the topics and what is to be copied.
fn seeds(address: SocketAddr, each: i64) -> Result<()> {
    let mut wire = Wire::connect(address)?;
    wire.create_topic(&INPUT, PARTITIONS, &[])?;
    wire.create_topic(&OUTPUT, PARTITIONS, &[])?;
    wire.create_topic(&WRITTEN, WRITTEN_PARTITIONS as i32, &[])?;
    for partition in 0..PARTITIONS {
        let all = u32::try_from(each)?;
        for first in (0..all).step_by(SEED_BATCH as usize) {
            let values: Vec<_> = (first..all.min(first + SEED_BATCH)).map(|n| payload::value(0, n)).collect();
            let to = Target { topic: &INPUT, partition, acks: -1 };
            let answer = wire.produce(to, batch(&values))?;
            anyhow::ensure!(answer.base_offset == i64::from(first), "a seed was not taken: {answer:?}");
        }
    }
    Ok(())
}

/// What a copier has said.
#[derive(Debug, Default)]
struct Said {
    has_claimed: bool,
    committed: i64,
    last: Option<String>,
}

#[derive(Debug)]
struct Copier {
    partition: i32,
    child: Child,
    said: Arc<Mutex<Said>>,
    /// Hears what it says, until it has said all.
    hearer: Option<JoinHandle<()>>,
}

impl Copier {
    fn start(address: SocketAddr, partition: i32, each: i64, pace: Duration) -> Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .args(Copying::words(address, partition, each, pace))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("a copier cannot be started")?;
        let said = Arc::new(Mutex::new(Said::default()));
        let (lines, heard) = (child.stdout.take().context("its output is not a pipe")?, Arc::clone(&said));
        let hearer = thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                let mut said = heard.lock();
                said.has_claimed |= line == "claimed";
                if let Some(offset) = line.strip_prefix("committed ").and_then(|offset| offset.parse().ok()) {
                    said.committed = said.committed.max(offset);
                }
                said.last = Some(line);
            }
        });
        Ok(Self { partition, child, said, hearer: Some(hearer) })
    }

    fn pid(&self) -> Result<Pid> {
        Pid::from_raw(i32::try_from(self.child.id())?).context("a process has an id")
    }

    fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Its last word, if it has ended by itself.
    fn ended(&mut self) -> Result<Option<String>> {
        if self.child.try_wait()?.is_none() {
            return Ok(None);
        }
        // Its last word may still be in the pipe.
        if let Some(hearer) = self.hearer.take() {
            hearer.join().map_err(|_| anyhow!("who listens to a copier panicked"))?;
        }
        Ok(Some(self.said.lock().last.clone().unwrap_or_default()))
    }
}

impl Drop for Copier {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Who is harmed.
struct Field<'a> {
    setup: &'a Setup,
    broker: Option<Broker>,
    copiers: Vec<Copier>,
    each: i64,
    pace: (u64, u64),
    chance: StdRng,
    /// Last words of copiers that gave up.
    lost: Vec<String>,
}

/// What the fight came to.
#[derive(Debug, Default)]
struct Met {
    woken: usize,
    fenced: usize,
    gave_up: usize,
    /// How many records were copied when the last harm was done.
    copied: i64,
}

impl Field<'_> {
    fn fight(&mut self, scale: Scale) -> Result<Met, Failure> {
        let mut harms = vec![Harm::Broker; scale.broker_kills];
        harms.extend(vec![Harm::Copier; scale.copier_kills]);
        harms.extend(vec![Harm::Zombie; scale.zombies]);
        for at in (1..harms.len()).rev() {
            harms.swap(at, self.chance.random_range(0..=at));
        }
        let mut met = Met::default();
        for partition in 0..PARTITIONS {
            let copier = self.new_copier(partition)?;
            self.copiers.push(copier);
        }
        let total = harms.len() as i64;
        for (at, harm) in (0..).zip(harms) {
            // Spread over what is to be copied, or one would be over before the other is.
            let wanted = self.each * i64::from(PARTITIONS) * at / (total + 1);
            let deadline = Instant::now() + PROGRESS;
            while self.committed() < wanted && Instant::now() < deadline {
                self.replace_ended()?;
                pause(Duration::from_millis(2));
            }
            // Anywhere in a transaction, not only at its beginning.
            pause(Duration::from_millis(self.chance.random_range(0..scale.pace.0 * BATCHES)));
            met.copied = self.committed();
            self.harm(harm, &mut met)?;
            if at % 50 == 49 {
                say(&format!("  {} harms, {} records copied", at + 1, self.committed()));
            }
        }
        self.await_end()?;
        met.gave_up = self.lost.len();
        Ok(met)
    }

    /// Waits for the rest of the copy, for as long as it gets on.
    fn await_end(&mut self) -> Result<(), Failure> {
        let (mut copied, mut deadline) = (self.committed(), Instant::now() + PATIENCE);
        while self.replace_ended()? < PARTITIONS as usize {
            let now = self.committed();
            if now > copied {
                (copied, deadline) = (now, Instant::now() + PATIENCE);
            }
            if Instant::now() > deadline {
                let lost = &self.lost;
                return Err(Failure::Broken(format!(
                    "{now} records copied, and no more for {PATIENCE:?}: {lost:?}"
                )));
            }
            pause(Duration::from_millis(5));
        }
        Ok(())
    }

    fn new_copier(&mut self, partition: i32) -> Result<Copier> {
        let pace = Duration::from_millis(self.chance.random_range(self.pace.0..self.pace.1));
        let copier = Copier::start(self.setup.address(), partition, self.each, pace)?;
        // It goes on where the one before it is.
        let before = self.copiers.iter().filter(|copier| copier.partition == partition);
        let copied = before.map(|copier| copier.said.lock().committed).max().unwrap_or(0);
        let mut said = copier.said.lock();
        said.committed = said.committed.max(copied);
        drop(said);
        Ok(copier)
    }

    fn committed(&self) -> i64 {
        self.copiers.iter().map(|copier| copier.said.lock().committed).sum()
    }

    /// Starts anew what has ended by itself; tells how many are finished.
    fn replace_ended(&mut self) -> Result<usize> {
        let mut finished = 0;
        for at in 0..self.copiers.len() {
            match self.copiers[at].ended()?.as_deref() {
                None => {}
                Some("finished") => finished += 1,
                Some(word) => {
                    self.lost.push(word.to_owned());
                    let partition = self.copiers[at].partition;
                    self.copiers[at] = self.new_copier(partition)?;
                }
            }
        }
        Ok(finished)
    }

    fn harm(&mut self, harm: Harm, met: &mut Met) -> Result<(), Failure> {
        let at = self.chance.random_range(0..self.copiers.len());
        let partition = self.copiers[at].partition;
        match harm {
            Harm::Broker => {
                self.broker.take().context("the broker is there")?.kill()?;
                self.broker = Some(self.setup.start()?);
            }
            Harm::Copier => {
                let new = self.new_copier(partition)?;
                // The new one may claim the name before the old one is dead.
                let old = std::mem::replace(&mut self.copiers[at], new);
                old.kill()?;
            }
            Harm::Zombie => {
                if self.copiers[at].ended()?.is_some() {
                    return Ok(());
                }
                kill_process(self.copiers[at].pid()?, Signal::STOP).context("a copier cannot be stopped")?;
                let new = self.new_copier(partition)?;
                let zombie = std::mem::replace(&mut self.copiers[at], new);
                self.await_claim(at)?;
                met.woken += 1;
                met.fenced += usize::from(is_fenced(zombie)?);
            }
        }
        Ok(())
    }

    fn await_claim(&mut self, at: usize) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        while !self.copiers[at].said.lock().has_claimed {
            if Instant::now() > deadline {
                return Err(Failure::Broken(format!("no copier could claim its name for {PATIENCE:?}")));
            }
            self.replace_ended()?;
            pause(Duration::from_millis(2));
        }
        Ok(())
    }
}

/// Wakes a copier that another has replaced, and tells whether it learns so. One that had no more to do may just end.
fn is_fenced(mut zombie: Copier) -> Result<bool> {
    kill_process(zombie.pid()?, Signal::CONT)?;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(word) = zombie.ended()? {
            // What it asked for before it slept may have been answered.
            let is_fenced = word == "fenced" || word == "finished";
            if !is_fenced {
                say(&format!("  a zombie ended with {word:?}"));
            }
            return Ok(is_fenced);
        }
        pause(Duration::from_millis(2));
    }
    Ok(false)
}

/// Each record of a partition once, in order, with the bytes that it had.
fn judge_copy(address: SocketAddr, partition: i32, each: i64) -> Result<(), Failure> {
    let mut way = Way::to(address);
    let place = Place { topic: OUTPUT, partition };
    let (mut position, mut expected) = (0, 0_i64);
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match way.fetch(&place, position, Isolation::Committed) {
            Ok(Ok(Ok(seen))) => {
                for record in &seen.records {
                    let key = record.key.as_deref().unwrap_or_default();
                    let value = record.value.as_deref().unwrap_or_default();
                    let seed =
                        payload::record(payload::value(0, u32::try_from(expected).unwrap_or(u32::MAX))).1;
                    if key != expected.to_be_bytes() || value != seed {
                        return Err(Failure::Broken(format!(
                            "partition {partition}, offset {}: a copy of {key:?} where record {expected} is to be",
                            record.offset
                        )));
                    }
                    expected += 1;
                }
                if seen.next == position && expected >= each {
                    return Ok(());
                }
                position = seen.next;
            }
            Ok(Ok(Err(what))) => return Err(Failure::Broken(what)),
            Ok(Err(_)) | Err(Unanswered) => pause(Duration::from_millis(10)),
        }
    }
    Err(Failure::Broken(format!("partition {partition} has {expected} of {each} records after {PATIENCE:?}")))
}
