//! A model of a coordinator of a classic group: what KIP-62, KIP-345 and KIP-394 promise to members, and no more.

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_protocol::messages::join_group_response::JoinGroupResponseMember;
use millstream_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, SyncGroupRequest,
    SyncGroupResponse,
};
use millstream_protocol::{ErrorCode, KStr};
use tokio::time::Instant;

use super::broker::Answers;
use super::{Answer, REBALANCE, SESSION};

#[derive(Default)]
struct Known {
    protocols: Vec<(KStr, Bytes)>,
    assignment: Bytes,
    heard: Option<Instant>,
    /// Who waits for the answer to a join, or to a sync.
    joins: Option<usize>,
    syncs: Option<usize>,
}

#[derive(Default, PartialEq, Clone, Copy)]
enum Stage {
    #[default]
    Empty,
    /// Members are to join until then.
    Preparing(Instant),
    /// The leader is to share out until then.
    Completing(Instant),
    Stable,
}

#[derive(Default)]
pub(super) struct ClassicCoordinator {
    members: BTreeMap<KStr, Known>,
    stage: Stage,
    generation: i32,
    leader: KStr,
    protocol: KStr,
    made: usize,
}

impl ClassicCoordinator {
    pub(super) fn on_join(&mut self, now: Instant, from: usize, request: JoinGroupRequest) -> Answers {
        let refused = |code: ErrorCode, member_id: KStr| {
            vec![(
                from,
                Answer::Join(JoinGroupResponse { error_code: code.code(), member_id, ..Default::default() }),
            )]
        };
        if request.member_id.is_empty() {
            self.made += 1;
            let id = KStr::from(format!("member-{}", self.made));
            // It is not a member before it comes again; one that never does is not waited for.
            self.members.insert(id.clone(), Known { heard: Some(now), ..Default::default() });
            return refused(ErrorCode::MemberIdRequired, id);
        }
        let Some(known) = self.members.get_mut(&request.member_id) else {
            return refused(ErrorCode::UnknownMemberId, request.member_id);
        };
        known.protocols =
            request.protocols.into_iter().map(|protocol| (protocol.name, protocol.metadata)).collect();
        known.joins = Some(from);
        known.syncs = None;
        known.heard = Some(now);
        let mut answers = Vec::new();
        if !matches!(self.stage, Stage::Preparing(_)) {
            answers = self.prepare(now);
        }
        answers.extend(self.complete_if_all(now));
        answers
    }

    /// A rebalance begins: those that wait for an assignment are told.
    fn prepare(&mut self, now: Instant) -> Answers {
        self.stage = Stage::Preparing(now + REBALANCE);
        let waiting = self.members.values_mut().filter_map(|known| known.syncs.take());
        waiting.map(|from| (from, synced(ErrorCode::RebalanceInProgress, Bytes::new()))).collect()
    }

    fn complete_if_all(&mut self, now: Instant) -> Answers {
        let Stage::Preparing(until) = self.stage else { return Vec::new() };
        let has_asked = |known: &Known| !known.protocols.is_empty();
        let all = self.members.values().filter(|known| has_asked(known)).all(|known| known.joins.is_some());
        if !all && now < until {
            return Vec::new();
        }
        self.members.retain(|_, known| known.joins.is_some() || !has_asked(known));
        let joined: Vec<KStr> = self
            .members
            .iter()
            .filter(|(_, known)| known.joins.is_some())
            .map(|(id, _)| id.clone())
            .collect();
        self.generation += 1;
        if joined.is_empty() {
            self.stage = Stage::Empty;
            return Vec::new();
        }
        self.stage = Stage::Completing(now + REBALANCE);
        if !joined.contains(&self.leader) {
            self.leader = joined[0].clone();
        }
        self.protocol = self.members[&joined[0]].protocols[0].0.clone();
        let members = joined.iter().map(|id| JoinGroupResponseMember {
            member_id: id.clone(),
            metadata: self.members[id].protocols[0].1.clone(),
            ..Default::default()
        });
        let members: Vec<_> = members.collect();
        let mut answers = Vec::new();
        for id in joined {
            let known = self.members.get_mut(&id).unwrap();
            known.heard = Some(now);
            known.assignment = Bytes::new();
            let response = JoinGroupResponse {
                generation_id: self.generation,
                protocol_name: Some(self.protocol.clone()),
                leader: self.leader.clone(),
                members: if id == self.leader { members.clone() } else { Vec::new() },
                member_id: id,
                ..Default::default()
            };
            answers.push((known.joins.take().unwrap(), Answer::Join(response)));
        }
        answers
    }

