//! Many groups that only live: what do their heartbeats cost, and what a scrape that tells how far each is behind?
//!
//! Members of the classic protocol come every three seconds, as clients do by default; those of the new one when the broker
//! tells them to.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::fmt;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use millstream_protocol::KStr;
use millstream_protocol::records::{BatchBuilder, Compression, NewRecord};

use super::consumer::{self, ConsumerMember};
use super::member::{self, Member};
use super::{COMMIT_VERSION, Stage, check_commit, commit, pause, verdict};
use crate::bars::Verdict;
use crate::meter::scrape::Scrape;
use crate::meter::{Meter, resident_bytes};
use crate::options::Acks;
use crate::peer::Running;
use crate::wire::Connection;

const GROUPS: usize = 2_000;
const MEMBERS: usize = 5;
/// Groups whose members share a connection; more requests in flight than the broker takes would wait.
const GROUPS_PER_CONNECTION: usize = 20;
const EACH: Duration = Duration::from_secs(3);
/// Members of the new protocol come often while their group changes; the broker looks at how many there are every few
/// seconds.
const SETTLING: Duration = Duration::from_secs(12);
/// As long as the longest interval that members of the new protocol are told.
const CONSUMERS_FOR: Duration = Duration::from_secs(5);
/// Who is told to come so seldom is in a group that does not change.
const QUIET: Duration = Duration::from_millis(700);
const CORE_PERCENT: f64 = 10.0;
const MEBIBYTES: f64 = 60.0;
const SCRAPES: usize = 5;
const TOPIC: KStr = KStr::from_static("work");
const RECORDS: usize = 4_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Classic,
    Consumer,
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Classic => "classic protocol",
            Self::Consumer => "consumer protocol",
        })
    }
}

pub(super) fn measure(stage: &Stage) -> Result<Vec<Verdict>> {
    let mut verdicts = with(stage, Protocol::Classic)?;
    verdicts.extend(with(stage, Protocol::Consumer)?);
    Ok(verdicts)
}

/// What the threads of the members and the one that measures share.
struct Shared {
    protocol: Protocol,
    joined: Barrier,
    heartbeats: AtomicU64,
    is_over: AtomicBool,
}

fn with(stage: &Stage, protocol: Protocol) -> Result<Vec<Verdict>> {
    let broker = stage.start()?;
    let mut first = Connection::open(broker.address)?;
    first.create_topic(&TOPIC, 1, &[])?;
    fill(&mut first)?;
    super::wake_coordinator(&mut first, &TOPIC)?;
    let before = resident_bytes(broker.pid())?;
    let connections = (GROUPS / stage.divisor).div_ceil(GROUPS_PER_CONNECTION);
    let shared = Shared {
        protocol,
        joined: Barrier::new(connections + 1),
        heartbeats: AtomicU64::new(0),
        is_over: AtomicBool::new(false),
    };
    let (shared, address) = (&shared, broker.address);
    thread::scope(|scope| {
        let run = |at: usize| move || live(Connection::open(address)?, at, shared);
        let threads: Vec<_> = (0..connections).map(|at| scope.spawn(run(at))).collect();
        shared.joined.wait();
        let told = observe(stage, &broker, before, shared);
        shared.is_over.store(true, Relaxed);
        for thread in threads {
            thread.join().map_err(|_| anyhow!("a connection's thread panicked"))??;
        }
        told
    })
}

/// Records for groups to be behind.
fn fill(connection: &mut Connection) -> Result<()> {
    const AT_A_TIME: usize = 100;
    for _ in 0..RECORDS / AT_A_TIME {
        let mut batch = BatchBuilder::new(Compression::None);
        for _ in 0..AT_A_TIME {
            batch.append(&NewRecord { timestamp: 1, key: None, value: Some(&[7; 100]), headers: &[] });
        }
        connection.produce(&TOPIC, batch.build(), Acks::Written)?;
    }
    Ok(())
}

