//! Many groups that only live: what do their heartbeats cost?

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::member::{self, Member};
use super::{Stage, pause, verdict};
use crate::bars::Verdict;
use crate::meter::{Meter, resident_bytes};
use crate::wire::Connection;

const GROUPS: usize = 2_000;
const MEMBERS: usize = 5;
/// Groups whose members share a connection; more requests in flight than the broker takes would wait.
const GROUPS_PER_CONNECTION: usize = 20;
const EACH: Duration = Duration::from_secs(3);
const CORE_PERCENT: f64 = 10.0;
const MEBIBYTES: f64 = 60.0;

pub(super) fn measure(stage: &Stage) -> Result<Vec<Verdict>> {
    let broker = stage.start()?;
    let before = resident_bytes(broker.pid())?;
    let connections = (GROUPS / stage.divisor).div_ceil(GROUPS_PER_CONNECTION);
    let (joined, measured) = (Barrier::new(connections + 1), Barrier::new(connections + 1));
    let (joined, measured, address) = (&joined, &measured, broker.address);
    let window = stage.window.max(EACH);
    let (usage, after) = thread::scope(|scope| {
        let run = |at: usize| move || live(Connection::open(address)?, at, window, (joined, measured));
        let threads: Vec<_> = (0..connections).map(|at| scope.spawn(run(at))).collect();
        joined.wait();
        let meter = Meter::start(broker.pid())?;
        measured.wait();
        let told = (meter.stop()?, resident_bytes(broker.pid())?);
        for thread in threads {
            thread.join().map_err(|_| anyhow!("a connection's thread panicked"))??;
        }
        anyhow::Ok(told)
    })?;
    let percent = 100.0 * usage.broker_cpu.as_secs_f64() / usage.elapsed.as_secs_f64();
    let mebibytes = after.saturating_sub(before) as f64 / f64::from(1 << 20);
    let what = format!("{} groups of {MEMBERS}, heartbeat each {} s", GROUPS / stage.divisor, EACH.as_secs());
    Ok(vec![
        verdict(
            &format!("% of a core, {what}"),
            percent,
            format!("<= {CORE_PERCENT}"),
            percent <= CORE_PERCENT,
        ),
        verdict("MiB for these groups", mebibytes, format!("<= {MEBIBYTES}"), mebibytes <= MEBIBYTES),
    ])
}

fn live(
    mut connection: Connection,
    at: usize,
    window: Duration,
    (joined, measured): (&Barrier, &Barrier),
) -> Result<()> {
    let ids = (0..GROUPS_PER_CONNECTION).map(|group| format!("group-{at}-{group}"));
    let mut members: Vec<Member> = ids.flat_map(|id| (0..MEMBERS).map(move |_| Member::new(&id))).collect();
    let entered = member::join(&mut connection, &mut members);
    joined.wait();
    let lived = entered.and_then(|()| beat(&mut connection, &members, window));
    measured.wait();
    lived
}

/// One heartbeat after the other, evenly: each member has its turn every so often.
fn beat(connection: &mut Connection, members: &[Member], window: Duration) -> Result<()> {
    let interval = EACH / u32::try_from(members.len())?;
    let began = Instant::now();
    let mut due = began;
    for member in members.iter().cycle() {
        if began.elapsed() >= window {
            break;
        }
        pause(due.saturating_duration_since(Instant::now()));
        due += interval;
        member::heartbeat(connection, std::slice::from_ref(member))?;
    }
    Ok(())
}
