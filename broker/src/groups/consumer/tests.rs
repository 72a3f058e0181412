//! Groups of the new protocol in a shard, with requests, topics and time under the tests' control.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_protocol::messages::consumer_group_describe_response::DescribedGroup;
use millstream_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use millstream_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use millstream_protocol::{ErrorCode, KStr, Uuid};

use super::partitions::Partitions;
use super::{ConsumerGroup, Heartbeat};
use crate::groups::cause::Caller;
use crate::groups::group::Group;
use crate::groups::record::GroupRecord;
use crate::groups::shard::Shard;
use crate::groups::topic_view::{TopicFacts, TopicView};
use crate::groups::turn::{Effects, Millis, Note, Now, Reply, Ticket, Turn};
use crate::settings::GroupSettings;

mod commits;
mod following;
mod joining;
mod migrating;
mod records;
mod simulation;
mod topics;

const GROUP: &str = "group";
const REBALANCE_MS: i32 = 60_000;

/// A shard, its topics and time, and everything that it ever stored.
struct Bed {
    shard: Shard,
    settings: GroupSettings,
    counts: BTreeMap<String, i32>,
    topics: TopicView,
    now: Now,
    log: Vec<GroupRecord>,
    notes: Vec<Note>,
    replies: BTreeMap<Ticket, Reply>,
    tickets: u64,
}

fn topic_id(name: &str) -> Uuid {
    Uuid::from_u128(name.bytes().fold(1_u128, |id, byte| id.wrapping_mul(257).wrapping_add(byte.into())))
}

impl Bed {
    fn new(topics: &[(&str, i32)]) -> Self {
        let settings = GroupSettings::assigning_each(Duration::ZERO);
        let counts = topics.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        let mut bed = Self {
            shard: Shard::default(),
            settings,
            counts,
            topics: TopicView::default(),
            now: Now { steady: Millis(1_000), wall_ms: 1_700_000_000_000 },
            log: Vec::new(),
            notes: Vec::new(),
            replies: BTreeMap::new(),
            tickets: 0,
        };
        bed.look_at_topics();
        bed
    }

    fn set_topic(&mut self, name: &str, partitions: i32) {
        self.counts.insert(name.to_owned(), partitions);
        self.look_at_topics();
    }

    fn look_at_topics(&mut self) {
        let facts = self.counts.iter().map(|(name, count)| {
            (KStr::from(name.as_str()), TopicFacts { id: topic_id(name), partitions: *count })
        });
        self.topics = TopicView::of(facts);
    }

