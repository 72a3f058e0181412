//! What Prometheus sees of groups, in the form of a scrape: groups and their partitions come and go, so there are no
//! handles to keep. Series are capped; how many are left out is a series itself.

use std::collections::BTreeMap;

use super::page::Page;
use super::storage::escaped;
use crate::groups::seen::{GroupSeen, PartitionSeen, RebalanceCounts};

/// Groups that are told one by one.
const GROUPS_MAX: usize = 5_000;
/// Partitions of groups that are told one by one.
const PARTITIONS_MAX: usize = 10_000;

/// The text of a scrape.
pub(crate) fn render_groups(groups: &[GroupSeen], rebalances: &RebalanceCounts) -> String {
    let mut page = Page::default();
    let mut by_state: BTreeMap<&str, u64> = BTreeMap::new();
    for group in groups {
        *by_state.entry(group.state).or_default() += 1;
    }
    page.about("groups", "gauge", "Groups, by state.");
    for (state, count) in by_state {
        page.line("groups", format_args!("state=\"{state}\""), count);
    }
    page.about("rebalances_total", "counter", "Rebalances of all groups since the start, by cause.");
    for (cause, count) in rebalances {
        page.line("rebalances_total", format_args!("cause=\"{cause}\""), count);
    }
    let told = &groups[..groups.len().min(GROUPS_MAX)];
    render_each_group(&mut page, told);
    let left_out = render_partitions(&mut page, told);
    let beyond = groups[told.len()..].iter().map(|group| group.partitions.len()).sum::<usize>();
    let left_out = left_out + beyond + groups.iter().map(|group| group.left_out).sum::<usize>();
    page.about(
        "group_partitions_left_out",
        "gauge",
        "Partitions of groups that are not told because of the limit.",
    );
    page.line("group_partitions_left_out", format_args!(""), left_out);
    page.text
}

fn render_each_group(page: &mut Page, groups: &[GroupSeen]) {
    page.about("group_members", "gauge", "Members of a group.");
    for group in groups {
        page.line("group_members", format_args!("group=\"{}\"", escaped(&group.id)), group.members);
    }
    page.about("group_state", "gauge", "1 for the state that a group is in.");
    for group in groups {
        let (id, kind, state) = (escaped(&group.id), group.kind, group.state);
        page.line("group_state", format_args!("group=\"{id}\",type=\"{kind}\",state=\"{state}\""), 1);
    }
    page.about(
        "group_stuck",
        "gauge",
        "1 while a group that has members commits nothing for group.stuck.after.ms and more and more records wait.",
    );
    for group in groups {
        let is_stuck =
            |partition: &PartitionSeen| partition.found.as_ref().is_ok_and(|found| found.stuck_for.is_some());
        let stuck = u8::from(group.partitions.iter().any(is_stuck));
        page.line("group_stuck", format_args!("group=\"{}\"", escaped(&group.id)), stuck);
    }
    page.about("group_rebalances_total", "counter", "Rebalances of a group since the start, by cause.");
    for group in groups {
        for (cause, count) in &group.rebalances {
            let id = escaped(&group.id);
            page.line("group_rebalances_total", format_args!("group=\"{id}\",cause=\"{cause}\""), count);
        }
    }
    page.about("group_last_rebalance_seconds", "gauge", "How long the last rebalance of a group took.");
    for group in groups {
        if let Some(last) = &group.last_rebalance {
            let id = escaped(&group.id);
            page.line(
                "group_last_rebalance_seconds",
                format_args!("group=\"{id}\""),
                last.took.as_secs_f64(),
            );
        }
    }
}

