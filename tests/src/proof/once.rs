//! What is promised to be there once: records of idempotent producers, and of transactions.

mod load;

pub(super) mod copier;
pub(super) mod exactly;
pub(super) mod idempotence;
