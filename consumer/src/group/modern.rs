//! A member of a group whose partitions the broker shares out (KIP-848): ConsumerGroupHeartbeat, and nothing else.
//!
//! The broker answers a heartbeat with what the member may have. What the member has beyond that it gives up, and says
//! so; what is new is free already, and is taken at once. Epoch 0 joins, -1 leaves, -2 leaves for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millstream_client::ClientError;
use millstream_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use millstream_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use millstream_protocol::{ApiKey, ErrorCode, KStr, Uuid};
use tokio::time::Instant;

use super::holdings::Serial;
use super::member::{Answer, Ask, Core, Farewell, Identity, MemberSettings, known, millis};
use super::rebalance::TopicPartition;
use super::status::{LossReason, MemberState};
use super::subscription::{Subscription, TopicView, TopicsWanted};

/// The epochs that are none.
const JOINS: i32 = 0;
const LEAVES: i32 = -1;
const LEAVES_FOR_A_WHILE: i32 = -2;

/// How often a broker is asked about a topic that it assigned and does not know.
const UNKNOWN_TOPIC_EVERY: Duration = Duration::from_millis(500);

/// One member.
#[derive(Debug)]
pub(crate) struct Modern {
    core: Core,
    member_id: KStr,
    epoch: i32,
    is_away: bool,
    /// Whether the broker was heard to know this protocol.
    is_known: bool,
    is_unsupported: bool,
    /// The broker has to be told everything: it may not have got what was said last.
    must_tell_all: bool,
    /// What the broker was told that the member has.
    told: BTreeSet<TopicPartition>,
    /// What is being told in the request under way.
    telling: Option<BTreeSet<TopicPartition>>,
    /// What the broker said last that it may have.
    target: BTreeSet<(Uuid, i32)>,
    /// The names of topics in the target.
    names: BTreeMap<Uuid, KStr>,
    /// Which topic of a name it is that something is held of.
    held_ids: BTreeMap<KStr, Uuid>,
    /// The broker does not take patterns, so topics are looked at here.
    matches_here: bool,
    matched: Option<BTreeSet<KStr>>,
    heartbeat_at: Instant,
    topics_at: Instant,
}

impl Modern {
    pub(super) fn new(settings: Arc<MemberSettings>, member_id: KStr) -> Self {
        let now = Instant::now();
        Self {
            core: Core::new(settings),
            member_id,
            epoch: JOINS,
            is_away: false,
            is_known: false,
            is_unsupported: false,
            must_tell_all: true,
            told: BTreeSet::new(),
            telling: None,
            target: BTreeSet::new(),
            names: BTreeMap::new(),
            held_ids: BTreeMap::new(),
            matches_here: false,
            matched: None,
            heartbeat_at: now,
            topics_at: now,
        }
    }

    pub(super) fn core(&self) -> &Core {
        &self.core
    }

    pub(super) fn core_mut(&mut self) -> &mut Core {
        &mut self.core
    }

    /// The broker does not serve this protocol.
    pub(super) fn is_unsupported(&self) -> bool {
        self.is_unsupported
    }

    fn owned(&self) -> BTreeSet<TopicPartition> {
        self.core.holdings.partitions().cloned().collect()
    }

    pub(super) fn next(&mut self, now: Instant) -> Option<Ask> {
        if self.core.is_quiet(now) || self.is_away || (self.matches_here && self.matched.is_none()) {
            return None;
        }
        let has_given_up = !self.told.iter().all(|partition| self.core.holdings.get(partition).is_some());
        if self.epoch != JOINS && !has_given_up && now < self.heartbeat_at {
            return None;
        }
        let owned = self.owned();
        let tells = self.must_tell_all || owned != self.told;
        self.telling = tells.then(|| owned.clone());
        self.core.is_asking = true;
        Some(Ask::Consume(self.request(tells.then_some(&owned))))
    }

    fn request(&self, owned: Option<&BTreeSet<TopicPartition>>) -> ConsumerGroupHeartbeatRequest {
        let settings = &self.core.settings;
        let mut request = ConsumerGroupHeartbeatRequest {
            group_id: settings.group.clone(),
            member_id: self.member_id.clone(),
            member_epoch: self.epoch,
            instance_id: settings.instance_id.clone(),
            topic_partitions: owned.map(|owned| self.with_ids(owned)),
            ..Default::default()
        };
        if self.must_tell_all {
            request.rack_id.clone_from(&settings.rack);
            request.rebalance_timeout_ms = millis(settings.rebalance_timeout);
            request.server_assignor.clone_from(&settings.server_assignor);
            match &settings.subscription {
                Subscription::Names(names) => {
                    request.subscribed_topic_names = Some(names.iter().cloned().collect());
                }
                Subscription::Pattern(_) if self.matches_here => {
                    request.subscribed_topic_names = Some(self.matched.iter().flatten().cloned().collect());
                }
                Subscription::Pattern(pattern) => {
                    request.subscribed_topic_regex = Some(pattern.text().clone());
                }
            }
        }
        request
    }

