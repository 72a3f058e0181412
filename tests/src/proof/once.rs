//! What is promised to be there once: records of idempotent producers, and of transactions.

pub(super) mod idempotence;
