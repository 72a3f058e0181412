//! `millstream group seek`: moves a stopped group, and shows from where to where.

use std::collections::BTreeMap;

use anyhow::bail;
use clap::{ArgGroup, Args};
use millstream_client::{
    Admin, Client, CommitOffsetsError, CommittedOffset, DescribeGroupError, Missing, NewOffset, OffsetAt,
};
use millstream_log::SystemClock;
use serde_json::json;

use super::places::Places;
use super::{names, unknown};
use crate::begin::{self, Begin};
use crate::connect::{BrokerArgs, topic_exists, unknown_topic};
use crate::outcome::Outcome;
use crate::output;
use crate::text::{human_count, plural};

/// What `group seek` can be told.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("where").required(true).args(["to", "by"]),
    after_help = "Without --topic everything moves that the group has committed. Where the place lies outside a
partition, the nearest end of it is taken. A group whose members run is refused: they would go
on from where they are, and commit over it.

Examples:
  millstream group seek billing --to start --dry-run       what would be, before and after
  millstream group seek billing --to start                 read everything again
  millstream group seek billing --to 2h                    again what came in the last two hours
  millstream group seek billing --by=-10 --topic orders:3  ten records back in one partition
  millstream group seek audit --to end --topic orders --new  a group that begins with what comes"
)]
pub(crate) struct SeekArgs {
    /// Id of the group
    group: String,
    /// Where to: start, end, an offset, a date, ms since 1970, or an age such as 5m
    #[arg(long, value_name = "WHERE", value_parser = Begin::parse,
          long_help = format!("Where to: {}", begin::HELP))]
    to: Option<Begin>,
    /// So many records on, or back with a minus, from what is committed
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    by: Option<i64>,
    /// Only this topic or these partitions of it; may be repeated
    #[arg(long = "topic", value_name = "TOPIC[:P,P]", value_parser = Places::parse)]
    topics: Vec<Places>,
    /// Show what would be, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Make the group if there is none of this id
    #[arg(long, requires = "topics")]
    new: bool,
    /// One JSON object per partition
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// One partition on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    topic: String,
    partition: i32,
    before: Option<i64>,
    after: i64,
    end: i64,
    note: Option<&'static str>,
}

/// The offsets that a partition has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    start: i64,
    end: i64,
}

/// # Errors
/// What the broker answered; that the group is live, or does not exist.
pub(super) async fn run(args: SeekArgs) -> anyhow::Result<Outcome> {
    let client = args.broker.connect().await?;
    let admin = client.admin();
    let committed = admin.committed_offsets(&args.group).await?;
    match admin.describe_group(&args.group).await {
        Ok(group) if group.members.is_empty() => {}
        Ok(group) => bail!(names::live(&args.group, &group.members, "moved")),
        Err(DescribeGroupError::UnknownGroup { .. }) if !committed.is_empty() || args.new => {}
        Err(DescribeGroupError::UnknownGroup { .. }) => {
            bail!("{}; --new makes it", names::unknown_group(&admin, &args.group).await?)
        }
        Err(error) => return Err(error.into()),
    }
    let wanted = wanted(&client, &args, &committed).await?;
    let mut steps = Vec::new();
    for (topic, partitions) in wanted {
        if args.topics.is_empty() && !topic_exists(&client, &topic).await? {
            eprintln!("topic {topic} is gone; what the group has committed for it stays");
            continue;
        }
        steps.extend(steps_of(&admin, &args, topic, partitions).await?);
    }
    if !args.dry_run {
        commit(&admin, &args.group, &steps).await?;
    }
    report(&args, &steps)?;
    Ok(Outcome::Done)
}

/// The partitions to move by topic, with what is committed for them.
type Wanted = BTreeMap<String, BTreeMap<i32, Option<i64>>>;

async fn wanted(client: &Client, args: &SeekArgs, committed: &[CommittedOffset]) -> anyhow::Result<Wanted> {
    let mut wanted = Wanted::new();
    if args.topics.is_empty() {
        for one in committed {
            wanted.entry(one.topic.clone()).or_default().insert(one.partition, Some(one.offset));
        }
        if wanted.is_empty() {
            bail!("group {:?} has committed nothing; say with --topic what to move", args.group);
        }
        return Ok(wanted);
    }
    for places in &args.topics {
        if !topic_exists(client, &places.topic).await? {
            bail!(unknown_topic(&places.topic));
        }
        let count = client.topic(&places.topic, Missing::Fail).await?.partitions.len();
        let all = 0..i32::try_from(count).unwrap_or(i32::MAX);
        if let Some(missing) = places.partitions.iter().find(|partition| !all.contains(partition)) {
            bail!(
                "topic {:?} has {count} {}, numbered from 0; there is no partition {missing}",
                places.topic,
                plural(count as u64, "partition", "partitions")
            );
        }
        let of_topic = wanted.entry(places.topic.clone()).or_default();
        for partition in all.filter(|partition| places.contains(&places.topic, *partition)) {
            let known = committed.iter().find(|one| one.topic == places.topic && one.partition == partition);
            of_topic.insert(partition, known.map(|one| one.offset));
        }
    }
    Ok(wanted)
}

