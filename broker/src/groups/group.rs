//! A group of either protocol, as the rest of the coordinator sees it.

use millstream_protocol::messages::GroupMetadataValue;
use millstream_protocol::{ErrorCode, KStr, Uuid};

use super::classic::ClassicGroup;
use super::consumer::{ConsumerGroup, Left};
use super::record::GroupRecord;
use super::turn::{Millis, Turn};

/// Who commits.
#[derive(Clone, Debug)]
pub(crate) struct Committer {
    pub(crate) member_id: KStr,
    pub(crate) instance_id: Option<KStr>,
    /// Below zero for those who use no group.
    pub(crate) generation_or_epoch: i32,
    /// Of the request.
    pub(crate) version: i16,
}

impl Committer {
    /// Whether it claims to be a member.
    pub(crate) fn is_member(&self) -> bool {
        self.generation_or_epoch >= 0 || !self.member_id.is_empty() || self.instance_id.is_some()
    }
}

/// Who asks for offsets.
#[derive(Clone, Debug)]
pub(crate) struct Fetcher {
    pub(crate) member_id: Option<KStr>,
    /// Below zero for those who use no group, or the classic protocol.
    pub(crate) member_epoch: i32,
}

/// Which protocol the members of a group speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupKind {
    Classic,
    Consumer,
}

impl GroupKind {
    /// Kafka's name for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        }
    }
}

/// A group.
#[derive(Debug)]
pub(crate) enum Group {
    Classic(ClassicGroup),
    Consumer(ConsumerGroup),
}

impl Group {
    /// A classic group as it was stored.
    pub(super) fn classic(id: &KStr, value: &GroupMetadataValue) -> Self {
        Self::Classic(ClassicGroup::replay(id, value))
    }

    /// When it wants to be called, if nothing happens before.
    pub(super) fn next_deadline(&self) -> Option<Millis> {
        match self {
            Self::Classic(group) => group.next_deadline(),
            Self::Consumer(group) => group.next_deadline(),
        }
    }

    /// A deadline has passed.
    pub(super) fn expire(&mut self, turn: &mut Turn<'_>) {
        match self {
            Self::Classic(group) => group.expire(turn),
            Self::Consumer(group) => {
                if let Left::Classic(classic) = group.expire(turn) {
                    *self = Self::Classic(*classic);
                }
            }
        }
    }

    /// It was replayed: sessions begin.
    pub(super) fn on_loaded(&mut self, turn: &mut Turn<'_>) {
        match self {
            Self::Classic(group) => group.on_loaded(turn),
            Self::Consumer(group) => group.on_loaded(turn),
        }
    }

    /// Whether `by` may commit now. A sign of life of a classic member.
    pub(super) fn check_commit(&mut self, turn: &mut Turn<'_>, by: &Committer) -> Result<(), ErrorCode> {
        match self {
            Self::Classic(group) => group.check_commit(turn, by),
            Self::Consumer(group) => group.check_commit(by),
        }
    }

    /// Whether `by`, who may commit, may do so for this partition.
    pub(super) fn check_commit_of(
        &self,
        by: &Committer,
        topic: Uuid,
        partition: i32,
    ) -> Result<(), ErrorCode> {
        match self {
            Self::Classic(_) => Ok(()),
            Self::Consumer(group) => group.check_commit_of(by, topic, partition),
        }
    }

    /// Whether `by` may ask for offsets.
    pub(super) fn check_fetch(&self, by: &Fetcher) -> Result<(), ErrorCode> {
        match self {
            Self::Classic(_) => Ok(()),
            Self::Consumer(group) => group.check_fetch(by),
        }
    }

    /// Whether offsets may be deleted now.
    pub(super) fn check_offset_delete(&self) -> Result<(), ErrorCode> {
        match self {
            Self::Classic(group) => group.check_offset_delete(),
            // The topics that it reads are refused one by one.
            Self::Consumer(_) => Ok(()),
        }
    }

    /// Whether a member reads this topic.
    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        match self {
            Self::Classic(group) => group.is_subscribed(topic),
            Self::Consumer(group) => group.is_subscribed(topic),
        }
    }

    /// Whether it has no members.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Classic(group) => group.is_empty(),
            Self::Consumer(group) => group.is_empty(),
        }
    }

    /// Since when it has no members, by the wall clock.
    pub(super) fn emptied_at(&self) -> Option<i64> {
        match self {
            Self::Classic(group) => group.emptied_at(),
            // Not stored, so that offsets age since they were committed, as in Kafka.
            Self::Consumer(_) => None,
        }
    }

    /// Nobody is in it and nothing of it is stored: it can go without a trace.
    pub(super) fn is_vacant(&self) -> bool {
        match self {
            Self::Classic(group) => group.is_vacant(),
            Self::Consumer(group) => group.is_vacant(),
        }
    }

    /// How many members it has.
    pub(super) fn member_count(&self) -> usize {
        match self {
            Self::Classic(group) => group.member_count(),
            Self::Consumer(group) => group.member_count(),
        }
    }

    /// Kafka's word for its state.
    pub(super) fn state(&self) -> &'static str {
        match self {
            Self::Classic(group) => group.state(),
            Self::Consumer(group) => group.state(),
        }
    }

    pub(super) fn kind(&self) -> GroupKind {
        match self {
            Self::Classic(_) => GroupKind::Classic,
            Self::Consumer(_) => GroupKind::Consumer,
        }
    }

    /// What its members agree on by their protocol, "consumer" as a rule.
    pub(super) fn protocol_type(&self) -> &KStr {
        match self {
            Self::Classic(group) => group.protocol_type(),
            Self::Consumer(group) => group.protocol_type(),
        }
    }

    /// The records that remove it.
    pub(super) fn tombstones(&self, records: &mut Vec<GroupRecord>) {
        match self {
            Self::Classic(group) => group.tombstones(records),
            Self::Consumer(group) => group.tombstones(records),
        }
    }
}
