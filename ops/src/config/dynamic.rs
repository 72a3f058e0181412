//! `millstream config get|set|unset`: settings of a running broker, its topics and its groups.

use anyhow::bail;
use clap::Args;
use millstream_client::{Admin, AlterMode, BrokerId, ConfigEdit, ConfigEntry, ConfigResource, ConfigSource};
use millstream_protocol::KStr;
use serde_json::json;

use crate::connect::{BrokerArgs, block_on, topic_exists, unknown_topic};
use crate::outcome::Outcome;
use crate::output;
use crate::text::plural;

/// Whose settings.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Whose {
    /// A topic's
    #[arg(short, long, value_name = "TOPIC")]
    topic: Option<String>,
    /// A broker's, by its number
    #[arg(long, value_name = "ID")]
    broker: Option<i32>,
    /// What is set for all brokers
    #[arg(long)]
    all_brokers: bool,
    /// A group's, whether it is there or not
    #[arg(short, long, value_name = "GROUP")]
    group: Option<String>,
}

impl Whose {
    fn resource(&self) -> ConfigResource<'_> {
        match (&self.topic, self.broker, &self.group) {
            (Some(topic), ..) => ConfigResource::Topic(topic),
            (None, Some(id), _) => ConfigResource::Broker(BrokerId(id)),
            (None, None, Some(group)) => ConfigResource::Group(group),
            (None, None, None) => ConfigResource::AllBrokers,
        }
    }

    /// Connects, and says at once if there is no such topic.
    async fn admin(&self, broker: &BrokerArgs) -> anyhow::Result<Admin> {
        let client = broker.connect().await?;
        match &self.topic {
            Some(topic) if !topic_exists(&client, topic).await? => bail!("{}", unknown_topic(topic)),
            _ => Ok(client.admin()),
        }
    }

    /// All settings there are, among which these must be. Of all brokers only those are told that are set.
    async fn settings(&self, admin: &Admin, named: &[String]) -> anyhow::Result<Vec<ConfigEntry>> {
        let entries = admin.describe_configs(self.resource()).await?;
        let unknown = named.iter().find(|key| !entries.iter().any(|entry| *entry.name == ***key));
        match unknown.filter(|_| self.resource() != ConfigResource::AllBrokers) {
            Some(key) => bail!("there is no setting '{key}' here; see `millstream config list`"),
            None => Ok(entries),
        }
    }
}

/// What `config get` can be told.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Names of settings; without them those that are not at their default
    #[arg(value_name = "KEY")]
    keys: Vec<String>,
    #[command(flatten)]
    whose: Whose,
    /// All settings, also those at their default
    #[arg(long)]
    all: bool,
    /// One JSON object per setting
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// What `config set` can be told.
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// Settings, for example retention.ms=86400000; KEY+=VALUE and KEY-=VALUE add to a list and take out of it
    #[arg(required = true, value_name = "KEY=VALUE", value_parser = parse_edit)]
    edits: Vec<(String, ConfigEdit)>,
    #[command(flatten)]
    change: ChangeArgs,
}

/// What `config unset` can be told.
#[derive(Debug, Args)]
pub(crate) struct UnsetArgs {
    /// Names of settings, which get their default again
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Whose settings are changed, and how.
#[derive(Debug, Args)]
struct ChangeArgs {
    #[command(flatten)]
    whose: Whose,
    /// Only say whether it could be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

fn parse_edit(text: &str) -> Result<(String, ConfigEdit), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    let value = KStr::from(value);
    let (key, edit) = match (key.strip_suffix('+'), key.strip_suffix('-')) {
        (Some(key), _) => (key, ConfigEdit::Append(value)),
        (None, Some(key)) => (key, ConfigEdit::Subtract(value)),
        (None, None) => (key, ConfigEdit::Set(value)),
    };
    match key.is_empty() {
        true => Err(format!("{text:?} names no setting")),
        false => Ok((key.to_owned(), edit)),
    }
}

/// Shows settings.
///
/// # Errors
/// What the broker answered.
pub(super) fn get(args: &GetArgs) -> anyhow::Result<Outcome> {
    block_on(async {
        let admin = args.whose.admin(&args.broker).await?;
        let entries = args.whose.settings(&admin, &args.keys).await?;
        let is_wanted = |entry: &&ConfigEntry| match args.keys.is_empty() {
            true => args.all || entry.source != ConfigSource::Default,
            false => args.keys.iter().any(|key| **key == *entry.name),
        };
        let wanted: Vec<_> = entries.iter().filter(is_wanted).collect();
        match (wanted.is_empty() && !args.json, args.whose.resource()) {
            (true, ConfigResource::AllBrokers) => output::line("nothing is set for all brokers")?,
            (true, _) => output::line("all settings are at their defaults; --all shows them")?,
            (false, _) => show(&wanted, args.json)?,
        }
        Ok(Outcome::Done)
    })
}

fn show(entries: &[&ConfigEntry], as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return entries.iter().try_for_each(|entry| {
            output::json(&json!({
                "name": &*entry.name, "value": entry.value.as_deref(), "origin": origin(entry.source),
                "read_only": entry.read_only,
            }))
        });
    }
    let row = |entry: &&ConfigEntry| {
        let value = entry.value.as_deref().unwrap_or("(secret)");
        let value = if value.is_empty() { "(empty)" } else { value };
        vec![entry.name.to_string(), value.to_owned(), origin(entry.source)]
    };
    output::table(&["setting", "value", "origin"], entries.iter().map(row).collect())
}

fn origin(source: ConfigSource) -> String {
    match source {
        ConfigSource::Topic => "the topic".to_owned(),
        ConfigSource::Group => "the group".to_owned(),
        ConfigSource::DynamicBroker => "set for this broker".to_owned(),
        ConfigSource::DynamicDefaultBroker => "set for all brokers".to_owned(),
        ConfigSource::StaticBroker => "the broker's start".to_owned(),
        ConfigSource::Default => "default".to_owned(),
        ConfigSource::Unlisted(number) => format!("source {number}"),
    }
}

/// Sets settings.
///
/// # Errors
/// What the broker answered.
pub(super) fn set(SetArgs { edits, change }: SetArgs) -> anyhow::Result<Outcome> {
    let edits = edits.into_iter().map(|(key, edit)| (KStr::from(key), edit)).collect();
    block_on(async {
        let admin = change.whose.admin(&change.broker).await?;
        change.make(&admin, edits).await
    })
}

/// Lets defaults hold again.
///
/// # Errors
/// What the broker answered.
pub(super) fn unset(UnsetArgs { keys, change }: UnsetArgs) -> anyhow::Result<Outcome> {
    block_on(async {
        let admin = change.whose.admin(&change.broker).await?;
        // A broker takes back what was never there: a slip would pass for done.
        change.whose.settings(&admin, &keys).await?;
        let edits = keys.into_iter().map(|key| (KStr::from(key), ConfigEdit::Unset)).collect();
        change.make(&admin, edits).await
    })
}

impl ChangeArgs {
    async fn make(&self, admin: &Admin, edits: Vec<(KStr, ConfigEdit)>) -> anyhow::Result<Outcome> {
        let mode = if self.dry_run { AlterMode::DryRun } else { AlterMode::Change };
        admin.alter_configs(self.whose.resource(), &edits, mode).await?;
        let what = plural(edits.len() as u64, "setting", "settings");
        output::line(&match mode {
            AlterMode::Change => format!("{} {what} changed, in force now", edits.len()),
            AlterMode::DryRun => format!("{} {what} could be changed", edits.len()),
        })?;
        Ok(Outcome::Done)
    }
}