async fn steps_of(
    admin: &Admin,
    args: &SeekArgs,
    topic: String,
    partitions: BTreeMap<i32, Option<i64>>,
) -> anyhow::Result<Vec<Step>> {
    let ask = |at| partitions.keys().map(|partition| (*partition, at)).collect::<Vec<_>>();
    let starts = admin.list_offsets(&topic, &ask(OffsetAt::Earliest)).await?;
    let ends = admin.list_offsets(&topic, &ask(OffsetAt::Latest)).await?;
    let found = match args.to.map(|to| to.offset_at(&SystemClock)) {
        Some(Ok(at)) => Some(admin.list_offsets(&topic, &ask(at)).await?),
        Some(Err(_)) | None => None,
    };
    let mut steps = Vec::new();
    for (place, (partition, before)) in partitions.iter().enumerate() {
        let at = starts.get(place).and_then(|listed| listed.offset);
        let end = ends.get(place).and_then(|listed| listed.offset);
        let (Some(start), Some(end)) = (at, end) else {
            bail!("the broker does not say where partition {partition} of topic {topic:?} starts and ends");
        };
        let span = Span { start, end };
        let (after, note) = match (args.to.map(|to| to.offset_at(&SystemClock)), args.by) {
            (Some(Err(offset)), _) => span.nearest(offset),
            // No record is that young: what comes next will be.
            (Some(Ok(_)), _) => {
                let listed = found.as_ref().and_then(|found| found.get(place)?.offset);
                (listed.unwrap_or(end), listed.is_none().then_some("no record is that new: the end"))
            }
            (None, by) => match before {
                Some(before) => span.nearest(before.saturating_add(by.unwrap_or(0))),
                None => bail!(
                    "group {:?} has committed nothing for partition {partition} of topic {topic:?}, so --by has \
                     nothing to count from; use --to",
                    args.group
                ),
            },
        };
        let (topic, partition, before) = (topic.clone(), *partition, *before);
        steps.push(Step { topic, partition, before, after, end, note });
    }
    Ok(steps)
}

impl Span {
    /// The offset, or the end of the partition that is nearest to it.
    fn nearest(self, offset: i64) -> (i64, Option<&'static str>) {
        match offset {
            _ if offset < self.start => (self.start, Some("that is before its start: the start")),
            _ if offset > self.end => (self.end, Some("that is beyond its end: the end")),
            _ => (offset, None),
        }
    }
}

async fn commit(admin: &Admin, group: &str, steps: &[Step]) -> anyhow::Result<()> {
    let new = |step: &Step| NewOffset {
        topic: step.topic.clone(),
        partition: step.partition,
        offset: step.after,
        metadata: String::new(),
    };
    match admin.commit_offsets(group, &steps.iter().map(new).collect::<Vec<_>>()).await {
        Ok(()) => Ok(()),
        // Somebody joined since we looked.
        Err(CommitOffsetsError::NotEmpty { .. }) => bail!(names::is_live(admin, group, "moved").await?),
        Err(error) => Err(error.into()),
    }
}

fn report(args: &SeekArgs, steps: &[Step]) -> anyhow::Result<()> {
    if args.json {
        for step in steps {
            output::json(&json!({
                "group": args.group, "topic": step.topic, "partition": step.partition, "before": step.before,
                "after": step.after, "end": step.end, "note": step.note, "moved": !args.dry_run,
            }))?;
        }
        return Ok(());
    }
    let row = |step: &Step| {
        let change = step.before.map(|before| step.after - before);
        vec![
            step.topic.clone(),
            step.partition.to_string(),
            step.before.map_or_else(unknown, |before| before.to_string()),
            step.after.to_string(),
            change.map_or_else(unknown, |change| format!("{change:+}")),
            step.end.saturating_sub(step.after).to_string(),
            step.note.unwrap_or_default().to_owned(),
        ]
    };
    let header = ["topic", "partition", "before", "after", "change", "lag after", ""];
    output::table(&header, steps.iter().map(row).collect())?;
    let count = steps.len() as u64;
    let partitions = plural(count, "partition", "partitions");
    output::line(&match args.dry_run {
        true => format!("nothing was changed; without --dry-run {count} {partitions} would move"),
        false => format!("moved {} {partitions} of group {}", human_count(count), args.group),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_outside_the_partition_becomes_its_nearest_end_and_says_so() {
        let span = Span { start: 10, end: 20 };
        assert_eq!(span.nearest(15), (15, None));
        assert_eq!(span.nearest(20), (20, None));
        assert_eq!(span.nearest(3).0, 10);
        assert!(span.nearest(3).1.is_some());
        assert_eq!(span.nearest(i64::MAX).0, 20);
    }
}
