//! The bytes of a record, which follow from its value alone.

use crate::history::{Process, Value};

/// The value of a process's n-th record.
pub(in crate::proof) fn value(process: Process, n: u32) -> Value {
    u64::from(process) << 32 | u64::from(n)
}

/// Key and value of the record that says this.
pub(in crate::proof) fn record(value: Value) -> ([u8; 4], Vec<u8>) {
    let key = (((value >> 32) as u32) ^ (value as u32 % 16)).to_be_bytes();
    // A filling of varying length: batches and segments shall not end at round numbers.
    let mut state = value.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = (state >> 58) as usize + 1;
    let mut bytes = value.to_be_bytes().to_vec();
    for _ in 0..words {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_be_bytes());
    }
    (key, bytes)
}

/// What a record says, if that can be told.
pub(in crate::proof) fn value_of(bytes: &[u8]) -> Option<Value> {
    Some(u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?))
}
