//! What Kafka's controllers answer: how the metadata is kept, and which features are in force.

pub(crate) mod describe_quorum;
pub(crate) mod features;
pub(crate) mod update_features;
