//! What a group is doing, who is in it, and who reads what.
//!
//! Groups of either protocol are described alike. A broker that knows the newer one is asked for a consumer group
//! first; what it says is none is asked for as a classic group.

use bytes::Bytes;
use millstream_protocol::messages::consumer_group_describe_response as modern;
use millstream_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use millstream_protocol::messages::{ConsumerGroupDescribeRequest, DescribeGroupsRequest};
use millstream_protocol::wire::{DecodeError, Form, Reader};
use millstream_protocol::{ErrorCode, KStr};

use super::super::{Admin, judge, refusal, unanswered};
use super::serves;
use crate::connection::{CallOptions, Connection};
use crate::error::{ClientError, Refusal};

/// What the members of a classic group have in common when they are consumers.
const CONSUMERS: &str = "consumer";
/// What DescribeGroups before version 6 says of a group that does not exist.
const DEAD: &str = "Dead";

/// How a group is coordinated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupKind {
    /// Its members agree among themselves (JoinGroup, SyncGroup).
    Classic,
    /// The broker assigns partitions (KIP-848).
    Consumer,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its id.
    pub id: KStr,
    /// How it is coordinated.
    pub kind: GroupKind,
    /// What it is doing, in the broker's words: `Stable`, `Empty`.
    pub state: KStr,
    /// What its members have in common: `consumer`; empty if it never had any.
    pub protocol_type: KStr,
    /// How partitions are assigned: `range`, `uniform`; empty while there are no members.
    pub assignor: KStr,
    /// Rises with every change of members or subscriptions, if the group is coordinated by the broker.
    pub epoch: Option<i32>,
    /// The epoch that the assignment is for, if the group is coordinated by the broker.
    pub assignment_epoch: Option<i32>,
    /// Who is in it.
    pub members: Vec<GroupMember>,
}

impl GroupDescription {
    /// The member that a partition is assigned to.
    #[must_use]
    pub fn owner(&self, topic: &str, partition: i32) -> Option<&GroupMember> {
        let owns = |of: &GroupPartitions| *of.topic == *topic && of.partitions.contains(&partition);
        self.members.iter().find(|member| member.assigned.iter().any(owns))
    }
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// Its id.
    pub id: KStr,
    /// The name that it keeps over restarts, if it has one.
    pub instance_id: Option<KStr>,
    /// What its program calls itself.
    pub client_id: KStr,
    /// Where it connects from.
    pub client_host: KStr,
    /// Where it stands, if it says so.
    pub rack: Option<KStr>,
    /// Its epoch, if the group is coordinated by the broker.
    pub epoch: Option<i32>,
    /// The topics that it asks for by name.
    pub subscribed: Vec<KStr>,
    /// The topics that it asks for by a pattern.
    pub subscribed_pattern: Option<KStr>,
    /// What it has.
    pub assigned: Vec<GroupPartitions>,
    /// What it is to have, if the group is coordinated by the broker.
    pub target: Option<Vec<GroupPartitions>>,
}

/// Partitions of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupPartitions {
    /// The topic.
    pub topic: KStr,
    /// Their numbers, in order.
    pub partitions: Vec<i32>,
}

/// Why a group was not described.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DescribeGroupError {
    /// There is none of this id.
    #[error("there is no group {group:?}")]
    UnknownGroup {
        /// Its id.
        group: String,
    },
    /// The broker refuses.
    #[error("{0}")]
    Refused(Refusal),
    /// The request got no usable answer.
    #[error(transparent)]
    Request(#[from] ClientError),
}
judge!(DescribeGroupError only reads, UnknownGroup);

impl Admin {
    /// What a group is doing, who is in it, and who reads what.
    ///
    /// # Errors
    /// [`DescribeGroupError::UnknownGroup`]; or that the broker refuses, or cannot be asked.
    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription, DescribeGroupError> {
        self.at_coordinator(group, async |connection| match describe_consumer(&connection, group).await? {
            Some(description) => Ok(description),
            None => describe_classic(&connection, group).await,
        })
        .await
    }
}

