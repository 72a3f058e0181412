//! Groups commit while the disk fails, the power fails and the broker is killed: an offset that was acknowledged, or
//! told to somebody, is never gone, and none appears that nobody sent.

use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use millstream_broker::{SimBroker, SimOptions};
use millstream_log::{ManualClock, SimDisk};
use millstream_protocol::messages::create_topics_request::CreatableTopic;
use millstream_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millstream_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use millstream_protocol::messages::{CreateTopicsRequest, OffsetCommitRequest, OffsetFetchRequest};
use millstream_protocol::{ErrorCode, KStr, Uuid};

use super::chance::Chance;
use super::faults::{Planted, some_cut};
use super::wire::{Lost, Wire};

const START_MS: i64 = 1_767_225_600_000;
const GROUPS: usize = 5;
const TOPIC: KStr = KStr::from_static("t");
const TICK: Duration = Duration::from_millis(1);
const FIVE: NonZero<u64> = NonZero::new(5).expect("five");
const COMMIT_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 9;

/// What runs did, so that ones that did nothing are noticed.
#[derive(Clone, Copy, Debug, Default)]
pub struct CommitReport {
    /// Commits that were acknowledged.
    pub acked: u64,
    /// Commits of which nobody knows what became of them.
    pub unknown: u64,
    /// Times that a group was asked how far it is.
    pub asked: u64,
    /// Ends of the broker by a power cut or a kill.
    pub ends: u64,
    /// Calls to the disk that failed.
    pub failed_calls: u64,
}

/// One group as its clients know it.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The largest offset that was acknowledged or told.
    least: i64,
    /// The largest that was sent.
    most: i64,
}

struct Run {
    disk: SimDisk,
    clock: Arc<ManualClock>,
    broker: Option<SimBroker>,
    chance: Chance,
    known: [Known; GROUPS],
    report: CommitReport,
    starts: u64,
}

/// Runs a seed, perhaps over a disk that lies.
///
/// # Errors
/// The promise that was broken, in words.
pub fn commits(seed: u64, planted: Option<Planted>) -> Result<CommitReport, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without threads needs nothing");
    runtime.block_on(async {
        let mut run = Run {
            disk: SimDisk::new(),
            clock: Arc::new(ManualClock::at(START_MS)),
            broker: None,
            chance: Chance::of(seed),
            known: [Known { least: -1, most: -1 }; GROUPS],
            report: CommitReport::default(),
            starts: 0,
        };
        match planted {
            Some(Planted::SyncsLie) => run.disk.make_syncs_lie(),
            Some(Planted::OneSyncInFiveLies) => run.disk.make_some_syncs_lie(FIVE),
            None => {}
        }
        run.all().await.map(|()| run.report).map_err(|what| format!("seed {seed}: {what}"))
    })
}

impl Run {
    async fn all(&mut self) -> Result<(), String> {
        self.start()?;
        self.create_topic().await?;
        for _ in 0..12 {
            for _ in 0..10 {
                self.trouble();
                self.commit_in_all().await;
                self.ask_one().await?;
                self.maintain();
            }
            self.end().await;
            self.start()?;
        }
        self.report.failed_calls = self.disk.bites().failed_calls;
        // What is left is told to everybody, and commits go on.
        for group in 0..GROUPS {
            self.settle(group).await?;
        }
        Ok(())
    }

    fn start(&mut self) -> Result<(), String> {
        self.disk.heal();
        self.disk.fail_power_at(u64::MAX);
        self.starts += 1;
        let broker = SimBroker::start(SimOptions {
            disk: self.disk.clone(),
            clock: Arc::clone(&self.clock),
            settings: vec![("offsets.topic.num.partitions".to_owned(), "2".to_owned())],
            seed: self.chance.next(),
        });
        self.broker = Some(broker.map_err(|error| format!("start {}: {error}", self.starts))?);
        Ok(())
    }

    /// Something goes wrong in a while.
    fn trouble(&mut self) {
        let soon = self.chance.below(6);
        match self.chance.below(12) {
            0 => self.disk.fail_sync(soon),
            1 => self.disk.fail_write(soon),
            2 => self.disk.fail_power_at(self.disk.changes() + self.chance.below(30)),
            _ => {}
        }
    }

    async fn end(&mut self) {
        let Some(broker) = self.broker.take() else { return };
        match self.chance.below(4) {
            0 if !self.disk.is_off() => {
                broker.shutdown().await;
            }
            1 => {
                self.report.ends += 1;
                broker.kill().await;
            }
            _ => {
                self.report.ends += 1;
                broker.crash(some_cut(&mut self.chance)).await;
            }
        }
    }

    fn broker(&self) -> &SimBroker {
        self.broker.as_ref().expect("it runs but between an end and a start")
    }

