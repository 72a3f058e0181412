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

/// The answers to what was asked already, in the order of the questions.
///
/// Not `join_all`: once a task has had its turn, that looks at all that are left each time that it goes on, which for a
/// request that names half a million groups takes minutes of a processor.
async fn answers<F: Future>(asked: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let asked = asked.into_iter();
    let mut answers = Vec::with_capacity(asked.size_hint().0);
    for one in asked {
        answers.push(one.await);
    }
    answers
}

/// Kafka's "no offset", "no timestamp".
const NONE: i64 = -1;

#[cfg(test)]
mod tests;
