//! Many members of both protocols' worth of trouble: they join, leave, crash and come back, replies get lost, wishes and
//! topics change, time passes. Played from a seed.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const TOPICS: [&str; 4] = ["a", "b", "c", "d"];

/// A client and whether it runs.
struct Actor {
    client: Client,
    runs: bool,
    /// Its replies are lost, so that it does not know what the broker knows.
    is_deaf: bool,
    /// A reply was lost: it says everything again, as clients do after an error.
    must_say_all: bool,
}

struct World {
    bed: Bed,
    actors: Vec<Actor>,
    rng: StdRng,
    seed: u64,
    born: u32,
    epoch: i32,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut bed = Bed::new(&[("a", 4), ("b", 7)]);
        let mut rng = StdRng::seed_from_u64(seed);
        if rng.random_bool(0.5) {
            bed.settings = GroupSettings::assigning_each(Duration::from_millis(200));
        }
        Self { bed, actors: Vec::new(), rng, seed, born: 0, epoch: 0 }
    }

    fn step(&mut self, step: usize) {
        let case = format!("seed {}, step {step}", self.seed);
        match self.rng.random_range(0..100) {
            0..8 => self.be_born(),
            8..12 => self.leave(),
            12..15 => self.crash(),
            15..20 => self.wish(),
            20..23 => self.change_topics(),
            23..26 => self.lose_replies(),
            26..32 => {
                let wait = Duration::from_millis(self.rng.random_range(1..20_000));
                self.bed.pass(wait);
            }
            _ => self.beat(),
        }
        self.check(&case);
        if step.is_multiple_of(16) {
            self.bed.check_replay(&case);
        }
        if self.rng.random_ratio(1, 200) {
            self.restart();
        }
    }

    fn any(&mut self) -> Option<usize> {
        let runs: Vec<usize> = (0..self.actors.len()).filter(|at| self.actors[*at].runs).collect();
        (!runs.is_empty()).then(|| runs[self.rng.random_range(0..runs.len())])
    }

    fn some_topics(&mut self) -> Vec<KStr> {
        let rng = &mut self.rng;
        let chosen: Vec<KStr> =
            TOPICS.iter().filter(|_| rng.random_bool(0.6)).map(|name| KStr::from(*name)).collect();
        chosen
    }

    fn be_born(&mut self) {
        if self.actors.len() >= 12 {
            return;
        }
        self.born += 1;
        let mut client = Client::new(&format!("member-{}", self.born), &[]);
        client.names = self.some_topics();
        if self.rng.random_bool(0.2) {
            client.regex = Some(["a|b", "[cd]", ".*"][self.rng.random_range(0..3)].into());
        }
        if self.rng.random_bool(0.3) {
            client.instance = Some(format!("instance-{}", self.rng.random_range(0..3)).into());
        }
        let is_taken = |actor: &Actor| {
            actor.runs && actor.client.instance.is_some() && actor.client.instance == client.instance
        };
        if !self.actors.iter().any(is_taken) {
            self.actors.push(Actor { client, runs: true, is_deaf: false, must_say_all: false });
        }
    }

    fn leave(&mut self) {
        let Some(at) = self.any() else { return };
        let actor = &mut self.actors[at];
        actor.runs = false;
        let epoch = if actor.client.instance.is_some() { -2 } else { -1 };
        actor.client.owned = Partitions::default();
        let request = actor.client.leaving(epoch);
        if actor.client.epoch > 0 {
            self.bed.heartbeat(request);
        }
        self.actors.remove(at);
    }

    /// It stops without a word. It reads on for a while: that is why its session has to end first.
    fn crash(&mut self) {
        if let Some(at) = self.any() {
            self.actors[at].runs = false;
        }
    }

    fn wish(&mut self) {
        let Some(at) = self.any() else { return };
        let names = self.some_topics();
        let actor = &mut self.actors[at];
        actor.client.names = names;
        if actor.client.epoch > 0 {
            let request = actor.client.full();
            let response = self.bed.heartbeat(request);
            self.hear(at, &response);
        }
    }

    fn change_topics(&mut self) {
        let name = TOPICS[self.rng.random_range(0..4)];
        if self.rng.random_bool(0.2) {
            self.bed.counts.remove(name);
            self.bed.look_at_topics();
            return;
        }
        let partitions = self.bed.counts.get(name).copied().unwrap_or(0) + self.rng.random_range(1..4);
        self.bed.set_topic(name, partitions.min(40));
    }

    fn lose_replies(&mut self) {
        if let Some(at) = self.any() {
            self.actors[at].is_deaf = !self.actors[at].is_deaf;
        }
    }

    fn beat(&mut self) {
        let Some(at) = self.any() else { return };
        let actor = &self.actors[at];
        let request = match actor.must_say_all || actor.client.epoch == 0 || self.rng.random_bool(0.1) {
            true => actor.client.full(),
            false => actor.client.short(),
        };
        let response = self.bed.heartbeat(request);
        match self.actors[at].is_deaf {
            true => self.actors[at].must_say_all = true,
            false => self.hear(at, &response),
        }
    }

    fn hear(&mut self, at: usize, response: &ConsumerGroupHeartbeatResponse) {
        self.actors[at].must_say_all = false;
        let client = &mut self.actors[at].client;
        match code(response) {
            ErrorCode::None => client.hear(response),
            // It stops reading everything, and starts anew.
            ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId | ErrorCode::GroupIdNotFound => {
                client.epoch = 0;
                client.owned = Partitions::default();
            }
            ErrorCode::UnreleasedInstanceId => {}
            ErrorCode::FencedInstanceId => {
                client.owned = Partitions::default();
                self.actors[at].runs = false;
            }
            other => panic!("seed {}: {other:?} {response:?}", self.seed),
        }
    }

    /// The broker starts anew; sessions do too.
    fn restart(&mut self) {
        self.bed.shard = self.bed.replayed();
        self.bed.turn(|shard, turn, _| shard.on_loaded(turn));
    }

    fn check(&mut self, case: &str) {
        let Some(Group::Consumer(group)) = self.bed.shard.group(GROUP) else { return };
        assert!(group.epoch >= self.epoch, "{case}: the epoch fell");
        assert!(group.target_epoch <= group.epoch, "{case}");
        self.epoch = group.epoch;
        // As the broker knows it.
        let mut owners: BTreeMap<(Uuid, i32), &KStr> = BTreeMap::new();
        for (id, member) in &group.members {
            assert!(member.standing.epoch <= group.target_epoch.max(0), "{case}: {id:?} is ahead");
            for (topic, partition, _) in member.standing.held.iter().chain(member.standing.revoking.iter()) {
                let other = owners.insert((topic, partition), id);
                assert_eq!(other, None, "{case}: {id:?} has {partition} of {topic}, and so has the other");
            }
        }
        // As members do it: whoever reads is who owns. One that was cut off and fenced reads until it hears of it.
        for actor in &self.actors {
            let id = actor.client.id.as_str();
            let Some(member) = group.members.get(id).filter(|_| actor.client.epoch > 0) else { continue };
            for (topic, partition) in actor.client.owned.iter() {
                let standing = &member.standing;
                let is_its =
                    standing.held.contains(topic, partition) || standing.revoking.contains(topic, partition);
                assert!(is_its, "{case}: {id} reads {partition} of {topic}, which is not its own");
            }
        }
    }

    /// Nothing happens any more but heartbeats.
    fn settle(&mut self) {
        let case = format!("seed {}, at the end", self.seed);
        for actor in &mut self.actors {
            actor.is_deaf = false;
        }
        for round in 0..80 {
            for at in 0..self.actors.len() {
                if self.actors[at].runs {
                    let Actor { client, must_say_all, .. } = &self.actors[at];
                    let says_all = *must_say_all || client.epoch == 0;
                    let request = if says_all { client.full() } else { client.short() };
                    let response = self.bed.heartbeat(request);
                    self.hear(at, &response);
                }
            }
            self.check(&case);
            self.bed.pass(Duration::from_millis(if round < 60 { 2_000 } else { 300 }));
        }
        self.bed.check_replay(&case);
        let Some(Group::Consumer(group)) = self.bed.shard.group(GROUP) else { return };
        if group.is_empty() {
            return;
        }
        assert_eq!(group.state(), "Stable", "{case}");
        for actor in self.actors.iter().filter(|actor| actor.runs) {
            let client = &actor.client;
            let member = &group.members[client.id.as_str()];
            assert_eq!(member.standing.held.partitions(), client.owned, "{case}: {client:?}");
            assert_eq!(group.target(&client.id), client.owned, "{case}: {client:?}");
        }
        for (name, count) in &self.bed.counts {
            let reads = |actor: &&Actor| {
                let regex = actor.client.regex.as_deref().filter(|regex| !regex.is_empty());
                let matches = regex
                    .is_some_and(|regex| super::super::subscription::compile(regex).unwrap().is_match(name));
                actor.runs && (matches || actor.client.names.iter().any(|wanted| **wanted == **name))
            };
            let has_reader = self.actors.iter().any(|actor| reads(&actor));
            for partition in 0..*count {
                let owner = group.owners.get(&(topic_id(name), partition));
                assert_eq!(owner.is_some(), has_reader, "{case}: {name} {partition}");
            }
        }
    }
}

#[test]
fn no_partition_is_ever_owned_twice_and_all_settle_once_it_is_quiet() {
    for seed in 0..40 {
        let mut world = World::new(seed);
        for step in 0..400 {
            world.step(step);
        }
        world.settle();
    }
}
