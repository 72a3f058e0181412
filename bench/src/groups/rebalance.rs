//! A group of a hundred to which one more comes: when does everybody know what to do, and do other groups notice?
//!
//! Members of the classic protocol look after their group every 250 ms here. With the interval of real clients (3 s) it
//! is they who are waited for. Members of the new protocol come when the broker tells them to, as real ones do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use millstream_protocol::KStr;

use super::consumer::{self, ConsumerMember};
use super::member::{self, Member};
use super::{Stage, pause, verdict};
use crate::bars::Verdict;
use crate::latency::Latencies;
use crate::wire::Connection;

const MEMBERS: usize = 100;
const MEMBERS_PER_CONNECTION: usize = 10;
const EACH: Duration = Duration::from_millis(250);
const SECONDS: f64 = 1.5;
/// How long the group of the new protocol is quiet before it is disturbed: the broker's haste after a change is over.
const QUIET: Duration = Duration::from_secs(5);
/// How often the group is disturbed.
const TIMES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(20);
/// The groups that are disturbed, both in partition 2 of the 4 of `__consumer_offsets`.
const CLASSIC: &str = "hundred";
const CONSUMER: &str = "served-hundred";
/// Others: one in the same partition, one in partition 3.
const OTHERS: [(&str, &str); 2] = [("beside", "in the same shard"), ("another", "in another shard")];
const TOPIC: KStr = KStr::from_static("work");

pub(super) fn measure(stage: &Stage) -> Result<Vec<Verdict>> {
    let broker = stage.start()?;
    let mut first = Connection::open(broker.address)?;
    first.create_topic(&TOPIC, 200, &[])?;
    let bystanders = OTHERS.map(|(group, _)| Bystander::new(group));
    let (mut verdicts, alone, beside) = thread::scope(|scope| {
        let watching = bystanders.each_ref().map(|one| scope.spawn(|| one.watch(broker.address)));
        // They join first, which takes the initial delay of a group.
        await_until(|| bystanders.iter().all(|one| one.count() > 0))?;
        pause(stage.window);
        let alone = bystanders.each_ref().map(Bystander::take);
        let classic = settled(&|| classic_group(broker.address));
        let modern = settled(&|| modern_group(broker.address));
        let beside = bystanders.each_ref().map(Bystander::take);
        bystanders.iter().for_each(|one| one.is_over.store(true, Relaxed));
        for watching in watching {
            watching.join().map_err(|_| anyhow!("a bystander panicked"))??;
        }
        let limit = || format!("<= {SECONDS}");
        let (classic, modern) = (classic.context("classic")?, modern.context("consumer")?);
        let verdicts = vec![
            verdict("s to settle 101 members, classic protocol", classic, limit(), classic <= SECONDS),
            verdict("s to settle 101 members, consumer protocol", modern, limit(), modern <= SECONDS),
        ];
        anyhow::Ok((verdicts, alone, beside))
    })?;
    let p99 = |latencies: &Latencies| latencies.percentiles().map_or(f64::NAN, |told| told.p99_us);
    for ((_, place), (alone, beside)) in OTHERS.iter().zip(alone.iter().zip(&beside)) {
        let (alone, beside) = (p99(alone), p99(beside));
        let (limit, met) = (format!("<= 2 x {alone:.0}"), beside <= 2.0 * alone);
        verdicts.push(verdict(&format!("heartbeat p99 us of a group {place} meanwhile"), beside, limit, met));
    }
    Ok(verdicts)
}

/// The median of some tries.
fn settled(one: &dyn Fn() -> Result<Vec<f64>>) -> Result<f64> {
    let mut seconds = one()?;
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().context("nothing was measured")
}

/// A member of another group, which asks and asks.
#[derive(Debug)]
struct Bystander {
    group: &'static str,
    latencies: Mutex<Latencies>,
    is_over: AtomicBool,
}

impl Bystander {
    fn new(group: &'static str) -> Self {
        Self { group, latencies: Mutex::new(Latencies::new()), is_over: AtomicBool::new(false) }
    }

    fn watch(&self, address: SocketAddr) -> Result<()> {
        let mut connection = Connection::open(address)?;
        let mut members = vec![Member::new(self.group)];
        member::join(&mut connection, &mut members)?;
        while !self.is_over.load(Relaxed) {
            let sent = Instant::now();
            member::heartbeat(&mut connection, &members)?;
            let took = sent.elapsed();
            self.latencies.lock().map_err(|_| anyhow!("poisoned"))?.record(took);
            pause(Duration::from_millis(1));
        }
        Ok(())
    }

    fn count(&self) -> u64 {
        let held = self.latencies.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        held.percentiles().map_or(0, |told| told.count)
    }

    fn take(&self) -> Latencies {
        let mut held = self.latencies.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        std::mem::replace(&mut held, Latencies::new())
    }
}

/// Members of a classic group on several connections, and one who comes and leaves its session to the next.
fn classic_group(address: SocketAddr) -> Result<Vec<f64>> {
    let is_over = AtomicBool::new(false);
    let generations: Vec<AtomicU64> =
        (0..MEMBERS / MEMBERS_PER_CONNECTION).map(|_| AtomicU64::new(0)).collect();
    let (is_over, seen) = (&is_over, &generations);
    thread::scope(|scope| {
        let threads: Vec<_> = seen
            .iter()
            .map(|generation| scope.spawn(move || keep_classic(address, generation, is_over)))
            .collect();
        let outcome = disturb_classic(address, seen);
        is_over.store(true, Relaxed);
        for thread in threads {
            thread.join().map_err(|_| anyhow!("a member panicked"))??;
        }
        outcome
    })
}

