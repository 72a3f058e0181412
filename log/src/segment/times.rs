//! Finds records by their time. Rare, so it may read and decompress a batch.

use std::ops::Range;

use bytes::Bytes;
use millstream_protocol::records::{self, BatchHeader, Record};

use super::index::TimeEntry;
use super::{HeaderWalk, Segment, WalkError};
use crate::ids::{LeaderEpoch, Offset};

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
    /// The first record of `visible` whose time is at least `timestamp`.
    pub(crate) fn find_time(
        &self,
        timestamp: i64,
        visible: &Range<Offset>,
    ) -> Result<Option<TimestampedOffset>, WalkError> {
        if self.index().mark().newest.timestamp < timestamp {
            return Ok(None);
        }
        let start = match self.index().time_floor(self, timestamp)? {
            Some(entry) if !self.fits(entry)? => {
                self.index().rebuild(self)?;
                self.index().time_floor(self, timestamp)?
            }
            entry => entry,
        };
        // Batches before the entry's are all older, or the entry would have come before them.
        let from = start.map_or(self.base, |entry| self.base.advance(i64::from(entry.offset)));
        self.find_record(
            self.position_of(from.max(visible.start))?,
            visible,
            |header| header.max_timestamp >= timestamp,
            |record| record.timestamp >= timestamp,
        )
    }

    /// The first record of `visible` that has the largest time of them all.
    pub(crate) fn find_newest(
        &self,
        visible: &Range<Offset>,
    ) -> Result<Option<TimestampedOffset>, WalkError> {
        let mark = self.index().mark().newest;
        let last = self.base.advance(i64::from(mark.offset));
        let newest = match visible.contains(&last) {
            true => mark.timestamp,
            false => self.newest_of(visible)?,
        };
        if newest < 0 {
            return Ok(None);
        }
        let position = match visible.contains(&last) {
            true => self.position_of(last)?,
            false => self.position_of(visible.start)?,
        };
        self.find_record(
            position,
            visible,
            |header| header.max_timestamp == newest,
            |record| record.timestamp == newest,
        )
    }

    fn newest_of(&self, visible: &Range<Offset>) -> Result<i64, WalkError> {
        let mut walk =
            HeaderWalk::new(&**self.file()?, self.position_of(visible.start)?..self.extent().bytes);
        let mut newest = crate::partition::NO_TIMESTAMP;
        while let Some((_, header)) = walk.next()? {
            if header.last_offset() < visible.end.get() {
                newest = newest.max(header.max_timestamp);
            }
        }
        Ok(newest)
    }

    /// Whether the batch that a time entry names is there and has its time.
    fn fits(&self, entry: TimeEntry) -> Result<bool, WalkError> {
        let last = self.base.advance(i64::from(entry.offset));
        let position = self.position_of(last)?;
        let mut walk = HeaderWalk::new(&**self.file()?, position..self.extent().bytes);
        let batch = walk.next()?;
        Ok(batch.is_some_and(|(_, header)| {
            header.last_offset() == last.get() && header.max_timestamp == entry.timestamp
        }))
    }

    fn find_record(
        &self,
        position: u64,
        visible: &Range<Offset>,
        batch_may: impl Fn(&BatchHeader) -> bool,
        record_is: impl Fn(&Record) -> bool,
    ) -> Result<Option<TimestampedOffset>, WalkError> {
        let mut walk = HeaderWalk::new(&**self.file()?, position..self.extent().bytes);
        while let Some((position, header)) = walk.next()? {
            if header.base_offset >= visible.end.get() {
                return Ok(None);
            }
            if !batch_may(&header) {
                continue;
            }
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
        // The walk has checked that so many bytes are there.
        let mut batch = vec![0; header.size_in_bytes()];
        let read = self.file()?.read_at(&mut batch, position)?;
        batch.truncate(read);
        records::records(&Bytes::from(batch), DECOMPRESSED_BYTES_MAX)
            .map_err(|_| WalkError::Corrupt { position })
    }
}
