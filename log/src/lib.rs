//! One partition's storage: segments, indexes, recovery, flush.
