//! Reads a partition of `__consumer_offsets` from its start: what a shard is made of after a start, or after its
//! log failed. Blocks on the disk.

use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use millstream_log::{FirstBatch, Log, Offset, ReadError, ReadFrom};
use millstream_protocol::records::{self, BatchError, BatchView};
use millstream_protocol::wire::DecodeError;
use millstream_protocol::{Chunk, FileSlice};

use super::record::GroupRecord;
use super::shard::Shard;

/// Bytes that are read at a time.
const READ_BYTES: usize = 1 << 20;

/// Why a shard cannot be had from its log.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("its records cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("a batch of it cannot be unpacked: {0}")]
    Batch(#[from] BatchError),
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) shard: Shard,
    pub(super) records: u64,
    /// Records that are not what they say; they are left out.
    damaged: u64,
}

/// Replays everything that is in the log now; nobody appends meanwhile.
pub(super) fn load(log: &Log, decompressed_bytes_max: usize) -> Result<Loaded, LoadError> {
    let mut loaded = Loaded::default();
    let mut from = log.offsets().log_start;
    let end = log.offsets().log_end;
    while from < end {
        let wanted = ReadFrom { offset: from, max_bytes: READ_BYTES, first_batch: FirstBatch::Whole };
        let Some(chunk) = log.read(wanted)?.records else { break };
        for batch in records::batches(bytes_of(chunk)?) {
            let batch = batch?;
            from = Offset::new(BatchView::parse(&batch)?.last_offset() + 1);
            loaded.replay(&batch, decompressed_bytes_max)?;
        }
    }
    Ok(loaded)
}

impl Loaded {
    fn replay(&mut self, batch: &Bytes, decompressed_bytes_max: usize) -> Result<(), BatchError> {
        for record in records::records(batch, decompressed_bytes_max)? {
            let record = record?;
            self.records += 1;
            match record.key.as_ref().map(|key| GroupRecord::decode(key, record.value.as_ref())) {
                Some(Ok(Some(record))) => self.shard.replay(&record),
                // Another kind.
                Some(Ok(None)) => {}
                Some(Err(error)) => self.on_damaged(record.offset, &error),
                None => self.damaged += 1,
            }
        }
        Ok(())
    }

    fn on_damaged(&mut self, offset: i64, error: &DecodeError) {
        self.damaged += 1;
        if self.damaged == 1 {
            tracing::warn!(offset, %error, "a record of __consumer_offsets cannot be understood");
        }
    }
}

fn bytes_of(chunk: Chunk) -> io::Result<Bytes> {
    match chunk {
        Chunk::Bytes(bytes) => Ok(bytes),
        Chunk::File(FileSlice { file, offset, length }) => {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, offset)?;
            Ok(Bytes::from(bytes))
        }
    }
}
