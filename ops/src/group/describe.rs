//! `millstream group describe`: members, who reads what, how far behind, what is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use millstream_client::{
    Admin, ClientError, DescribeGroupError, GroupDescription, GroupKind, GroupLag, GroupMember,
    GroupPartitions, ListOffsetsError, OffsetAt, PartitionLag,
};
use millstream_log::{Clock, SystemClock};
use serde_json::{Value, json};

use super::{Sum, lag_of, millis, names, unknown};
use crate::connect::BrokerArgs;
use crate::outcome::Outcome;
use crate::output;
use crate::text::{human_count, human_duration, moment, plural};

/// What `group describe` can be told.
#[derive(Debug, Args)]
#[command(
    after_help = "LAG is how many records wait behind what is committed, BEHIND for how long the first of them
has been waiting. A partition is STUCK when records keep coming and none was committed for
group.stuck.after.ms although the group has members. Brokers of Apache Kafka tell no times.

Examples:
  millstream group describe billing
  millstream group describe billing --json | jq '.partitions[] | select(.lag > 1000)'"
)]
pub(crate) struct DescribeArgs {
    /// Ids of groups
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
    /// One JSON object per group
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// One partition that the group has committed for, or is to read.
#[derive(Debug, Default)]
struct Row {
    committed: Option<i64>,
    metadata: Option<String>,
    /// Why its offsets are not known.
    problem: Option<String>,
    start: Option<i64>,
    end: Option<i64>,
    lag: Option<u64>,
    lag_time: Option<Duration>,
    last_commit_ms: Option<i64>,
    stuck_for: Option<Duration>,
}

/// By topic and partition.
type Rows = BTreeMap<(String, i32), Row>;

/// # Errors
/// What the broker answered; that there is no such group.
pub(super) async fn run(args: DescribeArgs) -> anyhow::Result<Outcome> {
    let admin = args.broker.connect().await?.admin();
    for (at, group) in args.groups.iter().enumerate() {
        let description = match admin.describe_group(group).await {
            Ok(description) => description,
            Err(DescribeGroupError::UnknownGroup { .. }) => bail!(names::unknown_group(&admin, group).await?),
            Err(error) => return Err(error.into()),
        };
        let lag = lag_of(&admin, group).await?;
        let rows = rows(&admin, &description, lag.as_ref()).await?;
        if args.json {
            output::json(&as_json(&description, &rows, lag.as_ref()))?;
            continue;
        }
        if at > 0 {
            output::line("")?;
        }
        print(&description, &rows, lag.as_ref())?;
    }
    Ok(Outcome::Done)
}

async fn rows(admin: &Admin, group: &GroupDescription, lag: Option<&GroupLag>) -> anyhow::Result<Rows> {
    let mut rows = Rows::new();
    for committed in admin.committed_offsets(&group.id).await? {
        let row = rows.entry((committed.topic, committed.partition)).or_default();
        row.committed = Some(committed.offset);
        row.metadata = Some(committed.metadata).filter(|text| !text.is_empty());
    }
    for of in group.members.iter().flat_map(|member| &member.assigned) {
        for partition in &of.partitions {
            rows.entry((of.topic.to_string(), *partition)).or_default();
        }
    }
    let topics: BTreeSet<String> = rows.keys().map(|(topic, _)| topic.clone()).collect();
    for topic in topics {
        add_offsets(admin, &topic, &mut rows).await?;
    }
    for told in lag.into_iter().flat_map(|lag| &lag.partitions) {
        if let Some(row) = rows.get_mut(&(told.topic.clone(), told.partition)) {
            add_times(row, told);
        }
    }
    Ok(rows)
}

/// Adds where the partitions of a topic begin and end.
async fn add_offsets(admin: &Admin, topic: &str, rows: &mut Rows) -> anyhow::Result<()> {
    let wanted = || rows.keys().filter(|(of, _)| of == topic).map(|(_, partition)| *partition);
    let ask = |at| wanted().map(|partition| (partition, at)).collect::<Vec<_>>();
    let (start, end) = (ask(OffsetAt::Earliest), ask(OffsetAt::Latest));
    let listed = match admin.list_offsets(topic, &start).await {
        Ok(starts) => admin.list_offsets(topic, &end).await.map(|ends| (starts, ends)),
        Err(error) => Err(error),
    };
    let (starts, ends) = match listed {
        Ok(listed) => listed,
        // A group may well outlive its topic: that is shown, not an error.
        Err(error) => {
            let problem = match &error {
                ListOffsetsError::Request(
                    ClientError::UnknownTopic { .. } | ClientError::UnknownPartition { .. },
                ) => "the topic is gone".to_owned(),
                ListOffsetsError::Request(_) | ListOffsetsError::Refused(_) => error.to_string(),
            };
            let of_topic = rows.iter_mut().filter(|((of, _), _)| of == topic);
            of_topic.for_each(|(_, row)| row.problem = Some(problem.clone()));
            return Ok(());
        }
    };
    for (start, end) in starts.into_iter().zip(ends) {
        let Some(row) = rows.get_mut(&(topic.to_owned(), start.partition)) else { continue };
        (row.start, row.end) = (start.offset, end.offset);
        row.lag = lag(row.committed, start.offset, end.offset);
    }
    Ok(())
}

/// Records that wait: those that retention has deleted do not.
fn lag(committed: Option<i64>, start: Option<i64>, end: Option<i64>) -> Option<u64> {
    let from = committed?.max(start?);
    Some(u64::try_from(end? - from).unwrap_or(0))
}

/// What the broker knows better: it looked at everything at one moment.
fn add_times(row: &mut Row, told: &PartitionLag) {
    row.lag_time = told.lag_time;
    row.last_commit_ms = told.last_commit_ms;
    row.stuck_for = told.stuck_for;
    if told.lag.is_some() && row.committed == Some(told.committed) {
        (row.start, row.end, row.lag) = (told.log_start, told.high_watermark, told.lag);
    }
}

fn as_json(group: &GroupDescription, rows: &Rows, lag: Option<&GroupLag>) -> Value {
    let partition = |((topic, partition), row): (&(String, i32), &Row)| {
        let owner = group.owner(topic, *partition);
        json!({
            "topic": topic, "partition": partition, "committed": row.committed, "metadata": row.metadata,
            "problem": row.problem, "start": row.start, "end": row.end, "lag": row.lag,
            "lag_ms": row.lag_time.map(millis), "last_commit_ms": row.last_commit_ms,
            "stuck_ms": row.stuck_for.map(millis), "member": owner.map(|member| &*member.id),
        })
    };
    let sum = sum(rows);
    json!({
        "group": &*group.id, "type": kind(group.kind), "state": &*group.state,
        "protocol_type": &*group.protocol_type, "assignor": &*group.assignor, "epoch": group.epoch,
        "assignment_epoch": group.assignment_epoch, "lag": sum.records, "lag_ms": sum.time.map(millis),
        "stuck": lag.map(|lag| Sum::of(lag).stuck_for.is_some()),
        "last_rebalance_ms": lag.and_then(|lag| lag.last_rebalance_ms),
        "last_rebalance_cause": lag.and_then(|lag| lag.last_rebalance_cause.as_deref()),
        "members": group.members.iter().map(member_as_json).collect::<Vec<_>>(),
        "partitions": rows.iter().map(partition).collect::<Vec<_>>(),
    })
}

fn member_as_json(member: &GroupMember) -> Value {
    let partitions = |of: &[GroupPartitions]| -> Vec<Value> {
        of.iter().map(|of| json!({"topic": &*of.topic, "partitions": of.partitions})).collect()
    };
    json!({
        "member": &*member.id, "instance": member.instance_id.as_deref(), "client": &*member.client_id,
        "host": &*member.client_host, "rack": member.rack.as_deref(), "epoch": member.epoch,
        "subscribed": member.subscribed.iter().map(|topic| &**topic).collect::<Vec<_>>(),
        "subscribed_pattern": member.subscribed_pattern.as_deref(), "assigned": partitions(&member.assigned),
        "target": member.target.as_deref().map(partitions),
    })
}

fn kind(kind: GroupKind) -> &'static str {
    match kind {
        GroupKind::Classic => "classic",
        GroupKind::Consumer => "consumer",
    }
}

