//! Taking members out of a group.

use millstream_protocol::messages::LeaveGroupRequest;
use millstream_protocol::messages::leave_group_request::MemberIdentity;
use millstream_protocol::{ErrorCode, KStr};

use super::super::{Admin, judge, refusal, unanswered};
use crate::connection::CallOptions;
use crate::error::{ClientError, Refusal};

/// From this version on members can be named that are not those who ask.
const OTHERS_FROM: i16 = 3;

/// A member to take out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remove<'a> {
    /// The one with this id.
    Member(&'a str),
    /// The static one of this name, whatever its id is at the moment.
    Instance(&'a str),
}

/// Why a member was not taken out.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveMemberError {
    /// The group has none like this.
    #[error("group {group:?} has no member {member:?}")]
    UnknownMember {
        /// The group.
        group: String,
        /// Its id or name.
        member: String,
    },
    /// The broker refuses.
    #[error("{0}")]
    Refused(Refusal),
    /// The request got no usable answer.
    #[error(transparent)]
    Request(#[from] ClientError),
}
judge!(RemoveMemberError, UnknownMember);

impl Admin {
    /// Takes a member out of a classic group, as if it had left: its partitions go to the others. A static member that is
    /// gone for good keeps its partitions until this, or until its session is over.
    ///
    /// ```no_run
    /// # async fn example(client: millstream_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use millstream_client::Remove;
    ///
    /// client.admin().remove_member("billing", Remove::Instance("billing-3")).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`RemoveMemberError::UnknownMember`]; or that the broker refuses, is older than Kafka 2.4, or cannot be asked.
    pub async fn remove_member(&self, group: &str, remove: Remove<'_>) -> Result<(), RemoveMemberError> {
        let (member_id, instance) = match remove {
            Remove::Member(id) => (id, None),
            Remove::Instance(name) => ("", Some(name)),
        };
        let identity = MemberIdentity {
            member_id: KStr::from(member_id),
            group_instance_id: instance.map(KStr::from),
            ..Default::default()
        };
        let request =
            &LeaveGroupRequest { group_id: KStr::from(group), members: vec![identity], ..Default::default() };
        self.at_coordinator(group, async |connection| {
            let subject = || format!("taking a member out of group {group:?}");
            if connection.version_of::<LeaveGroupRequest>(CallOptions::default())? < OTHERS_FROM {
                let message = Some("the broker is older than Kafka 2.4".to_owned());
                let code = ErrorCode::UnsupportedVersion;
                return Err(RemoveMemberError::Refused(Refusal { subject: subject(), code, message }));
            }
            let answer = connection.send(request, CallOptions::default()).await?.await?;
            let judge = |code| {
                refusal(code, None, subject).map_err(|refusal| match refusal.code {
                    ErrorCode::UnknownMemberId => RemoveMemberError::UnknownMember {
                        group: group.to_owned(),
                        member: instance.unwrap_or(member_id).to_owned(),
                    },
                    _ => RemoveMemberError::Refused(refusal),
                })
            };
            judge(answer.error_code)?;
            let found = answer.members.first();
            judge(found.ok_or_else(|| RemoveMemberError::Refused(unanswered(subject())))?.error_code)
        })
        .await
    }
}
