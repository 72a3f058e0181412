//! ConsumerGroupHeartbeat: joining, staying, following a rebalance, and leaving, all in one request.

use std::time::Duration;

use millstream_protocol::messages::consumer_group_heartbeat_request as request;
use millstream_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use millstream_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, ConsumerGroupMemberMetadataValue,
};
use millstream_protocol::{ErrorCode, KStr};

use super::change::Change;
use super::member::{AWAY, LEAVES, Member, MemberState, Standing, no_wish, regex_of};
use super::pace::Crowd;
use super::partitions::{Held, Partitions};
use super::reconcile::Step;
use super::subscription::{self, Resolved};
use super::{ConsumerGroup, Refusal};
use crate::coordinator::format::TEXT_BYTES_MAX;
use crate::groups::assignor::Assignor;
use crate::groups::cause::{Caller, Why};
use crate::groups::classic::RECORD_BYTES_MAX;
use crate::groups::turn::{Millis, Ticket, Turn};

/// From this version on a member makes its own id (KIP-1082).
const MEMBER_MAKES_ID: i16 = 1;

/// What a name takes in a record besides its bytes.
const NAME_OVERHEAD: usize = 3;

/// For how long after a change more of them are expected.
const CHANGING: Duration = Duration::from_secs(3);

/// A heartbeat, and who sent it.
#[derive(Clone, Debug)]
pub(crate) struct Heartbeat {
    pub(crate) ticket: Ticket,
    pub(crate) caller: Caller,
    pub(crate) request: ConsumerGroupHeartbeatRequest,
}

/// Whether a request makes sense at all, whatever the group.
pub(crate) fn check_request(
    request: &ConsumerGroupHeartbeatRequest,
    version: i16,
    assignors: &[Assignor],
) -> Result<(), Refusal> {
    let invalid = |why: &str| Err(Refusal::new(ErrorCode::InvalidRequest, why));
    let epoch = request.member_epoch;
    let is_blank = |text: &str| text.trim().is_empty();
    if (version >= MEMBER_MAKES_ID || epoch > 0 || epoch == LEAVES) && is_blank(&request.member_id) {
        return invalid("MemberId can't be empty.");
    }
    if is_blank(&request.group_id) {
        return invalid("GroupId can't be empty.");
    }
    if request.instance_id.as_ref().is_some_and(|id| is_blank(id)) {
        return invalid("InstanceId can't be empty.");
    }
    if request.rack_id.as_ref().is_some_and(|id| is_blank(id)) {
        return invalid("RackId can't be empty.");
    }
    if epoch == 0 {
        if request.rebalance_timeout_ms == -1 {
            return invalid("RebalanceTimeoutMs must be provided in first request.");
        }
        if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) {
            return invalid("TopicPartitions must be empty when (re-)joining.");
        }
        if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
            return invalid("SubscribedTopicNames or SubscribedTopicRegex must be given when (re-)joining.");
        }
    } else if epoch == AWAY && request.instance_id.is_none() {
        return invalid("InstanceId can't be null.");
    } else if epoch < AWAY {
        return invalid("MemberEpoch is invalid; it must be -2 or more.");
    }
    check_sizes(request)?;
    if let Some(asked) = &request.server_assignor
        && !assignors.iter().any(|assignor| assignor.name() == &**asked)
    {
        let names: Vec<&str> = assignors.iter().map(|assignor| assignor.name()).collect();
        let message =
            format!("ServerAssignor {asked:?} is not supported; supported are {}.", names.join(", "));
        return Err(Refusal::new(ErrorCode::UnsupportedAssignor, message));
    }
    Ok(())
}