    fn maintain(&mut self) {
        if self.chance.one_in(3) {
            self.broker().maintain();
        }
    }

    /// Every group commits, all at the same time; the disk gets on meanwhile.
    async fn commit_in_all(&mut self) {
        let mut sent = Vec::new();
        for group in 0..GROUPS {
            let mut wire = Wire::new(self.broker().connect());
            // Offsets only rise here; a repeated one is a retry.
            let offset = self.known[group].most + i64::try_from(self.chance.below(3)).expect("small");
            let offset = offset.max(0);
            if let Ok(id) = wire.send(COMMIT_VERSION, &commit(group, offset)).await {
                self.known[group].most = offset;
                sent.push((group, offset, id, wire));
            }
        }
        let patience = 5 + self.chance.below(40);
        let pushed = self.push(patience);
        let answers = async {
            let mut answers = Vec::new();
            for (group, offset, id, mut wire) in sent {
                let limit = Duration::from_millis(60);
                let answer =
                    tokio::time::timeout(limit, wire.receive::<OffsetCommitRequest>(COMMIT_VERSION, id));
                answers.push((group, offset, answer.await.unwrap_or(Err(Lost))));
            }
            answers
        };
        let (answers, ()) = tokio::join!(answers, pushed);
        for (group, offset, answer) in answers {
            let code = answer.map(|answer| answer.topics[0].partitions[0].error_code);
            if code.is_ok_and(|code| code == ErrorCode::None.code()) {
                self.report.acked += 1;
                self.known[group].least = self.known[group].least.max(offset);
            } else {
                self.report.unknown += 1;
            }
        }
    }

    /// Time passes, and the disk syncs.
    async fn push(&self, steps: u64) {
        for _ in 0..steps {
            tokio::time::sleep(TICK).await;
            self.clock.advance(TICK);
            self.broker().flush_step();
        }
    }

    async fn ask_one(&mut self) -> Result<(), String> {
        let group = usize::try_from(self.chance.below(GROUPS as u64)).expect("small");
        self.ask(group).await.map(drop)
    }

    /// Asks a group how far it is; `None` if there is no answer.
    async fn ask(&mut self, group: usize) -> Result<Option<i64>, String> {
        let mut wire = Wire::new(self.broker().connect());
        let request = fetch(group);
        let limit = Duration::from_millis(60);
        let answer = tokio::time::timeout(limit, wire.call(FETCH_VERSION, &request));
        let (answer, ()) = tokio::join!(answer, self.push(20));
        let Ok(Ok(answer)) = answer else { return Ok(None) };
        let told = &answer.groups[0];
        if told.error_code != ErrorCode::None.code() {
            return Ok(None);
        }
        self.report.asked += 1;
        let offset = told.topics[0].partitions[0].committed_offset;
        let known = &mut self.known[group];
        if !(known.least..=known.most).contains(&offset) {
            return Err(format!("group {group} is told offset {offset}, but {known:?}"));
        }
        known.least = offset;
        Ok(Some(offset))
    }

    async fn settle(&mut self, group: usize) -> Result<(), String> {
        for _ in 0..50 {
            if self.ask(group).await?.is_some() {
                return Ok(());
            }
            self.broker().maintain();
        }
        Err(format!("group {group} is not served once everything has healed"))
    }

    async fn create_topic(&mut self) -> Result<(), String> {
        let mut wire = Wire::new(self.broker().connect());
        let topic =
            CreatableTopic { name: TOPIC, num_partitions: 1, replication_factor: 1, ..Default::default() };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, validate_only: false };
        let created = wire.call(7, &request).await.map_err(|_| "no answer to CreateTopics".to_owned())?;
        match created.topics[0].error_code {
            0 => Ok(()),
            code => Err(format!("the topic was refused with error {code}")),
        }
    }
}

fn group_id(group: usize) -> KStr {
    KStr::from(format!("group-{group}"))
}

fn commit(group: usize, offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: offset,
        committed_leader_epoch: -1,
        committed_metadata: None,
    };
    OffsetCommitRequest {
        group_id: group_id(group),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: TOPIC,
            topic_id: Uuid::nil(),
            partitions: vec![partition],
        }],
        ..Default::default()
    }
}

fn fetch(group: usize) -> OffsetFetchRequest {
    let topic = OffsetFetchRequestTopics { name: TOPIC, topic_id: Uuid::nil(), partition_indexes: vec![0] };
    let group = OffsetFetchRequestGroup {
        group_id: group_id(group),
        member_id: None,
        member_epoch: -1,
        topics: Some(vec![topic]),
    };
    OffsetFetchRequest { groups: vec![group], ..Default::default() }
}
