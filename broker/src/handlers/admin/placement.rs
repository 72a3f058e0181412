//! Which broker has which partition. There is one broker, so that every answer is known; the requests are served all
//! the same because tools ask them by the way.

pub(crate) mod alter_reassignments;
pub(crate) mod elect_leaders;
pub(crate) mod list_reassignments;
