//! How a member stands with its group, and why it is out of it.

use std::time::Duration;

use millstream_client::ClientError;
use millstream_protocol::{ErrorCode, KStr};

/// How the members of a group come to their partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupProtocol {
    /// A member that is the leader shares out partitions (JoinGroup, SyncGroup). All brokers know it.
    Classic,
    /// The broker shares out partitions (KIP-848, ConsumerGroupHeartbeat). A member that is slow holds up nobody but the
    /// one that waits for its partitions. Kafka knows it since 4.0.
    Consumer,
}

/// What a member is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemberState {
    /// It is on its way into the group, or through a rebalance.
    Joining,
    /// It has its partitions.
    Stable,
    /// It has its partitions, and waits for the program to give some of them up.
    Revoking,
    /// It left: for good when the consumer was closed; or because the program did not come back for more for too long
    /// ([`max_poll_interval`](crate::ConsumerBuilder::max_poll_interval)), and then it joins again when the program does.
    Away,
    /// It is out of the group for good.
    Failed,
}

/// How a member stands with its group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStatus {
    /// The group.
    pub group: KStr,
    /// What the member is doing.
    pub state: MemberState,
    /// The protocol that is in use: what the broker serves, whatever was asked for.
    pub protocol: GroupProtocol,
    /// Its id, once it has one.
    pub member_id: Option<KStr>,
    /// The generation of the group (classic), or the member's epoch.
    pub generation: Option<i32>,
    /// What keeps it from going on at the moment, if anything does.
    pub trouble: Option<String>,
}

/// What is wrong between a member and its group.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// The coordinator has not been of use for some time, for reasons that usually pass. Goes on trying.
    #[error("group {group:?} has been out of reach for {after:?}: {reason}")]
    Unavailable {
        /// The group.
        group: String,
        /// For how long.
        after: Duration,
        /// What went wrong most recently.
        reason: String,
    },
    /// Another consumer uses the same instance id. This one is out for good: two that fight for a name would go on for
    /// ever.
    #[error(
        "another consumer took the instance id {instance:?} of group {group:?}: give each consumer its own, and build \
         this one anew"
    )]
    Fenced {
        /// The group.
        group: String,
        /// The name.
        instance: String,
    },
    /// The coordinator refuses the member. It is out for good: build another consumer once the reason is gone.
    #[error("group {group:?} refuses this consumer: {} ({})", message.as_deref().unwrap_or(code.message()), code.name())]
    Refused {
        /// The group.
        group: String,
        /// Its reason.
        code: ErrorCode,
        /// Its own words, if it sent any.
        message: Option<String>,
    },
    /// What this member says cannot be said to this broker, or what it answers makes no sense. It is out for good.
    #[error("group {group:?} cannot be joined: {source}")]
    Impossible {
        /// The group.
        group: String,
        /// Why.
        source: ClientError,
    },
    /// The leader of the group sent an assignment that cannot be read, or the coordinator chose an assignor that this
    /// member does not know. It is out for good.
    #[error(
        "group {group:?} was given {what} that this consumer does not understand: use the same assignors in all members"
    )]
    NotUnderstood {
        /// The group.
        group: String,
        /// What.
        what: String,
    },
    /// The program did not come back for more for too long, and the member left its group. The next call joins again.
    #[error(
        "the program did not ask group {group:?} for more for {after:?} (max_poll_interval), so it left; it joins again now"
    )]
    Lapsed {
        /// The group.
        group: String,
        /// For how long.
        after: Duration,
    },
}

impl GroupError {
    /// Whether calling again may succeed without a change.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::Lapsed { .. } => true,
            Self::Fenced { .. }
            | Self::Refused { .. }
            | Self::Impossible { .. }
            | Self::NotUnderstood { .. } => false,
        }
    }
}

/// Why partitions were taken away without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LossReason {
    /// They were not given up in time
    /// ([`rebalance_timeout`](crate::ConsumerBuilder::rebalance_timeout)).
    Deadline,
    /// The coordinator does not count the member in any more: it was not heard of for too long, or the group was
    /// rebuilt. It joins again by itself.
    Expelled(ErrorCode),
    /// The program did not come back for more for too long.
    Lapsed,
    /// The member is out of the group for good; another error says why.
    Failed,
}

impl std::fmt::Display for LossReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Deadline => f.write_str("they were not given up within the rebalance timeout"),
            Self::Expelled(code) => {
                write!(f, "the coordinator does not count this member in any more ({})", code.name())
            }
            Self::Lapsed => f.write_str("the program did not come back within max_poll_interval"),
            Self::Failed => f.write_str("the member is out of the group"),
        }
    }
}
