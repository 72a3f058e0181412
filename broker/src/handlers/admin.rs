//! What administrators ask: topics made, grown, emptied and deleted; settings and the cluster described.

pub(crate) mod compact_logs;
pub(crate) mod configs;
pub(crate) mod controller;
pub(crate) mod create_partitions;
pub(crate) mod create_topics;
pub(crate) mod delete_records;
pub(crate) mod delete_topics;
pub(crate) mod describe_cluster;
pub(crate) mod describe_log_dirs;
pub(crate) mod describe_producers;
pub(crate) mod describe_storage;
pub(crate) mod placement;

mod asked_partitions;
mod refused;
mod replicas;