fn sum(rows: &Rows) -> Sum {
    let known = rows.values().filter_map(|row| row.lag);
    Sum {
        records: rows.values().any(|row| row.lag.is_some()).then(|| known.sum()),
        time: rows.values().filter_map(|row| row.lag_time).max(),
        stuck_for: rows.values().filter_map(|row| row.stuck_for).max(),
    }
}

fn print(group: &GroupDescription, rows: &Rows, lag: Option<&GroupLag>) -> anyhow::Result<()> {
    output::line(&headline(group, &sum(rows)))?;
    let now_ms = SystemClock.now_ms();
    if let Some((at_ms, cause)) =
        lag.and_then(|lag| Some((lag.last_rebalance_ms?, lag.last_rebalance_cause.as_deref()?)))
    {
        output::line(&format!("last rebalance {}: {cause}", moment(at_ms, now_ms)))?;
    }
    for ((topic, partition), row) in rows {
        if let Some(stuck_for) = row.stuck_for {
            output::line(&format!(
                "STUCK in partition {partition} of {topic}: nothing committed for {}, and more records keep coming",
                human_duration(stuck_for)
            ))?;
        }
    }
    if !rows.is_empty() {
        output::line("")?;
        print_rows(group, rows, lag.is_some())?;
    }
    if !group.members.is_empty() {
        output::line("")?;
        print_members(group)?;
    }
    Ok(())
}

