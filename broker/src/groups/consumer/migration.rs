//! A live group changes its protocol (KIP-848): a classic group of consumers becomes a consumer group when the first
//! client of the new protocol joins, and a classic one again when the last of them goes. Members, generation and
//! assignments are taken along, so that nobody stops reading.

use std::time::Duration;

use millstream_protocol::messages::{
    ConsumerGroupMemberMetadataValue, ConsumerGroupMetadataValue, ConsumerGroupTargetAssignmentMetadataValue,
    consumer_group_member_metadata_value::{ClassicMemberMetadata, ClassicProtocol},
};
use millstream_protocol::{ErrorCode, KStr};

use super::change::Change;
use super::classic_members::first_protocol;
use super::embedded::{self, Given, Subscription};
use super::heartbeat::sorted;
use super::member::{Member, MemberState, Standing};
use super::partitions::Held;
use super::subscription;
use super::{ConsumerGroup, Refusal, target_value};
use crate::groups::cause::Caller;
use crate::groups::classic::{self, ClassicGroup, Protocol, Seat, Timeouts};
use crate::groups::turn::Turn;

/// `group.consumer.migration.policy`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum MigrationPolicy {
    #[default]
    Bidirectional,
    Upgrade,
    Downgrade,
    Disabled,
}

impl MigrationPolicy {
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "bidirectional" => Self::Bidirectional,
            "upgrade" => Self::Upgrade,
            "downgrade" => Self::Downgrade,
            "disabled" => Self::Disabled,
            _ => return None,
        })
    }

    fn allows_upgrade(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Upgrade)
    }

    fn allows_downgrade(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Downgrade)
    }
}

impl ConsumerGroup {
    /// A classic group that has members, as a consumer group. Leaves the records of both; nobody is told yet.
    pub(super) fn upgraded(id: &KStr, classic: &ClassicGroup, turn: &mut Turn<'_>) -> Result<Self, Refusal> {
        let cannot = |why: &str| {
            let message = format!("Cannot upgrade classic group {id} to consumer group because {why}.");
            Refusal::new(ErrorCode::GroupIdNotFound, message)
        };
        if !turn.settings.consumer.migration.allows_upgrade() {
            return Err(cannot("online upgrade is disabled"));
        }
        if !classic.is_of_consumers() {
            return Err(cannot("the group does not use the consumer embedded protocol"));
        }
        if classic.member_count() > turn.settings.consumer.members_max {
            return Err(cannot("the group size exceeds the consumer group maximum size"));
        }
        let members: Result<Vec<(KStr, Member)>, &str> =
            classic.members().map(|member| upgraded_member(classic, member, turn)).collect();
        let members = members.map_err(cannot)?;

        classic.tombstones(&mut turn.fx.records);
        let mut group = Self::new(id);
        for (member, Member { wish, .. }) in &members {
            group.change(Change::Wish { member: member.clone(), value: Some(wish.clone()) }, turn.fx);
        }
        let epoch = classic.generation();
        let names = members.iter().flat_map(|(_, member)| &member.wish.subscribed_topic_names);
        let metadata_hash = subscription::fingerprint(names, turn.topics);
        group.change(Change::Group(Some(ConsumerGroupMetadataValue { epoch, metadata_hash })), turn.fx);
        for (member, Member { standing, .. }) in &members {
            let value = Some(target_value(&standing.held.partitions()));
            group.change(Change::Target { member: member.clone(), value }, turn.fx);
        }
        let target_epoch = ConsumerGroupTargetAssignmentMetadataValue {
            assignment_epoch: epoch,
            assignment_timestamp: turn.now.wall_ms,
        };
        group.change(Change::TargetEpoch(Some(target_epoch)), turn.fx);
        for (member, Member { standing, .. }) in &members {
            let value = Some(standing.value());
            group.change(Change::Standing { member: member.clone(), value }, turn.fx);
            group.extend_session(member, turn);
        }
        Ok(group)
    }

    /// Without these members it is a classic group, if all others speak that protocol. Leaves the records.
    pub(super) fn downgraded_without(&self, leaving: &[KStr], turn: &mut Turn<'_>) -> Option<ClassicGroup> {
        let stays: Vec<(&KStr, &Member)> =
            self.members.iter().filter(|(id, _)| !leaving.contains(id)).collect();
        let all_classic = stays.iter().all(|(_, member)| member.classic().is_some());
        let had_modern = self.members.values().any(|member| member.classic().is_none());
        if stays.is_empty() || !all_classic || !had_modern || !may_downgrade(stays.len(), turn) {
            return None;
        }
        let members =
            stays.into_iter().map(|(id, member)| self.downgraded_member(id, member, turn)).collect();
        self.tombstones(&mut turn.fx.records);
        let mut classic = ClassicGroup::converted(&self.id, self.epoch, members, turn);
        classic.begin_converted(&leaving[0], turn);
        Some(classic)
    }

