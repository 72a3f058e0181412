//! A shard against a map, under events by chance; and replayed from its records at every point.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millstream_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use millstream_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use millstream_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use millstream_protocol::messages::{OffsetCommitRequest, OffsetDeleteRequest, TxnOffsetCommitRequest};
use millstream_protocol::records::TransactionOutcome;
use millstream_protocol::{ErrorCode, Uuid};

use super::*;
use crate::coordinator::Author;
use crate::groups::topic_view::{TopicFacts, TopicView};
use crate::groups::turn::{Effects, Now, Reply, Ticket};
use crate::settings::GroupSettings;

const GROUPS: [&str; 3] = ["a", "b", "c"];
const TOPICS: [&str; 3] = ["t", "u", "v"];
const PARTITIONS: i32 = 3;
const RETENTION_MS: i64 = 60_000;

/// Group, topic, partition.
type Key = (String, String, i32);

/// Offset, metadata, when.
type Held = (i64, String, i64);

/// What is in the log.
#[derive(Clone, Debug, PartialEq)]
enum Logged {
    Record(GroupRecord),
    InTransaction(Author, GroupRecord),
    End(ProducerId, TransactionOutcome),
}

struct Bench {
    shard: Shard,
    log: Vec<Logged>,
    /// With the place of the commit among all.
    model: BTreeMap<Key, (Held, u64)>,
    pending: BTreeMap<i64, BTreeMap<Key, (Held, u64)>>,
    commits: u64,
    topics: BTreeMap<&'static str, Uuid>,
    now_ms: i64,
    ids: u128,
    state: u64,
}

impl Bench {
    fn new(seed: u64) -> Self {
        let mut bench = Self {
            shard: Shard::default(),
            log: Vec::new(),
            model: BTreeMap::new(),
            pending: BTreeMap::new(),
            commits: 0,
            topics: BTreeMap::new(),
            now_ms: 1_000_000,
            ids: 0,
            state: seed,
        };
        TOPICS.iter().for_each(|topic| bench.make(topic));
        bench
    }

