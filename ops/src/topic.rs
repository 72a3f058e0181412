//! `millstream topic`: create, list, describe, compact, delete, and give a topic more partitions.

mod compact;
mod storage;

use anyhow::bail;
use clap::{Args, Subcommand};
use millstream_client::{
    Admin, ConfigEntry, ConfigResource, ConfigSource, CreateTopicError, DeleteTopicError, DescribeTopicError,
    NewTopic, OffsetAt, TopicMetadata, TopicStorage,
};
use serde_json::{Value, json};

use crate::connect::{BrokerArgs, block_on, unknown_topic};
use crate::outcome::Outcome;
use crate::output;
use crate::text::{human_bytes, human_count, plural};

/// The commands about topics.
#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// Make a topic
    Create(CreateArgs),
    /// List all topics
    List(ListArgs),
    /// Show partitions, offsets and settings of topics
    Describe(DescribeArgs),
    /// Compact a topic now: of several records with one key only the last stays
    Compact(compact::CompactArgs),
    /// Delete topics and all their records
    Delete(DeleteArgs),
    /// Give a topic more partitions
    AddPartitions(AddPartitionsArgs),
}

/// What `topic create` can be told.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Name of the topic: letters, digits, '.', '_', '-'
    topic: String,
    /// How many partitions [default: the broker's num.partitions]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// A setting of the topic, for example segment.bytes=1048576; may be repeated
    #[arg(short, long = "config", value_name = "KEY=VALUE", value_parser = parse_pair)]
    configs: Vec<(String, String)>,
    /// Be content if it exists
    #[arg(long)]
    if_not_exists: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// What `topic list` can be told.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// One JSON object per topic
    #[arg(long)]
    json: bool,
    /// Internal topics, too
    #[arg(long)]
    internal: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// What `topic describe` can be told.