/// The group as the newer protocol has it; `None` if the broker does not know the protocol, or no such group.
async fn describe_consumer(
    connection: &Connection,
    group: &str,
) -> Result<Option<GroupDescription>, DescribeGroupError> {
    if !serves::<ConsumerGroupDescribeRequest>(connection) {
        return Ok(None);
    }
    let request = ConsumerGroupDescribeRequest { group_ids: vec![KStr::from(group)], ..Default::default() };
    let answer = connection.send(&request, CallOptions::default()).await?.await?;
    let subject = || format!("group {group:?}");
    let found = answer.groups.iter().find(|found| &*found.group_id == group);
    let found = found.ok_or_else(|| DescribeGroupError::Refused(unanswered(subject())))?;
    match refusal(found.error_code, found.error_message.as_ref(), subject) {
        Ok(()) => Ok(Some(consumer_group(found))),
        // A broker where the protocol is switched off says that it does not serve the version.
        Err(Refusal { code: ErrorCode::GroupIdNotFound | ErrorCode::UnsupportedVersion, .. }) => Ok(None),
        Err(refusal) => Err(DescribeGroupError::Refused(refusal)),
    }
}

async fn describe_classic(
    connection: &Connection,
    group: &str,
) -> Result<GroupDescription, DescribeGroupError> {
    let request = DescribeGroupsRequest { groups: vec![KStr::from(group)], ..Default::default() };
    let answer = connection.send(&request, CallOptions::default()).await?.await?;
    let subject = || format!("group {group:?}");
    let unknown = || DescribeGroupError::UnknownGroup { group: group.to_owned() };
    let found = answer.groups.iter().find(|found| &*found.group_id == group);
    let found = found.ok_or_else(|| DescribeGroupError::Refused(unanswered(subject())))?;
    refusal(found.error_code, found.error_message.as_ref(), subject).map_err(|refusal| {
        match refusal.code {
            ErrorCode::GroupIdNotFound => unknown(),
            _ => DescribeGroupError::Refused(refusal),
        }
    })?;
    if &*found.group_state == DEAD {
        return Err(unknown());
    }
    Ok(classic_group(found))
}

fn consumer_group(found: &modern::DescribedGroup) -> GroupDescription {
    let member = |member: &modern::Member| GroupMember {
        id: member.member_id.detach(),
        instance_id: member.instance_id.as_ref().map(KStr::detach),
        client_id: member.client_id.detach(),
        client_host: member.client_host.detach(),
        rack: member.rack_id.as_ref().map(KStr::detach),
        epoch: Some(member.member_epoch),
        subscribed: member.subscribed_topic_names.iter().map(KStr::detach).collect(),
        subscribed_pattern: member
            .subscribed_topic_regex
            .as_ref()
            .filter(|pattern| !pattern.is_empty())
            .map(KStr::detach),
        assigned: partitions(&member.assignment),
        target: Some(partitions(&member.target_assignment)),
    };
    GroupDescription {
        id: found.group_id.detach(),
        kind: GroupKind::Consumer,
        state: found.group_state.detach(),
        protocol_type: KStr::from_static(CONSUMERS),
        assignor: found.assignor_name.detach(),
        epoch: Some(found.group_epoch),
        assignment_epoch: Some(found.assignment_epoch),
        members: found.members.iter().map(member).collect(),
    }
}

fn partitions(assignment: &modern::Assignment) -> Vec<GroupPartitions> {
    let of_topic = |of: &modern::TopicPartitions| sorted(of.topic_name.detach(), of.partitions.clone());
    assignment.topic_partitions.iter().map(of_topic).collect()
}

