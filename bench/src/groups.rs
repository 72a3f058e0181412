//! What consumer groups cost: commits, heartbeats, a rebalance, and a restart over a million offsets.
//!
//! Bare connections make the load, many members on each: ten thousand real clients would be most of what is seen.

mod commits;
mod consumer;
mod heartbeats;
mod member;
mod rebalance;
mod restart;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use millstream_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millstream_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use millstream_protocol::{ErrorCode, KStr};

use crate::bars::Verdict;
use crate::environment::Environment;
use crate::options::{Acks, GroupsOptions, GroupsPart};
use crate::peer::{How, Millstream, Peer as _, Running};
use crate::report::{Report, Setting};
use crate::sample::Summary;
use crate::wire::Connection;

/// What each part is told.
#[derive(Debug)]
struct Stage {
    millstream: Millstream,
    parent: PathBuf,
    /// How long one measurement takes.
    window: Duration,
    /// One in so many of the members, groups and offsets that the bars speak of.
    divisor: usize,
}

/// Runs the parts that were asked for and tells where we stand.
pub(crate) fn run(options: &GroupsOptions) -> Result<()> {
    let (window, divisor) = match (options.smoke, options.quick) {
        (true, _) => (0.2, 100),
        (_, true) => (3.0, 1),
        _ => (10.0, 1),
    };
    let stage = Stage {
        millstream: Millstream::find(options.broker.clone())?.with_all(&options.set),
        parent: options.dir.clone().unwrap_or_else(std::env::temp_dir),
        window: Duration::from_secs_f64(window),
        divisor,
    };
    let mut report = Report::new(options.json);
    report.begin(&Setting {
        environment: Environment::read(),
        driver: "bare connections".to_owned(),
        peers: vec![("millstream", stage.millstream.describe())],
        folder: stage.parent.display().to_string(),
        partitions: 1,
        rounds: 1,
        seconds: window,
    })?;
    let mut verdicts = Vec::new();
    for part in &options.only {
        verdicts.extend(match part {
            GroupsPart::Commits => commits::measure(&stage).context("commits")?,
            GroupsPart::Heartbeats => heartbeats::measure(&stage).context("heartbeats")?,
            GroupsPart::Rebalance => rebalance::measure(&stage).context("rebalance")?,
            GroupsPart::Restart => restart::measure(&stage).context("restart")?,
        });
    }
    report.end(&Summary::default(), &verdicts)
}

impl Stage {
    fn start(&self) -> Result<Running> {
        self.millstream.start(&self.how())
    }

    fn how(&self) -> How<'_> {
        How { parent: &self.parent, partitions: 1, acks: Acks::Flushed }
    }
}

/// The version in which offsets are committed here: the last that names topics.
const COMMIT_VERSION: i16 = 9;

/// A commit for partitions from 0 on, by somebody who uses no group.
fn commit(group: &str, topic: &KStr, partitions: i32, offset: i64) -> OffsetCommitRequest {
    let partitions = (0..partitions).map(|partition_index| OffsetCommitRequestPartition {
        partition_index,
        committed_offset: offset,
        committed_leader_epoch: 0,
        committed_metadata: None,
    });
    OffsetCommitRequest {
        group_id: KStr::from(group),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: topic.clone(),
            partitions: partitions.collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn check_commit(response: &OffsetCommitResponse) -> Result<()> {
    let codes = response.topics.iter().flat_map(|topic| &topic.partitions).map(|at| at.error_code);
    ok(codes.max().unwrap_or(0), "a commit")
}

fn ok(code: i16, what: &str) -> Result<()> {
    ensure!(code == ErrorCode::None.code(), "{what} was refused with error {code}");
    Ok(())
}

/// Commits once, so that the coordinator is there.
fn wake_coordinator(connection: &mut Connection, topic: &KStr) -> Result<()> {
    check_commit(&connection.call(COMMIT_VERSION, &commit("first", topic, 1, 0))?)
}

fn verdict(bar: &str, ours: f64, limit: String, met: bool) -> Verdict {
    Verdict { bar: bar.to_owned(), ours, floor: None, ratio: None, limit, met }
}

/// Lets time pass: nothing is to happen until then.
fn pause(length: Duration) {
    std::thread::park_timeout(length);
}