    fn with_ids(&self, partitions: &BTreeSet<TopicPartition>) -> Vec<TopicPartitions> {
        let mut by_id: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
        for TopicPartition { topic, partition } in partitions {
            // Nothing is held of a topic whose id is not known.
            if let Some(id) = self.held_ids.get(topic) {
                by_id.entry(*id).or_default().push(*partition);
            }
        }
        by_id.into_iter().map(|(topic_id, partitions)| TopicPartitions { topic_id, partitions }).collect()
    }

    pub(super) fn on_answer(&mut self, now: Instant, answer: Answer) {
        self.core.is_asking = false;
        let telling = self.telling.take();
        if self.is_away {
            return;
        }
        match answer {
            Answer::Consume(response) => match known(response.error_code) {
                ErrorCode::None => self.on_told(now, telling, &response),
                code => self.on_refusal(now, code, response.error_message.as_ref()),
            },
            Answer::Failed(error) => self.on_failed(now, error),
            Answer::Join(_) | Answer::Sync(_) | Answer::Heartbeat(_) => {}
        }
    }

    fn on_told(
        &mut self,
        now: Instant,
        telling: Option<BTreeSet<TopicPartition>>,
        response: &ConsumerGroupHeartbeatResponse,
    ) {
        self.core.trouble.is_over();
        self.is_known = true;
        self.must_tell_all = false;
        if let Some(id) = response.member_id.as_ref().filter(|id| !id.is_empty()) {
            self.member_id = id.detach();
        }
        self.epoch = response.member_epoch;
        let interval = u64::try_from(response.heartbeat_interval_ms).unwrap_or_default().max(1);
        self.heartbeat_at = now + Duration::from_millis(interval);
        if let Some(told) = telling {
            self.told = told;
        }
        if let Some(assignment) = &response.assignment {
            let of_topic = |topic: &millstream_protocol::messages::consumer_group_heartbeat_response::TopicPartitions| {
                let id = topic.topic_id;
                topic.partitions.clone().into_iter().map(move |partition| (id, partition))
            };
            self.target = assignment.topic_partitions.iter().flat_map(of_topic).collect();
            let target = &self.target;
            self.names.retain(|id, _| target.iter().any(|(wanted, _)| wanted == id));
            self.topics_at = self.topics_at.min(now);
            self.follow(now);
        }
    }

    fn on_refusal(&mut self, now: Instant, code: ErrorCode, message: Option<&KStr>) {
        match code {
            ErrorCode::UnsupportedVersion if !self.is_known => self.is_unsupported = true,
            ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId | ErrorCode::GroupIdNotFound => {
                self.expel(code);
                // Whoever is thrown out while joining had better not come back at once.
                self.core.on_trouble_code(now, code);
            }
            // Whoever had the name before is gone and its session is not over; or it is in use after all.
            ErrorCode::UnreleasedInstanceId if self.core.trouble.lasts(now) < self.core.settings.patience => {
                self.core.on_trouble_code(now, code);
            }
            code if code.is_retriable() => {
                self.must_tell_all = true;
                self.core.on_trouble_code(now, code);
            }
            code => self.core.refuse(code, message),
        }
    }

    fn on_failed(&mut self, now: Instant, error: ClientError) {
        // What was said may not have arrived.
        self.must_tell_all = true;
        match error {
            ClientError::UnsupportedVersion { api: ApiKey::ConsumerGroupHeartbeat, .. } if !self.is_known => {
                self.is_unsupported = true;
            }
            ClientError::Encode { .. } if self.is_pattern() && !self.matches_here => self.matches_here = true,
            error => self.core.on_failed(now, error),
        }
    }

    fn expel(&mut self, code: ErrorCode) {
        self.core.lose(LossReason::Expelled(code));
        self.start_over();
    }

    fn start_over(&mut self) {
        self.epoch = JOINS;
        self.must_tell_all = true;
        self.told.clear();
        self.target.clear();
        self.names.clear();
        self.held_ids.clear();
    }

    /// Takes what it may have, as far as it is known by name; what it has beyond that is to be given up.
    fn follow(&mut self, now: Instant) {
        let mut wanted = BTreeSet::new();
        for (id, partition) in &self.target {
            let Some(topic) = self.names.get(id) else { continue };
            // A topic that was made anew is another one: what is held of the old one goes first.
            if self.held_ids.get(topic).is_none_or(|held| held == id) {
                wanted.insert(TopicPartition { topic: topic.clone(), partition: *partition });
            }
        }
        self.core.holdings.follow(&wanted, now + self.core.settings.revocation_time());
        for (id, topic) in &self.names {
            self.held_ids.entry(topic.clone()).or_insert(*id);
        }
    }

    fn is_pattern(&self) -> bool {
        matches!(self.core.settings.subscription, Subscription::Pattern(_))
    }