#[derive(Debug, Args)]
pub(crate) struct DescribeArgs {
    /// Names of topics
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// One JSON object per topic, with all settings
    #[arg(long)]
    json: bool,
    /// All settings, also those at their default
    #[arg(long)]
    all: bool,
    /// How it is stored: folders, segments, what is on the device, compaction, damage
    #[arg(long)]
    storage: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// What `topic delete` can be told.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Names of topics
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Be content if one does not exist
    #[arg(long)]
    if_exists: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// What `topic add-partitions` can be told.
#[derive(Debug, Args)]
pub(crate) struct AddPartitionsArgs {
    /// Name of the topic
    topic: String,
    /// How many it shall have in all, afterwards
    #[arg(short, long, value_name = "TOTAL", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// Runs one of them.
///
/// # Errors
/// What the broker answered, and what to do about it.
pub(crate) fn run(command: TopicCommand) -> anyhow::Result<Outcome> {
    block_on(async {
        match command {
            TopicCommand::Create(args) => create(args).await,
            TopicCommand::List(args) => list(args).await,
            TopicCommand::Describe(args) => describe(args).await,
            TopicCommand::Compact(args) => compact::run(args).await,
            TopicCommand::Delete(args) => delete(args).await,
            TopicCommand::AddPartitions(args) => add_partitions(args).await,
        }
    })
}

async fn create(args: CreateArgs) -> anyhow::Result<Outcome> {
    let admin = args.broker.connect().await?.admin();
    let mut topic = NewTopic::new(args.topic.as_str());
    if let Some(partitions) = args.partitions {
        topic = topic.partitions(partitions);
    }
    for (key, value) in &args.configs {
        topic = topic.config(key.as_str(), value.as_str());
    }
    let (name, created) = match admin.create_topic(topic).await {
        Ok(created) => (args.topic, Some(created)),
        Err(CreateTopicError::AlreadyExists { .. }) if args.if_not_exists => (args.topic, None),
        Err(error @ CreateTopicError::AlreadyExists { .. }) => {
            bail!("{error}; --if-not-exists makes that no error")
        }
        Err(error) => return Err(error.into()),
    };
    match (args.json, created) {
        (true, None) => output::json(&json!({"topic": name, "created": false}))?,
        (true, Some(created)) => output::json(&json!({
            "topic": name, "created": true, "id": created.id.to_string(), "partitions": created.partitions,
        }))?,
        (false, None) => output::line(&format!("topic {name} exists"))?,
        (false, Some(created)) => {
            let partitions = match created.partitions.and_then(|count| u64::try_from(count).ok()) {
                Some(count) => format!(" with {count} {}", plural(count, "partition", "partitions")),
                // Brokers before Kafka 2.4 do not say.
                None => String::new(),
            };
            output::line(&format!("created topic {name}{partitions}"))?;
        }
    }
    Ok(Outcome::Done)
}

async fn list(args: ListArgs) -> anyhow::Result<Outcome> {
    let admin = args.broker.connect().await?.admin();
    let mut topics = admin.list_topics().await?;
    topics.retain(|topic| args.internal || !topic.is_internal);
    if args.json {
        for topic in &topics {
            output::json(&json!({
                "topic": &*topic.name, "id": topic.id.to_string(), "partitions": topic.partitions.len(),
                "internal": topic.is_internal,
            }))?;
        }
    } else if topics.is_empty() {
        output::line("no topics yet; make one with `millstream topic create NAME`")?;
    } else {
        let row = |topic: &TopicMetadata| {
            vec![topic.name.to_string(), topic.partitions.len().to_string(), topic.id.to_string()]
        };
        output::table(&["topic", "partitions", "id"], topics.iter().map(|topic| row(topic)).collect())?;
    }
    Ok(Outcome::Done)
}

async fn describe(args: DescribeArgs) -> anyhow::Result<Outcome> {
    let admin = args.broker.connect().await?.admin();
    for (at, name) in args.topics.iter().enumerate() {
        let topic = match admin.describe_topic(name).await {
            Ok(topic) => topic,
            Err(DescribeTopicError::UnknownTopic { .. }) => bail!(unknown_topic(name)),
            Err(error) => return Err(error.into()),
        };
        let partitions = partitions_of(&admin, &topic).await?;
        let storage = storage::ask(&admin, name, args.storage).await?;
        let configs = admin.describe_configs(ConfigResource::Topic(name)).await?;
        if args.json {
            let mut described = described_as_json(&topic, &partitions, &configs);
            if let Some(storage) = &storage {
                described["storage"] = storage::as_json(storage);
            }
            output::json(&described)?;
            continue;
        }
        if at > 0 {
            output::line("")?;
        }
        print_described(&topic, &partitions, storage.as_ref())?;
        if let Some(storage) = storage.as_ref().filter(|_| args.storage) {
            storage::print(storage)?;
        }
        print_configs(&configs, args.all)?;
    }
    Ok(Outcome::Done)
}

/// One partition with its offsets.
struct PartitionRow {
    index: i32,
    leader: Option<i32>,
    leader_epoch: i32,
    start: i64,
    end: i64,
}

async fn partitions_of(admin: &Admin, topic: &TopicMetadata) -> anyhow::Result<Vec<PartitionRow>> {
    let ask = |at| topic.partitions.iter().map(|partition| (partition.index, at)).collect::<Vec<_>>();
    let starts = admin.list_offsets(&topic.name, &ask(OffsetAt::Earliest)).await?;
    let ends = admin.list_offsets(&topic.name, &ask(OffsetAt::Latest)).await?;
    let rows = topic.partitions.iter().zip(starts).zip(ends).map(|((partition, start), end)| PartitionRow {
        index: partition.index,
        leader: partition.leader.map(|leader| leader.0),
        leader_epoch: partition.leader_epoch,
        start: start.offset.unwrap_or(0),
        end: end.offset.unwrap_or(0),
    });
    Ok(rows.collect())
}

fn described_as_json(topic: &TopicMetadata, partitions: &[PartitionRow], configs: &[ConfigEntry]) -> Value {
    let partitions: Vec<Value> = partitions
        .iter()
        .map(|row| {
            json!({
                "partition": row.index, "leader": row.leader, "leader_epoch": row.leader_epoch,
                "start": row.start, "end": row.end,
            })
        })
        .collect();
    let configs: serde_json::Map<String, Value> = configs
        .iter()
        .map(|entry| {
            let value = json!({"value": entry.value.as_deref(), "set_on_topic": is_set_on_topic(entry)});
            (entry.name.to_string(), value)
        })
        .collect();
    json!({"topic": &*topic.name, "id": topic.id.to_string(), "partitions": partitions, "configs": configs})
}

fn print_described(
    topic: &TopicMetadata,
    partitions: &[PartitionRow],
    storage: Option<&TopicStorage>,
) -> anyhow::Result<()> {
    let records: u64 = partitions.iter().map(|row| (row.end - row.start).max(0) as u64).sum();
    let count = partitions.len() as u64;
    let size = storage.map(|storage| storage.partitions.iter().map(|partition| partition.bytes).sum());
    // Of a compacted one, nobody counts what is left.
    let is_compacted =
        storage.is_some_and(|storage| storage.partitions.iter().any(|found| found.is_compacted));
    output::line(&format!(
        "{}  id {}  {count} {}  {}{} {}{}",
        topic.name,
        topic.id,
        plural(count, "partition", "partitions"),
        if is_compacted { "at most " } else { "" },
        human_count(records),
        plural(records, "record", "records"),
        size.map(|bytes| format!("  {}", human_bytes(bytes))).unwrap_or_default(),
    ))?;
    let row = |row: &PartitionRow| {
        let leader = row.leader.map_or_else(|| "none".to_owned(), |leader| leader.to_string());
        let numbers = [row.start, row.end, row.end - row.start].map(|number| number.to_string());
        let stored = storage.map(|storage| storage::columns(storage, row.index)).unwrap_or_default();
        [vec![row.index.to_string(), leader, row.leader_epoch.to_string()], numbers.to_vec(), stored].concat()
    };
    let mut header = vec!["partition", "leader", "epoch", "start", "end", "records"];
    if storage.is_some() {
        header.extend(storage::COLUMNS);
    }
    output::table(&header, partitions.iter().map(row).collect())
}

fn print_configs(configs: &[ConfigEntry], all: bool) -> anyhow::Result<()> {
    let shown: Vec<_> = configs.iter().filter(|entry| all || is_set_on_topic(entry)).collect();
    if shown.is_empty() {
        return output::line("all settings are at their defaults; --all shows them");
    }
    let row = |entry: &&ConfigEntry| {
        vec![
            entry.name.to_string(),
            entry.value.as_deref().unwrap_or("").to_owned(),
            origin(entry).to_owned(),
        ]
    };
    output::table(&["setting", "value", "from"], shown.iter().map(row).collect())
}

fn is_set_on_topic(entry: &ConfigEntry) -> bool {
    entry.source == ConfigSource::Topic
}

fn origin(entry: &ConfigEntry) -> &'static str {
    match entry.source {
        ConfigSource::Topic => "topic",
        ConfigSource::DynamicBroker | ConfigSource::DynamicDefaultBroker | ConfigSource::StaticBroker => {
            "broker"
        }
        ConfigSource::Default => "default",
        ConfigSource::Group | ConfigSource::Unlisted(_) => "unknown",
    }
}

async fn delete(args: DeleteArgs) -> anyhow::Result<Outcome> {
    let admin = args.broker.connect().await?.admin();
    for name in &args.topics {
        match admin.delete_topic(name).await {
            Ok(()) => output::line(&format!("deleted topic {name}"))?,
            Err(DeleteTopicError::UnknownTopic { .. }) if args.if_exists => {
                output::line(&format!("there is no topic {name}"))?;
            }
            Err(DeleteTopicError::UnknownTopic { .. }) => bail!(
                "there is no topic {name:?}; `millstream topic list` shows those there are, --if-exists makes that no \
                 error"
            ),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Outcome::Done)
}

async fn add_partitions(args: AddPartitionsArgs) -> anyhow::Result<Outcome> {
    let admin = args.broker.connect().await?.admin();
    admin.add_partitions(&args.topic, args.partitions).await?;
    output::line(&format!("topic {} has {} partitions now", args.topic, args.partitions))?;
    Ok(Outcome::Done)
}

/// `key=value`; the value may hold further equals signs.
pub(crate) fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not KEY=VALUE")),
    }
}
