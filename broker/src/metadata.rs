//! What the cluster consists of: nodes, topics, and the ids that are handed out once.
//!
//! Everything durable here goes through `MetaStore` with compare-and-set; handlers read snapshots.

pub(crate) mod believed_time;
pub(crate) mod cluster_view;
pub(crate) mod features;
pub(crate) mod identity;
pub(crate) mod live_settings;
pub(crate) mod producer_ids;
pub(crate) mod topic_name;
pub(crate) mod topics;