    /// A static member comes back with the classic protocol, and it was the last of the new one. It keeps its old id
    /// for now: the classic group lets the new one take its place. Leaves the records.
    pub(super) fn downgraded_by_replacing(
        &self,
        old: &KStr,
        wish: &ConsumerGroupMemberMetadataValue,
        turn: &mut Turn<'_>,
    ) -> Option<ClassicGroup> {
        let others_are_classic =
            self.members.iter().all(|(id, member)| id == old || member.classic().is_some());
        let was_modern = self.members.get(old.as_str()).is_some_and(|member| member.classic().is_none());
        if !others_are_classic || !was_modern || !may_downgrade(self.members.len(), turn) {
            return None;
        }
        let as_it_comes = |id: &KStr, member: &Member| match id == old {
            true => Member { wish: wish.clone(), ..member.clone() },
            false => member.clone(),
        };
        let members = self.members.iter();
        let members =
            members.map(|(id, member)| self.downgraded_member(id, &as_it_comes(id, member), turn)).collect();
        self.tombstones(&mut turn.fx.records);
        Some(ClassicGroup::converted(&self.id, self.epoch, members, turn))
    }

    fn downgraded_member(&self, id: &KStr, member: &Member, turn: &Turn<'_>) -> Seat {
        let classic = member.classic().cloned().unwrap_or_default();
        let metadata = first_protocol(member).map(|protocol| &protocol.metadata);
        let version = metadata.and_then(|metadata| Subscription::read(metadata).ok());
        let version = version.map_or(0, |subscription| subscription.version);
        let protocols = classic
            .supported_protocols
            .iter()
            .map(|protocol| Protocol { name: protocol.name.clone(), metadata: protocol.metadata.clone() });
        Seat {
            id: id.clone(),
            instance_id: member.instance_id().cloned(),
            caller: Caller {
                client_id: member.wish.client_id.clone(),
                host: member.wish.client_host.clone(),
            },
            timeouts: Timeouts {
                session: member.session_timeout(Duration::ZERO),
                rebalance: member.rebalance_timeout(),
            },
            protocols: protocols.collect(),
            assignment: embedded::assignment(&self.target(id), version, turn.topics),
        }
    }
}

fn may_downgrade(members: usize, turn: &Turn<'_>) -> bool {
    turn.settings.consumer.migration.allows_downgrade() && members <= turn.settings.members_max
}

/// Why not, as the end of a sentence.
fn upgraded_member(
    classic: &ClassicGroup,
    member: &classic::Member,
    turn: &Turn<'_>,
) -> Result<(KStr, Member), &'static str> {
    const MALFORMED: &str = "the embedded consumer protocol is malformed";
    let chosen =
        classic.protocol().and_then(|name| member.protocols.iter().find(|spoken| spoken.name == *name));
    let chosen = chosen.or(member.protocols.first()).ok_or(MALFORMED)?;
    let subscription = Subscription::read(&chosen.metadata).map_err(|_| MALFORMED)?;
    let given = Given::read(&member.assignment).map_err(|_| MALFORMED)?;
    if given.has_user_data {
        return Err("an unsupported custom assignor is in use; switch to a default assignor first");
    }
    let generation = classic.generation();
    let protocols = member
        .protocols
        .iter()
        .map(|protocol| ClassicProtocol { name: protocol.name.clone(), metadata: protocol.metadata.clone() });
    let wish = ConsumerGroupMemberMetadataValue {
        instance_id: member.instance_id.clone(),
        rack_id: subscription.rack.as_ref().map(KStr::detach),
        client_id: member.caller.client_id.clone(),
        client_host: member.caller.host.clone(),
        subscribed_topic_names: sorted(&subscription.topics),
        subscribed_topic_regex: None,
        rebalance_timeout_ms: millis(member.timeouts.rebalance),
        server_assignor: None,
        classic_member_metadata: Some(ClassicMemberMetadata {
            session_timeout_ms: millis(member.timeouts.session),
            supported_protocols: protocols.collect(),
        }),
    };
    // If the classic group was about to rebalance, its members are told to join again; until then they hold this.
    let standing = Standing {
        epoch: generation,
        previous_epoch: generation,
        state: MemberState::Stable,
        held: Held::given(&given.partitions(turn.topics), generation),
        revoking: Held::default(),
    };
    Ok((member.id.clone(), Member { wish, standing, ..Member::default() }))
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
