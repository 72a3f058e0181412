//! What an answer about one group rests on: the batches that have its records, and not those of its neighbours. Otherwise the
//! heartbeats of every group would wait for the disk whenever one of them changes.

use super::Shard;
use crate::coordinator::BatchNumber;
use crate::groups::record::GroupRecord;
use crate::groups::turn::Turn;

/// Which batches a shard knows of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    /// The first batch of the last event that left records.
    last: BatchNumber,
    /// Up to here batches may have records of any group: more than one batch was needed, or a marker was written.
    anyones: BatchNumber,
}

impl Written {
    /// On this rests what is said of a group that was just made, for there may have been one of its name.
    pub(super) fn all(self) -> BatchNumber {
        self.last.max(self.anyones)
    }
}

impl Shard {
    /// To be called before each event, with the number that its batch would have.
    pub(in crate::groups) fn begin_turn(&mut self, next: BatchNumber) {
        let before = BatchNumber(next.0 - 1);
        if self.written.last < before {
            self.written.anyones = before;
        }
    }

    /// To be called after each event, with the records that it left for that batch.
    pub(in crate::groups) fn end_turn(&mut self, next: BatchNumber, records: &[GroupRecord]) {
        if records.is_empty() {
            return;
        }
        self.written.last = next;
        let mut marked: Option<&str> = None;
        for id in records.iter().map(GroupRecord::group) {
            if marked != Some(id)
                && let Some(entry) = self.entries.get_mut(id)
            {
                entry.written = next;
            }
            marked = Some(id);
        }
    }

    /// The answer of this event says nothing that rests on records of other groups.
    pub(in crate::groups) fn rest_on(&self, id: &str, turn: &mut Turn<'_>) {
        // Of a group that is not there its last records are not known either.
        let written = self.entries.get(id).map(|entry| entry.written);
        turn.fx.rests_on = written.map(|batch| batch.max(self.written.anyones));
    }
}

#[cfg(test)]
mod tests {
    use millstream_protocol::KStr;

    use super::*;
    use crate::groups::classic::ClassicGroup;
    use crate::groups::shard::Group;
    use crate::groups::topic_view::TopicView;
    use crate::groups::turn::{Effects, Millis, Now};
    use crate::settings::GroupSettings;

    const NOW: Now = Now { steady: Millis(1), wall_ms: 1 };

    fn record(group: &str) -> GroupRecord {
        GroupRecord::Offset { group: group.into(), topic: "t".into(), partition: 0, value: None }
    }

    /// A shard with these groups.
    fn shard(groups: &[&str]) -> Shard {
        let mut shard = Shard::default();
        for group in groups {
            make(&mut shard, group);
        }
        shard
    }

    fn make(shard: &mut Shard, group: &str) {
        let id = KStr::from(group);
        shard.set_group(&id, Group::Classic(ClassicGroup::new(&id, NOW)));
    }

    fn event(shard: &mut Shard, number: u64, groups: &[&str]) {
        shard.begin_turn(BatchNumber(number));
        let records: Vec<_> = groups.iter().map(|group| record(group)).collect();
        shard.end_turn(BatchNumber(number), &records);
    }

    fn rests_on(shard: &Shard, group: &str) -> Option<u64> {
        let (settings, topics) = (GroupSettings::for_tests(), TopicView::default());
        let mut fx = Effects::default();
        shard.rest_on(group, &mut Turn { now: NOW, settings: &settings, topics: &topics, fx: &mut fx });
        fx.rests_on.map(|batch| batch.0)
    }

    #[test]
    fn a_group_rests_on_its_own_records() {
        let mut shard = shard(&["a", "b", "c"]);
        event(&mut shard, 1, &["a"]);
        event(&mut shard, 2, &[]);
        event(&mut shard, 2, &["b", "a", "b"]);
        event(&mut shard, 3, &["b"]);
        assert_eq!(["a", "b", "c"].map(|group| rests_on(&shard, group)), [Some(2), Some(3), Some(0)]);
        assert_eq!(rests_on(&shard, "gone"), None, "nobody knows what its last records were");
    }

    #[test]
    fn what_is_in_more_than_one_batch_or_a_marker_may_be_of_any_group() {
        let mut shard = shard(&["a", "b"]);
        event(&mut shard, 1, &["a"]);
        // The event before needed three batches, or two markers were written since.
        event(&mut shard, 4, &[]);
        assert_eq!(["a", "b"].map(|group| rests_on(&shard, group)), [Some(3), Some(3)]);
        event(&mut shard, 4, &["a"]);
        event(&mut shard, 5, &[]);
        assert_eq!(["a", "b"].map(|group| rests_on(&shard, group)), [Some(4), Some(3)]);
    }

    #[test]
    fn a_group_that_is_made_rests_on_all_that_may_have_been_of_one_of_its_name() {
        let mut shard = shard(&["a"]);
        event(&mut shard, 1, &["a"]);
        event(&mut shard, 2, &["b"]);
        make(&mut shard, "b");
        assert_eq!(["a", "b"].map(|group| rests_on(&shard, group)), [Some(1), Some(2)]);
    }
}