    fn turn<T>(&mut self, event: impl FnOnce(&mut Shard, &mut Turn<'_>, Ticket) -> T) -> (T, Ticket) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let mut fx = Effects::default();
        let mut turn = Turn { now: self.now, settings: &self.settings, topics: &self.topics, fx: &mut fx };
        let result = event(&mut self.shard, &mut turn, ticket);
        self.shard.reschedule(GROUP);
        self.log.extend(fx.records);
        self.notes.extend(fx.notes);
        self.replies.extend(fx.replies);
        (result, ticket)
    }

    fn reply<R: TryFrom<Reply>>(&mut self, ticket: Ticket) -> R {
        let reply = self.replies.remove(&ticket).expect("it was answered");
        R::try_from(reply).ok().expect("a reply of this kind")
    }

    fn ask<R: TryFrom<Reply>>(&mut self, event: impl FnOnce(&mut Shard, &mut Turn<'_>, Ticket)) -> R {
        let ((), ticket) = self.turn(event);
        self.reply(ticket)
    }

    fn heartbeat(&mut self, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
        let caller = Caller { client_id: "client".into(), host: "/127.0.0.1".into() };
        self.ask(|shard, turn, ticket| shard.consumer_heartbeat(turn, &Heartbeat { ticket, caller, request }))
    }

    /// Time goes by, and what is due happens.
    fn pass(&mut self, time: Duration) {
        let end = self.now.steady.after(time);
        while let Some(due) = self.shard.next_due()
            && due <= end
        {
            self.go_to(due.max(self.now.steady));
            self.turn(|shard, turn, _| shard.tick(turn));
        }
        self.go_to(end);
    }

    fn go_to(&mut self, steady: Millis) {
        self.now.wall_ms += steady.0 - self.now.steady.0;
        self.now.steady = steady;
    }

    fn group(&self) -> &ConsumerGroup {
        match self.shard.group(GROUP) {
            Some(Group::Consumer(group)) => group,
            other => panic!("no consumer group: {other:?}"),
        }
    }

    fn describe(&mut self) -> DescribedGroup {
        self.ask(|shard, turn, ticket| shard.consumer_describe(turn, ticket, &GROUP.into()))
    }

    /// The shard as it would be after a restart.
    fn replayed(&self) -> Shard {
        let mut shard = Shard::default();
        for record in &self.log {
            let (key, value) = record.encode().unwrap();
            let record = GroupRecord::decode(&key, value.as_ref()).unwrap().expect("a kind that is known");
            shard.replay(&record);
        }
        shard
    }

    /// What is stored is all that there is, but for deadlines.
    fn check_replay(&self, case: &str) {
        let replayed = self.replayed();
        match (self.shard.group(GROUP), replayed.group(GROUP)) {
            (Some(Group::Consumer(live)), Some(Group::Consumer(again))) => {
                let hard = |group: &ConsumerGroup| {
                    let members: Vec<_> = group.members.iter().collect();
                    let members: Vec<_> = members
                        .into_iter()
                        .map(|(id, member)| (id.clone(), member.wish.clone(), member.standing.clone()))
                        .collect();
                    let mut owners: Vec<_> =
                        group.owners.iter().map(|(at, owner)| (*at, owner.clone())).collect();
                    owners.sort();
                    let instances: BTreeMap<_, _> = group.instances.clone().into_iter().collect();
                    let epochs = (group.epoch, group.target_epoch, group.fingerprint);
                    (epochs, members, owners, instances, group.targets.clone(), group.regexes.clone())
                };
                assert_eq!(hard(live), hard(again), "{case}");
            }
            (Some(Group::Consumer(_)), other) => panic!("{case}: replayed as {other:?}"),
            (live, again) => assert_eq!(live.is_some(), again.is_some(), "{case}: {live:?} {again:?}"),
        }
    }
}

/// A client of the new protocol: what it knows, and what it owns.
#[derive(Clone, Debug)]
struct Client {
    id: KStr,
    instance: Option<KStr>,
    epoch: i32,
    names: Vec<KStr>,
    regex: Option<KStr>,
    assignor: Option<KStr>,
    owned: Partitions,
    /// What it was told to own last; it gives up what is not in here.
    told: Partitions,
}

impl Client {
    fn new(id: &str, names: &[&str]) -> Self {
        Self {
            id: id.into(),
            instance: None,
            epoch: 0,
            names: names.iter().map(|name| KStr::from(*name)).collect(),
            regex: None,
            assignor: None,
            owned: Partitions::default(),
            told: Partitions::default(),
        }
    }

    fn named(self, instance: &str) -> Self {
        Self { instance: Some(instance.into()), ..self }
    }

    fn matching(id: &str, regex: &str) -> Self {
        Self { regex: Some(regex.into()), ..Self::new(id, &[]) }
    }

    fn owned(&self) -> Vec<TopicPartitions> {
        let topics = self.owned.topics().map(|(topic_id, partitions)| TopicPartitions {
            topic_id,
            partitions: partitions.iter().copied().collect(),
        });
        topics.collect()
    }

    /// What it sends to join, or after an error: everything.
    fn full(&self) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest {
            group_id: GROUP.into(),
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            instance_id: self.instance.clone(),
            rack_id: None,
            rebalance_timeout_ms: REBALANCE_MS,
            subscribed_topic_names: Some(self.names.clone()),
            subscribed_topic_regex: self.regex.clone(),
            server_assignor: self.assignor.clone(),
            topic_partitions: Some(self.owned()),
        }
    }

    /// What it sends when nothing changed on its side, but for what it owns.
    fn short(&self) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest {
            group_id: GROUP.into(),
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            instance_id: self.instance.clone(),
            rebalance_timeout_ms: -1,
            topic_partitions: Some(self.owned()),
            ..Default::default()
        }
    }

    fn leaving(&self, epoch: i32) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest { member_epoch: epoch, ..self.short() }
    }

    /// Takes in a reply. It stops reading at once what it is not to have.
    fn hear(&mut self, response: &ConsumerGroupHeartbeatResponse) {
        self.epoch = response.member_epoch;
        if let Some(assignment) = &response.assignment {
            let topics = assignment.topic_partitions.iter();
            self.told =
                topics.flat_map(|topic| topic.partitions.iter().map(|at| (topic.topic_id, *at))).collect();
            self.owned = self.told.clone();
        }
    }

    fn join(&mut self, bed: &mut Bed) {
        self.epoch = 0;
        self.owned = Partitions::default();
        let response = bed.heartbeat(self.full());
        assert_eq!(code(&response), ErrorCode::None, "{response:?}");
        self.hear(&response);
    }

    fn beat(&mut self, bed: &mut Bed) {
        let response = bed.heartbeat(self.short());
        assert_eq!(code(&response), ErrorCode::None, "{response:?}");
        self.hear(&response);
    }
}

fn code(response: &ConsumerGroupHeartbeatResponse) -> ErrorCode {
    ErrorCode::from_code(response.error_code).unwrap()
}

/// Everybody sends heartbeats until nothing changes.
fn settle(bed: &mut Bed, clients: &mut [&mut Client]) {
    for _ in 0..8 {
        for client in clients.iter_mut() {
            client.beat(bed);
        }
    }
    assert_eq!(bed.group().state(), "Stable");
}
