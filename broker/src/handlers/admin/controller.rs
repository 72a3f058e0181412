//! What Kafka's controllers answer: how the metadata is kept, and which levels its features have.

pub(crate) mod describe_quorum;
pub(crate) mod update_features;
