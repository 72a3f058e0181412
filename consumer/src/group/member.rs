//! A member of a group: a pure state machine of one of the two protocols.
//!
//! Answers and the time go in; requests, deadlines and what the member holds come out. At most one request is under way,
//! and one question about topics. Knows no socket, no clock and no task; `task` is the shell around it.

use std::sync::Arc;
use std::time::Duration;

use millstream_client::ClientError;
use millstream_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, HeartbeatRequest, HeartbeatResponse,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest, SyncGroupResponse,
};
use millstream_protocol::{ErrorCode, KStr};
use tokio::time::Instant;

use super::assignor::Assignor;
use super::classic::Classic;
use super::holdings::{Holdings, Serial};
use super::modern::Modern;
use super::rebalance::TopicPartition;
use super::status::{GroupError, GroupProtocol, LossReason, MemberState};
use super::subscription::{Subscription, TopicView, TopicsWanted};

/// The first wait after a failure; each following one is twice as long.
const RETRY_FIRST: Duration = Duration::from_millis(50);
/// No wait is longer.
const RETRY_MOST: Duration = Duration::from_secs(1);

/// What a member is told when it is made.
#[derive(Debug, Clone)]
pub(crate) struct MemberSettings {
    pub(crate) group: KStr,
    pub(crate) instance_id: Option<KStr>,
    pub(crate) rack: Option<KStr>,
    pub(crate) subscription: Subscription,
    /// Of the classic protocol, the preferred first.
    pub(crate) assignors: Vec<Assignor>,
    /// Of the new protocol; none leaves it to the broker.
    pub(crate) server_assignor: Option<KStr>,
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) heartbeat_interval: Duration,
    /// How often topics are looked at, where the member has to.
    pub(crate) topics_every: Duration,
    /// For how long trouble is borne in silence.
    pub(crate) patience: Duration,
}

impl MemberSettings {
    /// How long the program may take to give partitions up: the coordinator counts from before we were told.
    pub(super) fn revocation_time(&self) -> Duration {
        self.rebalance_timeout.mul_f64(0.8)
    }
}

/// A request to send to the coordinator.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ask {
    Join(JoinGroupRequest),
    Sync(SyncGroupRequest),
    Heartbeat(HeartbeatRequest),
    Consume(ConsumerGroupHeartbeatRequest),
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Answer {
    Join(JoinGroupResponse),
    Sync(SyncGroupResponse),
    Heartbeat(HeartbeatResponse),
    Consume(ConsumerGroupHeartbeatResponse),
    Failed(ClientError),
}

impl Answer {
    /// Whether somebody else may be the coordinator.
    pub(super) fn doubts_coordinator(&self) -> bool {
        let code = match self {
            Self::Join(response) => response.error_code,
            Self::Sync(response) => response.error_code,
            Self::Heartbeat(response) => response.error_code,
            Self::Consume(response) => response.error_code,
            Self::Failed(_) => return true,
        };
        matches!(known(code), ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable)
    }
}

/// The last word of a member.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Farewell {
    Leave(LeaveGroupRequest),
    Consume(ConsumerGroupHeartbeatRequest),
}

/// In whose name is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) member_id: KStr,
    /// The generation, or the member's epoch.
    pub(crate) generation: i32,
}

/// A code we do not know means that something failed, and no more.
pub(super) fn known(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError)
}

/// Milliseconds as the protocol has them.
pub(super) fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// Failures in a row.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    failures: u32,
    since: Option<Instant>,
    told: Option<Instant>,
    pub(super) retry_at: Option<Instant>,
    pub(super) reason: Option<String>,
}

impl Trouble {
    pub(super) fn is_over(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_waiting(&self, now: Instant) -> bool {
        self.retry_at.is_some_and(|at| at > now)
    }

    /// For how long it has gone on.
    pub(super) fn lasts(&self, now: Instant) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.duration_since(since))
    }
}

/// What both kinds of members have.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) settings: Arc<MemberSettings>,
    pub(super) holdings: Holdings,
    pub(super) trouble: Trouble,
    pub(super) is_asking: bool,
    pub(super) asks_topics: bool,
    /// Why it is out for good.
    pub(super) fatal: Option<GroupError>,
    /// What the program has to be told.
    pub(super) report: Option<GroupError>,
    /// Why something was lost most recently.
    pub(super) loss: LossReason,
}