    /// Topics of the target whose names are not known.
    fn nameless(&self) -> BTreeSet<Uuid> {
        self.target.iter().map(|(id, _)| *id).filter(|id| !self.names.contains_key(id)).collect()
    }

    pub(super) fn topics_wanted(&mut self, now: Instant) -> Option<TopicsWanted> {
        if self.core.asks_topics || now < self.topics_at || !self.needs_topics() {
            return None;
        }
        self.core.asks_topics = true;
        let nameless = self.nameless();
        Some(match nameless.is_empty() {
            true => TopicsWanted::All,
            false => TopicsWanted::Ids(nameless),
        })
    }

    fn needs_topics(&self) -> bool {
        let is_needed = self.matches_here || !self.nameless().is_empty();
        is_needed && !self.is_away && self.core.fatal.is_none()
    }

    pub(super) fn on_topics(&mut self, now: Instant, view: Result<TopicView, ClientError>) {
        self.core.asks_topics = false;
        let view = match view {
            Ok(view) => view,
            Err(error) => {
                self.topics_at = now + UNKNOWN_TOPIC_EVERY;
                return self.core.on_failed(now, error);
            }
        };
        let nameless = self.nameless();
        let asked_for_all = nameless.is_empty();
        for (name, seen) in view.0.iter().filter(|(_, seen)| nameless.contains(&seen.id)) {
            self.names.insert(seen.id, name.clone());
        }
        self.topics_at = match self.nameless().is_empty() {
            true => now + self.core.settings.topics_every,
            false => now + UNKNOWN_TOPIC_EVERY,
        };
        if asked_for_all
            && self.matches_here
            && let Subscription::Pattern(pattern) = &self.core.settings.subscription
        {
            let matched = Some(pattern.matching(&view));
            if self.matched != matched {
                self.matched = matched;
                self.must_tell_all = true;
                self.heartbeat_at = self.heartbeat_at.min(now);
            }
        }
        self.follow(now);
    }

    pub(super) fn on_released(&mut self, now: Instant, released: &[(TopicPartition, Serial)]) {
        let gone = self.core.holdings.release(released);
        self.on_gone(now, &gone);
    }

    pub(super) fn on_time(&mut self, now: Instant) {
        let late = self.core.lose_late(now);
        self.on_gone(now, &late);
    }

    fn on_gone(&mut self, now: Instant, gone: &[TopicPartition]) {
        if gone.is_empty() || self.is_away {
            return;
        }
        let held: BTreeSet<&KStr> =
            self.core.holdings.partitions().map(|partition| &partition.topic).collect();
        let is_held = |topic: &KStr| held.contains(topic);
        let ended: Vec<KStr> =
            gone.iter().map(|gone| gone.topic.clone()).filter(|topic| !is_held(topic)).collect();
        for topic in ended {
            self.held_ids.remove(&topic);
        }
        // What was taken and is to come back comes back at once.
        self.follow(now);
    }

    pub(super) fn on_suspicion(&mut self, now: Instant) {
        self.heartbeat_at = self.heartbeat_at.min(now);
    }

    pub(super) fn stay_away(&mut self) -> &mut Core {
        self.is_away = true;
        self.start_over();
        // That it left may arrive after it came back, and must not be taken for the one that did.
        self.member_id = KStr::from(format!("{}+", self.member_id));
        &mut self.core
    }

    pub(super) fn come_back(&mut self) {
        self.is_away = false;
    }

    pub(super) fn farewell(&self) -> Option<Farewell> {
        if self.epoch == JOINS || self.is_away || self.core.fatal.is_some() {
            return None;
        }
        let member_epoch = match self.core.settings.instance_id {
            None => LEAVES,
            Some(_) => LEAVES_FOR_A_WHILE,
        };
        Some(Farewell::Consume(ConsumerGroupHeartbeatRequest {
            group_id: self.core.settings.group.clone(),
            member_id: self.member_id.clone(),
            member_epoch,
            instance_id: self.core.settings.instance_id.clone(),
            ..Default::default()
        }))
    }

    pub(super) fn deadlines(&self) -> [Option<Instant>; 3] {
        let topics = (self.needs_topics() && !self.core.asks_topics).then_some(self.topics_at);
        let next = match self.core.trouble.retry_at {
            _ if self.core.is_asking || self.is_away => None,
            Some(at) => Some(at),
            None => Some(self.heartbeat_at),
        };
        [self.core.holdings.next_late(), topics, next]
    }

    pub(super) fn identity(&self) -> Option<Identity> {
        (self.epoch != JOINS).then(|| Identity { member_id: self.member_id.clone(), generation: self.epoch })
    }

    pub(super) fn state(&self) -> MemberState {
        match self.epoch {
            _ if self.is_away => MemberState::Away,
            JOINS => MemberState::Joining,
            _ => MemberState::Stable,
        }
    }
}
