//! A start over a million committed offsets: when does the coordinator answer?

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use millstream_protocol::messages::{ListGroupsRequest, OffsetCommitRequest};
use millstream_protocol::{ErrorCode, KStr};

use super::{COMMIT_VERSION, Stage, check_commit, commit, ok, pause, verdict, wake_coordinator};
use crate::bars::Verdict;
use crate::meter::resident_bytes;
use crate::peer::{Peer as _, Running};
use crate::wire::Connection;

const OFFSETS: usize = 1_000_000;
const PARTITIONS: i32 = 100;
const AT_A_TIME: usize = 50;
const SECONDS: f64 = 1.0;
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn measure(stage: &Stage) -> Result<Vec<Verdict>> {
    let broker = stage.millstream.start(&stage.how())?;
    let topic = KStr::from_static("committed");
    let mut client = Connection::open(broker.address)?;
    client.create_topic(&topic, PARTITIONS, &[])?;
    wake_coordinator(&mut client, &topic)?;
    let groups = OFFSETS / stage.divisor / PARTITIONS as usize;
    let ids: Vec<String> = (0..groups).map(|group| format!("group-{group}")).collect();
    for some in ids.chunks(AT_A_TIME) {
        let requests: Vec<OffsetCommitRequest> =
            some.iter().map(|group| commit(group, &topic, PARTITIONS, 7)).collect();
        client.call_many(COMMIT_VERSION, &requests)?.iter().try_for_each(check_commit)?;
    }
    drop(client);
    let (broker, clean) = restarted(stage, broker, groups)?;
    let memory = resident_bytes(broker.pid())? as f64 / f64::from(1 << 20);
    let limit = format!("<= {SECONDS}");
    Ok(vec![
        verdict("s from start to answers, 1 M offsets", clean, limit, clean <= SECONDS),
        verdict("MiB resident then", memory, "told".to_owned(), true),
    ])
}

/// Starts the broker again; tells how long it takes until every group is listed.
fn restarted(stage: &Stage, broker: Running, groups: usize) -> Result<(Running, f64)> {
    let folder = broker.stopped();
    let began = Instant::now();
    let broker = stage.millstream.start_in(folder, &stage.how())?;
    let mut client = Connection::open(broker.address)?;
    while began.elapsed() < PATIENCE {
        let listed = client.call(4, &ListGroupsRequest::default())?;
        if listed.error_code == ErrorCode::CoordinatorLoadInProgress.code() {
            pause(Duration::from_millis(2));
            continue;
        }
        ok(listed.error_code, "the list of groups")?;
        let took = began.elapsed().as_secs_f64();
        if listed.groups.len() != groups + 1 {
            bail!("{} groups of {} are left", listed.groups.len(), groups + 1);
        }
        return Ok((broker, took));
    }
    bail!("the groups are not there after {PATIENCE:?}")
}
