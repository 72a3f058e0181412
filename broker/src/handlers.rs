//! One file per API: the versions served, the rules, and what differs by version.

pub(crate) mod admin;
pub(crate) mod api_versions;
pub(crate) mod describe_topic_partitions;
pub(crate) mod fetch;
pub(crate) mod group;
pub(crate) mod init_producer_id;
pub(crate) mod list_offsets;
pub(crate) mod metadata;
pub(crate) mod offset_for_leader_epoch;
pub(crate) mod produce;
pub(crate) mod transaction;

mod authorized;
mod leader_told;
mod wire_errors;

use millstream_log::Isolation;

/// What a request's isolation level lets see. Levels that nobody has defined see what the first does.
fn isolation(level: i8) -> Isolation {
    match level {
        1 => Isolation::ReadCommitted,
        _ => Isolation::ReadUncommitted,
    }
}

/// Kafka's "no offset", "no timestamp".
const NONE: i64 = -1;

#[cfg(test)]
mod tests;
