//! Reads a partition of an internal topic from its start: what a machine is made of after a start, or after its log
//! failed. Blocks on the disk.

use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use millstream_log::{FirstBatch, FlushError, Isolation, Log, Offset, ProducerId, ReadError, ReadFrom};
use millstream_protocol::records::{self, BatchError, BatchView, EndMarker};
use millstream_protocol::{Chunk, FileSlice};

use super::format::RecordError;
use super::{Author, StateMachine};

/// Bytes that are read at a time.
const READ_BYTES: usize = 1 << 20;

/// Why a machine cannot be had from its log.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error(transparent)]
    Flush(#[from] FlushError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("its records cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("a batch of it cannot be unpacked: {0}")]
    Batch(#[from] BatchError),
    #[error("there is no batch at offset {at}")]
    NoBatch { at: Offset },
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Loaded<M> {
    pub(super) machine: M,
    pub(super) records: u64,
    /// Records that are not what they say; they are left out.
    damaged: u64,
}

/// Replays everything that is in the log now, once it is on disk; nobody appends meanwhile.
///
/// After a kill the end of the log may be in the page cache only. Answers and markers that rest on it wait for nothing, as
/// it was not appended by this process; a power cut would take back what they were given for.
pub(super) fn load<M: StateMachine>(
    log: &Log,
    decompressed_bytes_max: usize,
) -> Result<Loaded<M>, LoadError> {
    log.flush()?;
    let mut loaded = Loaded::<M>::default();
    let mut from = log.offsets().log_start;
    let end = log.offsets().high_watermark;
    while from < end {
        let wanted = ReadFrom {
            offset: from,
            max_bytes: READ_BYTES,
            first_batch: FirstBatch::Whole,
            isolation: Isolation::ReadUncommitted,
        };
        let chunk = match log.read(wanted) {
            Ok(slice) => slice.records,
            // What is behind the damage is not given up for it.
            Err(error @ ReadError::Corrupt { .. }) => {
                from = behind::<M>(error, from)?;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        // Compaction has left nothing more.
        let Some(chunk) = chunk else { break };
        let before = from;
        // The slice may end within a batch, which is read next.
        for batch in records::batches(bytes_of(chunk)?) {
            let batch = batch?;
            from = Offset::new(BatchView::parse(&batch)?.last_offset() + 1);
            loaded.replay(&batch, decompressed_bytes_max)?;
        }
        if from == before {
            return Err(LoadError::NoBatch { at: from });
        }
    }
    Ok(loaded)
}

/// Where to go on after damage.
fn behind<M: StateMachine>(damage: ReadError, from: Offset) -> Result<Offset, ReadError> {
    match damage {
        ReadError::Corrupt { ref lost, .. } if lost.end > from => {
            tracing::error!(error = %damage, "records of {} are lost to damage on the disk", M::TOPIC);
            Ok(lost.end)
        }
        other => Err(other),
    }
}

impl<M: StateMachine> Loaded<M> {
    fn replay(&mut self, batch: &Bytes, decompressed_bytes_max: usize) -> Result<(), BatchError> {
        let view = BatchView::parse(batch)?;
        let author = Author { producer: ProducerId::new(view.producer_id()), epoch: view.producer_epoch() };
        if view.is_control() {
            if let Some(marker) = EndMarker::from_batch(&view) {
                self.machine.on_transaction_ended(author.producer, marker.outcome);
            }
            return Ok(());
        }
        let author = view.is_transactional().then_some(author);
        for record in records::records(batch, decompressed_bytes_max)? {
            let record = record?;
            self.records += 1;
            match record.key.as_ref().map(|key| M::decode(key, record.value.as_ref())) {
                Some(Ok(Some(record))) => self.machine.replay(&record, author),
                // Another kind.
                Some(Ok(None)) => {}
                Some(Err(error)) => self.on_damaged(record.offset, &error),
                None => self.damaged += 1,
            }
        }
        Ok(())
    }

    fn on_damaged(&mut self, offset: i64, error: &RecordError) {
        self.damaged += 1;
        if self.damaged == 1 {
            tracing::warn!(offset, %error, "a record of {} cannot be understood", M::TOPIC);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millstream_log::{
        Acks, Append, CleanStart, Clock, Disk, Flusher, LeaderEpoch, LogConfig, ManualClock, OpenOptions,
        SimDisk,
    };
    use millstream_protocol::records::{BatchBuilder, Compression, NewRecord};

    use super::*;
    use crate::groups::Shard;

    #[test]
    fn nothing_rests_on_records_that_a_power_cut_could_still_take() {
        let disk = SimDisk::new();
        disk.create_dir("/log".as_ref()).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(1));
        let (log, _) = Log::open(OpenOptions {
            disk: Arc::new(disk),
            clock: Arc::clone(&clock),
            // Nobody steps it: what is durable was flushed on the spot.
            flusher: Flusher::stepped(clock),
            dir: "/log".into(),
            config: LogConfig::default(),
            leader_epoch: LeaderEpoch::new(1),
            clean: CleanStart::No,
        })
        .unwrap();
        let mut builder = BatchBuilder::new(Compression::None);
        builder.append(&NewRecord { timestamp: 1, key: None, value: Some(b"v"), headers: &[] });
        let batch = builder.build();
        let header = BatchView::parse(&batch).unwrap().header();
        let append = Append { batch, header, acks: Acks::Written, transaction: None };
        drop(log.append(append, Box::new(|result| assert!(result.is_ok()))));
        assert!(log.durable_point() < log.offsets().log_end, "what a kill leaves in memory");
        load::<Shard>(&log, 1 << 20).unwrap();
        assert_eq!(log.durable_point(), log.offsets().log_end);
    }
}
