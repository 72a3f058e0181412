//! A member of a consumer group: what it wants, what it holds, and where it stands between two assignments.

use std::time::Duration;

use millstream_protocol::KStr;
use millstream_protocol::messages::consumer_group_current_member_assignment_value::TopicPartitions;
use millstream_protocol::messages::consumer_group_member_metadata_value::ClassicMemberMetadata;
use millstream_protocol::messages::{
    ConsumerGroupCurrentMemberAssignmentValue, ConsumerGroupMemberMetadataValue,
};

use super::partitions::Held;
use crate::groups::turn::Millis;

/// The epoch of a static member that went away and will come back.
pub(crate) const AWAY: i32 = -2;
/// The epoch by which a member says that it leaves for good.
pub(crate) const LEAVES: i32 = -1;

/// How far a member is with its target, as Kafka numbers it on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum MemberState {
    /// It holds what it is to hold at its epoch.
    #[default]
    Stable,
    /// It must give partitions back before it goes on.
    Unrevoked,
    /// It waits for partitions that others have not given back yet.
    Unreleased,
    /// A state that a newer Kafka wrote: the member is told to start anew.
    Unknown,
}

impl MemberState {
    fn code(self) -> i8 {
        match self {
            Self::Stable => 0,
            Self::Unrevoked => 1,
            Self::Unreleased => 2,
            Self::Unknown => 127,
        }
    }

    fn of(code: i8) -> Self {
        match code {
            0 => Self::Stable,
            1 => Self::Unrevoked,
            2 => Self::Unreleased,
            _ => Self::Unknown,
        }
    }
}

/// Where a member stands: the part that reconciliation changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) epoch: i32,
    /// The epoch before: a member that did not get the last reply still comes with it.
    pub(crate) previous_epoch: i32,
    pub(crate) state: MemberState,
    /// What it may read.
    pub(crate) held: Held,
    /// What it must stop reading. It is still its own until it says that it has.
    pub(crate) revoking: Held,
}

impl Standing {
    /// As of another epoch; the same epoch again is no step.
    pub(super) fn at_epoch(&self, epoch: i32) -> Self {
        let previous_epoch = if epoch == self.epoch { self.previous_epoch } else { self.epoch };
        Self { epoch, previous_epoch, ..self.clone() }
    }

    pub(super) fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == epoch
    }

    pub(super) fn value(&self) -> ConsumerGroupCurrentMemberAssignmentValue {
        ConsumerGroupCurrentMemberAssignmentValue {
            member_epoch: self.epoch,
            previous_member_epoch: self.previous_epoch,
            state: self.state.code(),
            assigned_partitions: stored(&self.held),
            partitions_pending_revocation: stored(&self.revoking),
        }
    }

    pub(super) fn of(value: &ConsumerGroupCurrentMemberAssignmentValue) -> Self {
        Self {
            epoch: value.member_epoch,
            previous_epoch: value.previous_member_epoch,
            state: MemberState::of(value.state),
            held: restored(&value.assigned_partitions, value.member_epoch),
            revoking: restored(&value.partitions_pending_revocation, value.member_epoch),
        }
    }
}

fn stored(held: &Held) -> Vec<TopicPartitions> {
    let stored = held.topics().map(|(topic_id, partitions)| TopicPartitions {
        topic_id,
        partitions: partitions.keys().copied().collect(),
        assignment_epochs: Some(partitions.values().copied().collect()),
    });
    stored.collect()
}

/// Before Kafka 4.3 no epochs were stored; then the member's own must do.
fn restored(stored: &[TopicPartitions], member_epoch: i32) -> Held {
    let mut held = Held::default();
    for topic in stored {
        let epochs = topic.assignment_epochs.as_deref().unwrap_or_default();
        for (at, partition) in topic.partitions.iter().enumerate() {
            held.insert(topic.topic_id, *partition, epochs.get(at).copied().unwrap_or(member_epoch));
        }
    }
    held
}

/// Until when something must happen; nothing of it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deadlines {
    /// The next sign of life.
    pub(super) session: Option<Millis>,
    /// What it must give back is given back.
    pub(super) revocation: Option<Millis>,
    /// A classic member that was told to rejoin has done so.
    pub(super) join: Option<Millis>,
    /// A classic member that joined has asked for its assignment.
    pub(super) sync: Option<Millis>,
}

impl Deadlines {
    pub(super) fn first(&self) -> Option<Millis> {
        [self.session, self.revocation, self.join, self.sync].into_iter().flatten().min()
    }
}

/// A member.
#[derive(Clone, Debug, Default)]
pub(crate) struct Member {
    /// What it wants, as it is stored.
    pub(crate) wish: ConsumerGroupMemberMetadataValue,
    pub(crate) standing: Standing,
    pub(crate) deadlines: Deadlines,
}

impl Member {
    pub(crate) fn instance_id(&self) -> Option<&KStr> {
        self.wish.instance_id.as_ref()
    }

    /// What it said as a member of the classic protocol, if it speaks that.
    pub(crate) fn classic(&self) -> Option<&ClassicMemberMetadata> {
        self.wish.classic_member_metadata.as_ref()
    }

    /// Its regular expression; an empty one is none.
    pub(super) fn regex(&self) -> Option<&KStr> {
        regex_of(&self.wish)
    }

    pub(super) fn rebalance_timeout(&self) -> Duration {
        duration(self.wish.rebalance_timeout_ms)
    }

    pub(super) fn session_timeout(&self, of_consumers: Duration) -> Duration {
        self.classic().map_or(of_consumers, |classic| duration(classic.session_timeout_ms))
    }
}

/// Somebody of whom nothing is known. Not the type's default, whose texts are empty instead of absent.
pub(super) fn no_wish() -> ConsumerGroupMemberMetadataValue {
    ConsumerGroupMemberMetadataValue {
        instance_id: None,
        rack_id: None,
        subscribed_topic_regex: None,
        rebalance_timeout_ms: -1,
        server_assignor: None,
        ..Default::default()
    }
}

/// The regular expression that somebody wants; an empty one is none.
pub(super) fn regex_of(wish: &ConsumerGroupMemberMetadataValue) -> Option<&KStr> {
    wish.subscribed_topic_regex.as_ref().filter(|regex| !regex.is_empty())
}

fn duration(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
