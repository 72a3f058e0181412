//! Members that go: by themselves, for a while, or because they were not heard of or did not follow in time.

use millstream_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use millstream_protocol::{ErrorCode, KStr};

use super::change::Change;
use super::heartbeat::fenced_instance;
use super::member::{AWAY, Standing};
use super::partitions::Held;
use super::{ConsumerGroup, Refusal};
use crate::groups::cause::{Cause, Why};
use crate::groups::classic::ClassicGroup;
use crate::groups::turn::{Millis, Note, Turn};

/// What became of a group when members went.
#[must_use]
pub(crate) enum Left {
    /// It goes on as it was.
    Consumer,
    /// Only members of the classic protocol were left: it is a classic group now.
    Classic(Box<ClassicGroup>),
}

impl ConsumerGroup {
    /// A heartbeat with epoch -1 or -2. On a refusal nothing has changed.
    pub(super) fn leave(
        &mut self,
        turn: &mut Turn<'_>,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<(ConsumerGroupHeartbeatResponse, Left), Refusal> {
        let id = &request.member_id;
        match &request.instance_id {
            None if self.members.contains_key(id.as_str()) => {}
            None => return Err(self.unknown(id)),
            Some(instance) => match self.instances.get(instance.as_str()) {
                None => {
                    let message = format!("Instance id {instance} is unknown.");
                    return Err(Refusal::new(ErrorCode::UnknownMemberId, message));
                }
                Some(holder) if holder != id => return Err(fenced_instance(id, instance, holder)),
                Some(_) => {}
            },
        }
        let left = match request.member_epoch == AWAY && request.instance_id.is_some() {
            true => {
                self.go_away(id, turn);
                Left::Consumer
            }
            false => {
                let cause = self.cause_of(Why::MemberLeft, id);
                self.fence(&[id.detach()], cause, turn)
            }
        };
        let response = ConsumerGroupHeartbeatResponse {
            member_id: Some(id.clone()),
            member_epoch: request.member_epoch,
            ..Default::default()
        };
        Ok((response, left))
    }

    /// A static member will be back: it keeps what it holds, until its session ends. What it was to give back it
    /// does not read any more.
    fn go_away(&mut self, id: &KStr, turn: &mut Turn<'_>) {
        let standing = self.members[id.as_str()].standing.clone();
        let away = Standing { epoch: AWAY, revoking: Held::default(), ..standing };
        self.change(Change::Standing { member: id.detach(), value: Some(away.value()) }, turn.fx);
        if let Some(member) = self.members.get_mut(id.as_str()) {
            member.deadlines.revocation = None;
        }
        self.note_if_settled(turn);
    }

    /// Takes members out. All who go together cost one change of the epoch.
    pub(super) fn fence(&mut self, members: &[KStr], cause: Cause, turn: &mut Turn<'_>) -> Left {
        if members.is_empty() {
            return Left::Consumer;
        }
        if let Some(classic) = self.downgraded_without(members, turn) {
            return Left::Classic(Box::new(classic));
        }
        for member in members {
            self.remove(member, turn);
        }
        self.forget_regexes(turn);
        self.raise_epoch(turn, cause);
        if self.members.is_empty() {
            // There is nobody whom it could wait for.
            self.end_rebalance(turn);
        }
        Left::Consumer
    }

    /// The records that remove a member. What it held is free.
    pub(super) fn remove(&mut self, id: &KStr, turn: &mut Turn<'_>) {
        let member = id.detach();
        self.change(Change::Standing { member: member.clone(), value: None }, turn.fx);
        self.change(Change::Target { member: member.clone(), value: None }, turn.fx);
        self.change(Change::Wish { member, value: None }, turn.fx);
    }

    /// Expressions that nobody wants any more.
    pub(super) fn forget_regexes(&mut self, turn: &mut Turn<'_>) {
        let is_wanted = |regex: &KStr| self.members.values().any(|member| member.regex() == Some(regex));
        let unwanted: Vec<KStr> = self.regexes.keys().filter(|regex| !is_wanted(regex)).cloned().collect();
        for regex in unwanted {
            self.change(Change::Regex { regex, value: None }, turn.fx);
        }
    }

    /// When it wants to be called, if nothing happens before.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        self.members.values().filter_map(|member| member.deadlines.first()).min()
    }

    /// A deadline has passed.
    pub(crate) fn expire(&mut self, turn: &mut Turn<'_>) -> Left {
        let now = turn.now.steady;
        let is_due = |deadline: Option<Millis>| deadline.is_some_and(|deadline| deadline <= now);
        let mut late = Vec::new();
        let mut first = None;
        for (id, member) in &self.members {
            let deadlines = &member.deadlines;
            if !is_due(deadlines.first()) {
                continue;
            }
            let (group, member) = (self.id.clone(), id.clone());
            let (why, note) = match is_due(deadlines.session) {
                true => (Why::SessionExpired, Note::SessionExpired { group, member }),
                false => (Why::DidNotFollow, Note::DidNotRejoin { group, member }),
            };
            turn.fx.notes.push(note);
            first.get_or_insert_with(|| self.cause_of(why, id));
            late.push(id.clone());
        }
        match first {
            Some(cause) => self.fence(&late, cause, turn),
            None => Left::Consumer,
        }
    }
}
