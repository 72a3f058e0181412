//! Consumer groups: listing, describing and deleting them, their committed offsets, and how far they are behind.
//!
//! What is asked of one group goes to its coordinator, which is found anew when it turns out to be another.
//! Names of states are the broker's own words, because brokers disagree on them and have more with each release.

mod description;
mod lag;
mod listing;
mod offsets;
mod removal;

use millstream_protocol::messages::DeleteGroupsRequest;
use millstream_protocol::{ErrorCode, KStr, Request};

use super::{Admin, Judged, judge, refusal, unanswered};
use crate::client::To;
use crate::connection::{CallOptions, Connection};
use crate::error::{ClientError, Refusal};

pub use description::{DescribeGroupError, GroupDescription, GroupKind, GroupMember, GroupPartitions};
pub use lag::{GroupLag, GroupLagError, PartitionLag};
pub use listing::{GroupFilter, GroupListing, ListGroupsError};
pub use offsets::{
    CommitOffsetsError, CommittedOffset, CommittedOffsetsError, DeleteOffsetsError, NewOffset,
};
pub use removal::{Remove, RemoveMemberError};

/// Why a group was not deleted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DeleteGroupError {
    /// There is none of this id.
    #[error("there is no group {group:?}")]
    UnknownGroup {
        /// Its id.
        group: String,
    },
    /// It has members.
    #[error("group {group:?} has members; stop them first")]
    NotEmpty {
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
judge!(DeleteGroupError, UnknownGroup, NotEmpty);

impl Admin {
    /// Deletes a group that has no members, and everything it has committed.
    ///
    /// # Errors
    /// [`DeleteGroupError::UnknownGroup`], [`DeleteGroupError::NotEmpty`]; or that the broker refuses, or cannot
    /// be asked.
    pub async fn delete_group(&self, group: &str) -> Result<(), DeleteGroupError> {
        let request = &DeleteGroupsRequest { groups_names: vec![KStr::from(group)] };
        self.at_coordinator(group, async |connection| {
            let answer = connection.send(request, CallOptions::default()).await?.await?;
            let subject = || format!("deleting group {group:?}");
            let found = answer.results.iter().find(|result| &*result.group_id == group);
            let found = found.ok_or_else(|| DeleteGroupError::Refused(unanswered(subject())))?;
            let group = || group.to_owned();
            refusal(found.error_code, None, subject).map_err(|refusal| match refusal.code {
                ErrorCode::GroupIdNotFound => DeleteGroupError::UnknownGroup { group: group() },
                ErrorCode::NonEmptyGroup => DeleteGroupError::NotEmpty { group: group() },
                _ => DeleteGroupError::Refused(refusal),
            })
        })
        .await
    }

    /// Runs `attempt` over a connection to the group's coordinator, as [`Admin::retry`] does. Whatever fails in a
    /// way that may pass, the coordinator is looked up anew: it may have been another's turn.
    async fn at_coordinator<T, E>(
        &self,
        group: &str,
        attempt: impl AsyncFn(Connection) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: Judged + From<ClientError>,
    {
        self.retry(async || {
            let answered = match self.client.connection(To::Coordinator(group)).await {
                Ok(connection) => attempt(connection).await,
                Err(error) => Err(error.into()),
            };
            if answered.as_ref().is_err_and(Judged::may_be_repeated) {
                self.client.forget_coordinator(group);
            }
            answered
        })
        .await
    }
}

/// Whether the broker behind a connection knows a request at all.
fn serves<R: Request>(connection: &Connection) -> bool {
    connection.version_of::<R>(CallOptions::default()).is_ok()
}

#[cfg(test)]
mod tests;
