//! Compaction: of each key the last record stays, and nothing else moves.
//!
//! A run goes through a log in two passes. The first reads the dirty range, which is what no run has been
//! through yet, and notes in a [`KeyMap`](key_map) of bounded size where each key was written last; when that
//! is full, the run ends there and the next one goes on. The second reads the log from its start to the end
//! of the run and writes those records that stay ([`survivors`]) into new files ([`rewrite`]), small neighbours
//! into one. Offsets, the ends of batches and producers' sequences stay as they were.
//!
//! Here are the parts that know nothing of a `Log`; `compacting` puts the new files in place, and
//! `recovery/swaps.rs` finishes that when the process is killed in between. A segment that is damaged is not
//! rewritten, so that no byte of it is lost, and tombstones behind it stay for as long as it is there.

use std::ops::Range;
use std::time::Duration;

use crate::config::LogConfig;
use crate::ids::Offset;

mod key_map;
mod rewrite;
mod sip;
mod source;
mod survivors;
mod transactions;

pub(crate) use rewrite::cleaned_path;
pub(super) use rewrite::{Cleaned, Meter, Run, RunStart, Stop};

/// When a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Only if the log is dirty enough, or has been dirty for too long.
    IfDue,
    /// At once; the active segment is closed, so that its records take part.
    Now,
}

/// What a run may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactLimits {
    /// When it begins.
    pub demand: Demand,
    /// Memory for the keys of one run, at 24 bytes each (`log.cleaner.dedupe.buffer.size`).
    pub dedupe_buffer_bytes: usize,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactProgress {
    /// Bytes read, both passes.
    pub read_bytes: u64,
    /// Bytes that will have been read at the end, as far as can be told.
    pub total_bytes: u64,
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Where the dirty range began.
    pub dirty_from: Offset,
    /// How far the log is clean now.
    pub cleaned_to: Offset,
    /// Whether memory for keys ran out: another run is needed to reach the end of what can be cleaned.
    pub more: bool,
    /// Bytes read, both passes.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Bytes of the segments that were gone through.
    pub bytes_before: u64,
    /// What became of them.
    pub bytes_after: u64,
    /// Records read in the second pass.
    pub records_before: u64,
    /// Records that went, among them tombstones.
    pub records_removed: u64,
    /// Different keys in the dirty range.
    pub keys: u64,
    /// Memory that they took.
    pub key_map_bytes: u64,
    /// Segments that were left as they are because they are damaged, by their first offsets.
    pub damaged: Vec<Offset>,
    /// How long it took.
    pub took: Duration,
}

/// How much there is to clean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dirtiness {
    /// Bytes that a run has been through.
    pub clean_bytes: u64,
    /// Bytes that no run has been through and one could.
    pub dirty_bytes: u64,
    /// Records wait longer than `max.compaction.lag.ms`.
    pub is_overdue: bool,
    /// A run is due.
    pub is_due: bool,
}

impl Dirtiness {
    /// Millionths of the log that are dirty.
    #[must_use]
    pub fn ratio_ppm(&self) -> u32 {
        let all = u128::from(self.clean_bytes) + u128::from(self.dirty_bytes);
        let ppm = (u128::from(self.dirty_bytes) * 1_000_000).checked_div(all).unwrap_or(0);
        u32::try_from(ppm).expect("at most a million")
    }
}

/// What is known of the runs of a log since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompactionFacts {
    /// Runs that came to their end.
    pub runs: u64,
    /// When the last of them ended, in milliseconds since 1970.
    pub last_success_ms: Option<i64>,
    /// What it did.
    pub last: Option<Compacted>,
    /// Why the last run failed, if it did.
    pub last_error: Option<String>,
    /// Bytes read by all runs.
    pub read_bytes: u64,
    /// Bytes written by all runs.
    pub written_bytes: u64,
    /// Records removed by all runs.
    pub records_removed: u64,
    /// Whether a run is under way.
    pub is_running: bool,
}

/// A segment, as far as grouping is concerned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) base: Offset,
    /// The first offset that is beyond it.
    pub(crate) end: Offset,
    pub(crate) bytes: u64,
    pub(crate) index_bytes: u64,
}

/// Cuts a row of segments into groups, each of which becomes one segment: by what they are now, not by what
/// will be left, so that a run needs no more disk than one segment at a time.
pub(crate) fn group(members: &[Member], config: &LogConfig) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let (mut bytes, mut index_bytes) = (0, 0);
    for (at, member) in members.iter().enumerate() {
        bytes += member.bytes;
        index_bytes += member.index_bytes;
        if let Some(last) = groups.last_mut() {
            // Offsets in the index are 31 bits, relative to the first segment.
            let offsets = member.end.get() - members[last.start].base.get();
            let fits = bytes <= config.segment_bytes
                && index_bytes <= config.index_bytes_max
                && offsets <= i64::from(i32::MAX);
            if fits {
                last.end = at + 1;
                continue;
            }
        }
        groups.push(at..at + 1);
        (bytes, index_bytes) = (member.bytes, member.index_bytes);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(base: i64, end: i64, bytes: u64) -> Member {
        Member { base: Offset::new(base), end: Offset::new(end), bytes, index_bytes: bytes / 100 }
    }

    #[test]
    fn neighbours_become_one_segment_as_far_as_limits_go() {
        let config = LogConfig { segment_bytes: 1000, index_bytes_max: 10, ..LogConfig::default() };
        let far = i64::from(i32::MAX);
        let members = [
            member(0, 10, 400),
            member(10, 20, 600),
            member(20, 30, 1),
            member(30, 20 + far, 1),
            member(20 + far, 21 + far, 1),
        ];
        assert_eq!(group(&members, &config), [0..2, 2..4, 4..5]);
        assert_eq!(group(&[member(0, 5, 5000)], &config).len(), 1, "a segment that is too large stays alone");
        assert_eq!(group(&[member(0, 5, 0), member(5, 9, 1001)], &config), [0..1, 1..2]);
        let config = LogConfig { index_bytes_max: 9, ..config };
        assert_eq!(group(&members[..2], &config), [0..1, 1..2]);
        assert!(group(&[], &config).is_empty());
    }

    #[test]
    fn the_ratio_is_dirty_of_all() {
        let ratio = |clean_bytes, dirty_bytes| {
            Dirtiness { clean_bytes, dirty_bytes, ..Dirtiness::default() }.ratio_ppm()
        };
        assert_eq!((ratio(0, 0), ratio(0, 1), ratio(3, 1)), (0, 1_000_000, 250_000));
        assert_eq!(ratio(u64::MAX, u64::MAX), 500_000);
    }
}