    fn chance(&mut self, below: usize) -> usize {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.state >> 33).unwrap() % below
    }

    fn make(&mut self, topic: &'static str) {
        self.ids += 1;
        self.topics.insert(topic, Uuid::from_u128(self.ids));
    }

    fn turn(&mut self, event: impl FnOnce(&mut Shard, &mut Turn<'_>)) -> Vec<Reply> {
        let facts = |id: &Uuid| TopicFacts { id: *id, partitions: PARTITIONS };
        let topics = TopicView::of(self.topics.iter().map(|(name, id)| (KStr::from(*name), facts(id))));
        let retention = Duration::from_millis(u64::try_from(RETENTION_MS).unwrap());
        let settings = GroupSettings { offsets_retention: Some(retention), ..GroupSettings::for_tests() };
        let mut fx = Effects::default();
        let now = Now { steady: Millis(self.now_ms), wall_ms: self.now_ms };
        event(&mut self.shard, &mut Turn { now, settings: &settings, topics: &topics, fx: &mut fx });
        self.log.extend(fx.records.into_iter().map(|record| match fx.author {
            Some(author) => Logged::InTransaction(author, record),
            None => Logged::Record(record),
        }));
        fx.replies.into_iter().map(|(_, reply)| reply).collect()
    }

    fn step(&mut self) {
        let group = GROUPS[self.chance(3)];
        let topic = TOPICS[self.chance(3)];
        let partition = i32::try_from(self.chance(4)).unwrap();
        self.now_ms += i64::try_from(self.chance(20_000)).unwrap();
        match self.chance(16) {
            0..=4 => self.commit(group, topic, partition),
            5..=8 => self.commit_in_transaction(group, topic, partition),
            9..=11 => self.end(),
            12 => self.delete_offset(group, topic, partition),
            13 => self.delete_group(group),
            14 => self.remake(topic),
            _ => self.clean_up(),
        }
    }

    fn commit_in_transaction(&mut self, group: &'static str, topic: &'static str, partition: i32) {
        let (offset, producer) = (i64::try_from(self.chance(1000)).unwrap(), self.producer());
        let request = transactional(group, (topic, partition), offset, producer);
        let replies =
            self.turn(|shard, turn| shard.commit_in_transaction(turn, Ticket(1), request, || Ok(())));
        let [Reply::TxnOffsetCommit(reply)] = &replies[..] else { panic!("{replies:?}") };
        let is_there = self.topics.contains_key(topic) && partition < PARTITIONS;
        assert_eq!(reply.topics[0].partitions[0].error_code == ErrorCode::None.code(), is_there);
        if is_there {
            self.commits += 1;
            let held = ((offset, String::new(), self.now_ms), self.commits);
            self.pending.entry(producer).or_default().insert((group.into(), topic.into(), partition), held);
        }
    }

    fn producer(&mut self) -> i64 {
        i64::try_from(self.chance(3)).unwrap()
    }

    /// As Kafka has it: what was written later holds.
    fn end(&mut self) {
        let producer = self.producer();
        let outcome =
            [TransactionOutcome::Abort, TransactionOutcome::Commit][usize::from(self.chance(3) > 0)];
        self.shard.on_transaction_ended(ProducerId::new(producer), outcome);
        self.log.push(Logged::End(ProducerId::new(producer), outcome));
        let ended = self.pending.remove(&producer).unwrap_or_default();
        for (key, held) in ended.into_iter().filter(|_| outcome == TransactionOutcome::Commit) {
            if self.model.get(&key).is_none_or(|before| before.1 < held.1) {
                self.model.insert(key, held);
            }
        }
    }

    fn forget(&mut self, goes: impl Fn(&Key) -> bool) {
        self.model.retain(|key, _| !goes(key));
        self.pending.values_mut().for_each(|pending| pending.retain(|key, _| !goes(key)));
    }

    fn is_pending(&self, key: &Key) -> bool {
        self.pending.values().any(|pending| pending.contains_key(key))
    }

    fn commit(&mut self, group: &'static str, topic: &'static str, partition: i32) {
        let (offset, metadata) = (i64::try_from(self.chance(1000)).unwrap(), "x".repeat(self.chance(3)));
        // A client of the new protocol has a member id even where it joins no group.
        let member_id = KStr::from_static(["", "m"][self.chance(2)]);
        let request = OffsetCommitRequest {
            group_id: KStr::from_static(group),
            member_id,
            generation_id_or_member_epoch: -1,
            topics: vec![OffsetCommitRequestTopic {
                name: KStr::from_static(topic),
                topic_id: Uuid::nil(),
                partitions: vec![OffsetCommitRequestPartition {
                    partition_index: partition,
                    committed_offset: offset,
                    committed_leader_epoch: -1,
                    committed_metadata: Some(KStr::from(metadata.clone())),
                }],
            }],
            ..Default::default()
        };
        let replies = self.turn(|shard, turn| {
            shard.commit_offsets(turn, Ticket(1), Commit { version: 9, request });
        });
        let [Reply::OffsetCommit(reply)] = &replies[..] else { panic!("{replies:?}") };
        let is_there = self.topics.contains_key(topic) && partition < PARTITIONS;
        assert_eq!(reply.topics[0].partitions[0].error_code == ErrorCode::None.code(), is_there);
        if is_there {
            self.commits += 1;
            let held = ((offset, metadata, self.now_ms), self.commits);
            self.model.insert((group.into(), topic.into(), partition), held);
        }
    }

    fn delete_offset(&mut self, group: &'static str, topic: &'static str, partition: i32) {
        let partitions = vec![OffsetDeleteRequestPartition { partition_index: partition }];
        let topics = vec![OffsetDeleteRequestTopic { name: KStr::from_static(topic), partitions }];
        let request = OffsetDeleteRequest { group_id: KStr::from_static(group), topics };
        self.turn(|shard, turn| shard.delete_offsets(turn, Ticket(1), request));
        if self.topics.contains_key(topic) {
            self.forget(|key| *key == (group.into(), topic.into(), partition));
        }
    }

    fn delete_group(&mut self, group: &'static str) {
        self.turn(|shard, turn| shard.delete(turn, Ticket(1), KStr::from_static(group)));
        self.forget(|(held, ..)| held == group);
    }

    /// Deletes a topic, or makes it again if it is gone; at times both before anybody is told.
    fn remake(&mut self, topic: &'static str) {
        if self.topics.remove(topic).is_none() || self.chance(2) == 0 {
            self.make(topic);
        }
        self.turn(Shard::on_topics_deleted);
        self.forget(|(_, held, _)| held == topic);
    }

    fn clean_up(&mut self) {
        self.turn(|shard, turn| shard.clean_up(turn, turn.now.wall_ms));
        let oldest = self.now_ms - RETENTION_MS;
        let expired = |((.., committed_ms), _): &(Held, u64)| *committed_ms <= oldest;
        let gone: Vec<Key> =
            self.model.iter().filter(|(_, held)| expired(held)).map(|(key, _)| key.clone()).collect();
        for key in gone.into_iter().filter(|key| !self.is_pending(key)).collect::<Vec<_>>() {
            self.model.remove(&key);
        }
    }

    fn check(&mut self) {
        let held = |((offset, metadata, _), _): &(Held, u64)| (*offset, metadata.clone());
        let wanted: BTreeMap<Key, _> =
            self.model.iter().map(|(key, value)| (key.clone(), held(value))).collect();
        let is_unstable = |(key, held): (&Key, &(i64, String))| {
            let told = if self.is_pending(key) { (-1, String::new()) } else { held.clone() };
            (key.clone(), told)
        };
        let stable: BTreeMap<Key, _> = wanted.iter().map(is_unstable).collect();
        assert_eq!(self.all(Stability::Any), wanted);
        assert_eq!(self.all(Stability::Stable), stable);
        let live = std::mem::take(&mut self.shard);
        for logged in &self.log {
            match logged {
                Logged::Record(record) => self.shard.replay(record),
                Logged::InTransaction(author, record) => self.shard.replay_in_transaction(*author, record),
                Logged::End(producer, outcome) => self.shard.on_transaction_ended(*producer, *outcome),
            }
        }
        self.turn(Shard::on_loaded);
        assert_eq!(self.all(Stability::Any), wanted, "after a replay");
        assert_eq!(self.all(Stability::Stable), stable, "after a replay");
        assert_eq!(self.shard.ids(), live.ids(), "after a replay");
        self.shard = live;
    }

    /// What groups are told that ask for everything.
    fn all(&mut self, wanted: Stability) -> BTreeMap<Key, (i64, String)> {
        let mut all = BTreeMap::new();
        for group in GROUPS {
            let group_id = KStr::from_static(group);
            let request =
                OffsetFetchRequestGroup { group_id, member_id: None, member_epoch: -1, topics: None };
            let replies = self.turn(|shard, turn| {
                shard.fetch_offsets(turn, Ticket(1), Fetch { version: 9, wanted, request });
            });
            let [Reply::OffsetFetch(reply)] = &replies[..] else { panic!("{replies:?}") };
            for topic in &reply.topics {
                for at in &topic.partitions {
                    let key = (group.to_owned(), topic.name.to_string(), at.partition_index);
                    assert_eq!(
                        at.committed_offset < 0,
                        at.error_code == ErrorCode::UnstableOffsetCommit.code()
                    );
                    all.insert(key, (at.committed_offset, at.metadata.clone().unwrap().to_string()));
                }
            }
        }
        all
    }
}

