//! A member of a group whose leader shares out partitions: JoinGroup, SyncGroup, Heartbeat, LeaveGroup.
//!
//! ```text
//!           join answered            topics known         sync answered
//! Joining ---- as leader --> Assigning --------> Syncing ------------> Stable
//!    ^    `--- as another ----------------------->'                      |
//!    '------ the group rebalances, or something was given up <-----------'
//! ```
//! With a cooperative assignor a member keeps what it has through all this and says so when it joins. With another one
//! it gives up everything before it joins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use millstream_client::ClientError;
use millstream_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use millstream_protocol::messages::leave_group_request::MemberIdentity;
use millstream_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use millstream_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    SyncGroupRequest, SyncGroupResponse,
};
use millstream_protocol::wire::EncodeError;
use millstream_protocol::{ApiKey, ErrorCode, KStr};
use tokio::time::Instant;

use super::assignor::{Assignor, Demand, Wish};
use super::holdings::Serial;
use super::member::{Answer, Ask, Core, Farewell, Identity, MemberSettings, known, millis};
use super::rebalance::TopicPartition;
use super::status::{GroupError, LossReason, MemberState};
use super::subscription::{Subscription, TopicView, TopicsWanted};
use super::wire::{self, MemberSubscription, NO_GENERATION};

/// What the members of such a group are to the broker.
const CONSUMERS: &str = "consumer";

/// Where it is on its way through a rebalance.
#[derive(Debug)]
enum Phase {
    Joining,
    Assigning(Demand),
    Syncing(Vec<SyncGroupRequestAssignment>),
    Stable,
    Away,
}

/// What a leader has shared out, and looks after.
#[derive(Debug, Default)]
struct Led {
    wanted: BTreeSet<KStr>,
    sizes: BTreeMap<KStr, i32>,
}

/// One member.
#[derive(Debug)]
pub(crate) struct Classic {
    core: Core,
    phase: Phase,
    member_id: KStr,
    generation: i32,
    assignor: Assignor,
    /// What the group gave it last.
    target: BTreeSet<TopicPartition>,
    /// What it said that it has when it joined.
    claimed: BTreeSet<TopicPartition>,
    /// It has given up something that the group is to hand on.
    must_rejoin: bool,
    led: Option<Led>,
    /// What its pattern matches; unknown before topics were looked at.
    matched: Option<BTreeSet<KStr>>,
    heartbeat_at: Instant,
    topics_at: Instant,
}

