//! The operations that a client is told it may perform. There is no authentication yet, so everybody may do
//! everything; a client that does not ask is told nothing (KIP-430).

/// Answered to a client that did not ask.
const NOT_ASKED: i32 = i32::MIN;

/// Operations as Kafka numbers them; the answer is a set of bits.
const READ: i32 = 1 << 3;
const WRITE: i32 = 1 << 4;
const CREATE: i32 = 1 << 5;
const DELETE: i32 = 1 << 6;
const ALTER: i32 = 1 << 7;
const DESCRIBE: i32 = 1 << 8;
const CLUSTER_ACTION: i32 = 1 << 9;
const DESCRIBE_CONFIGS: i32 = 1 << 10;
const ALTER_CONFIGS: i32 = 1 << 11;
const IDEMPOTENT_WRITE: i32 = 1 << 12;

pub(super) fn topic_operations(asked: bool) -> i32 {
    match asked {
        true => READ | WRITE | CREATE | DELETE | ALTER | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS,
        false => NOT_ASKED,
    }
}

pub(super) fn group_operations(asked: bool) -> i32 {
    match asked {
        true => READ | DELETE | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS,
        false => NOT_ASKED,
    }
}

pub(super) fn cluster_operations(asked: bool) -> i32 {
    match asked {
        true => {
            CREATE | ALTER | DESCRIBE | CLUSTER_ACTION | DESCRIBE_CONFIGS | ALTER_CONFIGS | IDEMPOTENT_WRITE
        }
        false => NOT_ASKED,
    }
}
