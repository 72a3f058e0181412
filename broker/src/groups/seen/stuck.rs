//! The stuck sign: a group is alive, more and more records wait, and nothing has been committed for a while.
//!
//! Of each partition that a group with members has committed for, we remember since when nothing was committed while
//! records waited, and how many waited then. It is stuck once that was `group.stuck.after.ms` ago and more wait now.
//! A consumer whose topic is idle is never stuck, nor is one that is slow but commits, nor a group that is stopped.
//! Goes by a clock that never jumps and not by the records' times, which are the producers' business.

use std::collections::HashMap;
use std::time::Duration;

use foldhash::fast::RandomState;
use millstream_protocol::KStr;

use crate::groups::turn::Millis;

/// Partitions of groups that are watched; beyond that none is found stuck.
const WATCHED_MAX: usize = 100_000;

/// A group in a partition, as seen now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Whether the group has members.
    pub(crate) is_alive: bool,
    pub(crate) committed: i64,
    pub(crate) committed_ms: i64,
    /// Records that wait.
    pub(crate) lag: u64,
}

/// Which group, and where.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Spot {
    pub(crate) group: KStr,
    pub(crate) topic: KStr,
    pub(crate) partition: i32,
}

/// What is remembered of one that makes no progress.
#[derive(Clone, Copy, Debug)]
struct Standstill {
    committed: i64,
    committed_ms: i64,
    since: Millis,
    lag_then: u64,
    /// Whether it was stuck then.
    is_stuck: bool,
    /// In which round it was seen last.
    round: u64,
}

/// Everything that is watched.
#[derive(Debug, Default)]
pub(crate) struct StuckWatch {
    standing: HashMap<Spot, Standstill, RandomState>,
    round: u64,
}

impl StuckWatch {
    /// A new look at all groups begins. What the last one did not see is forgotten.
    pub(crate) fn begin_round(&mut self) {
        let round = self.round;
        self.standing.retain(|_, standstill| standstill.round == round);
        self.round += 1;
    }

    /// Takes over what is seen of one, and says for how long it has been stuck, if it is.
    pub(crate) fn look(
        &mut self,
        now: Millis,
        after: Duration,
        spot: &Spot,
        seen: Progress,
    ) -> Option<Duration> {
        if !seen.is_alive {
            self.standing.remove(spot);
            return None;
        }
        let fresh = Standstill {
            committed: seen.committed,
            committed_ms: seen.committed_ms,
            since: now,
            lag_then: seen.lag,
            is_stuck: false,
            round: self.round,
        };
        if let Some(standstill) = self.standing.get_mut(spot) {
            let has_moved =
                (standstill.committed, standstill.committed_ms) != (seen.committed, seen.committed_ms);
            // Where nothing waits, nothing stands still: the time runs from the last such moment on.
            if has_moved || seen.lag == 0 {
                *standstill = fresh;
            }
            standstill.round = self.round;
            let stuck_for = standstill.stuck_for(now, after, seen.lag);
            standstill.is_stuck = stuck_for.is_some();
            return stuck_for;
        }
        if self.standing.len() < WATCHED_MAX {
            self.standing.insert(spot.clone(), fresh);
        }
        None
    }

    /// Whether the last look found one stuck.
    pub(crate) fn is_known_stuck(&self, spot: &Spot) -> bool {
        self.standing.get(spot).is_some_and(|standstill| standstill.is_stuck)
    }

    /// For how long one has been stuck by now, if it has.
    pub(crate) fn stuck_for(
        &self,
        now: Millis,
        after: Duration,
        spot: &Spot,
        seen: Progress,
    ) -> Option<Duration> {
        let standstill = self.standing.get(spot)?;
        let is_same = (standstill.committed, standstill.committed_ms) == (seen.committed, seen.committed_ms);
        (is_same && seen.is_alive).then(|| standstill.stuck_for(now, after, seen.lag)).flatten()
    }
}

impl Standstill {
    fn stuck_for(&self, now: Millis, after: Duration, lag: u64) -> Option<Duration> {
        let stood = now.since(self.since);
        (stood >= after && lag > self.lag_then).then_some(stood)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(300);

    fn spot() -> Spot {
        Spot { group: KStr::from_static("g"), topic: KStr::from_static("t"), partition: 0 }
    }

    fn seen(committed: i64, lag: u64) -> Progress {
        Progress { is_alive: true, committed, committed_ms: committed, lag }
    }

    /// What is said after looks at these seconds.
    fn watch(looks: &[(i64, Progress)]) -> Option<Duration> {
        let mut watch = StuckWatch::default();
        let mut said = None;
        for (second, seen) in looks {
            watch.begin_round();
            said = watch.look(Millis(second * 1000), AFTER, &spot(), *seen);
            assert_eq!(watch.stuck_for(Millis(second * 1000), AFTER, &spot(), *seen), said);
        }
        said
    }

    #[test]
    fn a_live_group_that_commits_nothing_while_more_and_more_waits_is_stuck() {
        assert_eq!(watch(&[(0, seen(5, 1)), (299, seen(5, 9))]), None);
        assert_eq!(watch(&[(0, seen(5, 1)), (300, seen(5, 9))]), Some(AFTER));
        assert_eq!(watch(&[(0, seen(5, 0)), (10, seen(5, 1)), (300, seen(5, 1))]), Some(AFTER));
    }

    #[test]
    fn a_commit_ends_it_even_one_that_does_not_move() {
        assert_eq!(watch(&[(0, seen(5, 1)), (300, seen(5, 9)), (305, seen(6, 9))]), None);
        let again = Progress { committed_ms: 77, ..seen(5, 9) };
        assert_eq!(watch(&[(0, seen(5, 1)), (300, seen(5, 9)), (305, again)]), None);
    }

    #[test]
    fn neither_an_idle_topic_nor_a_constant_lag_nor_a_stopped_group_is_stuck() {
        assert_eq!(watch(&[(0, seen(5, 0)), (10_000, seen(5, 0)), (10_005, seen(5, 1))]), None);
        assert_eq!(watch(&[(0, seen(5, 3)), (10_000, seen(5, 3))]), None);
        let stopped = Progress { is_alive: false, ..seen(5, 9) };
        assert_eq!(watch(&[(0, seen(5, 1)), (10_000, stopped)]), None);
        assert_eq!(watch(&[(0, seen(5, 1)), (400, stopped), (401, seen(5, 9)), (600, seen(5, 99))]), None);
    }

    #[test]
    fn what_is_not_seen_any_more_is_forgotten() {
        let mut watch = StuckWatch::default();
        watch.begin_round();
        watch.look(Millis(0), AFTER, &spot(), seen(5, 1));
        watch.begin_round();
        assert_eq!(watch.standing.len(), 1);
        watch.begin_round();
        assert_eq!(watch.standing.len(), 0);
    }
}
