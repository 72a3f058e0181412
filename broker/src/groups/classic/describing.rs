//! A group as DescribeGroups shows it.

use millstream_protocol::KStr;
use millstream_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};

use super::{ClassicGroup, Phase};

impl ClassicGroup {
    /// Kafka shows what the members told, and by which protocol, only while the group is stable.
    pub(crate) fn describe(&self) -> DescribedGroup {
        let protocol = match &self.phase {
            Phase::Stable(_) => self.protocol.clone(),
            Phase::Empty | Phase::Preparing(_) | Phase::Completing(_) => None,
        };
        let members = self.members.iter().map(|member| DescribedGroupMember {
            member_id: member.id.clone(),
            group_instance_id: member.instance_id.clone(),
            client_id: member.caller.client_id.clone(),
            client_host: member.caller.host.clone(),
            member_metadata: protocol.as_deref().map(|name| member.metadata(name)).unwrap_or_default(),
            member_assignment: member.assignment.clone(),
        });
        DescribedGroup {
            group_id: self.id.clone(),
            group_state: KStr::from_static(self.state()),
            protocol_type: self.protocol_type.clone(),
            members: members.collect(),
            protocol_data: protocol.unwrap_or_default(),
            ..DescribedGroup::default()
        }
    }
}
