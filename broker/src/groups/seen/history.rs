//! Rebalances since the start: how many, why, and the last one of each group.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use foldhash::fast::RandomState;
use millstream_protocol::KStr;

use crate::groups::cause::{Cause, Why};

/// Groups whose rebalances are remembered one by one; those of others only count in the totals.
const GROUPS_MAX: usize = 10_000;

/// How many rebalances there were, by the name of their cause.
pub(crate) type RebalanceCounts = BTreeMap<&'static str, u64>;

/// The last rebalance of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LastRebalance {
    /// By the wall clock.
    pub(crate) at_ms: i64,
    pub(crate) took: Duration,
    /// In words for a person: why, and who is behind it.
    pub(crate) cause: String,
}

#[derive(Clone, Debug, Default)]
struct OfGroup {
    counts: RebalanceCounts,
    last: Option<LastRebalance>,
}

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct History {
    totals: RebalanceCounts,
    groups: HashMap<KStr, OfGroup, RandomState>,
}

impl History {
    pub(super) fn rebalanced(&mut self, group: &KStr, cause: &Cause, took: Duration, at_ms: i64) {
        *self.totals.entry(cause.why.name()).or_default() += 1;
        if !self.groups.contains_key(group.as_str()) {
            if self.groups.len() >= GROUPS_MAX {
                return;
            }
            self.groups.insert(group.detach(), OfGroup::default());
        }
        let of_group = self.groups.get_mut(group.as_str()).expect("it was there or was inserted");
        *of_group.counts.entry(cause.why.name()).or_default() += 1;
        of_group.last = Some(LastRebalance { at_ms, took, cause: words(cause) });
    }

    pub(super) fn totals(&self) -> RebalanceCounts {
        self.totals.clone()
    }

    pub(super) fn of(&self, group: &str) -> (RebalanceCounts, Option<LastRebalance>) {
        self.groups.get(group).cloned().map(|of| (of.counts, of.last)).unwrap_or_default()
    }

    /// Forgets groups that are gone.
    pub(super) fn keep_only(&mut self, mut is_there: impl FnMut(&str) -> bool) {
        self.groups.retain(|group, _| is_there(group));
    }
}

/// `a member joined: billing-1 at 10.0.0.7 ("the consumer is being closed")`
fn words(cause: &Cause) -> String {
    let what = match cause.why {
        Why::MemberJoined => "a member joined",
        Why::MemberLeft => "a member left",
        Why::SessionExpired => "a member was not heard of for its session timeout",
        Why::SyncExpired => "a member joined and did not ask for its part in time",
        Why::MetadataChanged => "a member subscribes to something else",
        Why::LeaderRejoined => "the leader asked for a new division",
        Why::StaticReplaced => "a static member came back with another protocol",
        Why::OverCapacity => "there are more members than group.max.size",
        Why::TooLarge => "the assignment is too large to be stored",
        Why::TopicsChanged => "a topic that is read came, went, or has more partitions",
        Why::DidNotFollow => "a member did not give partitions back, or join again, in time",
        Why::Converted => "the last member of the new protocol went: it is a classic group now",
    };
    let client = &cause.caller.client_id;
    let who = cause.instance.as_ref().filter(|name| !name.is_empty()).unwrap_or(client);
    let who = if who.is_empty() { &cause.member } else { who };
    let host = cause.caller.host.trim_start_matches('/');
    let mut text = what.to_owned();
    if !who.is_empty() {
        text.push_str(": ");
        text.push_str(who);
        if !host.is_empty() {
            text.push_str(" at ");
            text.push_str(host);
        }
    }
    match &cause.said {
        Some(said) if !said.is_empty() => format!("{text} ({:?})", said.as_str()),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::groups::cause::Caller;

    fn cause(why: Why) -> Cause {
        let caller =
            Caller { client_id: KStr::from_static("billing-1"), host: KStr::from_static("/10.0.0.7") };
        Cause { why, member: KStr::from_static("billing-1-abc"), instance: None, caller, said: None }
    }

    #[test]
    fn a_cause_names_the_member_as_people_know_it() {
        assert_eq!(words(&cause(Why::MemberJoined)), "a member joined: billing-1 at 10.0.0.7");
        let said = Some(KStr::from_static("closing"));
        let instance = Some(KStr::from_static("pod-3"));
        let left = Cause { said, instance, ..cause(Why::MemberLeft) };
        assert_eq!(words(&left), "a member left: pod-3 at 10.0.0.7 (\"closing\")");
        let nobody = Cause { member: KStr::default(), caller: Caller::default(), ..cause(Why::OverCapacity) };
        assert_eq!(words(&nobody), "there are more members than group.max.size");
    }

    #[test]
    fn rebalances_are_counted_by_group_and_in_all() {
        let mut history = History::default();
        let second = Duration::from_secs(1);
        history.rebalanced(&KStr::from_static("a"), &cause(Why::MemberJoined), second, 10);
        history.rebalanced(&KStr::from_static("a"), &cause(Why::MemberLeft), second, 20);
        history.rebalanced(&KStr::from_static("b"), &cause(Why::MemberJoined), second, 30);
        assert_eq!(history.totals(), RebalanceCounts::from([("member_joined", 2), ("member_left", 1)]));
        let (counts, last) = history.of("a");
        assert_eq!((counts.len(), last.map(|last| last.at_ms)), (2, Some(20)));
        history.keep_only(|group| group == "b");
        assert_eq!(history.of("a"), Default::default());
        assert_eq!(history.totals().len(), 2, "what has happened has happened");
    }

    #[test]
    fn beyond_the_limit_only_totals_are_kept() {
        let mut history = History::default();
        for group in 0..=GROUPS_MAX {
            history.rebalanced(&group.to_string().into(), &cause(Why::MemberJoined), Duration::ZERO, 0);
        }
        assert_eq!(history.groups.len(), GROUPS_MAX);
        assert_eq!(history.totals()["member_joined"], GROUPS_MAX as u64 + 1);
    }
}