/// Tells how many were left out.
fn render_partitions(page: &mut Page, groups: &[GroupSeen]) -> usize {
    let all = || {
        let partitions = groups.iter().flat_map(|group| group.partitions.iter().map(move |one| (group, one)));
        partitions.filter_map(|(group, one)| Some((group, &one.offset, one.found.as_ref().ok()?)))
    };
    let labels = |group: &GroupSeen, topic: &str, partition: i32| {
        let (id, topic) = (escaped(&group.id), escaped(topic));
        format!("group=\"{id}\",topic=\"{topic}\",partition=\"{partition}\"")
    };
    page.about("group_lag", "gauge", "Records that wait for a group in a partition.");
    for (group, offset, found) in all().take(PARTITIONS_MAX) {
        let labels = labels(group, &offset.topic, offset.partition);
        page.line("group_lag", format_args!("{labels}"), found.lag.records);
    }
    page.about(
        "group_lag_seconds",
        "gauge",
        "For how long the first record that waits for a group in a partition has been waiting.",
    );
    for (group, offset, found) in all().take(PARTITIONS_MAX) {
        if let Some(time) = found.lag.time {
            let labels = labels(group, &offset.topic, offset.partition);
            page.line("group_lag_seconds", format_args!("{labels}"), time.as_secs_f64());
        }
    }
    page.about(
        "group_last_commit_age_seconds",
        "gauge",
        "For how long a group has committed nothing for a partition.",
    );
    for (group, offset, found) in all().take(PARTITIONS_MAX) {
        let labels = labels(group, &offset.topic, offset.partition);
        let age = found.lag.commit_age.as_secs_f64();
        page.line("group_last_commit_age_seconds", format_args!("{labels}"), age);
    }
    all().count().saturating_sub(PARTITIONS_MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use millstream_protocol::{ErrorCode, KStr};

    use super::*;
    use crate::groups::seen::{Found, Lag, OffsetSighting};

    fn partition(partition: i32, found: Result<Found, ErrorCode>) -> PartitionSeen {
        let topic = KStr::from_static("orders");
        let offset = OffsetSighting { topic, partition, committed: 5, committed_ms: 0 };
        PartitionSeen { offset, found }
    }

    fn found(time: Option<Duration>, stuck_for: Option<Duration>) -> Found {
        let lag = Lag { records: 7, time, commit_age: Duration::from_millis(2500) };
        Found { log_start: 0, high_watermark: 12, lag, stuck_for }
    }

    fn group(id: &'static str, partitions: Vec<PartitionSeen>) -> GroupSeen {
        GroupSeen {
            id: KStr::from_static(id),
            kind: "classic",
            state: "Stable",
            members: 2,
            rebalances: RebalanceCounts::from([("member_joined", 3)]),
            last_rebalance: None,
            partitions,
            left_out: 0,
        }
    }

    #[test]
    fn each_partition_has_its_lag_and_what_is_unknown_is_left_out() {
        let seconds = Some(Duration::from_secs(90));
        let partitions = vec![
            partition(0, Ok(found(seconds, seconds))),
            partition(1, Ok(found(None, None))),
            partition(2, Err(ErrorCode::UnknownTopicOrPartition)),
        ];
        let text = render_groups(&[group("a\"b", partitions)], &RebalanceCounts::from([("member_left", 1)]));
        for line in [
            "millstream_groups{state=\"Stable\"} 1",
            "millstream_rebalances_total{cause=\"member_left\"} 1",
            "millstream_group_members{group=\"a\\\"b\"} 2",
            "millstream_group_stuck{group=\"a\\\"b\"} 1",
            "millstream_group_rebalances_total{group=\"a\\\"b\",cause=\"member_joined\"} 3",
            "millstream_group_lag{group=\"a\\\"b\",topic=\"orders\",partition=\"1\"} 7",
            "millstream_group_lag_seconds{group=\"a\\\"b\",topic=\"orders\",partition=\"0\"} 90",
            "millstream_group_last_commit_age_seconds{group=\"a\\\"b\",topic=\"orders\",partition=\"1\"} 2.5",
            "millstream_group_partitions_left_out 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("partition=\"2\""));
        let unknown = "millstream_group_lag_seconds{group=\"a\\\"b\",topic=\"orders\",partition=\"1\"}";
        assert!(!text.contains(unknown), "{text}");
    }

    #[test]
    fn series_are_capped_and_what_is_left_out_is_counted() {
        let many = i32::try_from(PARTITIONS_MAX).unwrap() + 3;
        let partitions = (0..many).map(|index| partition(index, Ok(found(None, None)))).collect();
        let text = render_groups(&[group("g", partitions)], &RebalanceCounts::default());
        assert_eq!(text.matches("millstream_group_lag{").count(), PARTITIONS_MAX);
        assert!(text.contains("millstream_group_partitions_left_out 3\n"));
    }
}
