//! What an event of a group is given, and what it leaves: records to append, replies to send, facts to tell.

use std::time::Duration;

use millstream_protocol::KStr;
use millstream_protocol::messages::consumer_group_describe_response;
use millstream_protocol::messages::delete_groups_response::DeletableGroupResult;
use millstream_protocol::messages::describe_groups_response::DescribedGroup;
use millstream_protocol::messages::list_groups_response::ListedGroup;
use millstream_protocol::messages::offset_fetch_response::OffsetFetchResponseGroup;
use millstream_protocol::messages::{
    ConsumerGroupHeartbeatResponse, HeartbeatResponse, JoinGroupResponse, LeaveGroupResponse,
    OffsetCommitResponse, OffsetDeleteResponse, SyncGroupResponse, TxnOffsetCommitResponse,
};

use super::cause::Cause;
use super::seen::Sighting;
use super::shard::Shard;
use super::topic_view::TopicView;
use crate::coordinator::replies;
pub(crate) use crate::coordinator::{Millis, Now, Ticket};
use crate::settings::GroupSettings;

/// What an event is given.
pub(crate) struct Turn<'a> {
    pub(crate) now: Now,
    pub(crate) settings: &'a GroupSettings,
    pub(crate) topics: &'a TopicView,
    pub(crate) fx: &'a mut Effects,
}

/// What an event leaves.
pub(crate) type Effects = crate::coordinator::Effects<Shard>;

/// What is worth a line in the log, or a count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// Offsets of a group were removed.
    OffsetsRemoved { group: KStr, count: usize, why: Removal },
    /// Members of a group have to join again.
    RebalanceBegan { group: KStr, generation: i32, cause: Cause },
    /// They agree on this generation.
    RebalanceEnded { group: KStr, generation: i32, members: usize, cause: Cause, took: Duration },
    /// A member was not heard of for its session timeout.
    SessionExpired { group: KStr, member: KStr },
    /// A member did not join again in time.
    DidNotRejoin { group: KStr, member: KStr },
    /// Somebody else took a member's static name.
    Fenced { group: KStr, instance: KStr, member: KStr },
}

impl Note {
    /// Tells people.
    pub(super) fn tell(&self) {
        match self {
            Self::OffsetsRemoved { group, count, why } => {
                let reason = match why {
                    Removal::TopicDeleted => "their topic was deleted",
                    Removal::Expired => "nobody has used them for offsets.retention.minutes",
                };
                tracing::info!(%group, count, reason, "committed offsets removed");
            }
            Self::RebalanceBegan { group, generation, cause } => {
                tracing::debug!(%group, generation, why = cause.why.name(), member = %cause.member, "rebalance begins");
            }
            Self::RebalanceEnded { group, generation, members, cause, took } => {
                let Cause { why, member, instance, caller, said } = cause;
                tracing::info!(
                    %group, generation, members, why = why.name(), %member, instance = instance.as_deref(),
                    client = %caller.client_id, host = %caller.host, said = said.as_deref(), ?took, "rebalanced"
                );
            }
            Self::SessionExpired { group, member } => {
                tracing::debug!(%group, %member, "a member was not heard of for its session timeout and is out");
            }
            Self::DidNotRejoin { group, member } => {
                tracing::info!(%group, %member, "a member did not join again in time and is out");
            }
            Self::Fenced { group, instance, member } => {
                tracing::info!(%group, %instance, %member, "a member is fenced: another has its group.instance.id");
            }
        }
    }
}

/// Why offsets go without anybody asking for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    /// Their topic is gone.
    TopicDeleted,
    /// Nobody uses them any more (`offsets.retention.minutes`).
    Expired,
}

replies! {
    OffsetCommit(OffsetCommitResponse),
    OffsetFetch(OffsetFetchResponseGroup),
    OffsetDelete(OffsetDeleteResponse),
    TxnOffsetCommit(TxnOffsetCommitResponse),
    Listed(Vec<ListedGroup>),
    Sighted(Vec<Sighting>),
    Deleted(DeletableGroupResult),
    Join(JoinGroupResponse),
    Sync(SyncGroupResponse),
    Heartbeat(HeartbeatResponse),
    Leave(LeaveGroupResponse),
    Described(DescribedGroup),
    ConsumerHeartbeat(ConsumerGroupHeartbeatResponse),
    ConsumerDescribed(consumer_group_describe_response::DescribedGroup),
}
