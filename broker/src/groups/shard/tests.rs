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
use millstream_protocol::messages::{OffsetCommitRequest, OffsetDeleteRequest};
use millstream_protocol::{ErrorCode, Uuid};

use super::*;
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

struct Bench {
    shard: Shard,
    log: Vec<GroupRecord>,
    model: BTreeMap<Key, Held>,
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
        self.log.append(&mut fx.records);
        fx.replies.into_iter().map(|(_, reply)| reply).collect()
    }

    fn step(&mut self) {
        let group = GROUPS[self.chance(3)];
        let topic = TOPICS[self.chance(3)];
        let partition = i32::try_from(self.chance(4)).unwrap();
        self.now_ms += i64::try_from(self.chance(20_000)).unwrap();
        match self.chance(10) {
            0..=5 => self.commit(group, topic, partition),
            6 => self.delete_offset(group, topic, partition),
            7 => self.delete_group(group),
            8 => self.remake(topic),
            _ => self.clean_up(),
        }
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
            self.model.insert((group.into(), topic.into(), partition), (offset, metadata, self.now_ms));
        }
    }

    fn delete_offset(&mut self, group: &'static str, topic: &'static str, partition: i32) {
        let partitions = vec![OffsetDeleteRequestPartition { partition_index: partition }];
        let topics = vec![OffsetDeleteRequestTopic { name: KStr::from_static(topic), partitions }];
        let request = OffsetDeleteRequest { group_id: KStr::from_static(group), topics };
        self.turn(|shard, turn| shard.delete_offsets(turn, Ticket(1), request));
        if self.topics.contains_key(topic) {
            self.model.remove(&(group.into(), topic.into(), partition));
        }
    }

    fn delete_group(&mut self, group: &'static str) {
        self.turn(|shard, turn| shard.delete(turn, Ticket(1), KStr::from_static(group)));
        self.model.retain(|(held, ..), _| held != group);
    }

    /// Deletes a topic, or makes it again if it is gone; at times both before anybody is told.
    fn remake(&mut self, topic: &'static str) {
        if self.topics.remove(topic).is_none() || self.chance(2) == 0 {
            self.make(topic);
        }
        self.turn(Shard::on_topics_deleted);
        self.model.retain(|(_, held, _), _| held != topic);
    }

    fn clean_up(&mut self) {
        self.turn(Shard::clean_up);
        let oldest = self.now_ms - RETENTION_MS;
        self.model.retain(|_, (.., committed_ms)| *committed_ms > oldest);
    }

    fn check(&mut self) {
        let held = |(offset, metadata, _): &Held| (*offset, metadata.clone());
        let wanted: BTreeMap<Key, _> =
            self.model.iter().map(|(key, value)| (key.clone(), held(value))).collect();
        assert_eq!(self.all(), wanted);
        let live = std::mem::take(&mut self.shard);
        self.log.iter().for_each(|record| self.shard.replay(record));
        self.turn(Shard::on_loaded);
        assert_eq!(self.all(), wanted, "after a replay");
        assert_eq!(self.shard.ids(), live.ids(), "after a replay");
        self.shard = live;
    }

    /// What groups are told that ask for everything.
    fn all(&mut self) -> BTreeMap<Key, (i64, String)> {
        let mut all = BTreeMap::new();
        for group in GROUPS {
            let group_id = KStr::from_static(group);
            let request =
                OffsetFetchRequestGroup { group_id, member_id: None, member_epoch: -1, topics: None };
            let replies = self.turn(|shard, turn| {
                shard.fetch_offsets(turn, Ticket(1), Fetch { version: 9, request });
            });
            let [Reply::OffsetFetch(reply)] = &replies[..] else { panic!("{replies:?}") };
            for topic in &reply.topics {
                for at in &topic.partitions {
                    let key = (group.to_owned(), topic.name.to_string(), at.partition_index);
                    all.insert(key, (at.committed_offset, at.metadata.clone().unwrap().to_string()));
                }
            }
        }
        all
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
    bench.turn(Shard::clean_up);
    assert_eq!(bench.log, [GroupRecord::Classic { group, value: None }]);
    assert_eq!(bench.shard.ids(), Vec::<KStr>::new());
}