impl Core {
    pub(super) fn new(settings: Arc<MemberSettings>) -> Self {
        Self {
            settings,
            holdings: Holdings::default(),
            trouble: Trouble::default(),
            is_asking: false,
            asks_topics: false,
            fatal: None,
            report: None,
            loss: LossReason::Deadline,
        }
    }

    /// Something that usually passes. It is reported if it does not.
    pub(super) fn on_trouble(&mut self, now: Instant, reason: String) {
        let trouble = &mut self.trouble;
        trouble.failures += 1;
        let wait =
            RETRY_FIRST.saturating_mul(1 << trouble.failures.saturating_sub(1).min(10)).min(RETRY_MOST);
        trouble.retry_at = Some(now + wait);
        let since = *trouble.since.get_or_insert(now);
        if now.duration_since(trouble.told.unwrap_or(since)) >= self.settings.patience {
            trouble.told = Some(now);
            let group = self.settings.group.to_string();
            let after = now.duration_since(since);
            self.report = Some(GroupError::Unavailable { group, after, reason: reason.clone() });
        }
        tracing::debug!(group = %self.settings.group, %reason, ?wait, "the group cannot go on: trying again");
        trouble.reason = Some(reason);
    }

    pub(super) fn on_trouble_code(&mut self, now: Instant, code: ErrorCode) {
        self.on_trouble(now, format!("{} ({})", code.message(), code.name()));
    }

    /// A request got no answer: it is sent again, unless that can never help.
    pub(super) fn on_failed(&mut self, now: Instant, error: ClientError) {
        match error {
            ClientError::NoCoordinator { code, message, .. } if !code.is_retriable() => {
                self.fail(GroupError::Refused { group: self.settings.group.to_string(), code, message });
            }
            error if error.is_retriable() => self.on_trouble(now, error.to_string()),
            source => self.fail(GroupError::Impossible { group: self.settings.group.to_string(), source }),
        }
    }

    /// The coordinator refuses for good.
    pub(super) fn refuse(&mut self, code: ErrorCode, message: Option<&KStr>) {
        let group = self.settings.group.to_string();
        let message = message.map(KStr::to_string);
        self.fail(match (&self.settings.instance_id, code) {
            (Some(instance), ErrorCode::FencedInstanceId | ErrorCode::UnreleasedInstanceId) => {
                GroupError::Fenced { group, instance: instance.to_string() }
            }
            _ => GroupError::Refused { group, code, message },
        });
    }

    pub(super) fn fail(&mut self, error: GroupError) {
        tracing::warn!(%error, "out of the group for good");
        self.lose(LossReason::Failed);
        self.fatal = Some(error);
    }

    /// Everything is gone.
    pub(super) fn lose(&mut self, reason: LossReason) {
        let lost = self.holdings.lose_all();
        if !lost.is_empty() {
            tracing::warn!(group = %self.settings.group, partitions = lost.len(), %reason, "partitions are lost");
            self.loss = reason;
        }
    }

    /// What was not given up in time is gone. Which.
    pub(super) fn lose_late(&mut self, now: Instant) -> Vec<TopicPartition> {
        let late = self.holdings.lose_late(now);
        if !late.is_empty() {
            let reason = LossReason::Deadline;
            tracing::warn!(group = %self.settings.group, partitions = late.len(), %reason, "partitions are lost");
            self.loss = reason;
        }
        late
    }

    /// Nothing is to be sent now.
    pub(super) fn is_quiet(&self, now: Instant) -> bool {
        self.is_asking || self.fatal.is_some() || self.trouble.is_waiting(now)
    }
}

/// A member of either protocol.
#[derive(Debug)]
pub(crate) enum Member {
    Classic(Classic),
    Modern(Modern),
}

impl Member {
    /// A member that joins at once. The id is what it calls itself in the new protocol, and has to be unique.
    pub(crate) fn new(settings: Arc<MemberSettings>, protocol: GroupProtocol, id: KStr) -> Self {
        match protocol {
            GroupProtocol::Classic => Self::Classic(Classic::new(settings)),
            GroupProtocol::Consumer => Self::Modern(Modern::new(settings, id)),
        }
    }