    pub(super) fn on_sync(&mut self, now: Instant, from: usize, request: SyncGroupRequest) -> Answers {
        let Some(known) = self.members.get_mut(&request.member_id) else {
            return vec![(from, synced(ErrorCode::UnknownMemberId, Bytes::new()))];
        };
        known.heard = Some(now);
        if request.generation_id != self.generation {
            return vec![(from, synced(ErrorCode::IllegalGeneration, Bytes::new()))];
        }
        match self.stage {
            Stage::Empty | Stage::Preparing(_) => {
                vec![(from, synced(ErrorCode::RebalanceInProgress, Bytes::new()))]
            }
            Stage::Stable => vec![(from, synced(ErrorCode::None, known.assignment.clone()))],
            Stage::Completing(_) => {
                known.syncs = Some(from);
                if request.member_id != self.leader {
                    return Vec::new();
                }
                for assignment in request.assignments {
                    if let Some(known) = self.members.get_mut(&assignment.member_id) {
                        known.assignment = assignment.assignment;
                    }
                }
                self.stage = Stage::Stable;
                let waiting = self.members.values_mut();
                let waiting =
                    waiting.filter_map(|known| Some((known.syncs.take()?, known.assignment.clone())));
                waiting.map(|(from, assignment)| (from, synced(ErrorCode::None, assignment))).collect()
            }
        }
    }

    pub(super) fn on_heartbeat(&mut self, now: Instant, from: usize, request: &HeartbeatRequest) -> Answers {
        let code = match (self.members.get_mut(&request.member_id), self.stage) {
            (None, _) => ErrorCode::UnknownMemberId,
            (Some(_), _) if request.generation_id != self.generation => ErrorCode::IllegalGeneration,
            (Some(known), stage) => {
                known.heard = Some(now);
                match stage {
                    Stage::Preparing(_) => ErrorCode::RebalanceInProgress,
                    Stage::Empty | Stage::Completing(_) | Stage::Stable => ErrorCode::None,
                }
            }
        };
        vec![(from, Answer::Heartbeat(HeartbeatResponse { error_code: code.code(), ..Default::default() }))]
    }

    pub(super) fn remove(&mut self, now: Instant, id: &KStr) -> Answers {
        let Some(gone) = self.members.remove(id) else { return Vec::new() };
        let unknown = ErrorCode::UnknownMemberId;
        let mut answers = Vec::new();
        if let Some(from) = gone.joins {
            let response = JoinGroupResponse { error_code: unknown.code(), ..Default::default() };
            answers.push((from, Answer::Join(response)));
        }
        answers.extend(gone.syncs.map(|from| (from, synced(unknown, Bytes::new()))));
        if !gone.protocols.is_empty() && !matches!(self.stage, Stage::Preparing(_)) {
            answers.extend(self.prepare(now));
        }
        answers.extend(self.complete_if_all(now));
        answers
    }

    pub(super) fn on_time(&mut self, now: Instant) -> Answers {
        let is_silent = |known: &Known| {
            known.joins.is_none()
                && known.syncs.is_none()
                && known.heard.is_some_and(|heard| heard + SESSION <= now)
        };
        let silent = self.members.iter().filter(|(_, known)| is_silent(known));
        let silent: Vec<KStr> = silent.map(|(id, _)| id.clone()).collect();
        let mut answers: Answers = silent.iter().flat_map(|id| self.remove(now, id)).collect();
        if let Stage::Completing(until) = self.stage
            && until <= now
        {
            answers.extend(self.prepare(now));
        }
        answers.extend(self.complete_if_all(now));
        answers
    }

    /// Who waits is sent away, and sessions begin anew. A rebalance that was under way begins anew too.
    pub(super) fn restart(&mut self, now: Instant) -> Answers {
        let mut answers = Vec::new();
        for known in self.members.values_mut() {
            known.heard = Some(now);
            let code = ErrorCode::NotCoordinator;
            if let Some(from) = known.joins.take() {
                let response = JoinGroupResponse { error_code: code.code(), ..Default::default() };
                answers.push((from, Answer::Join(response)));
            }
            answers.extend(known.syncs.take().map(|from| (from, synced(code, Bytes::new()))));
        }
        if matches!(self.stage, Stage::Preparing(_) | Stage::Completing(_)) {
            self.stage = Stage::Preparing(now + REBALANCE);
        }
        answers
    }
}

fn synced(code: ErrorCode, assignment: Bytes) -> Answer {
    Answer::Sync(SyncGroupResponse { error_code: code.code(), assignment, ..Default::default() })
}
