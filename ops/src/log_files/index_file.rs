//! The indexes of a segment, in Kafka's format: two that are sparse, and one of what was aborted.
//!
//! ```text
//! .index      entry of 8 bytes    offset - base i32, position in the .log i32
//! .timeindex  entry of 12 bytes   timestamp i64 (ms), offset - base i32
//! .txnindex   entry of 34 bytes   version i16, producer i64, first offset i64, offset of the marker i64,
//!                                 last stable offset i64
//! ```
//! Big-endian. Offsets in the first two are relative so that an entry stays small; the base is the file's name.

use std::fs;
use std::path::Path;

use anyhow::Context;

use super::segment_file::SegmentFile;

/// An entry of an `.index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OffsetEntry {
    pub(super) offset: i64,
    pub(super) position: u64,
}

/// An entry of a `.timeindex`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimeEntry {
    pub(super) timestamp: i64,
    pub(super) offset: i64,
}

/// An entry of a `.txnindex`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TxnEntry {
    pub(super) version: i16,
    pub(super) producer: i64,
    pub(super) first_offset: i64,
    pub(super) marker: i64,
    pub(super) last_stable: i64,
}

/// The entries of an index, and how many bytes at its end are not a whole entry.
#[derive(Debug)]
pub(super) struct IndexFile<E> {
    pub(super) entries: Vec<E>,
    pub(super) rest: usize,
}

/// Reads an `.index`. Such a file is small (10 MiB at most by default), so it is read as a whole.
pub(super) fn read_offset_index(path: &Path, base: i64) -> anyhow::Result<IndexFile<OffsetEntry>> {
    read(path, |entry: &[u8; 8]| {
        let [a, b, c, d, e, f, g, h] = *entry;
        OffsetEntry {
            offset: base + i64::from(i32::from_be_bytes([a, b, c, d])),
            position: u64::from(u32::from_be_bytes([e, f, g, h])),
        }
    })
}

/// Reads a `.timeindex`.
pub(super) fn read_time_index(path: &Path, base: i64) -> anyhow::Result<IndexFile<TimeEntry>> {
    read(path, |entry: &[u8; 12]| {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *entry;
        TimeEntry {
            timestamp: i64::from_be_bytes([a, b, c, d, e, f, g, h]),
            offset: base + i64::from(i32::from_be_bytes([i, j, k, l])),
        }
    })
}

/// Reads a `.txnindex`.
pub(super) fn read_txn_index(path: &Path) -> anyhow::Result<IndexFile<TxnEntry>> {
    read(path, |entry: &[u8; 34]| {
        let number = |at: usize| {
            i64::from_be_bytes(entry[2 + 8 * at..][..8].try_into().expect("the entry is 34 bytes long"))
        };
        TxnEntry {
            version: i16::from_be_bytes([entry[0], entry[1]]),
            producer: number(0),
            first_offset: number(1),
            marker: number(2),
            last_stable: number(3),
        }
    })
}

fn read<E, const N: usize>(path: &Path, decode: impl Fn(&[u8; N]) -> E) -> anyhow::Result<IndexFile<E>> {
    let bytes = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let (entries, rest) = bytes.as_chunks::<N>();
    // Room taken in advance is zeros; in both formats only the first entry can be all zeros.
    let used =
        entries.iter().rposition(|entry| entry.iter().any(|byte| *byte != 0)).map_or(0, |last| last + 1);
    Ok(IndexFile { entries: entries[..used].iter().map(decode).collect(), rest: rest.len() })
}

/// Bytes between two entries, as a broker leaves them unless told otherwise (`index.interval.bytes`).
const INTERVAL_BYTES: u64 = 4096;

/// Both indexes of a segment.
#[derive(Debug, Default)]
pub(super) struct Built {
    pub(super) offsets: Vec<u8>,
    pub(super) times: Vec<u8>,
}

/// Makes the indexes of a segment from its batches, up to the first that is no batch.
pub(super) fn build(segment: &mut SegmentFile, base: i64) -> anyhow::Result<Built> {
    let mut built = Built::default();
    let (mut last_position, mut last_time) = (0, -1);
    let mut newest = (-1, 0);
    while let Some(Ok(located)) = segment.next()? {
        let relative = i32::try_from(located.header.last_offset() - base);
        // What cannot be believed is not pointed at.
        let Ok(relative) = relative.map(|relative| relative.max(0)) else { break };
        if !located.crc_is_valid {
            continue;
        }
        if located.header.max_timestamp > newest.0 {
            newest = (located.header.max_timestamp, relative);
        }
        let position = u32::try_from(located.position).context("a segment is smaller than 2 GiB")?;
        if located.position - last_position > INTERVAL_BYTES {
            built.offsets.extend(relative.to_be_bytes());
            built.offsets.extend(position.to_be_bytes());
            last_position = located.position;
            note_time(&mut built.times, newest, &mut last_time);
        }
    }
    note_time(&mut built.times, newest, &mut last_time);
    Ok(built)
}

fn note_time(times: &mut Vec<u8>, (timestamp, relative): (i64, i32), last_time: &mut i64) {
    if timestamp > *last_time {
        times.extend(timestamp.to_be_bytes());
        times.extend(relative.to_be_bytes());
        *last_time = timestamp;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_relative_to_the_base_and_padding_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("00000000000000000100.index");
        let bytes = [[0, 0, 0, 7, 0, 0, 16, 0], [0; 8]].concat();
        fs::write(&path, [bytes.as_slice(), &[1]].concat()).unwrap();
        let index = read_offset_index(&path, 100).unwrap();
        assert_eq!(index.entries, [OffsetEntry { offset: 107, position: 4096 }]);
        assert_eq!(index.rest, 1);
    }
}