fn observe(stage: &Stage, broker: &Running, before: u64, shared: &Shared) -> Result<Vec<Verdict>> {
    let protocol = shared.protocol;
    let window = match protocol {
        Protocol::Classic => {
            // Each group commits once.
            pause(EACH.min(2 * stage.window));
            stage.window.max(EACH)
        }
        Protocol::Consumer => {
            pause(SETTLING.min(4 * stage.window));
            stage.window.max(CONSUMERS_FOR.min(2 * stage.window))
        }
    };
    let (meter, beats) = (Meter::start(broker.pid())?, shared.heartbeats.load(Relaxed));
    pause(window);
    let usage = meter.stop()?;
    let beats = shared.heartbeats.load(Relaxed) - beats;
    let after = resident_bytes(broker.pid())?;
    let http = broker.http.context("the broker told no address for its metrics")?;
    let meter = Meter::start(broker.pid())?;
    let mut took = Duration::ZERO;
    for _ in 0..SCRAPES {
        let asked = Instant::now();
        Scrape::of(http)?;
        took = took.max(asked.elapsed());
        pause(window / SCRAPES as u32);
    }
    let scraped = meter.stop()?;
    let core = |cpu: Duration, elapsed: Duration| cpu.as_secs_f64() / elapsed.as_secs_f64();
    let part = core(usage.broker_cpu, usage.elapsed);
    let of_scrapes = core(scraped.broker_cpu, scraped.elapsed) - part;
    let of_one = 1e3 * of_scrapes * scraped.elapsed.as_secs_f64() / SCRAPES as f64;
    let mebibytes = after.saturating_sub(before) as f64 / f64::from(1 << 20);
    let per_second = beats as f64 / usage.elapsed.as_secs_f64();
    let groups = GROUPS / stage.divisor;
    let told = |what: String, value: f64| verdict(&what, value, "told".to_owned(), true);
    let at_most =
        |what: String, value: f64, limit: f64| verdict(&what, value, format!("<= {limit}"), value <= limit);
    Ok(vec![
        at_most(format!("% of a core, {groups} groups of {MEMBERS}, {protocol}"), 100.0 * part, CORE_PERCENT),
        told(format!("heartbeats per second, {protocol}"), per_second),
        at_most(format!("MiB for these groups, {protocol}"), mebibytes, MEBIBYTES),
        told(format!("broker CPU ms for a scrape with their lag, {protocol}"), of_one),
        told(format!("ms that the longest scrape took, {protocol}"), took.as_secs_f64() * 1e3),
    ])
}

/// The members of one connection.
enum Members {
    Classic(Vec<Member>),
    Consumer(Vec<ConsumerMember>),
}

impl Members {
    fn of(protocol: Protocol, at: usize) -> Self {
        let ids = (0..GROUPS_PER_CONNECTION).map(|group| format!("group-{at}-{group}"));
        let each = ids.flat_map(|id| std::iter::repeat_n(id, MEMBERS));
        match protocol {
            Protocol::Classic => Self::Classic(each.map(|id| Member::new(&id)).collect()),
            Protocol::Consumer => {
                let each = each.enumerate();
                Self::Consumer(
                    each.map(|(number, id)| ConsumerMember::new(&id, &TOPIC, (at, number))).collect(),
                )
            }
        }
    }

    fn join(&mut self, connection: &mut Connection) -> Result<()> {
        match self {
            Self::Classic(members) => member::join(connection, members),
            Self::Consumer(members) => consumer::beat(connection, members).map(drop),
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::Classic(members) => members.len(),
            Self::Consumer(members) => members.len(),
        }
    }

    /// A heartbeat of one of them; when it is to come again.
    fn beat(&mut self, connection: &mut Connection, number: usize) -> Result<Duration> {
        match self {
            Self::Classic(members) => member::heartbeat(connection, &members[number..=number]).map(|_| EACH),
            Self::Consumer(members) => {
                let one = &mut members[number..=number];
                let has_news = consumer::beat(connection, one)?;
                Ok(if has_news { Duration::ZERO } else { one[0].interval })
            }
        }
    }

    /// Who commits for a group: its name, a member's id, and the generation or epoch.
    fn committer(&self, number: usize) -> (&KStr, &KStr, i32) {
        match self {
            Self::Classic(members) => {
                let Member { group, id, generation } = &members[number];
                (group, id, *generation)
            }
            Self::Consumer(members) => {
                let member = &members[number];
                (member.group(), member.id(), member.epoch())
            }
        }
    }
}

fn live(mut connection: Connection, at: usize, shared: &Shared) -> Result<()> {
    let mut members = Members::of(shared.protocol, at);
    let entered = members.join(&mut connection);
    shared.joined.wait();
    entered?;
    let interval = EACH / u32::try_from(members.count())?;
    let mut due: BinaryHeap<_> = (0..members.count())
        .map(|number| Reverse((Instant::now() + interval * number as u32, number)))
        .collect();
    let mut commits: BTreeSet<usize> = (0..members.count()).step_by(MEMBERS).collect();
    while let Some(Reverse((when, number))) = due.pop()
        && !shared.is_over.load(Relaxed)
    {
        pause(when.saturating_duration_since(Instant::now()));
        let wait = members.beat(&mut connection, number)?;
        shared.heartbeats.fetch_add(1, Relaxed);
        // A member of the new protocol knows its epoch for sure once its group has come to rest.
        if wait >= QUIET && commits.remove(&number) {
            behind(
                &mut connection,
                members.committer(number),
                at * GROUPS_PER_CONNECTION + number / MEMBERS,
            )?;
        }
        due.push(Reverse(((when + wait).max(Instant::now()), number)));
    }
    Ok(())
}

/// Commits for a group, which from then on is behind.
fn behind(
    connection: &mut Connection,
    (group, id, generation): (&KStr, &KStr, i32),
    number: usize,
) -> Result<()> {
    let mut request = commit(group, &TOPIC, 1, i64::try_from(number % RECORDS)?);
    (request.member_id, request.generation_id_or_member_epoch) = (id.clone(), generation);
    check_commit(&connection.call(COMMIT_VERSION, &request)?)
}
