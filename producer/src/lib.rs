//! A producer: batching by size and linger, idempotence, back-pressure.
