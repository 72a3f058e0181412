//! Members against a model of a coordinator, by chance: requests and answers are late or lost, members come, leave and
//! die, programs give up partitions late or never, the coordinator restarts.
//!
//! At all times no partition is held by two that live. Once the trouble is over, every partition is held.
//! `MILLSTREAM_GROUP_SEED=n` plays one seed again, `MILLSTREAM_GROUP_SEEDS=n` so many.

mod broker;
mod classic_coordinator;
mod modern_coordinator;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millstream_client::{ClientError, Progress};
use millstream_protocol::{KStr, Uuid};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use super::assignor::Assignor;
use super::holdings::Serial;
use super::member::{Answer, Ask, Farewell, Member, MemberSettings};
use super::rebalance::TopicPartition;
use super::status::{GroupProtocol, MemberState};
use super::subscription::{Pattern, Seen, Subscription, TopicView, TopicsWanted};
use broker::Coordinator;

const SESSION: Duration = Duration::from_secs(40);
const REBALANCE: Duration = Duration::from_secs(30);
/// Four and a half minutes each.
const SEEDS: u64 = 60;

/// A program with its member.
struct Actor {
    id: usize,
    member: Member,
    is_alive: bool,
    /// On its way to the coordinator.
    request: Option<(Instant, Ask)>,
    /// The coordinator has it and has not answered.
    waits: bool,
    answer: Option<(Instant, Answer)>,
    look: Option<(Instant, TopicsWanted)>,
    releases: BTreeMap<(TopicPartition, Serial), Instant>,
}

struct World {
    now: Instant,
    chance: StdRng,
    protocol: GroupProtocol,
    assignors: Vec<Assignor>,
    uses_pattern: bool,
    actors: Vec<Actor>,
    coordinator: Coordinator,
    topics: TopicView,
    /// Trouble goes on.
    is_rough: bool,
    seed: u64,
}

fn topic_id(name: &str) -> Uuid {
    let mut bytes = [7; 16];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    Uuid::from_bytes(bytes)
}

impl World {
    fn new(seed: u64, protocol: GroupProtocol) -> Self {
        let mut chance = StdRng::seed_from_u64(seed);
        let topics = (0..chance.random_range(1..4)).map(|n| {
            let name = KStr::from(format!("t{n}"));
            let seen =
                Seen { id: topic_id(&name), partitions: chance.random_range(1..7), is_internal: false };
            (name, seen)
        });
        let topics = TopicView(topics.collect());
        let assignors = match chance.random_range(0..4) {
            0 => vec![Assignor::Range],
            1 => vec![Assignor::CooperativeSticky, Assignor::RoundRobin],
            _ => vec![Assignor::CooperativeSticky],
        };
        Self {
            now: Instant::now(),
            protocol,
            assignors,
            uses_pattern: chance.random_bool(0.3),
            actors: Vec::new(),
            coordinator: Coordinator::new(protocol),
            topics,
            is_rough: true,
            seed,
            chance,
        }
    }

    fn soon(&mut self, most_ms: u64) -> Instant {
        self.now + Duration::from_millis(self.chance.random_range(1..=most_ms))
    }

    fn start_member(&mut self) {
        let subscription = match self.uses_pattern {
            true => Subscription::Pattern(Pattern::new("t[0-9]").unwrap()),
            false => Subscription::Names(self.topics.0.keys().cloned().collect()),
        };
        let settings = MemberSettings {
            group: KStr::from("g"),
            instance_id: None,
            rack: None,
            subscription,
            assignors: self.assignors.clone(),
            server_assignor: None,
            session_timeout: SESSION,
            rebalance_timeout: REBALANCE,
            heartbeat_interval: Duration::from_secs(1),
            topics_every: Duration::from_secs(5),
            patience: Duration::from_secs(3600),
        };
        let id = self.actors.len();
        self.actors.push(Actor {
            id,
            member: Member::new(Arc::new(settings), self.protocol, KStr::from(format!("m{id}"))),
            is_alive: true,
            request: None,
            waits: false,
            answer: None,
            look: None,
            releases: BTreeMap::new(),
        });
    }