fn classic_group(found: &DescribedGroup) -> GroupDescription {
    let are_consumers = &*found.protocol_type == CONSUMERS;
    let member = |member: &DescribedGroupMember| {
        // What other kinds of members tell each other is theirs; what is not well-formed is shown as nothing.
        let readable = |bytes: &Bytes| (are_consumers && !bytes.is_empty()).then(|| bytes.clone());
        let assigned = readable(&member.member_assignment).and_then(|bytes| read_assignment(&bytes).ok());
        let subscribed = readable(&member.member_metadata).and_then(|bytes| read_subscription(&bytes).ok());
        GroupMember {
            id: member.member_id.detach(),
            instance_id: member.group_instance_id.as_ref().map(KStr::detach),
            client_id: member.client_id.detach(),
            client_host: member.client_host.detach(),
            rack: None,
            epoch: None,
            subscribed: subscribed.unwrap_or_default(),
            subscribed_pattern: None,
            assigned: assigned.unwrap_or_default(),
            target: None,
        }
    };
    GroupDescription {
        id: found.group_id.detach(),
        kind: GroupKind::Classic,
        state: found.group_state.detach(),
        protocol_type: found.protocol_type.detach(),
        assignor: found.protocol_data.detach(),
        epoch: None,
        assignment_epoch: None,
        members: found.members.iter().map(member).collect(),
    }
}

/// Kafka's ConsumerProtocolAssignment: a version, then topics with partitions; what follows is the assignor's own.
fn read_assignment(bytes: &Bytes) -> Result<Vec<GroupPartitions>, DecodeError> {
    let mut reader = Reader::new(bytes);
    reader.i16()?;
    reader.array(Form::Classic, |reader| {
        let topic = reader.string(Form::Classic)?.detach();
        Ok(sorted(topic, reader.array(Form::Classic, Reader::i32)?))
    })
}

/// Kafka's ConsumerProtocolSubscription: a version, then names of topics; what follows is the assignor's own.
fn read_subscription(bytes: &Bytes) -> Result<Vec<KStr>, DecodeError> {
    let mut reader = Reader::new(bytes);
    reader.i16()?;
    reader.array(Form::Classic, |reader| Ok(reader.string(Form::Classic)?.detach()))
}

fn sorted(topic: KStr, mut partitions: Vec<i32>) -> GroupPartitions {
    partitions.sort_unstable();
    GroupPartitions { topic, partitions }
}

#[cfg(test)]
mod tests {
    use millstream_protocol::wire::Writer;

    use super::*;

    fn assignment(partitions: &[i32]) -> Bytes {
        let mut writer = Writer::new();
        writer.i16(3);
        let topics = [("orders", partitions)];
        let written = writer.array(Form::Classic, &topics, |writer, (topic, partitions)| {
            writer.string(Form::Classic, topic)?;
            writer.array(Form::Classic, partitions, |writer, index| {
                writer.i32(*index);
                Ok(())
            })
        });
        written.unwrap();
        writer.i32(-1);
        writer.into_chunks().into_iter().flat_map(|chunk| chunk.into_bytes()).collect()
    }

    #[test]
    fn an_assignment_is_read_and_put_in_order() {
        let read = read_assignment(&assignment(&[4, 0, 2])).unwrap();
        assert_eq!(read, [GroupPartitions { topic: KStr::from_static("orders"), partitions: vec![0, 2, 4] }]);
    }

    #[test]
    fn bytes_that_are_no_assignment_leave_the_member_without_one() {
        let member = DescribedGroupMember {
            member_assignment: Bytes::from_static(&[0, 1, 127, 255, 255, 255]),
            ..Default::default()
        };
        let group = DescribedGroup {
            protocol_type: KStr::from_static("consumer"),
            members: vec![member],
            ..Default::default()
        };
        assert_eq!(classic_group(&group).members[0].assigned, []);
    }

    #[test]
    fn what_members_of_another_kind_tell_each_other_is_not_read() {
        let member = DescribedGroupMember { member_assignment: assignment(&[0]), ..Default::default() };
        let group = |kind| DescribedGroup {
            protocol_type: KStr::from_static(kind),
            members: vec![member.clone()],
            ..Default::default()
        };
        assert_eq!(classic_group(&group("connect")).members[0].assigned, []);
        let consumers = classic_group(&group("consumer"));
        assert!(consumers.owner("orders", 0).is_some() && consumers.owner("orders", 1).is_none());
    }
}
