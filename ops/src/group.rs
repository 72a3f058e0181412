//! `millstream group`: list, describe, move and delete consumer groups.

mod describe;
mod names;
mod places;
mod seek;

use std::collections::HashMap;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand};
use millstream_client::{
    Admin, DeleteGroupError, DeleteOffsetsError, DescribeGroupError, GroupFilter, GroupLag, GroupLagError,
    GroupListing,
};
use serde_json::json;

use crate::connect::{BrokerArgs, block_on};
use crate::outcome::Outcome;
use crate::output;
use crate::text::{human_count, human_duration, plural};
use places::Places;

/// The commands about consumer groups.
#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// List all groups, with how far they are behind
    List(ListArgs),
    /// Show who is in a group, who reads what, and how far behind in records and time
    Describe(describe::DescribeArgs),
    /// Move a group that is stopped: its next members begin elsewhere
    Seek(seek::SeekArgs),
    /// Delete groups that are stopped, or what they have committed for a topic
    Delete(DeleteArgs),
}

/// Words of Kafka's for states and types of groups, those of other brokers too. One that is unknown would match no group.
const STATES: [&str; 8] = [
    "Stable",
    "Empty",
    "PreparingRebalance",
    "CompletingRebalance",
    "Assigning",
    "Reconciling",
    "NotReady",
    "Dead",
];
const TYPES: [&str; 4] = ["classic", "consumer", "share", "streams"];

/// What `group list` can be told.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  millstream group list
  millstream group list --state empty
  millstream group list --json | jq 'select(.stuck)'")]
