//! The two sparse indexes of a segment, in Kafka's format.
//!
//! ```text
//! .index      entry of 8 bytes    offset - base i32, position in the .log i32
//! .timeindex  entry of 12 bytes   timestamp i64 (ms), offset - base i32
//! ```
//! Big-endian. Offsets are relative so that an entry stays small; the base is the file's name.

use std::fs;
use std::path::Path;

use anyhow::Context;

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

fn read<E, const N: usize>(path: &Path, decode: impl Fn(&[u8; N]) -> E) -> anyhow::Result<IndexFile<E>> {
    let bytes = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let (entries, rest) = bytes.as_chunks::<N>();
    // Room taken in advance is zeros; in both formats only the first entry can be all zeros.
    let used =
        entries.iter().rposition(|entry| entry.iter().any(|byte| *byte != 0)).map_or(0, |last| last + 1);
    Ok(IndexFile { entries: entries[..used].iter().map(decode).collect(), rest: rest.len() })
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