fn keep_classic(address: SocketAddr, generation: &AtomicU64, is_over: &AtomicBool) -> Result<()> {
    let mut connection = Connection::open(address)?;
    let mut members: Vec<Member> = (0..MEMBERS_PER_CONNECTION).map(|_| Member::new(CLASSIC)).collect();
    member::join(&mut connection, &mut members)?;
    loop {
        generation.store(u64::try_from(members[0].generation)?, Relaxed);
        loop {
            if is_over.load(Relaxed) {
                return Ok(());
            }
            pause(EACH);
            if member::heartbeat(&mut connection, &members)? {
                break;
            }
        }
        member::join(&mut connection, &mut members)?;
    }
}

fn disturb_classic(address: SocketAddr, seen: &[AtomicU64]) -> Result<Vec<f64>> {
    let newest = || seen.iter().map(|generation| generation.load(Relaxed)).min().unwrap_or(0);
    await_until(|| {
        let (least, most) = (newest(), seen.iter().map(|one| one.load(Relaxed)).max().unwrap_or(0));
        least > 0 && least == most
    })?;
    pause(2 * EACH);
    let mut seconds = Vec::new();
    let mut guests: Vec<(Connection, Vec<Member>)> = Vec::new();
    for _ in 0..TIMES {
        let mut connection = Connection::open(address)?;
        let began = Instant::now();
        let mut guest = vec![Member::new(CLASSIC)];
        // Earlier guests come along when the group rebalances, or it would wait for them.
        thread::scope(|scope| {
            for (connection, members) in &mut guests {
                scope.spawn(move || rejoin(connection, members));
            }
            member::join(&mut connection, &mut guest)
        })?;
        let generation = u64::try_from(guest[0].generation)?;
        await_until(|| newest() >= generation)?;
        seconds.push(began.elapsed().as_secs_f64());
        guests.push((connection, guest));
    }
    Ok(seconds)
}

fn rejoin(connection: &mut Connection, members: &mut [Member]) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if member::heartbeat(connection, members)? {
            return member::join(connection, members);
        }
        pause(EACH / 4);
    }
    bail!("the group did not rebalance")
}

fn await_until(mut is_so: impl FnMut() -> bool) -> Result<()> {
    let began = Instant::now();
    while !is_so() {
        if began.elapsed() > PATIENCE {
            bail!("the group has not settled after {PATIENCE:?}");
        }
        pause(Duration::from_millis(1));
    }
    Ok(())
}

/// What members of a group of the new protocol believe.
#[derive(Debug, Default)]
struct Believed {
    /// The epoch of each member, and how much it has.
    members: BTreeMap<KStr, (i32, usize)>,
}

fn modern_group(address: SocketAddr) -> Result<Vec<f64>> {
    let is_over = AtomicBool::new(false);
    let believed = Mutex::new(Believed::default());
    let (is_over, seen) = (&is_over, &believed);
    thread::scope(|scope| {
        let keep =
            |at: usize, count: usize| scope.spawn(move || keep_modern(address, (at, count), seen, is_over));
        let mut threads: Vec<_> =
            (0..MEMBERS / MEMBERS_PER_CONNECTION).map(|at| keep(at, MEMBERS_PER_CONNECTION)).collect();
        let outcome = await_until(|| is_settled(seen, MEMBERS)).and_then(|()| {
            let mut seconds = Vec::new();
            for time in 0..TIMES {
                pause(QUIET);
                let began = Instant::now();
                threads.push(keep(1_000 + time, 1));
                await_until(|| is_settled(seen, MEMBERS + 1 + time))?;
                seconds.push(began.elapsed().as_secs_f64());
            }
            Ok(seconds)
        });
        is_over.store(true, Relaxed);
        for thread in threads {
            thread.join().map_err(|_| anyhow!("a member panicked"))??;
        }
        outcome
    })
}

fn is_settled(believed: &Mutex<Believed>, members: usize) -> bool {
    let believed = believed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut epochs = believed.members.values().map(|(epoch, _)| *epoch);
    let first = epochs.next();
    let partitions: usize = believed.members.values().map(|(_, count)| count).sum();
    believed.members.len() == members && epochs.all(|epoch| Some(epoch) == first) && partitions == 200
}

fn keep_modern(
    address: SocketAddr,
    (at, count): (usize, usize),
    believed: &Mutex<Believed>,
    is_over: &AtomicBool,
) -> Result<()> {
    let mut connection = Connection::open(address)?;
    let member = |number| ConsumerMember::new(CONSUMER, &TOPIC, (at, number));
    let mut members: Vec<ConsumerMember> = (0..count).map(member).collect();
    while !is_over.load(Relaxed) {
        let has_news = consumer::beat(&mut connection, &mut members)?;
        let interval = members.iter().map(|member| member.interval).min().unwrap_or_default();
        let mut believed = believed.lock().map_err(|_| anyhow!("poisoned"))?;
        for member in &members {
            believed.members.insert(member.id().clone(), (member.epoch(), member.partitions()));
        }
        drop(believed);
        // A client tells at once what it gave up or took.
        let sent = Instant::now();
        while !has_news && sent.elapsed() < interval && !is_over.load(Relaxed) {
            pause(interval.saturating_sub(sent.elapsed()).min(EACH));
        }
    }
    Ok(())
}