pub(crate) struct ListArgs {
    /// Only groups in this state; may be repeated
    #[arg(long = "state", value_name = "STATE", ignore_case = true, value_parser = STATES)]
    states: Vec<String>,
    /// Only groups of this type; may be repeated
    #[arg(long = "type", value_name = "TYPE", ignore_case = true, value_parser = TYPES)]
    types: Vec<String>,
    /// One JSON object per group
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// What `group delete` can be told.
#[derive(Debug, Args)]
#[command(after_help = "A group whose members run is not deleted: stop them first.

Examples:
  millstream group delete billing
  millstream group delete billing --topic orders:0,1     forget two partitions, keep the group")]
pub(crate) struct DeleteArgs {
    /// Ids of groups
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
    /// Delete only what is committed for this topic or these partitions of it; may be repeated
    #[arg(long = "topic", value_name = "TOPIC[:P,P]", value_parser = Places::parse)]
    topics: Vec<Places>,
    /// Be content if one does not exist
    #[arg(long)]
    if_exists: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// Runs one of them.
///
/// # Errors
/// What the broker answered, and what to do about it.
pub(crate) fn run(command: GroupCommand) -> anyhow::Result<Outcome> {
    block_on(async {
        match command {
            GroupCommand::List(args) => list(args).await,
            GroupCommand::Describe(args) => describe::run(args).await,
            GroupCommand::Seek(args) => seek::run(args).await,
            GroupCommand::Delete(args) => delete(args).await,
        }
    })
}

async fn list(args: ListArgs) -> anyhow::Result<Outcome> {
    let admin = args.broker.connect().await?.admin();
    let is_filtered = !args.states.is_empty() || !args.types.is_empty();
    let groups = admin.list_groups(&GroupFilter { states: args.states, types: args.types }).await?;
    // Kafka's brokers do not tell: then those columns are left out.
    let lags = admin.all_group_lags().await?;
    let lags: Option<HashMap<String, GroupLag>> =
        lags.map(|lags| lags.into_iter().map(|lag| (lag.id.clone(), lag)).collect());
    if args.json {
        for group in &groups {
            output::json(&as_json(group, lags.as_ref().and_then(|lags| lags.get(&*group.id))))?;
        }
    } else if groups.is_empty() && is_filtered {
        output::line("no such groups; `millstream group list` alone lists all")?;
    } else if groups.is_empty() {
        output::line("no groups yet; one appears when a consumer with a group.id starts")?;
    } else {
        print(&groups, lags.as_ref())?;
    }
    Ok(Outcome::Done)
}

fn as_json(group: &GroupListing, lag: Option<&GroupLag>) -> serde_json::Value {
    let sum = lag.map(Sum::of);
    json!({
        "group": &*group.id, "type": group.group_type.as_deref(), "state": group.state.as_deref(),
        "protocol_type": &*group.protocol_type, "coordinator": group.coordinator.0,
        "members": lag.map(|lag| lag.members), "lag": sum.as_ref().and_then(|sum| sum.records),
        "lag_ms": sum.as_ref().and_then(|sum| sum.time).map(millis), "stuck": sum.map(|sum| sum.stuck_for.is_some()),
    })
}

fn print(groups: &[GroupListing], lags: Option<&HashMap<String, GroupLag>>) -> anyhow::Result<()> {
    let word = |word: &Option<_>| word.as_deref().unwrap_or("-").to_owned();
    let row = |group: &GroupListing| {
        let mut row = vec![group.id.to_string(), word(&group.group_type), word(&group.state)];
        if let Some(lags) = lags {
            let lag = lags.get(&*group.id);
            let sum = lag.map(Sum::of).unwrap_or_default();
            row.push(lag.map_or_else(unknown, |lag| lag.members.to_string()));
            row.push(sum.records.map_or_else(unknown, human_count));
            row.push(sum.time.map_or_else(unknown, human_duration));
            let stuck = sum.stuck_for.map(|time| format!("STUCK for {}", human_duration(time)));
            row.push(stuck.unwrap_or_default());
        }
        row
    };
    let header = ["group", "type", "state", "members", "lag", "behind", ""];
    let shown = if lags.is_some() { &header[..] } else { &header[..3] };
    output::table(shown, groups.iter().map(row).collect())
}

/// A group's partitions taken together.
#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    /// Records that wait; unknown if nothing is committed.
    records: Option<u64>,
    /// For how long the oldest of them has been waiting.
    time: Option<Duration>,
    /// For how long the partition that is stuck longest has been.
    stuck_for: Option<Duration>,
}

impl Sum {
    fn of(lag: &GroupLag) -> Self {
        let known = lag.partitions.iter().filter_map(|partition| partition.lag);
        Self {
            records: lag.partitions.iter().any(|partition| partition.lag.is_some()).then(|| known.sum()),
            time: lag.partitions.iter().filter_map(|partition| partition.lag_time).max(),
            stuck_for: lag.partitions.iter().filter_map(|partition| partition.stuck_for).max(),
        }
    }
}

async fn delete(args: DeleteArgs) -> anyhow::Result<Outcome> {
    let client = args.broker.connect().await?;
    let admin = client.admin();
    for group in &args.groups {
        let is_gone = match args.topics.is_empty() {
            true => delete_group(&admin, group).await?,
            false => delete_offsets(&admin, group, &args.topics).await?,
        };
        match is_gone {
            Deleted::Yes => {}
            Deleted::Unknown if args.if_exists => output::line(&format!("there is no group {group}"))?,
            Deleted::Unknown => {
                bail!("{}; --if-exists makes that no error", names::unknown_group(&admin, group).await?)
            }
        }
    }
    Ok(Outcome::Done)
}

enum Deleted {
    Yes,
    /// There is no such group.
    Unknown,
}

async fn delete_group(admin: &Admin, group: &str) -> anyhow::Result<Deleted> {
    match admin.delete_group(group).await {
        Ok(()) => output::line(&format!("deleted group {group}"))?,
        Err(DeleteGroupError::UnknownGroup { .. }) => return Ok(Deleted::Unknown),
        Err(DeleteGroupError::NotEmpty { .. }) => bail!(names::is_live(admin, group, "deleted").await?),
        Err(error) => return Err(error.into()),
    }
    Ok(Deleted::Yes)
}

async fn delete_offsets(admin: &Admin, group: &str, topics: &[Places]) -> anyhow::Result<Deleted> {
    let committed = admin.committed_offsets(group).await?;
    for places in topics {
        let of_topic = committed.iter().filter(|one| places.contains(&one.topic, one.partition));
        let partitions: Vec<i32> = of_topic.map(|one| one.partition).collect();
        if partitions.is_empty() {
            match admin.describe_group(group).await {
                Err(DescribeGroupError::UnknownGroup { .. }) => return Ok(Deleted::Unknown),
                // Whatever else: it has committed nothing there, and that is what was asked for.
                Ok(_) | Err(_) => output::line(&format!("group {group} has committed nothing for {places}"))?,
            }
            continue;
        }
        match admin.delete_offsets(group, &places.topic, &partitions).await {
            Ok(()) => {}
            Err(DeleteOffsetsError::UnknownGroup { .. }) => return Ok(Deleted::Unknown),
            Err(DeleteOffsetsError::Subscribed { .. }) => {
                bail!(names::is_live(admin, group, "made to forget what it reads").await?)
            }
            Err(error) => return Err(error.into()),
        }
        let count = partitions.len() as u64;
        output::line(&format!(
            "group {group} has forgotten {count} {} of {}",
            plural(count, "partition", "partitions"),
            places.topic
        ))?;
    }
    Ok(Deleted::Yes)
}

/// How far a group is behind, if its broker tells.
async fn lag_of(admin: &Admin, group: &str) -> anyhow::Result<Option<GroupLag>> {
    match admin.group_lag(group).await {
        Ok(lag) => Ok(lag),
        // It has members that have committed nothing yet, or went away since it was described.
        Err(GroupLagError::UnknownGroup { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn unknown() -> String {
    "-".to_owned()
}
