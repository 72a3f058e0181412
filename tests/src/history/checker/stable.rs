//! The last stable offset: readers of committed records stay behind it, it does not fall, and it does not stand still for longer
//! than a transaction may be open.

use super::log::{KeyLog, Mark, fallen};
use super::{Anomaly, Kind, Verdict};
use crate::history::{Isolation, Key};

/// How much longer than its timeout a transaction may hold others up.
const GRACE_US: u64 = 10_000_000;

pub(super) fn judge(key: Key, log: &KeyLog, longest_us: Option<u64>, verdict: &mut Verdict) {
    let mut found = |kind, offset| {
        let anomaly = Anomaly { kind, key, offset: Some(offset), value: None, process: None };
        verdict.anomalies.push(anomaly);
    };
    for offset in fallen(&log.marks, |mark| mark.last_stable) {
        found(Kind::StableFell, offset);
    }
    for offset in read_past(log) {
        found(Kind::ReadPastStable, offset);
    }
    if let Some(longest_us) = longest_us {
        for offset in stalled(&log.marks, longest_us + GRACE_US) {
            found(Kind::StableStalled, offset);
        }
    }
}

/// Offsets of committed readings that were not stable when somebody asked afterwards, of a log that had not lost its end
/// meanwhile: with it the marker may go, though not what it said.
fn read_past(log: &KeyLog) -> Vec<i64> {
    let mut marks: Vec<(&Mark, i64)> =
        log.marks.iter().filter_map(|mark| Some((mark, mark.last_stable?))).collect();
    marks.sort_unstable_by_key(|(mark, _)| mark.began_us);
    let committed = log.reads.iter().filter(|read| read.isolation == Isolation::Committed);
    let is_past = |offset: i64, ended_us: u64| {
        let (before, after) = marks.split_at(marks.partition_point(|(mark, _)| mark.began_us <= ended_us));
        let epoch = before.last().map(|(mark, _)| mark.leader_epoch);
        let next = after.first().filter(|(mark, _)| epoch.is_some_and(|epoch| mark.leader_epoch <= epoch));
        next.is_some_and(|(_, stable)| *stable <= offset)
    };
    committed.filter(|read| is_past(read.offset, read.ended_us)).map(|read| read.offset).collect()
}

/// Where the last stable offset stood for longer than this while there was more behind it.
fn stalled(marks: &[Mark], limit_us: u64) -> Vec<i64> {
    let mut told: Vec<(&Mark, i64)> =
        marks.iter().filter_map(|mark| Some((mark, mark.last_stable?))).collect();
    told.sort_unstable_by_key(|(mark, _)| mark.began_us);
    let mut stalled = Vec::new();
    let mut since: Option<(i64, u64)> = None;
    for (mark, stable) in told {
        if stable >= mark.high_watermark {
            since = None;
            continue;
        }
        match since {
            Some((at, from_us)) if at == stable => {
                if mark.began_us.saturating_sub(from_us) > limit_us {
                    stalled.push(stable);
                }
            }
            Some(_) | None => since = Some((stable, mark.ended_us)),
        }
    }
    stalled
}
