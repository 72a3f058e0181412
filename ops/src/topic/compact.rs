//! `millstream topic compact`: asks for it, then tells how far it is until it is done.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use millstream_client::{Admin, Compaction, CompactionProgress};
use millstream_protocol::CompactionState;
use serde_json::json;
use tokio::time::Instant;

use crate::connect::{BrokerArgs, interrupted, topic_exists, unknown_topic};
use crate::outcome::Outcome;
use crate::output;
use crate::text::{human_bytes, human_duration, per_second, plural};

/// How often the broker is asked.
const POLL: Duration = Duration::from_millis(200);

/// What `topic compact` can be told.
#[derive(Debug, Args)]
pub(crate) struct CompactArgs {
    /// Name of the topic; its cleanup.policy must have "compact" in it
    topic: String,
    /// Only this partition; may be repeated
    #[arg(short, long = "partition", value_name = "P", value_parser = clap::value_parser!(i32).range(0..))]
    partitions: Vec<i32>,
    /// Ask for it and do not wait
    #[arg(long)]
    no_wait: bool,
    /// One JSON object per partition when it is done
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// # Errors
/// What the broker answered; that a partition could not be compacted.
pub(super) async fn run(args: CompactArgs) -> anyhow::Result<Outcome> {
    let client = args.broker.connect().await?;
    if !topic_exists(&client, &args.topic).await? {
        bail!(unknown_topic(&args.topic));
    }
    let admin = client.admin();
    let began = Instant::now();
    let first = admin.compact_topic(&args.topic, &args.partitions, Compaction::Start).await?;
    if args.no_wait {
        let count = first.len() as u64;
        output::line(&format!("asked for {count} {}", plural(count, "partition", "partitions")))?;
        return Ok(Outcome::Done);
    }
    let mut stop = std::pin::pin!(interrupted());
    let bar = bar(args.json);
    let mut now = first;
    // Bytes of this run, as seen last: the broker tells them while it runs.
    let mut read: BTreeMap<i32, u64> = BTreeMap::new();
    while now.iter().any(is_under_way) {
        for found in &now {
            let most = read.entry(found.partition).or_default();
            *most = found.total_bytes.max(*most);
        }
        show(&bar, &now, began.elapsed());
        tokio::select! {
            () = &mut stop => {
                bar.finish_and_clear();
                eprintln!("the broker goes on compacting {}; the same command shows how far it is", args.topic);
                return Ok(Outcome::Interrupted);
            }
            () = tokio::time::sleep(POLL) => {}
        }
        now = ask(&admin, &args).await?;
    }
    bar.finish_and_clear();
    report(&args, &now, &read, began.elapsed())
}

async fn ask(admin: &Admin, args: &CompactArgs) -> anyhow::Result<Vec<CompactionProgress>> {
    Ok(admin.compact_topic(&args.topic, &args.partitions, Compaction::Ask).await?)
}

fn is_under_way(partition: &CompactionProgress) -> bool {
    matches!(partition.state, Some(CompactionState::Waiting | CompactionState::Running))
}

fn bar(json: bool) -> ProgressBar {
    if json || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    let template = "{bar:24} {percent:>3}%  {msg}";
    bar.set_style(ProgressStyle::with_template(template).expect("the template above is well-formed"));
    bar
}

fn show(bar: &ProgressBar, partitions: &[CompactionProgress], elapsed: Duration) {
    let sum = |of: fn(&CompactionProgress) -> u64| partitions.iter().map(of).sum::<u64>();
    let (done, total) = (sum(|partition| partition.done_bytes), sum(|partition| partition.total_bytes));
    bar.set_length(total.max(done));
    bar.set_position(done);
    let rate = human_bytes(per_second(done, elapsed));
    bar.set_message(format!("{} of {}, {rate}/s", human_bytes(done), human_bytes(total)));
}

fn report(
    args: &CompactArgs,
    partitions: &[CompactionProgress],
    read: &BTreeMap<i32, u64>,
    elapsed: Duration,
) -> anyhow::Result<Outcome> {
    let mut failed = 0;
    for found in partitions {
        let has_failed = found.state == Some(CompactionState::Failed);
        failed += u64::from(has_failed);
        if args.json {
            output::json(&json!({
                "topic": args.topic, "partition": found.partition, "failed": has_failed, "message": found.message,
                "done_bytes": found.done_bytes, "dirty_bytes": found.dirty_bytes, "runs": found.runs,
                "last_end_ms": found.last_end_ms, "last_duration_ms": found.last_duration_ms,
            }))?;
            continue;
        }
        let message = found.message.as_deref().unwrap_or("the broker does not say why");
        let bytes = found.done_bytes.max(read.get(&found.partition).copied().unwrap_or(0));
        let took = found.last_duration_ms.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
        // A run that was over before it was asked about left no figure.
        let pace = took.map(|took| match bytes {
            0 => format!(" in {took:?}"),
            _ => {
                format!(" in {took:?}, {} at {}/s", human_bytes(bytes), human_bytes(per_second(bytes, took)))
            }
        });
        output::line(&match has_failed {
            true => format!("partition {}: failed: {message}", found.partition),
            false => format!(
                "partition {}: done{}, {} left to do",
                found.partition,
                pace.unwrap_or_default(),
                human_bytes(found.dirty_bytes)
            ),
        })?;
    }
    if failed > 0 {
        let count = partitions.len() as u64;
        bail!("{failed} of {count} {} could not be compacted", plural(count, "partition", "partitions"));
    }
    if !args.json {
        output::line(&format!("compacted {} in {}", args.topic, human_duration(elapsed)))?;
    }
    Ok(Outcome::Done)
}
