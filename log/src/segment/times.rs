//! Finds records by their time. Rare, so it may read and decompress a batch.

use std::ops::Range;

use bytes::Bytes;
use millstream_protocol::records::{self, BatchHeader, Record};

use super::index::TimeEntry;
use super::{PROVE_AHEAD, PROVE_AHEAD_MIN, Piece, Segment, WalkError};
use crate::ids::{LeaderEpoch, Offset};
use crate::partition::{EpochHistory, NO_TIMESTAMP};

/// A batch may not decompress to more than this here, whatever the broker let in.
const DECOMPRESSED_BYTES_MAX: usize = 1 << 30;

/// A record and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampedOffset {
    /// The record.
    pub offset: Offset,
    /// Its timestamp in milliseconds.
    pub timestamp: i64,
    /// The leader epoch of its batch.
    pub leader_epoch: LeaderEpoch,
}

impl Segment {
    /// The first record of `visible` whose time is at least `timestamp`, of those that can be read.
    pub(crate) fn find_time(
        &self,
        timestamp: i64,
        visible: &Range<Offset>,
        epochs: &EpochHistory,
    ) -> Result<Option<TimestampedOffset>, WalkError> {
        if self.index().mark().newest.timestamp < timestamp {
            return Ok(None);
        }
        let start = match self.index().time_floor(self, timestamp)? {
            Some(entry) if !self.fits(entry, epochs)? => {
                self.index().rebuild(self, epochs)?;
                self.index().time_floor(self, timestamp)?
            }
            entry => entry,
        };
        // Batches before the entry's are all older, or the entry would have come before them.
        let from = start.map_or(self.base, |entry| self.base.advance(i64::from(entry.offset)));
        self.find_record(
            &(from.max(visible.start)..visible.end),
            visible,
            epochs,
            |header| header.max_timestamp >= timestamp,
            |record| record.timestamp >= timestamp,
        )
    }

    /// The first record of `visible` that has the largest time of them all, of those that can be read.
    pub(crate) fn find_newest(
        &self,
        visible: &Range<Offset>,
        epochs: &EpochHistory,
    ) -> Result<Option<TimestampedOffset>, WalkError> {
        let mark = self.index().mark().newest;
        let last = self.base.advance(i64::from(mark.offset));
        let first_with = |from: Offset, newest: i64| {
            self.find_record(
                &(from..visible.end),
                visible,
                epochs,
                |header| header.max_timestamp >= newest,
                |record| record.timestamp == newest,
            )
        };
        if mark.timestamp < 0 {
            return Ok(None);
        }
        if visible.contains(&last)
            && let Some(found) = first_with(last, mark.timestamp)?
        {
            return Ok(Some(found));
        }
        match self.newest_of(visible, epochs)? {
            ..0 => Ok(None),
            newest => first_with(visible.start, newest),
        }
    }

    fn newest_of(&self, visible: &Range<Offset>, epochs: &EpochHistory) -> Result<i64, WalkError> {
        let mut proving = self.proven_from(visible.start, epochs, PROVE_AHEAD)?;
        let mut newest = NO_TIMESTAMP;
        while let Some(piece) = proving.piece()? {
            let Piece::Batch(batch, header) = piece else { continue };
            if visible.contains(&batch.base_offset) && visible.contains(&batch.last_offset) {
                newest = newest.max(batch.max_timestamp);
            } else if batch.last_offset >= visible.start && batch.base_offset < visible.end {
                // The record that has the batch's largest time may be one that is not visible.
                for record in self.records_at(batch.position, &header)? {
                    let record = record.map_err(|_| WalkError::Corrupt { position: batch.position })?;
                    if visible.contains(&Offset::new(record.offset)) {
                        newest = newest.max(record.timestamp);
                    }
                }
            }
        }
        Ok(newest)
    }

    /// Whether the batch that a time entry names is there and has its time.
    fn fits(&self, entry: TimeEntry, epochs: &EpochHistory) -> Result<bool, WalkError> {
        let last = self.base.advance(i64::from(entry.offset));
        let mut proving = self.proven_from(last, epochs, PROVE_AHEAD_MIN)?;
        while let Some(piece) = proving.piece()? {
            match piece {
                Piece::Batch(batch, _) if batch.last_offset >= last => {
                    return Ok(batch.last_offset == last && batch.max_timestamp == entry.timestamp);
                }
                Piece::Damage(damage) if damage.offsets.end > last => return Ok(false),
                Piece::Batch(..) | Piece::Damage(_) => {}
            }
        }
        Ok(false)
    }

    fn find_record(
        &self,
        searched: &Range<Offset>,
        visible: &Range<Offset>,
        epochs: &EpochHistory,
        batch_may: impl Fn(&BatchHeader) -> bool,
        record_is: impl Fn(&Record) -> bool,
    ) -> Result<Option<TimestampedOffset>, WalkError> {
        let mut proving = self.proven_from(searched.start, epochs, PROVE_AHEAD_MIN)?;
        while let Some(piece) = proving.piece()? {
            let Piece::Batch(batch, header) = piece else { continue };
            if batch.base_offset >= searched.end {
                return Ok(None);
            }
            if batch.last_offset < searched.start || !batch_may(&header) {
                continue;
            }
            let position = batch.position;
            for record in self.records_at(position, &header)? {
                let record = record.map_err(|_| WalkError::Corrupt { position })?;
                let offset = Offset::new(record.offset);
                if visible.contains(&offset) && record_is(&record) {
                    return Ok(Some(TimestampedOffset {
                        offset,
                        timestamp: record.timestamp,
                        leader_epoch: LeaderEpoch::new(header.partition_leader_epoch),
                    }));
                }
            }
        }
        Ok(None)
    }

    fn records_at(&self, position: u64, header: &BatchHeader) -> Result<records::Records, WalkError> {
        // It was just proven that so many bytes are there.
        let mut batch = vec![0; header.size_in_bytes()];
        let read = self.file()?.read_at(&mut batch, position)?;
        batch.truncate(read);
        records::records(&Bytes::from(batch), DECOMPRESSED_BYTES_MAX)
            .map_err(|_| WalkError::Corrupt { position })
    }
}
