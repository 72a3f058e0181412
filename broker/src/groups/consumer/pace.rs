//! How often members of the new protocol are asked to come. A change reaches a member with the answer to its next
//! heartbeat, so whoever is to settle soon has to come often.
//!
//! A heartbeat is never held back until there is news, which would tell sooner still: a client has one on its way at a
//! time, so that it could not tell that it leaves or has given partitions back, and answers on a connection leave in
//! the order of the requests, so that its commits would wait behind it.

use std::time::Duration;

use crate::groups::turn::Millis;
use crate::settings::Pace;

/// How often members come while a group changes, if they do not come more often anyway. One that has nothing to do
/// for five seconds would hold up everybody who waits for its partitions.
const WHILE_CHANGING: Duration = Duration::from_millis(300);
/// How often they come to a quiet group, as long as they are few: the last one hears of a change so soon.
const WHILE_FEW: Duration = Duration::from_millis(750);
/// How many heartbeats a second all members together send at most when all is quiet; beyond that they come more
/// seldom, up to the setting.
const BEATS_PER_SECOND: u32 = 2_000;
/// How long a shard's count of its own members holds.
const COUNT_EACH: Duration = Duration::from_secs(1);

/// How many members there are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Crowd {
    /// Of the shard, as of the last second.
    here: usize,
    counted_at: Option<Millis>,
    /// Of all shards, as they were when all groups were looked at last.
    everywhere: usize,
}

impl Crowd {
    /// This, or what `count` finds if it is time to look again.
    pub(crate) fn refreshed(self, now: Millis, count: impl FnOnce() -> usize) -> Self {
        match self.counted_at {
            Some(at) if now < at.after(COUNT_EACH) => self,
            Some(_) | None => Self { here: count(), counted_at: Some(now), ..self },
        }
    }

    /// This, with so many members in all shards.
    pub(crate) fn told(self, everywhere: usize) -> Self {
        Self { everywhere, ..self }
    }

    /// When a member is to come again. What somebody has set is obeyed, but for a group that changes.
    pub(super) fn interval(self, pace: Pace, is_changing: bool) -> Duration {
        let most = pace.heartbeat_interval;
        if is_changing {
            return most.min(WHILE_CHANGING);
        }
        if pace.heartbeat_is_set {
            return most;
        }
        let members = u32::try_from(self.here.max(self.everywhere)).unwrap_or(u32::MAX);
        let shared = Duration::from_secs(1).saturating_mul(members) / BEATS_PER_SECOND;
        shared.max(WHILE_FEW).min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(crowd: Crowd, is_set: bool, is_changing: bool) -> u128 {
        let pace = Pace {
            heartbeat_interval: Duration::from_secs(5),
            heartbeat_is_set: is_set,
            session_timeout: Duration::from_secs(45),
            assignment_interval: Duration::ZERO,
        };
        crowd.interval(pace, is_changing).as_millis()
    }

    fn told(here: usize, is_set: bool, is_changing: bool) -> u128 {
        interval(Crowd { here, ..Crowd::default() }, is_set, is_changing)
    }

    #[test]
    fn few_members_come_often_and_many_as_seldom_as_the_setting_says() {
        assert_eq!([1, 100, 1_500].map(|members| told(members, false, false)), [750; 3]);
        assert_eq!(told(4_000, false, false), 2_000);
        assert_eq!([10_000, 1_000_000].map(|members| told(members, false, false)), [5_000; 2]);
    }

    #[test]
    fn members_of_other_shards_count_as_well() {
        let crowd = Crowd { here: 200, ..Crowd::default() };
        assert_eq!(interval(crowd, false, false), 750);
        assert_eq!(interval(crowd.told(10_000), false, false), 5_000);
        assert_eq!(interval(crowd.told(10_000), false, true), 300);
        // Those who came since the last look are seen at least by their own shard.
        assert_eq!(interval(Crowd { here: 4_000, ..crowd }.told(200), false, false), 2_000);
    }

    #[test]
    fn what_is_set_is_obeyed_but_for_a_group_that_changes() {
        assert_eq!((told(1, true, false), told(1, true, true)), (5_000, 300));
        assert_eq!(told(1_000_000, false, true), 300);
    }

    #[test]
    fn members_are_counted_once_a_second() {
        let counted = Crowd::default().refreshed(Millis(5), || 7);
        assert_eq!(counted.refreshed(Millis(1_004), || 9).here, 7);
        assert_eq!(counted.refreshed(Millis(1_005), || 9).here, 9);
    }
}