impl Classic {
    pub(super) fn new(settings: Arc<MemberSettings>) -> Self {
        let assignor = settings.assignors.first().copied().unwrap_or(Assignor::CooperativeSticky);
        let now = Instant::now();
        Self {
            core: Core::new(settings),
            phase: Phase::Joining,
            member_id: KStr::default(),
            generation: NO_GENERATION,
            assignor,
            target: BTreeSet::new(),
            claimed: BTreeSet::new(),
            must_rejoin: false,
            led: None,
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

    /// Members whose assignors do not all keep what members have agree to give everything up.
    fn is_cooperative(&self) -> bool {
        self.core.settings.assignors.iter().all(|assignor| assignor.is_cooperative())
    }

    /// The topics that it wants, once it knows.
    fn wanted(&self) -> Option<&BTreeSet<KStr>> {
        match &self.core.settings.subscription {
            Subscription::Names(names) => Some(names),
            Subscription::Pattern(_) => self.matched.as_ref(),
        }
    }

    pub(super) fn next(&mut self, now: Instant) -> Option<Ask> {
        if self.core.is_quiet(now) {
            return None;
        }
        if matches!(self.phase, Phase::Stable) && self.must_rejoin && !self.core.holdings.is_revoking() {
            self.rejoin(now);
        }
        let ask = match &self.phase {
            Phase::Joining => self.next_joining(now),
            Phase::Syncing(assignments) => Some(Ask::Sync(self.sync_request(assignments.clone()))),
            Phase::Stable => self.heartbeat_if_due(now),
            Phase::Assigning(_) | Phase::Away => None,
        };
        self.core.is_asking = ask.is_some();
        ask
    }

    fn next_joining(&mut self, now: Instant) -> Option<Ask> {
        // Whoever has to give up everything first stays in the group meanwhile.
        if self.is_draining() {
            return self.heartbeat_if_due(now);
        }
        match self.join_request(self.wanted()?) {
            Ok(request) => {
                self.claimed = self.core.holdings.partitions().cloned().collect();
                Some(Ask::Join(request))
            }
            Err(source) => {
                let source = ClientError::Encode { api: ApiKey::JoinGroup, version: wire::VERSION, source };
                let group = self.core.settings.group.to_string();
                self.core.fail(GroupError::Impossible { group, source });
                None
            }
        }
    }

    /// Waits for the program to give up everything before it joins.
    fn is_draining(&self) -> bool {
        !self.is_cooperative() && matches!(self.phase, Phase::Joining) && !self.core.holdings.is_empty()
    }

    fn heartbeat_if_due(&self, now: Instant) -> Option<Ask> {
        let request = || HeartbeatRequest {
            group_id: self.core.settings.group.clone(),
            generation_id: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: self.core.settings.instance_id.clone(),
        };
        (now >= self.heartbeat_at).then(|| Ask::Heartbeat(request()))
    }

    fn join_request(&self, topics: &BTreeSet<KStr>) -> Result<JoinGroupRequest, EncodeError> {
        let settings = &self.core.settings;
        let subscription = MemberSubscription {
            topics: topics.clone(),
            owned: self.core.holdings.partitions().cloned().collect(),
            generation: self.generation,
            rack: settings.rack.clone(),
        };
        let metadata = subscription.encode()?;
        let protocol = |assignor: &Assignor| JoinGroupRequestProtocol {
            name: KStr::from_static(assignor.name()),
            metadata: metadata.clone(),
        };
        Ok(JoinGroupRequest {
            group_id: settings.group.clone(),
            session_timeout_ms: millis(settings.session_timeout),
            rebalance_timeout_ms: millis(settings.rebalance_timeout),
            member_id: self.member_id.clone(),
            group_instance_id: settings.instance_id.clone(),
            protocol_type: KStr::from_static(CONSUMERS),
            protocols: settings.assignors.iter().map(protocol).collect(),
            reason: None,
        })
    }

    fn sync_request(&self, assignments: Vec<SyncGroupRequestAssignment>) -> SyncGroupRequest {
        SyncGroupRequest {
            group_id: self.core.settings.group.clone(),
            generation_id: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: self.core.settings.instance_id.clone(),
            protocol_type: Some(KStr::from_static(CONSUMERS)),
            protocol_name: Some(KStr::from_static(self.assignor.name())),
            assignments,
        }
    }

    /// Goes through a rebalance.
    fn rejoin(&mut self, now: Instant) {
        self.phase = Phase::Joining;
        self.must_rejoin = false;
        if !self.is_cooperative() {
            self.target.clear();
            self.core.holdings.follow(&self.target, now + self.core.settings.revocation_time());
        }
    }

    /// The coordinator does not count it in any more.
    fn expel(&mut self, code: ErrorCode) {
        self.core.lose(LossReason::Expelled(code));
        if code == ErrorCode::UnknownMemberId {
            self.member_id = KStr::default();
        }
        self.generation = NO_GENERATION;
        self.target.clear();
        self.must_rejoin = false;
        self.led = None;
        self.phase = Phase::Joining;
    }

    pub(super) fn on_answer(&mut self, now: Instant, answer: Answer) {
        self.core.is_asking = false;
        if matches!(self.phase, Phase::Away) {
            // It has left since it asked.
            return;
        }
        match answer {
            Answer::Join(response) => self.on_joined(now, &response),
            Answer::Sync(response) => self.on_synced(now, &response),
            Answer::Heartbeat(response) => self.on_heartbeat(now, &response),
            Answer::Consume(_) => {}
            Answer::Failed(error) => {
                // Whether a sync arrived is not known, and there is no harm in joining again.
                if matches!(self.phase, Phase::Syncing(_)) {
                    self.rejoin(now);
                }
                self.core.on_failed(now, error);
            }
        }
    }

    fn on_joined(&mut self, now: Instant, response: &JoinGroupResponse) {
        match known(response.error_code) {
            ErrorCode::None => {}
            ErrorCode::MemberIdRequired => {
                self.member_id = response.member_id.detach();
                return;
            }
            code @ (ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration) => return self.expel(code),
            ErrorCode::RebalanceInProgress => {
                return self.core.on_trouble_code(now, ErrorCode::RebalanceInProgress);
            }
            code if code.is_retriable() => return self.core.on_trouble_code(now, code),
            code => return self.core.refuse(code, None),
        }
        self.core.trouble.is_over();
        self.member_id = response.member_id.detach();
        self.generation = response.generation_id;
        let chosen = response.protocol_name.as_deref().unwrap_or_default();
        let ours = self.core.settings.assignors.iter().find(|assignor| assignor.name() == chosen);
        let Some(assignor) = ours else {
            let what = format!("the assignor {chosen:?}");
            return self
                .core
                .fail(GroupError::NotUnderstood { group: self.core.settings.group.to_string(), what });
        };
        self.assignor = *assignor;
        self.led = None;
        self.phase = match response.leader == self.member_id {
            true => self.lead(response),
            false => Phase::Syncing(Vec::new()),
        };
        if matches!(self.phase, Phase::Assigning(_)) {
            self.topics_at = now;
        }
        tracing::debug!(
            group = %self.core.settings.group, generation = self.generation, leads = self.led.is_some(), "joined"
        );
    }

    fn lead(&mut self, response: &JoinGroupResponse) -> Phase {
        let mut demand = Demand::default();
        for member in &response.members {
            // One that cannot be read wants nothing; it will say so itself.
            if let Ok(subscription) = MemberSubscription::decode(&member.metadata) {
                let instance_id = member.group_instance_id.as_ref().map(KStr::detach);
                demand.members.insert(member.member_id.detach(), Wish { instance_id, subscription });
            }
        }
        self.led = Some(Led { wanted: demand.wanted(), sizes: BTreeMap::new() });
        match response.skip_assignment {
            // It led before it went away, and what it shared out holds.
            true => Phase::Syncing(Vec::new()),
            false => Phase::Assigning(demand),
        }
    }

    fn on_synced(&mut self, now: Instant, response: &SyncGroupResponse) {
        match known(response.error_code) {
            ErrorCode::None => {}
            ErrorCode::RebalanceInProgress => return self.rejoin(now),
            code @ (ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration) => return self.expel(code),
            code if code.is_retriable() => {
                self.rejoin(now);
                return self.core.on_trouble_code(now, code);
            }
            code => return self.core.refuse(code, None),
        }
        let Ok(assigned) = wire::decode_assignment(&response.assignment) else {
            let what = "an assignment".to_owned();
            return self
                .core
                .fail(GroupError::NotUnderstood { group: self.core.settings.group.to_string(), what });
        };
        self.core.trouble.is_over();
        self.phase = Phase::Stable;
        // What it gave up since it claimed it was kept for it all the same.
        let is_unheld = |claim: &TopicPartition| self.core.holdings.get(claim).is_none();
        self.must_rejoin = self.claimed.iter().any(|claim| !assigned.contains(claim) && is_unheld(claim));
        self.target = assigned;
        self.follow(now);
        self.heartbeat_at = now + self.core.settings.heartbeat_interval;
    }

    fn follow(&mut self, now: Instant) {
        self.core.holdings.follow(&self.target, now + self.core.settings.revocation_time());
    }

    fn on_heartbeat(&mut self, now: Instant, response: &HeartbeatResponse) {
        match known(response.error_code) {
            ErrorCode::None => self.core.trouble.is_over(),
            ErrorCode::RebalanceInProgress => {
                self.core.trouble.is_over();
                if matches!(self.phase, Phase::Stable) {
                    self.rejoin(now);
                }
            }
            code @ (ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration) => return self.expel(code),
            code if code.is_retriable() => return self.core.on_trouble_code(now, code),
            code => return self.core.refuse(code, None),
        }
        self.heartbeat_at = now + self.core.settings.heartbeat_interval;
    }

    pub(super) fn topics_wanted(&mut self, now: Instant) -> Option<TopicsWanted> {
        if self.core.asks_topics || now < self.topics_at || !self.needs_topics() {
            return None;
        }
        self.core.asks_topics = true;
        let led = self.led.as_ref().map(|led| led.wanted.clone());
        Some(match (self.is_pattern(), led) {
            (false, Some(wanted)) => TopicsWanted::Named(wanted),
            (true, _) | (_, None) => TopicsWanted::All,
        })
    }

    fn is_pattern(&self) -> bool {
        matches!(self.core.settings.subscription, Subscription::Pattern(_))
    }

    /// Whether it has to look at topics, now or later.
    fn needs_topics(&self) -> bool {
        let is_needed = match &self.phase {
            Phase::Joining => self.wanted().is_none(),
            Phase::Assigning(_) => true,
            Phase::Stable => self.is_pattern() || self.led.is_some(),
            Phase::Syncing(_) | Phase::Away => false,
        };
        is_needed && self.core.fatal.is_none()
    }

    pub(super) fn on_topics(&mut self, now: Instant, view: Result<TopicView, ClientError>) {
        self.core.asks_topics = false;
        let view = match view {
            Ok(view) => view,
            Err(error) => {
                self.topics_at =
                    now + self.core.settings.heartbeat_interval.min(self.core.settings.topics_every);
                return self.core.on_failed(now, error);
            }
        };
        // A leader that has just joined does not wait for the next look.
        self.topics_at = now + self.core.settings.topics_every;
        let mut has_changed = false;
        if let Subscription::Pattern(pattern) = &self.core.settings.subscription {
            let matched = Some(pattern.matching(&view));
            has_changed = self.matched.is_some() && self.matched != matched;
            self.matched = matched;
        }
        let sizes = self.led.as_ref().map(|led| view.sizes(&led.wanted));
        match (&mut self.phase, &mut self.led, sizes) {
            (Phase::Assigning(demand), Some(led), Some(sizes)) => {
                demand.topics = sizes.clone();
                led.sizes = sizes;
                let assigned = self.assignor.assign(demand);
                self.phase = Phase::Syncing(assignments(assigned));
            }
            (Phase::Stable, led, sizes) => {
                if let (Some(led), Some(sizes)) = (led, sizes) {
                    // After a skipped assignment the first look is only taken note of.
                    has_changed |= !led.sizes.is_empty() && led.sizes != sizes;
                    led.sizes = sizes;
                }
                if has_changed {
                    self.rejoin(now);
                }
            }
            (Phase::Joining | Phase::Assigning(_) | Phase::Syncing(_) | Phase::Away, _, _) => {}
        }
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
        if gone.is_empty() || matches!(self.phase, Phase::Away) {
            return;
        }
        self.must_rejoin |= self.is_cooperative() && gone.iter().any(|gone| !self.target.contains(gone));
        // What was taken and is to come back comes back at once.
        self.follow(now);
    }

    pub(super) fn on_suspicion(&mut self, now: Instant) {
        self.heartbeat_at = self.heartbeat_at.min(now);
    }

    pub(super) fn stay_away(&mut self) -> &mut Core {
        self.phase = Phase::Away;
        self.generation = NO_GENERATION;
        self.target.clear();
        self.led = None;
        if self.core.settings.instance_id.is_none() {
            self.member_id = KStr::default();
        }
        &mut self.core
    }

    pub(super) fn come_back(&mut self) {
        if matches!(self.phase, Phase::Away) {
            self.phase = Phase::Joining;
        }
    }

    /// A static member says nothing: it will be back, or its session ends.
    pub(super) fn farewell(&self) -> Option<Farewell> {
        let settings = &self.core.settings;
        if self.member_id.is_empty() || settings.instance_id.is_some() || self.core.fatal.is_some() {
            return None;
        }
        let member = MemberIdentity { member_id: self.member_id.clone(), ..Default::default() };
        Some(Farewell::Leave(LeaveGroupRequest {
            group_id: settings.group.clone(),
            members: vec![member],
            ..Default::default()
        }))
    }

    pub(super) fn deadlines(&self) -> [Option<Instant>; 3] {
        let topics = (self.needs_topics() && !self.core.asks_topics).then_some(self.topics_at);
        let beats = matches!(self.phase, Phase::Stable) || self.is_draining();
        let next = match self.core.trouble.retry_at {
            _ if self.core.is_asking => None,
            Some(at) => Some(at),
            None => beats.then_some(self.heartbeat_at),
        };
        [self.core.holdings.next_late(), topics, next]
    }

    pub(super) fn identity(&self) -> Option<Identity> {
        (self.generation != NO_GENERATION)
            .then(|| Identity { member_id: self.member_id.clone(), generation: self.generation })
    }

    pub(super) fn state(&self) -> MemberState {
        match &self.phase {
            Phase::Joining | Phase::Assigning(_) | Phase::Syncing(_) => MemberState::Joining,
            Phase::Stable => MemberState::Stable,
            Phase::Away => MemberState::Away,
        }
    }
}

fn assignments(assigned: BTreeMap<KStr, BTreeSet<TopicPartition>>) -> Vec<SyncGroupRequestAssignment> {
    let encoded = |partitions: &BTreeSet<TopicPartition>| -> Bytes {
        wire::encode_assignment(partitions).unwrap_or_default()
    };
    let assignment = |(member_id, partitions): (KStr, BTreeSet<TopicPartition>)| SyncGroupRequestAssignment {
        member_id,
        assignment: encoded(&partitions),
    };
    assigned.into_iter().map(assignment).collect()
}
