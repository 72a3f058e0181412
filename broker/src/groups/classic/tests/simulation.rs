//! Many members, a network that delays and loses, clients that stop, pause, leave and come back, coordinators
//! that start anew: whatever happens, from a seed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use millstream_protocol::messages::GroupMetadataValue;

use super::*;
use crate::groups::record::GroupRecord;

const CHAOS_MS: i64 = 120_000;
/// The longest wait of the protocol here is a rebalance timeout, for each of a few generations.
const CALM_MS: i64 = 180_000;

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn ms(&mut self, end: u64) -> i64 {
        i64::try_from(self.below(end)).unwrap()
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Doing {
    Joining,
    Syncing,
    Working,
}

#[derive(Debug, Clone)]
struct Client {
    /// Rises when the process starts anew: replies to the one before reach nobody.
    life: u32,
    says: Says,
    doing: Doing,
    generation: i32,
    part: Bytes,
    /// What the leader hands in with its SyncGroup.
    parts: Vec<(String, String)>,
    /// The request that counts; replies to earlier ones are ignored.
    request: u64,
}

#[derive(Debug, Clone)]
enum Event {
    Ask {
        client: usize,
        life: u32,
        request: u64,
        what: Ask,
    },
    Told {
        client: usize,
        life: u32,
        request: u64,
        what: Told,
    },
    /// The client looks at what it does: heartbeats, and asks again where no reply came.
    Look {
        client: usize,
        request: u64,
        life: u32,
    },
    Mischief {
        client: usize,
    },
    Expire,
    Restart,
}

#[derive(Debug, Clone)]
enum Ask {
    Join(Says),
    Sync { member: String, generation: i32, parts: Vec<(String, String)> },
    Heartbeat { member: String, instance: Option<String>, generation: i32 },
    Leave { member: String, instance: Option<String> },
}

#[derive(Debug, Clone)]
enum Told {
    Join(JoinGroupResponse),
    Sync(SyncGroupResponse),
    Heartbeat(ErrorCode),
    /// The coordinator went away with the request.
    Gone,
}

struct World {
    bed: Bed,
    chance: Chance,
    events: BTreeMap<(i64, u64), Event>,
    clients: Vec<Client>,
    /// Requests without an answer.
    open: HashMap<Ticket, (usize, u32, u64)>,
    stored: Option<GroupMetadataValue>,
    /// What each generation was given, once and for all.
    decided: BTreeMap<i32, BTreeSet<Bytes>>,
    requests: u64,
    /// When the group is looked at next.
    alarm: i64,
    is_calm: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let count = 2 + usize::try_from(chance.below(12)).unwrap();
        let clients = (0..count).map(|at| {
            let version = [0, 3, 4, 5, 8, 9][usize::try_from(chance.below(6)).unwrap()];
            let instance = (version >= 5 && chance.one_in(3)).then(|| format!("static{at}"));
            let says = Says { version, instance, session_ms: 6_000, rebalance_ms: 10_000, ..Says::new() };
            Client {
                life: 0,
                says,
                doing: Doing::Joining,
                generation: -1,
                part: Bytes::new(),
                parts: Vec::new(),
                request: 0,
            }
        });
        let clients: Vec<Client> = clients.collect();
        let mut world = Self {
            bed: Bed::new(),
            chance,
            events: BTreeMap::new(),
            clients,
            open: HashMap::new(),
            stored: None,
            decided: BTreeMap::new(),
            requests: 0,
            alarm: i64::MAX,
            is_calm: false,
        };
        for client in 0..count {
            world.ask(client);
            let at = world.chance.ms(20_000);
            world.later(at, Event::Mischief { client });
        }
        let at = world.chance.ms(2 * 120_000);
        world.later(at, Event::Restart);
        world
    }

    fn later(&mut self, ms: i64, event: Event) {
        self.requests += 1;
        let at = self.bed.now.steady.0 + ms;
        self.events.insert((at, self.requests), event);
    }

    /// The client asks for what it needs next.
    fn ask(&mut self, at: usize) {
        self.requests += 1;
        let request = self.requests;
        let client = &mut self.clients[at];
        client.request = request;
        let (life, member) = (client.life, client.says.member.clone());
        let what = match client.doing {
            Doing::Joining => Ask::Join(client.says.clone()),
            Doing::Syncing => {
                Ask::Sync { member, generation: client.generation, parts: client.parts.clone() }
            }
            Doing::Working => Ask::Heartbeat {
                member,
                instance: client.says.instance.clone(),
                generation: client.generation,
            },
        };
        let patience = if client.doing == Doing::Joining { 14_000 } else { 2_000 };
        self.send(Event::Ask { client: at, life, request, what });
        self.later(patience, Event::Look { client: at, request, life });
    }

    /// Through the network.
    fn send(&mut self, event: Event) {
        let is_lost = !self.is_calm && self.chance.one_in(12);
        let delay = self.chance.ms(if self.is_calm { 20 } else { 700 });
        if !is_lost {
            self.later(delay, event);
        }
    }

    fn run(&mut self) {
        let calm_at = self.bed.now.steady.0 + CHAOS_MS;
        let end = calm_at + CALM_MS;
        while let Some(((at, _), event)) = self.events.pop_first() {
            if at > end {
                break;
            }
            self.is_calm = at > calm_at;
            self.bed.now.wall_ms += at - self.bed.now.steady.0;
            self.bed.now.steady = Millis(at);
            let before = self.bed.group.generation;
            let is_restart = matches!(event, Event::Restart);
            self.happen(event);
            self.check(before, is_restart);
        }
        self.settled();
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Ask { client, life, request, what } => self.arrive((client, life, request), what),
            Event::Told { client, life, request, what } => {
                let told = &self.clients[client];
                if (told.life, told.request) == (life, request) {
                    self.hear(client, what);
                }
            }
            Event::Look { client, request, life } => {
                let looks = &self.clients[client];
                if (looks.life, looks.request) == (life, request) {
                    self.ask(client);
                }
            }
            Event::Mischief { client } if !self.is_calm => self.mischief(client),
            Event::Mischief { .. } => {}
            Event::Expire => {
                self.alarm = i64::MAX;
                self.bed.turn(|group, turn, _| group.expire(turn));
            }
            Event::Restart if self.is_calm => {}
            Event::Restart => self.restart(),
        }
        self.deliver();
        if let Some(Millis(at)) = self.bed.group.next_deadline().filter(|at| at.0 < self.alarm) {
            self.alarm = at;
            self.later((at - self.bed.now.steady.0).max(0), Event::Expire);
        }
    }

    /// A request reaches the coordinator.
    fn arrive(&mut self, from: (usize, u32, u64), what: Ask) {
        let knows_group = self.stored.is_some() || !self.bed.group.is_vacant();
        let ticket = match what {
            Ask::Join(says) if says.member.is_empty() || knows_group => self.bed.join(&says),
            Ask::Join(_) => return self.send_told(from, Told::Heartbeat(ErrorCode::UnknownMemberId)),
            Ask::Sync { member, generation, parts } => {
                let parts: Vec<(&str, &str)> = parts.iter().map(|(to, part)| (&**to, &**part)).collect();
                self.bed.sync((&member, generation), &parts)
            }
            Ask::Heartbeat { member, instance, generation } => {
                let who = (&*member, instance.as_deref());
                let heard = self.bed.turn(|group, turn, _| group.heartbeat(who, generation, turn)).0;
                if heard.is_ok() {
                    assert_eq!(generation, self.bed.group.generation, "one generation is alive");
                }
                return self.send_told(from, Told::Heartbeat(heard.err().unwrap_or(ErrorCode::None)));
            }
            Ask::Leave { member, instance } => {
                self.bed.leave(&[(&member, instance.as_deref())]);
                return;
            }
        };
        self.open.insert(ticket, from);
    }

    fn send_told(&mut self, (client, life, request): (usize, u32, u64), what: Told) {
        self.send(Event::Told { client, life, request, what });
    }

    /// What the group answered goes to the clients; what it stored is judged.
    fn deliver(&mut self) {
        for (ticket, reply) in std::mem::take(&mut self.bed.fx.replies) {
            let from = self.open.remove(&ticket).expect("a ticket is answered once");
            let what = match reply {
                Reply::Join(reply) => Told::Join(reply),
                Reply::Sync(reply) => Told::Sync(reply),
                other => panic!("{other:?}"),
            };
            self.send_told(from, what);
        }
        for record in std::mem::take(&mut self.bed.fx.records) {
            let GroupRecord::Classic { value: Some(value), .. } = record else { panic!("{record:?}") };
            if let Some(before) = &self.stored {
                assert!(before.generation <= value.generation, "what is stored never goes back");
            }
            let parts: BTreeSet<Bytes> =
                value.members.iter().map(|member| member.assignment.clone()).collect();
            let decided = self.decided.entry(value.generation).or_insert_with(|| parts.clone());
            assert_eq!(*decided, parts, "a generation is divided once");
            let replayed = ClassicGroup::replay(&"group".into(), &value);
            assert_eq!(replayed.value(), value);
            self.stored = Some(value);
        }
        self.bed.fx.notes.clear();
    }

    fn hear(&mut self, at: usize, what: Told) {
        let client = &mut self.clients[at];
        let failed = match what {
            Told::Join(reply) if reply.error_code == 0 => {
                client.says.member = reply.member_id.to_string();
                client.generation = reply.generation_id;
                client.doing = Doing::Syncing;
                let leads = reply.leader == reply.member_id && !reply.skip_assignment;
                let list = if leads { reply.members } else { Vec::new() };
                let tag = self.requests;
                client.parts = list
                    .iter()
                    .map(|member| {
                        let to = member.member_id.to_string();
                        (to.clone(), format!("{}/{tag}/{to}", reply.generation_id))
                    })
                    .collect();
                return self.ask(at);
            }
            Told::Join(reply) => {
                let code = code(reply.error_code);
                if code == ErrorCode::MemberIdRequired {
                    client.says.member = reply.member_id.to_string();
                }
                code
            }
            Told::Sync(reply) if reply.error_code == 0 => {
                client.doing = Doing::Working;
                client.part = reply.assignment.clone();
                let decided = &self.decided[&client.generation];
                assert!(decided.contains(&reply.assignment), "everybody gets what its leader decided");
                return;
            }
            Told::Sync(reply) => code(reply.error_code),
            Told::Heartbeat(ErrorCode::None) => return,
            Told::Heartbeat(code) => code,
            Told::Gone => return self.ask(at),
        };
        let lost_id = [ErrorCode::UnknownMemberId, ErrorCode::FencedInstanceId];
        if lost_id.contains(&failed) {
            client.says.member.clear();
        }
        client.doing = Doing::Joining;
        self.ask(at);
    }

    fn mischief(&mut self, at: usize) {
        let wait = self.chance.ms(30_000);
        self.later(wait, Event::Mischief { client: at });
        let kind = self.chance.below(5);
        let client = &mut self.clients[at];
        match kind {
            // The process dies, and starts anew at once or when its session is over.
            0 => {
                client.life += 1;
                client.says.member.clear();
                client.doing = Doing::Joining;
                let (life, request) = (client.life, client.request);
                let after = self.chance.ms(9_000);
                self.later(after, Event::Look { client: at, request, life });
            }
            1 => {
                let what =
                    Ask::Leave { member: client.says.member.clone(), instance: client.says.instance.clone() };
                let (life, request) = (client.life, client.request);
                client.says.member.clear();
                client.doing = Doing::Joining;
                self.send(Event::Ask { client: at, life, request, what });
                self.ask(at);
            }
            2 => {
                let topics = format!("topics {wait}").into_bytes();
                client.says.protocols = vec![("range", topics)];
                client.doing = Doing::Joining;
                self.ask(at);
            }
            // It asks the same again without waiting for the reply.
            3 => self.ask(at),
            // It is silent for longer than its session.
            _ => {
                self.requests += 1;
                client.request = self.requests;
                let (life, request) = (client.life, client.request);
                self.later(8_000, Event::Look { client: at, request, life });
            }
        }
    }

    /// The coordinator dies; another one knows what was stored.
    fn restart(&mut self) {
        let after = self.chance.ms(60_000);
        self.later(after, Event::Restart);
        let id = KStr::from("group");
        let now = self.bed.now;
        self.bed.group = match self.stored.clone() {
            Some(value) => ClassicGroup::replay(&id, &value),
            None => ClassicGroup::new(&id, now),
        };
        let mut open: Vec<(Ticket, (usize, u32, u64))> = self.open.drain().collect();
        open.sort();
        for (_, from) in open {
            self.send_told(from, Told::Gone);
        }
        self.bed.turn(|group, turn, _| group.on_loaded(turn));
    }

    fn check(&self, before: i32, is_restart: bool) {
        let generation = self.bed.group.generation;
        assert!(is_restart || generation >= before, "generations only rise: {before}, then {generation}");
        let parked =
            self.bed.group.members.iter().filter(|member| member.parked != super::super::member::Parked::No);
        assert_eq!(parked.count(), self.open.len(), "every open request is parked with its member");
    }

    /// Left alone, all clients end up in one generation, each with its own part.
    fn settled(&self) {
        let group = &self.bed.group;
        assert_eq!(group.state(), "Stable", "{:#?}", self.clients);
        assert!(self.open.is_empty());
        let members: BTreeSet<&str> = group.members.iter().map(|member| &*member.id).collect();
        let clients: BTreeSet<&str> = self.clients.iter().map(|client| &*client.says.member).collect();
        assert_eq!(members, clients);
        let parts: BTreeSet<&Bytes> = self.clients.iter().map(|client| &client.part).collect();
        assert_eq!(parts.len(), self.clients.len(), "no two have the same part: {parts:?}");
        for client in &self.clients {
            assert_eq!((client.doing, client.generation), (Doing::Working, group.generation));
        }
    }
}

#[test]
fn members_agree_whatever_the_network_does() {
    let seeds =
        std::env::var("MILLSTREAM_SIM_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(300);
    let only = std::env::var("MILLSTREAM_SIM_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let seeds = only.map_or(0..seeds, |seed| seed..seed + 1);
    for seed in seeds {
        let told = std::panic::catch_unwind(|| World::new(seed).run());
        assert!(told.is_ok(), "MILLSTREAM_SIM_SEED={seed}");
    }
}