fn transactional(
    group: &'static str,
    (topic, partition): (&'static str, i32),
    offset: i64,
    producer: i64,
) -> TxnOffsetCommitRequest {
    TxnOffsetCommitRequest {
        transactional_id: KStr::from_static("tx"),
        group_id: KStr::from_static(group),
        producer_id: producer,
        producer_epoch: 0,
        generation_id: -1,
        topics: vec![TxnOffsetCommitRequestTopic {
            name: KStr::from_static(topic),
            partitions: vec![TxnOffsetCommitRequestPartition {
                partition_index: partition,
                committed_offset: offset,
                committed_leader_epoch: -1,
                committed_metadata: None,
            }],
        }],
        ..Default::default()
    }
}

#[test]
fn a_shard_is_the_map_that_its_clients_believe_in_and_so_is_its_replay() {
    for seed in 0..200 {
        let mut bench = Bench::new(seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..60 {
                bench.step();
                bench.check();
            }
        }));
        assert!(outcome.is_ok(), "seed {seed}");
    }
}

#[test]
fn a_group_without_members_and_offsets_is_forgotten_with_a_record() {
    let mut bench = Bench::new(1);
    let group = KStr::from_static("g");
    bench.shard.replay(&GroupRecord::Classic { group: group.clone(), value: Some(Default::default()) });
    bench.turn(|shard, turn| shard.clean_up(turn, turn.now.wall_ms));
    assert_eq!(bench.log, [Logged::Record(GroupRecord::Classic { group, value: None })]);
    assert_eq!(bench.shard.ids(), Vec::<KStr>::new());
}

#[test]
fn a_commit_outside_of_a_transaction_holds_against_one_that_was_written_before_it() {
    let mut bench = Bench::new(1);
    let request = transactional("a", ("t", 0), 500, 7);
    bench.turn(|shard, turn| shard.commit_in_transaction(turn, Ticket(1), request, || Ok(())));
    bench.commit("a", "t", 0);
    let before = bench.all(Stability::Any);
    bench.shard.on_transaction_ended(ProducerId::new(7), TransactionOutcome::Commit);
    assert_eq!(bench.all(Stability::Any), before);
}

#[test]
fn nothing_is_asked_of_a_transaction_or_left_by_it_if_nothing_can_be_committed() {
    let mut bench = Bench::new(1);
    let asked = std::cell::Cell::new(0);
    for (what, topic, refusal, code, times) in [
        ("an unknown topic", "nothing", None, ErrorCode::UnknownTopicOrPartition, 0),
        ("no such transaction", "t", Some(ErrorCode::InvalidTxnState), ErrorCode::InvalidTxnState, 1),
    ] {
        let request = transactional("a", (topic, 0), 5, 7);
        let admit = || {
            asked.set(asked.get() + 1);
            refusal.map_or(Ok(()), Err)
        };
        let replies = bench.turn(|shard, turn| shard.commit_in_transaction(turn, Ticket(1), request, admit));
        let [Reply::TxnOffsetCommit(reply)] = &replies[..] else { panic!("{replies:?}") };
        assert_eq!(reply.topics[0].partitions[0].error_code, code.code(), "{what}");
        assert_eq!(asked.replace(0), times, "{what}");
        assert_eq!((bench.log.len(), bench.shard.ids().len()), (0, 0), "{what}");
    }
}