/// `billing  consumer group, stable  uniform  2 members  lag 1,204, 3 minutes behind`
fn headline(group: &GroupDescription, sum: &Sum) -> String {
    let count = group.members.len() as u64;
    let mut parts = vec![
        group.id.to_string(),
        format!("{} group, {}", kind(group.kind), group.state.to_lowercase()),
        format!("{count} {}", plural(count, "member", "members")),
    ];
    if !group.assignor.is_empty() {
        parts.push(format!("assigned by {}", group.assignor));
    }
    if let Some(epoch) = group.epoch {
        parts.push(format!("epoch {epoch}"));
    }
    if let Some(records) = sum.records {
        let behind = sum.time.filter(|time| !time.is_zero());
        let behind = behind.map(|time| format!(", {} behind", human_duration(time))).unwrap_or_default();
        parts.push(format!("lag {}{behind}", human_count(records)));
    }
    parts.join("  ")
}

fn print_rows(group: &GroupDescription, rows: &Rows, knows_times: bool) -> anyhow::Result<()> {
    let now_ms = SystemClock.now_ms();
    let number = |number: Option<i64>| number.map_or_else(unknown, |number| number.to_string());
    let row = |((topic, partition), row): (&(String, i32), &Row)| {
        let mut cells = vec![topic.clone(), partition.to_string(), number(row.committed)];
        cells.extend([number(row.end), row.lag.map_or_else(unknown, |lag| lag.to_string())]);
        if knows_times {
            cells.push(row.lag_time.map_or_else(unknown, human_duration));
            cells.push(row.last_commit_ms.map_or_else(unknown, |at_ms| moment(at_ms, now_ms)));
        }
        let owner = group.owner(topic, *partition);
        cells.push(owner.map_or_else(unknown, |member| name(member).to_owned()));
        cells.push(remark(row));
        cells
    };
    let mut header = vec!["topic", "partition", "committed", "end", "lag"];
    if knows_times {
        header.extend(["behind", "last commit"]);
    }
    header.extend(["member", ""]);
    output::table(&header, rows.iter().map(row).collect())
}

/// What is odd about a partition.
fn remark(row: &Row) -> String {
    if let Some(problem) = &row.problem {
        return problem.clone();
    }
    match (row.committed, row.start, row.end) {
        _ if row.stuck_for.is_some() => "STUCK".to_owned(),
        (Some(committed), Some(start), _) if committed < start => {
            let missed = human_count(start.abs_diff(committed));
            format!("{missed} were deleted before they were read")
        }
        (Some(committed), _, Some(end)) if committed > end => "committed beyond the end".to_owned(),
        _ => String::new(),
    }
}

fn print_members(group: &GroupDescription) -> anyhow::Result<()> {
    let row = |member: &GroupMember| {
        let assigned = member.assigned.iter().filter(|of| !of.partitions.is_empty()).map(|of| {
            let numbers: Vec<String> = of.partitions.iter().map(ToString::to_string).collect();
            format!("{}:{}", of.topic, numbers.join(","))
        });
        let assigned: Vec<String> = assigned.collect();
        vec![
            name(member).to_owned(),
            member.client_host.trim_start_matches('/').to_owned(),
            member.id.to_string(),
            if assigned.is_empty() { unknown() } else { assigned.join(" ") },
        ]
    };
    output::table(&["member", "host", "id", "reads"], group.members.iter().map(row).collect())
}

/// What people know a member by.
fn name(member: &GroupMember) -> &str {
    let name = member.instance_id.as_deref().unwrap_or(&member.client_id);
    if name.is_empty() { &member.id } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_that_retention_deleted_do_not_wait() {
        assert_eq!(lag(Some(5), Some(0), Some(12)), Some(7));
        assert_eq!(lag(Some(5), Some(10), Some(12)), Some(2));
        assert_eq!(lag(Some(20), Some(10), Some(12)), Some(0));
        assert_eq!(lag(None, Some(10), Some(12)), None);
        let row = Row { committed: Some(5), start: Some(10), end: Some(12), ..Row::default() };
        assert_eq!(remark(&row), "5 were deleted before they were read");
    }
}
