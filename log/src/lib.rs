//! One partition's storage: segments, indexes, recovery, flush.
//!
//! A layer of its own, above record batches and below everything else. It refuses to know requests, topics,
//! peers and runtimes: appends come with a callback, waiters with a `Waker`, and calls that block on the disk
//! say so. It has no task and no thread, but for the pool that flushes.
//!
//! In reading order: [`Log`] is what the broker holds (`log`, and in it `writing`, `durability`, `reading`,
//! `deletion`, `reopening`, `failure`, `errors`). A batch is judged by `partition`, which is pure, and lies in a `segment` with its
//! indexes. `snapshot` is what is remembered beside the batches, `recovery` what is done with both when a
//! log is opened. [`Flusher`] makes logs durable, together. [`Disk`] and [`Clock`] are the seams to the
//! machine. Three pieces are lock-free and model checked: `combiner`, `tail`, `segment_list`, over `sync`.
//!
//! Promises, each with its test in `log/tests`:
//! - what was acknowledged [`Acks::Durable`] survives a power cut, [`Acks::Written`] a killed process;
//! - after either the log is a prefix of what was written, and opening it again gives the same;
//! - a failed write or flush is final: nothing is acknowledged after it until the log is reopened;
//! - index and snapshot files may be missing, short or garbage: answers are the same.

mod clock;
mod config;
mod ids;

mod log;
mod partition;
mod recovery;
mod segment;
mod snapshot;

mod combiner;
mod segment_list;
mod sync;
mod tail;

mod disk;
mod flusher;

#[cfg(any(test, feature = "sim"))]
pub use clock::ManualClock;
pub use clock::{BelievedClock, Clock, ClockState, LastBelieved, Pace, SystemClock};
pub use config::{CleanStart, CleanupPolicy, DurabilityMode, LogConfig, OpenOptions};
#[cfg(any(test, feature = "sim"))]
pub use disk::{Bites, Damage, PowerCut, SimDisk};
pub use disk::{Disk, DiskFile, IfMissing, MemoryDisk, RealDisk, Space};
pub use flusher::{FlushHere, FlushStats, Flusher};
pub use ids::{LeaderEpoch, Offset, ProducerId};
pub use log::{
    Acks, Append, AppendError, Appended, CompactError, CompactLimits, CompactProgress, Compacted,
    CompactionFacts, DeleteRecordsError, Demand, Dirtiness, Done, Failure, FailureKind, FirstBatch,
    FlushError, Leadership, Left, Log, NextDeletion, OpenError, QuarantinedRange, ReadError, ReadFrom,
    ReadSlice, ReopenError, RetentionError, ScrubFrom, ScrubReport, StorageFacts, Trimmed,
};
pub use millstream_protocol::records::TransactionOutcome;
pub use partition::{
    ActiveProducer, EpochRule, FirstSequence, InTransaction, Marker, OpenTransaction, TransactionGuard,
};
pub use recovery::{LostRange, Recovery, TornTail};
pub use segment::{AbortedTransaction, DamageCause, TimestampedOffset};
pub use tail::{Isolation, Offsets, Parked};