/// What cannot be stored cannot be served: a record's key names ids and expressions of 32767 bytes, and a record has
/// its bounds as well.
fn check_sizes(request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refusal> {
    let texts =
        [&request.instance_id, &request.rack_id, &request.server_assignor, &request.subscribed_topic_regex];
    let texts = texts.into_iter().flatten().chain([&request.member_id]);
    if let Some(long) = texts.map(|text| text.len()).find(|bytes| *bytes > TEXT_BYTES_MAX) {
        let message =
            format!("an id or expression of {long} bytes cannot be stored; {TEXT_BYTES_MAX} is the most");
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    let names = request.subscribed_topic_names.iter().flatten();
    let bytes: usize = names.map(|name| name.len() + NAME_OVERHEAD).sum();
    if bytes > RECORD_BYTES_MAX - 5 * TEXT_BYTES_MAX {
        let message = format!("{bytes} bytes of topic names cannot be stored; use a regular expression");
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    Ok(())
}

/// Who a member is to the group before its request is done.
pub(super) enum Comer {
    New,
    Known,
    /// A static member under a new id; the old one.
    Replaces(KStr),
}

impl ConsumerGroup {
    /// A heartbeat that does not leave. On a refusal nothing has changed.
    pub(super) fn beat(
        &mut self,
        turn: &mut Turn<'_>,
        caller: &Caller,
        request: &ConsumerGroupHeartbeatRequest,
        crowd: Crowd,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        let id = &request.member_id;
        let owned = request.topic_partitions.as_ref().map(|topics| {
            let of_topic = |topic: &request::TopicPartitions| {
                let id = topic.topic_id;
                topic.partitions.clone().into_iter().map(move |partition| (id, partition))
            };
            topics.iter().flat_map(of_topic).collect::<Partitions>()
        });
        let comer = self.comer(turn, request, owned.as_ref())?;
        let wish = self.new_wish(&comer, caller, request);
        self.check_regex(&wish)?;
        let had = self.member_before(&comer, id).map(|member| member.standing.held.clone());
        self.check_state(&comer, id, owned.as_ref())?;

        self.refresh_topics(turn);
        if let Comer::Replaces(old) = &comer {
            self.replace(old, id, turn);
        }
        let subscription_changed = self.take_wish(turn, &comer, id, &wish);
        self.assign_if_due(turn);
        self.reconcile(id, owned.as_ref(), subscription_changed, turn);
        self.extend_session(id, turn);
        self.note_if_settled(turn);

        let standing = &self.members[id.as_str()].standing;
        let is_full = request.rebalance_timeout_ms != -1
            && (request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some())
            && owned.is_some();
        let is_news = had.is_none_or(|had| !had.is_same_as(&standing.held));
        Ok(ConsumerGroupHeartbeatResponse {
            member_id: Some(id.clone()),
            member_epoch: standing.epoch,
            heartbeat_interval_ms: self.interval_ms(turn, crowd),
            assignment: (request.member_epoch == 0 || is_full || is_news).then(|| told(&standing.held)),
            ..Default::default()
        })
    }

    fn comer(
        &self,
        turn: &Turn<'_>,
        request: &ConsumerGroupHeartbeatRequest,
        owned: Option<&Partitions>,
    ) -> Result<Comer, Refusal> {
        let (id, epoch) = (&request.member_id, request.member_epoch);
        let Some(instance) = &request.instance_id else {
            return match self.members.get(id.as_str()) {
                Some(member) => check_epoch(member, epoch, owned).map(|()| Comer::Known),
                None if epoch == 0 => self.check_room(turn).map(|()| Comer::New),
                None => Err(self.unknown(id)),
            };
        };
        match self.instances.get(instance.as_str()) {
            None if epoch == 0 => self.check_room(turn).map(|()| Comer::New),
            None => {
                let message = format!("Instance id {instance} is unknown.");
                Err(Refusal::new(ErrorCode::UnknownMemberId, message))
            }
            Some(old) if epoch == 0 => {
                let member = &self.members[old.as_str()];
                // A classic member gives its place to a new instance at once, as it would in a classic group.
                if member.standing.epoch != AWAY && member.classic().is_none() {
                    let message = format!(
                        "Static member {id} with instance id {instance} cannot join the group because the instance \
                         id is owned by member {old}."
                    );
                    return Err(Refusal::new(ErrorCode::UnreleasedInstanceId, message));
                }
                Ok(if old == id { Comer::Known } else { Comer::Replaces(old.clone()) })
            }
            Some(old) if old != id => Err(fenced_instance(id, instance, old)),
            Some(_) => check_epoch(&self.members[id.as_str()], epoch, owned).map(|()| Comer::Known),
        }
    }

    fn check_room(&self, turn: &Turn<'_>) -> Result<(), Refusal> {
        let max = turn.settings.consumer.members_max;
        if self.members.len() < max {
            return Ok(());
        }
        let message = format!("The consumer group has reached its maximum capacity of {max} members.");
        Err(Refusal::new(ErrorCode::GroupMaxSizeReached, message))
    }

    pub(super) fn unknown(&self, id: &KStr) -> Refusal {
        let message = format!("Member {id} is not a member of group {}.", self.id);
        Refusal::new(ErrorCode::UnknownMemberId, message)
    }

    fn member_before(&self, comer: &Comer, id: &KStr) -> Option<&Member> {
        match comer {
            Comer::New => None,
            Comer::Known => self.members.get(id.as_str()),
            Comer::Replaces(old) => self.members.get(old.as_str()),
        }
    }

    fn new_wish(
        &self,
        comer: &Comer,
        caller: &Caller,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> ConsumerGroupMemberMetadataValue {
        let before = self.member_before(comer, &request.member_id).map(|member| member.wish.clone());
        let before = before.unwrap_or_else(no_wish);
        let names = request.subscribed_topic_names.as_ref().map(|names| sorted(names));
        let timeout = Some(request.rebalance_timeout_ms).filter(|timeout| *timeout != -1);
        let detached = |text: &Option<KStr>| text.as_ref().map(KStr::detach);
        ConsumerGroupMemberMetadataValue {
            instance_id: detached(&request.instance_id).or(before.instance_id),
            rack_id: detached(&request.rack_id).or(before.rack_id),
            client_id: caller.client_id.detach(),
            client_host: caller.host.detach(),
            subscribed_topic_names: names.unwrap_or(before.subscribed_topic_names),
            subscribed_topic_regex: detached(&request.subscribed_topic_regex)
                .or(before.subscribed_topic_regex),
            rebalance_timeout_ms: timeout.unwrap_or(before.rebalance_timeout_ms),
            server_assignor: detached(&request.server_assignor).or(before.server_assignor),
            classic_member_metadata: None,
        }
    }

    fn check_regex(&self, wish: &ConsumerGroupMemberMetadataValue) -> Result<(), Refusal> {
        match regex_of(wish) {
            Some(regex) if !self.regexes.contains_key(regex.as_str()) => subscription::compile(regex)
                .map(drop)
                .map_err(|error| Refusal::new(ErrorCode::InvalidRegularExpression, error.to_string())),
            Some(_) | None => Ok(()),
        }
    }

    /// A member whose state a newer Kafka wrote has to start anew.
    fn check_state(&self, comer: &Comer, id: &KStr, owned: Option<&Partitions>) -> Result<(), Refusal> {
        let state = self.member_before(comer, id).map(|member| member.standing.state);
        if state == Some(MemberState::Unknown) && owned.is_none_or(|owned| !owned.is_empty()) {
            let message = "The member is in a state that this broker does not know. The member must abandon all its \
                           partitions and rejoin.";
            return Err(Refusal::new(ErrorCode::FencedMemberEpoch, message));
        }
        Ok(())
    }

    /// The new id stands where the old one stood, but at the start of its epochs.
    pub(super) fn replace(&mut self, old: &KStr, new: &KStr, turn: &mut Turn<'_>) {
        let member = self.members[old.as_str()].clone();
        let target = self.target(old);
        self.remove(old, turn);
        let (new, standing) = (new.detach(), Standing { epoch: 0, previous_epoch: 0, ..member.standing });
        self.change(Change::Wish { member: new.clone(), value: Some(member.wish) }, turn.fx);
        let value = Some(super::target_value(&target));
        self.change(Change::Target { member: new.clone(), value }, turn.fx);
        self.change(Change::Standing { member: new, value: Some(standing.value()) }, turn.fx);
    }

    /// Whether what the member wants to read has changed.
    pub(super) fn take_wish(
        &mut self,
        turn: &mut Turn<'_>,
        comer: &Comer,
        id: &KStr,
        wish: &ConsumerGroupMemberMetadataValue,
    ) -> bool {
        let before = self.members.get(id.as_str()).map(|member| member.wish.clone());
        if before.as_ref() == Some(wish) && self.epoch > 0 {
            return false;
        }
        let is_new = before.is_none();
        let before = before.unwrap_or_default();
        let regex_changed = regex_of(&before) != regex_of(wish);
        let names_changed = before.subscribed_topic_names != wish.subscribed_topic_names;
        if is_new || before != *wish {
            self.change(Change::Wish { member: id.detach(), value: Some(wish.clone()) }, turn.fx);
        }
        if regex_changed {
            self.forget_regexes(turn);
            self.resolve_new_regex(wish, turn);
        }
        let changed = names_changed || regex_changed;
        if changed || self.epoch == 0 {
            let why = match comer {
                Comer::New => Why::MemberJoined,
                Comer::Known | Comer::Replaces(_) => Why::MetadataChanged,
            };
            let cause = self.cause_of(why, id);
            self.raise_epoch(turn, cause);
        }
        changed
    }

    fn resolve_new_regex(&mut self, wish: &ConsumerGroupMemberMetadataValue, turn: &mut Turn<'_>) {
        if let Some(regex) = regex_of(wish)
            && !self.regexes.contains_key(regex.as_str())
        {
            let value = Some(Resolved::resolve(regex, turn.topics, turn.now.wall_ms).value());
            self.change(Change::Regex { regex: regex.detach(), value }, turn.fx);
        }
    }

    /// Takes a member a step towards its target.
    pub(super) fn reconcile(
        &mut self,
        id: &KStr,
        owned: Option<&Partitions>,
        subscription_changed: bool,
        turn: &mut Turn<'_>,
    ) {
        let member = &self.members[id.as_str()];
        if !subscription_changed && member.standing.is_reconciled_to(self.target_epoch) {
            return;
        }
        let step = Step {
            target_epoch: self.target_epoch,
            target: &self.target(id),
            subscribed: &self.wanted(&member.wish, turn),
            subscription_changed,
            owned,
        };
        let is_taken =
            |topic, partition| self.owners.get(&(topic, partition)).is_some_and(|owner| owner != id);
        let next = step.take(&member.standing, is_taken);
        if next != member.standing {
            let value = Some(next.value());
            self.change(Change::Standing { member: id.detach(), value }, turn.fx);
            self.watch_revocation(id, turn.now.steady);
        }
    }

    /// When the member should come again.
    fn interval_ms(&self, turn: &Turn<'_>, crowd: Crowd) -> i32 {
        let is_fresh = self.changed_at.is_some_and(|at| turn.now.steady < at.after(CHANGING));
        let interval = crowd.interval(turn.settings.pace(&self.id), is_fresh || self.rebalance.is_some());
        i32::try_from(interval.as_millis()).unwrap_or(i32::MAX)
    }

    pub(super) fn extend_session(&mut self, id: &KStr, turn: &Turn<'_>) {
        let of_consumers = turn.settings.pace(&self.id).session_timeout;
        if let Some(member) = self.members.get_mut(id.as_str()) {
            let timeout = member.session_timeout(of_consumers);
            member.deadlines.session = Some(turn.now.steady.after(timeout));
        }
    }

    /// A member of the new protocol has so long to give partitions back; classic members have other deadlines.
    pub(super) fn watch_revocation(&mut self, id: &KStr, now: Millis) {
        let Some(member) = self.members.get_mut(id.as_str()) else { return };
        let must = member.standing.state == MemberState::Unrevoked && member.classic().is_none();
        member.deadlines.revocation = must.then(|| now.after(member.rebalance_timeout()));
    }
}

fn check_epoch(member: &Member, epoch: i32, owned: Option<&Partitions>) -> Result<(), Refusal> {
    let Standing { epoch: expected, previous_epoch, held, .. } = &member.standing;
    // The last reply may have been lost: then the member comes as it was before, and owns no more than it may.
    let is_repeated = || {
        epoch == *previous_epoch
            && owned
                .is_some_and(|owned| owned.iter().all(|(topic, partition)| held.contains(topic, partition)))
    };
    let relation = match epoch.cmp(expected) {
        std::cmp::Ordering::Equal => return Ok(()),
        std::cmp::Ordering::Less if is_repeated() => return Ok(()),
        std::cmp::Ordering::Less => "smaller",
        std::cmp::Ordering::Greater => "greater",
    };
    let message = format!(
        "The consumer group member has a {relation} member epoch ({epoch}) than the one known by the group coordinator \
         ({expected}). The member must abandon all its partitions and rejoin."
    );
    Err(Refusal::new(ErrorCode::FencedMemberEpoch, message))
}

pub(super) fn fenced_instance(id: &KStr, instance: &KStr, by: &KStr) -> Refusal {
    let message = format!("Static member {id} with instance id {instance} was fenced by member {by}.");
    Refusal::new(ErrorCode::FencedInstanceId, message)
}

/// Topics in order and once each: the order that a client names them in means nothing.
pub(super) fn sorted(names: &[KStr]) -> Vec<KStr> {
    let mut names: Vec<KStr> = names.iter().map(KStr::detach).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn told(held: &Held) -> Assignment {
    let topic_partitions = held.topics().map(|(topic_id, partitions)| TopicPartitions {
        topic_id,
        partitions: partitions.keys().copied().collect(),
    });
    Assignment { topic_partitions: topic_partitions.collect() }
}
