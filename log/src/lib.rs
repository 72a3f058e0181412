//! One partition's storage: segments, indexes, recovery, flush.

mod clock;
mod config;
mod disk;
mod flusher;
mod ids;
mod log;

pub use clock::{Clock, SystemClock};
pub use config::{CleanStart, LogConfig, OpenOptions};
pub use disk::{Disk, DiskFile, IfMissing, RealDisk};
pub use flusher::Flusher;
pub use ids::{LeaderEpoch, Offset, ProducerId};
pub use log::{
    Acks, Append, AppendError, Appended, DeleteRecordsError, Done, FirstBatch, FlushError, Leadership, Log,
    Offsets, OpenError, Parked, ReadError, ReadFrom, ReadSlice, Recovery, TimestampedOffset, TornTail,
};