    fn alive(&self) -> Vec<usize> {
        self.actors.iter().filter(|actor| actor.is_alive).map(|actor| actor.id).collect()
    }

    /// Something that happens to programs and machines.
    fn mishap(&mut self) {
        let alive = self.alive();
        let one = self.chance.random_range(0..alive.len().max(1));
        match self.chance.random_range(0..10) {
            0..3 if alive.len() < 5 => self.start_member(),
            3 | 4 if alive.len() > 1 => self.actors[alive[one]].is_alive = false,
            5 if alive.len() > 1 => {
                let actor = &mut self.actors[alive[one]];
                actor.is_alive = false;
                if let Some(farewell) = actor.member.farewell() {
                    self.leave(&farewell);
                }
            }
            6 => {
                let answers = self.coordinator.restart(self.now);
                self.answer(answers);
            }
            7 => self.grow(),
            8 if !alive.is_empty() => {
                let actor = &mut self.actors[alive[one]];
                match actor.member.state() {
                    MemberState::Away => actor.member.on_return(),
                    _ => {
                        if let Some(farewell) = actor.member.on_lapse(Duration::from_secs(1)) {
                            self.leave(&farewell);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn leave(&mut self, farewell: &Farewell) {
        let answers = self.coordinator.on_farewell(self.now, farewell, &self.topics);
        self.answer(answers);
    }

    fn grow(&mut self) {
        if let Some(seen) = self.topics.0.values_mut().next() {
            seen.partitions += 1;
        }
        self.coordinator.on_topics(&self.topics);
    }

    fn answer(&mut self, answers: Vec<(usize, Answer)>) {
        for (id, answer) in answers {
            let at = self.soon(200);
            let is_lost = self.is_rough && self.chance.random_bool(0.05);
            let actor = &mut self.actors[id];
            if !actor.is_alive || !std::mem::take(&mut actor.waits) {
                continue;
            }
            actor.answer = Some((at, if is_lost { lost() } else { answer }));
        }
    }

    /// Everything that is due.
    fn turn(&mut self) {
        for id in self.alive() {
            let now = self.now;
            if let Some((_, ask)) = self.actors[id].request.take_if(|(at, _)| *at <= now) {
                self.deliver(id, ask);
            }
            let actor = &mut self.actors[id];
            if let Some((_, answer)) = actor.answer.take_if(|(at, _)| *at <= now) {
                actor.member.on_answer(now, answer);
            }
            if let Some((_, wanted)) = actor.look.take_if(|(at, _)| *at <= now) {
                actor.member.on_topics(now, Ok(self.topics.only(&wanted)));
            }
            let actor = &mut self.actors[id];
            actor.member.on_time(now);
            let due: Vec<_> =
                actor.releases.iter().filter(|(_, at)| **at <= now).map(|(of, _)| of.clone()).collect();
            actor.releases.retain(|_, at| *at > now);
            actor.member.on_released(now, &due);
            self.go_on(id);
        }
        let answers = self.coordinator.on_time(self.now, &self.topics);
        self.answer(answers);
    }

    fn deliver(&mut self, id: usize, ask: Ask) {
        if self.is_rough && self.chance.random_bool(0.05) {
            self.actors[id].answer = Some((self.now, lost()));
            return;
        }
        self.actors[id].waits = true;
        let answers = self.coordinator.on_ask(self.now, (id, ask), &self.topics);
        self.answer(answers);
    }

    /// What a member and its program do next.
    fn go_on(&mut self, id: usize) {
        let (request_at, look_at) = (self.soon(200), self.soon(200));
        let slow = if self.is_rough { 2 * REBALANCE.as_millis() as u64 } else { 1000 };
        let release_at = self.soon(slow);
        let actor = &mut self.actors[id];
        if let Some(ask) = actor.member.next(self.now) {
            assert!(
                actor.request.is_none() && actor.answer.is_none(),
                "seed {}: two requests at once",
                self.seed
            );
            // Whatever the coordinator still holds of it is another life's.
            actor.waits = false;
            actor.request = Some((request_at, ask));
        }
        if let Some(wanted) = actor.member.topics_wanted(self.now) {
            actor.look = Some((look_at, wanted));
        }
        for (partition, held) in actor.member.holdings().iter() {
            if held.revoke_by.is_some() {
                actor.releases.entry((partition.clone(), held.serial)).or_insert(release_at);
            }
        }
        assert!(actor.member.fatal().is_none(), "seed {}: {:?}", self.seed, actor.member.fatal());
    }

    /// No two that live hold the same.
    fn check(&self) {
        let mut owners: BTreeMap<&TopicPartition, usize> = BTreeMap::new();
        for actor in self.actors.iter().filter(|actor| actor.is_alive) {
            for partition in actor.member.holdings().partitions() {
                if let Some(other) = owners.insert(partition, actor.id) {
                    panic!("seed {}: {partition} is held by {other} and by {}", self.seed, actor.id);
                }
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            if self.is_rough && self.chance.random_bool(0.02) {
                self.mishap();
            }
            self.turn();
            self.check();
            self.now += Duration::from_millis(50);
        }
    }

    fn assert_at_rest(&self) {
        let mut held = BTreeSet::new();
        for actor in self.actors.iter().filter(|actor| actor.is_alive) {
            assert_eq!(actor.member.state(), MemberState::Stable, "seed {}: {:?}", self.seed, actor.member);
            held.extend(actor.member.holdings().partitions().cloned());
        }
        let all = self.topics.0.iter().flat_map(|(topic, seen)| {
            (0..seen.partitions).map(move |partition| TopicPartition { topic: topic.clone(), partition })
        });
        assert_eq!(held, all.collect::<BTreeSet<_>>(), "seed {}: {:?}", self.seed, self.actors.len());
    }
}

fn lost() -> Answer {
    Answer::Failed(ClientError::Disconnected {
        address: "model".to_owned(),
        reason: "the network".to_owned(),
        progress: Progress::MaybeSent,
    })
}

impl TopicView {
    fn only(&self, wanted: &TopicsWanted) -> Self {
        let is_wanted = |(name, seen): &(&KStr, &Seen)| match wanted {
            TopicsWanted::All => true,
            TopicsWanted::Named(names) => names.contains(*name),
            TopicsWanted::Ids(ids) => ids.contains(&seen.id),
        };
        Self(self.0.iter().filter(is_wanted).map(|(name, seen)| (name.clone(), *seen)).collect())
    }
}

fn play(protocol: GroupProtocol, seeds: u64) {
    let told = |name: &str| std::env::var(name).ok().and_then(|number| number.parse().ok());
    let seeds = match told("MILLSTREAM_GROUP_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..told("MILLSTREAM_GROUP_SEEDS").unwrap_or(seeds),
    };
    for seed in seeds {
        let mut world = World::new(seed, protocol);
        for _ in 0..world.chance.random_range(1..4) {
            world.start_member();
        }
        world.run(Duration::from_secs(120));
        world.is_rough = false;
        for id in world.alive() {
            world.actors[id].member.on_return();
        }
        world.run(Duration::from_secs(150));
        world.assert_at_rest();
    }
}

#[test]
fn a_classic_group_never_gives_a_partition_twice_and_comes_to_rest() {
    play(GroupProtocol::Classic, SEEDS);
}

#[test]
fn a_group_of_the_new_protocol_never_gives_a_partition_twice_and_comes_to_rest() {
    play(GroupProtocol::Consumer, SEEDS);
}