    /// The next request to send, if one is due.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Ask> {
        match self {
            Self::Classic(member) => member.next(now),
            Self::Modern(member) => member.next(now),
        }
    }

    /// Topics that it has to know about now.
    pub(crate) fn topics_wanted(&mut self, now: Instant) -> Option<TopicsWanted> {
        match self {
            Self::Classic(member) => member.topics_wanted(now),
            Self::Modern(member) => member.topics_wanted(now),
        }
    }

    pub(crate) fn on_answer(&mut self, now: Instant, answer: Answer) {
        match self {
            Self::Classic(member) => member.on_answer(now, answer),
            Self::Modern(member) => {
                member.on_answer(now, answer);
                if member.is_unsupported() {
                    let settings = member.core().settings.clone();
                    tracing::info!(group = %settings.group, "the broker does not serve the new group protocol: the classic one is used");
                    *self = Self::Classic(Classic::new(settings));
                }
            }
        }
    }

    pub(crate) fn on_topics(&mut self, now: Instant, view: Result<TopicView, ClientError>) {
        match self {
            Self::Classic(member) => member.on_topics(now, view),
            Self::Modern(member) => member.on_topics(now, view),
        }
    }

    /// The program has given these up.
    pub(crate) fn on_released(&mut self, now: Instant, released: &[(TopicPartition, Serial)]) {
        match self {
            Self::Classic(member) => member.on_released(now, released),
            Self::Modern(member) => member.on_released(now, released),
        }
    }

    /// Takes note of the time.
    pub(crate) fn on_time(&mut self, now: Instant) {
        match self {
            Self::Classic(member) => member.on_time(now),
            Self::Modern(member) => member.on_time(now),
        }
    }

    /// Somebody was told that its generation or epoch is not the present one: better ask now.
    pub(crate) fn on_suspicion(&mut self, now: Instant) {
        match self {
            Self::Classic(member) => member.on_suspicion(now),
            Self::Modern(member) => member.on_suspicion(now),
        }
    }

    /// The program did not come back in time: out of the group until it does. The word to leave with.
    pub(crate) fn on_lapse(&mut self, after: Duration) -> Option<Farewell> {
        let farewell = self.farewell();
        let core = match self {
            Self::Classic(member) => member.stay_away(),
            Self::Modern(member) => member.stay_away(),
        };
        core.lose(LossReason::Lapsed);
        core.report = Some(GroupError::Lapsed { group: core.settings.group.to_string(), after });
        farewell
    }

    /// The program is back.
    pub(crate) fn on_return(&mut self) {
        match self {
            Self::Classic(member) => member.come_back(),
            Self::Modern(member) => member.come_back(),
        }
    }

    /// The word to leave with; none if nothing is to be said, as by a static member of the classic protocol.
    pub(crate) fn farewell(&self) -> Option<Farewell> {
        match self {
            Self::Classic(member) => member.farewell(),
            Self::Modern(member) => member.farewell(),
        }
    }

    /// When to look again after now, if nothing happens before.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let deadlines = match self {
            Self::Classic(member) => member.deadlines(),
            Self::Modern(member) => member.deadlines(),
        };
        // What was due by now has been done, or waits for an answer.
        deadlines.into_iter().flatten().filter(|at| *at > now).min()
    }

    pub(crate) fn identity(&self) -> Option<Identity> {
        match self {
            Self::Classic(member) => member.identity(),
            Self::Modern(member) => member.identity(),
        }
    }

    pub(crate) fn state(&self) -> MemberState {
        let (state, core) = match self {
            Self::Classic(member) => (member.state(), member.core()),
            Self::Modern(member) => (member.state(), member.core()),
        };
        match state {
            _ if core.fatal.is_some() => MemberState::Failed,
            MemberState::Stable if core.holdings.is_revoking() => MemberState::Revoking,
            state => state,
        }
    }

    pub(crate) fn protocol(&self) -> GroupProtocol {
        match self {
            Self::Classic(_) => GroupProtocol::Classic,
            Self::Modern(_) => GroupProtocol::Consumer,
        }
    }

    pub(crate) fn holdings(&self) -> &Holdings {
        &self.core().holdings
    }

    /// Why something was lost most recently.
    pub(crate) fn loss(&self) -> LossReason {
        self.core().loss
    }

    pub(crate) fn fatal(&self) -> Option<&GroupError> {
        self.core().fatal.as_ref()
    }

    /// What keeps it from going on.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.core().trouble.reason.as_deref()
    }

    /// What the program has to be told, once.
    pub(crate) fn take_report(&mut self) -> Option<GroupError> {
        match self {
            Self::Classic(member) => member.core_mut().report.take(),
            Self::Modern(member) => member.core_mut().report.take(),
        }
    }

    fn core(&self) -> &Core {
        match self {
            Self::Classic(member) => member.core(),
            Self::Modern(member) => member.core(),
        }
    }
}
