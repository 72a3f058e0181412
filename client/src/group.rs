//! What a consumer tells of itself, for those who commit its offsets in its stead.
//!
//! A producer that commits offsets inside a transaction is another crate than the consumer that read them; this
//! is what one hands to the other.

use std::error::Error;
use std::future::Future;

use crate::admin::NewOffset;

/// A group, and as whom its offsets are committed.
///
/// A consumer that is a member gives it along with what it read, so that a member that has been replaced in the
/// meantime cannot commit any more. [`GroupMetadata::new`] commits for a group without members.
///
/// ```
/// use millstream_client::GroupMetadata;
///
/// let group = GroupMetadata::new("copier");
/// assert_eq!((group.group.as_str(), group.generation), ("copier", -1));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupMetadata {
    /// The id of the group.
    pub group: String,
    /// The generation of the group, or the epoch of the member under the new protocol; -1 for none.
    pub generation: i32,
    /// The id that the member was given; empty for none.
    pub member_id: String,
    /// The name of a static member.
    pub instance_id: Option<String>,
}

impl GroupMetadata {
    /// A group whose partitions are assigned by hand.
    #[must_use]
    pub fn new(group: impl Into<String>) -> Self {
        Self { group: group.into(), generation: -1, member_id: String::new(), instance_id: None }
    }

    /// Commits as this member, in this generation or epoch.
    #[must_use]
    pub fn member(mut self, member_id: impl Into<String>, generation: i32) -> Self {
        self.member_id = member_id.into();
        self.generation = generation;
        self
    }

    /// The member is a static one of this name.
    #[must_use]
    pub fn instance(mut self, instance_id: impl Into<String>) -> Self {
        self.instance_id = Some(instance_id.into());
        self
    }
}

/// Where the input of transactions comes from: a consumer, for a producer that commits its offsets together with what it
/// has made of them.
///
/// What was handed out is open until [`done`](Self::done) or [`rewind`](Self::rewind).
pub trait Source: Send {
    /// What is handed out at a time.
    type Batch: Send;
    /// Why nothing can be handed out.
    type Error: Error + Send + Sync + 'static;

    /// Waits for the next batch; `None` at the end.
    fn next_batch(&mut self) -> impl Future<Output = Result<Option<Self::Batch>, Self::Error>> + Send;

    /// For each partition of what is open, the offset behind it.
    fn offsets(&self) -> Vec<NewOffset>;

    /// As whom they are committed. `None`: they are not.
    fn group(&self) -> Option<GroupMetadata>;

    /// What is open is committed.
    fn done(&mut self);

    /// What is open is not committed: it is handed out again.
    fn rewind(&mut self);
}
